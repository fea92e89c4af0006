"""Fundamental frequency by the normalised autocorrelation method of Boersma (1993).

P. Boersma, "Accurate short-term analysis of the fundamental frequency and the harmonics-to-noise
ratio of a sampled sound", IFA Proceedings 17, 1993.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.fft import irfft, rfft

from voxfide.resynthesis.frames import TINY, even_samples, fft_size, frame, hann
from voxfide.types import BoolArray, FloatArray, IntArray

FLOOR_HZ = 65.0
CEILING_HZ = 420.0
PERIODS_PER_WINDOW = 3
CANDIDATES = 5
SILENCE_THRESHOLD = 0.03
VOICING_THRESHOLD = 0.45
OCTAVE_COST = 0.02
OCTAVE_JUMP_COST = 0.35
VOICING_CHANGE_COST = 0.14
REFERENCE_STEP = 0.01
"""Seconds; the costs of a change are meant for frames this far apart."""


@dataclass(frozen=True)
class PitchTrack:
    """Pitch, one value a frame; frame *i* is centred on sample ``i * hop``.

    Attributes:
        f0: Hz ``(frames,)``, 0 where unvoiced.
        strength: normalised autocorrelation at the period ``(frames,)``, 0…1.
        hop: samples.
    """

    f0: FloatArray
    strength: FloatArray
    hop: int

    @property
    def voiced(self) -> BoolArray:
        """``(frames,)``."""
        return self.f0 > 0

    def filled(self, default_hz: float = 120.0) -> FloatArray:
        """``(frames,)`` in Hz, interpolated through unvoiced stretches; ``default_hz`` if all are."""
        known = np.flatnonzero(self.voiced)
        if not len(known):
            return np.full(len(self.f0), default_hz)
        return np.interp(np.arange(len(self.f0)), known, self.f0[known])


def track_pitch(signal: FloatArray, sample_rate: int, hop: int) -> PitchTrack:
    """Estimates F0 and voicing.

    Args:
        signal: ``(samples,)``.
        sample_rate: Hz.
        hop: samples between frames.
    """
    lags, strengths, level = _candidates(signal, sample_rate, hop)
    unvoiced = VOICING_THRESHOLD + np.maximum(
        0.0, 2.0 - level / (SILENCE_THRESHOLD / (1.0 + VOICING_THRESHOLD))
    )
    f0 = np.where(strengths > 0, sample_rate / np.maximum(lags, 1.0), 0.0)
    cost = np.where(
        f0 > 0, -strengths + OCTAVE_COST * np.log2(np.maximum(FLOOR_HZ * lags / sample_rate, TINY)), np.inf
    )
    path = _cheapest_path(
        np.column_stack([-unvoiced, cost]),
        np.log2(np.column_stack([np.ones(len(f0)), np.maximum(f0, 1.0)])),
        step=hop / sample_rate / REFERENCE_STEP,
    )
    rows = np.arange(len(f0))
    chosen = np.column_stack([np.zeros(len(f0)), f0])[rows, path]
    strength = np.column_stack([np.zeros(len(f0)), strengths])[rows, path]
    return PitchTrack(chosen, np.clip(strength, 0.0, 1.0), hop)


def _candidates(signal: FloatArray, sample_rate: int, hop: int) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Lags in samples and strengths of the best peaks ``(frames, CANDIDATES)``; peak level ``(frames,)``."""
    size = even_samples(1000 * PERIODS_PER_WINDOW / FLOOR_HZ, sample_rate)
    n_fft = fft_size(size + size // 2)
    window = hann(size)
    frames = frame(signal.astype(np.float32), size, hop)
    frames = frames - frames.mean(axis=1, keepdims=True)
    level = np.abs(frames[:, size // 4 : -size // 4]).max(axis=1)
    level = level / max(float(level.max(initial=0.0)), TINY)

    def autocorrelation(rows: FloatArray) -> FloatArray:
        return irfft(np.abs(rfft(rows, n_fft)) ** 2, axis=-1)[..., : size // 2]

    ideal = autocorrelation(window)
    raw = autocorrelation(frames * window)
    r = raw / np.maximum(raw[:, :1], TINY) / (ideal / ideal[0])

    first = int(sample_rate / CEILING_HZ)
    last = min(int(np.ceil(sample_rate / FLOOR_HZ)), size // 2 - 2)
    middle, before, after = r[:, first : last + 1], r[:, first - 1 : last], r[:, first + 1 : last + 2]
    peak = (middle > before) & (middle >= after) & (middle > 0.5 * VOICING_THRESHOLD)
    score = np.where(peak, middle - OCTAVE_COST * np.log2(np.arange(first, last + 1)), -np.inf)
    best = np.argpartition(-score, CANDIDATES - 1, axis=1)[:, :CANDIDATES]

    def pick(values: FloatArray) -> FloatArray:
        return np.take_along_axis(values, best, axis=1).astype(np.float64)

    low, centre, high = pick(before), pick(middle), pick(after)
    curvature = np.minimum(low - 2 * centre + high, -TINY)
    offset = np.clip(0.5 * (low - high) / curvature, -0.5, 0.5)
    strength = np.minimum(centre - 0.25 * (low - high) * offset, 1.0)
    return best + first + offset, np.where(np.isfinite(pick(score)), strength, 0.0), level


def _cheapest_path(cost: FloatArray, octave: FloatArray, step: float) -> IntArray:
    """Viterbi search; state 0 is unvoiced. ``cost``, ``octave``: ``(frames, states)``."""
    states = cost.shape[1]
    switch = np.zeros((states, states))
    switch[0, 1:] = switch[1:, 0] = VOICING_CHANGE_COST / step
    jump = OCTAVE_JUMP_COST / step * np.abs(octave[1:, None, :] - octave[:-1, :, None])
    jump[:, 0, :] = jump[:, :, 0] = 0.0
    jump += switch
    back = np.zeros(cost.shape, dtype=np.int64)
    total = cost[0]
    columns = np.arange(states)
    for i in range(1, len(cost)):
        options = total[:, None] + jump[i - 1]
        back[i] = options.argmin(axis=0)
        total = options[back[i], columns] + cost[i]
    path = np.zeros(len(cost), dtype=np.int64)
    path[-1] = total.argmin()
    for i in range(len(cost) - 1, 0, -1):
        path[i - 1] = back[i, path[i]]
    return path
