"""Short-time analysis and synthesis shared by every route: frames, overlap-add, STFT, band gains."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy.fft import irfft, rfft

from voxfide.types import FloatArray

ComplexArray = NDArray[np.complexfloating]

TINY = 1e-12
"""Floor for powers: 120 dB below full scale, under the noise of 16-bit audio."""


def even_samples(duration_ms: float, sample_rate: int) -> int:
    """Milliseconds as an even number of samples, at least 2."""
    return max(2, 2 * round(duration_ms * sample_rate / 2000))


def fft_size(samples: int) -> int:
    """The smallest power of two that holds ``samples``."""
    return 1 << max(1, samples - 1).bit_length()


@lru_cache(maxsize=64)
def hann(samples: int) -> FloatArray:
    """Periodic Hann window ``(samples,)``: its shifts by ``samples / k`` add up to a constant."""
    window = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(samples) / samples)).astype(np.float32)
    window.flags.writeable = False
    return window


def frame(signal: FloatArray, size: int, hop: int) -> FloatArray:
    """Cuts a signal into centred frames.

    Args:
        signal: ``(samples,)``.
        size, hop: in samples.

    Returns:
        A read-only view ``(1 + ceil(samples / hop), size)`` of the zero-padded signal; frame *i* is
        centred on sample ``i * hop``.
    """
    count = 1 + -(-len(signal) // hop)
    left = size // 2
    right = (count - 1) * hop + size - left - len(signal)
    return sliding_window_view(np.pad(signal, (left, max(0, right))), size)[::hop][:count]


def overlap_add(frames: FloatArray, hop: int, samples: int, lead: int | None = None) -> FloatArray:
    """Adds frames up at their places: the transpose of :func:`frame`.

    Args:
        frames: ``(frames, size)``; ``hop`` divides ``size``.
        hop: in samples.
        samples: length of the result.
        lead: frame *i* begins at sample ``i * hop - lead``; by default half the frame.

    Returns:
        ``(samples,)``.
    """
    count, size = frames.shape
    parts, remainder = divmod(size, hop)
    if remainder:
        raise ValueError(f"the hop must divide the frame: {size} samples in hops of {hop}")
    total = np.zeros((count + parts, hop), dtype=frames.dtype)
    pieces = frames.reshape(count, parts, hop)
    for part in range(parts):
        total[part : part + count] += pieces[:, part]
    flat = total.reshape(-1)[size // 2 if lead is None else lead :]
    return np.pad(flat, (0, max(0, samples - len(flat))))[:samples]


def stft(signal: FloatArray, size: int, hop: int, n_fft: int | None = None) -> ComplexArray:
    """Short-time Fourier transform with a periodic Hann window: ``(frames, n_fft // 2 + 1)``."""
    return rfft(frame(signal, size, hop) * hann(size), n_fft or size, axis=1)


def istft(spectrum: ComplexArray, size: int, hop: int, samples: int) -> FloatArray:
    """Least-squares inverse of :func:`stft` (Griffin & Lim, 1984, eq. 6): ``(samples,)``.

    Args:
        spectrum: ``(frames, n_fft // 2 + 1)``, ``n_fft >= size``.
        size, hop: as in the analysis; ``hop`` divides ``size`` and is at most half of it.
        samples: length of the result.
    """
    window = hann(size)
    frames = irfft(spectrum, axis=1)[:, :size] * window
    return overlap_add(frames, hop, samples) / window_power(len(frames), size, hop, samples)


@lru_cache(maxsize=8)
def window_power(count: int, size: int, hop: int, samples: int) -> FloatArray:
    """What the squared windows of ``count`` frames add up to at every sample."""
    total = overlap_add(np.broadcast_to(hann(size) ** 2, (count, size)), hop, samples)
    total = np.maximum(total, 1e-3).astype(np.float32)
    total.flags.writeable = False
    return total


def erb_band_edges(bands: int, sample_rate: int, low_hz: float = 50.0) -> FloatArray:
    """Edges in Hz ``(bands + 1,)``, evenly spaced on the ERB-rate scale of Glasberg & Moore (1990)."""
    low, high = (21.4 * np.log10(1 + 0.00437 * hz) for hz in (low_hz, sample_rate / 2))
    rate = np.linspace(low, high, bands + 1)
    return (10 ** (rate / 21.4) - 1) / 0.00437


def shape_bands(
    carrier: ComplexArray, target: ComplexArray, edges_hz: FloatArray, sample_rate: int
) -> ComplexArray:
    """Gives a carrier the short-time band energies of a target, and nothing else of it.

    Args:
        carrier, target: STFTs ``(frames, bins)`` of the same layout.
        edges_hz: ``(bands + 1,)``, ascending. Bins outside them become zero.
        sample_rate: in Hz.

    Returns:
        ``(frames, bins)``.
    """
    bins = carrier.shape[1]
    frequency = np.linspace(0, sample_rate / 2, bins)
    stop = int(np.searchsorted(frequency, edges_hz[-1], side="right"))
    starts = np.unique(np.searchsorted(frequency[:stop], edges_hz[:-1]))
    starts = starts[starts < stop]
    inside = slice(int(starts[0]), stop)
    widths = np.diff(starts, append=stop)
    starts = starts - starts[0]

    def energies(spectrum: ComplexArray) -> FloatArray:
        return np.add.reduceat(np.abs(spectrum[:, inside]) ** 2, starts, axis=1)

    gains = np.sqrt(energies(target) / np.maximum(energies(carrier), TINY))
    shaped = np.zeros_like(carrier)
    shaped[:, inside] = carrier[:, inside] * np.repeat(gains, widths, axis=1)
    return shaped
