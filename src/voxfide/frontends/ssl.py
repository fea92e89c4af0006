"""Self-supervised speech models as front-ends."""

from __future__ import annotations

from typing import Any, ClassVar

from voxfide.errors import UsageError
from voxfide.frontends.checkpoint import ModelSource, load_encoder, locate
from voxfide.frontends.layered import LayeredFrontend
from voxfide.frontends.specs import FRONTENDS
from voxfide.frontends.ssl_config import SSLConfig
from voxfide.frontends.ssl_model import SSLEncoder


class SSLFrontend(LayeredFrontend):
    """Hidden states of blocks 1...n of a wav2vec 2.0, HuBERT or WavLM model, frozen.

    Every utterance is computed as if alone: there is no padding for an attention mask
    to hide, so models trained with and without one are treated alike, and a first
    layer's GroupNorm sees the utterance's own samples only.

    Args:
        encoder: the truncated model. Where it yields ``head_states``, these are its layers.
        name: what it is called in reports.
        source: where its weights came from, if from a folder or hub.
        precision: ``fp32``, ``bf16`` or ``fp16``, by autocast.
    """

    kind: ClassVar[str] = "ssl"
    source_modules: ClassVar[tuple[str, ...]] = tuple(
        f"voxfide.frontends.{module}"
        for module in ("layered", "ssl", "ssl_config", "ssl_layers", "ssl_model")
    )
    encoder: SSLEncoder

    def __init__(
        self, encoder: SSLEncoder, name: str, source: ModelSource | None = None, precision: str = "fp32"
    ) -> None:
        super().__init__(encoder, name, precision, source)
        self.n_layers = encoder.n_states
        self.dim = encoder.config.hidden_size
        self.hop_samples = encoder.config.hop_samples
        self.min_samples = encoder.config.receptive_field

    @classmethod
    def from_settings(cls, name: str, settings: dict[str, Any]) -> SSLFrontend:
        """Builds the architecture that :meth:`settings` described; weights are to be loaded into it."""
        config = SSLConfig.from_dict(settings["config"])
        encoder = SSLEncoder(config, settings["n_layers"], settings.get("head_states", False))
        return cls(encoder.requires_grad_(False), name, None, settings["precision"])

    def settings(self) -> dict[str, Any]:
        settings = {
            "config": self.encoder.config.to_dict(),
            "n_layers": self.encoder.n_layers,
            "precision": self.precision,
        }
        return settings | ({"head_states": True} if self.encoder.encoder.head_states else {})

    def n_frames(self, n_samples: int) -> int:
        return self.encoder.n_frames(n_samples)


def make(
    name: str, n_layers: int | None, *, revision: str | None, precision: str, **options: Any
) -> SSLFrontend:
    """Loads a registered model, a hub id or a folder, cut to its first ``n_layers`` blocks."""
    if options:
        raise UsageError(f"front-end {name} takes no option {', '.join(sorted(options))}")
    source = locate((FRONTENDS[name].hub_id or name) if name in FRONTENDS else name, revision)
    return SSLFrontend(load_encoder(source.folder, n_layers), name, source, precision)
