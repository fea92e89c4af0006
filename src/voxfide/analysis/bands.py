"""Frequency bands and their removal from a signal, by a filter without phase."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import ArrayLike

from voxfide.errors import UsageError
from voxfide.types import SAMPLE_RATE, Float32Array, Float64Array

NYQUIST_HZ: Final = SAMPLE_RATE / 2

NOTHING_DB: Final = float(20 * np.log10(2**-15 / np.sqrt(12)))
"""-101.1 dB re full scale: the noise of rounding to 16 bit. A band below it holds nothing to take out."""

_TRANSITION: Final = 0.25
"""Width of the slope at an edge, as a share of the narrower of the two bands that meet there."""

_PAD: Final = SAMPLE_RATE // 4
"""Zeros after the signal, so that the filter's ringing does not come round to its start."""


def mel(hz: ArrayLike) -> Float64Array:
    """Mel of Hz, ``2595 log10(1 + f / 700)`` (O'Shaughnessy, "Speech communication", 1987)."""
    return 2595 * np.log10(1 + np.asarray(hz, np.float64) / 700)


def mel_edges(n_bands: int) -> tuple[float, ...]:
    """Edges ``(n_bands + 1,)`` in whole Hz of bands equally wide on the mel scale, from 0 to 8000 Hz.

    Raises:
        UsageError: fewer than 2 bands, or more than 40.
    """
    if not 2 <= n_bands <= 40:
        raise UsageError(f"{n_bands} frequency bands (expected 2 to 40)")
    top = float(mel(NYQUIST_HZ))
    return tuple(float(f) for f in np.round(700 * (10 ** (np.linspace(0, top, n_bands + 1) / 2595) - 1)))


def check_edges(edges: Sequence[float]) -> tuple[float, ...]:
    """The edges, if bands can lie between them.

    Raises:
        UsageError: fewer than two, not rising, or outside of 0 to 8000 Hz.
    """
    found = tuple(map(float, edges))
    rising = all(a < b for a, b in zip(found, found[1:], strict=False))
    if len(found) < 2 or not rising or not found[0] >= 0 or not found[-1] <= NYQUIST_HZ:
        raise UsageError(
            f"band edges {found} (expected at least two rising ones from 0 to {NYQUIST_HZ:g} Hz)"
        )
    return found


def without_bands(waveform: Float32Array, edges: Sequence[float]) -> list[Float32Array | None]:
    """The waveform with one band at a time taken out; ``None`` for a band that holds nothing.

    The filter is linear and has no phase: the spectrum of the whole signal is multiplied by real
    gains. Slopes are raised cosines of a quarter of the narrower neighbour's width, and those of
    two bands that meet add up to 1: the parts taken out add up to the signal between the outer edges.

    Args:
        waveform: ``(samples,)`` at 16 kHz, at most some seconds.
        edges: ``(bands + 1,)`` rising, Hz.

    Returns:
        ``(samples,)`` float32 for each band. A band holds nothing where its level lies below the
        rounding of 16-bit samples (:data:`NOTHING_DB`).
    """
    edges = check_edges(edges)
    signal = np.asarray(waveform, np.float64)
    n = fast_length(len(signal) + _PAD)
    spectrum = np.fft.rfft(signal, n)
    found: list[Float32Array | None] = []
    for gain in band_gains(np.arange(len(spectrum)) * SAMPLE_RATE / n, edges):
        part = np.fft.irfft(spectrum * gain, n)[: len(signal)]
        level = float(np.sqrt(np.mean(part**2))) if len(part) else 0.0
        nothing = level <= 10 ** (NOTHING_DB / 20)
        found.append(None if nothing else (signal - part).astype(np.float32))
    return found


def fast_length(n: int) -> int:
    """The smallest length from ``n`` on (above 0) whose prime factors are 2, 3 and 5: quick to transform."""
    found = 1 << max(0, n - 1).bit_length()
    five = 1
    while five < found:
        three = five
        while three < found:
            found = min(found, three << max(0, -(-n // three) - 1).bit_length())
            three *= 3
        five *= 5
    return found


def band_gains(hz: Float64Array, edges: Sequence[float]) -> Float64Array:
    """Gains ``(bands, frequencies)`` that pick each band; they add up to 1 within the outer edges."""
    widths = np.diff(edges)
    inner = [
        _above(hz, edge, _TRANSITION * min(left, right))
        for edge, left, right in zip(edges[1:-1], widths, widths[1:], strict=False)
    ]
    lowest, highest = hz >= edges[0], hz > edges[-1]
    steps = np.stack([lowest, *inner, highest]).astype(np.float64)
    return steps[:-1] - steps[1:]


def _above(hz: Float64Array, edge: float, width: float) -> Float64Array:
    """0 below an edge, 1 above it, half a period of a cosine between."""
    place = np.clip((hz - edge) / width + 0.5, 0, 1)
    return (1 - np.cos(np.pi * place)) / 2
