"""The answer that a page is about, large and first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from voxfide.report.drawing import Drawing
from voxfide.report.element import Element
from voxfide.report.markup import escape, inline


@dataclass(frozen=True)
class Banner(Element):
    """A verdict.

    Attributes:
        kind: gives the colour.
        word: the verdict as people say it.
        sentences: what it says, then what it rests on; at least one.
        gauge: a drawing of how sure it is.
    """

    assets: ClassVar[tuple[str, ...]] = ("recording.css",)
    kind: Literal["bonafide", "spoof", "inconclusive"]
    word: str
    sentences: Sequence[str]
    gauge: Drawing | None = None

    def to_html(self) -> str:
        """The words, then the drawing."""
        first, *others = self.sentences
        more = "".join(f"<p>{inline(s)}</p>" for s in others)
        gauge = "" if self.gauge is None else self.gauge.to_svg()
        return (
            f'<div class="verdict {self.kind}"><p class="word">{escape(self.word)}</p>'
            f'<p class="meaning">{inline(first)}</p>{more}{gauge}</div>'
        )
