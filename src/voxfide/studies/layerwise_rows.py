"""What the layer-wise study measures, as tidy rows: one row a figure, one CSV a kind of row.

``eer.csv``            one row a head and evaluation set (:class:`EerRow`)
``layer_weights.csv``  one row a head and layer (:class:`WeightRow`)
``speed.csv``          one row a front-end cut to n layers and batch size (:class:`SpeedRow`)

Floats are written with as many digits as it takes to read back the same number.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, fields, replace
from pathlib import Path
from typing import Any, Final, TypeVar, get_type_hints

from voxfide.errors import UsageError
from voxfide.files import write_atomic
from voxfide.types import PathLike, Seconds

EER_FILE: Final = "eer.csv"
WEIGHTS_FILE: Final = "layer_weights.csv"
SPEED_FILE: Final = "speed.csv"

_PROBLEMS_SHOWN: Final = 20


@dataclass(frozen=True, order=True)
class EerRow:
    """The equal error rate of one trained head on one evaluation set.

    Attributes:
        train_set: name of the corpus it was trained on.
        eval_set: name of the evaluation set.
        size: of the front-end: ``small``, ``large``, or any other name.
        frontend: ``wav2vec2``, ``hubert``, ``wavlm`` or another front-end's name.
        backend: ``ffn``, ``aasist`` or another back-end's name.
        n_layers: transformer layers that were run, 1 … n.
        seed: of the head's training.
        eer_percent: 0 to 100.
        low, high: ends of its confidence interval in percent, where one was computed.

    Raises:
        ValueError: a figure outside its range.
    """

    train_set: str
    eval_set: str
    size: str
    frontend: str
    backend: str
    n_layers: int
    seed: int
    eer_percent: float
    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        _check_depth(self.n_layers)
        for name in ("eer_percent", "low", "high"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 100:
                raise ValueError(f"{name} {value} (expected 0 to 100)")
        if (self.low is None) != (self.high is None):
            raise ValueError("an interval with one end (expected both or none)")


@dataclass(frozen=True, order=True)
class WeightRow:
    """The softmax weight that one trained head gives to one layer.

    Attributes:
        layer: 1 … ``n_layers``.
        weight: 0 to 1; those of a head sum to 1.

    Raises:
        ValueError: a figure outside its range.
    """

    train_set: str
    size: str
    frontend: str
    backend: str
    n_layers: int
    seed: int
    layer: int
    weight: float

    def __post_init__(self) -> None:
        _check_depth(self.n_layers)
        if not 1 <= self.layer <= self.n_layers:
            raise ValueError(f"layer {self.layer} (expected 1 to {self.n_layers})")
        if not 0 <= self.weight <= 1:
            raise ValueError(f"weight {self.weight} (expected 0 to 1)")


@dataclass(frozen=True, order=True)
class SpeedRow:
    """How fast a front-end cut to n layers is.

    Attributes:
        n_parameters: of what is built and run.
        batch_size: utterances in one forward pass.
        seconds_per_utterance: of computing.
        x_realtime: seconds of audio per second of computing.
        relative: times faster than the same front-end at its greatest measured depth and the
            same batch size; see :func:`with_relative_speed`.

    Raises:
        ValueError: a figure that is not positive.
    """

    frontend: str
    size: str
    n_layers: int
    n_parameters: int
    batch_size: int
    seconds_per_utterance: Seconds
    x_realtime: float
    relative: float | None = None

    def __post_init__(self) -> None:
        _check_depth(self.n_layers)
        for name in ("n_parameters", "batch_size", "seconds_per_utterance", "x_realtime", "relative"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name} {value} (expected a positive number)")


Row = TypeVar("Row", EerRow, WeightRow, SpeedRow)


def with_relative_speed(rows: Sequence[SpeedRow]) -> list[SpeedRow]:
    """The same rows with ``relative`` computed from ``seconds_per_utterance``."""
    deepest: dict[tuple[str, str, int], SpeedRow] = {}
    for row in rows:
        key = (row.frontend, row.size, row.batch_size)
        if key not in deepest or row.n_layers > deepest[key].n_layers:
            deepest[key] = row
    return [
        replace(
            row,
            relative=deepest[row.frontend, row.size, row.batch_size].seconds_per_utterance
            / row.seconds_per_utterance,
        )
        for row in rows
    ]


def write_rows(path: PathLike, rows: Iterable[Row], kind: type[Row]) -> Path:
    """Writes rows of one kind as CSV with a heading row, whole or not at all."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([f.name for f in fields(kind)])
    writer.writerows(["" if cell is None else cell for cell in astuple(row)] for row in rows)
    path = Path(path)
    write_atomic(path, text.getvalue())
    return path


def read_rows(path: PathLike, kind: type[Row]) -> list[Row]:
    """Reads what :func:`write_rows` wrote; further columns are ignored.

    Raises:
        UsageError: no such file, missing columns, or cells that cannot be; all of them at once.
    """
    path = Path(path)
    hints = get_type_hints(kind)
    rows: list[Row] = []
    problems: list[str] = []
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            missing = [name for name in hints if name not in (reader.fieldnames or ())]
            if missing:
                raise UsageError(f"{path}: no column {', '.join(missing)} (expected {', '.join(hints)})")
            for cells in reader:
                try:
                    rows.append(kind(**{name: _parse(cells[name], name, hints[name]) for name in hints}))
                except ValueError as error:
                    problems.append(f"line {reader.line_num}: {error}")
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file (expected a CSV of {kind.__name__}s)") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{path}: is no CSV ({error})") from error
    if problems:
        raise UsageError(_listed(path, problems))
    return rows


def _listed(path: Path, problems: Sequence[str]) -> str:
    lines = [f"{path}: {len(problems)} problem(s)", *(f"  {p}" for p in problems[:_PROBLEMS_SHOWN])]
    left = len(problems) - _PROBLEMS_SHOWN
    return "\n".join([*lines, f"  … and {left} more"] if left > 0 else lines)


def _check_depth(n_layers: int) -> None:
    if n_layers < 1:
        raise ValueError(f"n_layers {n_layers} (expected 1 or more)")


def _parse(text: str | None, name: str, hint: Any) -> Any:
    """A cell as the type of its field; an empty one is ``None`` where the field allows it."""
    if text is None:
        raise ValueError(f"{name} is missing")
    if hint is str:
        return text
    if text == "" and hint == (float | None):
        return None
    try:
        return int(text) if hint is int else float(text)
    except ValueError:
        raise ValueError(f"{name} {text!r} is no {'whole ' if hint is int else ''}number") from None
