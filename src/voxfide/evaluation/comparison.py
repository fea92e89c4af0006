"""Two systems on the same trials: how much they differ, and whether that is more than chance."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

import numpy as np

from voxfide.errors import UsageError
from voxfide.evaluation.alignment import Trials
from voxfide.evaluation.breakdown import cluster_codes
from voxfide.metrics.bootstrap import Interval, check_settings, percentile_interval
from voxfide.metrics.delong import DelongTest, delong_test
from voxfide.metrics.paired import paired_replicates
from voxfide.metrics.spec import METRICS
from voxfide.types import Float64Array

Against = Literal["first", "best", "all"]

PRIMARY: Final = "eer_percent"
"""The metric by which the best system is chosen and the sentence speaks."""


@dataclass(frozen=True)
class Difference:
    """A figure of system a less that of system b, in the metric's unit.

    Attributes:
        value: the difference.
        interval: of the difference, by paired bootstrap; None where there is none.
        p_value: two-sided, from the same samples: how often they fall on the other side of 0,
            doubled; never below 2 / (samples + 1). None where there are no samples.
    """

    value: float
    interval: Interval | None = None
    p_value: float | None = None


@dataclass(frozen=True)
class Comparison:
    """System ``a`` against system ``b`` on the same trials.

    Attributes:
        a: name of one system.
        b: name of the other.
        figures_a: of every registered metric, system a's figure.
        figures_b: the same of system b.
        differences: a less b, by metric; which sign is better says the metric's ``direction``.
        delong: test of the difference in AUC.
        confidence: of the intervals.
        clusters: the column that was resampled, or None for single utterances.
    """

    a: str
    b: str
    figures_a: dict[str, float]
    figures_b: dict[str, float]
    differences: dict[str, Difference]
    delong: DelongTest
    confidence: float
    clusters: str | None = None

    def sentence(self) -> str:
        """What the comparison says of the EER, in words that need no statistics."""
        difference = self.differences[PRIMARY]
        rates = f"EER {self.figures_a[PRIMARY]:.2f} % against {self.figures_b[PRIMARY]:.2f} %"
        if difference.interval is None:
            return f"{self.a} against {self.b}: {rates}; without intervals, chance cannot be ruled out."
        low, high = difference.interval
        sure = f"with {self.confidence * 100:g} % confidence"
        if low <= 0 <= high:
            return (
                f"{self.a} and {self.b} cannot be told apart on these trials ({rates}): {sure}, the EER of "
                f"{self.a} lies between {-low:.2f} percentage points below and {high:.2f} above that of "
                f"{self.b}, so chance alone can explain the difference."
            )
        word, least, most = ("fewer", -high, -low) if high < 0 else ("more", low, high)
        return (
            f"{self.a} makes {word} errors than {self.b} on trials like these ({rates}): {sure}, the "
            f"difference is {least:.2f} to {most:.2f} percentage points, more than chance explains."
        )

    def to_json(self) -> dict[str, Any]:
        """Plain types, null for no figure."""
        differences = {
            name: {
                "a": _figure(self.figures_a[name]),
                "b": _figure(self.figures_b[name]),
                "difference": _figure(d.value),
                "interval": None if d.interval is None else list(d.interval),
                "p_value": d.p_value,
            }
            for name, d in self.differences.items()
        }
        return {
            "a": self.a,
            "b": self.b,
            "sentence": self.sentence(),
            "differences": differences,
            "delong": {
                "auc_difference": self.delong.difference,
                "standard_error": _figure(self.delong.standard_error),
                "p_value": _figure(self.delong.p_value),
            },
            "confidence": self.confidence,
            "clusters": self.clusters,
        }


def compare(
    systems: Mapping[str, Trials],
    against: Against = "first",
    *,
    n_bootstrap: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
    clusters: str | None = None,
) -> list[Comparison]:
    """Compares systems in pairs on resampled trials that are the same for all.

    Args:
        systems: name to trials, from :func:`~voxfide.evaluation.align_systems`.
        against: every other system with the ``first``, with the ``best`` (the lowest EER, the
            first of several), or ``all`` pairs. Having been chosen for it, the best looks a
            little better than it is.
        n_bootstrap: samples for intervals and p-values; 0 for none.
        confidence: of the intervals.
        seed: of the bootstrap.
        clusters: a column, such as ``speaker``, whose values are resampled instead of utterances.

    Raises:
        UsageError: systems of different trials, an unknown column or unusable settings.
    """
    check_settings(n_bootstrap, confidence, seed)
    if against not in get_args(Against):
        raise UsageError(f"against is {against!r}; expected one of {', '.join(get_args(Against))}")
    names = list(systems)
    if len(names) < 2:
        return []
    first = systems[names[0]]
    for name in names[1:]:
        if not np.array_equal(systems[name].utterance_id, first.utterance_id):
            raise UsageError(f"{names[0]} and {name} are of different trials and cannot be compared")
    if clusters is not None and clusters not in first.columns:
        raise UsageError(
            f"the key has no column {clusters!r} (columns: {', '.join(first.columns) or 'none'})"
        )
    codes = cluster_codes(clusters, first.columns[clusters])[0] if clusters else None

    scores = [trials.score for trials in systems.values()]
    figures = [{spec.name: spec(s, first.is_bonafide) for spec in METRICS} for s in scores]
    samples = paired_replicates(scores, first.is_bonafide, list(METRICS), n_bootstrap, seed, codes)
    found = []
    for i, j in _pairs([f[PRIMARY] for f in figures], against):
        differences = {
            name: _difference(value - figures[j][name], samples[i][name] - samples[j][name], confidence)
            for name, value in figures[i].items()
        }
        delong = delong_test(scores[i], scores[j], first.is_bonafide)
        found.append(
            Comparison(names[i], names[j], figures[i], figures[j], differences, delong, confidence, clusters)
        )
    return found


def _pairs(eers: Sequence[float], against: Against) -> list[tuple[int, int]]:
    """Which systems to compare with which, by number."""
    everyone = range(len(eers))
    if against == "all":
        return [(i, j) for i in everyone for j in everyone if i < j]
    reference = int(np.argmin(eers)) if against == "best" else 0
    return [(i, reference) for i in everyone if i != reference]


def _difference(value: float, samples: Float64Array, confidence: float) -> Difference:
    interval = percentile_interval(samples, confidence)
    if interval is None:
        return Difference(value)
    finite = samples[np.isfinite(samples)]
    other_side = min(np.count_nonzero(finite <= 0), np.count_nonzero(finite >= 0))
    return Difference(value, interval, min(1.0, 2 * (other_side + 1) / (len(finite) + 1)))


def _figure(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
