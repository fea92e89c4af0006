"""Scatter figures of many points, told apart by category."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from voxfide.errors import UsageError
from voxfide.report.categories import Colouring, Mark
from voxfide.report.markup import printable
from voxfide.report.style import COLUMN_WIDTH, PALETTE, quiet_style
from voxfide.types import Float64Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MARKERS: Final[dict[Mark, str]] = {
    "circle": "o", "triangle": "^", "square": "s", "diamond": "D", "cross": "X", "plus": "P",
}  # fmt: skip
_LAYERS: Final = 8
"""Each category is drawn in so many parts, in turn, so that none hides the others."""

_MOST_NAMED: Final = 24
"""Categories up to which their names also stand in the picture."""

_FEWEST_NAMED: Final = 7


def scatter_figure(
    panels: Mapping[str, Float64Array], colouring: Colouring, *, panel_width: float = COLUMN_WIDTH
) -> Figure:
    """Point clouds side by side with one legend below; the axes have no unit and are not drawn.

    With several but not too many categories, the name of each stands at the middle of its points.

    Args:
        panels: title → ``(points, 2)``; all of the same points.
        colouring: of the points.
        panel_width: inches.

    Raises:
        UsageError: no panels or no points.
    """
    if not panels or not len(colouring.codes):
        raise UsageError("no points: there is nothing to draw")
    from matplotlib.figure import Figure

    longest = max(len(category.name) for category in colouring.categories) + 8
    columns = max(1, int(len(panels) * panel_width / (0.25 + 0.055 * longest)))
    legend_rows = -(-len(colouring.categories) // columns)
    with quiet_style():
        fig = Figure(
            figsize=(len(panels) * panel_width, 0.95 * panel_width + 0.17 * legend_rows + 0.15),
            layout="constrained",
        )
        axes = fig.subplots(1, len(panels), squeeze=False)[0]
        for ax, (title, points) in zip(axes, panels.items(), strict=True):
            _cloud(ax, points, colouring)
            if len(panels) > 1 or title:
                ax.set_title(printable(title), fontsize=8, loc="left", pad=3)
        fig.legend(
            handles=_handles(colouring), loc="outside lower left", ncols=columns, fontsize=7,
            handlelength=1.0, columnspacing=1.2,
        )  # fmt: skip
        return fig


def _cloud(ax: Axes, points: Float64Array, colouring: Colouring) -> None:
    size = float(np.clip(9000 / len(points), 0.7, 14))
    order = np.random.default_rng(0).permutation(len(points))
    for part in np.array_split(order, _LAYERS):
        for code, category in enumerate(colouring.categories):
            own = part[colouring.codes[part] == code]
            ax.scatter(
                points[own, 0], points[own, 1], s=size, c=category.colour, marker=_MARKERS[category.mark],
                lw=0, alpha=0.8, rasterized=True,
            )  # fmt: skip
    if _FEWEST_NAMED <= len(colouring.categories) <= _MOST_NAMED:
        _names(ax, points, colouring)
    middle = (points.min(axis=0) + points.max(axis=0)) / 2
    reach = 0.53 * float((points.max(axis=0) - points.min(axis=0)).max()) or 1.0
    ax.set(xlim=(middle[0] - reach, middle[0] + reach), ylim=(middle[1] - reach, middle[1] + reach))
    ax.set(xticks=[], yticks=[], aspect="equal")
    ax.grid(False)
    for spine in ax.spines.values():
        spine.set(visible=True, color=PALETTE["grid"])


def _names(ax: Axes, points: Float64Array, colouring: Colouring) -> None:
    from matplotlib.patheffects import withStroke

    extent = float((points.max(axis=0) - points.min(axis=0)).max()) or 1.0
    taken: list[tuple[Float64Array, int]] = []
    for code in np.argsort(-colouring.counts(), kind="stable"):
        category = colouring.categories[code]
        own = points[colouring.codes == code]
        if not len(own):
            continue
        # The point nearest to the median: the median itself may lie between two clusters.
        middle = own[np.argmin(np.abs(own - np.median(own, axis=0)).sum(axis=1))]
        if any(_touch(middle - other, extent, len(category.name) + n) for other, n in taken):
            continue  # the legend has it
        taken.append((middle, len(category.name)))
        ax.text(
            middle[0], middle[1], category.name, fontsize=6, ha="center", va="center", color=PALETTE["ink"],
            path_effects=[withStroke(linewidth=1.6, foreground="#fdfdfb")],
        )  # fmt: skip


def _touch(apart: Float64Array, extent: float, characters: int) -> bool:
    """Whether two names with so many characters together, so far apart, would run into each other."""
    across, down = np.abs(apart) / extent
    return bool(across < 0.009 * characters + 0.01 and down < 0.035)


def _handles(colouring: Colouring) -> list[Any]:
    from matplotlib.lines import Line2D

    return [
        Line2D(
            [], [], ls="none", marker=_MARKERS[c.mark], color=c.colour, ms=4.5, mew=0,
            label=f"{c.name} ({n:,})",
        )
        for c, n in zip(colouring.categories, colouring.counts(), strict=True)
    ]  # fmt: skip
