"""Counting levels in dB: percentiles of a stream of any length in constant memory."""

from __future__ import annotations

import numpy as np

from voxfide.types import Float64Array, FloatArray


class LevelHistogram:
    """Counts of levels in steps of ``step`` dB, for several series at once.

    Args:
        series: how many.
        low, high: dB; levels beyond are counted at the ends.
        step: dB.
    """

    def __init__(self, series: int, low: float, high: float, step: float) -> None:
        self.edges = np.linspace(low, high, round((high - low) / step) + 1)
        self.counts = np.zeros((series, len(self.edges) - 1), np.int64)
        self._low, self._step = low, step

    def add(self, levels: FloatArray) -> None:
        """Counts ``(n, series)`` levels in dB; -inf counts as the lowest."""
        width = self.counts.shape[1]
        place = np.clip(np.floor((levels - self._low) / self._step), 0, width - 1).astype(np.int64)
        place += width * np.arange(len(self.counts))
        self.counts += np.bincount(place.ravel(), minlength=self.counts.size).reshape(self.counts.shape)

    def percentile(self, percent: float) -> Float64Array:
        """``(series,)`` dB, linear within a step; NaN for a series without counts."""
        found = np.full(len(self.counts), np.nan)
        for index, counts in enumerate(self.counts):
            total = counts.sum()
            if total:
                cumulative = np.concatenate([[0], np.cumsum(counts)])
                target = total * percent / 100
                at = min(int(np.searchsorted(cumulative, target, side="left")), len(counts))
                at = max(at, 1)
                inside = (target - cumulative[at - 1]) / max(counts[at - 1], 1)
                found[index] = self.edges[at - 1] + self._step * inside
        return found
