"""Pointwise bootstrap bands of DET curves on normal-deviate axes.

A sample of the utterances, drawn with replacement, falls into the intervals between given
thresholds by a multinomial law; so the error rates of each sample at those thresholds are
drawn directly, at a cost that does not grow with the trials.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from voxfide.errors import UsageError
from voxfide.types import BoolArray, Float64Array

Transform = Callable[[Float64Array], Float64Array]


def det_band(
    score: Float64Array,
    is_bonafide: BoolArray,
    thresholds: Float64Array,
    probit: Transform,
    *,
    n_bootstrap: int,
    confidence: float,
    seed: int = 0,
    clusters: ArrayLike | None = None,
) -> tuple[Float64Array, Float64Array]:
    """Outline ``x, y (points,)`` of the band, in normal deviates, as one closed polygon.

    Widths are taken across the curve, in the direction in which both errors grow alike. Where
    the curve crosses the line of equal errors, the band's ends are those of the EER's interval.

    Args:
        score: ``(trials,)``.
        is_bonafide: ``(trials,)``.
        thresholds: ``(points,)`` ascending, at which the curve is drawn.
        probit: shares to (limited) normal deviates.
        n_bootstrap: samples to draw.
        confidence: of the band at each point.
        seed: of the samples.
        clusters: ``(trials,)`` names, such as speakers, to draw instead of utterances.
    """
    generator = np.random.default_rng(seed)
    if clusters is None:
        rates = [
            _rejected(generator.multinomial(part.size, _shares(part, thresholds), n_bootstrap))
            for part in (score[is_bonafide], score[~is_bonafide])
        ]
    else:
        rates = _clustered(score, is_bonafide, thresholds, np.asarray(clusters), n_bootstrap, generator)
    x, y = probit(1 - rates[1]), probit(rates[0])
    usable = np.isfinite(x).all(axis=1) & np.isfinite(y).all(axis=1)
    if np.count_nonzero(usable) < 2:
        raise UsageError("the bootstrap samples lack a class: no band can be drawn")
    across, along = (x + y)[usable], (y - x)[usable]
    grid = np.linspace(along.min(axis=1).max(), along.max(axis=1).min(), 200)
    heights = np.stack([np.interp(grid, a, c) for a, c in zip(along, across, strict=True)])
    low, high = np.quantile(heights, [(1 - confidence) / 2, (1 + confidence) / 2], axis=0)
    u, v = np.concatenate([grid, grid[::-1]]), np.concatenate([low, high[::-1]])
    return (v - u) / 2, (v + u) / 2


def _shares(part: Float64Array, thresholds: Float64Array) -> Float64Array:
    """Share of ``part`` below the first threshold, between neighbours, and from the last on."""
    return np.bincount(_bins(part, thresholds), minlength=thresholds.size + 1) / part.size


def _bins(part: Float64Array, thresholds: Float64Array) -> np.ndarray:
    return np.searchsorted(thresholds, part, side="right")


def _rejected(counts: np.ndarray) -> Float64Array:
    """Share below each threshold, ``(samples, thresholds)``, from counts per interval."""
    total = counts.sum(axis=1, keepdims=True)
    with np.errstate(invalid="ignore"):
        return np.cumsum(counts[:, :-1], axis=1) / total


def _clustered(
    score: Float64Array,
    is_bonafide: BoolArray,
    thresholds: Float64Array,
    clusters: np.ndarray,
    n_bootstrap: int,
    generator: np.random.Generator,
) -> list[Float64Array]:
    number = np.unique(clusters.astype(str), return_inverse=True)[1]
    n = int(number.max()) + 1
    copies = generator.multinomial(n, np.full(n, 1 / n), n_bootstrap)
    width = thresholds.size + 1
    rates = []
    for part in (is_bonafide, ~is_bonafide):
        cells = number[part] * width + _bins(score[part], thresholds)
        table = np.bincount(cells, minlength=n * width).reshape(n, width)
        rates.append(_rejected(copies @ table))
    return rates
