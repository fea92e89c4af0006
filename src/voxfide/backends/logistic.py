"""Standardisation and logistic regression on time-averaged features."""

from __future__ import annotations

import logging
import warnings
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import numpy as np

from voxfide.backends.base import Backend, check_classes, check_features, check_weights, need
from voxfide.errors import CheckpointError, UsageError
from voxfide.types import BoolArray, Float64Array

log = logging.getLogger(__name__)

LAYER_CHOICES = ("last", "mean", "all")


@dataclass(eq=False)
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
        except (TypeError, ValueError, OverflowError):
            raise UsageError(
                f"logistic: C={self.C!r}, max_iter={self.max_iter!r} (expected numbers)"
            ) from None
        if not 0 < self.C < np.inf:
            raise UsageError(f"logistic: C={self.C} (expected a positive number)")
        if self.max_iter < 1:
            raise UsageError(f"logistic: max_iter={self.max_iter} (expected at least 1)")
        if isinstance(self.layer, str) and self.layer.isdecimal():
            self.layer = int(self.layer)
        if self.layer not in LAYER_CHOICES and not (isinstance(self.layer, int) and self.layer >= 1):
            raise UsageError(
                f"logistic: layer={self.layer!r} (expected {', '.join(LAYER_CHOICES)} or a number from 1)"
            )
        if self.class_weight not in (None, "balanced"):
            raise UsageError(f"logistic: class_weight={self.class_weight!r} (expected None or balanced)")

    def fit(self, features: np.ndarray, is_bonafide: BoolArray, weights: Float64Array | None = None) -> Self:
        """Trains on ``features (utterances, layers, dim)``; see :meth:`Backend.fit`."""
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression
        from sklearn.preprocessing import StandardScaler

        x = self._select(features)
        check_classes(is_bonafide, len(x), "back-end logistic")
        weights = check_weights(weights, len(x), "back-end logistic")
        # Its scale is 1 where a feature is constant but for rounding: dividing by that would blow up noise.
        scaler = StandardScaler(copy=False).fit(x)
        model = LogisticRegression(C=self.C, class_weight=self.class_weight, max_iter=self.max_iter)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(scaler.transform(x), is_bonafide, sample_weight=weights)
        if model.n_iter_[0] >= self.max_iter:
            log.warning("back-end logistic: not settled after %d iterations (see max_iter)", self.max_iter)
        balanced = self.class_weight == "balanced"
        prior = 0.0 if balanced else float(np.log(weights[is_bonafide].sum() / weights[~is_bonafide].sum()))
        self._mean, self._scale = scaler.mean_, scaler.scale_
        self._coefficients = model.coef_[0].astype(np.float64)
        self._intercept = float(model.intercept_[0]) - prior
        return self

    def score(self, features: np.ndarray) -> Float64Array:
        """Natural-log likelihood ratios ``(utterances,)``; see :meth:`Backend.score`."""
        if self._mean is None or self._scale is None or self._coefficients is None:
            raise UsageError("back-end logistic is not trained yet (expected fit before score)")
        x = self._select(features)
        if x.shape[1] != len(self._mean):
            raise UsageError(
                f"back-end logistic was trained on {len(self._mean)} numbers an utterance, "
                f"these features have {x.shape[1]}"
            )
        # A sum along each row, not a matrix product, whose order of summation changes with the batch.
        return ((x - self._mean) / self._scale * self._coefficients).sum(axis=1) + self._intercept

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
        mean, scale, coefficients, intercept = need(
            tensors, ("mean", "scale", "coefficients", "intercept"), "back-end logistic"
        )
        shapes = [t.shape for t in (mean, scale, coefficients)]
        if (
            mean.ndim != 1
            or shapes.count(mean.shape) != 3
            or intercept.shape != (1,)
            or not (scale > 0).all()
        ):
            raise CheckpointError(
                f"back-end logistic: mean, scale and coefficients of shapes {shapes}, intercept "
                f"{intercept.shape} (expected three vectors of one length, positive scales and one number)"
            )
        made._mean, made._scale, made._coefficients = mean, scale, coefficients
        made._intercept = float(intercept[0])
        return made

    def _select(self, features: np.ndarray) -> Float64Array:
        """A copy of the chosen layers, ``(utterances, inputs)`` float64."""
        check_features(features, "back-end logistic")
        n_layers = features.shape[1]
        if self.layer == "all":
            chosen = features.reshape(len(features), -1)
        elif self.layer == "mean":
            chosen = features.mean(axis=1, dtype=np.float64)
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
