"""Affine calibration: a scale and an offset by prior-weighted logistic regression.

N. Brümmer, J. du Preez, "Application-independent evaluation of speaker detection",
Computer Speech & Language 20, 2006. Scale alone is temperature scaling: C. Guo et al.,
"On calibration of modern neural networks", ICML 2017.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike

from voxfide.calibration.base import Calibration, check_numbers, check_prior, need_number, not_fitted
from voxfide.errors import CheckpointError, UsageError
from voxfide.metrics.trials import check_trials
from voxfide.types import BoolArray, Float64Array

MAX_STEPS = 200


@dataclass(eq=False)
class AffineCalibration(Calibration):
    """``llr = slope * score + offset`` with ``slope >= 0``.

    Minimises ``prior`` times the mean of ``log(1 + exp(-(llr + logit(prior))))`` over bona
    fide trials plus ``1 - prior`` times the mean of ``log(1 + exp(llr + logit(prior)))``
    over spoofs: at prior 0.5, Cllr. Classes are averaged separately, so their proportions in
    the data do not matter. Where bona fide trials do not score higher on average, the
    best slope is 0 and every LLR is 0: the scores say nothing, and a warning says so.

    Args:
        prior: of bona fide, around which the fit is best.
        regularisation: weight of ``(slope * spread of the scores)**2 / 2`` beside the loss;
            0 for none. Scores that separate the classes without an error have no finite best
            slope: 1 / trials is then used instead of 0, with a warning.
    """

    name: ClassVar[str] = "affine"
    has_offset: ClassVar[bool] = True

    prior: float = 0.5
    regularisation: float = 0.0
    slope: float | None = field(default=None, init=False)
    offset: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        self.prior = check_prior(self.prior, f"{self.name}: prior")
        try:
            self.regularisation = float(self.regularisation)
        except (TypeError, ValueError):
            self.regularisation = math.nan
        if not 0 <= self.regularisation < math.inf:
            raise UsageError(f"{self.name}: regularisation must be a number of at least 0")

    def fit(self, scores: ArrayLike, is_bonafide: ArrayLike) -> Self:
        values, labels = check_trials(scores, is_bonafide)
        self.warnings = ()
        centre, spread = self._scale(values, labels)
        scaled = (values - centre) / spread
        # At slope 0 and offset 0 the loss falls towards a positive slope exactly if this holds.
        if not scaled[labels].mean() > scaled[~labels].mean():
            self._warn(
                "bona fide trials do not score higher than spoofs on average: the calibration gives 0 "
                "to every score (are the scores the wrong way round? higher must mean more bona fide)"
            )
            self.slope, self.offset = 0.0, 0.0
            return self
        penalty = self.regularisation
        if penalty == 0 and self._is_separable(scaled, labels):
            penalty = 1 / values.size
            self._warn(
                "the scores separate the classes without an error: no finite calibration fits best, so the "
                f"slope is held back by a regularisation of 1/{values.size}, and the LLRs rest on that"
            )
        slope, offset = _minimise(scaled, labels, self.prior, penalty, self.has_offset)
        self.slope = max(slope, 0.0) / spread
        self.offset = offset - self.slope * centre if self.has_offset else 0.0
        return self

    def _scale(self, values: Float64Array, labels: BoolArray) -> tuple[float, float]:
        """Centre and spread, both classes weighing the same: the fit must not depend on their sizes."""
        groups = (values[labels], values[~labels])
        centre = float(sum(g.mean() for g in groups)) / 2 if self.has_offset else 0.0
        with np.errstate(over="ignore"):
            spread = math.sqrt(sum(float(np.mean((g - centre) ** 2)) for g in groups) / 2)
        if not math.isfinite(spread):
            raise UsageError("the scores are too large to be squared (expected magnitudes below 1e150)")
        return centre, spread if np.ptp(values) > 0 and spread > 0 else 1.0

    def _is_separable(self, scaled: Float64Array, labels: BoolArray) -> bool:
        lowest, highest = scaled[labels].min(), scaled[~labels].max()
        return bool(lowest >= highest if self.has_offset else lowest >= 0 >= highest)

    def _warn(self, text: str) -> None:
        self.warnings = (*self.warnings, text)

    def apply(self, scores: ArrayLike) -> Float64Array:
        if self.slope is None:
            raise not_fitted(self.name)
        return self.slope * check_numbers(scores) + self.offset

    def config(self) -> dict[str, Any]:
        if self.slope is None:
            raise not_fitted(self.name)
        fitted = {"slope": self.slope} | ({"offset": self.offset} if self.has_offset else {})
        return {"prior": self.prior, "regularisation": self.regularisation, **fitted}

    @classmethod
    def restore(cls, config: dict[str, Any]) -> Self:
        try:
            made = cls(
                need_number(config, "prior", cls.name), need_number(config, "regularisation", cls.name)
            )
        except UsageError as error:
            raise CheckpointError(str(error)) from error
        made.slope = need_number(config, "slope", cls.name)
        if made.slope < 0:
            raise CheckpointError(f"calibration {cls.name}: slope is {made.slope} (expected at least 0)")
        made.offset = need_number(config, "offset", cls.name) if cls.has_offset else 0.0
        return made

    def describe(self) -> str:
        if self.slope is None:
            raise not_fitted(self.name)
        offset = f" {'-' if self.offset < 0 else '+'} {abs(self.offset):.4g}" if self.has_offset else ""
        return f"llr = {self.slope:.4g} * score{offset}"

    @property
    def is_flat(self) -> bool:
        return self.slope == 0


@dataclass(eq=False)
class TemperatureCalibration(AffineCalibration):
    """``llr = score / temperature``: for scores that are right but for their scale."""

    name: ClassVar[str] = "temperature"
    has_offset: ClassVar[bool] = False


def _minimise(
    scaled: Float64Array, labels: BoolArray, prior: float, penalty: float, has_offset: bool
) -> tuple[float, float]:
    """Slope and offset of the least loss, by Newton's method; the loss is convex."""
    weights = np.where(labels, prior / labels.sum(), (1 - prior) / (~labels).sum())
    sign = np.where(labels, 1.0, -1.0)
    design = np.column_stack([scaled, np.ones_like(scaled)] if has_offset else [scaled])
    shift = math.log(prior) - math.log1p(-prior)
    ridge = np.zeros(design.shape[1])
    ridge[0] = penalty

    def loss(theta: Float64Array) -> float:
        margins = sign * (design @ theta + shift)
        return float(weights @ np.logaddexp(0, -margins) + ridge @ theta**2 / 2)

    theta = np.zeros(design.shape[1])
    value = loss(theta)
    for _ in range(MAX_STEPS):
        margins = sign * (design @ theta + shift)
        wrong = np.exp(-np.logaddexp(0, margins))
        gradient = -(design.T @ (weights * sign * wrong)) + ridge * theta
        curvature = (design.T * (weights * wrong * (1 - wrong))) @ design + np.diag(ridge)
        step = -np.linalg.lstsq(curvature, gradient, rcond=None)[0]
        gain = -float(gradient @ step)
        length = 1.0
        # Far from the minimum a full step may be too long; close to it, rounding would mislead the search.
        while gain > 1e-10 and length > 1e-10 and loss(theta + length * step) > value - 1e-4 * length * gain:
            length /= 2
        theta = theta + length * step
        value = loss(theta)
        if np.abs(step).max() <= 1e-13 * (1 + np.abs(theta).max()):
            break
    return float(theta[0]), float(theta[1]) if has_offset else 0.0
