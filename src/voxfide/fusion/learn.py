"""Learning a fusion and all that is to be remembered of it, in one call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from voxfide.fusion.assess import assess_fusion
from voxfide.fusion.fit import fit_fusion
from voxfide.fusion.intervals import coefficient_intervals, group_numbers
from voxfide.fusion.linear import FusionOptions
from voxfide.fusion.record import FusedSystem, FusionRecord
from voxfide.fusion.trials import JointTrials


def learn_fusion(
    trials: JointTrials,
    options: FusionOptions | None = None,
    *,
    n_folds: int = 5,
    groups: str | None = None,
    n_bootstrap: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
    fitted_to: Mapping[str, Any] | None = None,
    sources: Sequence[Mapping[str, str]] = (),
) -> FusionRecord:
    """Learns a fusion, measures it and says how sure its weights are.

    Args:
        trials: with labels; none that the systems were trained on, where their scores flatter.
        options: how; the defaults where left out.
        n_folds: of the cross-validation; 0 for none.
        groups: a column, such as ``speaker``, whose values stay together in a fold and are
            resampled in the bootstrap in place of utterances.
        n_bootstrap: samples for the intervals of the weights; 0 for none.
        confidence: of the intervals.
        seed: of folds and bootstrap.
        fitted_to: what to remember of the trials; counts are added.
        sources: of each system ``scores``, ``scores_sha256``, ``detector``, as far as known; see
            :class:`~voxfide.fusion.FusedSystem`.

    Raises:
        UsageError: settings or groups that cannot work.
    """
    options = options or FusionOptions()
    numbers = group_numbers(trials, groups)
    fitted = fit_fusion(trials, options, numbers)
    sure = coefficient_intervals(
        fitted, trials, options, n_bootstrap=n_bootstrap, confidence=confidence, seed=seed, groups=numbers
    )
    figures = assess_fusion(
        trials, options, fitted.fusion.apply(trials.scores), n_folds=n_folds, groups=numbers, seed=seed
    )
    known = list(sources) or [{} for _ in trials.systems]
    systems = tuple(
        FusedSystem(
            name, found.value, found.interval, found.standard_error, found.wald, found.value * float(spread),
            **source,
        )
        for name, found, spread, source in zip(
            trials.systems, sure.weights, fitted.spread, known, strict=True
        )
    )  # fmt: skip
    counts = {"n_bonafide": figures.n_bonafide, "n_spoof": figures.n_spoof}
    return FusionRecord(
        options,
        systems,
        sure.intercept.value,
        sure.intercept.interval,
        confidence,
        n_bootstrap,
        {**(fitted_to or {}), **counts} | ({"groups": groups} if groups else {}),
        figures.to_json(),
        (*trials.warnings, *fitted.warnings),
    )
