"""A page as a PDF to print and file: A4, numbered pages, embedded fonts, the same bytes for the same page.

Players and scatter plots, which paper cannot hold, are left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from reportlab.lib.colors import HexColor
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import Flowable, KeepTogether, Paragraph, SimpleDocTemplate, Spacer, TableStyle
from reportlab.platypus import Table as Grid

import voxfide
from voxfide.files import replacing
from voxfide.report.banner import Banner
from voxfide.report.drawing import Drawn
from voxfide.report.page import (
    Block,
    Figure,
    Figures,
    Folded,
    KeyValues,
    Notice,
    Page,
    Prose,
    Stats,
)
from voxfide.report.pdf_drawing import DrawingFlowable, figure_image
from voxfide.report.pdf_fonts import BOLD, SANS, drawable, paragraph_markup, register_fonts
from voxfide.report.style import PALETTE
from voxfide.report.tables import Column, Table, show
from voxfide.types import PathLike

MARGIN: Final = 18 * mm
WIDTH: Final = A4[0] - 2 * MARGIN - 12
"""Of the text; reportlab keeps 6 points free on either side of a frame."""

_COLOURS: Final = {"bonafide": "s1", "spoof": "s2", "inconclusive": "s5"}
_LONGEST_KEPT: Final = 12
"""Rows of a table that is kept on one page."""


def write_pdf(page: Page, path: PathLike) -> Path:
    """Writes the page as PDF, whole or not at all; makes the folder if it is missing."""
    register_fonts()
    path = Path(path)
    with replacing(path) as temporary:
        document = SimpleDocTemplate(
            str(temporary),
            pagesize=A4,
            leftMargin=MARGIN,
            rightMargin=MARGIN,
            topMargin=MARGIN,
            bottomMargin=MARGIN,
            title=drawable(page.title),
            author="voxfide",
            subject=drawable(page.kicker),
            creator=f"voxfide {voxfide.__version__}",
            lang="en",
            invariant=1,
        )
        document.build(list(_Story(page).flowables()), canvasmaker=_canvas_for(page))
    return path


def _style(name: str, size: float, **options: Any) -> ParagraphStyle:
    options = {"fontName": SANS, "leading": 1.42 * size, "textColor": HexColor(PALETTE["ink"]), **options}
    return ParagraphStyle(name, fontSize=size, splitLongWords=1, **options)


_MUTED: Final = HexColor(PALETTE["muted"])
_KICKER: Final = _style("kicker", 8, fontName=BOLD, textColor=HexColor(PALETTE["s1"]), spaceAfter=4)
_TITLE: Final = _style("title", 19, fontName=BOLD, spaceAfter=4)
_SUBTITLE: Final = _style("subtitle", 9.5, textColor=_MUTED, spaceAfter=6)
_HEADING: Final = _style("heading", 13, fontName=BOLD, spaceBefore=14, spaceAfter=6, keepWithNext=1)
_GROUP: Final = _style("group", 9, fontName=BOLD, spaceBefore=8, spaceAfter=2, keepWithNext=1)
_BODY: Final = _style("body", 8.8, spaceAfter=6)
_CAPTION: Final = _style("caption", 7.8, textColor=_MUTED, spaceBefore=3, spaceAfter=9)
_CELL: Final = _style("cell", 7.8, leading=10)
_HEAD: Final = _style("head", 7.8, leading=10, fontName=BOLD)
_CELL_RIGHT: Final = _style("cell-right", 7.8, leading=10, alignment=2)
_HEAD_RIGHT: Final = _style("head-right", 7.8, leading=10, fontName=BOLD, alignment=2)
_NAME: Final = _style("name", 7.8, leading=10, textColor=_MUTED)
_WORD: Final = _style("word", 22, fontName=BOLD, spaceAfter=4)
_VALUE: Final = _style("value", 15, fontName=BOLD)


class _Story:
    """A page's blocks as flowables, with tables and figures counted as in the page."""

    def __init__(self, page: Page) -> None:
        self._page = page
        self._tables = self._figures = 0

    def flowables(self) -> Iterator[Flowable]:
        """The whole document."""
        page = self._page
        yield _text(page.kicker, _KICKER)
        yield _text(page.title, _TITLE)
        yield _text(page.subtitle, _SUBTITLE)
        for section in page.sections:
            first = True
            for block in section.blocks:
                for flowable in self._block(block):
                    if first:
                        # A heading never stands alone at the foot of a page.
                        kept = flowable._content if type(flowable) is KeepTogether else [flowable]
                        yield KeepTogether([_text(section.title, _HEADING), *kept])
                        first = False
                    else:
                        yield flowable

    def _block(self, block: Block) -> Iterator[Flowable]:
        match block:
            case Banner():
                yield _banner(block)
                yield Spacer(0, 8)
            case Prose(paragraphs):
                yield from (_text(p, _BODY) for p in paragraphs)
            case Stats(stats):
                cells = [
                    [_text(s.title, _NAME), _text(f"{s.value} {s.unit}", _VALUE), _text(s.detail, _NAME)]
                    for s in stats
                ]
                yield Grid([cells], [WIDTH / len(cells)] * len(cells), hAlign="LEFT", style=_plain())
                yield Spacer(0, 8)
            case KeyValues(values):
                yield from _key_values(values)
            case Notice(points, kind):
                yield _notice(points, kind)
                yield Spacer(0, 8)
            case Table():
                self._tables += 1
                yield _table(block, f"Table {self._tables}. ")
            case Drawn(drawing, caption):
                yield self._figure(DrawingFlowable(drawing), caption)
            case Figure(figure, caption):
                yield self._figure(figure_image(figure, WIDTH), caption)
            case Figures(figures):
                for each in figures:
                    yield from self._block(each)
            case Folded(_, blocks):
                for inner in blocks:
                    yield from self._block(inner)
            case _:
                return

    def _figure(self, picture: Flowable, caption: str) -> Flowable:
        self._figures += 1
        return KeepTogether([picture, _text(f"Figure {self._figures}. {caption}", _CAPTION)])


