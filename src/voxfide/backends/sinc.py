"""A fixed bank of windowed sinc band-pass filters, spaced on the mel scale.

M. Ravanelli, Y. Bengio, "Speaker recognition from raw waveform with SincNet", SLT 2018; with
filters that are not learnt as in RawNet2 (H. Tak et al., ICASSP 2021) and AASIST.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from voxfide.types import SAMPLE_RATE, Float32Array, Float64Array


def mel_edges(n_bands: int) -> Float64Array:
    """``n_bands + 1`` frequencies in Hz from 0 to half the sampling rate, evenly spaced in mel."""
    mel = np.linspace(0, 2595 * np.log10(1 + SAMPLE_RATE / 2 / 700), n_bands + 1)
    return np.asarray(700 * (10 ** (mel / 2595) - 1))


def band_pass_filters(n_bands: int, n_taps: int) -> Float32Array:
    """Impulse responses ``(n_bands, taps)``: ideal band-passes under a Hamming window.

    An even number of taps is raised by one, which makes them symmetric about a sample. Sines are
    taken in single precision, as in the official AASIST code: its weights were trained with
    these filters, to the last bit.
    """
    n_taps += 1 - n_taps % 2
    time = np.arange(n_taps, dtype=np.float32) - np.float32((n_taps - 1) / 2)
    double_edges = 2 * mel_edges(n_bands)[:, None]
    cycles = double_edges.astype(np.float32) * time / np.float32(SAMPLE_RATE)
    angle = np.float32(np.pi) * np.where(cycles == 0, np.float32(1e-20), cycles)
    low_pass = double_edges / SAMPLE_RATE * (np.sin(angle) / angle)
    return (low_pass[1:] - low_pass[:-1]).astype(np.float32) * np.hamming(n_taps).astype(np.float32)


class SincFilters(nn.Module):
    """The filters as a layer; nothing in it is learnt or saved."""

    filters: Tensor

    def __init__(self, n_bands: int, n_taps: int) -> None:
        super().__init__()
        filters = torch.from_numpy(band_pass_filters(n_bands, n_taps))
        self.register_buffer("filters", filters, persistent=False)
        self.n_taps = filters.shape[1]

    def forward(self, waveform: Tensor) -> Tensor:
        """``(batch, bands, samples - taps + 1)`` of ``(batch, samples)``."""
        return F.conv1d(waveform[:, None], self.filters[:, None])
