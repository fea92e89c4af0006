"""How a self-supervised model is pre-trained, and what architecture it has."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from voxfide.errors import CheckpointError, UsageError
from voxfide.files import read_yaml
from voxfide.frontends.ssl_config import SSLConfig
from voxfide.training.finetune_settings import PRECISIONS

HOP_SAMPLES: Final = 320
FIELD_SAMPLES: Final = 400
"""Of one frame: targets are aligned to frames of 25 ms every 20 ms, those of all official releases."""

SMALL: Final[dict[str, Any]] = {
    "model_type": "hubert",
    "hidden_size": 192,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "intermediate_size": 768,
    "conv_dim": (64, 96, 128, 128, 192, 256, 256),
    "num_conv_pos_embeddings": 64,
}
"""3.3 million parameters. The convolutions grow from narrow to wide: the first of them run at 3.2 kHz and
would otherwise take most of the time."""


@dataclass(frozen=True)
class PretrainSettings:
    """Masked prediction of clusters as HuBERT defines it, with WavLM's mixing; defaults for small models.

    Args:
        clusters: how many.
        targets: what is clustered: ``mfcc``, or ``MODEL:LAYER``, the output of a block of an earlier model
            (a registered name, a hub id or a folder).
        steps: of the whole run; or
        minutes: of training, as a budget of wall-clock time in place of steps. Exactly one is given.
        batch_seconds: audio a step, over all processes and pieces.
        accumulation: pieces in which the batch of a process is worked off, to save memory; the gradient is
            that of the whole batch.
        crop_seconds: longest stretch of an utterance that is seen at once.
        learning_rate: of AdamW, at its peak.
        warmup: share of the run in which the rate rises from 0; it falls linearly to 0 in the rest.
        weight_decay: decoupled, of weight matrices.
        max_grad_norm: gradients are scaled down to this norm; 0 leaves them as they are.
        mask_prob, mask_length: spans of ``mask_length`` frames that would cover ``mask_prob`` of an utterance
            if none overlapped; they do, so 0.65 in spans of 10 masks about half.
        unmasked_weight: of the loss on frames that are not masked, beside 1 on those that are.
        mix_prob: share of utterances that are overlapped by another one of the batch, or by noise.
        noise_share: of these, those that get noise.
        feature_penalty: weight of the mean square of the convolutions' output.
        conv_gradient: factor of the gradient that reaches the convolutions.
        dropout: of attention, feed-forward and residual branches.
        layerdrop: probability that a block is left out of a step.
        precision: ``fp32``, ``bf16`` or ``fp16``; the latter two by autocast, with fp32 weights.
        seed: of everything random.

    Raises:
        UsageError: values that cannot be; all at once.
    """

    clusters: int = 100
    targets: str = "mfcc"
    steps: int | None = None
    minutes: float | None = None
    batch_seconds: float = 60.0
    accumulation: int = 1
    crop_seconds: float = 10.0
    learning_rate: float = 5e-4
    warmup: float = 0.08
    weight_decay: float = 0.01
    max_grad_norm: float = 1.0
    mask_prob: float = 0.65
    mask_length: int = 10
    unmasked_weight: float = 0.0
    mix_prob: float = 0.2
    noise_share: float = 0.1
    feature_penalty: float = 10.0
    conv_gradient: float = 0.1
    dropout: float = 0.0
    layerdrop: float = 0.0
    precision: str = "fp32"
    seed: int = 0

    def __post_init__(self) -> None:
        problems = [
            f"{name.replace('_', ' ')} {getattr(self, name)} (expected {words})"
            for name, low, high, words in (
                ("clusters", 2, 32767, "2 to 32,767"),
                ("batch_seconds", 1, 1e6, "at least 1"),
                ("accumulation", 1, 1e6, "at least 1"),
                ("learning_rate", 1e-30, 1e30, "a positive number"),
                ("warmup", 0, 1, "a share, 0 … 1"),
                ("weight_decay", 0, 1e30, "a number from 0"),
                ("max_grad_norm", 0, 1e30, "a number from 0"),
                ("mask_prob", 1e-6, 1, "a share, more than 0 and at most 1"),
                ("mask_length", 1, 1000, "1 to 1,000 frames"),
                ("unmasked_weight", 0, 1e30, "a number from 0"),
                ("mix_prob", 0, 1, "a share, 0 … 1"),
                ("noise_share", 0, 1, "a share, 0 … 1"),
                ("feature_penalty", 0, 1e30, "a number from 0"),
                ("conv_gradient", 0, 1e30, "a number from 0"),
                ("dropout", 0, 0.99, "a share below 1"),
                ("layerdrop", 0, 0.99, "a share below 1"),
                ("seed", 0, 2**63 - 1, "a number from 0"),
            )
            if not low <= getattr(self, name) <= high
        ]
        least = self.least_frames * HOP_SAMPLES / 16000
        if not least <= self.crop_seconds <= self.batch_seconds:
            problems.append(
                f"crop seconds {self.crop_seconds} (expected {least:g} to batch seconds, "
                f"{self.batch_seconds})"
            )
        if (self.steps is None) == (self.minutes is None):
            problems.append("expected a number of steps, or one of minutes, and not both")
        if self.steps is not None and self.steps < 1:
            problems.append(f"steps {self.steps} (expected at least 1)")
        if self.minutes is not None and not 0 < self.minutes < math.inf:
            problems.append(f"minutes {self.minutes} (expected a positive number)")
        if self.precision not in PRECISIONS:
            problems.append(f"precision {self.precision!r} (expected {', '.join(PRECISIONS)})")
        problems += self._target_problems()
        if problems:
            raise UsageError("pre-training: " + "; ".join(problems))

    def _target_problems(self) -> list[str]:
        model, _, layer = self.targets.rpartition(":")
        if self.targets == "mfcc" or (model and layer.isdecimal() and int(layer) > 0):
            return []
        return [f"targets {self.targets!r} (expected mfcc, or MODEL:LAYER with a layer from 1)"]

    @property
    def least_frames(self) -> int:
        """The shortest utterance that is trained on: as much to be seen as to be masked."""
        return 2 * self.mask_length

    def rate(self, done: float) -> float:
        """Factor of the learning rate where this share of the run is done: up linearly, then down to 0."""
        if done < self.warmup:
            return done / self.warmup
        return max(0.0, 1.0 - done) / max(1e-9, 1.0 - self.warmup)

    def to_json(self) -> dict[str, Any]:
        """What determines the outcome, JSON-safe."""
        return asdict(self)


def architecture(values: Mapping[str, Any]) -> SSLConfig:
    """The architecture with these entries of ``config.json``, and :data:`SMALL` for the rest.

    ``conv_dim`` may be one width for all seven convolutions; ``intermediate_size`` is four times
    ``hidden_size`` where only the latter is given.

    Raises:
        UsageError: unknown entries, or ones that do not go together.
    """
    known = set(SSLConfig.__dataclass_fields__)
    unknown = sorted(set(values) - known)
    if unknown:
        raise UsageError(f"architecture: unknown {', '.join(unknown)} (expected {', '.join(sorted(known))})")
    chosen = {**SMALL, **values}
    if "hidden_size" in values and "intermediate_size" not in values:
        chosen["intermediate_size"] = 4 * values["hidden_size"]
    for name in ("conv_dim", "conv_kernel", "conv_stride"):
        if name in chosen:
            each = chosen[name]
            chosen[name] = (each,) * 7 if isinstance(each, int) else tuple(each)
    problems = [
        f"{name} {value!r} (expected a positive whole number)"
        for name, value in chosen.items()
        if name in _SIZES and not (isinstance(value, int) and value > 0)
    ]
    if problems:
        raise UsageError("architecture: " + "; ".join(problems))
    try:
        config = SSLConfig(**chosen)
    except CheckpointError as error:
        raise UsageError(f"architecture: {error}") from None
    if config.hidden_size % config.num_conv_pos_embedding_groups:
        raise UsageError(
            f"architecture: hidden_size {config.hidden_size} is no multiple of "
            f"num_conv_pos_embedding_groups {config.num_conv_pos_embedding_groups}"
        )
    return require_grid(config, "architecture")


_SIZES: Final = (
    "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size",
    "num_conv_pos_embeddings", "num_conv_pos_embedding_groups", "num_buckets", "max_bucket_distance",
)  # fmt: skip


def require_grid(config: SSLConfig, where: str) -> SSLConfig:
    """The configuration, or a :class:`UsageError` where its frames are not 25 ms every 20 ms."""
    if (config.hop_samples, config.receptive_field) != (HOP_SAMPLES, FIELD_SAMPLES):
        raise UsageError(
            f"{where}: frames of {config.receptive_field} samples every {config.hop_samples} "
            f"(expected {FIELD_SAMPLES} every {HOP_SAMPLES}, to which targets are aligned)"
        )
    return config


def read_architecture(path: Path) -> dict[str, Any]:
    """Entries for :func:`architecture` from a YAML (or JSON) file.

    Raises:
        UsageError: no such file, or not a mapping.
    """
    values = read_yaml(path)
    if not isinstance(values, dict):
        raise UsageError(f"{path}: expected a mapping, such as 'hidden_size: 256'")
    return values
