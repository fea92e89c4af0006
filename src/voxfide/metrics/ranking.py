"""Trials sorted once and then weighted: the form in which bootstrap samples are measured.

A bootstrap sample is a whole number of copies of each trial. Sorting does not depend on
those numbers, so the trials are sorted once and a sample is a row of weights; error
counts at any threshold are differences of its cumulative sums.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import numpy as np

from voxfide.types import BoolArray, Float64Array, IntArray

ScoreFunction = Callable[[Float64Array], Float64Array]
"""A quantity of each single score, ``(n,)`` to ``(n,)``."""


class RankedClass:
    """The scores of one class in ascending order.

    Args:
        scores: ``(n,)`` finite, any order.
        stream: names the random numbers with which this class is resampled: the same name
            and seed give the same sample, whatever else is evaluated beside it.
        clusters: ``(n,)`` cluster number (such as the speaker) of each score, or None.
    """

    def __init__(self, scores: Float64Array, stream: str, clusters: IntArray | None = None) -> None:
        self.stream = stream
        self.clusters: IntArray | None = None
        if clusters is None:
            self.scores: Float64Array = np.sort(scores)
        else:
            order = np.argsort(scores)
            self.scores = scores[order]
            self.clusters = clusters[order]
        self._values: dict[ScoreFunction, Float64Array] = {}

    def __len__(self) -> int:
        return len(self.scores)

    def copies_of(self, cluster_copies: IntArray) -> IntArray:
        """``(samples, n)``: copies of each trial, given those of its cluster ``(samples, clusters)``."""
        if self.clusters is None:
            raise ValueError(f"class {self.stream!r} was ranked without clusters")
        return np.take(cluster_copies, self.clusters, axis=1)

    def values(self, function: ScoreFunction) -> Float64Array:
        """``function(scores)``, computed once."""
        if function not in self._values:
            self._values[function] = function(self.scores)
        return self._values[function]


class Ranking:
    """Both classes ranked against each other.

    Rejecting trials from the lowest score up, bona fide first among equals, walks a
    staircase from (0, 0) to (n_bonafide, n_spoof). Its corners, the points where a run of
    spoofs has just ended, hold everything that EER, minDCF and AUC need; a good detector
    has far fewer corners than trials.

    Attributes:
        corner_bonafide: ``(corners,)``, bona fide trials below each corner; the last is all.
        corner_spoof: ``(corners,)``, spoof trials below each corner; the last is all.
        tied_bonafide: ``(2, ties)``, first and past-the-last rank of the bona fide trials of
            every score that occurs in both classes.
        tied_spoof: ``(2, ties)``, the same of the spoof trials.
    """

    def __init__(self, bonafide: RankedClass, spoof: RankedClass) -> None:
        self.bonafide = bonafide
        self.spoof = spoof
        below = np.searchsorted(spoof.scores, bonafide.scores, side="left")
        self.corner_bonafide, self.corner_spoof = staircase_corners(below, len(spoof))

        # A score is tied across the classes if the first spoof not below it is not above it.
        tied = spoof.scores[np.minimum(below, len(spoof) - 1)] == bonafide.scores
        shared = np.unique(bonafide.scores[tied])
        self.tied_bonafide: IntArray = _ranks(bonafide.scores, shared)
        self.tied_spoof: IntArray = _ranks(spoof.scores, shared)


def staircase_corners(spoofs_below: IntArray, n_spoof: int) -> tuple[IntArray, IntArray]:
    """Bona fide and spoof trials below each corner of the staircase, ``(corners,)`` each.

    Args:
        spoofs_below: ``(n_bonafide,)``, spoof trials strictly below each bona fide trial, ascending.
        n_spoof: all spoof trials.
    """
    first = np.flatnonzero(np.diff(spoofs_below, prepend=-1))
    return np.append(first, len(spoofs_below)), np.append(spoofs_below[first], n_spoof)


def _ranks(scores: Float64Array, values: Float64Array) -> IntArray:
    return np.stack(
        [np.searchsorted(scores, values, side="left"), np.searchsorted(scores, values, side="right")]
    )


class WeightedClass:
    """One class in several samples at once.

    Args:
        ranked: the class.
        weights: ``(samples, n)`` whole numbers: copies of each trial, in rank order.
    """

    def __init__(self, ranked: RankedClass, weights: IntArray) -> None:
        self.ranked = ranked
        self.weights = weights
        self._means: dict[ScoreFunction, Float64Array] = {}

    @cached_property
    def cumulative(self) -> IntArray:
        """``(samples, n + 1)``: trials among the i lowest ranks."""
        sums = np.zeros((self.weights.shape[0], self.weights.shape[1] + 1), dtype=np.int64)
        np.cumsum(self.weights, axis=1, out=sums[:, 1:])
        return sums

    @property
    def total(self) -> IntArray:
        """``(samples,)``: trials in each sample."""
        return self.cumulative[:, -1]

    def mean(self, function: ScoreFunction) -> Float64Array:
        """``(samples,)``: the average of ``function(score)``, computed once."""
        if function not in self._means:
            self._means[function] = self.weights @ self.ranked.values(function) / self.total
        return self._means[function]

    def select(self, samples: BoolArray) -> WeightedClass:
        """Only the samples marked in ``samples (samples,)``."""
        return WeightedClass(self.ranked, self.weights[samples])


class WeightedTrials:
    """Both classes in several samples at once, each with at least one trial of each class."""

    def __init__(self, ranking: Ranking, bonafide: WeightedClass, spoof: WeightedClass) -> None:
        self.ranking = ranking
        self.bonafide = bonafide
        self.spoof = spoof
        self._figures: dict[SampleFunction, Float64Array] = {}

    def once(self, function: SampleFunction) -> Float64Array:
        """``function(self)``, computed once: for figures that several metrics share."""
        if function not in self._figures:
            self._figures[function] = function(self)
        return self._figures[function]

    @cached_property
    def rejected_bonafide(self) -> IntArray:
        """``(samples, corners)``: bona fide trials rejected at each corner."""
        return np.take(self.bonafide.cumulative, self.ranking.corner_bonafide, axis=1)

    @cached_property
    def rejected_spoof(self) -> IntArray:
        """``(samples, corners)``: spoof trials rejected at each corner."""
        return np.take(self.spoof.cumulative, self.ranking.corner_spoof, axis=1)

    @cached_property
    def frr(self) -> Float64Array:
        """``(samples, corners)``: false rejection rate at each corner."""
        return self.rejected_bonafide / self.bonafide.total[:, None]

    @cached_property
    def far(self) -> Float64Array:
        """``(samples, corners)``: false acceptance rate at each corner."""
        total = self.spoof.total[:, None]
        return (total - self.rejected_spoof) / total


SampleFunction = Callable[[WeightedTrials], Float64Array]
"""A figure of each sample, ``(samples,)``."""
