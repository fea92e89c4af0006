"""The one input form of every metric, and its checks.

Every public metric takes ``scores (trials,)`` and ``is_bonafide (trials,)``. A
higher score means more bona fide.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from voxfide.errors import UsageError
from voxfide.types import BoolArray, Float64Array


@dataclass(frozen=True)
class OperatingPoint:
    """A figure and the threshold at which it was read. ``float(point)`` is the figure.

    Attributes:
        value: the figure, in the unit that the metric states.
        threshold: in score units; the metric says on which side of it equal scores lie.
        frr: share of bona fide trials rejected there (the miss rate), 0...1.
        far: share of spoof trials accepted there (the false alarm rate), 0...1.
    """

    value: float
    threshold: float
    frr: float
    far: float

    @property
    def accepts_from(self) -> float:
        """The least score above :attr:`threshold`, which at the official EER is the last rejected one."""
        return float(np.nextafter(self.threshold, np.inf))

    def __float__(self) -> float:
        return self.value


def check_trials(scores: ArrayLike, is_bonafide: ArrayLike) -> tuple[Float64Array, BoolArray]:
    """Returns the trials as ``float64 (trials,)`` and ``bool (trials,)``.

    Raises:
        UsageError: scores that are not numbers or not finite, labels other than true and
            false, lengths that differ, or a class without trials; with counts.
    """
    try:
        values = np.asarray(scores, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise UsageError(f"scores are not numbers: {error}") from error
    labels = np.asarray(is_bonafide)
    if values.ndim != 1 or labels.shape != values.shape:
        raise UsageError(
            f"scores of shape {values.shape} with labels of shape {labels.shape}: "
            "expected two arrays of shape (trials,)"
        )
    is_boolean = labels.dtype == np.bool_ or (labels.dtype.kind in "iu" and np.isin(labels, (0, 1)).all())
    if labels.size and not is_boolean:
        raise UsageError("is_bonafide must be boolean (or 0 and 1): true for bona fide, false for spoof")
    labels = labels.astype(np.bool_, copy=False)
    n_bad = values.size - int(np.isfinite(values).sum())
    if n_bad:
        raise UsageError(
            f"{n_bad:,} of {values.size:,} scores are NaN or infinite; metrics need finite scores"
        )
    n_bonafide = int(np.count_nonzero(labels))
    if not 0 < n_bonafide < values.size:
        raise UsageError(
            f"{n_bonafide:,} bona fide and {values.size - n_bonafide:,} spoof trials: "
            "metrics need at least one of each"
        )
    return values, labels


def split_classes(scores: ArrayLike, is_bonafide: ArrayLike) -> tuple[Float64Array, Float64Array]:
    """Checks the trials and returns ``bonafide (n,)`` and ``spoof (m,)``, each ascending."""
    values, labels = check_trials(scores, is_bonafide)
    return np.sort(values[labels]), np.sort(values[~labels])
