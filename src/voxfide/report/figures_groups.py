"""Figures of groups of trials: score distributions row by row, and the EER of two columns crossed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from voxfide.errors import UsageError
from voxfide.evaluation.breakdown import NO_VALUE, UNNAMED, value_codes
from voxfide.metrics.eer import eer_percent
from voxfide.report.figures import ScoredTrials
from voxfide.report.markup import printable
from voxfide.report.style import (
    BONAFIDE_COLOUR,
    COLUMN_WIDTH,
    DASHES,
    PALETTE,
    SPOOF_COLOUR,
    new_figure,
    quiet_style,
)
from voxfide.types import BoolArray, Float64Array, IntArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from voxfide.evaluation import Trials

MIN_TRIALS: Final = 5
"""Trials of each class below which a cell of the heat map stays empty."""

POOLED: Final = "pooled"
_LIGHT, _DARK = np.array([0.955, 0.965, 0.975]), np.array([0.05, 0.22, 0.36])


def ridge_figure(
    rows: Mapping[str, ScoredTrials],
    *,
    notes: Mapping[str, str] | None = None,
    threshold: float | None = None,
    width: float = COLUMN_WIDTH,
) -> Figure:
    """Score distributions of several groups, one below the other on one axis.

    Spoofs are filled, bona fide trials outlined; each is scaled to the same height, so shapes
    and places are to be compared, not areas. Trials beyond the central 99.8 % of all lie in the
    outermost bins.

    Args:
        rows: name → trials; a class may be missing.
        notes: name → a few characters at the right end of its row, such as its EER.
        threshold: a score, drawn through all rows.
        width: inches.

    Raises:
        UsageError: no row has trials.
    """
    rows = {name: t for name, t in rows.items() if len(t.score)}
    every = [t.score for t in rows.values()]
    if not every:
        raise UsageError("no trials: there is nothing to draw")
    low, high = (float(v) for v in np.quantile(np.concatenate(every), [0.001, 0.999]))
    margin = 0.02 * (high - low) or 0.5
    smallest = min(int(min(part.size for part in _classes(t) if part.size)) for t in rows.values())
    n_bins = int(np.clip(3 * smallest ** (1 / 3), 16, 60))
    edges = np.linspace(low - margin, high + margin, n_bins + 1)
    with quiet_style():
        fig, ax = new_figure(width, 0.62 + 0.27 * len(rows))
        for place, (name, trials) in enumerate(rows.items()):
            _ridge(ax, len(rows) - 1 - place, trials, edges, printable(name), labelled=place == 0)
            note = (notes or {}).get(name, "")
            ax.annotate(
                printable(note), (1, len(rows) - 1 - place), xytext=(4, 0), fontsize=7.5, va="bottom",
                xycoords=("axes fraction", "data"), textcoords="offset points", annotation_clip=False,
            )  # fmt: skip
        if threshold is not None and np.isfinite(threshold):
            ax.axvline(threshold, color=PALETTE["ink"], lw=0.9, ls=DASHES[2], gid="data-threshold")
        ax.set(xlim=(edges[0], edges[-1]), ylim=(-0.12, len(rows) + 0.25))
        ax.set_yticks(range(len(rows)), [_clip(printable(n)) for n in reversed(list(rows))], va="bottom")
        ax.tick_params(axis="y", length=0, labelcolor=PALETTE["ink"])
        ax.spines["left"].set_visible(False)
        ax.grid(False, axis="y")
        ax.set_xlabel("score → more bona fide")
        fig.legend(loc="outside upper left", ncols=3)
        return fig


def _classes(trials: ScoredTrials) -> tuple[Float64Array, Float64Array]:
    return trials.score[trials.is_bonafide], trials.score[~trials.is_bonafide]


def _ridge(
    ax: Axes, base: int, trials: ScoredTrials, edges: Float64Array, name: str, *, labelled: bool
) -> None:
    ax.plot(edges[[0, -1]], [base, base], color=PALETTE["grid"], lw=0.8)
    bonafide, spoof = _classes(trials)
    classes = (("spoof", spoof, SPOOF_COLOUR, 0.55), ("bona fide", bonafide, BONAFIDE_COLOUR, 0.0))
    for label, values, colour, alpha in classes:
        if not values.size:
            continue
        share = np.histogram(np.clip(values, edges[0], edges[-1]), edges)[0].astype(float)
        tops = base + 0.92 * share / share.max()
        gid = f"data-ridge-{label}-{name}"
        if alpha:
            ax.stairs(tops, edges, baseline=base, fill=True, color=colour, alpha=alpha, lw=0, gid=gid)
        ax.stairs(
            tops, edges, baseline=base, color=colour, lw=1.1 if not alpha else 0.8,
            label=label if labelled else None, gid=None if alpha else gid,
        )  # fmt: skip


def _clip(text: str, most: int = 22) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


@dataclass(frozen=True)
class EerGrid:
    """EER in percent of every pair of values of two columns, NaN where there are too few trials.

    Attributes:
        row_column: column of the key that the rows are values of.
        column: column of the key that the columns are values of.
        rows: values, and ``pooled`` last.
        columns: values, and ``pooled`` last.
        percent: ``(rows, columns)``.
        n_spoof: ``(rows, columns)``, spoof trials measured.
    """

    row_column: str
    column: str
    rows: Sequence[str]
    columns: Sequence[str]
    percent: Float64Array
    n_spoof: IntArray


@dataclass(frozen=True)
class GroupTrials:
    """One group's trials."""

    score: Float64Array
    is_bonafide: BoolArray


