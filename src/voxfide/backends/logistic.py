"""Standardisation and logistic regression on time-averaged features."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import numpy as np

from voxfide.backends.base import Backend, ClassCounts, need
from voxfide.errors import UsageError
from voxfide.types import BoolArray, Float64Array

LAYER_CHOICES = ("last", "mean", "all")


@dataclass
class LogisticBackend(Backend):
    """Logistic regression as in Combei et al. 2024 (C = 1e3, one layer, scikit-learn).

    The score is the log posterior odds of the model less the log odds of the classes
    in training (Brümmer and du Preez 2006): the model's log-likelihood ratio, which
    does not carry the training set's class proportions into use.

    Args:
        C: inverse strength of the L2 penalty.
        layer: which layers' averages: ``last`` (layer n), ``mean`` over layers, ``all``
            (concatenated), or a layer number from 1.
        class_weight: None, or ``balanced`` for equal weight of both classes.
        max_iter: limit of the solver.
    """

    name: ClassVar[str] = "logistic"
    pools: ClassVar[tuple[str, ...]] = ("mean", "mean_std")

    C: float = 1e3
    layer: str | int = "last"
    class_weight: str | None = None
    max_iter: int = 2000
    _mean: Float64Array | None = field(default=None, init=False, repr=False)
    _scale: Float64Array | None = field(default=None, init=False, repr=False)
    _coefficients: Float64Array | None = field(default=None, init=False, repr=False)
    _intercept: float = field(default=0.0, init=False, repr=False)

    def __post_init__(self) -> None:
        try:
            self.C, self.max_iter = float(self.C), int(self.max_iter)
        except (TypeError, ValueError):
            raise UsageError(
                f"logistic: C={self.C!r}, max_iter={self.max_iter!r} (expected numbers)"
            ) from None
        if not 0 < self.C < np.inf:
            raise UsageError(f"logistic: C={self.C} (expected a positive number)")
        if isinstance(self.layer, str) and self.layer.isdigit():
            self.layer = int(self.layer)
        if self.layer not in LAYER_CHOICES and not (isinstance(self.layer, int) and self.layer >= 1):
            raise UsageError(
                f"logistic: layer={self.layer!r} (expected {', '.join(LAYER_CHOICES)} or a number from 1)"
            )
        if self.class_weight not in (None, "balanced"):
            raise UsageError(f"logistic: class_weight={self.class_weight!r} (expected None or balanced)")

    def fit(self, features: np.ndarray, is_bonafide: BoolArray) -> Self:
        """Trains on ``features (utterances, layers, dim)``.

        Raises:
            UsageError: one class only, or a layer that the features do not have.
        """
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression

        counts = ClassCounts.of(is_bonafide, "training set of back-end logistic")
        x = self._select(features)
        self._mean = x.mean(axis=0)
        spread = x.std(axis=0)
        self._scale = np.where(spread > 0, spread, 1.0)
        model = LogisticRegression(C=self.C, class_weight=self.class_weight, max_iter=self.max_iter)
        with warnings.catch_warnings():
            # Separable training data have no finite optimum at weak regularisation; the direction has settled.
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit((x - self._mean) / self._scale, is_bonafide)
        self._coefficients = model.coef_[0].astype(np.float64)
        balanced = self.class_weight == "balanced"
        prior = 0.0 if balanced else float(np.log(counts.n_bonafide / counts.n_spoof))
        self._intercept = float(model.intercept_[0]) - prior
        return self

    def score(self, features: np.ndarray) -> Float64Array:
        """Natural-log likelihood ratios ``(utterances,)``."""
        if self._mean is None or self._scale is None or self._coefficients is None:
            raise UsageError("back-end logistic is not trained yet (expected fit before score)")
        x = self._select(features)
        if x.shape[1] != len(self._mean):
            raise UsageError(
                f"back-end logistic was trained on {len(self._mean)} features an utterance, these have {x.shape[1]}"
            )
        return ((x - self._mean) / self._scale) @ self._coefficients + self._intercept

    def config(self) -> dict[str, Any]:
        return {
            "C": self.C,
            "layer": self.layer,
            "class_weight": self.class_weight,
            "max_iter": self.max_iter,
        }

    def tensors(self) -> dict[str, np.ndarray]:
        if self._mean is None or self._scale is None or self._coefficients is None:
            raise UsageError("back-end logistic is not trained yet: there is nothing to save")
        return {
            "mean": self._mean,
            "scale": self._scale,
            "coefficients": self._coefficients,
            "intercept": np.array([self._intercept]),
        }

    @classmethod
    def restore(cls, config: dict[str, Any], tensors: dict[str, np.ndarray]) -> Self:
        made = cls.from_options(config)
        made._mean, made._scale, made._coefficients, intercept = need(
            tensors, ("mean", "scale", "coefficients", "intercept"), "back-end logistic"
        )
        made._intercept = float(intercept[0])
        return made

    def _select(self, features: np.ndarray) -> Float64Array:
        """``(utterances, inputs)`` float64 of the chosen layers."""
        if features.ndim != 3:
            raise UsageError(f"features of shape {features.shape} (expected (utterances, layers, dim))")
        n_layers = features.shape[1]
        if self.layer == "all":
            chosen = features.reshape(len(features), -1)
        elif self.layer == "mean":
            chosen = features.mean(axis=1)
        elif self.layer == "last":
            chosen = features[:, -1]
        else:
            number = int(self.layer)
            if number > n_layers:
                raise UsageError(
                    f"logistic: layer={number}, but the features have {n_layers} (expected 1 to {n_layers})"
                )
            chosen = features[:, number - 1]
        return chosen.astype(np.float64)
