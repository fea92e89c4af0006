"""Bootstrap confidence intervals of every registered metric.

Percentile intervals (B. Efron, R. Tibshirani, "An Introduction to the Bootstrap", 1993,
ch. 13). Either utterances are drawn with replacement within each class, so that the number
of trials of each class stays; or whole clusters such as speakers are drawn, with all of
their trials of both classes, which is the honest choice where trials of one speaker are
alike. Samples do not depend on the order of the trials or on the memory budget.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import ArrayLike

from voxfide.errors import UsageError
from voxfide.metrics.ranking import RankedClass, Ranking, WeightedClass, WeightedTrials
from voxfide.metrics.spec import METRICS, MetricSpec
from voxfide.metrics.trials import check_trials
from voxfide.types import Float64Array, IntArray

CELL_BUDGET = 2**22
"""Trials times samples held at once; about 30 bytes each."""

DRAW_BLOCK = 2**16
"""Draws made and counted at once, so that small classes do not cost a call a sample."""

MIN_USABLE = 0.5
"""Share of samples with both classes below which no interval is given."""

Interval = tuple[float, float]


def bootstrap_intervals(
    scores: ArrayLike,
    is_bonafide: ArrayLike,
    metrics: Sequence[str] | None = None,
    *,
    n_bootstrap: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
    clusters: ArrayLike | None = None,
) -> dict[str, Interval | None]:
    """Percentile intervals by metric name.

    Args:
        scores: ``(trials,)``, higher means more bona fide.
        is_bonafide: ``(trials,)``, boolean.
        metrics: names in :data:`~voxfide.metrics.spec.METRICS`; all by default.
        n_bootstrap: samples to draw; 0 gives no intervals.
        confidence: probability that an interval is to cover, such as 0.95.
        seed: the same seed gives the same intervals.
        clusters: ``(trials,)`` names or numbers, such as speakers, to draw instead of
            utterances. Samples left without one class do not count; where they are more than
            half, the interval is None.

    Raises:
        UsageError: an unusable argument; or see
            :func:`voxfide.metrics.trials.check_trials`.
    """
    values, labels = check_trials(scores, is_bonafide)
    check_settings(n_bootstrap, confidence, seed)
    codes = None if clusters is None else _cluster_codes(clusters, len(values))
    ranking = Ranking(
        RankedClass(values[labels], "bonafide", None if codes is None else codes[labels]),
        RankedClass(values[~labels], "spoof", None if codes is None else codes[~labels]),
    )
    specs = list(METRICS) if metrics is None else [METRICS[name] for name in metrics]
    n_clusters = 0 if codes is None else int(codes.max()) + 1
    samples = replicates([ranking], specs, n_bootstrap, seed, n_clusters)[0]
    return {name: percentile_interval(figures, confidence) for name, figures in samples.items()}


def check_settings(n_bootstrap: int, confidence: float, seed: int) -> None:
    """Raises :class:`UsageError` for settings that cannot work."""
    if n_bootstrap < 0:
        raise UsageError(f"n_bootstrap is {n_bootstrap}; expected 0 (no intervals) or more")
    if not 0 < confidence < 1:
        raise UsageError(f"confidence is {confidence}; expected a probability such as 0.95")
    if seed < 0:
        raise UsageError(f"seed is {seed}; expected 0 or more")


def replicates(
    rankings: Sequence[Ranking], specs: Sequence[MetricSpec], n_bootstrap: int, seed: int, n_clusters: int = 0
) -> list[dict[str, Float64Array]]:
    """Every metric of every bootstrap sample, for several sets of trials at once.

    Sets that share a :class:`RankedClass` share its samples too: all attacks of a corpus are
    then measured against the same resampled bona fide trials.

    Args:
        rankings: the sets of trials.
        specs: the metrics.
        n_bootstrap: samples to draw.
        seed: of the random numbers.
        n_clusters: 0 to draw utterances; else the number of clusters, whose numbers every
            class of ``rankings`` holds.

    Returns:
        For each set, metric names to ``(n_bootstrap,)``; NaN where a sample lacks a class.
    """
    figures = [{spec.name: np.full(n_bootstrap, np.nan) for spec in specs} for _ in rankings]
    classes = {ranked.stream: ranked for r in rankings for ranked in (r.bonafide, r.spoof)}
    size = sum(map(len, classes.values()))
    step = max(1, CELL_BUDGET // max(size, n_clusters))
    start = 0
    for weighted in _draw(classes, n_bootstrap, step, seed, n_clusters):
        for ranking, results in zip(rankings, figures, strict=True):
            bonafide, spoof = weighted[ranking.bonafide.stream], weighted[ranking.spoof.stream]
            measure_samples(results, specs, start, ranking, bonafide, spoof)
        start += step
    return figures


def measure_samples(
    results: dict[str, Float64Array],
    specs: Sequence[MetricSpec],
    start: int,
    ranking: Ranking,
    bonafide: WeightedClass,
    spoof: WeightedClass,
) -> None:
    """Puts every metric of the given samples into ``results`` from ``start`` on, where both classes occur."""
    usable = (bonafide.total > 0) & (spoof.total > 0)
    if not usable.any():
        return
    if not usable.all():
        bonafide, spoof = bonafide.select(usable), spoof.select(usable)
    trials = WeightedTrials(ranking, bonafide, spoof)
    for spec in specs:
        results[spec.name][start : start + len(usable)][usable] = spec.resampled(trials)


def percentile_interval(figures: Float64Array, confidence: float) -> Interval | None:
    """The central ``confidence`` share of ``figures (samples,)``; None if too few are finite."""
    finite = figures[np.isfinite(figures)]
    if finite.size < max(2, MIN_USABLE * figures.size):
        return None
    low, high = np.quantile(finite, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def _draw(
    classes: dict[str, RankedClass], n_bootstrap: int, step: int, seed: int, n_clusters: int
) -> Iterator[dict[str, WeightedClass]]:
    """Yields up to ``step`` samples of every class at a time."""
    streams = ["clusters"] if n_clusters else list(classes)
    generators = {
        name: np.random.default_rng([seed, zlib.crc32(name.encode(errors="surrogatepass"))])
        for name in streams
    }
    for start in range(0, n_bootstrap, step):
        samples = min(step, n_bootstrap - start)
        if n_clusters:
            copies = draw_copies(n_clusters, samples, generators["clusters"])
            yield {name: WeightedClass(ranked, ranked.copies_of(copies)) for name, ranked in classes.items()}
        else:
            yield {
                name: WeightedClass(ranked, draw_copies(len(ranked), samples, generators[name]))
                for name, ranked in classes.items()
            }


def draw_copies(n: int, samples: int, generator: np.random.Generator) -> IntArray:
    """``(samples, n)``: how often each of n things comes up in n draws with replacement."""
    copies = np.empty((samples, n), dtype=np.int64)
    block = max(1, DRAW_BLOCK // n)
    for start in range(0, samples, block):
        rows = copies[start : start + block]
        drawn = generator.integers(n, size=rows.shape) + n * np.arange(len(rows))[:, None]
        rows[:] = np.bincount(drawn.ravel(), minlength=rows.size).reshape(rows.shape)
    return copies


def _cluster_codes(clusters: ArrayLike, n_trials: int) -> IntArray:
    names = np.asarray(clusters)
    if names.shape != (n_trials,):
        raise UsageError(f"clusters of shape {names.shape} for {n_trials:,} trials: expected ({n_trials},)")
    distinct, codes = np.unique(names, return_inverse=True)
    if len(distinct) < 2:
        raise UsageError("all trials belong to one cluster; a bootstrap over clusters needs at least two")
    return codes.astype(np.int64)
