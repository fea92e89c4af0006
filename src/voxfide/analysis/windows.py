"""A stream cut into sliding windows that are given out once the speech in them is known."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from voxfide.conditions import ConditionMeter, Segment, SpeechModel
from voxfide.types import SAMPLE_RATE, Float32Array, Seconds


class Piece(NamedTuple):
    """A window with its samples.

    Attributes:
        start, end: seconds from the start of the recording.
        speech: seconds of speech in it.
        waveform: ``(samples,)`` float32 at 16 kHz.
    """

    start: Seconds
    end: Seconds
    speech: Seconds
    waveform: Float32Array


@dataclass(frozen=True)
class _Cut:
    start: int
    waveform: Float32Array

    @property
    def end(self) -> int:
        return self.start + len(self.waveform)


class Listener:
    """Measures a 16 kHz stream and cuts it into windows, the same ones whatever the chunks.

    What is held is one window, and those whose speech is not known yet: some 4.5 s further.

    Args:
        window: length of a window, s.
        hop: from one start to the next, s; at most ``window``.
        speech: the network that tells speech, see :class:`~voxfide.conditions.SpeechDetector`.

    Attributes:
        meter: measures the stream; holds its speech segments.

    Raises:
        MissingDependencyError, CheckpointError: see :class:`~voxfide.conditions.ConditionMeter`.
    """

    def __init__(self, window: Seconds, hop: Seconds, speech: SpeechModel | None = None) -> None:
        self.meter = ConditionMeter(speech=speech)
        self._window = max(1, round(window * SAMPLE_RATE))
        self._hop = max(1, min(self._window, round(hop * SAMPLE_RATE)))
        self._buffer = np.zeros(0, np.float32)
        self._offset = 0  # of the buffer's first sample
        self._next = 0  # where the next window starts
        self._waiting: deque[_Cut] = deque()

    @property
    def n_samples(self) -> int:
        """Samples heard so far."""
        return self._offset + len(self._buffer)

    def push(self, chunk: Float32Array) -> list[Piece]:
        """The windows that are settled by the next ``(samples,)``, in order; often none.

        Raises:
            UsageError: not one-dimensional, or not finite.
        """
        self.meter.push(chunk)
        self._buffer = np.concatenate([self._buffer, chunk.astype(np.float32, copy=False)])
        while self.n_samples >= self._next + self._window:
            at = self._next - self._offset
            self._waiting.append(_Cut(self._next, self._buffer[at : at + self._window].copy()))
            self._next += self._hop
        # The window at the end may start as early as the sample after the start of the last one.
        keep = max(self._offset, self._next - self._hop)
        if keep - self._offset >= self._hop:
            self._buffer, self._offset = self._buffer[keep - self._offset :].copy(), keep
        return self._settled()

    def _settled(self) -> list[Piece]:
        if not self._waiting:
            return []
        open_segments, until = self.meter.known_speech()
        found = []
        while self._waiting and self._waiting[0].end <= until * SAMPLE_RATE:
            found.append(_piece(self._waiting.popleft(), self.meter.segments, open_segments))
        return found

    def end(self) -> list[Piece]:
        """The windows that are left, the last of which ends where the recording does.

        Call it once, after ``meter.finish``.
        """
        n = self.n_samples
        last = self._next - self._hop + self._window  # where the last regular window ended
        if n and (self._next == 0 or n > last):
            start = max(0, n - self._window)
            self._waiting.append(_Cut(start, self._buffer[start - self._offset :].copy()))
        found = [_piece(cut, self.meter.segments, []) for cut in self._waiting]
        self._waiting.clear()
        return found


def _piece(cut: _Cut, segments: Sequence[Segment], more: Sequence[Segment]) -> Piece:
    start, end = cut.start / SAMPLE_RATE, cut.end / SAMPLE_RATE
    return Piece(start, end, overlap(segments, start, end) + overlap(more, start, end), cut.waveform)


def overlap(segments: Sequence[Segment], start: Seconds, end: Seconds) -> Seconds:
    """Seconds of ``[start, end]`` that lie in segments, which are in order and do not overlap."""
    total = 0.0
    for segment in reversed(segments):
        if segment.end <= start:
            break
        total += max(0.0, min(segment.end, end) - max(segment.start, start))
    return total
