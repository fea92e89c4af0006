"""LPC vocoder: an all-pole filter driven by pulses or noise."""

from __future__ import annotations

import numpy as np
from scipy.fft import irfft, rfft
from scipy.signal import lfilter

from voxfide.resynthesis.contract import copy_synthesis
from voxfide.resynthesis.excitation import pulse_times
from voxfide.resynthesis.frames import TINY, even_samples, fft_size, frame, hann, overlap_add
from voxfide.resynthesis.pitch import track_pitch
from voxfide.types import FloatArray

PREEMPHASIS = 0.95
HOP_MS = 8.0
ANALYSIS_MS = 30.0
RESPONSE_MS = 64.0
"""How long a frame's filter may ring."""

WHITE_NOISE_CORRECTION = 1e-5
"""−50 dB on the autocorrelation's zeroth lag: keeps the filter away from instability."""

LAG_WINDOW_HZ = 40.0
"""Widens the resonances, which would otherwise settle on single harmonics of high voices."""

DISPERSION = 5
ALL_PASS = -0.5
"""First-order all-pass stages that spread each pulse, as LPC-10 does (Tremain, 1982)."""


def autocorrelation(frames: FloatArray, order: int) -> FloatArray:
    """Lags 0…order of each frame: ``(frames, size)`` → ``(frames, order + 1)``."""
    n_fft = fft_size(frames.shape[1] + order)
    return irfft(np.abs(rfft(frames, n_fft, axis=1)) ** 2, axis=1)[:, : order + 1]


def levinson(r: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Levinson-Durbin recursion on every row (Levinson, 1947; Durbin, 1960).

    Args:
        r: autocorrelations ``(frames, order + 1)``; rows of zeros give the identity filter.

    Returns:
        Prediction-error filters ``(frames, order + 1)``, first coefficient 1, and the power of the
        prediction error ``(frames,)``.
    """
    frames, width = r.shape
    a = np.zeros((frames, width))
    a[:, 0] = 1.0
    error = r[:, 0].copy()
    for order in range(1, width):
        correlation = np.sum(a[:, :order] * r[:, order:0:-1], axis=1)
        reflection = np.where(error > TINY, -correlation / np.maximum(error, TINY), 0.0)
        a[:, 1 : order + 1] += reflection[:, None] * a[:, order - 1 :: -1][:, :order]
        error *= 1.0 - reflection**2
    return a, error


@copy_synthesis
def lpc_pulse(signal: FloatArray, sample_rate: int, rng: np.random.Generator) -> FloatArray:
    """Order 2 + kHz (18 at 16 kHz), hard voicing decision, one pulse a period or white noise."""
    order = 2 + round(sample_rate / 1000)
    hop = even_samples(HOP_MS, sample_rate)
    emphasised = lfilter([1.0, -PREEMPHASIS], [1.0], signal)
    size = even_samples(ANALYSIS_MS, sample_rate)
    window = hann(size).astype(np.float64)
    r = autocorrelation(frame(emphasised, size, hop) * window, order)
    r *= np.exp(-0.5 * (2 * np.pi * LAG_WINDOW_HZ / sample_rate * np.arange(order + 1)) ** 2)
    r[:, 0] *= 1.0 + WHITE_NOISE_CORRECTION
    a, error = levinson(r)
    gain = np.sqrt(np.maximum(error, 0.0) / np.sum(window**2))

    excitation = _pulses_or_noise(signal, sample_rate, hop, rng)
    response = hop * max(2, round(RESPONSE_MS / HOP_MS))
    driven = frame(excitation, 2 * hop, hop) * hann(2 * hop) * gain[:, None]
    filtered = irfft(rfft(driven, response, axis=1) / rfft(a, response, axis=1), response, axis=1)
    return lfilter([1.0], [1.0, -PREEMPHASIS], overlap_add(filtered, hop, len(signal), lead=hop))


def _pulses_or_noise(signal: FloatArray, sample_rate: int, hop: int, rng: np.random.Generator) -> FloatArray:
    """Unit-power excitation ``(samples,)``."""
    samples = len(signal)
    track = track_pitch(signal, sample_rate, hop)
    at = np.minimum(np.rint(np.arange(samples) / hop).astype(np.int64), len(track.f0) - 1)
    noise = np.where(track.voiced[at], 0.0, rng.standard_normal(samples))
    pulses = np.zeros(samples)
    places = np.minimum(np.rint(pulse_times(track, samples, sample_rate)).astype(np.int64), samples - 1)
    f0 = track.filled()[at]
    pulses[places] = np.sqrt(sample_rate / f0[places])
    # A train of positive pulses has a mean, which the filter would raise to an offset.
    pulses -= np.where(track.voiced[at], np.sqrt(f0 / sample_rate), 0.0)
    for _ in range(DISPERSION):
        pulses = lfilter([ALL_PASS, 1.0], [1.0, ALL_PASS], pulses)
    return noise + pulses
