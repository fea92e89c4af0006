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


PAIR_SEPARATOR: Final = ","
"""Joins the columns of a cross breakdown, as in ``attack,codec``."""


@dataclass(frozen=True)
class Cell:
    """A set of trials to be measured, each class ranked; a class may be empty.

    ``values`` has one entry a column of the breakdown, none for all trials.
    """

    values: tuple[str, ...]
    bonafide: RankedClass
    spoof: RankedClass
    note: str = ""

    @property
    def has_both(self) -> bool:
        return len(self.bonafide) > 0 and len(self.spoof) > 0


@dataclass(frozen=True, eq=False)
class _Codes:
    """A column as numbers; whether its values describe spoofs only."""

    column: str
    names: list[str]
    codes: IntArray
    spoofs_only: bool

    @property
    def is_empty(self) -> bool:
        return all(name.lower() in NO_VALUE for name in self.names)


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
        return Cell((), bonafide, self._ranked(np.flatnonzero(~is_bonafide), SPOOF))

    def by(self, columns: Sequence[str], pooled: Cell) -> list[Cell]:
        """A cell for each combination of the columns' values; none if a column holds no value at all.

        Where no bona fide trial has a value, a column describes spoofs only and does not
        restrict the bona fide trials of a cell: those of ``attack,codec`` are of the same codec
        and any attack, those of ``attack`` are all of ``pooled``.
        """
        coded = [self._codes(column) for column in columns]
        if any(column.is_empty for column in coded):
            return []
        both = [column for column in coded if not column.spoofs_only]
        bonafides = self._bonafides(both, pooled)
        spoofs = _members(np.flatnonzero(~self.trials.is_bonafide), coded)
        keys = set(spoofs) | (set(bonafides) if len(both) == len(coded) else set())
        nobody = np.empty(0, dtype=np.int64)
        cells = []
        for key in sorted(keys):
            values = _named(key, coded)
            own = tuple(k for k, column in zip(key, coded, strict=True) if column in both)
            bonafide = bonafides[own] if own in bonafides else self._ranked(nobody, BONAFIDE)
            spoof = self._ranked(spoofs.get(key, nobody), PAIR_SEPARATOR.join(columns), *values, SPOOF)
            cells.append(Cell(values, bonafide, spoof, "" if both else SPOOFS_ONLY))
        return cells

    def _bonafides(self, columns: Sequence[_Codes], pooled: Cell) -> dict[tuple[int, ...], RankedClass]:
        """The bona fide trials of each combination of values; of no columns, all."""
        if not columns:
            return {(): pooled.bonafide}
        name = PAIR_SEPARATOR.join(c.column for c in columns)
        members = _members(np.flatnonzero(self.trials.is_bonafide), columns)
        return {
            key: self._ranked(rows, name, *_named(key, columns), BONAFIDE) for key, rows in members.items()
        }

    def _codes(self, column: str) -> _Codes:
        names, codes = value_codes(self.trials.columns[column])
        of_bonafide = np.unique(codes[self.trials.is_bonafide])
        spoofs_only = all(names[code].lower() in NO_VALUE for code in of_bonafide)
        return _Codes(column, names, codes, spoofs_only)

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


def _members(rows: IntArray, columns: Sequence[_Codes]) -> dict[tuple[int, ...], IntArray]:
    """Splits ``rows`` by their codes in every column: codes to rows, in ascending order of codes."""
    joint = np.zeros(len(rows), dtype=np.int64)
    for column in columns:
        joint = joint * len(column.names) + column.codes[rows]
    order = np.argsort(joint, kind="stable")
    found, starts = np.unique(joint[order], return_index=True)
    sizes = [len(column.names) for column in columns]
    keys = zip(*(k.tolist() for k in np.unravel_index(found, sizes)), strict=True)
    return dict(zip(keys, np.split(rows[order], starts[1:]), strict=True))


def _named(key: Sequence[int], columns: Sequence[_Codes]) -> tuple[str, ...]:
    return tuple(column.names[k] or UNNAMED for k, column in zip(key, columns, strict=True))
