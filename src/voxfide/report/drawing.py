"""Small drawings: a few shapes that become inline SVG in a page, or vectors in a PDF.

Unlike a Matplotlib figure, a drawing has parts that are links, takes a kilobyte, and costs no import.
Units are pixels at a width of some 900; y grows downwards. What a colour is called stands in
:data:`voxfide.report.style.PALETTE`, and every colour follows the page's light or dark mode.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Final, Literal

from voxfide.report.markup import escape, inline, printable
from voxfide.report.style import PALETTE

Anchor = Literal["start", "middle", "end"]
Point = tuple[float, float]


@dataclass(frozen=True)
class Ink:
    """How a shape looks: names of the palette for fill and stroke, or none."""

    fill: str = ""
    stroke: str = ""
    width: float = 1.0
    opacity: float = 1.0
    dashes: tuple[float, ...] = ()


@dataclass(frozen=True)
class Rectangle:
    """From the upper left corner."""

    x: float
    y: float
    width: float
    height: float
    ink: Ink


@dataclass(frozen=True)
class Lines:
    """Polylines of one ink; closed and filled where the ink has a fill."""

    lines: Sequence[Sequence[Point]]
    ink: Ink


@dataclass(frozen=True)
class Label:
    """Text with its baseline at ``y``."""

    x: float
    y: float
    text: str
    anchor: Anchor = "start"
    size: float = 11.0
    ink: str = "muted"
    bold: bool = False
    turned: bool = False


@dataclass(frozen=True)
class Raster:
    """A PNG picture stretched over a rectangle; dark parts become light ones on a dark page."""

    x: float
    y: float
    width: float
    height: float
    png: bytes


@dataclass(frozen=True)
class Hint:
    """A transparent rectangle that says ``text`` under the pointer, and may be a link.

    Attributes:
        target: id of what it leads to in the page; empty for no link.
        seconds: where the player in the target starts.
    """

    x: float
    y: float
    width: float
    height: float
    text: str
    target: str = ""
    seconds: float | None = None


Shape = Rectangle | Lines | Label | Raster | Hint


@dataclass(frozen=True)
class TimeAxis:
    """Where time runs in a drawing, for scripts that follow a player."""

    left: float
    right: float
    seconds: float


@dataclass(frozen=True)
class Drawing:
    """Shapes in painting order on a canvas, with what they show in words.

    Attributes:
        time: of a drawing over time.
        least_width: pixels below which a narrow screen scrolls instead of shrinking it; 0: shrinks.
    """

    width: float
    height: float
    shapes: Sequence[Shape]
    alt: str
    time: TimeAxis | None = None
    least_width: int = 0

    def to_svg(self) -> str:
        """One ``<svg>`` element without ids; a link in it is reached by keyboard too."""
        kind = "figure over-time" if self.time else "figure"
        data = ""
        if self.time is not None:
            time = self.time
            data = (
                f' data-left="{_n(time.left)}" data-right="{_n(time.right)}" data-seconds="{time.seconds!r}"'
            )
        role = "group" if any(isinstance(s, Hint) and s.target for s in self.shapes) else "img"
        body = "".join(map(_svg, self.shapes))
        return (
            f'<svg class="{kind}" viewBox="0 0 {_n(self.width)} {_n(self.height)}" role="{role}" '
            f'aria-label="{escape(printable(self.alt))}"{data}>{body}</svg>'
        )


@dataclass(frozen=True)
class Drawn:
    """A drawing as a numbered figure of a page; ``wide`` fills it."""

    assets: ClassVar[tuple[str, ...]] = ("recording.css", "recording.js")
    drawing: Drawing
    caption: str
    wide: bool = False

    def to_html(self, number: int) -> str:
        """A ``<figure>`` with the next number of the page."""
        svg = self.drawing.to_svg()
        if self.drawing.least_width:
            name = escape(printable(self.drawing.alt))
            svg = f'<div class="pan" tabindex="0" role="region" aria-label="{name}">{svg}</div>'
        kind = ' class="wide"' if self.wide else ""
        caption = f'<b class="label">Figure {number}.</b> {inline(self.caption)}'
        return f'<figure id="figure-{number}"{kind}>{svg}<figcaption>{caption}</figcaption></figure>'


def colour(name: str) -> str:
    """A colour of the palette as CSS: the page's variable, with the printed colour to fall back on."""
    return f"var(--fig-{name}, {PALETTE[name]})"


_FONT: Final = 'font-size="{size}" text-anchor="{anchor}" fill="{fill}"'


def _svg(shape: Shape) -> str:
    match shape:
        case Rectangle(x, y, width, height, ink):
            return f"<rect {_box(x, y, width, height)}{_ink(ink)}/>"
        case Lines(lines, ink):
            end = "Z" if ink.fill else ""
            path = "".join(
                "M" + "L".join(f"{_n(x)} {_n(y)}" for x, y in line) + end for line in lines if line
            )
            return f'<path d="{path}"{_ink(ink)}/>' if path else ""
        case Label():
            return _label(shape)
        case Raster(x, y, width, height, png):
            data = base64.b64encode(png).decode("ascii")
            return (
                f'<image class="raster" {_box(x, y, width, height)} preserveAspectRatio="none" '
                f'href="data:image/png;base64,{data}"/>'
            )
        case Hint():
            return _hint(shape)


def _label(label: Label) -> str:
    font = _FONT.format(size=_n(label.size), anchor=label.anchor, fill=colour(label.ink))
    weight = ' font-weight="600"' if label.bold else ""
    turn = f' transform="rotate(-90 {_n(label.x)} {_n(label.y)})"' if label.turned else ""
    text = escape(printable(label.text))
    return f'<text x="{_n(label.x)}" y="{_n(label.y)}" {font}{weight}{turn}>{text}</text>'


def _hint(hint: Hint) -> str:
    title = f"<title>{escape(printable(hint.text))}</title>"
    box = (
        f'<rect class="hint" {_box(hint.x, hint.y, hint.width, hint.height)} fill-opacity="0">{title}</rect>'
    )
    if not hint.target:
        return box
    at = "" if hint.seconds is None else f' data-at="{_n(hint.seconds)}"'
    name = escape(printable(hint.text))
    return f'<a href="#{escape(hint.target)}" aria-label="{name}"{at}>{box}</a>'


def _ink(ink: Ink) -> str:
    parts = [f' fill="{colour(ink.fill) if ink.fill else "none"}"']
    if ink.stroke:
        parts.append(f' stroke="{colour(ink.stroke)}" stroke-width="{_n(ink.width)}"')
    if ink.opacity < 1:
        parts.append(f' opacity="{_n(ink.opacity)}"')
    if ink.dashes:
        parts.append(f' stroke-dasharray="{" ".join(map(_n, ink.dashes))}"')
    return "".join(parts)


def _box(x: float, y: float, width: float, height: float) -> str:
    return f'x="{_n(x)}" y="{_n(y)}" width="{_n(width)}" height="{_n(height)}"'


def _n(value: float) -> str:
    """Two decimals at most: a hundredth of a pixel."""
    return f"{round(value, 2) + 0.0:.2f}".rstrip("0").rstrip(".")
