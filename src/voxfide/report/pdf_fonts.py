"""Fonts of a PDF: embedded, the same everywhere, and what stands in for characters that they lack."""

from __future__ import annotations

import re
import unicodedata
from functools import cache
from pathlib import Path
from typing import Final

from voxfide.report.markup import escape, printable

SANS: Final = "VoxfideSans"
BOLD: Final = "VoxfideSans-Bold"
MONO: Final = "VoxfideMono"
_FILES: Final = {SANS: "DejaVuSans.ttf", BOLD: "DejaVuSans-Bold.ttf", MONO: "DejaVuSansMono.ttf"}
_RIGHT_TO_LEFT: Final = ("R", "AL")
_NEUTRAL: Final = ("WS", "CS", "ON", "NSM", "ES")


@cache
def register_fonts() -> None:
    """Makes the fonts known to reportlab: DejaVu, which Matplotlib ships, so that no system font is used.

    They hold Latin, Greek, Cyrillic, Hebrew, Arabic, Armenian and Georgian letters, and many signs.
    """
    import matplotlib as mpl
    from reportlab.pdfbase import pdfmetrics
    from reportlab.pdfbase.ttfonts import TTFont

    folder = Path(mpl.get_data_path()) / "fonts" / "ttf"
    for name, file in _FILES.items():
        pdfmetrics.registerFont(TTFont(name, folder / file))
    pdfmetrics.registerFontFamily(SANS, normal=SANS, bold=BOLD, italic=SANS, boldItalic=BOLD)


def drawable(text: str, font: str = SANS) -> str:
    """Text as the font can draw it, left to right.

    Characters that act instead of being seen, and those that the font lacks, become their escapes, such as
    ``\\u91c7``. Runs of letters that are written from right to left are turned round, as nothing else does
    it; they are not joined.
    """
    known = _known(font)
    shown = "".join(c if ord(c) in known else _escaped(c) for c in printable(text))
    return _visual(shown)


def paragraph_markup(text: str, font: str = SANS) -> str:
    """Prose with `` `code` `` as reportlab's paragraphs take it; everything else is escaped."""
    parts = re.split(r"`([^`]+)`", text)
    return "".join(
        f'<font name="{MONO}" size="-0.5">{escape(drawable(part, MONO))}</font>'
        if i % 2
        else escape(drawable(part, font))
        for i, part in enumerate(parts)
    )


@cache
def _known(font: str) -> frozenset[int]:
    from reportlab.pdfbase import pdfmetrics

    register_fonts()
    return frozenset(pdfmetrics.getFont(font).face.charToGlyph)


def _escaped(char: str) -> str:
    code = ord(char)
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


def _visual(text: str) -> str:
    """Each run from the first to the last letter of a right-to-left script, in the order of the page."""
    kinds = [unicodedata.bidirectional(c) for c in text]
    if not any(kind in _RIGHT_TO_LEFT for kind in kinds):
        return text
    found, i = [], 0
    while i < len(text):
        if kinds[i] not in _RIGHT_TO_LEFT:
            found.append(text[i])
            i += 1
            continue
        end = last = i
        while end < len(text) and kinds[end] in (*_RIGHT_TO_LEFT, *_NEUTRAL):
            last = end if kinds[end] in _RIGHT_TO_LEFT else last
            end += 1
        found.append(text[i : last + 1][::-1])
        i = last + 1
    return "".join(found)
