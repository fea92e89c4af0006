"""Which systems a fusion needs: every subset fused and measured, as in Combei et al. 2024, table 3."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Final

import numpy as np

from voxfide.errors import UsageError
from voxfide.evaluation.result import Metric
from voxfide.fusion import FIGURES, FusionOptions, JointTrials, cross_validate, fit_fusion, group_numbers
from voxfide.metrics import METRICS
from voxfide.metrics.bootstrap import bootstrap_intervals
from voxfide.report.tables import Column, Table
from voxfide.studies.tables import write_table
from voxfide.types import BoolArray, Float64Array, IntArray, PathLike

MAX_SYSTEMS: Final = 10
"""1,023 subsets; each more doubles them."""

SHOWN: Final = {"eer_percent": ("EER %", ".2f"), "min_dcf": ("min DCF", ".4f"), "act_dcf": ("act DCF", ".4f"),
                "cllr": ("Cllr", ".4f")}  # fmt: skip
"""Metrics of the table: heading and format."""

Figures = dict[str, Metric]


@dataclass(frozen=True)
class Subset:
    """Some of the systems, fused.

    Attributes:
        systems: which.
        figures: by set of trials, then by metric.
    """

    systems: tuple[str, ...]
    figures: Mapping[str, Figures]


@dataclass(frozen=True)
class Ablation:
    """All subsets: single systems, pairs, and so on to all.

    Attributes:
        systems: all of them.
        sets: names of the sets of trials, the one of the fit first.
        subsets: in order of size.
        caption: what the figures are.
    """

    systems: tuple[str, ...]
    sets: tuple[str, ...]
    subsets: tuple[Subset, ...]
    caption: str

    def table(self) -> Table:
        """A row a subset: which systems are in it, and its figures on every set."""
        columns = [Column("n_systems", "n")]
        columns += [Column(name) for name in self.systems]
        for of in self.sets:
            columns += [
                Column(f"{of}_{metric}", f"{of} {title}", spec, estimate=metric == "eer_percent")
                for metric, (title, spec) in SHOWN.items()
            ]
        rows: list[list[Any]] = []
        for subset in self.subsets:
            row: list[Any] = [len(subset.systems)]
            row += ["x" if name in subset.systems else "" for name in self.systems]
            for of in self.sets:
                figures = subset.figures[of]
                row += [figures[m] if m == "eer_percent" else figures[m].value for m in SHOWN]
            rows.append(row)
        return Table(columns, rows, self.caption)

    def write(self, folder: PathLike) -> None:
        """Writes ``ablation.csv``, ``ablation.md`` and ``ablation.tex``."""
        write_table(folder, "ablation", self.table())


def ablate(
    trials: JointTrials,
    options: FusionOptions | None = None,
    others: Mapping[str, JointTrials] | None = None,
    *,
    name: str = "fit",
    n_folds: int = 5,
    groups: str | None = None,
    n_bootstrap: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Ablation:
    """Learns a fusion of every subset of the systems and measures it.

    Single systems go through the same regression, so that their likelihood ratios compare.

    Args:
        trials: to learn on. The figures on them are cross-validated, all subsets in the same
            folds; with ``n_folds`` 0 they are of the very fit, and flatter.
        options: how.
        others: further sets by name, the systems in the same order; fused by what was learnt on
            all of ``trials``.
        name: of the first set in the table.
        n_folds: of the cross-validation.
        groups: a column, such as ``speaker``, whose values stay together in a fold and are
            resampled in place of utterances.
        n_bootstrap: samples for the intervals of the EER, the same for all subsets; 0 for none.
        confidence: of the intervals.
        seed: of folds and bootstrap.

    Raises:
        UsageError: more than :data:`MAX_SYSTEMS` systems, sets of other systems or of one name, or
            settings that cannot work.
    """
    options, others = options or FusionOptions(), dict(others or {})
    n = len(trials.systems)
    if n > MAX_SYSTEMS:
        raise UsageError(f"{n} systems have {2**n - 1:,} subsets (expected at most {MAX_SYSTEMS} systems)")
    if name in others:
        raise UsageError(f"two sets are named {name!r}")
    for other, found in others.items():
        if found.systems != trials.systems:
            raise UsageError(f"set {other!r} is of other systems, or in another order, than {name!r}")
    measured = {name: trials, **others}
    numbers = {of: group_numbers(found, groups) for of, found in measured.items()}
    measure = {
        of: _Measure(found.is_bonafide, numbers[of], n_bootstrap, confidence, seed)
        for of, found in measured.items()
    }
    subsets = []
    for size in range(1, n + 1):
        for members in combinations(range(n), size):
            part = trials.of(members)
            fusion = fit_fusion(part, options).fusion
            if n_folds:
                own, _ = cross_validate(part, options, n_folds=n_folds, groups=numbers[name], seed=seed)
            else:
                own = fusion.apply(part.scores)
            figures = {name: measure[name](own)}
            for other, found in others.items():
                figures[other] = measure[other](fusion.apply(found.of(members).scores))
            subsets.append(Subset(part.systems, figures))
    return Ablation(trials.systems, tuple(measured), tuple(subsets), _caption(options, name, n_folds, groups))


@dataclass(frozen=True)
class _Measure:
    is_bonafide: BoolArray
    clusters: IntArray | None
    n_bootstrap: int
    confidence: float
    seed: int

    def __call__(self, llr: Float64Array) -> Figures:
        values = {metric: METRICS[metric](llr, self.is_bonafide) for metric in FIGURES}
        intervals = bootstrap_intervals(
            llr,
            self.is_bonafide,
            ["eer_percent"],
            n_bootstrap=self.n_bootstrap,
            confidence=self.confidence,
            seed=self.seed,
            clusters=None if self.clusters is None else np.asarray(self.clusters),
        )
        return {metric: Metric(value, intervals.get(metric)) for metric, value in values.items()}


def _caption(options: FusionOptions, name: str, n_folds: int, groups: str | None) -> str:
    kind = {"logistic": "logistic regression", "mean": "equal weights", "best": "the best single system"}
    kept = f", {groups} kept together" if groups else ""
    how = f"cross-validated in up to {n_folds} folds{kept}" if n_folds else "on the very trials of the fit"
    return f"Late fusion of {options.inputs} by {kind[options.method]}; {name}: {how}."
