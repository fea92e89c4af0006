"""How loud the speech is: ITU-T P.56 on a stream."""

from __future__ import annotations

from typing import Final

import numpy as np

from voxfide.conditions.filters import smoothed
from voxfide.types import SAMPLE_RATE, Float32Array, Float64Array

MARGIN_DB: Final = 15.9
_TIME_CONSTANT: Final = 0.03
_HANGOVER: Final = round(0.2 * SAMPLE_RATE)
_STEPS: Final = np.arange(-20, 4)
"""Powers of two: thresholds from 2^-20 of full scale, far below one 16-bit step, to 18 dB above it."""


class ActiveLevel:
    """The active speech level of ITU-T Recommendation P.56 (12/2011), method B, of a 16 kHz stream.

    The envelope of the signal is smoothed twice with 30 ms. For each of the thresholds, an octave apart,
    the time is counted in which the envelope is above it or was so within 200 ms. The level is the one
    at which the energy spread over that time lies 15.9 dB above the threshold, interpolated in dB. A
    signal with no such point, as a very short one, is active throughout.
    """

    def __init__(self) -> None:
        self._pole = float(np.exp(-1 / (SAMPLE_RATE * _TIME_CONSTANT)))
        self._memory = [0.0, 0.0]  # last output of each stage
        self._counts = np.zeros(len(_STEPS), np.int64)
        self._last = np.full(len(_STEPS), -1, np.int64)  # sample at which the threshold was last passed
        self._energy = 0.0
        self._n_samples = 0

    def push(self, signal: Float32Array) -> None:
        """Takes the next ``(samples,)``."""
        if not len(signal):
            return
        envelope = np.abs(signal.astype(np.float64))
        self._energy += float(np.vdot(envelope, envelope))
        for stage in range(2):
            envelope = smoothed(envelope, self._pole, self._memory[stage])
            self._memory[stage] = float(envelope[-1])
        highest = float(envelope.max())
        for index, threshold in enumerate(2.0**_STEPS):
            if threshold > highest:
                break
            self._count(index, np.flatnonzero(envelope >= threshold) + self._n_samples)
        self._n_samples += len(signal)

    def _count(self, index: int, above: np.ndarray) -> None:
        """Adds the time between one passing of a threshold and the next, as far as the hangover goes."""
        first = [self._last[index]] if self._last[index] >= 0 else []
        self._counts[index] += int(np.minimum(np.diff(above, prepend=first), _HANGOVER + 1).sum())
        self._last[index] = above[-1]

    def finish(self) -> tuple[float | None, float | None]:
        """Active level in dB re full scale (a square wave of ±1 is 0 dB), and the share of time active.

        Both are ``None`` without samples or energy.
        """
        if self._energy == 0:
            return None, None
        seen = self._last >= 0
        after = np.where(seen, np.minimum(self._n_samples - self._last, _HANGOVER + 1), 0)
        used = np.flatnonzero(self._counts + after)
        long_term = 10 * np.log10(self._energy / self._n_samples)
        if not len(used):
            return float(long_term), 1.0
        level = _crossing(
            10 * np.log10(self._energy / (self._counts + after)[used]), 20 * np.log10(2.0 ** _STEPS[used])
        )
        if level is None:
            return float(long_term), 1.0
        return level, min(1.0, float(10 ** ((long_term - level) / 10)))


def _crossing(levels_db: Float64Array, thresholds_db: Float64Array) -> float | None:
    """The level where it stands 15.9 dB above the threshold; ``None`` if it does so nowhere."""
    above_db = levels_db - thresholds_db
    crossed = int(np.argmax(above_db <= MARGIN_DB))
    if crossed == 0:  # at the lowest threshold already, or nowhere
        return None
    pair = slice(crossed - 1, crossed + 1)
    return float(np.interp(MARGIN_DB, above_db[pair][::-1], levels_db[pair][::-1]))
