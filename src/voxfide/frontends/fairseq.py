"""Transformers in the fairseq dialect: what the releases of BEATs and DeCoAR 2.0 have in common.

Both stand on the post-norm encoder of wav2vec 2.0 (fairseq's ``TransformerEncoder``), which
:class:`~voxfide.frontends.ssl_model.TransformerEncoder` is under the names of ``transformers``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar, Self

from torch import Tensor, nn

from voxfide.frontends.checkpoint import POS_CONV, ModelSource, without_weight_norm
from voxfide.frontends.layered import LayeredFrontend
from voxfide.frontends.ssl_config import SSLConfig, layers_to_build

SHARED_MODULES = tuple(
    f"voxfide.frontends.{module}"
    for module in ("fairseq", "kaldi_fbank", "layered", "mel", "ssl_config", "ssl_layers", "ssl_model")
)
"""Modules whose source determines the features of both front-ends."""
RENAMED = (
    ("encoder.pos_conv.0.", POS_CONV),
    (".self_attn_layer_norm.", ".layer_norm."),
    (".self_attn.grep_linear.", ".attention.gru_rel_pos_linear."),
    (".self_attn.grep_a", ".attention.gru_rel_pos_const"),
    (".self_attn.relative_attention_bias.", ".attention.rel_attn_embed."),
    (".self_attn.", ".attention."),
    (".fc1.", ".feed_forward.intermediate_dense."),
    (".fc2.", ".feed_forward.output_dense."),
)
"""Parts of fairseq's tensor names, and what they are called here."""


@dataclass(frozen=True)
class Sizes:
    """Sizes of the transformer, under fairseq's names; the defaults are those of both releases."""

    encoder_layers: int = 12
    encoder_embed_dim: int = 768
    encoder_ffn_embed_dim: int = 3072
    encoder_attention_heads: int = 12
    conv_pos: int = 128
    conv_pos_groups: int = 16

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Takes what it knows; the rest does not touch hidden states."""
        known = {f.name for f in fields(cls)}
        return cls(**{k: v for k, v in values.items() if k in known})

    def to_dict(self) -> dict[str, Any]:
        """JSON-safe; :meth:`from_dict` takes it back."""
        return asdict(self)

    def ssl(self, model_type: str, **more: Any) -> SSLConfig:
        """The same sizes for the transformer of :mod:`~voxfide.frontends.ssl_model`.

        Raises:
            CheckpointError: sizes that cannot be.
        """
        return SSLConfig(
            model_type=model_type,
            hidden_size=self.encoder_embed_dim,
            num_hidden_layers=self.encoder_layers,
            num_attention_heads=self.encoder_attention_heads,
            intermediate_size=self.encoder_ffn_embed_dim,
            num_conv_pos_embeddings=self.conv_pos,
            num_conv_pos_embedding_groups=self.conv_pos_groups,
            **more,
        )


def renamed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A fairseq state dict under the names used here, the positional convolution's weight norm resolved."""
    plain = {}
    for key, tensor in state.items():
        for theirs, ours in RENAMED:
            key = key.replace(theirs, ours)
        plain[key] = tensor
    gain, direction = (plain.pop(POS_CONV + k, None) for k in ("weight_g", "weight_v"))
    if gain is not None and direction is not None:
        plain[POS_CONV + "weight"] = without_weight_norm(gain, direction)
    return plain


class FairseqEncoder(nn.Module):
    """Base of the two encoders: called with waveforms, they yield packed layers 1...n.

    Args:
        config: sizes of the full model.
        n_layers: how many blocks to build; all of them where left out.

    Raises:
        UsageError: ``n_layers`` outside ``1 ... config.encoder_layers``.
    """

    sizes: ClassVar[type[Sizes]] = Sizes
    hop_samples: ClassVar[int]
    min_samples: ClassVar[int]

    def __init__(self, config: Sizes, n_layers: int | None = None) -> None:
        super().__init__()
        self.config = config
        self.n_layers = layers_to_build(n_layers, config.encoder_layers)

    def n_frames(self, n_samples: int) -> int:
        """Frames of ``n_samples`` samples; 0 below ``min_samples``."""
        raise NotImplementedError


class FairseqFrontend(LayeredFrontend):
    """Hidden states of a frozen :class:`FairseqEncoder`; subclasses name the encoder."""

    encoder_class: ClassVar[type[FairseqEncoder]]
    encoder: FairseqEncoder

    def __init__(
        self, encoder: FairseqEncoder, name: str, precision: str = "fp32", source: ModelSource | None = None
    ) -> None:
        super().__init__(encoder, name, precision, source)
        self.n_layers = encoder.n_layers
        self.dim = encoder.config.encoder_embed_dim
        self.hop_samples = encoder.hop_samples
        self.min_samples = encoder.min_samples

    @classmethod
    def from_settings(cls, name: str, settings: dict[str, Any]) -> Self:
        """Builds the architecture that :meth:`settings` described; weights are to be loaded into it."""
        config = cls.encoder_class.sizes.from_dict(settings["config"])
        encoder = cls.encoder_class(config, settings["n_layers"])
        return cls(encoder.requires_grad_(False), name, settings["precision"])

    def settings(self) -> dict[str, Any]:
        return {
            "config": self.encoder.config.to_dict(),
            "n_layers": self.n_layers,
            "precision": self.precision,
        }

    def n_frames(self, n_samples: int) -> int:
        return self.encoder.n_frames(n_samples)
