"""How good a calibration is: Cllr before and after, and on trials that it was not fitted to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from voxfide.calibration.base import Calibration
from voxfide.calibration.folds import deal_folds
from voxfide.metrics.cllr import cllr
from voxfide.metrics.min_cllr import min_cllr
from voxfide.metrics.trials import check_trials
from voxfide.types import Float64Array

MakeCalibration = Callable[[], Calibration]


@dataclass(frozen=True)
class CrossValidated:
    """Likelihood ratios of trials, each by a calibration that was fitted to other trials.

    Attributes:
        llr: ``(trials,)``.
        cllr: of all of them, in bits.
        n_folds: parts that the trials were divided into.
        grouped: whether trials of one group, such as a speaker, stayed together.
        seed: of the division.
    """

    llr: Float64Array
    cllr: float
    n_folds: int
    grouped: bool
    seed: int


@dataclass(frozen=True)
class CalibrationFigures:
    """Cllr in bits on the calibration set; 0 is perfect, 1 is what scores of 0 give.

    Attributes:
        n_bonafide: trials.
        n_spoof: trials.
        cllr_before: of the scores, read as natural-log likelihood ratios.
        cllr_after: on the very trials of the fit, so it flatters.
        cllr_cross_validated: on trials left out of the fit; None where it could not be had.
        min_cllr: the least that any rising transform of the scores can reach on these trials.
        n_folds: of the cross-validation; 0 for none.
        grouped: whether groups, such as speakers, stayed together in it.
        seed: of the cross-validation.
    """

    n_bonafide: int
    n_spoof: int
    cllr_before: float
    cllr_after: float
    cllr_cross_validated: float | None
    min_cllr: float
    n_folds: int
    grouped: bool
    seed: int

    def to_json(self) -> dict[str, Any]:
        """Plain types."""
        return asdict(self)


def calibrate(
    make: MakeCalibration,
    scores: ArrayLike,
    is_bonafide: ArrayLike,
    *,
    n_folds: int = 5,
    groups: ArrayLike | None = None,
    seed: int = 0,
) -> tuple[Calibration, CalibrationFigures]:
    """Fits a calibration to all trials and says how good it is.

    Args:
        make: gives a calibration that is not fitted.
        scores: ``(trials,)``, higher means more bona fide.
        is_bonafide: ``(trials,)``, boolean.
        n_folds: of the cross-validation; 0 for none.
        groups: ``(trials,)`` names, such as speakers, that are not to be divided.
        seed: of the division.

    Raises:
        UsageError: see :func:`voxfide.metrics.trials.check_trials` and :func:`cross_validate`.
    """
    values, labels = check_trials(scores, is_bonafide)
    fitted = make().fit(values, labels)
    left_out = (
        cross_validate(make, values, labels, n_folds=n_folds, groups=groups, seed=seed) if n_folds else None
    )
    figures = CalibrationFigures(
        n_bonafide=int(labels.sum()),
        n_spoof=int((~labels).sum()),
        cllr_before=cllr(values, labels),
        cllr_after=cllr(fitted.apply(values), labels),
        cllr_cross_validated=left_out.cllr if left_out else None,
        min_cllr=min_cllr(values, labels),
        n_folds=left_out.n_folds if left_out else 0,
        grouped=groups is not None,
        seed=seed,
    )
    return fitted, figures


def cross_validate(
    make: MakeCalibration,
    scores: ArrayLike,
    is_bonafide: ArrayLike,
    *,
    n_folds: int = 5,
    groups: ArrayLike | None = None,
    seed: int = 0,
) -> CrossValidated:
    """Calibrates every fold of the trials by what was fitted to the others.

    Arguments as for :func:`calibrate`; for the folds, and what they cannot be, see
    :func:`~voxfide.calibration.folds.deal_folds`.

    Raises:
        UsageError: folds that cannot be dealt; scores or labels that cannot be used.
    """
    values, labels = check_trials(scores, is_bonafide)
    fold = deal_folds(labels, n_folds, groups=groups, seed=seed)
    llr = np.empty_like(values)
    for number in np.unique(fold):
        held = fold == number
        llr[held] = make().fit(values[~held], labels[~held]).apply(values[held])
    return CrossValidated(llr, cllr(llr, labels), len(np.unique(fold)), groups is not None, seed)
