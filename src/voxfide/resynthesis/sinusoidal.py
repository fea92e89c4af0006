"""Sinusoidal model: every frame is a sum of the sinusoids at its strongest spectral peaks."""

from __future__ import annotations

import numpy as np
from scipy.fft import rfft

from voxfide.resynthesis.contract import copy_synthesis
from voxfide.resynthesis.frames import TINY, even_samples, fft_size, frame, hann, overlap_add
from voxfide.types import FloatArray

WINDOW_MS = 28.0
HOP_MS = 10.0
PEAKS_PER_KHZ = 5
PEAK_FLOOR_DB = -45.0
"""Peaks this far under the frame's strongest are dropped with the noise between the partials."""

BLOCK = 64
"""Frames synthesised at once: bounds memory on long recordings."""


@copy_synthesis
def sinusoidal(signal: FloatArray, sample_rate: int, rng: np.random.Generator) -> FloatArray:
    """Peak-picking with measured phases, overlap-add between frames."""
    hop = even_samples(HOP_MS, sample_rate)
    size = even_samples(WINDOW_MS, sample_rate)
    frames = frame(signal.astype(np.float32), size, hop)
    pieces = [
        _resynthesise(frames[start : start + BLOCK], hop, sample_rate)
        for start in range(0, len(frames), BLOCK)
    ]
    return overlap_add(np.concatenate(pieces) * hann(2 * hop), hop, len(signal))


def _resynthesise(frames: FloatArray, hop: int, sample_rate: int) -> FloatArray:
    """``(frames, size)`` → ``(frames, 2 * hop)`` around the same centres."""
    amplitude, omega, phase = pick_peaks(frames, count=round(PEAKS_PER_KHZ * sample_rate / 2000))
    time = np.arange(-hop, hop, dtype=np.float32)
    angle = omega[:, :, None] * time + phase[:, :, None]
    np.cos(angle, out=angle)
    return np.einsum("fp,fpt->ft", amplitude, angle)


def pick_peaks(frames: FloatArray, count: int) -> tuple[FloatArray, FloatArray, FloatArray]:
    """The strongest spectral peaks of each frame, refined by a parabola through the log magnitudes.

    Args:
        frames: ``(frames, size)``, not windowed.
        count: peaks a frame.

    Returns:
        Amplitudes (0 where a frame has fewer peaks), frequencies in radians a sample and phases at the
        frame's centre, each ``(frames, count)``.
    """
    size = frames.shape[1]
    n_fft = 2 * fft_size(size)
    window = hann(size)
    spectrum = rfft(frames * window, n_fft, axis=1)
    magnitude = np.abs(spectrum)
    middle = magnitude[:, 1:-1]
    floor = magnitude.max(axis=1, keepdims=True) * np.float32(10 ** (PEAK_FLOOR_DB / 20))
    is_peak = (middle > magnitude[:, :-2]) & (middle >= magnitude[:, 2:]) & (middle > floor)
    score = np.where(is_peak, middle, 0.0)
    best = np.argpartition(-score, count, axis=1)[:, :count] + 1
    present = np.take_along_axis(score, best - 1, axis=1) > 0

    log = np.log(np.maximum(magnitude, TINY))
    low, centre, high = (np.take_along_axis(log, best + shift, axis=1) for shift in (-1, 0, 1))
    offset = np.where(present, 0.5 * (low - high) / np.minimum(low - 2 * centre + high, -TINY), 0.0)
    amplitude = np.exp(centre - 0.25 * (low - high) * offset) * 2 / window.sum()
    omega = 2 * np.pi * (best + offset) / n_fft
    # The window starts at the frame's first sample: its linear phase is taken to the centre.
    phase = np.angle(np.take_along_axis(spectrum, best, axis=1)) + np.pi * best * size / n_fft
    return (
        np.where(present, amplitude, 0.0).astype(np.float32),
        omega.astype(np.float32),
        phase.astype(np.float32),
    )
