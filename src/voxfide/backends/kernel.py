"""Kernel logistic regression on time averages: Gaussian kernel, Nyström landmarks.

C. K. I. Williams, M. Seeger, "Using the Nyström method to speed up kernel machines", NIPS 2000; J. Zhu,
T. Hastie, "Kernel logistic regression and the import vector machine", JCGS 14(1), 2005. Unlike a support
vector machine it gives odds, and its size is known beforehand: that of the landmarks.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import numpy as np

from voxfide.backends.base import Backend, check_classes, check_features, check_weights, need
from voxfide.errors import CheckpointError, UsageError
from voxfide.types import BoolArray, Float64Array

CLIP = 4.0
"""Standardised features are cut at this: one outlier shall not push an utterance away from all landmarks."""

TENSORS = ("mean", "scale", "landmarks", "coefficients", "intercept")


@dataclass(eq=False)
class KernelBackend(Backend):
    """Kernel logistic regression on standardised features of all layers, concatenated.

    The score is the log posterior odds less the log odds of the classes in training, by their weights.

    Args:
        landmarks: training utterances, drawn at random, that others are compared with; at most as
            many as there are.
        gamma: the kernel is exp(-gamma d² / D), d the distance in D standardised features.
        C: inverse strength of the L2 penalty.
        max_iter: limit of the solver.
        seed: of the draw.
    """

    name: ClassVar[str] = "kernel"
    pools: ClassVar[tuple[str, ...]] = ("mean", "mean_std")

    landmarks: int = 1000
    gamma: float = 0.8
    C: float = 10.0
    max_iter: int = 2000
    seed: int = 0
    _tensors: dict[str, np.ndarray] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        try:
            self.landmarks, self.max_iter, self.seed = int(self.landmarks), int(self.max_iter), int(self.seed)
            self.gamma, self.C = float(self.gamma), float(self.C)
        except (TypeError, ValueError, OverflowError):
            raise UsageError(f"kernel: {self.config()} (expected numbers)") from None
        problems = [
            f"{name}={value} (expected {words})"
            for name, value, fine, words in (
                ("landmarks", self.landmarks, self.landmarks >= 1, "at least 1"),
                ("gamma", self.gamma, 0 < self.gamma < np.inf, "a positive number"),
                ("C", self.C, 0 < self.C < np.inf, "a positive number"),
                ("max_iter", self.max_iter, self.max_iter >= 1, "at least 1"),
                ("seed", self.seed, 0 <= self.seed < 2**32, "0 … 2³² - 1"),
            )
            if not fine
        ]
        if problems:
            raise UsageError("kernel: " + "; ".join(problems))

    def fit(self, features: np.ndarray, is_bonafide: BoolArray, weights: Float64Array | None = None) -> Self:
        """Trains on ``features (utterances, layers, dim)``; see :meth:`Backend.fit`."""
        from sklearn.kernel_approximation import Nystroem
        from sklearn.linear_model import LogisticRegression
        from sklearn.preprocessing import StandardScaler

        check_features(features, "back-end kernel")
        x = _joined(features)
        check_classes(is_bonafide, len(x), "back-end kernel")
        weights = check_weights(weights, len(x), "back-end kernel")
        scaler = StandardScaler().fit(x)
        z = np.clip(scaler.transform(x), -CLIP, CLIP)
        chosen = _drawn(x, self.landmarks, self.seed)
        kernel = Nystroem(gamma=self.gamma / z.shape[1], n_components=len(chosen), random_state=0)
        kernel.fit(z[chosen])
        model = LogisticRegression(C=self.C, max_iter=self.max_iter)
        model.fit(kernel.transform(z), is_bonafide, sample_weight=weights)
        prior = np.log(weights[is_bonafide].sum() / weights[~is_bonafide].sum())
        self._tensors = {
            "mean": scaler.mean_,
            "scale": scaler.scale_,
            "landmarks": kernel.components_,
            # A linear map of the whitened comparisons is a linear map of the comparisons themselves.
            "coefficients": kernel.normalization_.T @ model.coef_[0],
            "intercept": np.array([float(model.intercept_[0]) - prior]),
        }
        return self

    def score(self, features: np.ndarray) -> Float64Array:
        """Natural-log likelihood ratios ``(utterances,)``; see :meth:`Backend.score`."""
        t = self.tensors()
        check_features(features, "back-end kernel")
        x = _joined(features)
        if x.shape[1] != len(t["mean"]):
            raise UsageError(
                f"back-end kernel was trained on {len(t['mean'])} numbers an utterance, "
                f"these features have {x.shape[1]}"
            )
        z = np.clip((x - t["mean"]) / t["scale"], -CLIP, CLIP)
        landmarks = t["landmarks"].astype(np.float64)
        gamma = self.gamma / x.shape[1]
        # One utterance at a time: sums do not change with the batch.
        scores = [
            (np.exp(-gamma * np.square(landmarks - row).sum(axis=1)) * t["coefficients"]).sum() for row in z
        ]
        return np.array(scores, dtype=np.float64) + float(t["intercept"][0])

    def config(self) -> dict[str, Any]:
        return {
            "landmarks": self.landmarks,
            "gamma": self.gamma,
            "C": self.C,
            "max_iter": self.max_iter,
            "seed": self.seed,
        }

    def tensors(self) -> dict[str, np.ndarray]:
        if not self._tensors:
            raise UsageError("back-end kernel is not trained yet (expected fit before score or save)")
        return dict(self._tensors)

    @classmethod
    def restore(cls, config: dict[str, Any], tensors: dict[str, np.ndarray]) -> Self:
        made = cls.from_options(config)
        mean, scale, landmarks, coefficients, intercept = need(tensors, TENSORS, "back-end kernel")
        shapes = {name: tensors[name].shape for name in TENSORS}
        fits = (
            mean.ndim == 1
            and scale.shape == mean.shape
            and landmarks.ndim == 2
            and landmarks.shape[1:] == mean.shape
            and coefficients.shape == landmarks.shape[:1]
            and intercept.shape == (1,)
            and bool((scale > 0).all())
        )
        if not fits:
            raise CheckpointError(
                f"back-end kernel: tensors of shapes {shapes} (expected mean and scale of one length D, "
                "landmarks (n, D), n coefficients, one intercept, and positive scales)"
            )
        made._tensors = dict(zip(TENSORS, (mean, scale, landmarks, coefficients, intercept), strict=True))
        return made


def _joined(features: np.ndarray) -> Float64Array:
    """Features of all layers, one after another, ``(utterances, layers * dim)``."""
    return features.reshape(len(features), features.shape[1] * features.shape[2]).astype(np.float64)


def _drawn(x: Float64Array, n: int, seed: int) -> list[int]:
    """``n`` rows at random: which ones follows from the seed and their content, not from their order."""
    digests = [hashlib.blake2b(row.tobytes(), digest_size=16, salt=seed.to_bytes(4)).digest() for row in x]
    return sorted(range(len(x)), key=digests.__getitem__)[:n]
