"""Where somebody speaks: segments from a stream, by silero-vad, with hysteresis."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol

import numpy as np

from voxfide.errors import MissingDependencyError, UsageError
from voxfide.types import SAMPLE_RATE, Float32Array, Seconds

WINDOW: Final = 512
"""Samples that share one decision: 32 ms."""

_BATCH: Final = 64
"""Windows that the network takes at a time, always as many: the numbers do not depend on the chunks."""


class ProbabilityStream(Protocol):
    """Hears a recording from left to right."""

    def push(self, signal: Float32Array) -> list[float]:
        """Probabilities of speech in the next ``(512 · windows,)`` samples, one for each window."""


class SpeechModel(Protocol):
    """A network that tells speech, in whatever runtime."""

    def listen(self) -> ProbabilityStream:
        """Starts a recording."""


class Segment(NamedTuple):
    """A stretch of time, in seconds from the start of the recording."""

    start: Seconds
    end: Seconds


@dataclass(frozen=True)
class SpeechRule:
    """When probabilities make a segment; the defaults and their meaning are silero-vad's own.

    Attributes:
        enter: a segment starts at the first window whose probability is at least this.
        leave: it ends where the probability falls below this ...
        min_silence: ... and does not come back to ``enter`` for this long, s.
        min_speech: segments that are not longer than this are dropped, s.
        padding: added at both ends, s; at most half of the gap to a neighbour.

    Raises:
        UsageError: thresholds out of order or negative times.
    """

    enter: float = 0.5
    leave: float = 0.35
    min_silence: Seconds = 0.1
    min_speech: Seconds = 0.25
    padding: Seconds = 0.03

    def __post_init__(self) -> None:
        if not 0 <= self.leave <= self.enter <= 1:
            raise UsageError(f"expected 0 <= leave <= enter <= 1, got {self.leave} and {self.enter}")
        if not min(self.min_silence, self.min_speech, self.padding) >= 0:
            raise UsageError("expected min_silence, min_speech and padding of at least 0 s")


@dataclass
class Hysteresis:
    """Window probabilities to segments, in samples; holds back one segment at most.

    The rule is ``get_speech_timestamps`` of silero-vad 6.2 without a longest duration.
    """

    rule: SpeechRule = field(default_factory=SpeechRule)
    _windows: int = 0
    _start: int | None = None  # of the segment that is going on
    _fall: int | None = None  # where it may have ended
    _left: int = 0  # where the segment that is held back starts, padded
    _held: tuple[int, int] | None = None

    def push(self, probability: float) -> list[tuple[int, int]]:
        """Judges the next window and gives the segments that are settled by it, none or one."""
        now = self._windows * WINDOW
        self._windows += 1
        if probability >= self.rule.enter:
            self._fall = None
            if self._start is None:
                self._start = now
            return []
        if self._start is None or probability >= self.rule.leave:
            return []
        if self._fall is None:
            self._fall = now
        if now - self._fall < self.rule.min_silence * SAMPLE_RATE:
            return []
        start, end = self._start, self._fall
        self._start = self._fall = None
        return self._keep(start, end)

    def finish(self, n_samples: int) -> list[tuple[int, int]]:
        """The segments that were still open; the recording has ``n_samples``."""
        settled = [] if self._start is None else self._keep(self._start, n_samples)
        if self._held is not None:
            settled.append((self._left, min(n_samples, self._held[1] + self._padding)))
        self._start = self._fall = self._held = None
        return settled

    def known(self) -> tuple[list[tuple[int, int]], int]:
        """What is sure already of the segments that were not given out yet.

        Returns:
            Stretches in samples, the last as far as it has come; and the sample up to which they, with
            the segments given out before, are all the speech there is. It stays behind the windows judged
            by no more than ``min_speech``, ``min_silence``, the padding and two windows together; by more
            only while probabilities hover between ``leave`` and ``enter`` after a fall: that decides nothing.
        """
        now, padding = self._windows * WINDOW, self._padding
        heard = now if self._fall is None else self._fall
        held = [] if self._held is None else [(self._left, self._held[1] + padding)]
        start = self._start
        if start is not None and heard - start > self.rule.min_speech * SAMPLE_RATE:
            if self._held is None:
                return [(max(0, start - padding), heard)], heard
            gap = start - self._held[1]
            share = padding if gap >= 2 * padding else gap // 2
            return [(self._left, self._held[1] + share), (start - share, heard)], heard
        # What comes next, if anything, starts here at the earliest; its padding may shorten that of the last.
        earliest = now if start is None else start
        if self._held is not None and earliest - self._held[1] < 2 * padding:
            return [(self._left, self._held[1])], self._held[1]
        return held, max(0, earliest - padding)

    @property
    def _padding(self) -> int:
        return int(self.rule.padding * SAMPLE_RATE)

    def _keep(self, start: int, end: int) -> list[tuple[int, int]]:
        """Holds a segment back until the next is known, with which it shares the gap between them."""
        if end - start <= self.rule.min_speech * SAMPLE_RATE:
            return []
        before, self._held = self._held, (start, end)
        if before is None:
            self._left = max(0, start - self._padding)
            return []
        gap = start - before[1]
        share = self._padding if gap >= 2 * self._padding else gap // 2
        settled = (self._left, before[1] + share)
        self._left = start - share
        return [settled]


class SpeechDetector:
    """Speech segments of a 16 kHz stream, the same ones whatever the chunks.

    Constant memory: what is held is less than 2.1 s of signal, and one segment. Times are exact to
    the sample within the network's grid of 32 ms.

    Args:
        rule: when probabilities make a segment.
        model: that gives them; the network of the installed silero-vad, run by torch, where left out.

    Raises:
        MissingDependencyError: silero-vad or torch is not installed.
        CheckpointError: its weights cannot be read.
    """

    def __init__(self, rule: SpeechRule | None = None, model: SpeechModel | None = None) -> None:
        self._stream = _silero() if model is None else model.listen()
        self._hysteresis = Hysteresis(rule or SpeechRule())
        self._waiting: list[Float32Array] = []
        self._n_waiting = 0
        self._n_samples = 0

    def push(self, chunk: Float32Array) -> list[Segment]:
        """The segments settled by the next ``(samples,)`` float32, in order; often none."""
        self._waiting.append(chunk)
        self._n_waiting += len(chunk)
        self._n_samples += len(chunk)
        size = _BATCH * WINDOW
        if self._n_waiting < size:
            return []
        signal = np.concatenate(self._waiting)
        whole = len(signal) // size * size
        found = [s for start in range(0, whole, size) for s in self._judge(signal[start : start + size])]
        self._waiting, self._n_waiting = [signal[whole:].copy()], len(signal) - whole
        return found

    def known(self) -> tuple[list[Segment], Seconds]:
        """What is sure of the segments still open, and the time up to which all speech is known.

        See :meth:`Hysteresis.known`; with the default rule that time stays behind what was pushed by 3 s, and
        by more only where that says so.
        """
        stretches, until = self._hysteresis.known()
        return [_seconds(s) for s in stretches], until / SAMPLE_RATE

    def finish(self) -> list[Segment]:
        """The segments that were still open; call once, at the end."""
        found = []
        if self._n_waiting:
            signal = np.concatenate(self._waiting)
            # The network's last window is filled up with silence, as silero-vad does.
            found = self._judge(np.pad(signal, (0, -len(signal) % WINDOW)))
        self._waiting, self._n_waiting = [], 0
        return found + [_seconds(s) for s in self._hysteresis.finish(self._n_samples)]

    def _judge(self, signal: Float32Array) -> list[Segment]:
        probabilities = self._stream.push(signal)
        return [_seconds(s) for p in probabilities for s in self._hysteresis.push(p)]


def _silero() -> ProbabilityStream:
    try:
        from voxfide.conditions.silero import SileroStream
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise MissingDependencyError(
            "finding speech needs PyTorch and silero-vad (pip install 'voxfide[full]'), or an exported "
            "detector, which brings a network of its own"
        ) from error
    return SileroStream()


def _seconds(segment: tuple[int, int]) -> Segment:
    return Segment(segment[0] / SAMPLE_RATE, segment[1] / SAMPLE_RATE)
