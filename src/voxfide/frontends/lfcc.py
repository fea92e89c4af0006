"""Linear-frequency cepstral coefficients, as the ASVspoof baselines define them.

M. Sahidullah, T. Kinnunen, C. Hanilçi, "A comparison of features for synthetic
speech detection", Interspeech 2015; ASVspoof 2019 baseline B1: pre-emphasis 0.97,
Hamming windows of 20 ms every 10 ms, 512-point power spectrum, 20 triangular filters
spaced linearly from 0 to 8 kHz, log10, orthonormal DCT-II with all 20 coefficients
(the 0th included), deltas over three frames, and deltas of these: 60 in all.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from voxfide.errors import UsageError
from voxfide.frontends.base import Frontend
from voxfide.types import SAMPLE_RATE

LOG_FLOOR = 2.0**-52
"""Added before the logarithm: the spacing of double-precision numbers at 1, as in the baseline."""


@dataclass(frozen=True)
class LfccSettings:
    """Analysis parameters; the defaults are ASVspoof 2019's baseline B1."""

    window_ms: float = 20.0
    hop_ms: float = 10.0
    n_fft: int = 512
    n_filters: int = 20
    n_coefficients: int = 20
    pre_emphasis: float = 0.97
    deltas: bool = True

    @property
    def window_samples(self) -> int:
        return round(self.window_ms * SAMPLE_RATE / 1000)

    @property
    def hop_samples(self) -> int:
        return round(self.hop_ms * SAMPLE_RATE / 1000)

    def __post_init__(self) -> None:
        if not 0 < self.hop_samples <= self.window_samples <= self.n_fft:
            raise UsageError(
                f"LFCC settings: hop {self.hop_samples}, window {self.window_samples}, n_fft {self.n_fft} "
                "(expected 0 < hop <= window <= n_fft, in samples)"
            )
        if not 0 < self.n_coefficients <= self.n_filters:
            raise UsageError(
                f"LFCC settings: {self.n_coefficients} coefficients of {self.n_filters} filters "
                "(expected 1 <= n_coefficients <= n_filters)"
            )


def linear_filterbank(n_fft: int, n_filters: int) -> Tensor:
    """Triangular filters with linearly spaced edges over 0...8 kHz, ``(n_fft // 2 + 1, n_filters)``."""
    frequency = torch.linspace(0, SAMPLE_RATE / 2, n_fft // 2 + 1, dtype=torch.float64)[:, None]
    edge = torch.linspace(0, SAMPLE_RATE / 2, n_filters + 2, dtype=torch.float64)
    rise = (frequency - edge[:-2]) / (edge[1:-1] - edge[:-2])
    fall = (edge[2:] - frequency) / (edge[2:] - edge[1:-1])
    return torch.minimum(rise, fall).clamp_min(0)


def dct_matrix(n_inputs: int, n_outputs: int) -> Tensor:
    """Orthonormal DCT-II, ``(n_inputs, n_outputs)``."""
    n = torch.arange(n_inputs, dtype=torch.float64)[:, None]
    k = torch.arange(n_outputs, dtype=torch.float64)[None, :]
    matrix = torch.cos(math.pi / n_inputs * (n + 0.5) * k) * math.sqrt(2 / n_inputs)
    matrix[:, 0] /= math.sqrt(2)
    return matrix


def frame_count(n_samples: int, settings: LfccSettings) -> int:
    """Windows of a signal; a last one that it fills only in part counts."""
    return max(0, math.ceil((n_samples - settings.window_samples) / settings.hop_samples)) + 1


def framed(signal: Tensor, settings: LfccSettings) -> Tensor:
    """Windows ``(frames, window samples)`` of ``(samples,)``, the last completed with zeros."""
    n_frames = frame_count(len(signal), settings)
    missing = (n_frames - 1) * settings.hop_samples + settings.window_samples - len(signal)
    return F.pad(signal, (0, missing)).unfold(0, settings.window_samples, settings.hop_samples)


def emphasised(waveform: Tensor, factor: float) -> Tensor:
    """``x[t] - factor x[t - 1]``, with the first sample as it is."""
    return torch.cat([waveform[:1], waveform[1:] - factor * waveform[:-1]])


def with_deltas(static: Tensor, frames: Sequence[int]) -> Tensor:
    """Packed coefficients, their deltas, and the deltas of these, ``(sum of frames, 3 dim)``."""
    velocity = delta(static, frames)
    return torch.cat([static, velocity, delta(velocity, frames)], dim=1)


def delta(features: Tensor, frames: Sequence[int]) -> Tensor:
    """``x[t + 1] - x[t - 1]`` of packed utterances ``(sum of frames, dim)``, the ends of each repeated."""
    ends = torch.tensor(frames, device=features.device).cumsum(0)
    starts = ends - torch.tensor(frames, device=features.device)
    before = torch.arange(-1, len(features) - 1, device=features.device)
    before[starts] = starts
    after = before + 2
    after[starts] = starts + 1
    after[ends - 1] = ends - 1
    return features[after] - features[before]


class Lfcc(Frontend):
    """LFCC as a front-end of one layer."""

    kind: ClassVar[str] = "lfcc"
    source_modules: ClassVar[tuple[str, ...]] = (__name__,)
    window: Tensor
    filterbank: Tensor
    dct: Tensor

    def __init__(self, **settings: Any) -> None:
        super().__init__()
        try:
            self.parameters_of_analysis = LfccSettings(**settings)
        except TypeError as error:
            raise UsageError(f"LFCC settings: {error}") from None
        s = self.parameters_of_analysis
        self.name = "lfcc"
        self.n_layers = 1
        self.dim = s.n_coefficients * (3 if s.deltas else 1)
        self.hop_samples = s.hop_samples
        self.min_samples = s.window_samples
        window = torch.hamming_window(s.window_samples, periodic=False, dtype=torch.float64)
        self.register_buffer("window", window.float(), persistent=False)
        self.register_buffer("filterbank", linear_filterbank(s.n_fft, s.n_filters).float(), persistent=False)
        self.register_buffer("dct", dct_matrix(s.n_filters, s.n_coefficients).float(), persistent=False)

    @classmethod
    def from_settings(cls, name: str, settings: dict[str, Any]) -> Lfcc:
        return cls(**settings)

    def n_frames(self, n_samples: int) -> int:
        """A last frame that the signal fills only in part is completed with zeros."""
        return frame_count(n_samples, self.parameters_of_analysis)

    def settings(self) -> dict[str, Any]:
        return asdict(self.parameters_of_analysis)

    def iter_layers(self, waveforms: Sequence[Tensor]) -> Iterator[Tensor]:
        """Yields the one layer, ``(sum of frames, dim)``."""
        s = self.parameters_of_analysis
        windows = [framed(emphasised(w, s.pre_emphasis), s) for w in waveforms]
        sizes = [len(f) for f in windows]
        power = torch.fft.rfft(torch.cat(windows) * self.window, n=s.n_fft).abs().square()
        static = torch.log10(power @ self.filterbank + LOG_FLOOR) @ self.dct
        yield with_deltas(static, sizes) if s.deltas else static


def make(name: str, n_layers: int | None, *, revision: str | None, precision: str, **options: Any) -> Lfcc:
    """LFCC from its analysis parameters; it has no weights, hence neither revision nor precision."""
    if precision != "fp32" or revision is not None:
        raise UsageError(f"front-end {name} has no weights: precision and revision do not apply")
    return Lfcc(**options)
