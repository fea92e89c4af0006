"""Architecture-agnostic detection cost function (a-DCF) of spoofing-robust speaker verification.

H.-j. Shim et al., "a-DCF: an architecture agnostic metric with application to spoofing-robust
speaker verification", Odyssey 2024. One score decides on both: the claimed speaker, speaking.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from voxfide.errors import UsageError
from voxfide.metrics.asv import ThreeClasses
from voxfide.types import Float64Array


@dataclass(frozen=True)
class AdcfCost:
    """Priors and costs; the defaults are those of ASVspoof 5 track 2.

    Attributes:
        p_target: prior probability of a target trial.
        p_nontarget: prior probability of a nontarget trial.
        p_spoof: prior probability of a spoof; the three sum to 1.
        c_miss: cost of rejecting a target trial.
        c_fa_asv: cost of accepting a nontarget trial.
        c_fa_cm: cost of accepting a spoof.

    Raises:
        UsageError: priors that do not sum to 1, or costs that are not above 0.
    """

    p_target: float = 0.9405
    p_nontarget: float = 0.0095
    p_spoof: float = 0.05
    c_miss: float = 1.0
    c_fa_asv: float = 10.0
    c_fa_cm: float = 10.0

    def __post_init__(self) -> None:
        priors = (self.p_target, self.p_nontarget, self.p_spoof)
        if not (math.isclose(sum(priors), 1, abs_tol=1e-9) and min(priors) >= 0 and self.p_target > 0):
            raise UsageError(f"priors {priors}; expected probabilities that sum to 1, the first above 0")
        if not all(0 < c < math.inf for c in (self.c_miss, self.c_fa_asv, self.c_fa_cm)):
            raise UsageError("a-DCF costs must be above 0")


ASVSPOOF5_ADCF = AdcfCost()

ADCF_CLASS_DEFAULT = AdcfCost(0.9, 0.05, 0.05, 1.0, 10.0, 20.0)
"""What the authors' own code takes where no costs are given."""


@dataclass(frozen=True)
class AdcfPoint:
    """A minimum a-DCF and where it was read. ``float(point)`` is the figure.

    Attributes:
        value: 0 is perfect, 1 what the better of accepting and rejecting everything costs.
        threshold: score of the last rejected trial; 1e-8 below the lowest if none is.
        p_miss: share of target trials rejected there.
        p_fa: share of nontarget trials accepted there.
        p_fa_spoof: share of spoofs accepted there.
    """

    value: float
    threshold: float
    p_miss: float
    p_fa: float
    p_fa_spoof: float

    def __float__(self) -> float:
        return self.value


def min_adcf(scores: ThreeClasses, cost: AdcfCost = ASVSPOOF5_ADCF) -> AdcfPoint:
    """The lowest normalised a-DCF over all thresholds, the first of several.

    As in the official code the threshold passes one trial at a time; among equal scores target
    trials are rejected first, then nontarget ones, so ties count against the system.

    Args:
        scores: of the whole system, higher means "the claimed speaker, bona fide".
        cost: priors and costs.
    """
    thresholds, p_miss, p_fa, p_fa_spoof = three_class_curve(scores, 1e-8)
    costs = (
        cost.c_miss * cost.p_target * p_miss
        + cost.c_fa_asv * cost.p_nontarget * p_fa
        + cost.c_fa_cm * cost.p_spoof * p_fa_spoof
    )
    accept_all = cost.c_fa_asv * cost.p_nontarget + cost.c_fa_cm * cost.p_spoof
    costs /= min(accept_all, cost.c_miss * cost.p_target)
    i = int(np.argmin(costs))
    return AdcfPoint(
        float(costs[i]), float(thresholds[i]), float(p_miss[i]), float(p_fa[i]), float(p_fa_spoof[i])
    )


def three_class_curve(
    scores: ThreeClasses, margin: float
) -> tuple[Float64Array, Float64Array, Float64Array, Float64Array]:
    """Thresholds, miss rate, and false acceptance of nontarget trials and of spoofs.

    Each ``(trials + 1,)``. Point i rejects the i lowest trials; of equal scores target trials
    come first, then nontarget ones. The first threshold lies ``margin`` below the lowest score.
    """
    classes = (scores.target, scores.nontarget, scores.spoof)
    values = np.concatenate(classes)
    order = np.argsort(values, kind="stable")
    kind = np.repeat(np.arange(3), [len(c) for c in classes])[order]
    ranked = values[order]
    rejected = [np.concatenate(([0], np.cumsum(kind == k))) for k in range(3)]
    thresholds = np.concatenate((ranked[:1] - margin, ranked))
    accepted = [(len(c) - r) / len(c) for c, r in zip(classes[1:], rejected[1:], strict=True)]
    return thresholds, rejected[0] / len(scores.target), accepted[0], accepted[1]
