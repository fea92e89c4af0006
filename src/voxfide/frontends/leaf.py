"""LEAF, a learnable filter bank: 40 Gabor filters, Gaussian pooling, per-channel energy normalisation.

N. Zeghidour et al., "LEAF: A learnable frontend for audio classification", ICLR 2021. It has 320
parameters; what they are trained for is up to the classifier behind it. Without weights it
stands at its initial values: filters as narrow as those of a mel filter bank, pooling
close to a Hann window, normalisation as in Y. Wang et al. 2017 (PCEN).

Two definitions are in use, and they differ in their features:

``port``
    leaf-pytorch, and SpeechBrain after it. Pooled energies get a learnable bias that begins
    at 1, which leaves the initial features nearly constant; pooling windows are centred on
    samples 0, 160, 320 … . The only one with released weights.
``original``
    The authors' TensorFlow code: no bias, windows placed as TensorFlow's SAME padding does.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from voxfide.errors import UsageError
from voxfide.frontends.base import Frontend
from voxfide.frontends.mel import audioset_bank, bin_frequencies, from_htk, htk_edges, triangles
from voxfide.frontends.released import fill, read_pickled, require_no_options, state_in, weights_file
from voxfide.types import PathLike

DEFINITIONS = ("port", "original")
N_FILTERS = 40
WINDOW, HOP = 401, 160
LOW_HZ, HIGH_HZ = 60.0, 7800.0
N_FFT = 512
"""Points of the spectrum on which the initial filters are matched to mel filters."""
LEAST_ENERGY = 1e-5
PCEN_FLOOR = 1e-12
CHUNK = 64_000
"""Samples filtered at a time: 80 responses to them stand in memory."""

RELEASED_NAMES = {
    "_complex_conv._kernel": "gabor",
    "_pooling.weights": "pooling_width",
    "_pooling._bias": "pooling_bias",
    "_compression.alpha": "alpha",
    "_compression.delta": "delta",
    "_compression.root": "root",
    "_compression.ema._weights": "smoothing",
}
"""Names in a leaf-pytorch checkpoint, below ``features.``, and here."""


def mel_filters(definition: str) -> Tensor:
    """The mel filter bank that the initial filters imitate, ``(257, 40)``."""
    if definition == "original":
        return audioset_bank(N_FFT, N_FILTERS, LOW_HZ, HIGH_HZ)
    edges = from_htk(htk_edges(LOW_HZ, HIGH_HZ, N_FILTERS + 2))
    return triangles(bin_frequencies(N_FFT), edges).float()


def initial_gabor(definition: str) -> Tensor:
    """Centre (radians a sample) and width (standard deviation in samples) of each filter, ``(40, 2)``.

    The centre is the bin at a mel filter's peak; the width gives the magnitude response the
    same full width at half maximum, counted in bins.
    """
    magnitude = mel_filters(definition).sqrt()
    peak, centre = magnitude.max(dim=0)
    full_width = (magnitude >= peak / 2).sum(dim=0)
    width = math.sqrt(2 * math.log(2)) * N_FFT / (math.pi * full_width)
    return torch.stack([centre * (2 * math.pi / N_FFT), width], dim=1).float()


class Leaf(Frontend):
    """LEAF as a front-end of one layer: 40 values every 10 ms.

    Args:
        definition: ``port`` or ``original``.
    """

    kind: ClassVar[str] = "leaf"
    source_modules: ClassVar[tuple[str, ...]] = (__name__, "voxfide.frontends.mel")
    n_layers = 1
    dim = N_FILTERS
    hop_samples = HOP
    min_samples = HOP

    def __init__(self, definition: str = "port") -> None:
        super().__init__()
        if definition not in DEFINITIONS:
            raise UsageError(f"LEAF definition {definition!r} (expected one of {', '.join(DEFINITIONS)})")
        self.name = "leaf"
        self.definition = definition

        def each(value: float) -> nn.Parameter:
            return nn.Parameter(torch.full((N_FILTERS,), value))

        self.gabor = nn.Parameter(initial_gabor(definition))
        self.pooling_width = each(0.4)
        self.pooling_bias = each(1.0) if definition == "port" else None
        self.alpha, self.delta, self.root, self.smoothing = each(0.96), each(2.0), each(2.0), each(0.04)
        self.eval().requires_grad_(False)

    @classmethod
    def from_settings(cls, name: str, settings: dict[str, Any]) -> Self:
        return cls(**settings)

    def settings(self) -> dict[str, Any]:
        return {"definition": self.definition}

    def train(self, mode: bool = True) -> Self:
        """Frozen: stays in eval mode, whatever the module around it does."""
        return super().train(False)

    def n_frames(self, n_samples: int) -> int:
        """One for every 160 samples, begun or whole; 0 below ``min_samples``."""
        return math.ceil(n_samples / HOP) if n_samples >= self.min_samples else 0

    def iter_layers(self, waveforms: Sequence[Tensor]) -> Iterator[Tensor]:
        """Yields the one layer, ``(sum of frames, 40)``."""
        energies = [self.pooled_energy(self.energy(w)).T for w in waveforms]
        smoothed = self.smooth(energies)
        yield self.compress(torch.cat(energies), torch.cat(smoothed))

    def filters(self) -> Tensor:
        """Impulse responses ``(80, 401)``: real and imaginary part of filter 0, of filter 1, …"""
        # Narrower than 4 bins, or wider than the window, a filter's width has no meaning.
        unit = math.sqrt(2 * math.log(2)) / math.pi
        centre = self.gabor[:, :1].clamp(0, math.pi)
        width = self.gabor[:, 1:].clamp(4 * unit, WINDOW * unit)
        time = torch.arange(WINDOW, device=self.device) - WINDOW // 2
        envelope = torch.exp(-(time**2) / (2 * width**2)) / (math.sqrt(2 * math.pi) * width)
        phase = centre * time
        return torch.stack([envelope * phase.cos(), envelope * phase.sin()], dim=1).flatten(0, 1)

    def energy(self, waveform: Tensor) -> Tensor:
        """Squared modulus of each filter's response, ``(40, samples)``."""
        half = WINDOW // 2
        padded, filters = F.pad(waveform, (half, half)), self.filters()[:, None]
        parts = []
        for start in range(0, len(waveform), CHUNK):
            response = F.conv1d(padded[None, start : start + CHUNK + 2 * half], filters)
            parts.append(response.square().view(N_FILTERS, 2, -1).sum(dim=1))
        return torch.cat(parts, dim=1)

    def pooled_energy(self, energy: Tensor) -> Tensor:
        """Gaussian averages every 10 ms, ``(40, frames)``, at least 1e-5."""
        place = torch.arange(WINDOW, device=energy.device) / (0.5 * (WINDOW - 1)) - 1
        width = self.pooling_width.clamp(2 / WINDOW, 0.5)[:, None]
        weights = torch.exp(-0.5 * (place / width) ** 2)[:, None]
        n_samples = energy.shape[1]
        missing = (self.n_frames(n_samples) - 1) * HOP + WINDOW - n_samples
        before = WINDOW // 2 if self.definition == "port" else missing // 2
        padded = F.pad(energy, (before, missing - before))
        pooled = F.conv1d(padded, weights, self.pooling_bias, stride=HOP, groups=N_FILTERS)
        return pooled.clamp_min(LEAST_ENERGY)

    def smooth(self, energies: Sequence[Tensor]) -> list[Tensor]:
        """First-order recursive averages of ``(frames, 40)`` each, begun at the first frame."""
        padded = nn.utils.rnn.pad_sequence(list(energies))
        gain = self.smoothing.clamp(0, 1)
        state = padded[0]
        states = []
        for frame in padded:
            state = gain * frame + (1 - gain) * state
            states.append(state)
        return [s[: len(e)] for s, e in zip(torch.stack(states, dim=1), energies, strict=True)]

    def compress(self, energy: Tensor, smoothed: Tensor) -> Tensor:
        """Per-channel energy normalisation."""
        gain = (PCEN_FLOOR + smoothed) ** self.alpha.clamp_max(1)
        power = 1 / self.root.clamp_min(1)
        return (energy / gain + self.delta) ** power - self.delta**power


def make(
    name: str,
    n_layers: int | None,
    *,
    revision: str | None,
    precision: str,
    weights: PathLike | None = None,
    definition: str = "port",
    **options: Any,
) -> Leaf:
    """LEAF at its initial values, or with those of a leaf-pytorch checkpoint.

    Raises:
        UsageError: an option that does not apply.
        CheckpointError: a file that is no such checkpoint.
    """
    if precision != "fp32" or revision is not None:
        raise UsageError(f"front-end {name}: precision and revision do not apply")
    require_no_options(name, options, "definition, weights")
    made = Leaf(definition)
    if weights is None:
        return made
    if definition != "port":
        raise UsageError(f"front-end {name}: released weights are of the definition 'port' (leave it out)")
    path, _ = weights_file(name, weights)
    state = state_in(read_pickled(path), "model_state_dict", path)
    own = {ours: state.get(f"features.{theirs}") for theirs, ours in RELEASED_NAMES.items()}
    fill(made, {k: v.flatten() if k == "pooling_width" else v for k, v in own.items() if v is not None}, path)
    return made
