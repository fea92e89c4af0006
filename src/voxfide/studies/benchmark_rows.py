"""What a benchmark found of a front-end, and how it is kept."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Final, Literal

from voxfide.files import write_atomic

Weights = Literal["released", "random", "none"]

ROW_FILE: Final = "result.json"


@dataclass(frozen=True)
class BenchmarkRow:
    """A measured front-end.

    Attributes:
        label: in tables.
        name: registered name, hub id or folder.
        weights: ``released`` (from the hub or the given files), ``random`` (its figures mean nothing
            about the model), or ``none`` where it needs none.
        fingerprint: of the front-end.
        n_parameters: of the layers that are built.
        n_layers: that are built and run.
        layer: which of their time averages are classified: ``last``, ``mean``, ``all`` or a number.
        dim: numbers that are classified.
        eer_percent: on the development set.
        low, high: its interval; None without one.
        n_bonafide, n_spoof: of the development set, as far as it could be read.
        n_failed: utterances of both sets that could not be used.
        x_realtime: seconds of audio whose features are computed in a second; None where not measured.
        memory_bytes: greatest resident memory of the process.
        device_bytes: greatest memory on the GPU; None on other devices.
        machine: what both were measured on.
        open_condition: whether ASVspoof 5's open condition allows it; None where there is no
            training data or nothing is known of it.
        training_data: as registered; empty where nothing is known.
    """

    label: str
    name: str
    weights: Weights
    fingerprint: str
    n_parameters: int
    n_layers: int
    layer: str | int
    dim: int
    eer_percent: float
    low: float | None
    high: float | None
    n_bonafide: int
    n_spoof: int
    n_failed: int
    x_realtime: float | None
    memory_bytes: int | None
    device_bytes: int | None = None
    machine: Mapping[str, Any] = field(default_factory=dict)
    open_condition: bool | None = None
    training_data: str = ""

    @property
    def is_random(self) -> bool:
        return self.weights == "random"

    @property
    def title(self) -> str:
        """Its label, which says so where its weights are random."""
        return f"{self.label} (random weights)" if self.is_random else self.label


def write_row(folder: Path, key: str, row: BenchmarkRow) -> None:
    """Marks a front-end as measured; the last thing that is written of it."""
    text = json.dumps({"key": key, "row": asdict(row)}, indent=2, ensure_ascii=False)
    write_atomic(folder / ROW_FILE, text + "\n")


def read_row(folder: Path, key: str, *, random_weights: bool) -> BenchmarkRow | None:
    """The row of an earlier run under the same key; None where there is none.

    Args:
        random_weights: whether one of random weights counts.
    """
    try:
        held = json.loads((folder / ROW_FILE).read_text(encoding="utf-8"))
        row = BenchmarkRow(**held["row"])
    except (OSError, ValueError, KeyError, TypeError):
        return None  # measured anew
    return row if held["key"] == key and (random_weights or not row.is_random) else None


def ranked(rows: list[BenchmarkRow]) -> list[BenchmarkRow]:
    """Lowest EER first, those of random weights behind all others."""
    return sorted(rows, key=lambda row: (row.is_random, row.eer_percent, row.label))


def rows_csv(rows: Sequence[BenchmarkRow]) -> str:
    """All fields of all rows; the machine as JSON."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [f.name for f in fields(BenchmarkRow)], lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow(asdict(row) | {"machine": json.dumps(row.machine, ensure_ascii=False)})
    return text.getvalue()
