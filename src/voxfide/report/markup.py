"""Text from users made safe to print: escapes for HTML, visible forms for control characters."""

from __future__ import annotations

import html
import re
import unicodedata

_BIDI_CONTROLS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_CODE_SPAN = re.compile(r"`([^`]+)`")


def printable(text: str, *, keep: str = "") -> str:
    """``text`` with every character that could act instead of being seen written as its escape.

    Control characters (terminal escapes, line breaks), lone surrogates (undecodable file
    names) and bidirectional controls (which reorder the text around them) become ``\\x1b``,
    ``\\udc80``, ``\\u202e``, except those in ``keep``.
    """
    return "".join(c if c in keep or not _acts(c) else _visible(c) for c in text)


def _acts(char: str) -> bool:
    category = unicodedata.category(char)
    return category in ("Cc", "Cs", "Zl", "Zp") or char in _BIDI_CONTROLS


def _visible(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")


def escape(text: str) -> str:
    """Safe as HTML text and as a quoted attribute's value."""
    return html.escape(printable(text, keep="\n\t"), quote=True)


def inline(text: str) -> str:
    """Escaped text in which `` `…` `` becomes ``<code>``; the only markup that prose has."""
    return _CODE_SPAN.sub(r"<code>\1</code>", escape(text))


def slug(text: str) -> str:
    """An ASCII identifier for anchors: lower case, words joined by hyphens."""
    ascii_text = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode("ascii")
    return re.sub(r"[^a-z0-9]+", "-", ascii_text.lower()).strip("-") or "section"