def _text(text: str, style: ParagraphStyle) -> Paragraph:
    return Paragraph(paragraph_markup(text, style.fontName), style)


def _plain(*more: Any) -> TableStyle:
    padding = [("LEFTPADDING", (0, 0), (-1, -1), 0), ("RIGHTPADDING", (0, 0), (-1, -1), 8)]
    # The font of cells that are text; ours are paragraphs, but reportlab names its default all the same.
    font = ("FONTNAME", (0, 0), (-1, -1), SANS)
    return TableStyle([("VALIGN", (0, 0), (-1, -1), "TOP"), font, *padding, *more])


def _banner(banner: Banner) -> Flowable:
    content: list[Flowable] = [_text(banner.word, _WORD), *(_text(s, _BODY) for s in banner.sentences)]
    if banner.gauge is not None:
        content.append(DrawingFlowable(banner.gauge))
    bar = HexColor(PALETTE[_COLOURS[banner.kind]])
    style = _plain(
        ("LINEBEFORE", (0, 0), (0, -1), 5, bar),
        ("BACKGROUND", (0, 0), (-1, -1), HexColor("#f4f5f2")),
        ("LEFTPADDING", (0, 0), (-1, -1), 14),
        ("TOPPADDING", (0, 0), (-1, -1), 8),
        ("BOTTOMPADDING", (0, 0), (-1, -1), 8),
    )
    return Grid([[content]], [WIDTH], hAlign="LEFT", style=style)


def _notice(points: Sequence[str], kind: str) -> Flowable:
    colour = HexColor("#8f4708") if kind == "warning" else HexColor(PALETTE["grid"])
    rows = [[_text("•", _BODY), _text(point, _BODY)] for point in points]
    style = _plain(
        ("LINEBEFORE", (0, 0), (0, -1), 2, colour),
        ("LEFTPADDING", (0, 0), (0, -1), 8),
        ("TOPPADDING", (0, 0), (-1, -1), 1),
        ("BOTTOMPADDING", (0, 0), (-1, -1), 0),
    )
    return Grid(rows, [18, WIDTH - 18], hAlign="LEFT", style=style)


