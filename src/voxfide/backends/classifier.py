"""The head of ``transformers``' audio classifiers: projector, time average, classifier."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import numpy as np

from voxfide.backends.base import Backend, check_features, need
from voxfide.errors import CheckpointError, UsageError
from voxfide.types import BONAFIDE, LABELS, SPOOF, BoolArray, Float64Array

HEAD_TENSORS = ("projector.weight", "projector.bias", "classifier.weight", "classifier.bias")
LAYER_WEIGHTS = "layer_weights"


@dataclass(eq=False)
class ClassifierBackend(Backend):
    """Head of a ``*ForSequenceClassification`` model, trained together with its front-end.

    That model projects every frame, averages over time and classifies. All three are linear, so
    frames are averaged first here, and projection and classification are one product. Its input is
    the last hidden state or, where there are ``layer_weights`` (``use_weighted_layer_sum``), the
    softmax-weighted sum of the transformer's input and its blocks' outputs. (Of a pre-norm model the
    last hidden state is behind the final norm, the weighted ones are not, as in ``transformers`` 5.)

    The score is the log posterior odds of bona fide: the difference of two logits; of more than
    two labels, that of the log-sum-exps of both classes. Its sigmoid is the probability that
    ``transformers.pipeline("audio-classification")`` states.

    Args:
        labels: names of the outputs.
        classes: ``bonafide`` or ``spoof`` for each.
    """

    name: ClassVar[str] = "classifier"
    score_kind: ClassVar[str] = "log posterior odds of bona fide"  # type: ignore[misc]
    pools: ClassVar[tuple[str, ...]] = ("mean",)

    labels: tuple[str, ...] = (SPOOF, BONAFIDE)
    classes: tuple[str, ...] = (SPOOF, BONAFIDE)
    numbers: dict[str, np.ndarray] = field(default_factory=dict, init=False, repr=False)
    _product: Float64Array | None = field(default=None, init=False, repr=False)
    _constant: Float64Array | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        self.labels, self.classes = tuple(self.labels), tuple(self.classes)
        if len(self.labels) != len(self.classes) or set(self.classes) != set(LABELS[:2]):
            raise UsageError(
                f"classifier: labels {', '.join(self.labels)} of the classes {', '.join(self.classes)} "
                "(expected bonafide or spoof for each, and both)"
            )

    def fit(self, features: np.ndarray, is_bonafide: BoolArray, weights: Float64Array | None = None) -> Self:
        """It is trained together with its front-end: always raises :class:`UsageError`."""
        raise UsageError(
            "back-end classifier is trained together with its front-end: `voxfide finetune` does so"
        )

    def score(self, features: np.ndarray) -> Float64Array:
        """Log posterior odds ``(utterances,)`` of time averages ``(utterances, states, dim)``."""
        logits = self.logits(features)
        of_bonafide = np.array([name == BONAFIDE for name in self.classes])
        return _logsumexp(logits[:, of_bonafide]) - _logsumexp(logits[:, ~of_bonafide])

    def logits(self, features: np.ndarray) -> Float64Array:
        """``(utterances, labels)`` of time averages ``(utterances, states, dim)``."""
        if self._product is None or self._constant is None:
            raise UsageError("back-end classifier is not trained yet (expected restore before score)")
        check_features(features, "back-end classifier")
        weights = self.numbers.get(LAYER_WEIGHTS)
        n_states = 1 if weights is None else len(weights)
        if features.shape[1] < n_states or features.shape[2] != self._product.shape[1]:
            raise UsageError(
                f"back-end classifier was trained on {n_states} hidden states of {self._product.shape[1]} "
                f"values, these features have {features.shape[1]} of {features.shape[2]}"
            )
        x = features[:, -1].astype(np.float64)
        if weights is not None:
            shares = _softmax(weights.astype(np.float64))
            x = sum(share * features[:, state] for state, share in enumerate(shares))
        # A sum along each row, not a matrix product, whose order of summation changes with the batch.
        columns = [(x * row).sum(axis=1) for row in self._product]
        return np.stack(columns, axis=1) + self._constant

    def config(self) -> dict[str, Any]:
        return {"labels": list(self.labels), "classes": list(self.classes)}

    def tensors(self) -> dict[str, np.ndarray]:
        if self._product is None:
            raise UsageError("back-end classifier is not trained yet: there is nothing to save")
        return dict(self.numbers)

    @classmethod
    def restore(cls, config: dict[str, Any], tensors: dict[str, np.ndarray]) -> Self:
        made = cls.from_options(config)
        optional = (LAYER_WEIGHTS,) if LAYER_WEIGHTS in tensors else ()
        found = need(tensors, HEAD_TENSORS + optional, "back-end classifier")
        made.numbers = dict(zip(HEAD_TENSORS + optional, found, strict=True))
        first, first_bias, second, second_bias = (t.astype(np.float64) for t in found[:4])
        shapes = [t.shape for t in found]
        if (
            first.ndim != 2
            or second.shape != (len(made.labels), len(first))
            or first_bias.shape != (len(first),)
            or second_bias.shape != (len(second),)
            or any(t.ndim != 1 for t in found[4:])
        ):
            raise CheckpointError(
                f"back-end classifier: {', '.join(made.numbers)} of shapes {shapes} do not fit together "
                f"and {len(made.labels)} labels"
            )
        made._product = second @ first
        made._constant = second @ first_bias + second_bias
        return made


def _logsumexp(logits: Float64Array) -> Float64Array:
    highest = logits.max(axis=1)
    return np.asarray(highest + np.log(np.exp(logits - highest[:, None]).sum(axis=1)))


def _softmax(values: Float64Array) -> Float64Array:
    powers = np.exp(values - values.max())
    return np.asarray(powers / powers.sum())
