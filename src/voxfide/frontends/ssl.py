"""Self-supervised speech models as front-ends."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from voxfide.errors import UsageError
from voxfide.frontends.base import Frontend
from voxfide.frontends.checkpoint import ModelSource, load_encoder, locate
from voxfide.frontends.specs import FRONTENDS
from voxfide.frontends.ssl_config import SSLConfig
from voxfide.frontends.ssl_model import SSLEncoder

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class SSLFrontend(Frontend):
    """Hidden states of blocks 1...n of a wav2vec 2.0, HuBERT or WavLM model, frozen.

    Every utterance is computed as if alone: there is no padding for an attention mask
    to hide, so models trained with and without one are treated alike, and a first
    layer's GroupNorm sees the utterance's own samples only.

    Args:
        encoder: the truncated model.
        name: what it is called in reports.
        source: where its weights came from, if from a folder or hub.
        precision: ``fp32``, ``bf16`` or ``fp16``, by autocast.
    """

    kind: ClassVar[str] = "ssl"
    source_modules: ClassVar[tuple[str, ...]] = tuple(
        f"voxfide.frontends.{module}" for module in ("ssl", "ssl_config", "ssl_layers", "ssl_model")
    )

    def __init__(
        self, encoder: SSLEncoder, name: str, source: ModelSource | None = None, precision: str = "fp32"
    ) -> None:
        super().__init__()
        if precision not in DTYPES:
            raise UsageError(f"precision {precision!r} (expected one of {', '.join(DTYPES)})")
        self.encoder = encoder
        self.name = name
        self.source = source
        self.precision = precision
        self.n_layers = encoder.n_layers
        self.dim = encoder.config.hidden_size
        self.hop_samples = encoder.config.hop_samples
        self.min_samples = encoder.config.receptive_field

    @classmethod
    def from_settings(cls, name: str, settings: dict[str, Any]) -> SSLFrontend:
        """Builds the architecture that :meth:`settings` described; weights are to be loaded into it."""
        encoder = SSLEncoder(SSLConfig.from_dict(settings["config"]), settings["n_layers"])
        return cls(encoder.requires_grad_(False), name, None, settings["precision"])

    def settings(self) -> dict[str, Any]:
        return {
            "config": self.encoder.config.to_dict(),
            "n_layers": self.n_layers,
            "precision": self.precision,
        }

    def n_frames(self, n_samples: int) -> int:
        return self.encoder.n_frames(n_samples)

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

    def train(self, mode: bool = True) -> SSLFrontend:
        """Frozen: stays in eval mode, whatever the module around it does."""
        return super().train(False)


def make(
    name: str, n_layers: int | None, *, revision: str | None, precision: str, **options: Any
) -> SSLFrontend:
    """Loads a registered model, a hub id or a folder, cut to its first ``n_layers`` blocks."""
    if options:
        raise UsageError(f"front-end {name} takes no option {', '.join(sorted(options))}")
    source = locate((FRONTENDS[name].hub_id or name) if name in FRONTENDS else name, revision)
    return SSLFrontend(load_encoder(source.folder, n_layers), name, source, precision)
