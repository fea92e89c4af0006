"""The numbers by which :mod:`voxfide.domain` knows audio: 20 LFCC of a window, in NumPy.

The analysis is that of :class:`voxfide.frontends.lfcc.Lfcc` without deltas (a test holds the two together),
written here without torch, which exported detectors do without.
"""

from __future__ import annotations

from functools import cache
from typing import Final

import numpy as np

from voxfide.errors import AudioTooShortError
from voxfide.types import SAMPLE_RATE, Float32Array, Float64Array, FloatArray, Seconds

WINDOW: Seconds = 4.0
"""Piece of a recording that becomes one vector: the windows that a recording is analysed in by default."""

N_COEFFICIENTS: Final = 20
DIM: Final = 2 * N_COEFFICIENTS - 1

_RANGE: Final = 3.0  # powers of ten between the loudest frame and the softest that counts
_FRAME: Final = 320
_HOP: Final = 160
_N_FFT: Final = 512
_PRE_EMPHASIS: Final = np.float32(0.97)
_LOG_FLOOR: Final = np.float32(2.0**-52)


def domain_features(waveform: FloatArray) -> Float64Array:
    """``(39,)`` of one window ``(samples,)`` at 16 kHz.

    Raises:
        AudioTooShortError: shorter than 20 ms.
    """
    if len(waveform) < _FRAME:
        raise AudioTooShortError(
            "<waveform>",
            f"{len(waveform)} samples: too short to tell what it sounds like",
            f"at least {_FRAME} samples, {_FRAME / SAMPLE_RATE:.3f} s",
        )
    frames = lfcc(np.ascontiguousarray(waveform, np.float32)).astype(np.float64)
    level = frames[:, 0] / np.sqrt(N_COEFFICIENTS)  # mean over the filters of log10 of their power
    heard = frames[level >= level.max() - _RANGE]
    return np.concatenate([heard.mean(axis=0)[1:], heard.std(axis=0)])


def features_of(waveform: FloatArray) -> Float64Array:
    """``(windows, 39)`` of a waveform of any length: consecutive windows of 4 s.

    A rest shorter than half a window joins the one before it.

    Raises:
        AudioTooShortError: shorter than 20 ms.
    """
    size = round(WINDOW * SAMPLE_RATE)
    starts = list(range(0, max(1, len(waveform) - size // 2), size))
    ends = [*starts[1:], len(waveform)]
    return np.stack([domain_features(waveform[a:b]) for a, b in zip(starts, ends, strict=True)])


def lfcc(waveform: Float32Array) -> Float32Array:
    """``(frames, 20)`` of ``(samples,)``; a last frame that the signal fills only in part is completed."""
    emphasised = np.concatenate([waveform[:1], waveform[1:] - _PRE_EMPHASIS * waveform[:-1]])
    n_frames = max(0, -(-(len(waveform) - _FRAME) // _HOP)) + 1
    signal = np.pad(emphasised, (0, (n_frames - 1) * _HOP + _FRAME - len(waveform)))
    frames = np.lib.stride_tricks.sliding_window_view(signal, _FRAME)[::_HOP]
    window, filters, dct = _constants()
    spectra = np.fft.rfft(frames * window, n=_N_FFT)
    power = spectra.real**2 + spectra.imag**2
    found: Float32Array = np.log10(power @ filters + _LOG_FLOOR) @ dct
    return found


@cache
def _constants() -> tuple[Float32Array, Float32Array, Float32Array]:
    """Hamming window, triangular filters spaced linearly over 0...8 kHz, orthonormal DCT-II."""
    frequency = np.linspace(0, SAMPLE_RATE / 2, _N_FFT // 2 + 1)[:, None]
    edge = np.linspace(0, SAMPLE_RATE / 2, N_COEFFICIENTS + 2)
    rise = (frequency - edge[:-2]) / (edge[1:-1] - edge[:-2])
    fall = (edge[2:] - frequency) / (edge[2:] - edge[1:-1])
    filters = np.maximum(np.minimum(rise, fall), 0)
    n, k = np.arange(N_COEFFICIENTS)[:, None], np.arange(N_COEFFICIENTS)
    dct = np.cos(np.pi / N_COEFFICIENTS * (n + 0.5) * k) * np.sqrt(2 / N_COEFFICIENTS)
    dct[:, 0] /= np.sqrt(2)
    return np.hamming(_FRAME).astype(np.float32), filters.astype(np.float32), dct.astype(np.float32)
