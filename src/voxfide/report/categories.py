"""How many kinds of points are told apart: a colour and a mark for each, the same in every picture.

The colours are those of Okabe and Ito (2008) that can be told apart by colour-blind readers and
are seen on light and dark paper alike; beyond them, marks differ as well.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from voxfide.evaluation.breakdown import NO_VALUE
from voxfide.report.markup import printable
from voxfide.types import BONAFIDE, SPOOF, IntArray

Mark = Literal["circle", "triangle", "square", "diamond", "cross", "plus"]
MARKS: Final[tuple[Mark, ...]] = ("circle", "triangle", "square", "diamond", "cross", "plus")

BLUE, SKY, GREEN = "#0072b2", "#56b4e9", "#009e73"
VERMILION, ORANGE, PURPLE = "#d55e00", "#e69f00", "#cc79a7"
GREY = "#8a929a"

OTHER: Final = "other"

_BY_LABEL: Final = {BONAFIDE: (BLUE, SKY, GREEN), SPOOF: (VERMILION, ORANGE, PURPLE)}
_LABEL_TEXT: Final = {BONAFIDE: "bona fide", SPOOF: "spoof"}
_SPLIT_ORDER: Final = {"train": 0, "dev": 1, "eval": 2}
_VALUES: Final = (VERMILION, ORANGE, GREEN, PURPLE, SKY)

MOST_VALUES: Final = len(_VALUES) * len(MARKS)
"""Values of a column that can be told apart; beyond them, the rarest are shown as one."""


@dataclass(frozen=True)
class Category:
    """One kind of point: its name, a colour as ``#rrggbb``, and a mark."""

    name: str
    colour: str
    mark: Mark = "circle"


@dataclass(frozen=True)
class Colouring:
    """What the points of a picture are told apart by.

    Attributes:
        name: of the criterion.
        categories: in the order of the legend.
        codes: ``(points,)`` which category each point is of.
    """

    name: str
    categories: Sequence[Category]
    codes: IntArray

    def counts(self) -> IntArray:
        """``(categories,)`` points of each."""
        return np.bincount(self.codes, minlength=len(self.categories)).astype(np.int64)


def by_label_and_split(labels: Sequence[str], splits: Sequence[str] | None) -> Colouring:
    """Bona fide in blues and green, spoof in reds and purple, a shade for each split.

    Args:
        labels: ``(points,)``.
        splits: ``(points,)``, empty where unknown; ``None``: by label only.
    """
    given = sorted(set(splits or [""]), key=lambda s: (_SPLIT_ORDER.get(s, 3), s))
    kinds = [(label, split) for label in sorted(set(labels), key=_label_order) for split in given]
    pairs = list(zip(labels, splits or [""] * len(labels), strict=True))
    present = set(pairs)
    kinds = [kind for kind in kinds if kind in present]
    places = {kind: i for i, kind in enumerate(kinds)}
    categories = []
    for label, split in kinds:
        shades = _BY_LABEL.get(label, (GREY,))
        shade = given.index(split)
        name = f"{_LABEL_TEXT.get(label, label)}, {split}" if split else _LABEL_TEXT.get(label, label)
        mark = MARKS[shade // len(shades) % len(MARKS)]
        categories.append(Category(printable(name), shades[shade % len(shades)], mark))
    codes = np.array([places[pair] for pair in pairs], dtype=np.int64)
    return Colouring("label × split" if splits else "label", categories, codes)


def by_column(name: str, values: Sequence[str], labels: Sequence[str]) -> Colouring:
    """A category for each value of a column; bona fide points that have none are one category.

    Args:
        name: of the column.
        values: ``(points,)``.
        labels: ``(points,)``.
    """
    shown = [_shown(value, label) for value, label in zip(values, labels, strict=True)]
    counts = Counter(shown)
    bonafide = _LABEL_TEXT[BONAFIDE]
    values_only = sorted((v for v in counts if v != bonafide), key=lambda v: (-counts[v], v))
    kept = sorted(values_only[:MOST_VALUES])
    categories = [Category(bonafide, BLUE)] if bonafide in counts else []
    for i, value in enumerate(kept):
        mark = MARKS[i // len(_VALUES) % len(MARKS)]
        categories.append(Category(printable(value), _VALUES[i % len(_VALUES)], mark))
    names = [bonafide] * (bonafide in counts) + kept
    places = {value: i for i, value in enumerate(names)}
    if len(kept) < len(values_only):
        rest = len(values_only) - len(kept)
        categories.append(Category(f"{OTHER} ({rest} values)", GREY))
    codes = np.array([places.get(value, len(names)) for value in shown], dtype=np.int64)
    return Colouring(name, categories, codes)


def _shown(value: str, label: str) -> str:
    if value.lower() not in NO_VALUE:
        return value
    return _LABEL_TEXT[BONAFIDE] if label == BONAFIDE else f"{label}, not stated"


def _label_order(label: str) -> tuple[int, str]:
    return ((BONAFIDE, SPOOF).index(label) if label in _BY_LABEL else 2, label)
