"""The figures of an evaluation: in the report, and as files beside it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from voxfide.metrics.cllr import cllr
from voxfide.report.figures import ScoredTrials, det_figure, histogram_figure
from voxfide.report.figures_calibration import bayes_error_figure, reliability_figure, tippett_figure
from voxfide.report.figures_groups import eer_grid, group_trials, heatmap_figure, ridge_figure
from voxfide.report.page import Block, Figure, Figures, Prose
from voxfide.report.style import save_figure
from voxfide.report.tables import number
from voxfide.types import PathLike

if TYPE_CHECKING:
    from matplotlib.figure import Figure as MatplotlibFigure

    from voxfide.evaluation import Evaluation, Trials

BAND_SAMPLES: Final = 500
"""Bootstrap samples behind the band of a DET curve, at most."""

MAX_RIDGES: Final = 20
MAX_CELLS: Final = 24
"""Values of either column of a heat map, at most."""


def likelihood_blocks(trials: Trials) -> list[Block]:
    """What the scores are worth as log likelihood ratios: three figures and how to read them."""
    loss = cllr(trials.score, trials.is_bonafide)
    words = "These figures take the scores at their word, as natural-log likelihood ratios."
    if loss >= 1:
        words += (
            f" Their Cllr is {loss:.3f} bits; scores of 0 for every trial would give 1. Read as likelihood "
            "ratios they mislead: `voxfide calibrate` makes likelihood ratios of them."
        )
    figures = [
        Figure(
            reliability_figure(trials),
            "Reliability: of the trials whose score states a probability of bona fide, how many are so, "
            "with 95 % intervals, at a prior of 50 %. On the diagonal the probabilities hold; an S that is "
            "flatter than it means too much confidence. Hollow: under 10 trials. Below: trials in each bin.",
            "Reliability diagram of stated against observed probability of bona fide.",
        ),
        Figure(
            tippett_figure(trials),
            "Tippett plot: share of each class at or above a log likelihood ratio. The marks at 0 give the "
            "rates of misleading evidence.",
            "Tippett plot: cumulative shares of bona fide and spoofed trials over the log likelihood ratio.",
        ),
        Figure(
            bayes_error_figure(trials),
            "Probability of error over the prior: with the scores as they are (actual), with the best "
            "threshold at each prior (minimum) and by the prior alone (default). The shaded area is lost to "
            "calibration; the area under the solid curve is proportional to Cllr.",
            "Probability of error over the prior probability of bona fide: actual, minimum and default.",
        ),
        Figure(
            bayes_error_figure(trials, normalised=True),
            "The same divided by the default: below 1 the scores are of use at that prior, above 1 a guess "
            "by the prior alone would err less.",
            "Normalised Bayes error rate over the prior probability of bona fide.",
        ),
    ]
    return [Prose([words]), Figures(figures)]


def group_blocks(evaluation: Evaluation, trials: Trials) -> list[Block]:
    """Score distributions by each column of the breakdown, and the first two columns crossed."""
    figures = [
        Figure(
            figure,
            f"Scores by {column}, worst first, with the EER of each row: spoofs filled, bona fide trials "
            "outlined, each to its own height; the dotted line is the threshold of equal errors."
            + (f" The {MAX_RIDGES} worst are shown." if len(evaluation.by[column]) > MAX_RIDGES else ""),
            f"Distributions of the scores for each value of {column}.",
        )
        for column, figure in _ridges(evaluation, trials).items()
    ]
    figures += [
        Figure(
            figure,
            f"EER in percent for every pair of {row} and {column}, worst first; darker is worse. A dash: "
            "fewer than 5 trials of a class.",
            f"Heat map of the equal error rate by {row} and {column}.",
        )
        for (row, column), figure in _heatmaps(evaluation, trials).items()
    ]
    return [Figures(figures)] if figures else []


def write_figures(
    folder: PathLike,
    trials: Trials,
    evaluation: Evaluation,
    *,
    systems: Mapping[str, ScoredTrials] | None = None,
) -> list[Path]:
    """Saves every figure that the data allow as PDF at column width; returns the files.

    ``det``, ``scores``, ``reliability``, ``tippett``, ``bayes_error``, ``normalised_bayes_error``; for
    each column of the breakdown ``scores_by_<column>``, and ``eer_<column>_<column>`` for the first two.

    Args:
        folder: made if missing.
        trials: of the evaluation.
        evaluation: whose breakdown and intervals the figures follow.
        systems: name → trials, where the DET figure is to show several.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    samples = min(evaluation.n_bootstrap, BAND_SAMPLES)
    figures = {
        "det": det_figure(
            systems or {"scores": trials},
            n_bootstrap=samples, confidence=evaluation.confidence, seed=evaluation.seed,
        ),
        "scores": histogram_figure(trials, thresholds={"EER": evaluation.thresholds["eer"]}),
        "reliability": reliability_figure(trials),
        "tippett": tippett_figure(trials),
        "bayes_error": bayes_error_figure(trials),
        "normalised_bayes_error": bayes_error_figure(trials, normalised=True),
    }  # fmt: skip
    figures |= {f"scores_by_{_file_name(c)}": f for c, f in _ridges(evaluation, trials).items()}
    figures |= {
        f"eer_{_file_name(row)}_{_file_name(column)}": figure
        for (row, column), figure in _heatmaps(evaluation, trials).items()
    }
    return [save_figure(figure, folder / f"{name}.pdf") for name, figure in figures.items()]


def _ridges(evaluation: Evaluation, trials: Trials) -> dict[str, MatplotlibFigure]:
    """A figure for each column with at least two groups, its rows in the order of the breakdown."""
    figures = {}
    for column, groups in evaluation.by.items():
        if column not in trials.columns or len(groups) < 2:
            continue
        measured = {group.value: group.metrics for group in groups if group.metrics}
        found = group_trials(trials, column)
        rows = {value: found[value] for value in measured if value in found}
        rows = dict(list(rows.items())[:MAX_RIDGES])
        notes = {value: f"{number(measured[value]['eer_percent'].value, '.1f')} %" for value in rows}
        if len(rows) > 1:
            figures[column] = ridge_figure(rows, notes=notes, threshold=evaluation.thresholds["eer"])
    return figures


def _heatmaps(evaluation: Evaluation, trials: Trials) -> dict[tuple[str, str], MatplotlibFigure]:
    """Every pair of columns of the breakdown; where it has none, its first two columns."""
    single = [name for name in evaluation.by if name in trials.columns]
    crossed = [tuple(map(str.strip, name.split(","))) for name in evaluation.by if name not in single]
    pairs: list[tuple[str, ...]] = [p for p in crossed if len(p) == 2] or [tuple(single[:2])]
    figures = {}
    for pair in pairs:
        if len(pair) < 2:
            continue
        # The column of more values makes the rows: tables read better tall than wide.
        sizes = {column: len(group_trials(trials, column)) for column in pair}
        row, column = sorted(pair, key=lambda c: -sizes[c])
        if all(2 <= size <= MAX_CELLS for size in sizes.values()):
            figures[row, column] = heatmap_figure(eer_grid(trials, row, column))
    return figures


def _file_name(column: str) -> str:
    return "".join(c if c.isalnum() or c in "-_" else "_" for c in column)
