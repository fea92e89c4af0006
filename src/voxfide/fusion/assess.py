"""How good a fusion is: before and after, on its own trials and on trials left out of the fit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike

from voxfide.calibration.folds import deal_folds
from voxfide.fusion.fit import fit_fusion
from voxfide.fusion.linear import METHODS, FusionOptions
from voxfide.fusion.trials import JointTrials
from voxfide.metrics import METRICS
from voxfide.metrics.eer import eer
from voxfide.types import Float64Array

FIGURES: Final = ("eer_percent", "min_dcf", "act_dcf", "cllr", "min_cllr")
"""Metrics, by their registered names, that say how good scores are."""

Figures = dict[str, float]
"""Metric names of :data:`FIGURES` to their values."""


@dataclass(frozen=True)
class FusionFigures:
    """Figures on the trials that a fusion was learnt on.

    Attributes:
        n_bonafide: trials.
        n_spoof: trials.
        systems: of each system's scores as they are.
        fitted: of the fused scores, on the very trials of the fit, so they flatter.
        eer_threshold: the fused score at which the error rates meet.
        cross_validated: by method (the chosen one and, to compare, the others), each fold fused
            by what was learnt on the other folds; empty without cross-validation.
        n_folds: of the cross-validation; 0 for none.
        grouped: whether groups, such as speakers, stayed together in it.
        seed: of the cross-validation.
    """

    n_bonafide: int
    n_spoof: int
    systems: Mapping[str, Figures]
    fitted: Figures
    eer_threshold: float
    cross_validated: Mapping[str, Figures]
    n_folds: int
    grouped: bool
    seed: int

    def to_json(self) -> dict[str, Any]:
        """Plain types."""
        return asdict(self)


def figures_of(scores: Float64Array, is_bonafide: ArrayLike) -> Figures:
    """Every metric of :data:`FIGURES` of ``scores (trials,)``."""
    return {name: METRICS[name](scores, is_bonafide) for name in FIGURES}


def cross_validate(
    trials: JointTrials,
    options: FusionOptions,
    *,
    n_folds: int = 5,
    groups: ArrayLike | None = None,
    seed: int = 0,
) -> tuple[Float64Array, int]:
    """Likelihood ratios ``(trials,)``, each by a fusion learnt on the other folds; and how many folds.

    Args:
        trials: with labels.
        options: how a fusion is learnt; method ``best`` chooses anew for every fold.
        n_folds: see :func:`voxfide.calibration.folds.deal_folds`.
        groups: ``(trials,)`` names, such as speakers, that are not to be divided.
        seed: of the division.

    Raises:
        UsageError: folds that cannot be dealt.
    """
    fold = deal_folds(trials.is_bonafide, n_folds, groups=groups, seed=seed)
    llr = np.empty(len(trials))
    for number in np.unique(fold):
        held = fold == number
        rest = JointTrials(trials.systems, trials.scores[~held], trials.is_bonafide[~held])
        llr[held] = fit_fusion(rest, options).fusion.apply(trials.scores[held])
    return llr, len(np.unique(fold))


def assess_fusion(
    trials: JointTrials,
    options: FusionOptions,
    fused: Float64Array,
    *,
    n_folds: int = 5,
    groups: ArrayLike | None = None,
    seed: int = 0,
) -> FusionFigures:
    """Figures of the systems, of their fusion, and of the other methods beside it.

    Args:
        trials: that the fusion was learnt on.
        options: how.
        fused: ``(trials,)`` likelihood ratios.
        n_folds: of the cross-validation; 0 for none.
        groups: ``(trials,)`` names, such as speakers, that are not to be divided.
        seed: of the division.

    Raises:
        UsageError: folds that cannot be dealt.
    """
    labels = trials.is_bonafide
    found: dict[str, Figures] = {}
    folds = 0
    if n_folds:
        for method in (options.method, *(m for m in METHODS if m != options.method)):
            of_method = replace(options, method=method)
            llr, folds = cross_validate(trials, of_method, n_folds=n_folds, groups=groups, seed=seed)
            found[method] = figures_of(llr, labels)
    return FusionFigures(
        n_bonafide=int(labels.sum()),
        n_spoof=int((~labels).sum()),
        systems={
            name: figures_of(column, labels)
            for name, column in zip(trials.systems, trials.scores.T, strict=True)
        },
        fitted=figures_of(fused, labels),
        eer_threshold=eer(fused, labels).threshold,
        cross_validated=found,
        n_folds=folds,
        grouped=groups is not None,
        seed=seed,
    )
