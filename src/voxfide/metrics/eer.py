"""Equal error rate (EER): the operating point where false rejection equals acceptance.

The four published definitions agree on many distinct scores and differ in how they treat
ties and gaps; see :func:`eer`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike

from voxfide.errors import UsageError
from voxfide.metrics.det import DetCurve, merged_curve, official_curve
from voxfide.metrics.ranking import WeightedTrials
from voxfide.metrics.trials import OperatingPoint, split_classes
from voxfide.types import Float64Array

EerMethod = Literal["asvspoof", "interpolated", "rocch", "sklearn"]


def eer(scores: ArrayLike, is_bonafide: ArrayLike, method: EerMethod = "asvspoof") -> OperatingPoint:
    """The EER as a fraction, with the threshold, FRR and FAR at which it was read.

    Methods:

    - ``asvspoof``: the official evaluation packages (2019, 2021, 5). Mean of FRR and FAR at
      the point of :func:`~voxfide.metrics.det.det_curve` where they differ least, the first
      of several. No interpolation. Ties count against the system: equal scores are taken one
      by one, bona fide rejected first, so constant scores give 100 %. Trials above the
      threshold are accepted; of those equal to it, some.
    - ``sklearn``: the layer-wise study (scikit-learn's ``det_curve``). The same mean on the
      curve with ties merged into one point. Scores at or above the threshold are accepted.
    - ``interpolated``: where the straight line between neighbouring points of the merged
      curve meets FRR = FAR, so ties count half. The threshold is the nearer point's.
    - ``rocch``: the same on the lower convex hull of the curve, as after calibration by pool
      adjacent violators (N. Brümmer, E. de Villiers, "The BOSARIS Toolkit", 2011). Ties
      within a hull edge count half. Never above the interpolated figure, never above 50 %.

    Args:
        scores: ``(trials,)``, higher means more bona fide.
        is_bonafide: ``(trials,)``, boolean.
        method: one of the above.

    Raises:
        UsageError: an unknown method; or see :func:`voxfide.metrics.trials.check_trials`.
    """
    if method not in _METHODS:
        raise UsageError(f"unknown EER method {method!r} (known: {', '.join(get_args(EerMethod))})")
    return _METHODS[method](*split_classes(scores, is_bonafide))


def eer_percent(scores: ArrayLike, is_bonafide: ArrayLike) -> float:
    """The official EER in percent."""
    return 100 * eer(scores, is_bonafide).value


def _official(bonafide: Float64Array, spoof: Float64Array) -> OperatingPoint:
    return _nearest(official_curve(bonafide, spoof))


def _merged(bonafide: Float64Array, spoof: Float64Array) -> OperatingPoint:
    return _nearest(merged_curve(bonafide, spoof))


def _interpolated(bonafide: Float64Array, spoof: Float64Array) -> OperatingPoint:
    curve = merged_curve(bonafide, spoof)
    before = int(np.count_nonzero(curve.frr <= curve.far)) - 1
    return _on_edge(curve, before, before + 1)


def _convex_hull(bonafide: Float64Array, spoof: Float64Array) -> OperatingPoint:
    """Finds the hull edge that crosses FRR = FAR without building the hull.

    The point furthest below the chord between two points on either side of the diagonal is
    a hull vertex; it replaces the end on its own side until the chord is itself an edge.
    Counts are whole numbers, so the comparison is exact.
    """
    curve = merged_curve(bonafide, spoof)
    miss = np.rint(curve.frr * bonafide.size).astype(np.int64)
    accept = np.rint(curve.far * spoof.size).astype(np.int64)
    low, high = 0, len(curve) - 1
    while True:
        depth = (accept[low] - accept[high]) * (miss - miss[low]) + (miss[high] - miss[low]) * (
            accept - accept[low]
        )
        lowest = int(np.argmin(depth))
        if depth[lowest] >= 0:
            return _on_edge(curve, low, high)
        if curve.frr[lowest] <= curve.far[lowest]:
            low = lowest
        else:
            high = lowest


_METHODS: dict[str, Callable[[Float64Array, Float64Array], OperatingPoint]] = {
    "asvspoof": _official,
    "sklearn": _merged,
    "interpolated": _interpolated,
    "rocch": _convex_hull,
}


def _nearest(curve: DetCurve) -> OperatingPoint:
    i = curve.nearest()
    frr, far = float(curve.frr[i]), float(curve.far[i])
    return OperatingPoint((frr + far) / 2, float(curve.thresholds[i]), frr, far)


def _on_edge(curve: DetCurve, low: int, high: int) -> OperatingPoint:
    """Where the line from point ``low`` (FRR <= FAR) to ``high`` (FRR > FAR) meets FRR = FAR."""
    gap_low = float(curve.far[low] - curve.frr[low])
    gap_high = float(curve.frr[high] - curve.far[high])
    share = gap_low / (gap_low + gap_high)
    value = float(curve.frr[low] + share * (curve.frr[high] - curve.frr[low]))
    nearer = low if gap_low <= gap_high else high
    return OperatingPoint(value, float(curve.thresholds[nearer]), value, value)


def resampled_eer_percent(trials: WeightedTrials) -> Float64Array:
    """``(samples,)``: :func:`eer_percent` of each sample, equal to recomputing it.

    FRR - FAR rises along the curve, so the point sought is one of the two around its zero.
    Between two corners the curve first rejects bona fide trials, then spoofs, one by one;
    which of them is the last at or before the zero follows by division.
    """
    n_bonafide, n_spoof = trials.bonafide.total, trials.spoof.total
    corner = np.count_nonzero(trials.frr <= trials.far, axis=1) - 1
    rows = np.arange(len(corner))
    spoofs_before = trials.rejected_spoof[rows, corner]
    bonafide_after = trials.rejected_bonafide[rows, corner + 1]

    last_bonafide = (n_spoof - spoofs_before) * n_bonafide // n_spoof
    among_bonafide = last_bonafide < bonafide_after
    last_spoof = n_spoof - -(-bonafide_after * n_spoof // n_bonafide)

    bonafide = np.where(among_bonafide, last_bonafide, bonafide_after)
    spoof = np.where(among_bonafide, spoofs_before, last_spoof)
    frr, far = bonafide / n_bonafide, (n_spoof - spoof) / n_spoof
    frr_next = (bonafide + among_bonafide) / n_bonafide
    far_next = (n_spoof - spoof - ~among_bonafide) / n_spoof
    before_is_nearer = np.abs(frr - far) <= np.abs(frr_next - far_next)
    return 100 * np.where(before_is_nearer, (frr + far) / 2, (frr_next + far_next) / 2)
