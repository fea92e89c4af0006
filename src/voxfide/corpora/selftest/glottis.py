"""The voice source: Liljencrants-Fant pulses with jitter, shimmer and a shape that never repeats.

G. Fant, J. Liljencrants & Q. Lin, "A four-parameter model of glottal flow", STL-QPSR 4/1985;
G. Fant, "The LF-model revisited", STL-QPSR 2-3/1995, for the shape parameter Rd.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy.optimize import brentq
from scipy.signal import lfilter, resample_poly

from voxfide.corpora.selftest.controls import FRAME, Controls
from voxfide.corpora.selftest.speaker import Speaker
from voxfide.types import FloatArray

OVERSAMPLING = 3
"""The pulses' sharp closures are drawn at three times the rate, then band-limited."""

RD_GRID = np.linspace(0.5, 2.7, 23)
PHASES = 1024


def lf_pulse(rd: float, phases: int = PHASES) -> FloatArray:
    """One period of the glottal flow derivative ``(phases,)``, unit power.

    Args:
        rd: shape, 0.5…2.7.
        phases: points in the period.
    """
    ra = (-1 + 4.8 * rd) / 100
    rk = (22.4 + 11.8 * rd) / 100
    rg = rk / 4 * (0.5 + 1.2 * rk) / (0.11 * rd - ra * (0.5 + 1.2 * rk))
    peak = 1 / (2 * rg)
    close = peak * (1 + rk)
    rest = 1 - close
    epsilon = 1 / ra
    for _ in range(60):
        epsilon = (1 - np.exp(-epsilon * rest)) / ra
    return_area = -(1 / (epsilon * ra)) * (
        (1 - np.exp(-epsilon * rest)) / epsilon - rest * np.exp(-epsilon * rest)
    )
    omega = np.pi / peak

    def net_flow(alpha: float) -> float:
        """Flow at the period's end: zero for the right growth constant, closure amplitude −1."""
        scale = -1 / (np.exp(alpha * close) * np.sin(omega * close))
        open_area = np.exp(alpha * close) * (alpha * np.sin(omega * close) - omega * np.cos(omega * close))
        return float(scale * (open_area + omega) / (alpha**2 + omega**2) + return_area)

    alpha = float(brentq(net_flow, -60.0, 120.0))
    time = np.arange(phases) / phases
    rising = -np.exp(alpha * (time - close)) * np.sin(omega * time) / np.sin(omega * close)
    falling = -(np.exp(-epsilon * (time - close)) - np.exp(-epsilon * rest)) / (epsilon * ra)
    pulse = np.where(time < close, rising, falling)
    return pulse / np.sqrt(np.mean(pulse**2))


@lru_cache(maxsize=1)
def _table() -> FloatArray:
    """Pulses over ``RD_GRID``, with the first phase repeated at the end: ``(shapes, PHASES + 1)``."""
    table = np.array([lf_pulse(rd) for rd in RD_GRID])
    return np.concatenate([table, table[:, :1]], axis=1)


def voice_source(
    controls: Controls, speaker: Speaker, samples: int, sample_rate: int, rng: np.random.Generator
) -> tuple[FloatArray, FloatArray]:
    """Pulses and aspiration noise.

    Returns:
        The voiced source and the aspiration, each ``(samples,)`` and already at the amplitudes that
        the controls ask for.
    """
    rate = OVERSAMPLING * sample_rate
    time = np.arange(OVERSAMPLING * samples) / rate
    frames = np.arange(len(controls.f0)) * FRAME
    cycle = _cycles(controls, speaker, time, rng)
    index = cycle.astype(np.int64)
    count = int(index[-1]) + 1
    creak = np.interp(time, frames, controls.creak)

    shimmer = np.exp(speaker.shimmer * rng.standard_normal(count))
    alternate = 1 - 0.35 * (np.arange(count) % 2)
    gain = shimmer[index] * (1 - creak + creak * alternate[index])
    shape = np.interp(time, frames, speaker.rd + 0.5 * (1 - np.minimum(controls.voice, 1.0)))
    shape = shape + 0.08 * rng.standard_normal(count)[index] - 0.4 * creak
    pulses = _look_up(shape, cycle - index) * gain
    decay = np.exp(-2 * np.pi * speaker.tilt_hz / sample_rate)
    voice = lfilter([1 - decay], [1.0, -decay], resample_poly(pulses, 1, OVERSAMPLING)[:samples])

    at = np.arange(samples) / sample_rate
    opening = 0.5 - 0.5 * np.cos(2 * np.pi * (cycle[::OVERSAMPLING] - index[::OVERSAMPLING]))
    amplitude = np.interp(at, frames, controls.voice)
    breath = speaker.breathiness * amplitude * (0.2 + 1.3 * opening)
    breath += np.interp(at, frames, controls.aspiration)
    return voice * amplitude, breath * rng.standard_normal(samples)


def _cycles(controls: Controls, speaker: Speaker, time: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Glottal cycles completed at each time, jittered: ``(len(time),)``, never falling."""
    f0 = np.interp(time, np.arange(len(controls.f0)) * FRAME, controls.f0)
    smooth = np.concatenate([[0.0], np.cumsum(f0[:-1]) * (time[1] - time[0])]) + rng.random()
    number = np.arange(int(smooth[-1]) + 2)
    places = np.interp(number, smooth, time)
    creak = np.interp(places, np.arange(len(controls.creak)) * FRAME, controls.creak)
    deviation = (speaker.jitter + 0.05 * creak) * rng.standard_normal(len(number))
    slow = 0.5 * speaker.jitter * np.cumsum(rng.standard_normal(len(number)))
    slow -= np.convolve(np.pad(slow, 10, mode="edge"), np.full(21, 1 / 21), mode="valid")
    shift = np.clip(deviation + slow, -0.3, 0.3)
    period = 1 / np.interp(places, time, f0)
    jittered = smooth - np.interp(time, places, shift * period) * f0
    return np.maximum.accumulate(np.maximum(jittered, 0.0))


def _look_up(shape: FloatArray, phase: FloatArray) -> FloatArray:
    """Bilinear interpolation in the pulse table."""
    table = _table()
    row = np.clip((shape - RD_GRID[0]) / (RD_GRID[1] - RD_GRID[0]), 0, len(RD_GRID) - 1.001)
    column = np.clip(phase, 0.0, 1.0 - 1e-9) * PHASES
    r, c = row.astype(np.int64), column.astype(np.int64)
    fr, fc = row - r, column - c
    low = table[r, c] * (1 - fc) + table[r, c + 1] * fc
    high = table[r + 1, c] * (1 - fc) + table[r + 1, c + 1] * fc
    return low * (1 - fr) + high * fr
