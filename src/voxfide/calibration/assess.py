"""How good a calibration is: Cllr before and after, and on trials that it was not fitted to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from voxfide.calibration.base import Calibration
from voxfide.errors import UsageError
from voxfide.metrics.cllr import cllr
from voxfide.metrics.min_cllr import min_cllr
from voxfide.metrics.trials import check_trials
from voxfide.types import BoolArray, Float64Array, IntArray

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

    Folds hold about equally many trials of each class; whole groups are dealt out, the
    largest first, where groups are given. Where there are fewer trials of a class, or groups,
    than folds, there are fewer folds.

    Arguments as for :func:`calibrate`.

    Raises:
        UsageError: fewer than 2 folds; groups of another length; a class that only one trial
            or one group holds, so that some fold leaves nothing to be fitted to.
    """
    values, labels = check_trials(scores, is_bonafide)
    if n_folds < 2:
        raise UsageError(f"{n_folds} folds; expected at least 2 (or 0 for no cross-validation)")
    units = _units(groups, len(values))
    fold = _deal(units, labels, n_folds, np.random.default_rng(seed))
    llr = np.empty_like(values)
    for number in range(int(fold.max()) + 1):
        held = fold == number
        if held.any():
            llr[held] = make().fit(values[~held], labels[~held]).apply(values[held])
    return CrossValidated(llr, cllr(llr, labels), len(np.unique(fold)), groups is not None, seed)


def _units(groups: ArrayLike | None, n_trials: int) -> IntArray:
    """``(trials,)`` numbers of what is dealt out as a whole; without groups, every trial by itself."""
    if groups is None:
        return np.arange(n_trials)
    names = np.asarray(groups)
    if names.shape != (n_trials,):
        raise UsageError(f"groups of shape {names.shape} for {n_trials:,} trials: expected ({n_trials},)")
    return np.unique(names.astype(str), return_inverse=True)[1].astype(np.int64)


def _deal(units: IntArray, labels: BoolArray, n_folds: int, generator: np.random.Generator) -> IntArray:
    """``(trials,)`` fold of each trial, so that every fold leaves trials of both classes."""
    n_units = int(units.max()) + 1
    counts = np.stack([np.bincount(units[part], minlength=n_units) for part in (labels, ~labels)], axis=1)
    n_folds = min(n_folds, *(int(np.count_nonzero(counts[:, c])) for c in (0, 1)))
    if n_folds < 2:
        raise UsageError(
            "a class has all of its trials in one group (or only one trial), so nothing of it can be left "
            "out: no cross-validation (folds 0)"
        )
    if counts.max() == 1 and counts.sum() == n_units:  # every trial by itself: deal each class in turn
        fold = np.empty(n_units, dtype=np.int64)
        start = 0
        for part in (labels, ~labels):
            members = generator.permutation(np.flatnonzero(part))
            fold[members] = (start + np.arange(len(members))) % n_folds
            start += len(members)
        return fold
    shares = counts / counts.sum(axis=0)
    order = generator.permutation(n_units)
    order = order[np.argsort(-shares[order].sum(axis=1), kind="stable")]
    filled = np.zeros((n_folds, 2))
    fold_of = np.empty(n_units, dtype=np.int64)
    for unit in order:
        # The fold that would be least full, in the fuller of its classes.
        after = (filled + shares[unit]) * (shares[unit] > 0)
        fold_of[unit] = int(np.argmin(after.max(axis=1) + 1e-9 * filled.sum(axis=1)))
        filled[fold_of[unit]] += shares[unit]
    return fold_of[units]
