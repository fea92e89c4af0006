"""What an evaluation found, and its stable JSON form."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from voxfide.metrics.bootstrap import Interval
from voxfide.metrics.spec import METRICS


@dataclass(frozen=True)
class Metric:
    """A figure and its confidence interval; None where none was asked for or possible."""

    value: float
    interval: Interval | None = None


@dataclass(frozen=True)
class Group:
    """The trials that share one value of a column.

    Attributes:
        value: of the column; of several columns, joined by " / ".
        n_bonafide: bona fide trials that were measured.
        n_spoof: spoof trials that were measured.
        metrics: every registered metric by name; None where a class is missing.
        note: what a reader of the row has to know, or empty.
        values: of each column of the breakdown.
    """

    value: str
    n_bonafide: int
    n_spoof: int
    metrics: dict[str, Metric] | None
    note: str = ""
    values: tuple[str, ...] = ()


def group_name(values: Sequence[str]) -> str:
    """What a group of a breakdown by one or more columns is called."""
    return " / ".join(values)


@dataclass(frozen=True)
class Evaluation:
    """The outcome of :func:`~voxfide.evaluation.evaluate`.

    Attributes:
        n_bonafide: bona fide trials.
        n_spoof: spoof trials.
        metrics: every registered metric by name, in its own unit.
        thresholds: in score units, of ``eer``, ``min_dcf`` and ``act_dcf``.
        by: for each column, or columns joined by commas, its groups: highest EER first, those
            without metrics last.
        by_macro: for each column the plain averages over the groups that have metrics.
        n_bootstrap: bootstrap samples behind the intervals; 0 means no intervals.
        confidence: of the intervals.
        seed: of the bootstrap.
        warnings: what a reader of the figures has to know.
    """

    n_bonafide: int
    n_spoof: int
    metrics: dict[str, Metric]
    thresholds: dict[str, float]
    by: dict[str, list[Group]]
    by_macro: dict[str, dict[str, Metric]]
    n_bootstrap: int
    confidence: float
    seed: int
    warnings: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The stable form that ``voxfide evaluate --json`` prints: plain types, null for no figure."""
        return {
            "n_bonafide": self.n_bonafide,
            "n_spoof": self.n_spoof,
            **_metrics_json(self.metrics),
            "eer_threshold": _figure(self.thresholds["eer"]),
            "by": {column: [_group_json(group) for group in groups] for column, groups in self.by.items()},
            "by_macro": {column: _metrics_json(metrics) for column, metrics in self.by_macro.items()},
            "confidence": self.confidence,
            "n_bootstrap": self.n_bootstrap,
            "seed": self.seed,
            "warnings": list(self.warnings),
        }


def _group_json(group: Group) -> dict[str, Any]:
    return {
        "value": group.value,
        **({"values": list(group.values)} if len(group.values) > 1 else {}),
        "n_bonafide": group.n_bonafide,
        "n_spoof": group.n_spoof,
        **_metrics_json(group.metrics or {}),
        "note": group.note,
    }


def _metrics_json(metrics: Mapping[str, Metric]) -> dict[str, Any]:
    """Every registered metric and its interval, null where ``metrics`` lacks it."""
    found: dict[str, Any] = {}
    for spec in METRICS:
        metric = metrics.get(spec.name)
        found[spec.name] = _figure(metric.value) if metric else None
        interval = metric.interval if metric else None
        found[f"{spec.name}_interval"] = [_figure(end) for end in interval] if interval else None
    return found


def _figure(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
