"""Which front-ends of an ensemble are one and the same."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any, ClassVar

import torch
from torch import Tensor

from voxfide.detector import Detector
from voxfide.frontends.base import Frontend
from voxfide.types import SAMPLE_RATE


class FirstLayers(Frontend):
    """The first layers of another front-end, which computes no further than these.

    Args:
        whole: stays as it is and holds the weights.
        n_layers: of its layers.
    """

    kind: ClassVar[str] = "first-layers"
    whole: Frontend

    def __init__(self, whole: Frontend, n_layers: int) -> None:
        super().__init__()
        # Not a submodule: the weights are those of the whole.
        object.__setattr__(self, "whole", whole)
        self.name, self.n_layers, self.dim = whole.name, n_layers, whole.dim
        self.hop_samples, self.min_samples = whole.hop_samples, whole.min_samples

    @property
    def device(self) -> torch.device:
        return self.whole.device

    def n_frames(self, n_samples: int) -> int:
        return self.whole.n_frames(n_samples)

    def iter_layers(self, waveforms: Sequence[Tensor]) -> Iterator[Tensor]:
        yield from islice(self.whole.iter_layers(waveforms), self.n_layers)

    def settings(self) -> dict[str, Any]:
        return {**self.whole.settings(), "n_layers": self.n_layers}

    def fingerprint(self) -> str:
        return hashlib.sha256(f"{self.whole.fingerprint()} {self.n_layers}".encode()).hexdigest()


def whole_of(frontend: Frontend) -> Frontend:
    """The front-end that computes: the front-end itself, or the one whose first layers it is."""
    return frontend.whole if isinstance(frontend, FirstLayers) else frontend


def share_frontends(members: Sequence[Detector]) -> list[Detector]:
    """The same detectors, with one object for equal front-ends, and first layers in place of shorter ones."""
    held: list[Frontend] = []
    for frontend in sorted((whole_of(m.frontend) for m in members), key=lambda f: -f.n_layers):
        if not any(_covers(whole, frontend) for whole in held):
            held.append(frontend)
    shared = []
    for member in members:
        whole = next(w for w in held if _covers(w, whole_of(member.frontend)))
        n_layers = member.frontend.n_layers
        frontend = whole if n_layers == whole.n_layers else FirstLayers(whole, n_layers)
        shared.append(replace(member, frontend=frontend))
    return shared


def _covers(whole: Frontend, other: Frontend) -> bool:
    """Whether the layers of ``other`` are the first ones of ``whole``."""
    if whole is other:
        return True
    settings, others = whole.settings(), other.settings()
    depths = [s.pop("n_layers", None) for s in (settings, others)]
    if (whole.kind, settings) != (other.kind, others) or whole.device != other.device:
        return False
    held, wanted = whole.state_dict(), other.state_dict()
    if not all(name in held and torch.equal(held[name], tensor) for name, tensor in wanted.items()):
        return False
    if depths[0] == depths[1]:
        return len(held) == len(wanted)
    # Weights may agree and layers differ, as where a norm follows the last layer: look.
    return _same_first_layers(whole, other)


@torch.inference_mode()
def _same_first_layers(whole: Frontend, other: Frontend) -> bool:
    noise = torch.randn(max(SAMPLE_RATE // 2, whole.min_samples), generator=torch.Generator().manual_seed(0))
    waveforms = [0.1 * noise.to(whole.device)]
    pairs = zip(whole.iter_layers(waveforms), other.iter_layers(waveforms), strict=False)
    return all(torch.allclose(a, b, rtol=1e-5, atol=1e-6) for a, b in pairs)
