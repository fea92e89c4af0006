"""Cost of log likelihood ratios (Cllr), in bits: discrimination and calibration in one.

N. Brümmer, J. du Preez, "Application-independent evaluation of speaker detection",
Computer Speech & Language 20, 2006. 0 is perfect, 1 is what constant zero scores give.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from voxfide.metrics.ranking import WeightedTrials
from voxfide.metrics.trials import split_classes
from voxfide.types import Float64Array


def cllr(scores: ArrayLike, is_bonafide: ArrayLike) -> float:
    """Cllr in bits of scores read as natural-log likelihood ratios.

    ``1/2 [mean over bona fide of log2(1 + exp(-s)) + mean over spoof of log2(1 + exp(s))]``,
    without overflow for any finite score. Ties do not matter.

    Args:
        scores: ``(trials,)``, higher means more bona fide.
        is_bonafide: ``(trials,)``, boolean.

    Raises:
        UsageError: see :func:`voxfide.metrics.trials.check_trials`.
    """
    bonafide, spoof = split_classes(
        scores, is_bonafide
    )  # sorted, so that the order of trials changes no digit
    return float(_bits_if_bonafide(bonafide).mean() + _bits_if_spoof(spoof).mean()) / 2


def _bits_if_spoof(llr: Float64Array) -> Float64Array:
    """``log2(1 + exp(llr))``: what the score costs if the trial is a spoof."""
    return np.logaddexp(0, llr) / np.log(2)


def _bits_if_bonafide(llr: Float64Array) -> Float64Array:
    return _bits_if_spoof(-llr)


def resampled_cllr(trials: WeightedTrials) -> Float64Array:
    """``(samples,)``: :func:`cllr` of each sample."""
    return (trials.bonafide.mean(_bits_if_bonafide) + trials.spoof.mean(_bits_if_spoof)) / 2
