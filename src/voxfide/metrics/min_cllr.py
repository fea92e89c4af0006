"""Minimum Cllr and calibration loss: Cllr split into what no recalibration can mend and the rest.

N. Brümmer, J. du Preez, "Application-independent evaluation of speaker detection",
Computer Speech & Language 20, 2006: the scores are replaced by the log likelihood ratios
that a non-decreasing function fitted to these very trials by pool adjacent violators (PAV)
would give them. No monotone recalibration has a lower Cllr on these trials.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from voxfide.metrics.cllr import cllr, resampled_cllr
from voxfide.metrics.ranking import WeightedTrials, staircase_corners
from voxfide.metrics.trials import split_classes
from voxfide.types import Float64Array, IntArray


def min_cllr(scores: ArrayLike, is_bonafide: ArrayLike) -> float:
    """The lowest Cllr, in bits, that a non-decreasing map of the scores reaches: 0...1.

    A pool of PAV that holds the shares x of the bona fide and y of the spoof trials costs
    ``1/2 [x log2(1 + y/x) + y log2(1 + x/y)]``; the pools are the edges of the ROC convex
    hull. Equal scores get equal log likelihood ratios. Strictly increasing maps of the scores
    and repeating every trial change nothing.

    Args:
        scores: ``(trials,)``, higher means more bona fide.
        is_bonafide: ``(trials,)``, boolean.

    Raises:
        UsageError: see :func:`voxfide.metrics.trials.check_trials`.
    """
    bonafide, spoof = split_classes(scores, is_bonafide)
    spoofs_below = np.searchsorted(spoof, bonafide, side="left")
    return _pooled_bits(*staircase_corners(spoofs_below, spoof.size))


def calibration_loss(scores: ArrayLike, is_bonafide: ArrayLike) -> float:
    """Cllr minus minimum Cllr, in bits, at least 0: what wrong calibration costs.

    Arguments and errors as for :func:`min_cllr`.
    """
    return max(0.0, cllr(scores, is_bonafide) - min_cllr(scores, is_bonafide))


def resampled_min_cllr(trials: WeightedTrials) -> Float64Array:
    """``(samples,)``: :func:`min_cllr` of each sample, exactly.

    PAV runs on the corners of the error staircase, between which trials are pooled anyway. A
    good detector has far fewer corners than trials, so no binning is needed to be fast.
    """
    rows = zip(trials.rejected_bonafide, trials.rejected_spoof, strict=True)
    return np.array([_pooled_bits(bonafide, spoof) for bonafide, spoof in rows])


def resampled_calibration_loss(trials: WeightedTrials) -> Float64Array:
    """``(samples,)``: :func:`calibration_loss` of each sample."""
    return np.maximum(0.0, trials.once(resampled_cllr) - trials.once(resampled_min_cllr))


def _pooled_bits(rejected_bonafide: IntArray, rejected_spoof: IntArray) -> float:
    """Minimum Cllr from the trials below each corner, ``(corners,)`` each; the last are all."""
    from scipy.optimize import isotonic_regression

    bonafide = np.diff(rejected_bonafide)
    both = bonafide + np.diff(rejected_spoof)
    drawn = np.flatnonzero(both)
    weights = both[drawn]
    pools = isotonic_regression(bonafide[drawn] / weights, weights=weights).blocks[:-1]
    edges = np.append(drawn[pools], len(both))
    x = np.diff(rejected_bonafide[edges]) / rejected_bonafide[-1]
    y = np.diff(rejected_spoof[edges]) / rejected_spoof[-1]
    return float((_bits(x, x + y) + _bits(y, x + y)).sum() / 2)


def _bits(part: Float64Array, whole: Float64Array) -> Float64Array:
    """``part log2(whole / part)``, 0 where ``part`` is."""
    return part * np.log2(whole / np.where(part > 0, part, whole))
