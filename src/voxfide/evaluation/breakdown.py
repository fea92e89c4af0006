"""The sets of trials that are measured: all of them, and one for each value of a column."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from voxfide.errors import UsageError
from voxfide.evaluation.alignment import StrArray, Trials
from voxfide.metrics.ranking import RankedClass
from voxfide.types import BONAFIDE, SPOOF, IntArray

NO_VALUE: Final = frozenset(
    (
        "",
        "-",
        "bonafide",
        "bona-fide",
        "bona_fide",
        "bona fide",
        "genuine",
        "none",
        "null",
        "nan",
        "na",
        "n/a",
    )
)
"""What corpora write, in any case, into a column that says nothing of a bona fide trial."""

UNNAMED: Final = "(no value)"
"""The group of the trials whose cell is empty."""

SPOOFS_ONLY: Final = "all bona fide trials are used: the column describes spoofs only"


@dataclass(frozen=True)
class Cell:
    """A set of trials to be measured, each class ranked; a class may be empty."""

    value: str
    bonafide: RankedClass
    spoof: RankedClass
    note: str = ""

    @property
    def has_both(self) -> bool:
        return len(self.bonafide) > 0 and len(self.spoof) > 0


@dataclass(frozen=True)
class Breakdown:
    """Makes cells of the trials.

    Attributes:
        trials: all of them.
        clusters: ``(trials,)`` cluster number of each, or None to resample utterances.
    """

    trials: Trials
    clusters: IntArray | None

    def pooled(self) -> Cell:
        """All trials."""
        is_bonafide = self.trials.is_bonafide
        bonafide = self._ranked(np.flatnonzero(is_bonafide), BONAFIDE)
        return Cell("", bonafide, self._ranked(np.flatnonzero(~is_bonafide), SPOOF))

    def by(self, column: str, pooled: Cell) -> list[Cell]:
        """A cell for each value of ``column``; none if the column holds no value at all.

        Where no bona fide trial has a value, the column describes spoofs only and every cell
        shares the bona fide trials of ``pooled``.
        """
        values, codes = value_codes(self.trials.columns[column])
        is_bonafide = self.trials.is_bonafide
        if all(value.lower() in NO_VALUE for value in values):
            return []
        spoofs = _members(np.flatnonzero(~is_bonafide), codes, len(values))
        names = [value or UNNAMED for value in values]
        if all(values[code].lower() in NO_VALUE for code in np.unique(codes[is_bonafide])):
            return [
                Cell(name, pooled.bonafide, self._ranked(rows, column, name, SPOOF), SPOOFS_ONLY)
                for name, rows in zip(names, spoofs, strict=True)
                if len(rows)
            ]
        bonafides = _members(np.flatnonzero(is_bonafide), codes, len(values))
        return [
            Cell(name, self._ranked(own, column, name, BONAFIDE), self._ranked(rows, column, name, SPOOF))
            for name, own, rows in zip(names, bonafides, spoofs, strict=True)
        ]

    def _ranked(self, rows: IntArray, *stream: str) -> RankedClass:
        clusters = None if self.clusters is None else self.clusters[rows]
        return RankedClass(self.trials.score[rows], "\0".join(stream), clusters)


def cluster_codes(column: str, values: StrArray) -> tuple[IntArray, int]:
    """``(trials,)`` cluster numbers from a column, and how many clusters there are.

    Raises:
        UsageError: trials without a value, or a single cluster.
    """
    names, codes = value_codes(values)
    unnamed = [code for code, name in enumerate(names) if name in ("", "-")]
    n_unnamed = int(np.count_nonzero(np.isin(codes, unnamed)))
    if n_unnamed:
        raise UsageError(f"{n_unnamed:,} trials have no value in column {column!r}: cannot resample by it")
    if len(names) < 2:
        raise UsageError(f"column {column!r} holds one value: a bootstrap over clusters needs at least two")
    return codes, len(names)


def value_codes(column: StrArray) -> tuple[list[str], IntArray]:
    """The distinct values of a column as text, and ``(trials,)`` the number of each trial's value."""
    cells = column.tolist()
    number: dict[str, int] = {}
    code_of = {cell: number.setdefault(_text(cell), len(number)) for cell in dict.fromkeys(cells)}
    codes = np.fromiter(map(code_of.__getitem__, cells), dtype=np.int64, count=len(cells))
    return list(number), codes


def _text(value: Any) -> str:
    """``value`` as a group name; what tables use for a missing value becomes the empty string."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return str(value).strip()


def _members(rows: IntArray, codes: IntArray, n_values: int) -> Sequence[IntArray]:
    """Splits ``rows`` by their code: one array of rows for each of the values."""
    own = codes[rows]
    order = np.argsort(own, kind="stable")
    return np.split(rows[order], np.cumsum(np.bincount(own, minlength=n_values))[:-1])
