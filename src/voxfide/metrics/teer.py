"""Tandem equal error rate (t-EER): one parameter-free figure of a CM and an ASV system together.

T. Kinnunen et al., "t-EER: parameter-free tandem evaluation of countermeasures and biometric
comparators", IEEE TPAMI 46, 2024. A trial passes if both systems accept it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from voxfide.errors import UsageError
from voxfide.metrics.adcf import three_class_curve
from voxfide.metrics.asv import ThreeClasses
from voxfide.metrics.det import DetCurve, official_curve
from voxfide.types import BoolArray, Float64Array, IntArray

ALPHA = 0.5
"""Share of spoofs among the impostors on the path that is searched. At the concurrent point
nontarget and spoof trials are accepted equally often, so it does not depend on this share."""


@dataclass(frozen=True)
class TeerPoint:
    """The concurrent t-EER and where it was read. ``float(point)`` is the figure in percent.

    Attributes:
        percent: tandem error rate, 0...100.
        asv_threshold: in ASV score units.
        cm_threshold: in CM score units.
    """

    percent: float
    asv_threshold: float
    cm_threshold: float

    def __float__(self) -> float:
        return self.percent


def concurrent_teer(asv: ThreeClasses, cm: ThreeClasses) -> TeerPoint:
    """The t-EER where misses, accepted nontarget trials and accepted spoofs are equally frequent.

    Every ASV threshold is paired with the CM threshold at which the tandem's misses and false
    acceptances (half nontarget, half spoof) differ least; of these pairs, where the ASV alone
    accepts more impostors than it rejects targets, the one is taken whose two kinds of false
    acceptance agree best (as ratios, as in the official package), the first of several. The
    figure is the share of spoofs that passes both systems there.

    On finite trials the two kinds of error only nearly agree, and the official package searches
    large sets coarsely; this is its full search, at ``O(m log n)`` for m ASV and n CM trials.

    Args:
        asv: ASV scores, higher for the claimed speaker.
        cm: CM scores, higher for bona fide speech. Need not be of the same trials.

    Raises:
        UsageError: no ASV threshold accepts more impostors than it rejects targets.
    """
    asv_thresholds, p_miss, p_fa, p_fa_spoof = three_class_curve(asv, 0.001)
    curve = official_curve(np.sort(np.concatenate((cm.target, cm.nontarget))), np.sort(cm.spoof))
    usable = p_miss < (1 - ALPHA) * p_fa + ALPHA * p_fa_spoof
    # Above all spoofs nothing is left to compare with; the official package divides by 0 there.
    usable &= p_fa_spoof > 0
    if not usable.any():
        raise UsageError("no t-EER exists: no ASV threshold accepts more impostors than it rejects targets")
    rows = np.flatnonzero(usable)
    points = _balanced_points(curve, p_miss[rows], p_fa[rows], p_fa_spoof[rows])
    passed = 1 - curve.frr[points]
    sound: BoolArray = passed > 0
    mismatch = np.full(len(rows), np.inf)
    mismatch[sound] = np.abs(
        p_fa[rows][sound] / p_fa_spoof[rows][sound] - curve.far[points][sound] / passed[sound]
    )
    best = int(np.argmin(mismatch))
    row, point = int(rows[best]), int(points[best])
    return TeerPoint(
        100 * float(p_fa_spoof[row] * curve.far[point]),
        float(asv_thresholds[row]),
        float(curve.thresholds[point]),
    )


def _balanced_points(
    curve: DetCurve, p_miss: Float64Array, p_fa: Float64Array, p_fa_spoof: Float64Array
) -> IntArray:
    """For each ASV threshold the CM point, ``(thresholds,)``, where the tandem's errors differ least.

    Misses less false acceptances never fall along the curve, so bisection finds where their
    difference changes sign; the point is that one or the one before, the first of several equal.
    """

    def gap(points: IntArray) -> Float64Array:
        frr = curve.frr[points]
        missed = frr + (1 - frr) * p_miss
        accepted = (1 - ALPHA) * (1 - frr) * p_fa + ALPHA * curve.far[points] * p_fa_spoof
        return missed - accepted

    def first(reached: Float64Array) -> IntArray:
        """The first point of each threshold whose gap is at least ``reached``."""
        low = np.zeros(len(p_miss), dtype=np.int64)
        high = np.full(len(p_miss), len(curve) - 1, dtype=np.int64)
        while (low < high).any():
            middle = (low + high) // 2
            enough = gap(middle) >= reached
            high = np.where(enough, middle, high)
            low = np.where(enough, low, middle + 1)
        return low

    after = first(np.zeros(len(p_miss)))
    before = np.maximum(after - 1, 0)
    gap_before = gap(before)
    return np.where(np.abs(gap_before) <= np.abs(gap(after)), first(gap_before), after)
