"""The part of a recording that an explanation looks at, chosen from the analysis and read from a stream."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import numpy as np

from voxfide.audio import AudioSource, stream_audio
from voxfide.conditions import Segment
from voxfide.errors import AudioTooShortError
from voxfide.types import SAMPLE_RATE, Float32Array, Float64Array, Seconds

if TYPE_CHECKING:
    from voxfide.analysis.result import Analysis

SHORTEST: Final[Seconds] = 2.0
"""A stretch shorter than this is widened evenly, as far as the recording goes."""


def choose_excerpt(analysis: Analysis, seconds: Seconds) -> Segment | None:
    """The excerpt that matters: at most ``seconds`` of the recording.

    Within the marked stretch that scores lowest, if there is one; else within the whole recording.
    Of what is longer, the part with the most speech counts; of equals the first.

    Returns:
        ``None`` where nothing was scored.
    """
    if analysis.score is None:
        return None
    total = analysis.conditions.seconds
    start, end = 0.0, total
    if analysis.stretches:
        worst = min(analysis.stretches, key=lambda stretch: (stretch.score, stretch.start))
        start, end = _widened(worst.start, worst.end, total, min(SHORTEST, seconds))
    if end - start <= seconds:
        return Segment(start, end)
    return _richest(analysis.speech, start, end, seconds)


def read_excerpt(source: AudioSource, segment: Segment) -> Float32Array:
    """Samples ``(samples,)`` of a part of a recording at 16 kHz, in constant memory; reads no further.

    Raises:
        AudioError: the file cannot be decoded as far as that.
        AudioTooShortError: it ends before the part begins.
    """
    first, last = round(segment.start * SAMPLE_RATE), round(segment.end * SAMPLE_RATE)
    held: list[Float32Array] = []
    position = 0
    with stream_audio(source, allow_silent=True, allow_truncated=True) as stream:
        for chunk in stream:
            held.append(chunk[max(0, first - position) : max(0, last - position)])
            position += len(chunk)
            if position >= last:
                break
    excerpt = np.concatenate(held) if held else np.zeros(0, np.float32)
    if not len(excerpt):
        name = str(source) if isinstance(source, str) or hasattr(source, "__fspath__") else "<audio>"
        raise AudioTooShortError(
            name, f"ends after {position / SAMPLE_RATE:.2f} s", f"audio from {segment.start:.2f} s on"
        )
    return excerpt


def _widened(start: Seconds, end: Seconds, total: Seconds, least: Seconds) -> tuple[Seconds, Seconds]:
    """A stretch of at least ``least`` seconds around this one, if the recording has as many."""
    missing = max(0.0, least - (end - start))
    start = max(0.0, start - missing / 2)
    end = min(total, max(end, start + least))
    return max(0.0, min(start, end - least)), end


def _richest(speech: Sequence[Segment], start: Seconds, end: Seconds, seconds: Seconds) -> Segment:
    """Of ``[start, end]``, the first ``seconds`` long part with the most speech."""
    if not speech:
        return Segment(start, start + seconds)
    bounds = np.array(speech, np.float64)
    # The amount of speech in a sliding part can only peak where an end of it meets an end of a segment.
    candidates = np.concatenate([[start], bounds.ravel(), bounds.ravel() - seconds])
    candidates = np.unique(np.clip(candidates, start, end - seconds))
    amount = _speech_before(bounds, candidates + seconds) - _speech_before(bounds, candidates)
    best = float(candidates[np.argmax(np.round(amount, 6))])
    return Segment(best, best + seconds)


def _speech_before(bounds: Float64Array, times: Float64Array) -> Float64Array:
    """Seconds of speech before each of ``times``; ``bounds (segments, 2)`` in order."""
    spoken = np.concatenate([[0.0], np.cumsum(bounds[:, 1] - bounds[:, 0])])
    steps = np.stack([spoken[:-1], spoken[1:]], axis=1).ravel()
    return np.interp(times, bounds.ravel(), steps)
