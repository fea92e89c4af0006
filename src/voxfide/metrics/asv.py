"""What tandem metrics know of the speaker verification (ASV) system beside a countermeasure (CM).

Trials are of three classes: *target* (bona fide, the claimed speaker), *nontarget* (bona fide,
another speaker) and *spoof*. ASV scores are higher for the claimed speaker, CM scores for
bona fide speech.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from voxfide.errors import UsageError
from voxfide.metrics.det import official_curve
from voxfide.types import Float64Array

TARGET, NONTARGET, SPOOF = "target", "nontarget", "spoof"


@dataclass(frozen=True)
class AsvRates:
    """Error rates of an ASV system at a fixed threshold, each 0...1.

    Attributes:
        p_miss: share of target trials rejected.
        p_fa: share of nontarget trials accepted.
        p_fa_spoof: share of spoof trials accepted.

    Raises:
        UsageError: a rate outside 0...1.
    """

    p_miss: float
    p_fa: float
    p_fa_spoof: float

    def __post_init__(self) -> None:
        for name in ("p_miss", "p_fa", "p_fa_spoof"):
            if not 0 <= getattr(self, name) <= 1:
                raise UsageError(f"{name} is {getattr(self, name)}; expected a rate between 0 and 1")

    @property
    def p_miss_spoof(self) -> float:
        """Share of spoof trials rejected."""
        return 1 - self.p_fa_spoof


ASVSPOOF5_ASV = AsvRates(p_miss=0.01880141010575793, p_fa=0.01881016557566423, p_fa_spoof=0.4607082907604729)
"""The organisers' ASV system of ASVspoof 5, which the official t-DCF is computed with."""


@dataclass(frozen=True)
class ThreeClasses:
    """Scores of one system on the three classes of trials, ``(n,)`` each, all finite.

    Raises:
        UsageError: a class without trials, or scores that are not finite numbers.
    """

    target: Float64Array
    nontarget: Float64Array
    spoof: Float64Array

    def __post_init__(self) -> None:
        for name in (TARGET, NONTARGET, SPOOF):
            object.__setattr__(self, name, finite_scores(getattr(self, name), name))

    @classmethod
    def of(cls, scores: ArrayLike, kind: ArrayLike) -> ThreeClasses:
        """From ``scores (trials,)`` and ``kind (trials,)``: ``target``, ``nontarget`` or ``spoof``.

        Raises:
            UsageError: other kinds, lengths that differ, or as for the class.
        """
        values, kinds = np.asarray(scores), np.asarray(kind)
        if values.ndim != 1 or kinds.shape != values.shape:
            raise UsageError(f"scores of shape {values.shape} with kinds of shape {kinds.shape}")
        strange = set(kinds.tolist()) - {TARGET, NONTARGET, SPOOF}
        if strange:
            found = ", ".join(sorted(map(repr, strange))[:5])
            raise UsageError(f"kinds of ASV trials other than target, nontarget, spoof: {found}")
        return cls(*(values[kinds == name] for name in (TARGET, NONTARGET, SPOOF)))

    def rates_at_eer(self) -> AsvRates:
        """Error rates at the official EER threshold of target against nontarget trials.

        A trial is accepted if its score is at least that threshold. The official curve rejects
        the trial whose score the threshold is, so one trial more is accepted than at the EER;
        the evaluation packages of 2019, 2021 and 5 do the same.
        """
        curve = official_curve(np.sort(self.target), np.sort(self.nontarget))
        threshold = curve.thresholds[curve.nearest()]
        return AsvRates(
            p_miss=np.count_nonzero(self.target < threshold) / self.target.size,
            p_fa=np.count_nonzero(self.nontarget >= threshold) / self.nontarget.size,
            p_fa_spoof=np.count_nonzero(self.spoof >= threshold) / self.spoof.size,
        )


def finite_scores(scores: ArrayLike, name: str) -> Float64Array:
    """``scores`` as ``float64 (n,)``, or a :class:`UsageError` that names them."""
    try:
        values = np.asarray(scores, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise UsageError(f"{name} scores are not numbers: {error}") from error
    if values.ndim != 1 or not values.size:
        raise UsageError(f"{name} scores of shape {values.shape}; expected at least one, in shape (n,)")
    n_bad = values.size - int(np.isfinite(values).sum())
    if n_bad:
        raise UsageError(f"{n_bad:,} of {values.size:,} {name} scores are NaN or infinite")
    return values