def group_trials(trials: Trials, column: str) -> dict[str, GroupTrials]:
    """For each value of a column that spoofs have, its spoofs and the bona fide trials they stand against.

    Those are the bona fide trials of the same value; all of them where the column describes
    spoofs only.

    Raises:
        UsageError: an unknown column.
    """
    side = _Side.of(trials, column)
    held = ((name, side.holds(number)) for number, name in enumerate(side.names))
    return {name: GroupTrials(trials.score[rows], trials.is_bonafide[rows]) for name, rows in held}


def eer_grid(trials: Trials, row_column: str, column: str) -> EerGrid:
    """Measures every pair of values of two columns, worst rows and columns first.

    A column that no bona fide trial has a value for, such as the attack, divides the spoofs
    only; any other, such as the codec, divides both classes, as in
    :func:`voxfide.evaluation.evaluate`.

    Raises:
        UsageError: an unknown column.
    """
    sides = [_Side.of(trials, name) for name in (row_column, column)]
    percent = np.full((len(sides[0]) + 1, len(sides[1]) + 1), np.nan)
    n_spoof = np.zeros(percent.shape, dtype=np.int64)
    for i in range(percent.shape[0]):
        for j in range(percent.shape[1]):
            kept = sides[0].holds(i) & sides[1].holds(j)
            n_bonafide = int(np.count_nonzero(kept & trials.is_bonafide))
            n_spoof[i, j] = np.count_nonzero(kept) - n_bonafide
            if min(n_bonafide, n_spoof[i, j]) >= MIN_TRIALS:
                percent[i, j] = eer_percent(trials.score[kept], trials.is_bonafide[kept])
    orders = [_worst_first(percent[:-1, -1]), _worst_first(percent[-1, :-1])]
    places = np.ix_(*(np.append(order, len(order)) for order in orders))
    names = [[*(side.names[k] for k in order), POOLED] for side, order in zip(sides, orders, strict=True)]
    return EerGrid(row_column, column, names[0], names[1], percent[places], n_spoof[places])


