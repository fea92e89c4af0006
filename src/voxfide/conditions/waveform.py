"""What the samples themselves show: peak, offset, clipping, digital silence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from voxfide.conditions.histogram import LevelHistogram
from voxfide.conditions.runs import Runs
from voxfide.types import SAMPLE_RATE, Float32Array, Float64Array, IntArray, Seconds

ZERO: Final = 1 / 32768
"""Below one 16-bit step a sample is digital silence."""

MIN_FLAT: Final = 3
"""Equal samples in a row that count as a flat piece."""

_SPAN: Final = round(0.005 * SAMPLE_RATE)  # of digital silence that counts: speech crosses zero faster

_STEP_DB: Final = 0.1
_LOW_DB, _HIGH_DB = -90.0, 40.0
_TOP, _BELOW, _SEARCHED = 8, 30, 45  # steps from a level down
_ENOUGH: Final = 30  # samples that make a density
_QUIET_PEAK: Final = 0.01  # below it, equal samples come from coarse rounding


@dataclass(frozen=True)
class ClippingSummary:
    """What :class:`Clipping` found.

    Attributes:
        peak_db: largest magnitude, dB re full scale; ``None`` for digital silence.
        flat_share: of all samples, those in flat pieces at the extreme.
        flat_top: density of samples near the extreme over that below it; ``None`` if too few.
    """

    peak_db: float | None = None
    flat_share: float = 0.0
    flat_top: float | None = None


class Clipping:
    """Signs of clipping, also after the clipped recording was scaled or resampled.

    **Flat pieces.** Runs of three or more equal samples within 0.5 dB of the highest (lowest) sample of
    the recording. Exact while the sampling rate was not changed; scaling keeps them.

    **Flat top.** Resampling and coding bend the flat pieces but leave their samples near one value. The
    amplitudes of speech get rarer towards the extreme; where it was clipped they pile up. This is the
    largest ratio, over levels from the extreme to 4.5 dB below it, of the density of samples in the top
    0.8 dB to that in the 2.2 dB below (in samples per unit of amplitude), for the polarity in which it is
    larger. A pure tone piles up as well.
    """

    def __init__(self) -> None:
        self._levels = LevelHistogram(2, _LOW_DB, _HIGH_DB, _STEP_DB)
        self._flat = LevelHistogram(2, _LOW_DB, _HIGH_DB, _STEP_DB)
        self._runs = Runs()
        self._previous = np.zeros(0, np.float32)
        self._peak = np.zeros(2)
        self._n_samples = 0

    def push(self, signal: Float32Array) -> None:
        """Takes the next ``(samples,)``."""
        if not len(signal):
            return
        joined = np.concatenate([self._previous, signal])
        offset = self._n_samples - len(self._previous)
        starts, ends = self._runs.push(np.diff(joined) == 0)
        # A run of k equalities is one of k + 1 equal samples; the mask starts one sample later.
        lengths = ends - starts + 1
        self._count_flat(joined[ends - offset], lengths)
        self._previous = joined[-1:].copy()
        for side, values in enumerate((signal, -signal)):
            self._peak[side] = max(self._peak[side], float(values.max()))
            self._count(self._levels, side, values[values >= ZERO], None)
        self._n_samples += len(signal)

    def _count_flat(self, values: Float32Array, lengths: IntArray) -> None:
        kept = lengths >= MIN_FLAT
        values, lengths = values[kept], lengths[kept]
        for side, signed in enumerate((values, -values)):
            chosen = signed >= ZERO
            self._count(self._flat, side, signed[chosen], lengths[chosen])

    @staticmethod
    def _count(histogram: LevelHistogram, side: int, values: Float32Array, weights: IntArray | None) -> None:
        width = histogram.counts.shape[1]
        place = np.floor((20 * np.log10(values) - _LOW_DB) / _STEP_DB + 1e-6).astype(np.int64)
        counts = np.bincount(np.clip(place, 0, width - 1), weights, minlength=width)
        histogram.counts[side] += counts.astype(np.int64)

    def finish(self) -> ClippingSummary:
        """Judges what was pushed."""
        peak = float(self._peak.max())
        starts, ends = self._runs.finish()
        self._count_flat(np.repeat(self._previous, len(starts)), ends - starts + 1)
        if peak < ZERO:
            return ClippingSummary()
        flat = 0
        ratios = []
        for side in range(2):
            if self._peak[side] < _QUIET_PEAK:
                continue
            top = int((20 * np.log10(self._peak[side]) - _LOW_DB) / _STEP_DB) + 1
            top = min(top, self._levels.counts.shape[1])  # where all that is beyond was counted
            flat += int(self._flat.counts[side, top - 5 : top + 1].sum())
            ratio = _pile_up(self._levels.counts[side], self._levels.edges, top)
            if ratio is not None:
                ratios.append(ratio)
        return ClippingSummary(float(20 * np.log10(peak)), flat / self._n_samples, max(ratios, default=None))


def _pile_up(counts: IntArray, edges: Float64Array, top: int) -> float | None:
    """The ratio that :class:`Clipping` describes; ``top`` is the step after the one of the extreme."""
    cumulative = np.concatenate([[0], np.cumsum(counts)])
    amplitude = 10 ** (edges / 20)
    best = None
    for upper in range(top, max(top - _SEARCHED, _BELOW), -1):
        middle, lower = upper - _TOP, upper - _BELOW
        n_top, n_below = cumulative[upper] - cumulative[middle], cumulative[middle] - cumulative[lower]
        if n_top < _ENOUGH:
            continue
        density = n_top / (amplitude[upper] - amplitude[middle])
        below = max(n_below, 1) / (amplitude[middle] - amplitude[lower])
        best = density / below if best is None else max(best, density / below)
    return best


@dataclass(frozen=True)
class SilenceSummary:
    """What :class:`DigitalSilence` found: seconds in all, of the longest stretch, and dropouts."""

    zero_seconds: Seconds = 0.0
    longest_zero_seconds: Seconds = 0.0
    dropouts: int = 0


class DigitalSilence:
    """Stretches of 5 ms and more in which no sample reaches one 16-bit step.

    **Dropouts** are those that start in the middle of sound and end in time: 5 ms to 1 s long, with the
    5 ms before above ``loud_db`` re full scale. A fade-out or a noise gate passes through quiet first.
    """

    def __init__(self, loud_db: float = -45.0) -> None:
        self._loud = 10 ** (loud_db / 10)
        self._runs = Runs()
        self._before = np.zeros(_SPAN, np.float32)
        self._open_is_loud = False
        self._n_samples = 0
        self._zeros = self._longest = self._dropouts = 0

    def push(self, signal: Float32Array) -> None:
        """Takes the next ``(samples,)`` at 16 kHz."""
        joined = np.concatenate([self._before, signal])
        starts, ends = self._runs.push(np.abs(signal) < ZERO)
        for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
            self._count(end - start, self._is_loud(joined, start))
        if self._runs.open is not None:
            self._open_is_loud = self._is_loud(joined, self._runs.open)
        self._before = joined[len(joined) - _SPAN :].copy()
        self._n_samples += len(signal)

    def _is_loud(self, joined: Float32Array, start: int) -> bool:
        """Whether the signal before a stretch is loud; one that began before this chunk was judged then."""
        at = start - self._n_samples
        if at < 0:
            return self._open_is_loud
        piece = joined[at : at + _SPAN].astype(np.float64)
        return float(np.vdot(piece, piece)) / _SPAN > self._loud

    def _count(self, length: int, loud: bool) -> None:
        if length >= _SPAN:
            self._zeros += length
            self._longest = max(self._longest, length)
            self._dropouts += loud and length <= SAMPLE_RATE

    def finish(self) -> SilenceSummary:
        """Judges what was pushed; a stretch at the very end is no dropout."""
        starts, ends = self._runs.finish()
        for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
            self._count(end - start, False)
        return SilenceSummary(self._zeros / SAMPLE_RATE, self._longest / SAMPLE_RATE, self._dropouts)
