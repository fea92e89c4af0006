"""From score to verdict: the least expected cost, with the right to give no verdict."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from voxfide.analysis.result import INCONCLUSIVE, Verdict
from voxfide.calibration import bayes_threshold, probability_bonafide
from voxfide.calibration.decision import log_odds
from voxfide.errors import UsageError
from voxfide.types import BONAFIDE, SPOOF

if TYPE_CHECKING:
    from voxfide.detectors import AnyDetector

SHARE_INCONCLUSIVE: Final = 0.25
"""Cost of giving no verdict where nothing is stated, as a share of the cheaper error."""

JOINING: Final = "mean of the window scores, weighted by seconds of speech"

_NEEDS_CALIBRATION: Final = (
    "{option} needs a calibrated detector, whose scores are likelihood ratios "
    "(`voxfide calibrate` makes it one)"
)


@dataclass(frozen=True)
class DecisionRule:
    """What scores are held against.

    ``bonafide`` at or above ``bonafide_from``, ``spoof`` below ``spoof_below``, inconclusive between
    them; a plain two-way decision where both are the same.

    Attributes:
        bonafide_from, spoof_below: scores; log likelihood ratios of a calibrated detector.
        kind: ``bayes`` (least expected cost), ``threshold`` (stated by the user) or
            ``detector-threshold`` (of an uncalibrated detector).
        prior: of bona fide, for the probability; ``None`` of an uncalibrated detector.
        c_miss, c_fa, c_inconclusive: costs of rejecting bona fide speech, of accepting a spoof, and of no
            verdict; ``None`` where no cost was asked.
    """

    bonafide_from: float
    spoof_below: float
    kind: str = "threshold"
    prior: float | None = None
    c_miss: float | None = None
    c_fa: float | None = None
    c_inconclusive: float | None = None

    @classmethod
    def bayes(
        cls,
        prior: float = 0.5,
        c_miss: float = 1.0,
        c_fa: float = 1.0,
        c_inconclusive: float | None = None,
    ) -> DecisionRule:
        """The decision of least expected cost, of three.

        With the probability p of bona fide that follows from the likelihood ratio and the prior, calling
        a recording bona fide costs ``(1 - p) c_fa``, calling it a spoof ``p c_miss``, and giving no
        verdict ``c_inconclusive``, whatever it is: C. K. Chow, "On optimum recognition error and reject
        tradeoff", IEEE Transactions on Information Theory 16, 1970.

        Args:
            prior: of bona fide.
            c_miss: cost of rejecting a bona fide recording.
            c_fa: cost of accepting a spoof.
            c_inconclusive: cost of no verdict; a quarter of the lower of the two where left out: then, at
                equal costs, a verdict needs a probability of 0.75. From half of them on, every
                recording gets a verdict.

        Raises:
            UsageError: a prior not strictly between 0 and 1, or costs not above 0.
        """
        plain = bayes_threshold(prior, c_miss, c_fa)
        cost = SHARE_INCONCLUSIVE * min(c_miss, c_fa) if c_inconclusive is None else c_inconclusive
        if not 0 < cost < math.inf:
            raise UsageError(f"cost of no verdict is {cost} (expected a number above 0)")
        # Where neither error is worth its cost, there is no verdict; each bound at most up to the plain one.
        high = _llr(1 - cost / c_fa, prior) if cost < c_fa else -math.inf
        low = _llr(cost / c_miss, prior) if cost < c_miss else math.inf
        return cls(max(high, plain), min(low, plain), "bayes", prior, c_miss, c_fa, cost)

    @classmethod
    def of(
        cls,
        detector: AnyDetector,
        *,
        prior: float | None = None,
        c_miss: float | None = None,
        c_fa: float | None = None,
        c_inconclusive: float | None = None,
        threshold: float | None = None,
    ) -> DecisionRule:
        """The detector's own rule, but for what is stated.

        A calibrated detector: :meth:`bayes` with the prior and costs of its calibration. An uncalibrated
        one: its threshold, two-way. ``threshold`` makes either a two-way decision at that score.

        Raises:
            UsageError: a prior or costs for a detector without a calibration, costs beside a threshold,
                or numbers that cannot be.
        """
        record = detector.calibration
        costs = {"--cost-miss": c_miss, "--cost-fa": c_fa, "--cost-inconclusive": c_inconclusive}
        stated = [option for option, cost in costs.items() if cost is not None]
        if threshold is not None:
            if stated:
                raise UsageError(
                    f"{stated[0]} beside --threshold: the threshold decides (expected one of them)"
                )
            if not math.isfinite(threshold):
                raise UsageError(f"threshold {threshold} (expected a finite number)")
        if record is None:
            if prior is not None or stated:
                option = "--prior" if prior is not None else stated[0]
                raise UsageError(_NEEDS_CALIBRATION.format(option=option))
            if threshold is None:
                return cls(detector.threshold, detector.threshold, "detector-threshold")
            return cls(threshold, threshold)
        prior = record.prior if prior is None else prior
        if threshold is not None:
            probability_bonafide(0.0, prior)  # checks it
            return cls(threshold, threshold, "threshold", prior)
        return cls.bayes(
            prior,
            record.c_miss if c_miss is None else c_miss,
            record.c_fa if c_fa is None else c_fa,
            c_inconclusive,
        )

    def verdict(self, score: float | None) -> Verdict:
        """What the score alone says; inconclusive where there is none."""
        if score is None:
            return INCONCLUSIVE
        if score >= self.bonafide_from:
            return BONAFIDE
        return SPOOF if score < self.spoof_below else INCONCLUSIVE

    def probability(self, score: float | None) -> float | None:
        """Of bona fide at the prior; ``None`` without a calibration or a score."""
        if score is None or self.prior is None:
            return None
        return float(probability_bonafide(score, self.prior))

    def to_json(self) -> dict[str, Any]:
        """Plain numbers and words, with the rule by which window scores are joined."""
        return {
            "kind": self.kind,
            "bonafide_from": self.bonafide_from,
            "spoof_below": self.spoof_below,
            "prior": self.prior,
            "c_miss": self.c_miss,
            "c_fa": self.c_fa,
            "c_inconclusive": self.c_inconclusive,
            "joining": JOINING,
        }


def _llr(probability: float, prior: float) -> float:
    return log_odds(probability) - log_odds(prior)
