"""Every metric of a set of trials, pooled and by column, with bootstrap intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Final

import numpy as np

from voxfide.evaluation.alignment import Trials
from voxfide.evaluation.breakdown import PAIR_SEPARATOR, Breakdown, Cell, cluster_codes
from voxfide.evaluation.result import Evaluation, Group, Metric, group_name
from voxfide.metrics.bootstrap import check_settings, percentile_interval, replicates
from voxfide.metrics.dcf import act_dcf, min_dcf
from voxfide.metrics.eer import eer
from voxfide.metrics.ranking import Ranking
from voxfide.metrics.spec import METRICS
from voxfide.metrics.trials import check_trials
from voxfide.types import Float64Array, IntArray

TIES_MATTER: Final = 0.005
"""Difference between the official and the tie-neutral EER, as fractions, that is worth a warning."""

Samples = dict[str, Float64Array]
"""Metric names to the figures ``(n_bootstrap,)`` of the bootstrap samples."""


@dataclass(frozen=True)
class _Bootstrap:
    n: int
    confidence: float
    seed: int
    n_clusters: int


def evaluate(
    trials: Trials,
    by: Sequence[str] = (),
    *,
    n_bootstrap: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
    clusters: str | None = None,
) -> Evaluation:
    """Measures the trials, pooled and for each value of the columns in ``by``.

    ``"attack,codec"`` breaks down by both at once, a group for each pair that occurs.

    In a column that no bona fide trial has a value for, such as the attack, each value's
    spoofs are measured against all bona fide trials. In any other column, such as the codec,
    they are measured against the bona fide trials of that value. With several columns, those
    of the second kind choose the bona fide trials.

    Args:
        trials: from :func:`~voxfide.evaluation.align`.
        by: columns, or several joined by commas, to break down by.
        n_bootstrap: samples for the intervals; 0 for none.
        confidence: of the intervals.
        seed: of the bootstrap.
        clusters: a column, such as ``speaker``, whose values are resampled instead of single
            utterances.

    Raises:
        UsageError: an unknown column or unusable settings; scores that are not finite or of
            one class only, with counts.
    """
    check_settings(n_bootstrap, confidence, seed)
    check_trials(trials.score, trials.is_bonafide)
    columns_of = {name: _columns(trials, name) for name in by}
    by = tuple(columns_of)
    if clusters:
        trials.require_column(clusters)
    codes, n_clusters = cluster_codes(clusters, trials.columns[clusters]) if clusters else (None, 0)
    bootstrap = _Bootstrap(n_bootstrap, confidence, seed, n_clusters)

    breakdown = Breakdown(trials, codes)
    pooled = breakdown.pooled()
    cells = {name: breakdown.by(columns_of[name], pooled) for name in by}
    measured = [cell for cell in chain([pooled], *cells.values()) if cell.has_both]
    samples = dict(zip(map(id, measured), _resample(measured, bootstrap), strict=True))

    groups = {c: [_group(cell, samples.get(id(cell)), bootstrap) for cell in cells[c]] for c in by}
    points = {f.__name__: f(trials.score, trials.is_bonafide) for f in (eer, min_dcf, act_dcf)}
    return Evaluation(
        n_bonafide=len(pooled.bonafide),
        n_spoof=len(pooled.spoof),
        metrics=_metrics(pooled, samples[id(pooled)], bootstrap),
        thresholds={name: point.threshold for name, point in points.items()},
        by={c: sorted(groups[c], key=_worst_first) for c in by},
        by_macro={
            c: _macro(groups[c], [samples[id(cell)] for cell in cells[c] if cell.has_both], bootstrap)
            for c in by
        },
        n_bootstrap=n_bootstrap,
        confidence=confidence,
        seed=seed,
        warnings=(*trials.warnings, *_score_warnings(trials, points["eer"].value), *_empty_columns(cells)),
    )


@dataclass(frozen=True)
class WorstErrors:
    """Rows of the trials on the wrong side of a threshold, worst first.

    Attributes:
        bonafide: ``(up to n,)``, rejected bona fide trials, lowest score first.
        spoof: ``(up to n,)``, accepted spoof trials, highest score first.
    """

    bonafide: IntArray
    spoof: IntArray


def worst_errors(trials: Trials, threshold: float, n: int = 10) -> WorstErrors:
    """The ``n`` most confidently wrong trials of each class.

    Trials above the threshold count as accepted, as on the official DET curve.
    """
    order = np.argsort(trials.score, kind="stable")
    rejected = trials.score[order] <= threshold
    bonafide = trials.is_bonafide[order]
    return WorstErrors(order[rejected & bonafide][:n], order[~rejected & ~bonafide][::-1][:n])


def _columns(trials: Trials, name: str) -> tuple[str, ...]:
    """The columns that a breakdown names: one whose own name it is, or several joined by commas."""
    if name in trials.columns:
        return (name,)
    columns = tuple(dict.fromkeys(part.strip() for part in name.split(PAIR_SEPARATOR)))
    for column in columns:
        trials.require_column(column)
    return columns


def _resample(cells: Sequence[Cell], bootstrap: _Bootstrap) -> list[Samples]:
    """The bootstrap figures of each cell; cells that share their bona fide trials go together."""
    if not bootstrap.n:
        return [{} for _ in cells]
    families: dict[str, list[int]] = {}
    for i, cell in enumerate(cells):
        families.setdefault(cell.bonafide.stream, []).append(i)
    samples: dict[int, Samples] = {}
    for members in families.values():
        rankings = [Ranking(cells[i].bonafide, cells[i].spoof) for i in members]
        found = replicates(rankings, list(METRICS), bootstrap.n, bootstrap.seed, bootstrap.n_clusters)
        samples.update(zip(members, found, strict=True))
    return [samples[i] for i in range(len(cells))]


def _metrics(cell: Cell, samples: Samples, bootstrap: _Bootstrap) -> dict[str, Metric]:
    scores = np.concatenate((cell.bonafide.scores, cell.spoof.scores))
    is_bonafide = np.arange(len(scores)) < len(cell.bonafide)
    return {
        spec.name: _metric(spec(scores, is_bonafide), samples.get(spec.name), bootstrap) for spec in METRICS
    }


def _metric(value: float, figures: Float64Array | None, bootstrap: _Bootstrap) -> Metric:
    return Metric(value, None if figures is None else percentile_interval(figures, bootstrap.confidence))


def _group(cell: Cell, samples: Samples | None, bootstrap: _Bootstrap) -> Group:
    n_bonafide, n_spoof = len(cell.bonafide), len(cell.spoof)
    if samples is None:
        lacking = "spoof" if n_bonafide else "bona fide"
        note = f"no metrics: the group has no {lacking} trials"
        return Group(group_name(cell.values), n_bonafide, n_spoof, None, note, cell.values)
    notes = [cell.note] if cell.note else []
    n_unusable = int(np.isnan(samples["eer_percent"]).sum()) if samples else 0
    if n_unusable:
        notes.append(f"{n_unusable:,} of {bootstrap.n:,} bootstrap samples lacked a class and do not count")
    metrics = _metrics(cell, samples, bootstrap)
    return Group(group_name(cell.values), n_bonafide, n_spoof, metrics, "; ".join(notes), cell.values)


def _macro(groups: Sequence[Group], samples: Sequence[Samples], bootstrap: _Bootstrap) -> dict[str, Metric]:
    """Plain averages over the groups with metrics, in the figures and in each bootstrap sample."""
    measured = [group.metrics for group in groups if group.metrics]
    if not measured:
        return {}
    return {
        spec.name: _metric(
            float(np.mean([metrics[spec.name].value for metrics in measured])),
            np.mean([s[spec.name] for s in samples], axis=0) if bootstrap.n else None,
            bootstrap,
        )
        for spec in METRICS
    }


def _worst_first(group: Group) -> tuple[float, str]:
    return (-group.metrics["eer_percent"].value if group.metrics else np.inf), group.value


def _score_warnings(trials: Trials, official: float) -> list[str]:
    warnings = []
    if official > 0.5:
        warnings.append(
            f"the EER is {100 * official:.1f} %, worse than chance: are the scores the wrong way round? "
            "Higher must mean more bona fide"
        )
    neutral = eer(trials.score, trials.is_bonafide, "interpolated").value
    n_distinct = len(np.unique(trials.score))
    if official - neutral > TIES_MATTER and n_distinct < len(trials):
        warnings.append(
            f"only {n_distinct:,} distinct scores in {len(trials):,} trials: the official EER counts ties "
            f"against the system ({100 * official:.2f} %; with ties counted half {100 * neutral:.2f} %)"
        )
    return warnings


def _empty_columns(cells: dict[str, list[Cell]]) -> list[str]:
    return [f"column {column!r} holds no value for any trial" for column, found in cells.items() if not found]
