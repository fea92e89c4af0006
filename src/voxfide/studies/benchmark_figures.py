"""The benchmark's figure: EER against parameters and against speed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from voxfide.errors import UsageError
from voxfide.report.figures_panels import PAGE_WIDTH
from voxfide.report.markup import printable
from voxfide.report.style import PALETTE, quiet_style
from voxfide.studies.benchmark_rows import BenchmarkRow

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_HEIGHT: Final = 3.1
_LABEL_POINTS: Final = 6.5
_LINE: Final = 1.25
"""Line height of the labels, in font sizes."""

_KINDS: Final = {
    # what: colour, marker, filled
    "allowed in the open condition, or no training data": ("s1", "o", True),
    "not allowed": ("s2", "s", True),
    "nothing known of its training data": ("s4", "D", True),
    "random weights": ("s5", "o", False),
}


def kind_of(row: BenchmarkRow) -> str:
    """Which of the figure's kinds a front-end is."""
    allowed, not_allowed, unknown, random = _KINDS
    if row.is_random:
        return random
    if row.open_condition is None and row.weights == "released":
        return unknown
    return not_allowed if row.open_condition is False else allowed


def trade_off_figure(rows: Sequence[BenchmarkRow]) -> Figure:
    """EER over parameters and over speed, both axes logarithmic, a labelled point a front-end.

    Args:
        rows: at least one; without parameters a front-end is in the right panel only.

    Raises:
        UsageError: no rows.
    """
    from matplotlib.figure import Figure

    if not rows:
        raise UsageError("no front-end was measured: there is nothing to draw")
    with quiet_style():
        fig = Figure(figsize=(PAGE_WIDTH, _HEIGHT), layout="constrained")
        left, right = fig.subplots(1, 2, sharey=True)
        points = [(row, row.n_parameters / 1e6) for row in rows if row.n_parameters]
        _panel(left, points, "parameters (millions)", _HEIGHT)
        speeds = [(row, row.x_realtime) for row in rows if row.x_realtime]
        _panel(right, speeds, "seconds of audio a second", _HEIGHT)
        left.set_ylabel("EER (%)")
        handles, names = left.get_legend_handles_labels()
        for handle, name in zip(*right.get_legend_handles_labels(), strict=True):
            if name not in names:
                handles, names = [*handles, handle], [*names, name]
        if len(names) > 1:
            fig.legend(handles, names, loc="outside upper left", ncols=len(names))
        return fig


def _panel(ax: Axes, points: Sequence[tuple[BenchmarkRow, float]], xlabel: str, height: float) -> None:
    from matplotlib.ticker import FuncFormatter, NullFormatter

    for kind, (colour, marker, filled) in _KINDS.items():
        of_kind = [(row, x) for row, x in points if kind_of(row) == kind]
        if not of_kind:
            continue
        shade = PALETTE[colour]
        for row, x in of_kind:
            if filled and row.low is not None and row.high is not None:
                ax.plot([x, x], [row.low, row.high], color=shade, lw=0.8, alpha=0.5)
        ax.plot(
            [x for _, x in of_kind], [row.eer_percent for row, _ in of_kind], ls="none", marker=marker, ms=4,
            mec=shade, mew=1, mfc=shade if filled else "none", label=kind, gid=f"data-{kind}-{xlabel}",
        )  # fmt: skip
    ax.set_xscale("log")
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.set_xlabel(xlabel)
    if points:
        lowest, highest = min(x for _, x in points), max(x for _, x in points)
        # Room for the labels, which stand to the right of their points.
        decades = max(1.0, math.log10(highest / lowest))
        ax.set_xlim(lowest / 10 ** (0.06 * decades), highest * 10 ** (0.35 * decades))
    _labels(ax, points, height)


def _labels(ax: Axes, points: Sequence[tuple[BenchmarkRow, float]], height: float) -> None:
    """Names beside the points, moved up or down where they would touch, with a line to their point."""
    tops = [row.eer_percent if row.is_random or row.high is None else row.high for row, _ in points]
    top = max([*tops, 1.0]) * 1.08
    ax.set_ylim(0, top)
    step = top * _LABEL_POINTS * _LINE / 72 / (height * 0.7)
    low, high = ax.get_xlim()
    gap = (high / low) ** 0.025
    ordered = sorted(points, key=lambda point: point[0].eer_percent)
    places = spread([row.eer_percent for row, _ in ordered], step, top)
    for (row, x), y in zip(ordered, places, strict=True):
        ax.annotate(
            printable(row.label), (x, row.eer_percent), (x * gap, y), fontsize=_LABEL_POINTS, va="center",
            color=PALETTE["muted" if row.is_random else "ink"],
            arrowprops={"arrowstyle": "-", "lw": 0.4, "color": PALETTE["muted"], "shrinkA": 0, "shrinkB": 2},
        )  # fmt: skip


def spread(values: Sequence[float], step: float, top: float) -> list[float]:
    """Ascending places at least ``step`` apart, near ascending ``values``, within 0 … ``top`` where they fit.

    Values that are too close become a block around their mean (pool adjacent violators).
    """
    blocks: list[list[float]] = []  # sum of offsets, count
    for value in values:
        blocks.append([value, 1])
        while len(blocks) > 1 and _start(blocks[-1], step) < _end(blocks[-2], step) + step:
            total, count = blocks.pop()
            blocks[-1] = [blocks[-1][0] + total, blocks[-1][1] + count]
    places = [_start(block, step) + step * i for block in blocks for i in range(int(block[1]))]
    over = max(0.0, places[-1] - (top - step / 2)) if places else 0.0
    return [place - over for place in places] if places and places[0] - over >= 0 else places


def _start(block: Sequence[float], step: float) -> float:
    return max(step / 2, block[0] / block[1] - step * (block[1] - 1) / 2)


def _end(block: Sequence[float], step: float) -> float:
    return _start(block, step) + step * (block[1] - 1)