@dataclass(frozen=True)
class _Side:
    """One column: which trials each of its values takes in; past the last value, all."""

    names: list[str]
    codes: IntArray
    shared: BoolArray
    """Trials that every value takes in: all bona fide ones, where the column describes spoofs only."""

    @classmethod
    def of(cls, trials: Trials, column: str) -> _Side:
        if column not in trials.columns:
            known = ", ".join(trials.columns) or "none"
            raise UsageError(f"the key has no column {column!r} (columns: {known})")
        values, codes = value_codes(trials.columns[column])
        described = [values[c].lower() not in NO_VALUE for c in np.unique(codes[trials.is_bonafide])]
        spoofs_only = not any(described)
        used = np.unique(codes[~trials.is_bonafide])
        place = np.full(len(values), -1)
        place[used] = np.arange(used.size)
        shared = trials.is_bonafide if spoofs_only else np.zeros(len(trials), dtype=np.bool_)
        return cls([values[c] or UNNAMED for c in used], place[codes], shared)

    def __len__(self) -> int:
        return len(self.names)

    def holds(self, number: int) -> BoolArray:
        return np.ones_like(self.shared) if number == len(self) else self.shared | (self.codes == number)


def _worst_first(percent: Float64Array) -> IntArray:
    return np.argsort(-np.nan_to_num(percent, nan=-1.0), kind="stable")


def heatmap_figure(grid: EerGrid, *, width: float | None = None) -> Figure:
    """The EER of two columns crossed: darker is worse, with the figure in every cell.

    The last row and column, set apart, hold the EER over all values of the other.

    Args:
        grid: from :func:`eer_grid`.
        width: inches; by default one text column, or more where there are many columns.
    """
    n_rows, n_columns = grid.percent.shape
    width = width or max(COLUMN_WIDTH, 1.0 + 0.36 * n_columns)
    labels = [_clip(printable(name), 16) for name in grid.columns]
    head = 0.3 + 0.055 * max(map(len, labels)) * (1 if n_columns > 4 else 0.3)
    with quiet_style():
        fig, ax = new_figure(width, 0.35 + head + 0.21 * n_rows)
        worst = float(np.nanmax(grid.percent)) if np.isfinite(grid.percent).any() else 1.0
        for i in range(n_rows):
            for j in range(n_columns):
                y, x = i + 0.25 * (i == n_rows - 1), j + 0.25 * (j == n_columns - 1)
                _cell(ax, x, y, float(grid.percent[i, j]), worst)
        ax.set(xlim=(-0.5, n_columns - 0.25), ylim=(n_rows - 0.25, -0.5))
        ax.xaxis.tick_top()
        turned: dict[str, Any] = {"rotation": 45, "ha": "left", "rotation_mode": "anchor"}
        places = [*range(n_columns - 1), n_columns - 0.75]
        ax.set_xticks(places, labels, **(turned if n_columns > 4 else {}))
        ax.set_yticks([*range(n_rows - 1), n_rows - 0.75], [_clip(printable(n), 20) for n in grid.rows])
        ax.tick_params(length=0, labelcolor=PALETTE["ink"])
        ax.grid(False)
        for spine in ax.spines.values():
            spine.set_visible(False)
        ax.set_xlabel(f"EER (%): {printable(grid.row_column)} (rows) by {printable(grid.column)} (columns)")
        ax.xaxis.set_label_position("bottom")
        return fig


def _cell(ax: Axes, x: float, y: float, percent: float, worst: float) -> None:
    from matplotlib.patches import Rectangle

    if not np.isfinite(percent):
        ax.text(x, y, "–", ha="center", va="center", fontsize=7, color=PALETTE["muted"])
        return
    depth = min(max(percent / max(worst, 1e-9), 0.0), 1.0)
    colour = tuple(float(c) for c in _LIGHT + (_DARK - _LIGHT) * depth)
    ax.add_patch(Rectangle((x - 0.48, y - 0.46), 0.96, 0.92, color=colour, lw=0, gid="data-cell"))
    text = f"{percent:.1f}" if percent < 99.95 else "100"
    # Not a colour of the palette: it must suit the cell, not the page.
    dark = np.dot(np.power(colour, 2.2), (0.2126, 0.7152, 0.0722)) < 0.18
    ax.text(x, y, text, ha="center", va="center", fontsize=7, color="#fefefe" if dark else "#14181c")
