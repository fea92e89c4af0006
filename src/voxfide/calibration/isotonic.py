"""Isotonic calibration by pool adjacent violators (PAV).

B. Zadrozny, C. Elkan, "Transforming classifier scores into accurate multiclass
probability estimates", KDD 2002; N. Brümmer, J. du Preez 2006 for likelihood ratios.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike

from voxfide.calibration.base import Calibration, check_numbers, not_fitted
from voxfide.errors import CheckpointError
from voxfide.metrics.trials import check_trials
from voxfide.types import Float64Array


@dataclass(eq=False)
class IsotonicCalibration(Calibration):
    """The rising step function of least Cllr.

    - **Ends.** One more trial of each class is counted at the lowest and at the highest score
      (Laplace's rule of succession), so that every LLR is finite: the best score of n
      bona fide trials cannot say more than about ``log(n)``.
    - **Ties.** Equal scores are one step: they get one LLR.
    - **Between** two steps the LLR is interpolated; beyond the ends it stays what it is there.

    Scores within a step come out equal, so it can change the official EER, which counts ties
    against the system. It asks for more data than an affine calibration: hundreds of trials
    of each class at least.
    """

    name: ClassVar[str] = "isotonic"

    scores: Float64Array | None = field(default=None, init=False, repr=False)
    llrs: Float64Array | None = field(default=None, init=False, repr=False)

    def fit(self, scores: ArrayLike, is_bonafide: ArrayLike) -> Self:
        from scipy.optimize import isotonic_regression

        values, labels = check_trials(scores, is_bonafide)
        distinct, place = np.unique(values, return_inverse=True)
        bonafide = np.bincount(place[labels], minlength=distinct.size).astype(np.float64)
        spoof = np.bincount(place[~labels], minlength=distinct.size).astype(np.float64)
        for counts, total in ((bonafide, labels.sum()), (spoof, (~labels).sum())):
            counts[0] += 1
            counts[-1] += 1
            counts /= total
        blocks = isotonic_regression(bonafide / (bonafide + spoof), weights=bonafide + spoof).blocks
        first, last = blocks[:-1], blocks[1:] - 1
        llr = np.log(np.add.reduceat(bonafide, first) / np.add.reduceat(spoof, first))
        ends = np.column_stack([distinct[first], distinct[last]]).ravel()
        keep = np.column_stack([np.ones(len(first), dtype=bool), last > first]).ravel()
        self.scores, self.llrs = ends[keep], np.maximum.accumulate(np.repeat(llr, 2)[keep])
        self.warnings = ()
        if self.is_flat:
            self.warnings = (
                "no score tells the classes apart: the calibration gives the same to every score "
                "(are the scores the wrong way round? higher must mean more bona fide)",
            )
        return self

    def apply(self, scores: ArrayLike) -> Float64Array:
        if self.scores is None or self.llrs is None:
            raise not_fitted(self.name)
        return np.interp(check_numbers(scores), self.scores, self.llrs)

    def config(self) -> dict[str, Any]:
        if self.scores is None or self.llrs is None:
            raise not_fitted(self.name)
        return {"scores": self.scores.tolist(), "llrs": self.llrs.tolist()}

    @classmethod
    def restore(cls, config: dict[str, Any]) -> Self:
        made = cls()
        try:
            made.scores = np.array(config["scores"], dtype=np.float64)
            made.llrs = np.array(config["llrs"], dtype=np.float64)
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"calibration {cls.name}: malformed steps ({error!r})") from error
        sound = made.scores.ndim == 1 and made.scores.shape == made.llrs.shape and made.scores.size > 0
        if not (
            sound
            and np.isfinite(made.scores).all()
            and np.isfinite(made.llrs).all()
            and (np.diff(made.scores) > 0).all()
            and (np.diff(made.llrs) >= 0).all()
        ):
            raise CheckpointError(
                f"calibration {cls.name}: expected rising finite scores with as many LLRs that do not fall"
            )
        return made

    def describe(self) -> str:
        if self.scores is None or self.llrs is None:
            raise not_fitted(self.name)
        steps = len(np.unique(self.llrs))
        return f"{steps} step(s), llr from {self.llrs[0]:.4g} to {self.llrs[-1]:.4g}"

    @property
    def is_flat(self) -> bool:
        return self.llrs is not None and bool(self.llrs[0] == self.llrs[-1])
