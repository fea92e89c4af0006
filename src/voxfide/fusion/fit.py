"""Learning a fusion: penalised logistic regression on standardised inputs, by Newton's method."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from voxfide.calibration.decision import log_odds
from voxfide.fusion.linear import FusionOptions, LinearFusion, input_values
from voxfide.fusion.trials import JointTrials
from voxfide.metrics.eer import eer
from voxfide.types import Float64Array, IntArray

MAX_STEPS = 200


@dataclass(frozen=True, eq=False)
class FittedFusion:
    """A fusion and what it took to learn it.

    Attributes:
        fusion: ready for use.
        spread: ``(systems,)`` standard deviation of each input; a weight times it says how much
            a system moves the fused score.
        covariance: ``(systems + 1, systems + 1)`` of weights and intercept, robust to a model
            that does not hold ("sandwich": H. White, "Maximum likelihood estimation of
            misspecified models", Econometrica 50, 1982). Takes standardisation, penalty and
            the choice of a best system as given.
        warnings: what a user of it has to know.
    """

    fusion: LinearFusion
    spread: Float64Array
    covariance: Float64Array
    warnings: tuple[str, ...] = ()


def fit_fusion(trials: JointTrials, options: FusionOptions, groups: IntArray | None = None) -> FittedFusion:
    """Learns weights and intercept.

    Minimises the weighted mean of ``log(1 + exp(-(llr + logit(prior))))`` over bona fide trials
    and ``log(1 + exp(llr + logit(prior)))`` over spoofs, plus the penalty. Inputs are
    standardised by mean and standard deviation under the same weights of trials, so the penalty
    means the same whatever the scale of a system's scores.

    Args:
        trials: with labels.
        options: how.
        groups: ``(trials,)`` cluster numbers from 0, whose trials are not independent: for
            the covariance.
    """
    problem = Problem(trials, options)
    theta = problem.solve()
    fusion = problem.fusion(theta)
    covariance = problem.covariance(theta, groups)
    return FittedFusion(fusion, problem.spread, covariance, tuple(_warnings(trials, fusion, problem.x)))


def best_system(trials: JointTrials) -> int:
    """Number of the system with the lowest EER, the first of several."""
    return int(np.argmin([eer(column, trials.is_bonafide).value for column in trials.scores.T]))


class Problem:
    """One fit, which a bootstrap repeats with other weights of the trials.

    Its unknowns ``theta (directions + 1,)`` are slopes along the directions in which the
    weights of standardised inputs may lie, then an offset.

    Args:
        trials: with labels.
        options: how.
    """

    def __init__(self, trials: JointTrials, options: FusionOptions) -> None:
        self.x = input_values(trials.scores, options.inputs, options.input_prior)
        self.options = options
        self._labels = trials.is_bonafide
        self._sign = np.where(trials.is_bonafide, 1.0, -1.0)
        weight, _, _ = self._weighing(None)
        self._centre = weight @ self.x
        centred = self.x - self._centre
        spread = np.sqrt(weight @ centred**2)
        # Constant but for rounding: dividing by that would blow up noise.
        constant = spread <= 1e-12 * np.abs(self.x).max(axis=0)
        self.spread = np.where(constant, 1.0, spread)
        """``(systems,)`` standard deviation of each input; 1 where it is constant."""
        n_systems = self.x.shape[1]
        if options.method == "best":
            directions = np.eye(n_systems)[:, [best_system(trials)]]
        elif options.method == "mean":
            # The mean of several standardised inputs varies less than each: standardised again.
            mean = (centred / self.spread).mean(axis=1)
            varies = math.sqrt(weight @ mean**2)
            directions = np.full((n_systems, 1), 1 / (n_systems * varies) if varies > 1e-12 else 0.0)
        else:
            directions = np.eye(n_systems)
        self._to_weights = directions / self.spread[:, None]
        self._design = np.column_stack([centred @ self._to_weights, np.ones(len(self.x))])

    def solve(
        self, copies: IntArray | None = None, start: Float64Array | None = None, tolerance: float = 1e-8
    ) -> Float64Array:
        """The ``theta`` of least loss.

        Args:
            copies: ``(trials,)`` how often each trial counts; once where left out.
            start: ``theta`` of a similar problem.
            tolerance: size of the last step, relative to ``theta``; what is left is about its square.
        """
        weight, shift, n = self._weighing(copies)
        n_unknowns = self._design.shape[1]
        ridge = np.append(np.full(n_unknowns - 1, 1 / (self.options.C * n)), 0.0)
        start = np.zeros(n_unknowns) if start is None else start
        return _minimise(self._design, self._sign, weight, shift, ridge, start, tolerance)

    def raw(self, theta: Float64Array) -> Float64Array:
        """Weights of inputs as they are and the intercept, ``(systems + 1,)``."""
        return self._to_raw() @ theta

    def fusion(self, theta: Float64Array) -> LinearFusion:
        """What ``theta`` amounts to."""
        raw = self.raw(theta)
        return LinearFusion(raw[:-1], float(raw[-1]), self.options.inputs, self.options.input_prior)

    def covariance(self, theta: Float64Array, groups: IntArray | None) -> Float64Array:
        """See :attr:`FittedFusion.covariance`."""
        weight, shift, n = self._weighing(None)
        wrong = _wrong(np.logaddexp(0, -self._sign * (self._design @ theta + shift)))
        slopes = self._design * (weight * self._sign * wrong)[:, None]
        if groups is not None:
            summed = np.zeros((int(groups.max()) + 1, len(theta)))
            np.add.at(summed, groups, slopes)
            slopes = summed
        ridge = np.append(np.full(len(theta) - 1, 1 / (self.options.C * n)), 0.0)
        hessian = _curvature(self._design, weight * wrong * (1 - wrong), ridge)
        bread = self._to_raw() @ np.linalg.pinv(hessian, hermitian=True)
        found: Float64Array = bread @ (slopes.T @ slopes) @ bread.T
        return found

    def _to_raw(self) -> Float64Array:
        """Turns ``theta`` into weights of inputs as they are and the intercept."""
        change = np.zeros((self.x.shape[1] + 1, self._design.shape[1]))
        change[:-1, :-1] = self._to_weights
        change[-1, :-1] = -self._centre @ self._to_weights
        change[-1, -1] = 1
        return change

    def _weighing(self, copies: IntArray | None) -> tuple[Float64Array, float, int]:
        """``(trials,)`` weights of sum 1, log odds of the prior that they amount to, and the trials."""
        counts = np.ones(len(self._labels)) if copies is None else copies.astype(np.float64)
        n_bonafide, n = counts[self._labels].sum(), counts.sum()
        prior = self.options.prior
        if prior is None:
            prior = float(n_bonafide / n)
        share = np.where(self._labels, prior / n_bonafide, (1 - prior) / (n - n_bonafide))
        return counts * share, log_odds(prior), int(n)


def _minimise(
    design: Float64Array,
    sign: Float64Array,
    weight: Float64Array,
    shift: float,
    ridge: Float64Array,
    theta: Float64Array,
    tolerance: float,
) -> Float64Array:
    """Slopes and offset ``(unknowns,)`` of the least loss, which is convex, by Newton's method."""

    def losses(theta: Float64Array) -> tuple[float, Float64Array]:
        each = np.logaddexp(0, -sign * (design @ theta + shift))
        return float(weight @ each + ridge @ theta**2 / 2), each

    value, each = losses(theta)
    for _ in range(MAX_STEPS):
        wrong = _wrong(each)
        gradient = ridge * theta - (weight * sign * wrong) @ design
        step = -np.linalg.lstsq(_curvature(design, weight * wrong * (1 - wrong), ridge), gradient)[0]
        if np.abs(step).max() <= tolerance * (1 + np.abs(theta).max()):
            return theta + step  # the next step would be about the square of this one
        gain = -float(gradient @ step)
        length = 1.0
        found, each = losses(theta + step)
        # Far from the minimum a full step may be too long; close to it, rounding would mislead the search.
        while gain > 1e-10 and length > 1e-10 and found > value - 1e-4 * length * gain:
            length /= 2
            found, each = losses(theta + length * step)
        theta, value = theta + length * step, found
    return theta


def _wrong(losses: Float64Array) -> Float64Array:
    """Probability of the wrong class, from ``log(1 + exp(-margin))``."""
    found: Float64Array = -np.expm1(-losses)
    return found


def _curvature(design: Float64Array, weight: Float64Array, ridge: Float64Array) -> Float64Array:
    found: Float64Array = (design * weight[:, None]).T @ design + np.diag(ridge)
    return found


def _warnings(trials: JointTrials, fusion: LinearFusion, x: Float64Array) -> list[str]:
    found = []
    labels = trials.is_bonafide
    for name, column in zip(trials.systems, x.T, strict=True):
        if np.ptp(column) == 0:
            found.append(f"{name} gives every trial the same input: it adds nothing")
        elif column[labels].mean() <= column[~labels].mean():
            found.append(
                f"{name} does not score bona fide trials higher than spoofs on average "
                "(are its scores the wrong way round? higher must mean more bona fide)"
            )
    llr = fusion.apply(trials.scores)
    if llr[labels].min() > llr[~labels].max():
        found.append(
            "the fused scores separate the classes without an error: no finite weights fit best, so they, "
            "and the size of the likelihood ratios, rest on the penalty (see C)"
        )
    return found
