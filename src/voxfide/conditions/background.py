"""What sounds between the words: how loud it is, and whether it keeps its pitch as music does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from voxfide.conditions.filters import hann, running_mean
from voxfide.types import SAMPLE_RATE, BoolArray, Float32Array, Float64Array, Seconds

if TYPE_CHECKING:
    from voxfide.conditions.speech import Segment

FRAME: Final = 1024
HOP: Final = 512
_BINS: Final = slice(6, 256)  # 94 to 4000 Hz
_APART: Final = FRAME // HOP  # frames whose samples do not overlap
_SMOOTH: Final = 15  # bins, 234 Hz: what is wider is the colour of the sound, not its pitch
_FLOOR: Final = 1e-14
_GUARD: Final = round(0.05 * SAMPLE_RATE)  # samples beside speech that belong to neither
_ENOUGH: Final = 10  # frames


@dataclass(frozen=True)
class BackgroundSummary:
    """What :class:`Background` found; ``None`` with less than a third of a second outside speech.

    Attributes:
        level_db: mean power outside speech, dB re full scale.
        steadiness: from 0 (noise) towards 1 (held tones).
    """

    level_db: float | None = None
    steadiness: float | None = None


class Background:
    """Level and steadiness of the sound outside speech segments, in frames of 64 ms every 32 ms (Hann).

    **Steadiness.** The log spectrum of a frame, 94 to 4000 Hz, less its running mean over 234 Hz, leaves the
    lines of tones. It is correlated with that of the frame 64 ms before, which shares no sample with it; the
    mean of that, weighted by power, is the steadiness. Two frames of noise have nothing in common.

    Frames wait until it is known whether they are speech: some 4.5 s of scalars.
    """

    def __init__(self) -> None:
        window = hann(FRAME)
        self._window = window
        self._scale = 2 / (FRAME * float(np.vdot(window, window)))
        self._rest = np.zeros(0, np.float32)
        self._lines = np.zeros((0, 250))  # of the last frames
        self._waiting = np.zeros((0, 3))  # power, weight and correlation of each frame
        self._first = 0  # number of the first that waits
        self._outside = np.zeros(_APART, bool)  # whether those before it lie outside speech
        self._n = 0
        self._power = self._weight = self._correlation = 0.0

    def push(self, signal: Float32Array) -> None:
        """Takes the next ``(samples,)`` at 16 kHz."""
        signal = np.concatenate([self._rest, signal])
        n = max(0, (len(signal) - FRAME) // HOP + 1)
        self._rest = signal[n * HOP :].copy()
        if not n:
            return
        frames = np.lib.stride_tricks.sliding_window_view(signal, FRAME)[::HOP][:n]
        spectra = np.fft.rfft(frames * self._window)[:, 1:]
        power = self._scale * (spectra.real**2 + spectra.imag**2)
        banded = power[:, _BINS.start - 1 : _BINS.stop - 1]
        log = np.log(banded + _FLOOR)
        lines = np.concatenate([self._lines, log - running_mean(log, _SMOOTH)])
        missing = n + _APART - len(lines)  # at the very start there is nothing to compare with
        correlation = np.concatenate([np.zeros(missing), _correlation(lines[:-_APART], lines[_APART:])])
        self._lines = lines[-_APART:]
        rows = np.stack([power.sum(axis=1), banded.sum(axis=1), correlation[-n:]], axis=1)
        self._waiting = np.concatenate([self._waiting, rows])

    def settle(self, segments: Sequence[Segment], more: Sequence[Segment], until: Seconds) -> None:
        """Counts the frames up to a time before which all speech is known.

        Args:
            segments, more: speech, in order.
            until: seconds.
        """
        last = (min(until, 1e9) * SAMPLE_RATE - _GUARD - FRAME) // HOP  # the last frame that is settled
        n = min(len(self._waiting), max(0, int(last) + 1 - self._first))
        if not n:
            return
        starts = (self._first + np.arange(n)) * HOP
        outside = np.ones(n, bool)
        for group in (segments, more):
            for segment in reversed(group):
                start, end = segment.start * SAMPLE_RATE - _GUARD, segment.end * SAMPLE_RATE + _GUARD
                if end <= starts[0]:
                    break
                outside &= (starts + FRAME <= start) | (starts >= end)
        self._count(self._waiting[:n], outside)
        self._waiting = self._waiting[n:].copy()
        self._first += n

    def _count(self, rows: Float64Array, outside: BoolArray) -> None:
        power, weight, correlation = rows.T
        joined = np.concatenate([self._outside, outside])
        both = joined[:-_APART] & outside
        self._outside = joined[-_APART:]
        self._n += int(outside.sum())
        self._power += float(power[outside].sum())
        self._weight += float(weight[both].sum())
        self._correlation += float((weight * correlation)[both].sum())

    def finish(self) -> BackgroundSummary:
        """Judges what was settled; the end of the recording has to be settled first."""
        if self._n < _ENOUGH or self._power <= 0 or self._weight <= 0:
            return BackgroundSummary()
        level = 10 * np.log10(self._power / self._n)
        return BackgroundSummary(float(level), float(np.clip(self._correlation / self._weight, 0, 1)))


def _correlation(one: Float64Array, other: Float64Array) -> Float64Array:
    """Of each row with the row of the same number; 0 where one is flat."""
    product = (one * other).sum(axis=1)
    norm = np.sqrt((one**2).sum(axis=1) * (other**2).sum(axis=1))
    return np.divide(product, norm, out=np.zeros_like(product), where=norm > 1e-9)
