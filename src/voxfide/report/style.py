"""The look of every figure, and how figures are made and saved.

Classes and series differ in darkness and line style as well as in hue, so that figures
hold for colour-blind readers and in grey.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from voxfide.errors import UsageError
from voxfide.files import replacing
from voxfide.types import PathLike

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMN_WIDTH: Final = 3.5
"""Inches; one column of a two-column paper."""

PALETTE: Final = {
    "ink": "#1b1f24",
    "muted": "#5b6570",
    "grid": "#dfe3e6",
    "s1": "#1b5e8c",
    "s2": "#d9822b",
    "s3": "#3f9c78",
    "s4": "#7b2d63",
    "s5": "#8a929a",
    "s6": "#2f3b8f",
}
"""Names of the colours; the page gives each a second value for dark surroundings."""

SERIES: Final = ("s1", "s2", "s3", "s4", "s5", "s6")
BONAFIDE_COLOUR: Final = PALETTE["s1"]
SPOOF_COLOUR: Final = PALETTE["s2"]
DASHES: Final = ("-", (0, (5, 1.5)), (0, (1.2, 1.2)), (0, (6, 1.5, 1.2, 1.5)), (0, (3, 3)), (0, (8, 2)))

_STYLE: Final[dict[Any, Any]] = {
    "font.size": 8,
    "axes.labelsize": 8,
    "axes.linewidth": 0.6,
    "axes.edgecolor": PALETTE["muted"],
    "axes.labelcolor": PALETTE["ink"],
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": PALETTE["grid"],
    "grid.linewidth": 0.6,
    "text.color": PALETTE["ink"],
    "text.parse_math": False,
    "xtick.color": PALETTE["muted"],
    "ytick.color": PALETTE["muted"],
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "legend.frameon": False,
    "legend.fontsize": 7.5,
    "legend.handlelength": 2.6,
    "lines.linewidth": 1.6,
    "svg.fonttype": "none",
    "svg.hashsalt": "voxfide",
    "pdf.fonttype": 42,
    "savefig.dpi": 300,
}


@contextmanager
def quiet_style() -> Iterator[None]:
    """The style of every figure; characters that the font lacks are no reason to warn."""
    import matplotlib as mpl

    with mpl.rc_context(_STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield


def new_figure(width: float = COLUMN_WIDTH, height: float | None = None) -> tuple[Figure, Axes]:
    """A figure of one pair of axes, in inches; to be called within :func:`quiet_style`."""
    from matplotlib.figure import Figure

    fig = Figure(figsize=(width, width * 0.8 if height is None else height), layout="constrained")
    return fig, fig.add_subplot()


def save_figure(fig: Figure, path: PathLike) -> Path:
    """Writes PDF, PNG or SVG by the suffix, without dates, atomically.

    Raises:
        UsageError: another suffix.
    """
    path = Path(path)
    dates: dict[str, dict[str, Any]] = {
        ".pdf": {"CreationDate": None, "ModDate": None},
        ".png": {},
        ".svg": {"Date": None},
    }
    if path.suffix.lower() not in dates:
        raise UsageError(f"{path}: figures are written as {', '.join(dates)}, not {path.suffix!r}")
    kind = path.suffix.lower()
    with replacing(path) as temporary, quiet_style():
        fig.savefig(temporary, format=kind[1:], metadata=dates[kind])
    return path
