"""Detection cost function (DCF): the price of errors at a stated prior and stated costs.

X. Wang et al., "ASVspoof 5: crowdsourced speech data, deepfakes, and adversarial attacks
at scale", 2024, whose parameters are the defaults. Normalised by the cost of the better
of accepting and rejecting everything, so 1 means "no use".
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from voxfide.errors import UsageError
from voxfide.metrics.det import official_curve
from voxfide.metrics.ranking import WeightedTrials
from voxfide.metrics.trials import OperatingPoint, split_classes
from voxfide.types import Float64Array


@dataclass(frozen=True)
class DcfCost:
    """What errors cost.

    Attributes:
        p_spoof: prior probability of a spoof, between 0 and 1.
        c_miss: cost of rejecting a bona fide trial, above 0.
        c_fa: cost of accepting a spoof, above 0.
    """

    p_spoof: float = 0.05
    c_miss: float = 1.0
    c_fa: float = 10.0

    def __post_init__(self) -> None:
        if not 0 < self.p_spoof < 1:
            raise UsageError(
                f"p_spoof is {self.p_spoof}; expected a probability between 0 and 1, both excluded"
            )
        if not (0 < self.c_miss < math.inf and 0 < self.c_fa < math.inf):
            raise UsageError(f"c_miss is {self.c_miss} and c_fa is {self.c_fa}; expected costs above 0")

    @property
    def normaliser(self) -> float:
        """The cost of the better of accepting and rejecting everything."""
        return min(self.c_miss * (1 - self.p_spoof), self.c_fa * self.p_spoof)

    @property
    def threshold(self) -> float:
        """The Bayes threshold for scores that are natural-log likelihood ratios."""
        return -math.log(self.c_miss * (1 - self.p_spoof) / (self.c_fa * self.p_spoof))

    def __call__(self, frr: Float64Array, far: Float64Array) -> Float64Array:
        """Normalised cost at the given error rates, of any shape."""
        cost = self.c_miss * frr * (1 - self.p_spoof) + self.c_fa * far * self.p_spoof
        return cost / self.normaliser


ASVSPOOF5_COST = DcfCost()


def min_dcf(scores: ArrayLike, is_bonafide: ArrayLike, cost: DcfCost = ASVSPOOF5_COST) -> OperatingPoint:
    """The lowest normalised DCF over all thresholds, and the first threshold that reaches it.

    Read from the official :func:`~voxfide.metrics.det.det_curve`: the threshold is the score
    of the last rejected trial. Never above 1.

    Args:
        scores: ``(trials,)``, higher means more bona fide.
        is_bonafide: ``(trials,)``, boolean.
        cost: priors and costs.

    Raises:
        UsageError: see :func:`voxfide.metrics.trials.check_trials`.
    """
    curve = official_curve(*split_classes(scores, is_bonafide))
    costs = cost(curve.frr, curve.far)
    i = int(np.argmin(costs))
    return OperatingPoint(
        float(costs[i]), float(curve.thresholds[i]), float(curve.frr[i]), float(curve.far[i])
    )


def act_dcf(scores: ArrayLike, is_bonafide: ArrayLike, cost: DcfCost = ASVSPOOF5_COST) -> OperatingPoint:
    """The normalised DCF at the Bayes threshold, as if scores were log likelihood ratios.

    Trials at or above the threshold are accepted. Above minDCF where calibration is off; can
    exceed 1. Arguments and errors as for :func:`min_dcf`.
    """
    bonafide, spoof = split_classes(scores, is_bonafide)
    frr = np.asarray(np.searchsorted(bonafide, cost.threshold, side="left") / bonafide.size)
    far = np.asarray((spoof.size - np.searchsorted(spoof, cost.threshold, side="left")) / spoof.size)
    return OperatingPoint(float(cost(frr, far)), cost.threshold, float(frr), float(far))


def resampled_min_dcf(trials: WeightedTrials, cost: DcfCost = ASVSPOOF5_COST) -> Float64Array:
    """``(samples,)``: :func:`min_dcf` of each sample; the lowest cost lies at a corner."""
    return cost(trials.frr, trials.far).min(axis=1)


def resampled_act_dcf(trials: WeightedTrials, cost: DcfCost = ASVSPOOF5_COST) -> Float64Array:
    """``(samples,)``: :func:`act_dcf` of each sample."""
    bonafide, spoof = trials.bonafide, trials.spoof
    missed = bonafide.cumulative[:, np.searchsorted(bonafide.ranked.scores, cost.threshold, side="left")]
    rejected = spoof.cumulative[:, np.searchsorted(spoof.ranked.scores, cost.threshold, side="left")]
    return cost(missed / bonafide.total, (spoof.total - rejected) / spoof.total)
