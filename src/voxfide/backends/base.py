"""The back-end protocol: ``fit``, ``score``, and a state of plain numbers to save and load."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Self

import numpy as np

from voxfide.errors import CheckpointError, UsageError
from voxfide.types import BoolArray, Float64Array


class Backend(ABC):
    """Features of utterances to scores; a higher score means more bona fide.

    Subclasses are dataclasses whose fields are the options.
    """

    name: ClassVar[str]
    score_kind: str = "natural-log likelihood ratio"
    """What an uncalibrated score is, under the conditions of training."""
    pools: ClassVar[tuple[str, ...]]
    """Kinds of features it takes: ``mean``, ``mean_std``, ``none`` (full frames)."""

    @classmethod
    def from_options(cls, options: dict[str, Any]) -> Self:
        """Checks names before anything is computed; values are the constructor's to check."""
        known = {f.name for f in fields(cls) if f.init}  # type: ignore[arg-type]
        unknown = sorted(set(options) - known)
        if unknown:
            raise UsageError(
                f"back-end {cls.name} has no option {', '.join(unknown)} "
                f"(options: {', '.join(sorted(known))})"
            )
        return cls(**options)

    @abstractmethod
    def fit(self, features: np.ndarray, is_bonafide: BoolArray, weights: Float64Array | None = None) -> Self:
        """Trains on ``features (utterances, layers, dim)`` and returns itself.

        Args:
            is_bonafide: ``(utterances,)``.
            weights: ``(utterances,)``, what each counts in training; 1 where left out.

        Raises:
            UsageError: another shape, numbers that are not finite, or one class only; always
                of a neural back-end, which is trained batch by batch.
        """

    @abstractmethod
    def score(self, features: np.ndarray) -> Float64Array:
        """Scores ``(utterances,)`` of ``features (utterances, layers, dim)``, for ``pool=none``
        of a sequence of ``(layers, frames, dim)``.

        An utterance gets the same score whatever stands beside it: to the last bit, or of a
        neural back-end to rounding (1e-5).

        Raises:
            UsageError: not trained, not the shape that it was trained on, or not finite.
        """

    @abstractmethod
    def config(self) -> dict[str, Any]:
        """JSON-safe options, as a detector's ``config.json`` keeps them."""

    @abstractmethod
    def tensors(self) -> dict[str, np.ndarray]:
        """Trained numbers, as a detector's ``model.safetensors`` keeps them."""

    @classmethod
    @abstractmethod
    def restore(cls, config: dict[str, Any], tensors: dict[str, np.ndarray]) -> Self:
        """The trained back-end that gave ``config`` and ``tensors``.

        Raises:
            UsageError: options that cannot be.
            CheckpointError: tensors that are missing, do not fit together or are not finite.
        """


@dataclass(frozen=True)
class ClassCounts:
    """Utterances of each class in a training set; both must be there."""

    n_bonafide: int
    n_spoof: int

    @classmethod
    def of(cls, is_bonafide: BoolArray, what: str) -> ClassCounts:
        """Raises :class:`UsageError` where a class is missing."""
        counts = cls(int(is_bonafide.sum()), int((~is_bonafide).sum()))
        if not counts.n_bonafide or not counts.n_spoof:
            raise UsageError(
                f"{what}: {counts.n_bonafide} bona fide and {counts.n_spoof} spoofed utterances "
                "(expected at least one of each)"
            )
        return counts


def check_features(features: np.ndarray, who: str) -> None:
    """Raises :class:`UsageError` unless they are finite numbers ``(utterances, layers, dim)``."""
    if features.ndim != 3 or not np.issubdtype(features.dtype, np.floating):
        raise UsageError(
            f"{who}: {features.dtype} features of shape {features.shape} "
            "(expected floats of shape (utterances, layers, dim))"
        )
    finite = np.isfinite(features).all(axis=(1, 2))
    if not finite.all():
        raise UsageError(
            f"{who}: features of {np.count_nonzero(~finite)} utterance(s) are not finite "
            f"(first: number {np.argmin(finite)}, counted from 0)"
        )


def check_classes(is_bonafide: BoolArray, n_utterances: int, who: str) -> ClassCounts:
    """Counts of both classes; :class:`UsageError` unless there is one boolean an utterance, and both."""
    if is_bonafide.shape != (n_utterances,) or is_bonafide.dtype != np.bool_:
        raise UsageError(
            f"{who}: {is_bonafide.dtype} classes of shape {is_bonafide.shape} "
            f"(expected booleans of shape ({n_utterances},))"
        )
    return ClassCounts.of(is_bonafide, f"training set of {who}")


def check_weights(weights: Float64Array | None, n_utterances: int, who: str) -> Float64Array:
    """Weights ``(utterances,)``, 1 where there are none; :class:`UsageError` unless positive and finite."""
    if weights is None:
        return np.ones(n_utterances)
    if weights.shape != (n_utterances,) or not (np.isfinite(weights) & (weights > 0)).all():
        raise UsageError(
            f"{who}: weights of shape {weights.shape} (expected a positive number for each of "
            f"{n_utterances} utterances)"
        )
    return np.asarray(weights, np.float64)


def need(tensors: dict[str, np.ndarray], names: tuple[str, ...], who: str) -> list[np.ndarray]:
    """The named tensors, or a :class:`CheckpointError` that lists those missing or not finite."""
    missing = [n for n in names if n not in tensors]
    if missing:
        raise CheckpointError(f"{who}: tensors {', '.join(missing)} are missing")
    broken = [n for n in names if not np.isfinite(tensors[n]).all()]
    if broken:
        raise CheckpointError(f"{who}: tensors {', '.join(broken)} hold NaN or infinity")
    return [tensors[n] for n in names]
