"""Frozen transformers as front-ends: layers one by one, each under the precision asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Self

import torch
from torch import Tensor, nn

from voxfide.errors import UsageError
from voxfide.frontends.base import Frontend
from voxfide.frontends.checkpoint import ModelSource

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class LayeredFrontend(Frontend):
    """Hidden states of blocks 1...n of a frozen transformer.

    Args:
        encoder: the truncated model; called with waveforms, it yields layers 1...n, packed.
        name: what it is called in reports.
        precision: ``fp32``, ``bf16`` or ``fp16``, by autocast.
        source: where its weights came from, if from a file, a folder or the hub.
    """

    encoder: nn.Module

    def __init__(
        self, encoder: nn.Module, name: str, precision: str, source: ModelSource | None = None
    ) -> None:
        super().__init__()
        if precision not in DTYPES:
            raise UsageError(f"precision {precision!r} (expected one of {', '.join(DTYPES)})")
        self.encoder = encoder
        self.name = name
        self.precision = precision
        self.source = source

    def iter_layers(self, waveforms: Sequence[Tensor]) -> Iterator[Tensor]:
        """Yields layers 1...n, packed ``(sum of frames, dim)`` float32."""
        dtype = DTYPES[self.precision]
        # A generator would leave autocast open while its caller works, so it is entered for each step.
        steps = iter(self.encoder(waveforms))
        while True:
            with torch.autocast(self.device.type, dtype=dtype, enabled=dtype != torch.float32):
                layer = next(steps, None)
            if layer is None:
                return
            yield layer.float()

    def train(self, mode: bool = True) -> Self:
        """Frozen: stays in eval mode, whatever the module around it does."""
        return super().train(False)
