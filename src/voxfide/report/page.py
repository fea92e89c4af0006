"""One self-contained HTML page of sections of prose, key-values, tables, figures, players, scatter plots.

The page makes no request to any host: style and script are inline and allowed by their
hash alone, audio and pictures are data, and the content security policy forbids the rest.
The same input gives the same bytes.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import voxfide
from voxfide.files import write_atomic
from voxfide.report.drawing import Drawn
from voxfide.report.element import Element
from voxfide.report.markup import escape, inline, printable, slug
from voxfide.report.players import Players
from voxfide.report.scatter import Scatter
from voxfide.report.svg import inline_svg
from voxfide.report.tables import Table
from voxfide.types import PathLike

if TYPE_CHECKING:
    from matplotlib.figure import Figure as MatplotlibFigure

_FOLD_ABOVE = 12
"""Groups of more key-values than this are folded away."""


@dataclass(frozen=True)
class Prose:
    """Paragraphs of plain text, in which `` `…` `` is code."""

    paragraphs: Sequence[str]


@dataclass(frozen=True)
class Stat:
    """One headline figure: what it is, its value, and a line that puts it in proportion."""

    title: str
    value: str
    detail: str = ""
    unit: str = ""


@dataclass(frozen=True)
class Stats:
    """Headline figures in a row."""

    stats: Sequence[Stat]


@dataclass(frozen=True)
class KeyValues:
    """Names and values; a value that is a mapping becomes a group with its key as heading."""

    values: Mapping[str, Any]


@dataclass(frozen=True)
class Notice:
    """Points that a reader must not miss (``warning``) or may want to know (``note``)."""

    points: Sequence[str]
    kind: Literal["warning", "note"] = "note"


@dataclass(frozen=True)
class Figure:
    """A Matplotlib figure with its caption, and ``alt``, what it shows, in words; ``wide`` fills the page."""

    figure: MatplotlibFigure
    caption: str
    alt: str
    wide: bool = False


@dataclass(frozen=True)
class Figures:
    """Figures side by side where the screen is wide enough."""

    figures: Sequence[Figure]


@dataclass(frozen=True)
class Folded:
    """Blocks that are folded away under a line that says what they are; open in print."""

    summary: str
    blocks: Sequence[Block]


Block = (
    Prose
    | Stats
    | KeyValues
    | Notice
    | Figure
    | Figures
    | Table
    | Players
    | Scatter
    | Folded
    | Drawn
    | Element
)


@dataclass(frozen=True)
class Section:
    """A heading and what stands under it."""

    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Page:
    """A page: title, one line of what it is about, sections, a line at the foot.

    Attributes:
        kicker: a few words above the title: the kind of page.
    """

    title: str
    subtitle: str
    sections: Sequence[Section]
    kicker: str = "voxfide report"
    footer: str = ""

    def to_html(self) -> str:
        """The whole document."""
        counters = _Counters()
        anchors = _anchors(self.sections)
        nav = "".join(
            f'<li><a href="#{anchor}">{escape(section.title)}</a></li>'
            for anchor, section in zip(anchors, self.sections, strict=True)
        )
        body = "\n".join(
            _section(section, anchor, counters)
            for anchor, section in zip(anchors, self.sections, strict=True)
        )
        blocks = [block for section in self.sections for block in _unfolded(section.blocks)]
        scatters = [block for block in blocks if isinstance(block, Scatter)]
        names = ["page.css", "page.js", *(["scatter.js"] if scatters else [])]
        for block in blocks:
            names += [n for n in getattr(block, "assets", ()) if n not in names]
        style, script = ("".join(_asset(n) for n in names if n.endswith(kind)) for kind in (".css", ".js"))
        return _DOCUMENT.format(
            policy=_policy(style, script, files_beside=any(s.has_links for s in scatters)),
            title=escape(printable(self.title)),
            style=style,
            script=script,
            kicker=escape(self.kicker),
            heading=inline(self.title),
            subtitle=inline(self.subtitle),
            nav=nav,
            body=body,
            footer=inline(self.footer or f"Made with voxfide {voxfide.__version__}."),
        )

    def write(self, path: PathLike) -> Path:
        """Writes the page as UTF-8, whole or not at all; makes the folder if it is missing."""
        path = Path(path)
        html = self.to_html()
        write_atomic(path, html)
        return path


class _Counters:
    """Numbers of tables and figures, in order of appearance."""

    def __init__(self) -> None:
        self.tables = 0
        self.figures = 0

    def next_table(self) -> int:
        self.tables += 1
        return self.tables

    def next_figure(self) -> int:
        self.figures += 1
        return self.figures


def _anchors(sections: Sequence[Section]) -> list[str]:
    anchors: list[str] = []
    for section in sections:
        base = anchor = slug(section.title)
        number = 2
        while anchor in anchors:
            anchor, number = f"{base}-{number}", number + 1
        anchors.append(anchor)
    return anchors


def _unfolded(blocks: Sequence[Block]) -> Iterator[Block]:
    for block in blocks:
        if isinstance(block, Folded):
            yield from _unfolded(block.blocks)
        else:
            yield block


def _section(section: Section, anchor: str, counters: _Counters) -> str:
    blocks = "\n".join(_block(block, counters) for block in section.blocks)
    return (
        f'<section id="{anchor}" aria-labelledby="{anchor}-title">'
        f'<h2 id="{anchor}-title">{inline(section.title)}</h2>\n{blocks}\n</section>'
    )


def _block(block: Block, counters: _Counters) -> str:
    match block:
        case Prose(paragraphs):
            return '<div class="prose">' + "".join(f"<p>{inline(p)}</p>" for p in paragraphs) + "</div>"
        case Stats(stats):
            return '<dl class="stats">' + "".join(map(_stat, stats)) + "</dl>"
        case KeyValues(values):
            return "".join(_key_values(values))
        case Notice(points, kind):
            items = "".join(f"<li>{inline(point)}</li>" for point in points)
            return f'<ul class="notice {kind}">{items}</ul>'
        case Figure():
            return _figure(block, counters)
        case Figures(figures):
            return '<div class="figures">' + "".join(_figure(f, counters) for f in figures) + "</div>"
        case Table():
            number = counters.next_table()
            return block.to_html(label=f"Table {number}.", anchor=f"table-{number}")
        case Drawn():
            return block.to_html(counters.next_figure())
        case Folded(summary, blocks):
            inner = "".join(_block(b, counters) for b in blocks)
            return f'<details class="group"><summary>{inline(summary)}</summary>{inner}</details>'
        case Players() | Scatter() | Element():
            return block.to_html()


def _stat(stat: Stat) -> str:
    detail = f'<dd class="detail">{inline(stat.detail)}</dd>' if stat.detail else ""
    unit = f' <span class="unit">{escape(stat.unit)}</span>' if stat.unit else ""
    value = f'<dd class="value">{escape(stat.value)}{unit}</dd>'
    return f"<div><dt>{escape(stat.title)}</dt>{value}{detail}</div>"


def _key_values(values: Mapping[str, Any]) -> Iterator[str]:
    """The plain values as one list, then each group, folded where it is long."""
    single = {k: v for k, v in values.items() if not isinstance(v, Mapping)}
    if single:
        yield _definition_list(single)
    for name, group in values.items():
        if not isinstance(group, Mapping):
            continue
        content = _definition_list({k: v for k, v in group.items() if not isinstance(v, Mapping)})
        content += "".join(_key_values({k: v for k, v in group.items() if isinstance(v, Mapping)}))
        if len(group) > _FOLD_ABOVE:
            summary = f"{escape(str(name))} ({len(group):,})"
            yield f'<details class="group"><summary>{summary}</summary>{content}</details>'
        else:
            yield f'<div class="group"><h3>{escape(str(name))}</h3>{content or "<p>none</p>"}</div>'


def _definition_list(values: Mapping[str, Any]) -> str:
    items = "".join(
        f"<div><dt>{escape(str(k))}</dt><dd>{inline(str(v))}</dd></div>" for k, v in values.items()
    )
    return f'<dl class="facts wide">{items}</dl>' if items else ""


def _figure(figure: Figure, counters: _Counters) -> str:
    number = counters.next_figure()
    svg = inline_svg(figure.figure, alt=figure.alt, prefix=f"fig{number}")
    caption = f'<b class="label">Figure {number}.</b> {inline(figure.caption)}'
    kind = ' class="wide"' if figure.wide else ""
    return f'<figure id="figure-{number}"{kind}>{svg}<figcaption>{caption}</figcaption></figure>'


@cache
def _asset(name: str) -> str:
    return files("voxfide.report").joinpath(name).read_text(encoding="utf-8").replace("\r\n", "\n")


def _policy(style: str, script: str, *, files_beside: bool) -> str:
    """What the browser may do for this page: show what is in it, run what is hashed here.

    With ``files_beside`` it may also play recordings from where the page itself is.
    """

    def digest(text: str) -> str:
        # Inline content is hashed as it stands between the tags, line breaks included.
        return "'sha256-" + base64.b64encode(hashlib.sha256(f"\n{text}".encode()).digest()).decode() + "'"

    media = "data: 'self' file:" if files_beside else "data:"
    return (
        f"default-src 'none'; style-src {digest(style)}; script-src {digest(script)}; "
        f"img-src data:; media-src {media}; base-uri 'none'; form-action 'none'"
    )


_DOCUMENT = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="referrer" content="no-referrer">
<title>{title}</title>
<link rel="icon" href="data:,">
<style>
{style}</style>
</head>
<body>
<a class="skip" href="#main">Skip to the content</a>
<header>
<p class="kicker">{kicker}</p>
<h1>{heading}</h1>
<p class="subtitle">{subtitle}</p>
</header>
<nav aria-label="Contents"><ol>{nav}</ol></nav>
<main id="main">
{body}
</main>
<footer><p>{footer}</p></footer>
<script>
{script}</script>
</body>
</html>
"""
