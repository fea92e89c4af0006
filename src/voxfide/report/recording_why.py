"""Why a recording scores as it does, as figures with tables behind them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from voxfide.report.drawing import Drawing, Drawn, Ink, Label, Lines, Rectangle, Shape
from voxfide.report.page import Block, Folded, Prose
from voxfide.report.tables import Column, Table
from voxfide.types import Seconds

if TYPE_CHECKING:
    from voxfide.analysis.result import Explanation, LayerWeight, MemberScore

_WIDTH: Final = 540.0
_ROW: Final = 24.0

OCCLUSION: Final = (
    "Each frequency band was taken out of the excerpt by a filter without phase, and the excerpt was scored "
    "again. The bar is what the score loses by that: above 0 the band speaks for bona fide, below 0 for a "
    "spoof. It shows what this detector listens to in this excerpt. It does not show where a forgery lies: "
    "bands interact, so the bars need not add up to the score, and speech without a band may itself be "
    "something that the detector does not know."
)
LAYERS: Final = (
    "How much the detector draws on each layer of its front-end. The weights were learnt in training and are "
    "the same for every recording."
)
MEMBERS: Final = (
    "The detector joins several. Each stands here with its own score of the excerpt, on its own scale, and "
    "with what that adds to the joint score (its weight times its score), before a calibration of the whole."
)


def why_blocks(why: Explanation) -> list[Block]:
    """What there is of an explanation: bands, members, layers."""
    blocks: list[Block] = []
    if why.bands and why.excerpt is not None and why.baseline is not None:
        blocks += _bands(why, (why.excerpt.start, why.excerpt.end), why.baseline)
    if why.members:
        blocks += _members(why.members, why.agreement)
    if why.layers:
        blocks += _layers(why.layers)
    return blocks


def signed(value: float, places: int = 2) -> str:
    """With its sign; what rounds to nothing has none."""
    text = f"{value:+.{places}f}"
    return f"{0:.{places}f}" if float(text) == 0 else text.replace("-", "−")


def _bands(why: Explanation, excerpt: tuple[Seconds, Seconds], baseline: float) -> list[Block]:
    rows = [(f"{b.low_hz:,.0f}–{b.high_hz:,.0f} Hz", b.contribution) for b in why.bands]
    where = f"{excerpt[0]:.2f} to {excerpt[1]:.2f} s"
    strongest = max(rows, key=lambda row: abs(row[1]))
    alt = (
        f"Contribution of {len(rows)} frequency bands to the score. The largest is that of "
        f"{strongest[0]}: {signed(strongest[1])}."
    )
    table = Table(
        [Column("band", "Band"), Column("contribution", "Contribution", "+.3f")],
        rows,
        f"Contributions of frequency bands. The excerpt as it is scores {signed(baseline)}.",
    )
    caption = (
        f"Contribution of frequency bands to the score of the excerpt from {where}, {signed(baseline)}. "
        "Bands are equally wide on the mel scale."
    )
    drawing = diverging_bars(rows[::-1], alt, "speaks for a spoof", "speaks for bona fide")
    return [Prose([OCCLUSION]), Drawn(drawing, caption), Folded("The contributions as a table", [table])]


def _members(members: Sequence[MemberScore], agreement: float | None) -> list[Block]:
    columns = [
        Column("name", "Member"),
        Column("score", "Own score", "+.3f"),
        Column("threshold", "Bona fide from", "+.3f"),
        Column("side", "Alone it says"),
        Column("contribution", "Adds to the joint score", "+.3f"),
    ]
    rows = [
        (m.name, m.score, m.threshold, "bona fide" if m.score >= m.threshold else "spoof", m.contribution)
        for m in members
    ]
    caption = "Members of the detector."
    if agreement is not None:
        n = round(agreement * len(members))
        caption += f" {n} of {len(members)} are on the side that the joint score is on."
    return [Prose([MEMBERS]), Table(columns, rows, caption)]


def _layers(layers: Sequence[LayerWeight]) -> list[Block]:
    blocks: list[Block] = [Prose([LAYERS])]
    for member in dict.fromkeys(layer.member for layer in layers):
        own = [layer for layer in layers if layer.member == member]
        of = "" if member is None else f" of {member}"
        top = max(own, key=lambda layer: layer.weight)
        alt = f"Weights of {len(own)} layers{of}. The largest is that of layer {top.layer}: {top.weight:.3f}."
        caption = f"Learnt weight of each layer{of}; they add up to 1."
        rows = [(layer.layer, layer.weight) for layer in own]
        table = Table(
            [Column("layer", "Layer"), Column("weight", "Weight", ".4f")], rows, f"Layer weights{of}."
        )
        blocks += [Drawn(weight_columns(rows, alt), caption), Folded(f"The weights{of} as a table", [table])]
    return blocks


def diverging_bars(rows: Sequence[tuple[str, float]], alt: str, left: str, right: str) -> Drawing:
    """Bars to both sides of 0, a row each, with their names and values."""
    start, end = 130.0, _WIDTH - 60
    reach = max((abs(value) for _, value in rows), default=0.0) or 1.0
    zero, half = (start + end) / 2, (end - start) / 2
    bottom = 22 + _ROW * len(rows)
    shapes: list[Shape] = [
        Label(start, 12, left, ink="s2"),
        Label(end, 12, right, "end", ink="s1"),
        Lines([[(zero, 18), (zero, bottom)]], Ink(stroke="muted")),
    ]
    for i, (name, value) in enumerate(rows):
        y = 22 + i * _ROW
        length = abs(value) / reach * half
        ink = Ink(fill="s1" if value > 0 else "s2", opacity=0.85)
        shapes += [
            Label(start - 12, y + 16, name, "end", 12, "ink"),
            Rectangle(zero if value > 0 else zero - length, y + 4, length, _ROW - 8, ink),
            Label(_WIDTH, y + 16, signed(value), "end", 12, "ink"),
        ]
    return Drawing(_WIDTH, bottom + 4, shapes, alt)


def weight_columns(rows: Sequence[tuple[int, float]], alt: str) -> Drawing:
    """A column for the weight of each layer, from 0."""
    left, top, height = 46.0, 8.0, 130.0
    reach = max((weight for _, weight in rows), default=0.0) or 1.0
    pitch = (_WIDTH - left) / max(len(rows), 1)
    width = min(0.7 * pitch, 36.0)
    every = -(-len(rows) // 24)
    base = top + height
    shapes: list[Shape] = []
    for share in (0.0, 0.5, 1.0):
        y = base - share * height
        shapes.append(Lines([[(left, y), (_WIDTH, y)]], Ink(stroke="muted" if share == 0 else "grid")))
        shapes.append(Label(left - 6, y + 4, f"{share * reach:.2f}", "end"))
    for i, (layer, weight) in enumerate(rows):
        x = left + (i + 0.5) * pitch
        tall = weight / reach * height
        shapes.append(Rectangle(x - width / 2, base - tall, width, tall, Ink(fill="s1", opacity=0.85)))
        if i % every == 0:
            shapes.append(Label(x, base + 15, str(layer), "middle"))
    shapes.append(Label((left + _WIDTH) / 2, base + 30, "layer", "middle"))
    return Drawing(_WIDTH, base + 36, shapes, alt)
