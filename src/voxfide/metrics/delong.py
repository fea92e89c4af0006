"""Whether two systems' areas under the ROC curve differ by more than chance, on the same trials.

E. R. DeLong, D. M. DeLong, D. L. Clarke-Pearson, "Comparing the areas under two or more
correlated receiver operating characteristic curves", Biometrics 44, 1988; by ranks in
O(n log n) as X. Sun, W. Xu, "Fast implementation of DeLong's algorithm", IEEE SPL 21, 2014.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from voxfide.metrics.trials import check_trials
from voxfide.types import BoolArray, Float64Array


@dataclass(frozen=True)
class DelongTest:
    """AUC of system a less that of system b.

    Attributes:
        auc_a: area under the ROC curve of system a, 0...1.
        auc_b: the same of system b.
        standard_error: of the difference; NaN with a single trial of a class.
        p_value: two-sided; how often chance alone would give a difference as large if the
            systems were equally good. NaN where the standard error is 0 or NaN and the
            difference is not 0: there are too few errors to test.
    """

    auc_a: float
    auc_b: float
    standard_error: float
    p_value: float

    @property
    def difference(self) -> float:
        """``auc_a - auc_b``; above 0 if system a is better."""
        return self.auc_a - self.auc_b


def delong_test(scores_a: ArrayLike, scores_b: ArrayLike, is_bonafide: ArrayLike) -> DelongTest:
    """Tests whether the AUC of two systems on the same trials differ.

    Trials count as independent; where those of one speaker are alike, a bootstrap over
    speakers is the honest choice. Ties count half, as in :func:`voxfide.metrics.auc.auc`.

    Args:
        scores_a: ``(trials,)`` of system a, higher means more bona fide.
        scores_b: ``(trials,)`` of system b, of the same trials in the same order.
        is_bonafide: ``(trials,)``, boolean.

    Raises:
        UsageError: see :func:`voxfide.metrics.trials.check_trials`.
    """
    (wins_a, losses_a), (wins_b, losses_b) = (
        _placements(*check_trials(scores, is_bonafide)) for scores in (scores_a, scores_b)
    )
    auc_a, auc_b = float(wins_a.mean()), float(wins_b.mean())
    error = math.sqrt(_variance_of_mean(wins_a - wins_b) + _variance_of_mean(losses_a - losses_b))
    return DelongTest(auc_a, auc_b, error, _two_sided(auc_a - auc_b, error))


def _placements(scores: Float64Array, is_bonafide: BoolArray) -> tuple[Float64Array, Float64Array]:
    """For each bona fide trial the share of spoofs below it; for each spoof that of bona fide above."""
    bonafide, spoof = scores[is_bonafide], scores[~is_bonafide]
    return _share_below(bonafide, spoof), 1 - _share_below(spoof, bonafide)


def _share_below(scores: Float64Array, others: Float64Array) -> Float64Array:
    """The share of ``others`` below each score, equal ones counted half."""
    ranked = np.sort(others)
    order = np.argsort(scores)
    queries = scores[order]
    both = np.searchsorted(ranked, queries, side="left") + np.searchsorted(ranked, queries, side="right")
    shares = np.empty(len(scores))
    shares[order] = both / (2 * len(others))
    return shares


def _variance_of_mean(values: Float64Array) -> float:
    return float(values.var(ddof=1) / values.size) if values.size > 1 else math.nan


def _two_sided(difference: float, error: float) -> float:
    """Probability of a normal deviate at least as large."""
    if abs(difference) < 1e-15:
        return 1.0
    if not error > 0:
        return math.nan
    return math.erfc(abs(difference) / error / math.sqrt(2))
