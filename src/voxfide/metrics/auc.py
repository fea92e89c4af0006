"""Area under the ROC curve: how often a bona fide trial scores above a spoof.

J. A. Hanley, B. J. McNeil, "The meaning and use of the area under a receiver operating
characteristic (ROC) curve", Radiology 143, 1982.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from voxfide.metrics.ranking import WeightedTrials
from voxfide.metrics.trials import split_classes
from voxfide.types import Float64Array


def auc(scores: ArrayLike, is_bonafide: ArrayLike) -> float:
    """Probability, 0...1, that a random bona fide trial outscores a random spoof.

    Ties count half: the Mann-Whitney U statistic over the number of pairs.

    Args:
        scores: ``(trials,)``, higher means more bona fide.
        is_bonafide: ``(trials,)``, boolean.

    Raises:
        UsageError: see :func:`voxfide.metrics.trials.check_trials`.
    """
    bonafide, spoof = split_classes(scores, is_bonafide)
    below = np.searchsorted(spoof, bonafide, side="left").sum()
    not_above = np.searchsorted(spoof, bonafide, side="right").sum()
    return float((below + not_above) / (2 * bonafide.size * spoof.size))


def resampled_auc(trials: WeightedTrials) -> Float64Array:
    """``(samples,)``: :func:`auc` of each sample.

    The bona fide trials between two corners all lie above the spoofs of the first; those
    tied with a spoof are counted there as below it, hence the second term.
    """
    wins = (np.diff(trials.rejected_bonafide, axis=1) * trials.rejected_spoof[:, :-1]).sum(axis=1)
    tied_bonafide = np.diff(trials.bonafide.cumulative[:, trials.ranking.tied_bonafide], axis=1)[:, 0]
    tied_spoof = np.diff(trials.spoof.cumulative[:, trials.ranking.tied_spoof], axis=1)[:, 0]
    ties = (tied_bonafide * tied_spoof).sum(axis=1)
    return (2 * wins + ties) / (2 * trials.bonafide.total * trials.spoof.total)
