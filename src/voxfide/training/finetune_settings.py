"""How a whole model is fine-tuned."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Self

from voxfide.crops import Crop
from voxfide.errors import UsageError

PRECISIONS = {"fp32": "no", "bf16": "bf16", "fp16": "fp16"}
"""Precisions, and what accelerate calls them."""

SELECT_BY = ("loss", "eer")
CLASS_WEIGHTS = ("none", "balanced")

ClassWeights = str | tuple[float, float]


@dataclass(frozen=True)
class FinetuneSettings:
    """Settings of Combei et al. 2024 (whole model, Adam 3e-5, warm-up 0.1, 5 epochs), which are the defaults.

    Args:
        epochs: over the training set.
        batch_size: utterances a step, over all processes and pieces.
        accumulation: pieces in which the batch of a process is worked off, to save memory; the gradient
            is that of the whole batch.
        learning_rate: of Adam, at its peak; of the head, and with ``layer_decay`` less below it.
        warmup: share of all steps in which the rate rises from 0; it falls linearly to 0 in the rest.
        layer_decay: factor of the learning rate from one block to that below it (Clark et al. 2020).
        weight_decay: decoupled (AdamW), of weight matrices.
        max_grad_norm: gradients are scaled down to this norm; 0 leaves them as they are.
        class_weights: ``none``; ``balanced``, the same total weight of both classes; or the weights of
            spoof and of bona fide.
        train_convolutions: train the convolutional feature encoder too.
        gradient_checkpointing: compute blocks again in the backward pass: less memory, one more forward pass.
        precision: ``fp32``, ``bf16`` or ``fp16``; the latter two by autocast, with fp32 weights.
        lora_rank: train low-rank updates of the attention's linear maps, and the head, in place of the
            whole model (Hu et al. 2022); 0 for none.
        lora_alpha: numerator of their scale, ``lora_alpha / lora_rank``.
        dropout, layerdrop, spec_augment: whether the checkpoint's own rates of dropout, of left-out
            blocks and of masked frames and channels apply.
        crop: what is seen of an utterance in training; all of it when measured.
        select_by: ``loss`` or ``eer`` on the development set: what makes an epoch the best.
        checkpoint_steps: steps between checkpoints; one is made after an epoch.
        seed: of everything random.

    Raises:
        UsageError: values that cannot be; all at once.
    """

    epochs: int = 5
    batch_size: int = 8
    accumulation: int = 1
    learning_rate: float = 3e-5
    warmup: float = 0.1
    layer_decay: float = 1.0
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    class_weights: ClassWeights = "none"
    train_convolutions: bool = False
    gradient_checkpointing: bool = False
    precision: str = "fp32"
    lora_rank: int = 0
    lora_alpha: int = 16
    dropout: bool = True
    layerdrop: bool = True
    spec_augment: bool = True
    crop: Crop = field(default_factory=lambda: Crop(4.0, "random", "keep"))
    select_by: str = "loss"
    checkpoint_steps: int = 500
    seed: int = 0

    def __post_init__(self) -> None:
        problems = [
            f"{name.replace('_', ' ')} {getattr(self, name)} (expected at least {least})"
            for name, least in (
                ("epochs", 1), ("batch_size", 1), ("accumulation", 1), ("lora_rank", 0),
                ("lora_alpha", 1), ("checkpoint_steps", 1), ("seed", 0),
            )
            if getattr(self, name) < least
        ]  # fmt: skip
        problems += [
            f"{name.replace('_', ' ')} {getattr(self, name)} (expected {words})"
            for name, low, high, words in (
                ("learning_rate", 1e-30, 1e30, "a positive number"),
                ("warmup", 0, 1, "a share, 0 … 1"),
                ("layer_decay", 1e-30, 1, "a factor, more than 0 and at most 1"),
                ("weight_decay", 0, 1e30, "a number from 0"),
                ("max_grad_norm", 0, 1e30, "a number from 0"),
            )
            if not low <= getattr(self, name) <= high
        ]
        problems += [
            f"{name.replace('_', ' ')} {getattr(self, name)!r} (expected {', '.join(choices)})"
            for name, choices in (("precision", PRECISIONS), ("select_by", SELECT_BY))
            if getattr(self, name) not in choices
        ]
        problems += self._class_weight_problems()
        if self.accumulation > self.batch_size:
            problems.append(f"accumulation {self.accumulation} exceeds the batch size {self.batch_size}")
        if self.lora_rank and self.train_convolutions:
            problems.append("convolutions are trained with the whole model only, not beside LoRA")
        if problems:
            raise UsageError("fine-tuning: " + "; ".join(problems))

    def _class_weight_problems(self) -> list[str]:
        weights = self.class_weights
        if weights in CLASS_WEIGHTS:
            return []
        if isinstance(weights, tuple) and len(weights) == 2 and all(0 < w < math.inf for w in weights):
            return []
        return [f"class weights {weights!r} (expected none, balanced or two positive numbers)"]

    def weights(self, n_spoof: int, n_bonafide: int) -> tuple[float, float]:
        """Weights of an utterance of either class in the loss."""
        if isinstance(self.class_weights, tuple):
            return self.class_weights
        if self.class_weights == "none":
            return 1.0, 1.0
        total = n_spoof + n_bonafide
        return total / (2 * n_spoof), total / (2 * n_bonafide)

    def rate(self, step: int, n_steps: int) -> float:
        """Factor of the learning rate at a step, counted from 0: up linearly, then down to 0."""
        n_warmup = math.ceil(self.warmup * n_steps)
        if step < n_warmup:
            return step / n_warmup
        return (n_steps - step) / max(1, n_steps - n_warmup)

    def to_json(self) -> dict[str, Any]:
        """What determines the outcome, JSON-safe."""
        values = asdict(self)
        del values["checkpoint_steps"]
        values["class_weights"] = list(w) if isinstance(w := self.class_weights, tuple) else w
        return values


@dataclass(frozen=True)
class Regularisation:
    """Noise in training, under the names and with the defaults of ``config.json`` in the three families.

    A mask of frames puts the checkpoint's ``masked_spec_embed`` in their place, one of channels zero
    (SpecAugment, Park et al. 2019, as in wav2vec 2.0).
    """

    hidden_dropout: float = 0.1
    activation_dropout: float = 0.1
    attention_dropout: float = 0.1
    feat_proj_dropout: float = 0.0
    layerdrop: float = 0.1
    mask_time_prob: float = 0.05
    mask_time_length: int = 10
    mask_time_min_masks: int = 2
    mask_feature_prob: float = 0.0
    mask_feature_length: int = 10
    mask_feature_min_masks: int = 0

    @classmethod
    def of(cls, config: Mapping[str, Any], settings: FinetuneSettings) -> Self:
        """What a checkpoint's ``config.json`` states, less what the settings switch off."""
        known = {f.name for f in fields(cls)}
        values = {k: v for k, v in config.items() if k in known and v is not None}
        off: dict[str, float] = {}
        if not settings.dropout:
            off |= dict.fromkeys((k for k in known if k.endswith("_dropout")), 0.0)
        if not settings.layerdrop:
            off["layerdrop"] = 0.0
        if not settings.spec_augment or not config.get("apply_spec_augment", True):
            off |= {"mask_time_prob": 0.0, "mask_feature_prob": 0.0}
        return cls(**{**values, **off})
