"""The benchmark's tables: table 1 of Combei et al. 2024 as measured, and beside the printed one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from voxfide.evaluation.result import Metric
from voxfide.report.tables import Column, Table
from voxfide.studies.benchmark_choice import PUBLISHED
from voxfide.studies.benchmark_machine import in_words
from voxfide.studies.benchmark_rows import BenchmarkRow
from voxfide.studies.published import representations

RANDOM_NOTE: Final = (
    "Random weights: the architecture at its official size, no trained weights. Its EER means nothing about "
    "the model of that name; parameters, dimension, speed and memory are those of the model."
)
_GIB: Final = 2.0**30
_MOST: Final = 90
"""Characters of a reason that a table shows."""


def main_table(rows: Sequence[BenchmarkRow], broken: Mapping[str, str]) -> Table:
    """A row a front-end, lowest EER first, those of random weights behind, those that failed last.

    Args:
        rows: in the order in which they are shown.
        broken: label to what stopped it.
    """
    on_device = any(row.device_bytes is not None for row in rows)
    columns = [
        Column("frontend", "front-end"),
        Column("parameters", right=True),
        Column("layers", right=True),
        Column("dim", spec=","),
        Column("eer_percent", "EER %", ".2f", estimate=True),
        Column("x_realtime", "× real time", ",.1f"),
        Column("memory_gib", "GiB", ".2f"),
        *([Column("device_gib", "GiB on GPU", ".2f")] if on_device else []),
        Column("open_condition", "allowed"),
        Column("note", wrap=True),
    ]
    table: list[list[Any]] = [[*_cells(row, on_device)] for row in rows]
    for label, reason in broken.items():
        table.append([label, *[None] * (len(columns) - 2), f"not measured: {_cut(reason)}"])
    return Table(columns, table, caption(rows))


def _cells(row: BenchmarkRow, on_device: bool) -> list[Any]:
    interval = None if row.low is None or row.high is None else (row.low, row.high)
    memory = [row.memory_bytes, *([row.device_bytes] if on_device else [])]
    layers = str(row.n_layers) if row.layer == "last" else f"{row.layer} of {row.n_layers}"
    notes = ["at its initial values"] if row.weights == "none" and row.n_parameters else []
    notes += [f"{row.n_failed} utterance(s) left out"] if row.n_failed else []
    return [
        row.title,
        count(row.n_parameters),
        layers,
        row.dim,
        Metric(row.eer_percent, interval),
        row.x_realtime,
        *(None if m is None else m / _GIB for m in memory),
        row.open_condition,
        "; ".join(notes),
    ]


def _cut(text: str) -> str:
    """The beginning of a long reason; the page's summary and the command say all of it."""
    return text if len(text) <= _MOST else f"{text[:_MOST].rsplit(' ', 1)[0]} …"


def count(n: int) -> str:
    """A number of parameters as papers print it: ``94.4 M``; less than a million as it is."""
    return f"{n / 1e6:,.1f} M" if n >= 1e6 else f"{n:,}"


def caption(rows: Sequence[BenchmarkRow]) -> str:
    """What the figures are."""
    text = "Frozen front-ends: features averaged over time, logistic regression"
    if rows:
        sizes = {(row.n_bonafide, row.n_spoof) for row in rows}
        n_bonafide, n_spoof = max(sizes)
        text += f"; EER on {n_bonafide:,} bona fide and {n_spoof:,} spoofed utterances"
        if any(row.low is not None for row in rows):
            text += " with 95 % bootstrap intervals"
        machines = list(dict.fromkeys(in_words(dict(row.machine)) for row in rows))
        text += f". × real time: seconds of audio a second, and GiB: peak memory, on {'; '.join(machines)}"
        text += ". Allowed: in ASVspoof 5's open condition, by its training data"
    if any(row.is_random for row in rows):
        text += f". {RANDOM_NOTE}"
    return text if text.endswith(".") else f"{text}."


def published_table(rows: Sequence[BenchmarkRow]) -> Table:
    """The paper's table 1, lowest EER first, with what was measured beside it.

    Differences are of trained weights only: those of random ones would say nothing.
    """
    measured = {row.label: row for row in rows} | {row.name: row for row in rows}
    columns = [
        Column("model"),
        Column("published_parameters", "parameters, printed", right=True),
        Column("parameters", "measured", right=True),
        Column("published_dim", "dim, printed", ","),
        Column("dim", "measured", ","),
        Column("published_eer_percent", "EER %, printed", ".2f"),
        Column("eer_percent", "measured", ".2f", estimate=True),
        Column("difference", "difference", "+.2f"),
    ]
    table: list[list[Any]] = []
    for paper in sorted(representations(), key=lambda r: r.eer_dev):
        row = measured.get(PUBLISHED[paper.model])
        cells: list[Any] = [paper.model, paper.parameters, None, paper.dim]
        if row is None:
            table.append([*cells, None, paper.eer_dev, None, None])
            continue
        cells[2] = count(row.n_parameters)
        if row.is_random:
            table.append([*cells, row.dim, paper.eer_dev, None, None])
            continue
        interval = None if row.low is None or row.high is None else (row.low, row.high)
        found = Metric(row.eer_percent, interval)
        table.append([*cells, row.dim, paper.eer_dev, found, row.eer_percent - paper.eer_dev])
    text = (
        "Table 1 of Combei et al. 2024 beside what was measured. The printed figures are of 27,000 "
        "utterances each of ASVspoof 5's training and development sets."
    )
    if any(row.is_random for row in rows):
        text += " The EER of random weights is left out here."
    return Table(columns, table, text)
