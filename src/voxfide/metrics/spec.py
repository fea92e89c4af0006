"""The registry of metrics: to add one is one file and one entry here.

``voxfide evaluate`` reports every entry, with intervals and per group, under its name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from voxfide.metrics.ranking import WeightedTrials
from voxfide.registry import Registry, load_object
from voxfide.types import Float64Array


@dataclass(frozen=True)
class MetricSpec:
    """One figure of a set of trials.

    Attributes:
        name: key in ``voxfide evaluate --json``; says the unit where there is one.
        summary: one line for people.
        unit: ``%``, ``bits`` or empty.
        direction: whether ``lower`` or ``higher`` is better.
        place: dotted place of ``(scores, is_bonafide) -> figure`` (anything ``float`` takes).
        resampled_place: dotted place of ``WeightedTrials -> (samples,)``, the same figure of
            many bootstrap samples; empty where there is none, and each sample is recomputed.
    """

    name: str
    summary: str
    unit: str
    direction: Literal["lower", "higher"]
    place: str
    resampled_place: str = ""

    def __call__(self, scores: ArrayLike, is_bonafide: ArrayLike) -> float:
        """The figure of ``scores (trials,)`` and ``is_bonafide (trials,)``."""
        return float(load_object(self.place)(scores, is_bonafide))

    def resampled(self, trials: WeightedTrials) -> Float64Array:
        """``(samples,)``: the figure of each bootstrap sample."""
        if self.resampled_place:
            return trials.once(load_object(self.resampled_place))
        bonafide, spoof = trials.bonafide, trials.spoof
        figures = np.empty(len(bonafide.weights))
        for i, (copies, spoof_copies) in enumerate(zip(bonafide.weights, spoof.weights, strict=True)):
            sample = np.repeat(bonafide.ranked.scores, copies), np.repeat(spoof.ranked.scores, spoof_copies)
            is_bonafide = np.arange(sum(map(len, sample))) < len(sample[0])
            figures[i] = self(np.concatenate(sample), is_bonafide)
        return figures


METRICS: Registry[MetricSpec] = Registry("metric")

_M = "voxfide.metrics"
for _spec in (
    MetricSpec(
        "eer_percent",
        "equal error rate, official ASVspoof form",
        "%",
        "lower",
        f"{_M}.eer:eer_percent",
        f"{_M}.eer:resampled_eer_percent",
    ),
    MetricSpec(
        "min_dcf",
        "minimum detection cost, ASVspoof 5 costs",
        "",
        "lower",
        f"{_M}.dcf:min_dcf",
        f"{_M}.dcf:resampled_min_dcf",
    ),
    MetricSpec(
        "act_dcf",
        "detection cost at the Bayes threshold, ASVspoof 5 costs",
        "",
        "lower",
        f"{_M}.dcf:act_dcf",
        f"{_M}.dcf:resampled_act_dcf",
    ),
    MetricSpec(
        "cllr",
        "cost of log likelihood ratios",
        "bits",
        "lower",
        f"{_M}.cllr:cllr",
        f"{_M}.cllr:resampled_cllr",
    ),
    MetricSpec("auc", "area under the ROC curve", "", "higher", f"{_M}.auc:auc", f"{_M}.auc:resampled_auc"),
    MetricSpec(
        "min_cllr",
        "Cllr after the best monotone calibration",
        "bits",
        "lower",
        f"{_M}.min_cllr:min_cllr",
        f"{_M}.min_cllr:resampled_min_cllr",
    ),
    MetricSpec(
        "calibration_loss",
        "Cllr minus minimum Cllr",
        "bits",
        "lower",
        f"{_M}.min_cllr:calibration_loss",
        f"{_M}.min_cllr:resampled_calibration_loss",
    ),
):
    METRICS.register(_spec)