def _key_values(values: Mapping[str, Any]) -> Iterator[Flowable]:
    single = {k: v for k, v in values.items() if not isinstance(v, Mapping)}
    if single:
        rows = [[_text(str(k), _NAME), _text(str(v), _CELL)] for k, v in single.items()]
        line = ("LINEBELOW", (0, 0), (-1, -2), 0.4, HexColor(PALETTE["grid"]))
        tight = [("TOPPADDING", (0, 0), (-1, -1), 2), ("BOTTOMPADDING", (0, 0), (-1, -1), 2.5)]
        yield Grid(rows, [0.27 * WIDTH, 0.73 * WIDTH], hAlign="LEFT", style=_plain(line, *tight))
    for name, group in values.items():
        if isinstance(group, Mapping):
            first, *others = _key_values(group) if group else [_text("none", _CELL)]
            yield KeepTogether([_text(str(name), _GROUP), first])
            yield from others


def _table(table: Table, label: str) -> Flowable:
    right = table.right_aligned()
    sides = list(zip(table.columns, right, strict=True))
    head = [_text(column.heading, _HEAD_RIGHT if flush else _HEAD) for column, flush in sides]
    rows = [[_cell(cell, *side) for cell, side in zip(row, sides, strict=True)] for row in table.rows]
    ink, grid = HexColor(PALETTE["ink"]), HexColor(PALETTE["grid"])
    style = _plain(
        ("LINEABOVE", (0, 0), (-1, 0), 0.9, ink),
        ("LINEBELOW", (0, 0), (-1, 0), 0.6, ink),
        ("LINEBELOW", (0, 1), (-1, -2), 0.4, grid),
        ("LINEBELOW", (0, -1), (-1, -1), 0.9, ink),
        ("TOPPADDING", (0, 0), (-1, -1), 2),
        ("BOTTOMPADDING", (0, 0), (-1, -1), 2.5),
    )
    grid_table = Grid([head, *rows], _widths(table), repeatRows=1, hAlign="LEFT", style=style)
    caption = _text(label + table.caption, _CAPTION)
    parts = [caption, grid_table, Spacer(0, 10)]
    return KeepTogether(parts, maxHeight=None) if len(rows) <= _LONGEST_KEPT else _Flow(parts)


class _Flow(KeepTogether):
    """Parts one after another, which may be broken anywhere."""

    def split(self, available_width: float, available_height: float) -> list[Flowable]:
        """The parts themselves."""
        return list(self._content)


def _cell(cell: Any, column: Column, right: bool) -> Paragraph:
    text = show(cell, column)
    text = text if isinstance(cell, str) else text.replace("-", "−")
    return _text(text, _CELL_RIGHT if right else _CELL)


def _widths(table: Table) -> list[float]:
    """Shares of the width by the longest text of each column, none too narrow."""
    lengths = []
    for i, column in enumerate(table.columns):
        texts = [column.heading, *(show(row[i], column) for row in table.rows)]
        lengths.append(min(max(map(len, texts), default=1), 44) + 4)
    wanted = [4.6 * n for n in lengths]
    scale = min(1.0, WIDTH / sum(wanted))
    return [scale * w for w in wanted]


def _canvas_for(page: Page) -> Any:
    """A canvas that writes title, page number and number of pages at the foot of every page."""
    title = drawable(page.title)

    class Numbered(Canvas):
        def __init__(self, *args: Any, **options: Any) -> None:
            # Else reportlab names a font that is not embedded.
            super().__init__(*args, **{**options, "initialFontName": SANS})
            self._pages: list[dict[str, Any]] = []

        def showPage(self) -> None:  # noqa: N802
            self._pages.append(dict(self.__dict__))
            self._startPage()

        def save(self) -> None:
            for number, state in enumerate(self._pages, 1):
                self.__dict__.update(state)
                self.setFont(SANS, 7.5)
                self.setFillColor(_MUTED)
                self.drawString(MARGIN + 6, 10 * mm, title if len(title) <= 80 else f"{title[:79]}…")
                self.drawRightString(A4[0] - MARGIN - 6, 10 * mm, f"{number} / {len(self._pages)}")
                super().showPage()
            super().save()

    return Numbered
