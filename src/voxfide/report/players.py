"""Short clips inside the page: audio re-encoded small, drawn, and playable offline."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from voxfide.errors import AudioError
from voxfide.report.markup import escape
from voxfide.report.svg import swatch, waveform_svg
from voxfide.types import BONAFIDE, SAMPLE_RATE, SPOOF, Float32Array, Seconds

_LABEL_TEXT = {BONAFIDE: "bona fide", SPOOF: "spoof"}
_ENVELOPE_COLUMNS = 120
_MP3_COMPRESSION = 0.87
"""libsndfile's scale; gives 32 kbit/s at 16 kHz. MP3 is what every browser plays."""


@dataclass(frozen=True)
class Budget:
    """How much audio a page may carry.

    Attributes:
        clips: players at most.
        seconds: of each recording, from its start.
        bytes: of all clips together, as they stand in the page (base64).
    """

    clips: int = 12
    seconds: Seconds = 10.0
    bytes: int = 1_500_000


@dataclass(frozen=True)
class Audio:
    """An encoded clip: MP3 bytes, its length and the recording's, and an outline in [0, 1]."""

    mp3: bytes
    seconds: Seconds
    total_seconds: Seconds
    envelope: tuple[float, ...]


@dataclass(frozen=True)
class Clip:
    """One recording to be shown; without ``audio``, ``reason`` says why there is none."""

    name: str
    label: str
    score: float
    remark: str = ""
    details: Mapping[str, str] = field(default_factory=dict)
    audio: Audio | None = None
    reason: str = ""


@dataclass(frozen=True)
class Players:
    """A block of the page: a card for each clip."""

    clips: Sequence[Clip]

    def to_html(self) -> str:
        return '<ul class="players">' + "".join(_card(clip) for clip in self.clips) + "</ul>"


def encode_clip(path: Path, seconds: Seconds = Budget.seconds) -> Audio:
    """The first ``seconds`` of a recording as 32 kbit/s mono MP3 at 16 kHz.

    Raises:
        AudioError: the file cannot be decoded.
    """
    from voxfide.audio import load_audio

    waveform = load_audio(path).waveform
    clip = waveform[: round(seconds * SAMPLE_RATE)]
    return Audio(encode_mp3(clip), clip.size / SAMPLE_RATE, waveform.size / SAMPLE_RATE, _envelope(clip))


def add_audio(clips: Iterable[Clip], paths: Mapping[str, Path], budget: Budget | None = None) -> list[Clip]:
    """The same clips with audio, as far as files and budget go; the others with the reason."""
    budget = budget or Budget()
    out: list[Clip] = []
    left, players = budget.bytes, 0
    for clip in clips:
        audio, reason = None, "left out to keep the page small"
        if clip.name not in paths:
            reason = "no path to the audio was given"
        elif players < budget.clips and left > 0:
            try:
                audio = encode_clip(Path(paths[clip.name]), budget.seconds)
            except AudioError as error:
                reason = error.reason
            else:
                size = 4 * -(-len(audio.mp3) // 3)
                if size > left:
                    audio = None
                else:
                    left, players, reason = left - size, players + 1, ""
        out.append(Clip(clip.name, clip.label, clip.score, clip.remark, clip.details, audio, reason))
    return out


def encode_mp3(waveform: Float32Array) -> bytes:
    """A mono ``waveform (samples,)`` at 16 kHz as MP3 of 32 kbit/s."""
    import soundfile

    buffer = io.BytesIO()
    soundfile.write(
        buffer,
        np.clip(waveform, -1.0, 1.0),
        SAMPLE_RATE,
        format="MP3",
        subtype="MPEG_LAYER_III",
        bitrate_mode="CONSTANT",
        compression_level=_MP3_COMPRESSION,
    )
    return buffer.getvalue()


def _envelope(waveform: Float32Array) -> tuple[float, ...]:
    """Largest magnitude in each of equal stretches, relative to the loudest."""
    columns = min(_ENVELOPE_COLUMNS, waveform.size)
    if columns == 0:
        return ()
    starts = np.arange(columns) * waveform.size // columns
    peaks = np.maximum.reduceat(np.abs(waveform), starts)
    loudest = float(peaks.max()) or 1.0
    return tuple(round(float(p) / loudest, 3) for p in peaks)


def _card(clip: Clip) -> str:
    name, label = escape(clip.name), _LABEL_TEXT.get(clip.label, clip.label)
    details = "".join(
        f"<div><dt>{escape(key)}</dt><dd><bdi>{escape(value)}</bdi></dd></div>"
        for key, value in clip.details.items()
    )
    remark = f'<p class="remark">{escape(clip.remark)}</p>' if clip.remark else ""
    badge = f'<span class="badge">{swatch(clip.label)}{escape(label)}</span>'
    score = f'<span class="score">score <b>{clip.score:.3f}</b></span>'.replace("-", "−")
    return (
        f'<li class="clip"><div class="clip-head">{badge}{score}</div>'
        f'<p class="clip-name"><bdi>{name}</bdi></p>{remark}{_sound(clip, name)}'
        f'<dl class="facts">{details}</dl></li>'
    )


def _sound(clip: Clip, name: str) -> str:
    if clip.audio is None:
        return f'<p class="no-audio">No player: {escape(clip.reason)}</p>' if clip.reason else ""
    data = base64.b64encode(clip.audio.mp3).decode("ascii")
    cut = ""
    if clip.audio.seconds < clip.audio.total_seconds:
        cut = f"first {clip.audio.seconds:.1f} s of {clip.audio.total_seconds:.1f} s"
        cut = f'<p class="length">{cut}</p>'
    return (
        f'{waveform_svg(clip.audio.envelope)}<audio controls preload="metadata" aria-label="Play {name}" '
        f'src="data:audio/mpeg;base64,{data}"></audio>{cut}'
    )
