"""What the figures mean, in words that need no statistics."""

from __future__ import annotations

import math
from dataclasses import dataclass

from voxfide.metrics.spec import METRICS


@dataclass(frozen=True)
class Meaning:
    """A metric's name and unit, how its values are formatted, and how to read it."""

    name: str
    unit: str
    spec: str
    text: str

    @property
    def title(self) -> str:
        """The heading of a column or row: name and unit."""
        return f"{self.name} ({self.unit})" if self.unit else self.name


MEANINGS = {
    "eer_percent": Meaning(
        "EER",
        "%",
        ".2f",
        "Rate of errors at the threshold where bona fide are rejected as often as spoofs are accepted. "
        "0 is perfect, 50 is guessing.",
    ),
    "min_dcf": Meaning(
        "minDCF",
        "",
        ".4f",
        "Expected cost of errors at the best threshold for these trials (ASVspoof 5: 5 % spoofs; an accepted "
        "spoof costs ten times a rejected bona fide). 1 is no better than one answer for all.",
    ),
    "act_dcf": Meaning(
        "actDCF",
        "",
        ".4f",
        "The same cost at the threshold that holds if scores are log likelihood ratios. "
        "What it exceeds minDCF by is lost to calibration.",
    ),
    "cllr": Meaning(
        "Cllr",
        "bits",
        ".4f",
        "How far the scores can be believed as log likelihood ratios. 0 is perfect; 1 says nothing; "
        "above 1 they mislead until calibrated.",
    ),
    "min_cllr": Meaning(
        "min Cllr",
        "bits",
        ".4f",
        "What Cllr would be after the best calibration that keeps the order of the scores: "
        "how well they separate, whatever their scale.",
    ),
    "calibration_loss": Meaning(
        "Calibration loss",
        "bits",
        ".4f",
        "Cllr less min Cllr: what the scale of the scores costs. 0 means nothing is left to calibrate.",
    ),
    "auc": Meaning(
        "AUC",
        "",
        ".4f",
        "Chance that a bona fide recording scores higher than a spoof. 1 is perfect, 0.5 is guessing.",
    ),
}


def meaning_of(name: str) -> Meaning:
    """The entry of a metric; one that has none here is described by its registry."""
    if name in MEANINGS:
        return MEANINGS[name]
    if name in METRICS:
        spec = METRICS[name]
        return Meaning(name, spec.unit, ".4f", spec.summary)
    return Meaning(name, "", ".4f", "")


def plain_words(eer_percent: float, interval: tuple[float, float] | None = None) -> str:
    """What an equal error rate says about recordings, in a sentence or two."""
    if math.isnan(eer_percent):
        return "No equal error rate could be computed for these trials."
    if eer_percent == 0:
        return (
            "A threshold exists that separates these trials without an error. "
            "Other recordings, attacks and channels may still be misjudged."
        )
    text = (
        "Set so that both kinds of error are equally frequent, this system rejects about "
        f"{_in_many(eer_percent)} bona fide recordings and accepts about as large a share of the spoofs."
    )
    low, high = interval or (eer_percent, eer_percent)
    if low > 50:
        text += (
            " That is worse than guessing: the sign of the scores may be reversed "
            "(a higher score must mean more bona fide)."
        )
    elif high >= 50:
        text += " On these trials it cannot be told apart from guessing (50 %)."
    return text


def _in_many(percent: float) -> str:
    for base in (100, 1_000, 10_000):
        if percent / 100 * base >= 1.95:
            return f"{percent / 100 * base:.0f} in {base:,}"
    return "1 in 10,000 or fewer"
