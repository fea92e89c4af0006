"""How sure a fusion's weights are: bootstrap and Wald intervals."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from voxfide.errors import UsageError
from voxfide.evaluation.breakdown import cluster_codes
from voxfide.fusion.fit import FittedFusion, Problem
from voxfide.fusion.linear import FusionOptions
from voxfide.fusion.trials import JointTrials
from voxfide.metrics.bootstrap import Interval, check_settings, draw_copies, percentile_interval
from voxfide.types import BoolArray, IntArray

BLOCK = 2**22
"""Trials times samples drawn at once."""


@dataclass(frozen=True)
class Coefficient:
    """A weight or the intercept, with what is known of its error.

    Attributes:
        value: of inputs as they are.
        interval: percentile interval of the bootstrap; None without one.
        standard_error: robust, see :attr:`~voxfide.fusion.fit.FittedFusion.covariance`.
        wald: ``value`` plus and minus as many standard errors as the confidence asks for.
    """

    value: float
    interval: Interval | None
    standard_error: float
    wald: Interval


@dataclass(frozen=True)
class Coefficients:
    """Of every system in order, and the intercept."""

    weights: tuple[Coefficient, ...]
    intercept: Coefficient


def group_numbers(trials: JointTrials, column: str | None) -> IntArray | None:
    """``(trials,)`` numbers of the values of a column, such as ``speaker``; None for no column.

    Raises:
        UsageError: no such column, trials without a value, or one value only.
    """
    if column is None:
        return None
    if column not in trials.columns:
        raise UsageError(f"the key has no column {column!r} (columns: {', '.join(trials.columns) or 'none'})")
    return cluster_codes(column, trials.columns[column])[0]


def coefficient_intervals(
    fitted: FittedFusion,
    trials: JointTrials,
    options: FusionOptions,
    *,
    n_bootstrap: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
    groups: IntArray | None = None,
) -> Coefficients:
    """Repeats the fit on resampled trials.

    Utterances are drawn within each class; or clusters, with all of their trials. The
    standardisation of the inputs and the choice of a best system stay as they are.

    Args:
        fitted: to these very trials, with these options and groups.
        trials: with labels.
        options: of the fit.
        n_bootstrap: samples; 0 for Wald intervals alone.
        confidence: of both intervals.
        seed: the same seed gives the same intervals.
        groups: ``(trials,)`` cluster numbers from 0, to draw clusters.

    Raises:
        UsageError: settings that cannot work.
    """
    check_settings(n_bootstrap, confidence, seed)
    found = np.append(fitted.fusion.weights, fitted.fusion.intercept)
    errors = np.sqrt(np.diag(fitted.covariance))
    samples = np.full((n_bootstrap, len(found)), np.nan)
    problem = Problem(trials, options)
    start = problem.solve()
    for i, copies in enumerate(_draws(trials.is_bonafide, n_bootstrap, seed, groups)):
        if 0 < copies[trials.is_bonafide].sum() < copies.sum():
            samples[i] = problem.raw(problem.solve(copies, start, tolerance=1e-4))
    reach = NormalDist().inv_cdf((1 + confidence) / 2)
    made = [
        Coefficient(
            float(value),
            percentile_interval(column, confidence) if n_bootstrap else None,
            float(error),
            (float(value - reach * error), float(value + reach * error)),
        )
        for value, error, column in zip(found, errors, samples.T, strict=True)
    ]
    return Coefficients(tuple(made[:-1]), made[-1])


def _draws(
    is_bonafide: BoolArray, n_bootstrap: int, seed: int, groups: IntArray | None
) -> Iterator[IntArray]:
    """``(trials,)`` for each sample: how often each trial is in it."""
    step = max(1, BLOCK // len(is_bonafide))
    if groups is not None:
        generator = np.random.default_rng([seed, 0])
        n_groups = int(groups.max()) + 1
        for start in range(0, n_bootstrap, step):
            for row in draw_copies(n_groups, min(step, n_bootstrap - start), generator):
                yield row[groups]
        return
    generators = [np.random.default_rng([seed, number]) for number in (1, 2)]
    classes = [np.flatnonzero(is_bonafide), np.flatnonzero(~is_bonafide)]
    for start in range(0, n_bootstrap, step):
        copies = np.zeros((min(step, n_bootstrap - start), len(is_bonafide)), dtype=np.int64)
        for members, generator in zip(classes, generators, strict=True):
            copies[:, members] = draw_copies(len(members), len(copies), generator)
        yield from copies
