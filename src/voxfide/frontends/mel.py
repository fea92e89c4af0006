"""Spectrograms and the mel filter banks of the pretrained audio models, each as its authors have it.

Two mel scales are in use: HTK's, ``m = 2595 log10(1 + f / 700)``, and that of
M. Slaney's Auditory Toolbox (1998), linear below 1 kHz and logarithmic above.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from voxfide.types import SAMPLE_RATE

LINEAR_STEP = 200.0 / 3
"""Slaney's scale: Hz per mel below 1 kHz."""
KNEE_HZ = 1000.0
KNEE_MEL = KNEE_HZ / LINEAR_STEP
LOG_STEP = math.log(6.4) / 27
"""Slaney's scale: natural logarithm of frequency per mel above 1 kHz."""


def spectrogram(waveform: Tensor, window: Tensor, hop: int, n_fft: int, *, centred: bool) -> Tensor:
    """Magnitudes of the short-time Fourier transform, ``(frames, n_fft // 2 + 1)``.

    Args:
        waveform: ``(samples,)``.
        window: ``(window samples,)``; each frame is completed with zeros to ``n_fft``.
        hop: samples from one frame to the next.
        n_fft: length of the transform.
        centred: frame t is centred on sample ``t * hop``, with zeros beyond both ends; else
            it starts there and only whole frames count.
    """
    if centred:
        waveform = F.pad(waveform, (len(window) // 2, len(window) // 2))
    return torch.fft.rfft(waveform.unfold(0, len(window), hop) * window, n=n_fft).abs()


def htk_edges(low: float, high: float, n: int) -> Tensor:
    """``n`` points in mel of HTK, equally spaced from ``low`` to ``high`` Hz, ``(n,)`` float64."""
    first, last = (2595.0 * math.log10(1.0 + hertz / 700.0) for hertz in (low, high))
    return torch.linspace(first, last, n, dtype=torch.float64)


def from_htk(mel: Tensor) -> Tensor:
    """Mel of HTK's scale to Hz."""
    return 700.0 * (10.0 ** (mel / 2595.0) - 1.0)


def from_slaney(mel: Tensor) -> Tensor:
    """Mel of Slaney's scale to Hz."""
    return torch.where(mel < KNEE_MEL, mel * LINEAR_STEP, KNEE_HZ * torch.exp(LOG_STEP * (mel - KNEE_MEL)))


def bin_frequencies(n_fft: int) -> Tensor:
    """Hz of the bins of a transform at 16 kHz, ``(n_fft // 2 + 1,)`` float64."""
    return torch.linspace(0, SAMPLE_RATE / 2, n_fft // 2 + 1, dtype=torch.float64)


def triangles(positions: Tensor, edges: Tensor) -> Tensor:
    """Filter k rises from edge k to 1 at edge k + 1 and falls to edge k + 2, ``(positions, filters)``."""
    position = positions[:, None]
    rise = (position - edges[:-2]) / (edges[1:-1] - edges[:-2])
    fall = (edges[2:] - position) / (edges[2:] - edges[1:-1])
    return torch.minimum(rise, fall).clamp_min(0)


def slaney_bank(n_fft: int, n_mels: int) -> Tensor:
    """0...8 kHz on Slaney's scale, triangles of equal area, ``(n_fft // 2 + 1, n_mels)``; librosa's."""
    top = KNEE_MEL + math.log(SAMPLE_RATE / 2 / KNEE_HZ) / LOG_STEP
    edges = from_slaney(torch.linspace(0, top, n_mels + 2, dtype=torch.float64))
    return (triangles(bin_frequencies(n_fft), edges) * (2.0 / (edges[2:] - edges[:-2]))).float()


def audioset_bank(n_fft: int, n_mels: int, low: float, high: float) -> Tensor:
    """Triangles that are straight in mel rather than in Hz, the first bin left out; TensorFlow's."""
    positions = 2595.0 * torch.log10(1.0 + bin_frequencies(n_fft) / 700.0)
    bank = triangles(positions, htk_edges(low, high, n_mels + 2))
    bank[0] = 0
    return bank.float()


def speechbrain_bank(n_fft: int, n_mels: int) -> Tensor:
    """0...8 kHz; each triangle falls as steeply as it rises, unlike elsewhere; SpeechBrain's."""
    edges = from_htk(htk_edges(0, SAMPLE_RATE / 2, n_mels + 2))
    width, centre = edges[1:-1] - edges[:-2], edges[1:-1]
    distance = (bin_frequencies(n_fft)[:, None] - centre).abs() / width
    return (1 - distance).clamp_min(0).float()
