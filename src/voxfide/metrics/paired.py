"""Paired bootstrap: several systems measured on the same resampled trials.

What two systems have in common (hard trials, talkative speakers) then cancels in their
difference, whose interval is much narrower than those of the two figures suggest.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence

import numpy as np

from voxfide.metrics.bootstrap import CELL_BUDGET, draw_copies, measure_samples
from voxfide.metrics.ranking import RankedClass, Ranking, WeightedClass
from voxfide.metrics.spec import MetricSpec
from voxfide.types import BONAFIDE, SPOOF, BoolArray, Float64Array, IntArray


def paired_replicates(
    systems: Sequence[Float64Array],
    is_bonafide: BoolArray,
    specs: Sequence[MetricSpec],
    n_bootstrap: int,
    seed: int,
    clusters: IntArray | None = None,
) -> list[dict[str, Float64Array]]:
    """Every metric of every system on each bootstrap sample of the trials.

    Args:
        systems: scores ``(trials,)`` of each system, the trials in one order.
        is_bonafide: ``(trials,)``; utterances are drawn within each class.
        specs: the metrics.
        n_bootstrap: samples to draw.
        seed: of the random numbers.
        clusters: ``(trials,)`` cluster numbers from 0, to draw clusters instead of utterances.

    Returns:
        For each system, metric names to ``(n_bootstrap,)``; NaN where a sample lacks a class.
    """
    rankings = [_ranking(scores, is_bonafide, clusters) for scores in systems]
    figures = [{spec.name: np.full(n_bootstrap, np.nan) for spec in specs} for _ in systems]
    start = 0
    for bonafide_copies, spoof_copies in _draws(is_bonafide, n_bootstrap, seed, clusters):
        for ranking, results in zip(rankings, figures, strict=True):
            bonafide = WeightedClass(ranking.bonafide, ranking.bonafide.copies_of(bonafide_copies))
            spoof = WeightedClass(ranking.spoof, ranking.spoof.copies_of(spoof_copies))
            measure_samples(results, specs, start, ranking, bonafide, spoof)
        start += len(bonafide_copies)
    return figures


def _ranking(scores: Float64Array, is_bonafide: BoolArray, clusters: IntArray | None) -> Ranking:
    """Each trial is a cluster of its own, numbered within its class, if none are given."""

    def ranked(members: BoolArray, name: str) -> RankedClass:
        own = np.arange(np.count_nonzero(members)) if clusters is None else clusters[members]
        return RankedClass(scores[members], name, own)

    return Ranking(ranked(is_bonafide, BONAFIDE), ranked(~is_bonafide, SPOOF))


def _draws(
    is_bonafide: BoolArray, n_bootstrap: int, seed: int, clusters: IntArray | None
) -> Iterator[tuple[IntArray, IntArray]]:
    """Copies ``(samples, units)`` of the units of each class, some samples at a time."""
    n_bonafide = int(np.count_nonzero(is_bonafide))
    step = max(1, CELL_BUDGET // len(is_bonafide))
    names = (BONAFIDE, SPOOF) if clusters is None else ("clusters",)
    generators = [np.random.default_rng([seed, zlib.crc32(f"paired {name}".encode())]) for name in names]
    for start in range(0, n_bootstrap, step):
        samples = min(step, n_bootstrap - start)
        if clusters is None:
            yield (
                draw_copies(n_bonafide, samples, generators[0]),
                draw_copies(len(is_bonafide) - n_bonafide, samples, generators[1]),
            )
        else:
            copies = draw_copies(int(clusters.max()) + 1, samples, generators[0])
            yield copies, copies
