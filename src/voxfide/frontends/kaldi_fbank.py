"""Log mel filter-bank energies as Kaldi's ``compute-fbank-feats`` defines them, without dither.

D. Povey et al., "The Kaldi speech recognition toolkit", ASRU 2011; ``feature-fbank.cc``
and ``mel-computations.cc``. Frames of 25 ms every 10 ms that lie wholly inside the signal
(``snip-edges``); mean removed and pre-emphasised frame by frame; power spectrum of 512
points; triangles spaced and linear on the mel scale 1127 ln(1 + f / 700).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from voxfide.frontends.mel import triangles
from voxfide.types import SAMPLE_RATE

FRAME_SAMPLES = 400
HOP_SAMPLES = 160
N_FFT = 512
PRE_EMPHASIS = 0.97
LOWEST_HZ = 20.0
FLOOR = torch.finfo(torch.float32).eps
"""Energies below this are raised to it before the logarithm."""


def n_frames(n_samples: int) -> int:
    """Whole frames in ``n_samples`` samples."""
    return max(0, (n_samples - FRAME_SAMPLES) // HOP_SAMPLES + 1)


def samples_for(frames: int) -> int:
    """The shortest signal of that many frames (at least one)."""
    return FRAME_SAMPLES + (frames - 1) * HOP_SAMPLES


def window(kind: str) -> Tensor:
    """Kaldi's ``hamming`` or ``povey`` window, ``(400,)`` float64; the latter is Hann to the power 0.85."""
    n = torch.arange(FRAME_SAMPLES, dtype=torch.float64)
    cosine = torch.cos(2 * torch.pi * n / (FRAME_SAMPLES - 1))
    if kind == "hamming":
        return 0.54 - 0.46 * cosine
    if kind == "povey":
        return (0.5 - 0.5 * cosine) ** 0.85
    raise ValueError(f"window {kind!r} (expected hamming or povey)")


def mel_filterbank(n_filters: int) -> Tensor:
    """Triangular filters from 20 Hz to 8 kHz, ``(257, n_filters)`` float32.

    In single precision throughout, as Kaldi has it: the narrow filters at the low end are
    sensitive to it (weights change by up to 1e-5).
    """
    low, high = (1127.0 * math.log(1 + hertz / 700.0) for hertz in (LOWEST_HZ, SAMPLE_RATE / 2))
    edges = low + torch.arange(n_filters + 2) * ((high - low) / (n_filters + 1))
    frequency = torch.arange(N_FFT // 2 + 1) * (SAMPLE_RATE / N_FFT)
    bank = triangles(1127.0 * torch.log(1.0 + frequency / 700.0), edges)
    bank[-1] = 0
    return bank


class KaldiFbank(nn.Module):
    """Waveform to log mel energies.

    Args:
        n_filters: mel bands.
        window_kind: ``povey``, Kaldi's default, or ``hamming``.
    """

    window: Tensor
    filterbank: Tensor

    def __init__(self, n_filters: int, window_kind: str) -> None:
        super().__init__()
        # Made for real even where the model around them is built without memory for its weights.
        with torch.device("cpu"):
            self.register_buffer("window", window(window_kind).float(), persistent=False)
            self.register_buffer("filterbank", mel_filterbank(n_filters), persistent=False)

    def forward(self, waveform: Tensor) -> Tensor:
        """``(samples,)`` to ``(frames, n_filters)``, natural logarithms, in float32 whatever autocast says.

        The sample values enter as they are: Kaldi's own scale is that of 16-bit integers.
        """
        with torch.autocast(waveform.device.type, enabled=False):
            frames = waveform.unfold(0, FRAME_SAMPLES, HOP_SAMPLES)
            frames = frames - frames.mean(dim=1, keepdim=True)
            before = torch.cat([frames[:, :1], frames[:, :-1]], dim=1)
            emphasised = (frames - PRE_EMPHASIS * before) * self.window
            power = torch.fft.rfft(emphasised, n=N_FFT).abs().square()
            return torch.log((power @ self.filterbank).clamp_min(FLOOR))
