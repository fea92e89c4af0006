"""LFCC and their moments on padded batches, with plain array operations that every runtime has.

Spectra are products with a matrix of cosines and sines under the window: at these sizes that costs about
what an FFT does, and it is one operation that all runtimes have.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from voxfide.exporting.masks import average, cleared, shares, valid_until
from voxfide.frontends.lfcc import LOG_FLOOR, Lfcc, LfccSettings
from voxfide.frontends.lfcc_moments import FLOOR, LEAST_DEVIATION, SILENCE, MomentEncoder


class PaddedSpectrum(nn.Module):
    """Power of linear filters, frame by frame.

    Args:
        settings: of the analysis.
        window: ``(window samples,)``.
        filterbank: ``(bins, filters)``.
    """

    circle: Tensor
    window: Tensor
    filterbank: Tensor

    def __init__(self, settings: LfccSettings, window: Tensor, filterbank: Tensor) -> None:
        super().__init__()
        self.settings = settings
        circle = 2 * math.pi / settings.n_fft * torch.arange(settings.n_fft, dtype=torch.float64)
        self.register_buffer("circle", torch.stack([circle.cos(), circle.sin()]).float())
        self.register_buffer("window", window)
        self.register_buffer("filterbank", filterbank)

    def forward(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Power ``(batch, frames, filters)``, and valid frames, of ``waveform (batch, samples)``."""
        s = self.settings
        before = F.pad(waveform, (1, 0))[:, :-1]
        emphasised = waveform - s.pre_emphasis * before
        # A last frame that an utterance fills only in part is completed with zeros: so is the batch.
        emphasised = cleared(emphasised, valid_until(lengths, waveform.shape[1]))
        emphasised = F.pad(emphasised, (0, s.window_samples))
        spectrum = F.conv1d(emphasised[:, None], self._waves(), stride=s.hop_samples)
        spectrum = spectrum.narrow(2, 0, self._frames_of(waveform.shape[1]))
        bins = self.filterbank.shape[0]
        real, imaginary = spectrum[:, :bins], spectrum[:, bins:]
        power = real * real + imaginary * imaginary
        return power.transpose(1, 2) @ self.filterbank, self._frames_of(lengths)

    def _frames_of(self, n: Any) -> Any:
        """Frames of ``n`` samples, at least one window; a last one may be filled only in part."""
        s = self.settings
        return (n - s.window_samples + s.hop_samples - 1) // s.hop_samples + 1

    def _waves(self) -> Tensor:
        """Cosines, then sines, of every bin under the window, ``(2 bins, 1, window samples)``.

        Looked up in one period of both: the graph's file holds a thousandth of the numbers, and the runtime
        makes them once, as it opens it.
        """
        n_bins, size = self.filterbank.shape[0], self.window.shape[0]
        turns = torch.arange(n_bins)[:, None] * torch.arange(size)[None] % self.settings.n_fft
        return (self.circle[:, turns].reshape(2 * n_bins, size) * self.window)[:, None]


class PaddedLfcc(nn.Module):
    """:class:`~voxfide.frontends.lfcc.Lfcc` of a padded batch."""

    dct: Tensor

    def __init__(self, frontend: Lfcc) -> None:
        super().__init__()
        settings = frontend.parameters_of_analysis
        self.spectrum = PaddedSpectrum(settings, frontend.window, frontend.filterbank)
        self.register_buffer("dct", frontend.dct)
        self.deltas = settings.deltas

    def forward(self, waveform: Tensor, lengths: Tensor) -> tuple[list[Tensor], Tensor]:
        """The one layer, ``(batch, frames, dim)``, and valid frames."""
        power, frames = self.spectrum(waveform, lengths)
        # The floor is so small that exporters take it for 0: in units of it, it is 1.
        static = (_log10(power * (1 / LOG_FLOOR) + 1.0) + math.log10(LOG_FLOOR)) @ self.dct
        return [with_deltas(static, frames) if self.deltas else static], frames


class PaddedMoments(nn.Module):
    """:class:`~voxfide.frontends.lfcc_moments.LfccMoments` of a padded batch."""

    def __init__(self, encoder: MomentEncoder) -> None:
        super().__init__()
        analyses = encoder.config.analyses
        self.spectra = nn.ModuleList(
            PaddedSpectrum(s, encoder.get_buffer(f"window{i}"), encoder.get_buffer(f"filterbank{i}"))
            for i, s in enumerate(analyses)
        )
        for i in range(len(analyses)):
            self.register_buffer(f"dct{i}", encoder.get_buffer(f"dct{i}"))

    def forward(self, waveform: Tensor, lengths: Tensor) -> tuple[list[Tensor], Tensor]:
        """The one layer, ``(batch, 1, dim)``, and one frame each."""
        parts = [
            self._moments(spectrum, self.get_buffer(f"dct{i}"), waveform, lengths)
            for i, spectrum in enumerate(self.spectra)
        ]
        return [torch.cat(parts, dim=1)[:, None]], torch.ones_like(lengths)

    def _moments(self, spectrum: nn.Module, dct: Tensor, waveform: Tensor, lengths: Tensor) -> Tensor:
        power, frames = spectrum(waveform, lengths)
        share = shares(frames, power.shape[1])
        mean_power = average(power, share).mean(2, keepdim=True)
        # A sum with SILENCE is what it is compared with; exporters take so small a term for 0.
        static = _log10((power + FLOOR * mean_power).clamp_min(SILENCE)) @ dct
        return moments(with_deltas(static, frames), share)


def moments(x: Tensor, share: Tensor) -> Tensor:
    """As :func:`voxfide.frontends.lfcc_moments.moments`, of the frames of ``x`` that have a share."""
    centred = x - average(x, share)
    deviation = average(centred * centred, share).sqrt() + LEAST_DEVIATION
    scaled = centred / deviation
    squares = scaled * scaled
    kurtosis = average(squares * squares, share)
    return torch.cat([deviation.log(), kurtosis.clamp_min(1.0).log()], dim=2)[:, 0]


def with_deltas(static: Tensor, frames: Tensor) -> Tensor:
    """Coefficients, their deltas, and the deltas of these, ``(batch, frames, 3 dim)``."""
    last = torch.arange(static.shape[1])[None, :, None] == frames[:, None, None] - 1
    velocity = _delta(static, last)
    return torch.cat([static, velocity, _delta(velocity, last)], dim=2)


def _delta(x: Tensor, last: Tensor) -> Tensor:
    """``x[t + 1] - x[t - 1]``, both ends of every utterance repeated."""
    before = torch.cat([x[:, :1], x[:, :-1]], dim=1)
    after = torch.where(last, x, torch.cat([x[:, 1:], x[:, -1:]], dim=1))
    return after - before


def _log10(x: Tensor) -> Tensor:
    return x.log() * (1 / math.log(10))
