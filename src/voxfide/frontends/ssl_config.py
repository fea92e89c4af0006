"""Configuration of wav2vec 2.0, HuBERT and WavLM models, as their ``config.json`` states it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from voxfide.errors import CheckpointError, UsageError

MODEL_TYPES = ("wav2vec2", "hubert", "wavlm")
ACTIVATIONS = ("gelu", "relu", "gelu_new", "gelu_pytorch_tanh", "silu", "swish")


@dataclass(frozen=True)
class SSLConfig:
    """The part of a Hugging Face configuration that determines hidden states.

    Field names and defaults are those of ``config.json`` in the three families.
    ``do_normalize`` comes from ``preprocessor_config.json``: whether each waveform
    is scaled to zero mean and unit variance.
    """

    model_type: str
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: str = "gelu"
    layer_norm_eps: float = 1e-5
    feat_extract_norm: str = "group"
    feat_extract_activation: str = "gelu"
    conv_dim: tuple[int, ...] = (512,) * 7
    conv_kernel: tuple[int, ...] = (10, 3, 3, 3, 3, 2, 2)
    conv_stride: tuple[int, ...] = (5, 2, 2, 2, 2, 2, 2)
    conv_bias: bool = False
    num_conv_pos_embeddings: int = 128
    num_conv_pos_embedding_groups: int = 16
    do_stable_layer_norm: bool = False
    feat_proj_layer_norm: bool = True
    conv_pos_batch_norm: bool = False
    num_buckets: int = 320
    max_bucket_distance: int = 800
    do_normalize: bool = True

    def __post_init__(self) -> None:
        problems = []
        if self.model_type not in MODEL_TYPES:
            problems.append(f"model_type {self.model_type!r} (expected one of {', '.join(MODEL_TYPES)})")
        if self.feat_extract_norm not in ("group", "layer"):
            problems.append(f"feat_extract_norm {self.feat_extract_norm!r} (expected group or layer)")
        for field in ("hidden_act", "feat_extract_activation"):
            if getattr(self, field) not in ACTIVATIONS:
                problems.append(
                    f"{field} {getattr(self, field)!r} (expected one of {', '.join(ACTIVATIONS)})"
                )
        if not len(self.conv_dim) == len(self.conv_kernel) == len(self.conv_stride) > 0:
            problems.append("conv_dim, conv_kernel and conv_stride differ in length")
        if self.num_hidden_layers < 1:
            problems.append(f"num_hidden_layers {self.num_hidden_layers} (expected at least 1)")
        if self.num_attention_heads < 1 or self.hidden_size % self.num_attention_heads:
            problems.append(
                f"hidden_size {self.hidden_size} is no multiple of {self.num_attention_heads} heads"
            )
        if problems:
            raise CheckpointError("unusable SSL model configuration: " + "; ".join(problems))

    @property
    def hop_samples(self) -> int:
        """Samples from one frame to the next (320 for all official releases)."""
        product = 1
        for stride in self.conv_stride:
            product *= stride
        return product

    @property
    def receptive_field(self) -> int:
        """Samples that one frame sees (400 for all official releases): the shortest input."""
        size = 1
        for kernel, stride in zip(reversed(self.conv_kernel), reversed(self.conv_stride), strict=True):
            size = (size - 1) * stride + kernel
        return size

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> SSLConfig:
        """Takes what it knows from a parsed ``config.json``; the rest does not touch hidden states."""
        if "model_type" not in values:
            raise CheckpointError(
                f"the configuration names no model_type (expected one of {', '.join(MODEL_TYPES)})"
            )
        if values.get("adapter_attn_dim") is not None:
            raise CheckpointError(
                "the configuration has adapter_attn_dim: adapter layers inside the transformer blocks are "
                "not supported (expected a plain wav2vec 2.0, HuBERT or WavLM encoder)"
            )
        known = {f.name for f in fields(cls)}
        kept = {k: v for k, v in values.items() if k in known and v is not None}
        values_of_fields: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in kept.items()
        }
        return cls(**values_of_fields)

    @classmethod
    def from_folder(cls, folder: Path) -> SSLConfig:
        """Reads ``config.json`` and, where there is one, ``preprocessor_config.json``."""
        values = read_json(folder / "config.json")
        preprocessor = folder / "preprocessor_config.json"
        if preprocessor.exists():
            values["do_normalize"] = bool(read_json(preprocessor).get("do_normalize", True))
        return cls.from_dict(values)

    def to_dict(self) -> dict[str, Any]:
        """JSON-safe; :meth:`from_dict` takes it back."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}


def layers_to_build(asked: int | None, depth: int) -> int:
    """How many of a model's ``depth`` layers are asked for; all of them where nothing is.

    Raises:
        UsageError: none, or more than there are.
    """
    if asked is None:
        return depth
    if not 1 <= asked <= depth:
        raise UsageError(f"{asked} layers asked for, but the model has {depth} (expected 1 to {depth})")
    return asked


def read_json(path: Path) -> dict[str, Any]:
    """Parses a JSON object, or says what is wrong with the file."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such file (expected a model folder with {path.name})") from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise CheckpointError(f"{path}: not valid JSON ({error})") from None
    if not isinstance(values, dict):
        raise CheckpointError(f"{path}: expected a JSON object, found {type(values).__name__}")
    return values
