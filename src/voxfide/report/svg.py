"""Drawings for the page: Matplotlib figures as themable inline SVG, and three tiny ones by hand.

The page's content security policy allows no style attributes, so every property becomes a
presentation attribute, and every colour of the palette a CSS variable (with the colour as
its fallback), so that one drawing serves light, dark and print.
"""

from __future__ import annotations

import io
import math
import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from typing import TYPE_CHECKING

from voxfide.report.markup import escape, printable
from voxfide.report.style import PALETTE, quiet_style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BAR_WIDTH = 96
BAR_HEIGHT = 12
_PROPERTIES = re.compile(
    r"(fill|stroke|opacity)(-opacity|-rule|-width|-linecap|-linejoin|-dasharray|-dashoffset|-miterlimit)?"
    r"|text-anchor|font-(size|style|weight)"
)
_COLOURS = {colour: f"var(--fig-{name}, {colour})" for name, colour in PALETTE.items()}
_FONT = re.compile(r"(?:(italic|oblique)\s+)?(?:(bold|\d{3})\s+)?([\d.]+)px\b")
_NUMBER = re.compile(r"-?\d+\.\d{3,}")
_REFERENCE = re.compile(r"url\(#([^)]+)\)")


def inline_svg(fig: Figure, *, alt: str, prefix: str) -> str:
    """A figure as one ``<svg>`` element: no style, no metadata, ids unique under ``prefix``.

    Args:
        alt: what the figure shows, for those who do not see it.
        prefix: put before every id that is referred to; unique in the page.
    """
    root = _parse(fig)
    used = _referenced_ids(root)
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        element.attrib = _attributes(element, prefix, used)
        if element.text is not None:
            element.text = printable(element.text.strip("\n ") if element.tag != "text" else element.text)
        element.tail = None
    view_box = root.get("viewBox", "0 0 1 1")
    root.attrib = {"class": "figure", "viewBox": view_box, "role": "img", "aria-label": printable(alt)}
    root.attrib |= {"stroke-linejoin": "round", "stroke-linecap": "butt"}
    _unwrap_groups(root)
    return ET.tostring(root, encoding="unicode", short_empty_elements=True)


def interval_bar(
    value: float, interval: tuple[float, float] | None, scale: float, reference: float | None = None
) -> str:
    """Value (tick) and interval (bar) between 0 and ``scale``; ``reference`` as a dotted line."""

    def x(number: float) -> float:
        share = number / scale if scale > 0 and math.isfinite(number) else 0.0
        return round(min(max(share, 0.0), 1.0) * (BAR_WIDTH - 4) + 2, 1)

    middle = BAR_HEIGHT // 2
    parts = [f'<path class="track" d="M2 {middle}H{BAR_WIDTH - 2}"/>']
    if interval is not None and all(map(math.isfinite, interval)):
        low, high = x(interval[0]), x(interval[1])
        parts.append(f'<path class="range" d="M{low:g} {middle}H{max(high, low + 0.5):g}"/>')
    if reference is not None and math.isfinite(reference):
        parts.append(f'<path class="reference" d="M{x(reference):g} 0V{BAR_HEIGHT}"/>')
    parts.append(f'<path class="point" d="M{x(value):g} 1V{BAR_HEIGHT - 1}"/>')
    size = f'viewBox="0 0 {BAR_WIDTH} {BAR_HEIGHT}" width="{BAR_WIDTH}" height="{BAR_HEIGHT}"'
    return f'<svg class="bar" {size} aria-hidden="true">{"".join(parts)}</svg>'


def waveform_svg(envelope: Sequence[float], *, height: int = 40) -> str:
    """A symmetric outline of an amplitude envelope: one value in [0, 1] a pixel column."""
    middle, width = height / 2, max(2 * len(envelope), 1)
    bars = "".join(
        f"M{2 * i + 1} {middle - a:g}V{middle + a:g}"
        for i, a in enumerate(max(0.5, round(v * (middle - 1), 1)) for v in envelope)
    )
    box = f'viewBox="0 0 {width} {height}" preserveAspectRatio="none"'
    return f'<svg class="wave" {box} aria-hidden="true"><path d="{bars}"/></svg>'


def _parse(fig: Figure) -> ET.Element:
    buffer = io.BytesIO()
    with quiet_style():
        fig.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    root = ET.fromstring(buffer.getvalue())
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag.rpartition("}")[2] in ("metadata", "style"):
                parent.remove(child)
    return root


def _referenced_ids(root: ET.Element) -> set[str]:
    used: set[str] = set()
    for element in root.iter():
        for name, value in element.attrib.items():
            if name.endswith("href") and value.startswith("#"):
                used.add(value[1:])
            used.update(_REFERENCE.findall(value))
    return used


def _attributes(element: ET.Element, prefix: str, used: set[str]) -> dict[str, str]:
    out: dict[str, str] = {}
    for full_name, value in element.attrib.items():
        name = full_name.rpartition("}")[2]
        if name == "id":
            if value in used:
                out["id"] = f"{prefix}-{value}"
            elif value.startswith("data-"):
                out["data-name"] = printable(value.removeprefix("data-"))
        elif name == "href":
            out["href"] = f"#{prefix}-{value[1:]}" if value.startswith("#") else value
        elif name == "style":
            out |= _presentation(value)
        else:
            out[name] = value
    rounded = {k: _short(v) if k != "data-name" else v for k, v in out.items()}
    return {k: _REFERENCE.sub(rf"url(#{prefix}-\1)", v) for k, v in rounded.items()}


def _presentation(style: str) -> dict[str, str]:
    """A style attribute's declarations as presentation attributes; ``font`` is taken apart."""
    out: dict[str, str] = {}
    for declaration in style.split(";"):
        name, _, value = (part.strip() for part in declaration.partition(":"))
        if name == "font" and (match := _FONT.match(value)):
            slant, weight, size = match.groups()
            out["font-size"] = size
            out |= {k: v for k, v in (("font-style", slant), ("font-weight", weight)) if v}
        elif _PROPERTIES.fullmatch(name):
            out[name] = _COLOURS.get(value.lower(), value)
    return out


def _short(value: str) -> str:
    """Two decimals are a hundredth of a point: more than any screen or printer shows."""
    return _NUMBER.sub(lambda match: f"{float(match[0]):.2f}".rstrip("0").rstrip("."), value)


def _unwrap_groups(element: ET.Element) -> None:
    """Removes groups that carry nothing, which is most of what Matplotlib writes."""
    children: list[ET.Element] = []
    for child in element:
        _unwrap_groups(child)
        if child.tag == "g" and not child.attrib:
            children.extend(child)
        elif child.tag != "defs" or len(child):
            children.append(child)
    element[:] = children


def swatch(name: str) -> str:
    """The mark of a class in running text: a filled disc for bona fide, a diamond for spoof."""
    shape = '<circle cx="5" cy="5" r="4"/>' if name == "bonafide" else '<path d="M5 .5 9.5 5 5 9.5.5 5Z"/>'
    return f'<svg class="swatch {escape(name)}" viewBox="0 0 10 10" aria-hidden="true">{shape}</svg>'
