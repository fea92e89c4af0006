"""Between mouth and file: a room and a microphone before the attack, a common channel after it.

Both classes pass through both, with the same distributions: level, bandwidth, noise and quantisation
tell nothing about the class.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.fft import irfft, next_fast_len, rfft, rfftfreq
from scipy.signal import butter, fftconvolve, sosfilt

from voxfide.types import SAMPLE_RATE, FloatArray

FULL_SCALE = 32767
HEADROOM = 0.98
MU = 255.0


def record(speech: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Room, microphone and background noise: ``(samples,)`` → ``(samples,)``."""
    roomy = fftconvolve(speech, _room(rng))[: len(speech)]
    coloured = _colour(roomy, rng)
    return coloured + _noise(len(coloured), rng) * _rms(coloured) * 10 ** (-rng.uniform(35.0, 52.0) / 20)


def transmit(signal: FloatArray, rng: np.random.Generator, codec: str) -> NDArray[np.int16]:
    """Band limit, line noise, soft peak limiter, level, coding and dither.

    Args:
        signal: ``(samples,)``, at any level.
        rng: draws the channel.
        codec: ``"pcm"``, or ``"mulaw"`` for the companding of ITU-T G.711 at 16 kHz.

    Returns:
        16-bit ``(samples,)``.
    """
    sos = butter(int(rng.integers(4, 9)), rng.uniform(6600.0, 7600.0), fs=SAMPLE_RATE, output="sos")
    limited: FloatArray = sosfilt(sos, signal)
    limited = limited + _noise(len(limited), rng) * _rms(limited) * 10 ** (-rng.uniform(42.0, 58.0) / 20)
    limit = rng.uniform(2.8, 5.0) * max(_rms(limited), 1e-9)
    limited = limit * np.tanh(limited / limit)
    level = 10 ** (rng.uniform(-34.0, -22.0) / 20) / max(_rms(limited), 1e-9)
    limited = limited * min(level, HEADROOM / max(float(np.abs(limited).max()), 1e-9))
    if codec == "mulaw":
        limited = _mulaw(limited)
    dither = rng.random(len(limited)) - rng.random(len(limited))
    return np.clip(np.rint(limited * FULL_SCALE + dither), -FULL_SCALE, FULL_SCALE).astype(np.int16)


def _room(rng: np.random.Generator) -> FloatArray:
    """Impulse response: the direct sound and exponentially decaying noise (Moorer, 1979)."""
    reverberation_time = rng.uniform(0.12, 0.5)
    time = np.arange(int(0.6 * reverberation_time * SAMPLE_RATE)) / SAMPLE_RATE
    tail = rng.standard_normal(len(time)) * np.exp(-6.9 * time / reverberation_time)
    tail[: int(rng.uniform(0.002, 0.008) * SAMPLE_RATE)] = 0.0
    direct_to_reverberant = rng.uniform(8.0, 22.0)
    tail *= 10 ** (-direct_to_reverberant / 20) / np.sqrt(np.sum(tail**2))
    tail[0] = 1.0
    return tail


def _colour(signal: FloatArray, rng: np.random.Generator) -> FloatArray:
    """A smooth random frequency response, ±2 dB, and the low cut of a small microphone."""
    n_fft = next_fast_len(len(signal) + SAMPLE_RATE // 10, real=True)
    frequency = rfftfreq(n_fft, 1 / SAMPLE_RATE)
    knots = np.geomspace(60.0, 8000.0, 9)
    gain_db = np.interp(np.log(np.maximum(frequency, 1.0)), np.log(knots), rng.normal(0.0, 1.0, len(knots)))
    low_cut = 1 / np.sqrt(1 + (rng.uniform(30.0, 110.0) / np.maximum(frequency, 1.0)) ** 4)
    return irfft(rfft(signal, n_fft) * 10 ** (gain_db / 20) * low_cut, n_fft)[: len(signal)]


def _noise(samples: int, rng: np.random.Generator) -> FloatArray:
    """Unit-power noise between white and red, swelling slowly, at times with mains hum."""
    n_fft = next_fast_len(samples, real=True)
    spectrum = rfft(rng.standard_normal(n_fft))
    frequency = np.maximum(rfftfreq(n_fft, 1 / SAMPLE_RATE), 40.0)
    noise = irfft(spectrum * frequency ** -rng.uniform(0.0, 1.0), n_fft)[:samples]
    time = np.arange(samples) / SAMPLE_RATE
    noise *= 1 + 0.3 * np.sin(2 * np.pi * (rng.uniform(0.2, 1.5) * time + rng.random()))
    noise /= max(_rms(noise), 1e-9)
    if rng.random() < 0.3:
        mains = rng.choice([50.0, 60.0])
        for harmonic in (1, 2, 3):
            noise += rng.uniform(0.0, 0.5) * np.sin(2 * np.pi * (mains * harmonic * time + rng.random()))
    return noise


def _mulaw(signal: FloatArray) -> FloatArray:
    """Eight-bit μ-law companding and back (ITU-T G.711, continuous form)."""
    compressed = np.sign(signal) * np.log1p(MU * np.abs(signal)) / np.log1p(MU)
    coarse = np.clip(np.rint(compressed * 127.0) / 127.0, -1.0, 1.0)
    return np.sign(coarse) * np.expm1(np.abs(coarse) * np.log1p(MU)) / MU


def _rms(signal: FloatArray) -> float:
    return float(np.sqrt(np.mean(np.square(signal))))
