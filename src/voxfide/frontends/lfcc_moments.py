"""How linear-frequency cepstra move: their spread and the weight of their tails, at several resolutions.

One vector an utterance: the logarithms of the standard deviation and of the kurtosis over time of LFCC
(Sahidullah, Kinnunen & Hanilçi, Interspeech 2015) and their deltas, from windows of several lengths. Means
are left out, and with them all that stays the same throughout a recording: a microphone, a room's
colour and any other linear filter shift the cepstra and leave their movement as it was. Short
windows follow the pulses of the voice, long ones resolve its harmonics; vocoders smooth either.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from voxfide.errors import UsageError
from voxfide.frontends.frozen import UtteranceFrontend
from voxfide.frontends.lfcc import (
    LfccSettings,
    dct_matrix,
    emphasised,
    framed,
    linear_filterbank,
    with_deltas,
)

RESOLUTIONS = (
    (20.0, 10.0, 512, 20, 20),
    (4.0, 2.0, 128, 30, 30),
    (10.0, 4.0, 256, 40, 40),
    (60.0, 15.0, 1024, 70, 40),
)
"""Window and hop in ms, points of the FFT, filters, coefficients."""

FLOOR = 1e-8
"""Times the filters' mean power, added before the logarithm: what lies 80 dB below it does not show."""

SILENCE = 1e-30
"""Keeps the logarithm of digital silence finite."""

LEAST_DEVIATION = 1e-6


@dataclass(frozen=True)
class MomentSettings:
    """Analysis parameters.

    Args:
        resolutions: window and hop in ms, points of the FFT, filters and coefficients of each.
        pre_emphasis: of the waveform.

    Raises:
        UsageError: values that no LFCC can have, or none at all.
    """

    resolutions: tuple[tuple[float, float, int, int, int], ...] = RESOLUTIONS
    pre_emphasis: float = 0.97

    def __post_init__(self) -> None:
        try:
            cut = tuple((float(w), float(h), int(n), int(f), int(c)) for w, h, n, f, c in self.resolutions)
        except (TypeError, ValueError):
            raise UsageError(
                f"lfcc-moments: resolutions {self.resolutions!r} (expected window ms, hop ms, FFT points, "
                "filters, coefficients of each)"
            ) from None
        if not cut:
            raise UsageError("lfcc-moments: no resolutions (expected at least one)")
        object.__setattr__(self, "resolutions", cut)
        _ = self.analyses  # raises where one of them cannot be

    @property
    def analyses(self) -> list[LfccSettings]:
        """Settings of the LFCC at each resolution."""
        return [
            LfccSettings(window, hop, n_fft, filters, coefficients, self.pre_emphasis)
            for window, hop, n_fft, filters, coefficients in self.resolutions
        ]

    @property
    def dim(self) -> int:
        """Numbers an utterance: two for each coefficient, its delta and the delta of that."""
        return sum(2 * 3 * s.n_coefficients for s in self.analyses)


class MomentEncoder(nn.Module):
    """A waveform ``(samples,)`` to its moments ``(dim,)``."""

    def __init__(self, config: MomentSettings) -> None:
        super().__init__()
        self.config = config
        for number, s in enumerate(config.analyses):
            window = torch.hamming_window(s.window_samples, periodic=False, dtype=torch.float64)
            constants = {
                "window": window,
                "filterbank": linear_filterbank(s.n_fft, s.n_filters),
                "dct": dct_matrix(s.n_filters, s.n_coefficients),
            }
            for name, constant in constants.items():
                self.register_buffer(f"{name}{number}", constant.float(), persistent=False)

    def forward(self, waveform: Tensor) -> Tensor:
        """Standard deviations, then kurtoses, both as logarithms, resolution by resolution."""
        signal = emphasised(waveform, self.config.pre_emphasis)
        parts = [moments(self._cepstra(number, s, signal)) for number, s in enumerate(self.config.analyses)]
        return torch.cat(parts)

    def _cepstra(self, number: int, s: LfccSettings, signal: Tensor) -> Tensor:
        """``(frames, 3 coefficients)``; a last frame that is filled only in part is completed with zeros."""
        windows = framed(signal, s)
        spectrum = torch.fft.rfft(windows * self.get_buffer(f"window{number}"), n=s.n_fft)
        power = (spectrum.real.square() + spectrum.imag.square()) @ self.get_buffer(f"filterbank{number}")
        level = torch.log10(power + FLOOR * power.mean() + SILENCE)
        static = level @ self.get_buffer(f"dct{number}")
        return with_deltas(static, [len(windows)])


def moments(frames: Tensor) -> Tensor:
    """Natural logarithms of standard deviation and kurtosis over time, ``(2 dim,)``, of ``(frames, dim)``.

    The kurtosis is the fourth central moment over the square of the second (Pearson), 3 of a normal
    distribution and at least 1; where nothing moves it is taken for 1.
    """
    centred = frames - frames.mean(0)
    deviation = centred.square().mean(0).sqrt()
    kurtosis = (centred / (deviation + LEAST_DEVIATION)).square().square().mean(0)
    return torch.cat([(deviation + LEAST_DEVIATION).log(), kurtosis.clamp_min(1.0).log()])


class LfccMoments(UtteranceFrontend):
    """Moments of LFCC as a front-end: one layer, one vector an utterance."""

    kind: ClassVar[str] = "lfcc-moments"
    source_modules: ClassVar[tuple[str, ...]] = (
        __name__, "voxfide.frontends.frozen", "voxfide.frontends.lfcc",
    )  # fmt: skip
    encoder_type = MomentEncoder
    config_type = MomentSettings

    def __init__(self, encoder: MomentEncoder, name: str) -> None:
        super().__init__(encoder, name)
        self.min_samples = max(s.window_samples for s in encoder.config.analyses)


def make(
    name: str, n_layers: int | None, *, revision: str | None, precision: str, **options: Any
) -> LfccMoments:
    """Moments of LFCC from its parameters; it has no weights, hence neither revision nor precision."""
    if precision != "fp32" or revision is not None:
        raise UsageError(f"front-end {name} has no weights: precision and revision do not apply")
    try:
        settings = MomentSettings(**options)
    except TypeError as error:
        raise UsageError(f"front-end {name}: {error}") from None
    return LfccMoments(MomentEncoder(settings), name)
