"""What every route promises, and the decorator that makes it keep the promise."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Protocol

import numpy as np

from voxfide.errors import EmptyAudioError, NonFiniteAudioError, UsageError
from voxfide.types import Float32Array, FloatArray

MIN_SAMPLE_RATE = 8_000
PADDING = 0.05
"""Seconds of silence around the signal while a route works on it: no frame sees an edge."""

PIECE = 20.0
FADE = 0.05
"""Seconds; longer recordings are worked on in pieces of this length with this cross-fade."""

FULL_SCALE = 0.999
SILENCE = 1e-6
"""RMS below which there is nothing to resynthesise (−120 dB full scale)."""


class Route(Protocol):
    """Copy-synthesis: analyses a waveform and makes it anew from the analysis.

    Args:
        waveform: ``(samples,)``, full scale ±1, any length above zero.
        sample_rate: Hz, at least 8000.
        rng: the only source of chance; the same state gives the same samples.

    Returns:
        float32 ``(samples,)``: time-aligned with the input to a few milliseconds, of the same RMS
        level (lower where the peaks would clip), within ±1. The input's DC is left out, and silence
        stays silence.

    Raises:
        EmptyAudioError: no samples.
        NonFiniteAudioError: NaN or infinite samples.
        UsageError: not one-dimensional, or a sample rate below 8 kHz.
    """

    def __call__(self, waveform: FloatArray, sample_rate: int, rng: np.random.Generator) -> Float32Array: ...


Core = Callable[[FloatArray, int, np.random.Generator], FloatArray]


def copy_synthesis(core: Core) -> Route:
    """Turns ``core`` into a :class:`Route`: checks, padding, level, peaks and long inputs are seen to here.

    ``core`` gets a float64 signal of unit power, without DC and with silence at both ends, and returns
    as many samples, at any level.
    """

    @wraps(core)
    def route(waveform: FloatArray, sample_rate: int, rng: np.random.Generator) -> Float32Array:
        _check(waveform, sample_rate)
        signal = np.asarray(waveform, dtype=np.float64)
        signal = signal - signal.mean()
        output = _in_pieces(core, signal, sample_rate, rng)
        output *= min(1.0, FULL_SCALE / max(float(np.abs(output).max()), SILENCE))
        return output.astype(np.float32)

    return route


def _in_pieces(core: Core, signal: FloatArray, sample_rate: int, rng: np.random.Generator) -> FloatArray:
    """Runs ``core`` on pieces of about ``PIECE`` seconds, cross-faded: bounds memory on long recordings."""
    count = round(len(signal) / (PIECE * sample_rate))
    if count < 2:
        return _at_level(core, signal, sample_rate, rng)
    fade = round(FADE * sample_rate)
    ramp = np.linspace(0.0, 1.0, fade)
    bounds = np.linspace(0, len(signal), count + 1).astype(np.int64)
    output = np.zeros_like(signal)
    # The same state for each piece: what a route draws once a recording stays the same throughout.
    seed = int(rng.integers(2**63))
    for start, stop in zip(bounds[:-1], bounds[1:], strict=True):
        first = max(0, start - fade)
        piece = _at_level(core, signal[first:stop], sample_rate, np.random.default_rng(seed))
        if start:
            piece[:fade] *= ramp
            output[first:start] *= 1.0 - ramp
        output[first:stop] += piece
    return output


def _at_level(core: Core, signal: FloatArray, sample_rate: int, rng: np.random.Generator) -> FloatArray:
    """``core`` between silences, scaled to the signal's RMS."""
    level = rms(signal)
    if level < SILENCE:
        return np.zeros(len(signal))
    pad = round(PADDING * sample_rate)
    output = core(np.pad(signal / level, pad), sample_rate, rng)[pad:-pad].astype(np.float64)
    return output * (level / max(rms(output), SILENCE))


def rms(signal: FloatArray) -> float:
    """Root mean square of ``(samples,)``."""
    return float(np.sqrt(np.mean(np.square(signal))))


def _check(waveform: FloatArray, sample_rate: int) -> None:
    if np.ndim(waveform) != 1:
        raise UsageError(f"a route takes one waveform (samples,), got an array of shape {np.shape(waveform)}")
    if sample_rate < MIN_SAMPLE_RATE:
        raise UsageError(f"a route takes a sample rate of {MIN_SAMPLE_RATE} Hz or more, got {sample_rate}")
    if len(waveform) == 0:
        raise EmptyAudioError("<waveform>", "no samples", "at least one sample")
    if not np.isfinite(waveform).all():
        raise NonFiniteAudioError("<waveform>", "NaN or infinite samples", "finite samples")
