"""Figures of several panels on one scale: heat maps, and curves over a few settings."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from voxfide.errors import UsageError
from voxfide.report.markup import printable
from voxfide.report.style import COLUMN_WIDTH, DASHES, PALETTE, SERIES, quiet_style
from voxfide.types import Float64Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

PAGE_WIDTH: Final = 2 * COLUMN_WIDTH + 0.25
"""Inches; both columns of a two-column paper."""

MARKERS: Final = "osD^vP"

_RAMP: Final = ("#f3f6f9", "#b9d3e6", "#6aa5cc", "#2b6f9f", "#123a59")
"""Light to dark in one hue: the order survives in grey and for colour-blind readers."""
_SHADES: Final = 64

_TICK_STEPS: Final = (1, 2, 3, 4, 6, 12, 24, 48)
_MOST_TICKS: Final = 12


@dataclass(frozen=True)
class HeatPanel:
    """One heat map.

    Attributes:
        title: above it.
        values: ``(rows, columns)``; NaN leaves a cell empty.
        rows, columns: names of the rows, and of the columns, which are numbers in order.
    """

    title: str
    values: Float64Array
    rows: Sequence[str]
    columns: Sequence[int]

    def __post_init__(self) -> None:
        if self.values.shape != (len(self.rows), len(self.columns)):
            raise ValueError(f"values {self.values.shape} for {len(self.rows)} × {len(self.columns)} names")


def heat_panels_figure(
    panels: Sequence[HeatPanel],
    *,
    label: str,
    xlabel: str,
    across: int,
    limits: tuple[float, float] | None = None,
    width: float = PAGE_WIDTH,
) -> Figure:
    """Heat maps side by side on one colour scale, darker being more.

    A dot marks the greatest value of each row.

    Args:
        panels: in reading order; those of one row of panels share the names of their rows.
        label: what the colours mean.
        xlabel: what the columns are.
        across: panels in one row.
        limits: values of the lightest and the darkest colour; by default those of the data.
        width: inches.

    Raises:
        UsageError: there is no value to draw.
    """
    values = np.concatenate([panel.values.ravel() for panel in panels]) if panels else np.array([])
    if not np.isfinite(values).any():
        raise UsageError("no values: there is no heat map to draw")
    low, high = limits or (float(np.nanmin(values)), float(np.nanmax(values)))
    if high <= low:
        low, high = low - 0.5 * (abs(low) or 1.0), high + 0.5 * (abs(high) or 1.0)
    down = -(-len(panels) // across)
    rows = [max(len(p.rows) for p in panels[i * across : (i + 1) * across]) for i in range(down)]
    with quiet_style():
        fig, grid = _grid(down, across, width, [0.42 + 0.17 * n for n in rows], extra=0.35)
        for place, ax in enumerate(grid):
            if place >= len(panels):
                ax.set_axis_off()
                continue
            _heat(ax, panels[place], _ramp(), (low, high), f"{place}")
            _integer_ticks(ax, panels[place].columns)
            if place % across:
                ax.tick_params(axis="y", labelleft=False)
            if place + across >= len(panels):
                ax.set_xlabel(xlabel)
        bar = fig.colorbar(_scale(low, high), ax=grid, fraction=0.03, aspect=18, pad=0.015, shrink=0.9)
        bar.set_label(label)
        bar.outline.set_visible(False)
        bar.ax.tick_params(length=0)
        return _laid_out(fig)


def _ramp() -> Colormap:
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("voxfide", _RAMP, N=_SHADES)


def _scale(low: float, high: float) -> ScalarMappable:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    return ScalarMappable(Normalize(low, high), _ramp())


def _heat(ax: Axes, panel: HeatPanel, ramp: Colormap, limits: tuple[float, float], name: str) -> None:
    n_rows, n_columns = panel.values.shape
    ax.pcolormesh(
        np.arange(n_columns + 1) - 0.5, np.arange(n_rows + 1) - 0.5, np.ma.masked_invalid(panel.values),
        cmap=ramp, vmin=limits[0], vmax=limits[1], edgecolors="face", linewidth=0.2, gid=f"data-heat-{name}",
    )  # fmt: skip
    for row in range(n_rows):
        if not np.isfinite(panel.values[row]).any():
            continue
        best = int(np.nanargmax(panel.values[row]))
        shade = (panel.values[row, best] - limits[0]) / (limits[1] - limits[0])
        # Not a colour of the palette: it must suit the cell, not the page.
        ax.plot([best], [row], ".", ms=3.5, mew=0, color="#fefefe" if shade > 0.45 else "#14181c")
    ax.set(xlim=(-0.5, n_columns - 0.5), ylim=(n_rows - 0.5, -0.5))
    ax.set_yticks(range(n_rows), [printable(r) for r in panel.rows])
    ax.set_title(printable(panel.title), fontsize=8, loc="left", pad=3)
    ax.tick_params(length=0, labelcolor=PALETTE["ink"], labelsize=7, pad=2)
    ax.grid(False)
    for spine in ax.spines.values():
        spine.set_visible(False)


def _integer_ticks(ax: Axes, columns: Sequence[int]) -> None:
    """The first column's number, then multiples of the least step that leaves room."""
    step = next((s for s in _TICK_STEPS if len(columns) / s <= _MOST_TICKS), _TICK_STEPS[-1])
    shown = [i for i, number in enumerate(columns) if number % step == 0 or (i == 0 and step > 2)]
    ax.set_xticks(shown, [str(columns[i]) for i in shown])


