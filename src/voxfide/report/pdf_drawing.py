"""Drawings and Matplotlib figures as parts of a PDF."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from reportlab.lib.colors import HexColor
from reportlab.lib.utils import ImageReader
from reportlab.platypus import Flowable, Image

from voxfide.report.drawing import Drawing, Ink, Label, Lines, Raster, Rectangle, Shape
from voxfide.report.pdf_fonts import BOLD, SANS, drawable
from voxfide.report.style import PALETTE, quiet_style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_DPI: Final = 200
_SMALLEST_PRINT: Final = 6.2
"""Points; labels of a drawing that is scaled down stay as large as this."""


class DrawingFlowable(Flowable):
    """A drawing, scaled to the width that there is and no further than ``most`` points a pixel."""

    def __init__(self, drawing: Drawing, most: float = 0.75) -> None:
        super().__init__()
        self._drawing, self._most, self._scale = drawing, most, most

    def wrap(self, available_width: float, available_height: float) -> tuple[float, float]:
        """Size in points."""
        drawing = self._drawing
        self._scale = min(self._most, available_width / drawing.width, available_height / drawing.height)
        return drawing.width * self._scale, drawing.height * self._scale

    def draw(self) -> None:
        """Paints the shapes; those that only the pointer finds are left out."""
        canvas = self.canv
        canvas.saveState()
        canvas.scale(self._scale, self._scale)
        for shape in self._drawing.shapes:
            canvas.saveState()
            _paint(canvas, shape, self._drawing.height, _SMALLEST_PRINT / self._scale)
            canvas.restoreState()
        canvas.restoreState()


def figure_image(figure: Figure, width: float) -> Image:
    """A Matplotlib figure as a picture of 200 dots an inch, ``width`` points at most."""
    buffer = io.BytesIO()
    with quiet_style():
        figure.savefig(buffer, format="png", dpi=_DPI, metadata={"Software": None})
    buffer.seek(0)
    inches = figure.get_size_inches()
    scale = min(1.0, width / (72 * inches[0]))
    return Image(buffer, 72 * inches[0] * scale, 72 * inches[1] * scale)


def _paint(canvas: Any, shape: Shape, height: float, smallest: float) -> None:
    match shape:
        case Rectangle(x, y, w, h, ink):
            _set(canvas, ink)
            canvas.rect(x, height - y - h, w, h, stroke=bool(ink.stroke), fill=bool(ink.fill))
        case Lines(lines, ink):
            _set(canvas, ink)
            canvas.drawPath(_path(canvas, lines, height, ink), stroke=bool(ink.stroke), fill=bool(ink.fill))
        case Raster(x, y, w, h, png):
            canvas.drawImage(ImageReader(io.BytesIO(png)), x, height - y - h, w, h)
        case Label():
            _text(canvas, shape, height, smallest)


def _path(canvas: Any, lines: Sequence[Sequence[tuple[float, float]]], height: float, ink: Ink) -> Any:
    path = canvas.beginPath()
    for line in lines:
        for i, (x, y) in enumerate(line):
            (path.lineTo if i else path.moveTo)(x, height - y)
        if line and ink.fill:
            path.close()
    return path


def _text(canvas: Any, label: Label, height: float, smallest: float) -> None:
    canvas.translate(label.x, height - label.y)
    if label.turned:
        canvas.rotate(90)
    canvas.setFillColor(HexColor(PALETTE[label.ink]))
    font = BOLD if label.bold else SANS
    # DejaVu is wider than the page's fonts.
    canvas.setFont(font, max(0.88 * label.size, smallest))
    draw = {"start": canvas.drawString, "middle": canvas.drawCentredString, "end": canvas.drawRightString}
    draw[label.anchor](0, 0, drawable(label.text, font))


def _set(canvas: Any, ink: Ink) -> None:
    if ink.fill:
        canvas.setFillColor(HexColor(PALETTE[ink.fill]))
    if ink.stroke:
        canvas.setStrokeColor(HexColor(PALETTE[ink.stroke]))
        canvas.setLineWidth(ink.width)
        canvas.setDash(*ink.dashes)
    if ink.opacity < 1:
        canvas.setFillAlpha(ink.opacity)
        canvas.setStrokeAlpha(ink.opacity)
