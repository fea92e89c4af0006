"""Players of the parts of a recording that matter, and which of them a marked stretch leads to."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final

from voxfide.conditions import Segment
from voxfide.report.element import Element
from voxfide.report.markup import escape
from voxfide.report.players import encode_mp3
from voxfide.report.recording_timeline import clock, span
from voxfide.report.recording_why import signed
from voxfide.types import SAMPLE_RATE, Float32Array, Seconds

if TYPE_CHECKING:
    from voxfide.analysis.result import Analysis, Stretch

WHOLE_UP_TO: Final[Seconds] = 60.0
"""A recording of at most this length is played whole; of a longer one its stretches are."""

MAX_PLAYERS: Final = 8
LONGEST: Final[Seconds] = 12.0
AROUND: Final[Seconds] = 1.0
"""Of the recording before and after a stretch, in its player."""


@dataclass(frozen=True)
class Part:
    """A part of the recording that gets a player.

    Attributes:
        stretches: numbers, from 0, of the marked stretches that start in it.
    """

    segment: Segment
    title: str
    stretches: tuple[int, ...] = ()

    def start_of(self, stretch: Stretch) -> Seconds:
        """Where a stretch starts in this part."""
        return max(0.0, stretch.start - self.segment.start)


@dataclass(frozen=True)
class Player:
    """A part with its sound as MP3."""

    part: Part
    mp3: bytes
    seconds: Seconds


@dataclass(frozen=True)
class Excerpts(Element):
    """A block of players, with a link for each stretch that a player holds beside others."""

    assets: ClassVar[tuple[str, ...]] = ("recording.css", "recording.js")
    players: Sequence[Player]
    stretches: Sequence[Stretch]

    def to_html(self) -> str:
        items = "".join(self._player(number, player) for number, player in enumerate(self.players, 1))
        return f'<ul class="excerpts">{items}</ul>'

    def _player(self, number: int, player: Player) -> str:
        part = player.part
        data = base64.b64encode(player.mp3).decode("ascii")
        links = ""
        if len(part.stretches) > 1 or part.segment.start == 0:
            links = "".join(self._link(number, part, i) for i in part.stretches)
            links = f'<p class="seek">{links}</p>' if links else ""
        title = escape(part.title)
        return (
            f'<li id="{player_id(number)}" tabindex="-1"><p class="excerpt-title">{title}</p>'
            f'<audio controls preload="metadata" aria-label="Play: {title}" '
            f'data-start="{part.segment.start:.3f}" data-end="{part.segment.start + player.seconds:.3f}" '
            f'src="data:audio/mpeg;base64,{data}"></audio>{links}</li>'
        )

    def _link(self, number: int, part: Part, i: int) -> str:
        stretch = self.stretches[i]
        text = f"Stretch {i + 1} at {clock(stretch.start, 0.1)} ({signed(stretch.score)})"
        at = f"{part.start_of(stretch):.2f}"
        return f'<a href="#{player_id(number)}" data-at="{at}">{escape(text)}</a>'


def player_id(number: int) -> str:
    """Of the ``number``-th player, from 1."""
    return f"excerpt-{number}"


def choose_parts(analysis: Analysis) -> list[Part]:
    """What gets a player: a short recording as a whole; of a long one the stretches that score lowest.

    A long recording without a marked stretch gets the window that scores lowest.
    """
    total = analysis.conditions.seconds
    if total <= WHOLE_UP_TO:
        return [Part(Segment(0.0, total), "The whole recording", tuple(range(len(analysis.stretches))))]
    numbered = sorted(enumerate(analysis.stretches), key=lambda item: (item[1].score, item[1].start))
    parts = []
    for i, stretch in sorted(numbered[:MAX_PLAYERS]):
        start = max(0.0, stretch.start - AROUND)
        end = min(stretch.end + AROUND, start + LONGEST, total)
        cut = ", its beginning" if stretch.end > end else ""
        title = f"Stretch {i + 1}: {span(stretch.start, stretch.end)}{cut}, score {signed(stretch.score)}"
        parts.append(Part(Segment(start, end), title, (i,)))
    if not parts and analysis.windows:
        lowest = min(analysis.windows, key=lambda window: (window.score, window.start))
        segment = Segment(lowest.start, min(lowest.end, lowest.start + LONGEST))
        title = f"The window that scores lowest: {span(*segment)}, score {signed(lowest.score)}"
        parts.append(Part(segment, title))
    return parts


def make_players(parts: Sequence[Part], sounds: Sequence[Float32Array]) -> list[Player]:
    """The parts with their sounds ``(samples,)`` at 16 kHz; parts without a sound are left out."""
    pairs = zip(parts, sounds, strict=True)
    return [Player(part, encode_mp3(s), len(s) / SAMPLE_RATE) for part, s in pairs if len(s)]


def targets(players: Sequence[Player], stretches: Sequence[Stretch]) -> dict[int, tuple[str, Seconds]]:
    """Number of a stretch, from 0 → id of the player that holds it, and where it starts there."""
    return {
        i: (player_id(number), player.part.start_of(stretches[i]))
        for number, player in enumerate(players, 1)
        for i in player.part.stretches
    }


def excerpt_words(analysis: Analysis, n_players: int) -> str:
    """How much of the recording can be heard in the page."""
    how = "re-encoded as 32 kbit/s MP3 at 16 kHz; for a judgement by ear go back to the original file"
    if analysis.conditions.seconds <= WHOLE_UP_TO:
        return f"The player holds the whole recording, {how}."
    if not analysis.stretches:
        return f"The player holds the window that scores lowest, {how}."
    which = "all marked stretches"
    if n_players < len(analysis.stretches):
        which = f"the {n_players} marked stretches, of {len(analysis.stretches)}, that score lowest"
    return (
        f"Players hold {which}, with {AROUND:g} s before and after, {LONGEST:g} s each at most, {how}. "
        "The rest of the recording is not in this page."
    )