@dataclass(frozen=True)
class Curve:
    """A line through a few points.

    Attributes:
        name: in the legend; curves of one name in several panels look alike.
        x, y: ``(points,)``, ``x`` ascending.
        low, high: ``(points,)`` ends of a bar at each point, NaN for none; ``None``: no bars.
        colour, dash: which of the colours, and which of the line styles and marks.
    """

    name: str
    x: Float64Array
    y: Float64Array
    low: Float64Array | None = None
    high: Float64Array | None = None
    colour: int = 0
    dash: int = 0


@dataclass(frozen=True)
class CurvePanel:
    """Axes with curves; ``ylabel`` empty: that of the figure."""

    title: str
    curves: Sequence[Curve]
    ylabel: str = ""


def curve_panels_figure(
    panels: Sequence[CurvePanel], *, xlabel: str, ylabel: str, across: int, width: float = PAGE_WIDTH
) -> Figure:
    """Curves over a few settings, panel by panel, each from zero to its own greatest value.

    Args:
        panels: in reading order.
        xlabel: what the settings are; every one that occurs gets a tick.
        ylabel: what is measured.
        across: panels in one row.
        width: inches.

    Raises:
        UsageError: there is no curve.
    """
    curves = [curve for panel in panels for curve in panel.curves]
    if not curves:
        raise UsageError("no curves: there is nothing to draw")
    names = {curve.name: curve for curve in curves}
    ticks = sorted({float(x) for curve in curves for x in curve.x})
    down = -(-len(panels) // across)
    legend_rows = -(-len(names) // 3) if len(names) > 1 else 0
    with quiet_style():
        fig, grid = _grid(down, across, width, [1.65] * down, extra=0.2 + 0.17 * legend_rows)
        for place, ax in enumerate(grid):
            if place >= len(panels):
                ax.set_axis_off()
                continue
            _curves(ax, panels[place], names, ticks)
            ax.set_ylabel(panels[place].ylabel or (ylabel if place % across == 0 else ""))
            if place + across >= len(panels):
                ax.set_xlabel(xlabel)
        if len(names) > 1:
            handles, labels = _legend(grid)
            fig.legend(handles, labels, loc="outside upper left", ncols=3)
        return _laid_out(fig)


def _curves(ax: Axes, panel: CurvePanel, names: Iterable[str], ticks: Sequence[float]) -> None:
    order = list(names)
    span = ticks[-1] - ticks[0] or 1.0
    for curve in panel.curves:
        # Set a little apart, so that bars at one setting do not hide each other.
        shift = 0.009 * span * (order.index(curve.name) - (len(order) - 1) / 2)
        colour = PALETTE[SERIES[curve.colour % len(SERIES)]]
        shown = printable(curve.name)
        if curve.low is not None and curve.high is not None:
            ax.vlines(curve.x + shift, curve.low, curve.high, color=colour, lw=0.9, alpha=0.75)
        ax.plot(
            curve.x + shift, curve.y, color=colour, ls=DASHES[curve.dash % len(DASHES)], lw=1.2,
            marker=MARKERS[curve.dash % len(MARKERS)], ms=3.2, mew=0, label=shown,
            gid=f"data-{printable(panel.title)}-{shown}",
        )  # fmt: skip
    ax.set_ylim(bottom=0)
    ax.set_title(printable(panel.title), fontsize=8, loc="left", pad=3)
    ax.set_xticks(ticks, _spaced(ticks, span))
    ax.grid(False, axis="x")


def _spaced(ticks: Sequence[float], span: float) -> list[str]:
    """Names of the ticks, empty where the one before would touch."""
    shown: list[str] = []
    last = -np.inf
    for tick in ticks:
        room = tick - last >= 0.075 * span
        shown.append(f"{tick:g}" if room else "")
        last = tick if room else last
    return shown


def _legend(grid: Sequence[Axes]) -> tuple[list[Any], list[str]]:
    found: dict[str, Any] = {}
    for ax in grid:
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    return list(found.values()), list(found)


def _laid_out(fig: Figure) -> Figure:
    """The figure with its layout computed once, not again by every format that it is saved in."""
    fig.draw_without_rendering()
    fig.set_layout_engine("none")
    return fig


def _grid(
    down: int, across: int, width: float, heights: Sequence[float], *, extra: float
) -> tuple[Figure, list[Axes]]:
    from matplotlib.figure import Figure

    fig = Figure(figsize=(width, sum(heights) + extra), layout="constrained")
    axes = fig.subplots(down, across, squeeze=False, gridspec_kw={"height_ratios": list(heights)})
    return fig, list(axes.ravel())
