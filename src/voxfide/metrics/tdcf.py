"""Tandem detection cost function (t-DCF): the price of a countermeasure (CM) before a fixed ASV.

T. Kinnunen et al., "Tandem assessment of spoofing countermeasures and automatic speaker
verification: fundamentals", IEEE/ACM TASLP 28, 2020 (ASVspoof 2021 and 5); the 2019 challenge
used the form of T. Kinnunen et al., "t-DCF: a detection cost function for the tandem
assessment of spoofing countermeasures and automatic speaker verification", Odyssey 2018.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike

from voxfide.errors import UsageError
from voxfide.metrics.asv import ASVSPOOF5_ASV, AsvRates
from voxfide.metrics.det import official_curve
from voxfide.metrics.trials import OperatingPoint, split_classes

TdcfEdition = Literal["asvspoof5", "asvspoof5_as_coded", "asvspoof2021", "asvspoof2019_legacy"]

MIN_DISTINCT = 3
"""Distinct scores below which the official packages refuse to compute a t-DCF."""


@dataclass(frozen=True)
class TdcfCost:
    """Priors and costs of a tandem system; the defaults are those of ASVspoof 2019, 2021 and 5.

    Attributes:
        p_spoof: prior probability of a spoof.
        p_target: share of target trials among the rest.
        c_miss: cost of rejecting a target trial.
        c_fa: cost of accepting a nontarget trial.
        c_fa_spoof: cost of accepting a spoof.

    Raises:
        UsageError: priors outside 0...1 or costs that are not above 0.
    """

    p_spoof: float = 0.05
    p_target: float = 0.99
    c_miss: float = 1.0
    c_fa: float = 10.0
    c_fa_spoof: float = 10.0

    def __post_init__(self) -> None:
        if not (0 < self.p_spoof < 1 and 0 < self.p_target <= 1):
            raise UsageError(
                f"p_spoof is {self.p_spoof} and p_target is {self.p_target}; expected probabilities"
            )
        if not all(0 < c < math.inf for c in (self.c_miss, self.c_fa, self.c_fa_spoof)):
            raise UsageError("t-DCF costs must be above 0")

    def weights(self, asv: AsvRates) -> tuple[float, float, float]:
        """C0, C1 and C2 of ``t-DCF = C0 + C1 FRR + C2 FAR``.

        Raises:
            UsageError: an ASV so poor that a CM which rejects everything would help (C1 < 0), or
                that accepts no spoof at all.
        """
        p_target, p_nontarget = (1 - self.p_spoof) * self.p_target, (1 - self.p_spoof) * (1 - self.p_target)
        c0 = p_target * self.c_miss * asv.p_miss + p_nontarget * self.c_fa * asv.p_fa
        c1 = p_target * self.c_miss - c0
        c2 = self.p_spoof * self.c_fa_spoof * asv.p_fa_spoof
        if c1 < 0 or not (c0 + min(c1, c2) > 0):
            raise UsageError(f"no t-DCF exists for these ASV error rates: {asv}")
        return c0, c1, c2


ASVSPOOF_TDCF = TdcfCost()


def min_tdcf(
    scores: ArrayLike,
    is_bonafide: ArrayLike,
    asv: AsvRates = ASVSPOOF5_ASV,
    edition: TdcfEdition = "asvspoof5",
    cost: TdcfCost = ASVSPOOF_TDCF,
) -> OperatingPoint:
    """The lowest normalised t-DCF over all CM thresholds, and the first threshold that reaches it.

    Read from the official :func:`~voxfide.metrics.det.det_curve`, so ties count against the CM.

    Editions:

    - ``asvspoof5`` and ``asvspoof2021``: ``(C0 + C1 FRR + C2 FAR) / (C0 + min(C1, C2))``. The
      two are one definition; ASVspoof 5 ranks with :data:`~voxfide.metrics.asv.ASVSPOOF5_ASV`.
      1 means that the CM is of no use; a perfect CM still pays C0.
    - ``asvspoof2019_legacy``: without C0, ``(C1 FRR + C2 FAR) / min(C1, C2)``: the figures of
      the 2019 challenge and of most papers on 2019 LA.
    - ``asvspoof5_as_coded``: the official ASVspoof 5 script, given ASV scores, puts the share of
      *rejected* spoofs where the share of accepted ones is meant. For comparison with figures
      made that way only.

    Args:
        scores: ``(trials,)``, CM scores, higher means more bona fide.
        is_bonafide: ``(trials,)``, boolean; target and nontarget trials alike are bona fide.
        asv: error rates of the ASV system.
        edition: one of the above.
        cost: priors and costs.

    Raises:
        UsageError: fewer than three distinct scores (decisions are no scores); an unknown
            edition; ASV rates without a t-DCF; or see
            :func:`voxfide.metrics.trials.check_trials`.
    """
    if edition not in get_args(TdcfEdition):
        raise UsageError(f"unknown t-DCF edition {edition!r} (known: {', '.join(get_args(TdcfEdition))})")
    curve = official_curve(*split_classes(scores, is_bonafide))
    if len(np.unique(curve.thresholds[1:])) < MIN_DISTINCT:
        raise UsageError("fewer than 3 distinct scores: the t-DCF needs scores, not decisions")
    if edition == "asvspoof5_as_coded":
        asv = AsvRates(asv.p_miss, asv.p_fa, asv.p_miss_spoof)
    c0, c1, c2 = cost.weights(asv)
    if edition == "asvspoof2019_legacy":
        if not min(c1, c2) > 0:
            raise UsageError(f"no t-DCF of 2019 exists for these ASV error rates: {asv}")
        c0 = 0.0
    costs = (c0 + c1 * curve.frr + c2 * curve.far) / (c0 + min(c1, c2))
    i = int(np.argmin(costs))
    return OperatingPoint(
        float(costs[i]), float(curve.thresholds[i]), float(curve.frr[i]), float(curve.far[i])
    )
