"""The waveform itself as a front-end, for back-ends that start from samples: one layer, one value a frame."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from voxfide.errors import UsageError
from voxfide.frontends.base import Frontend


class Waveform(Frontend):
    """Samples as frames: ``(batch, 1, samples, 1)``, unchanged.

    A window of a long utterance is the same samples as the utterance there, so cutting into
    windows changes nothing.
    """

    kind: ClassVar[str] = "waveform"
    source_modules: ClassVar[tuple[str, ...]] = (__name__,)
    name = "waveform"
    n_layers = 1
    dim = 1
    hop_samples = 1
    min_samples = 1

    def __init__(self) -> None:
        super().__init__()
        # It has no weights; this says which device it is on.
        self.register_buffer("place", torch.zeros(0), persistent=False)

    @classmethod
    def from_settings(cls, name: str, settings: dict[str, Any]) -> Waveform:
        return cls(**settings)

    def n_frames(self, n_samples: int) -> int:
        return n_samples

    def settings(self) -> dict[str, Any]:
        return {}

    def iter_layers(self, waveforms: Sequence[Tensor]) -> Iterator[Tensor]:
        """Yields the one layer, ``(sum of samples, 1)``."""
        yield torch.cat(list(waveforms))[:, None]


def make(
    name: str, n_layers: int | None, *, revision: str | None, precision: str, **options: Any
) -> Waveform:
    """The waveform; it has neither weights nor settings."""
    if precision != "fp32" or revision is not None or options:
        raise UsageError(
            f"front-end {name} has neither weights nor settings: precision, revision and options do not apply"
        )
    return Waveform()
