"""Detection error trade-off (DET) curves: false rejection against false acceptance.

A. Martin et al., "The DET curve in assessment of detection task performance",
Eurospeech 1997. The default form is that of the ASVspoof evaluation packages.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from voxfide.metrics.trials import split_classes
from voxfide.types import Float64Array


@dataclass(frozen=True)
class DetCurve:
    """Operating points in ascending order of threshold.

    Attributes:
        frr: ``(points,)``, share of bona fide trials rejected; rises from 0 to 1.
        far: ``(points,)``, share of spoof trials accepted; falls from 1 to 0.
        thresholds: ``(points,)``, in score units.
    """

    frr: Float64Array
    far: Float64Array
    thresholds: Float64Array

    def __len__(self) -> int:
        return len(self.frr)

    def nearest(self) -> int:
        """The first point at which false rejection and acceptance differ least."""
        return int(np.argmin(np.abs(self.frr - self.far)))


def det_curve(scores: ArrayLike, is_bonafide: ArrayLike) -> DetCurve:
    """The official ASVspoof form: one trial at a time, ``trials + 1`` points.

    Point i rejects the i lowest trials. **Ties are not merged**: among equal scores the
    bona fide trials are rejected first, so quantised scores are penalised. The threshold
    of point i is the score of the last rejected trial; that of point 0 lies 0.001 below
    the lowest score.

    Args:
        scores: ``(trials,)``, higher means more bona fide.
        is_bonafide: ``(trials,)``, boolean.

    Raises:
        UsageError: see :func:`voxfide.metrics.trials.check_trials`.
    """
    return official_curve(*split_classes(scores, is_bonafide))


def merged_det_curve(scores: ArrayLike, is_bonafide: ArrayLike) -> DetCurve:
    """One point per distinct score, which is what a threshold can really reach.

    A trial is accepted if its score is at least the threshold. The last point, just above
    the highest score, rejects everything. Arguments and errors as for :func:`det_curve`.
    """
    return merged_curve(*split_classes(scores, is_bonafide))


def official_curve(bonafide: Float64Array, spoof: Float64Array) -> DetCurve:
    """:func:`det_curve` of the two classes' scores, each ascending."""
    n = bonafide.size + spoof.size
    # Searching from the left puts bona fide trials before spoofs of the same score.
    places = np.arange(bonafide.size) + np.searchsorted(spoof, bonafide, side="left")
    is_bonafide = np.zeros(n, dtype=np.bool_)
    is_bonafide[places] = True
    thresholds = np.empty(n + 1)
    ranked = thresholds[1:]
    ranked[is_bonafide] = bonafide
    ranked[~is_bonafide] = spoof
    thresholds[0] = ranked[0] - 0.001

    rejected_bonafide = np.zeros(n + 1, dtype=np.int64)
    np.cumsum(is_bonafide, out=rejected_bonafide[1:])
    rejected_spoof = np.arange(n + 1) - rejected_bonafide
    return DetCurve(rejected_bonafide / bonafide.size, (spoof.size - rejected_spoof) / spoof.size, thresholds)


def merged_curve(bonafide: Float64Array, spoof: Float64Array) -> DetCurve:
    """:func:`merged_det_curve` of the two classes' scores, each ascending."""
    distinct = np.unique(np.concatenate((bonafide, spoof)))
    thresholds = np.append(distinct, np.nextafter(distinct[-1], np.inf))
    rejected_bonafide = np.searchsorted(bonafide, thresholds, side="left")
    rejected_spoof = np.searchsorted(spoof, thresholds, side="left")
    return DetCurve(rejected_bonafide / bonafide.size, (spoof.size - rejected_spoof) / spoof.size, thresholds)
