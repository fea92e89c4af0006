"""Figures of every pair of conditions with pooled margins, laid out as the official packages do."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from voxfide.evaluation.alignment import StrArray, Trials
from voxfide.evaluation.asv_scores import AsvTrials
from voxfide.evaluation.breakdown import NO_VALUE
from voxfide.metrics.asv import SPOOF
from voxfide.types import BoolArray, Float64Array

POOLED_FIRST: Final = "pooled"
"""How ASVspoof 5 names the margin, which it puts first."""

POOLED_LAST: Final = "Pooled"
"""How ASVspoof 2021 names the margin, which it puts last."""

Measure = Callable[[Float64Array, BoolArray, AsvTrials | None], Mapping[str, float]]
"""Scores, classes and the ASV trials of a cell to its figures by name."""


@dataclass(frozen=True)
class Factor:
    """The conditions along one side of a table.

    Attributes:
        column: of the key.
        values: of that column; None for all of them pooled.
        tags: what each is called in the table.
        spoofs_only: bona fide trials are not restricted, as they have no attack.
    """

    column: str
    values: tuple[str | None, ...]
    tags: tuple[str, ...]
    spoofs_only: bool

    @classmethod
    def of(cls, trials: Trials, column: str, pooled: str) -> Factor:
        """The values that the spoofs (and, for a column of both classes, bona fide trials) have."""
        cells = np.asarray(trials.columns[column], dtype=object)
        of_bonafide = set(cells[trials.is_bonafide].tolist())
        spoofs_only = all(str(value).lower() in NO_VALUE for value in of_bonafide)
        found = set(cells[~trials.is_bonafide].tolist()) | (set() if spoofs_only else of_bonafide)
        values = sorted(map(str, found))
        if pooled == POOLED_FIRST:
            return cls(column, (None, *values), (pooled, *values), spoofs_only)
        return cls(column, (*values, None), (*values, pooled), spoofs_only)

    @classmethod
    def given(cls, column: str, tags: Mapping[str, str], *, spoofs_only: bool = False) -> Factor:
        """The named values in their order, then all pooled."""
        return cls(column, (*tags, None), (*tags.values(), POOLED_LAST), spoofs_only)

    def members(self, columns: Mapping[str, StrArray], value: str | None, n: int) -> BoolArray:
        """Which of ``n`` trials have ``value``."""
        if value is None or self.column not in columns:
            return np.ones(n, dtype=np.bool_)
        return np.asarray(np.asarray(columns[self.column], dtype=object) == value, dtype=np.bool_)


def grid(
    trials: Trials, rows: Factor, columns: Factor, measure: Measure, asv: AsvTrials | None = None
) -> dict[str, Float64Array]:
    """Figure names to ``(rows, columns)``; NaN where a class has no trials.

    The ASV trials of a cell are restricted as its trials are: spoofs by both conditions, target
    and nontarget trials by those that describe both classes.
    """
    is_bonafide = trials.is_bonafide
    of_row, of_column = (_masks(f, trials.columns, ~is_bonafide) for f in (rows, columns))
    asv_of_row = asv_of_column = None
    if asv is not None:
        is_spoof = np.asarray(asv.kind == SPOOF, dtype=np.bool_)
        asv_of_row, asv_of_column = (_masks(f, asv.columns, is_spoof) for f in (rows, columns))
    shape = len(of_row), len(of_column)
    found: dict[str, Float64Array] = {}
    for i, j in np.ndindex(shape):
        chosen = of_row[i] & of_column[j]
        labels = is_bonafide[chosen]
        if not labels.any() or labels.all():
            continue
        own = None
        if asv is not None and asv_of_row is not None and asv_of_column is not None:
            own = _three_kinds(asv, asv_of_row[i] & asv_of_column[j])
        for name, figure in measure(trials.score[chosen], labels, own).items():
            found.setdefault(name, np.full(shape, np.nan))[i, j] = figure
    return found


def _masks(factor: Factor, columns: Mapping[str, StrArray], is_spoof: BoolArray) -> list[BoolArray]:
    """For each value the trials it admits; all others than spoofs where it describes spoofs only."""
    n = len(is_spoof)
    members = (factor.members(columns, value, n) for value in factor.values)
    return [m | ~is_spoof if factor.spoofs_only else m for m in members]


def _three_kinds(asv: AsvTrials, chosen: BoolArray) -> AsvTrials | None:
    """The chosen ASV trials; None if a kind is missing."""
    kind = asv.kind[chosen]
    return AsvTrials(asv.score[chosen], kind) if len(set(kind.tolist())) == 3 else None


@dataclass(frozen=True)
class ProtocolTable:
    """One official table.

    Attributes:
        name: key in JSON.
        title: as printed before it.
        row_tags: names of the rows.
        column_tags: names of the columns.
        values: ``(rows, columns)``; NaN for an empty cell.
        spec: format of the numbers.
    """

    name: str
    title: str
    row_tags: tuple[str, ...]
    column_tags: tuple[str, ...]
    values: Float64Array
    spec: str

    def to_text(self) -> str:
        """The layout of the packages: centred cells of one width, a blank between them."""
        numbers = [[format(value, self.spec) for value in row] for row in self.values.tolist()]
        tag_width = max(map(len, self.row_tags))
        width = max(map(len, (*self.column_tags, *(n for row in numbers for n in row))))
        lines = [["", *self.column_tags]]
        for tag, row in zip(self.row_tags, numbers, strict=True):
            lines.append([tag, *("" if n == "nan" else n for n in row)])
        return "".join(
            " ".join([f"{head:^{tag_width}}", *(f"{cell:^{width}}" for cell in cells)]) + "\n"
            for head, *cells in lines
        )

    def to_json(self) -> dict[str, Any]:
        """Plain types, null for an empty cell."""
        return {
            "rows": list(self.row_tags),
            "columns": list(self.column_tags),
            "values": [[v if math.isfinite(v) else None for v in row] for row in self.values.tolist()],
        }


@dataclass(frozen=True)
class ProtocolResult:
    """What an official evaluation prints.

    Attributes:
        protocol: its name.
        trials: what was evaluated.
        figures: pooled, by name.
        lines: what the package prints of the pooled figures.
        tables: what it prints by condition.
        notes: what a reader has to know beside.
        subset: of the corpus, or None.
    """

    protocol: str
    trials: Trials
    figures: dict[str, float]
    lines: str
    tables: tuple[ProtocolTable, ...]
    notes: tuple[str, ...] = ()
    subset: str | None = None

    def to_text(self) -> str:
        """As the package prints it, then the notes."""
        tables = "".join(f"{table.title}\n{table.to_text()}\n" for table in self.tables)
        notes = "".join(f"note: {note}\n" for note in self.notes)
        return self.lines + tables + notes

    def to_json(self) -> dict[str, Any]:
        """Plain types, null for no figure."""
        n_bonafide = int(np.count_nonzero(self.trials.is_bonafide))
        return {
            "protocol": self.protocol,
            "subset": self.subset,
            "n_bonafide": n_bonafide,
            "n_spoof": len(self.trials) - n_bonafide,
            "figures": {n: v if math.isfinite(v) else None for n, v in self.figures.items()},
            "tables": {table.name: table.to_json() for table in self.tables},
            "notes": [*self.trials.warnings, *self.notes],
        }
