"""Coders at rates too low for them: a transform codec and ADPCM."""

from __future__ import annotations

import numpy as np
from scipy.fft import dct, idct

from voxfide.resynthesis.contract import copy_synthesis
from voxfide.resynthesis.frames import TINY, erb_band_edges, even_samples
from voxfide.types import FloatArray, IntArray

MDCT_HOP_MS = 20.0
MDCT_BANDS = 20
SCALE_STEP_DB = 3.0
STEP_OVER_RMS = 1.7
"""Quantiser step over the band's RMS: most values fall to zero, a few to one step."""

BAND_FLOOR_DB = -38.0
"""Bands this far under the loudest band of their frame are not sent."""

ADPCM_BLOCK = 505
"""Samples a block, as in 256-byte blocks of the WAV form; each block starts afresh."""

ADPCM_LOAD = 0.1
"""RMS at which the coder is driven, of full scale."""


@copy_synthesis
def mdct_codec(signal: FloatArray, sample_rate: int, rng: np.random.Generator) -> FloatArray:
    """20 ms MDCT, scale factors in 3 dB steps, coefficients in steps of 1.7 times the band's RMS."""
    hop = even_samples(MDCT_HOP_MS, sample_rate)
    # Where the block grid falls against the speech is chance in any codec.
    offset = int(rng.integers(hop))
    coefficients = mdct(np.pad(signal, (offset, 0)), hop)
    edges = erb_band_edges(MDCT_BANDS, sample_rate, low_hz=0.0) / (sample_rate / 2) * hop
    starts = np.unique(np.rint(edges[:-1]).astype(np.int64))
    widths = np.diff(np.append(starts, hop))
    power = np.add.reduceat(coefficients**2, starts, axis=1) / widths
    level_db = SCALE_STEP_DB * np.rint(10 * np.log10(power + TINY) / SCALE_STEP_DB)
    sent = level_db > level_db.max(axis=1, keepdims=True) + BAND_FLOOR_DB
    step = np.repeat(STEP_OVER_RMS * 10 ** (level_db / 20), widths, axis=1)
    quantised = np.rint(coefficients / step) * step * np.repeat(sent, widths, axis=1)
    return inverse_mdct(quantised, hop)[offset : offset + len(signal)]


def mdct(signal: FloatArray, hop: int) -> FloatArray:
    """MDCT with a sine window (Princen, Johnson & Bradley, 1987): ``(samples,)`` → ``(frames, hop)``."""
    count = -(-len(signal) // hop) + 1
    padded = np.pad(signal, (hop, count * hop - len(signal)))
    blocks = padded.reshape(-1, hop)
    window = np.sin(np.pi * (np.arange(2 * hop) + 0.5) / (2 * hop))
    first, second = blocks[:-1] * window[:hop], blocks[1:] * window[hop:]
    half = hop // 2
    a, b, c, d = first[:, :half], first[:, half:], second[:, :half], second[:, half:]
    folded = np.concatenate([-c[:, ::-1] - d, a - b[:, ::-1]], axis=1)
    return dct(folded, type=4, norm="ortho", axis=1)


def inverse_mdct(coefficients: FloatArray, hop: int) -> FloatArray:
    """Inverse of :func:`mdct`: ``(frames, hop)`` → ``((frames - 1) * hop,)``."""
    folded = idct(coefficients, type=4, norm="ortho", axis=1)
    half = hop // 2
    left, right = folded[:, :half], folded[:, half:]
    window = np.sin(np.pi * (np.arange(2 * hop) + 0.5) / (2 * hop))
    first = np.concatenate([right, -right[:, ::-1]], axis=1) * window[:hop]
    second = np.concatenate([-left[:, ::-1], -left], axis=1) * window[hop:]
    return (second[:-1] + first[1:]).reshape(-1)


def _step_sizes() -> IntArray:
    """The 89 quantiser steps of IMA ADPCM: 7, growing by a tenth each, to 32767."""
    steps = [7]
    while len(steps) < 89:
        steps.append(max(steps[-1] + 1, int(7 * 1.1 ** len(steps))))
    return np.minimum(np.array(steps, dtype=np.int64), 32767)


STEPS = _step_sizes()
INDEX_CHANGE = np.array([-1, 2], dtype=np.int64)


@copy_synthesis
def adpcm(signal: FloatArray, sample_rate: int, rng: np.random.Generator) -> FloatArray:
    """Two-bit adaptive differential PCM after IMA (1992); blocks are coded side by side."""
    count = -(-len(signal) // ADPCM_BLOCK)
    scale = ADPCM_LOAD * 32768
    pcm = np.clip(np.rint(signal * scale), -32768, 32767).astype(np.int64)
    blocks = np.pad(pcm, (0, count * ADPCM_BLOCK - len(pcm))).reshape(count, ADPCM_BLOCK).T
    decoded = np.empty_like(blocks)
    decoded[0] = predicted = blocks[0]
    first_move = np.abs(np.diff(blocks[:16], axis=0)).mean(axis=0)
    index = np.clip(np.searchsorted(STEPS, first_move), 0, len(STEPS) - 1)
    for i in range(1, ADPCM_BLOCK):
        step = STEPS[index]
        difference = blocks[i] - predicted
        large = np.abs(difference) >= step
        move = np.where(large, step + step // 2, step // 2)
        predicted = np.clip(predicted + np.where(difference < 0, -move, move), -32768, 32767)
        index = np.clip(index + INDEX_CHANGE[large.astype(np.int64)], 0, len(STEPS) - 1)
        decoded[i] = predicted
    return decoded.T.reshape(-1)[: len(signal)] / scale
