"""Routes that keep short-time magnitudes and lose the phase."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solveh_banded
from scipy.sparse import csr_array

from voxfide.resynthesis.contract import copy_synthesis
from voxfide.resynthesis.frames import ComplexArray, even_samples, fft_size, istft, stft
from voxfide.types import FloatArray

MEL_BANDS = 80
MEL_LOW_HZ = 40.0
WINDOW_MS = 50.0
OVERLAP = 4
ITERATIONS = 32
MOMENTUM = 0.99
RIDGE = 1e-4


def mel_matrix(bands: int, n_fft: int, sample_rate: int, low_hz: float = MEL_LOW_HZ) -> csr_array:
    """Triangular mel filters ``(bands, n_fft // 2 + 1)``, HTK scale, each of unit sum."""
    top = 2595 * np.log10(1 + sample_rate / 2 / 700)
    mels = np.linspace(2595 * np.log10(1 + low_hz / 700), top, bands + 2)
    edges = 700 * (10 ** (mels / 2595) - 1)
    frequency = np.linspace(0, sample_rate / 2, n_fft // 2 + 1)
    # A filter narrower than two bins would be empty or a multiple of its neighbour.
    least = sample_rate / n_fft
    rise = (frequency - edges[:-2, None]) / np.maximum(np.diff(edges)[:-1, None], least)
    fall = (edges[2:, None] - frequency) / np.maximum(np.diff(edges)[1:, None], least)
    filters = np.maximum(0.0, np.minimum(rise, fall))
    return csr_array(filters / np.maximum(filters.sum(axis=1, keepdims=True), RIDGE))


def invert_mel(mel: FloatArray, filters: csr_array) -> FloatArray:
    """Magnitudes ``(frames, bins)`` from mel magnitudes ``(frames, bands)`` by the pseudo-inverse.

    Only neighbouring triangles overlap, so ``filters @ filters.T`` is tridiagonal and the
    pseudo-inverse is one banded solve. Negative values become zero.
    """
    gram = (filters @ filters.T).toarray()
    banded = np.zeros((2, len(gram)))
    banded[0, 1:] = np.diag(gram, 1)
    banded[1] = np.diag(gram) * (1 + RIDGE) + RIDGE * gram.max()
    weights = solveh_banded(banded, mel.T.astype(np.float64))
    return np.maximum(0.0, (filters.T @ weights).T)


def griffin_lim(
    magnitude: FloatArray, size: int, hop: int, samples: int, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Fast Griffin-Lim (Perraudin, Balazs & Søndergaard, 2013) from random phases.

    Args:
        magnitude: ``(frames, n_fft // 2 + 1)``.
        size, hop: window and hop in samples.
        samples: length of the result.
        rng: draws the initial phases.
    """
    magnitude = magnitude.astype(np.float32)
    n_fft = 2 * (magnitude.shape[1] - 1)
    spectrum = magnitude * random_phases(magnitude.shape, rng)
    previous: ComplexArray = np.zeros_like(spectrum)
    for _ in range(ITERATIONS):
        consistent = stft(istft(spectrum, size, hop, samples), size, hop, n_fft)
        accelerated = consistent + np.float32(MOMENTUM) * (consistent - previous)
        previous = consistent
        spectrum = accelerated * (magnitude / np.maximum(np.abs(accelerated), np.float32(1e-9)))
    return istft(spectrum, size, hop, samples).astype(np.float32)


def random_phases(shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.complex64]:
    """Unit phasors of uniform phase."""
    angle = (2 * np.pi * rng.random(shape, dtype=np.float32)).astype(np.float32)
    return np.cos(angle) + np.complex64(1j) * np.sin(angle)


@lru_cache(maxsize=4)
def _filters(n_fft: int, sample_rate: int) -> csr_array:
    return mel_matrix(MEL_BANDS, n_fft, sample_rate)


@copy_synthesis
def griffin_lim_mel(signal: FloatArray, sample_rate: int, rng: np.random.Generator) -> FloatArray:
    """80 mel magnitudes, expanded by the pseudo-inverse, phase by Griffin-Lim."""
    hop = even_samples(WINDOW_MS / OVERLAP, sample_rate)
    size = OVERLAP * hop
    n_fft = fft_size(size)
    filters = _filters(n_fft, sample_rate)
    magnitude = np.abs(stft(signal.astype(np.float32), size, hop, n_fft))
    mel = (filters @ magnitude.T.astype(np.float64)).T
    return griffin_lim(invert_mel(mel, filters), size, hop, len(signal), rng)


@copy_synthesis
def phase_randomised(signal: FloatArray, sample_rate: int, rng: np.random.Generator) -> FloatArray:
    """Linear STFT magnitudes of 24 ms windows with phases drawn at random."""
    hop = even_samples(6.0, sample_rate)
    size = OVERLAP * hop
    spectrum = stft(signal.astype(np.float32), size, hop)
    return istft(np.abs(spectrum) * random_phases(spectrum.shape, rng), size, hop, len(signal))
