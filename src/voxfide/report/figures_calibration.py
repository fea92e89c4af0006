"""Figures of scores read as log likelihood ratios: Tippett, reliability and Bayes error rate.

Like every figure here, at column width, for colour and for grey.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from voxfide.calibration import probability_bonafide
from voxfide.errors import UsageError
from voxfide.metrics.dcf import ASVSPOOF5_COST
from voxfide.metrics.det import merged_det_curve
from voxfide.metrics.trials import check_trials, split_classes
from voxfide.report.figures import ScoredTrials
from voxfide.report.style import (
    BONAFIDE_COLOUR,
    COLUMN_WIDTH,
    DASHES,
    PALETTE,
    SPOOF_COLOUR,
    new_figure,
    quiet_style,
)
from voxfide.types import Float64Array, IntArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_PRIOR_TICKS_PERCENT: Final = (0.1, 1, 10, 50, 90, 99, 99.9)
_MAX_POINTS: Final = 400
_FULL_BIN: Final = 10
"""Trials below which a bin is drawn hollow and no line leads to it."""


def tippett_figure(trials: ScoredTrials, *, width: float = COLUMN_WIDTH) -> Figure:
    """Tippett plot: for each class, the share of trials whose LLR is at least the abscissa.

    D. Meuwly, "Reconnaissance de locuteurs en sciences forensiques", 2001. Read at 0, the
    spoof curve gives the share of spoofs that speak for bona fide and the other curve, from
    above, the share of bona fide that speak for spoof: the rates of misleading evidence.

    Args:
        trials: scores that are natural-log likelihood ratios.
        width: inches.

    Raises:
        UsageError: see :func:`voxfide.metrics.trials.check_trials`.
    """
    bonafide, spoof = split_classes(trials.score, trials.is_bonafide)
    ends = np.concatenate([np.quantile(g, [0.0005, 0.9995]) for g in (bonafide, spoof)])
    low, high = min(float(ends.min()), -0.5), max(float(ends.max()), 0.5)
    margin = 0.03 * (high - low)
    with quiet_style():
        fig, ax = new_figure(width, width * 0.86)
        ax.axvline(0, color=PALETTE["muted"], lw=0.8, ls=DASHES[2], gid="data-zero")
        misled = 100 * float(np.mean(bonafide < 0)), 100 * float(np.mean(spoof >= 0))
        rows = (
            ("bona fide", bonafide, BONAFIDE_COLOUR, "-", "o", 100 - misled[0], f"{misled[0]:.1f} % below 0"),
            ("spoof", spoof, SPOOF_COLOUR, DASHES[1], "s", misled[1], f"{misled[1]:.1f} % at 0 or above"),
        )
        for name, values, colour, dash, marker, height, said in rows:
            x = _evenly(values)
            share = 100 * (1 - np.searchsorted(values, x, side="left") / values.size)
            x = np.concatenate([[low - margin], x, [high + margin]])
            share = np.concatenate([[100], share, [0]])
            ax.plot(
                x, share, color=colour, ls=dash, label=f"{name}: {said}", gid=f"data-tippett-{name}",
                drawstyle="steps-pre" if values.size <= _MAX_POINTS else "default",
            )  # fmt: skip
            ax.plot(
                [0], [height], marker=marker, ms=4.5, mfc=colour, mec=PALETTE["ink"], mew=0.6, ls="none",
                zorder=5, gid=f"data-misled-{name}",
            )  # fmt: skip
        ax.set(xlim=(low - margin, high + margin), ylim=(-2, 102))
        ax.set_xlabel("log likelihood ratio → more bona fide")
        ax.set_ylabel("trials at or above (%)")
        fig.legend(loc="outside upper left")
        return fig


def _evenly(values: Float64Array) -> Float64Array:
    """At most ``_MAX_POINTS`` of the ascending values, evenly by rank (both ends kept)."""
    if values.size <= _MAX_POINTS:
        return np.unique(values)
    ranks = np.linspace(0, values.size - 1, _MAX_POINTS).round().astype(int)
    return np.unique(values[ranks])


@dataclass(frozen=True)
class Reliability:
    """Trials in bins of their probability of bona fide; ``(bins,)`` each, empty bins left out.

    Attributes:
        left: lower edge of each bin.
        predicted: average probability in the bin.
        observed: share of bona fide in the bin, each class weighing what the prior says.
        low: lower end of the interval of ``observed``.
        high: upper end.
        n_bonafide: trials.
        n_spoof: trials.
    """

    left: Float64Array
    predicted: Float64Array
    observed: Float64Array
    low: Float64Array
    high: Float64Array
    n_bonafide: IntArray
    n_spoof: IntArray


def reliability(
    trials: ScoredTrials, *, prior: float = 0.5, n_bins: int = 10, confidence: float = 0.95
) -> Reliability:
    """What a reliability diagram shows.

    The classes of a test set rarely stand in the proportion of the prior; so the counts are
    weighted to it, and the ends of Wilson's interval of the raw share (E. B. Wilson, 1927)
    go through the same map.

    Raises:
        UsageError: a prior not strictly between 0 and 1, fewer than 2 bins; or see
            :func:`voxfide.metrics.trials.check_trials`.
    """
    from scipy.special import ndtri

    score, is_bonafide = check_trials(trials.score, trials.is_bonafide)
    if n_bins < 2:
        raise UsageError(f"{n_bins} bins; expected at least 2")
    probability = probability_bonafide(score, prior)
    place = np.minimum((probability * n_bins).astype(int), n_bins - 1)
    counts = np.stack([np.bincount(place[part], minlength=n_bins) for part in (is_bonafide, ~is_bonafide)])
    total = counts.sum(axis=0)
    used = total > 0
    counts, total = counts[:, used], total[used]
    totals = counts.sum(axis=1)
    factor = prior / totals[0] / ((1 - prior) / totals[1])
    weights = np.where(is_bonafide, factor, 1.0)
    mass = np.bincount(place, weights, minlength=n_bins)[used]
    predicted = np.bincount(place, weights * probability, minlength=n_bins)[used] / mass
    z = float(ndtri((1 + confidence) / 2))
    share = counts[0] / total
    middle = (share + z * z / (2 * total)) / (1 + z * z / total)
    half = z / (1 + z * z / total) * np.sqrt(share * (1 - share) / total + z * z / (4 * total**2))
    low, high = (np.clip(p, 0, 1) for p in (middle - half, middle + half))
    observed, low, high = (factor * p / (factor * p + 1 - p) for p in (share, low, high))
    return Reliability(np.flatnonzero(used) / n_bins, predicted, observed, low, high, *counts)


def reliability_figure(
    trials: ScoredTrials,
    *,
    prior: float = 0.5,
    n_bins: int = 10,
    confidence: float = 0.95,
    width: float = COLUMN_WIDTH,
) -> Figure:
    """Reliability diagram: how often trials of a stated probability of bona fide are bona fide.

    M. H. DeGroot, S. E. Fienberg, "The comparison and evaluation of forecasters", The
    Statistician 32, 1983. Points on the diagonal are right; below it, "bona fide" is said with
    too much confidence. Bins of fewer than 10 trials are hollow. Beneath, how many trials each
    bin holds. Arguments and errors as for
    :func:`reliability`; ``width`` in inches.
    """
    found = reliability(trials, prior=prior, n_bins=n_bins, confidence=confidence)
    with quiet_style():
        from matplotlib.figure import Figure

        fig = Figure(figsize=(width, width * 1.14), layout="constrained")
        ax, below = fig.subplots(2, 1, sharex=True, height_ratios=(3.4, 1))
        ax.plot([0, 100], [0, 100], color=PALETTE["muted"], lw=0.8, ls=DASHES[2], gid="data-diagonal")
        x, y = 100 * found.predicted, 100 * found.observed
        spread = 100 * np.stack([found.observed - found.low, found.high - found.observed]).clip(0)
        ax.errorbar(x, y, spread, ls="none", ecolor=PALETTE["muted"], elinewidth=1.0, capsize=2)
        full = found.n_bonafide + found.n_spoof >= _FULL_BIN
        marker: dict[str, Any] = {"marker": "o", "ms": 4.5, "mec": PALETTE["ink"], "mew": 0.6}
        ax.plot(x[full], y[full], color=BONAFIDE_COLOUR, lw=1.2, gid="data-reliability", **marker)
        ax.plot(x[~full], y[~full], ls="none", mfc="none", gid="data-sparse", **marker)
        ax.set(ylim=(-3, 103), xlim=(-2, 102))
        ax.set_ylabel("bona fide in truth (%)")
        _counts_panel(below, found, n_bins)
        below.set_xlabel(f"stated probability of bona fide (%), prior {100 * prior:g} %")
        fig.legend(*below.get_legend_handles_labels(), loc="outside upper left", ncols=2)
        return fig


def _counts_panel(ax: Axes, found: Reliability, n_bins: int) -> None:
    left, step = 100 * found.left, 100 / n_bins
    total = found.n_bonafide + found.n_spoof
    bar: dict[str, Any] = {"align": "edge", "lw": 0.5, "ec": PALETTE["ink"]}
    ax.bar(left + 0.08 * step, found.n_bonafide, 0.84 * step, color=BONAFIDE_COLOUR, label="bona fide", **bar)
    ax.bar(left + 0.08 * step, found.n_spoof, 0.84 * step, bottom=found.n_bonafide,
           color=SPOOF_COLOUR, label="spoof", **bar)  # fmt: skip
    for x, n in zip(left + step / 2, total, strict=True):
        ax.annotate(_short(int(n)), (x, n), (0, 1.5), textcoords="offset points", ha="center", fontsize=6.5)
    ax.set_ylim(0, 1.3 * total.max())
    ax.set_yticks([])
    ax.grid(False)
    ax.set_ylabel("trials")


def _short(n: int) -> str:
    """Three figures at the most."""
    if n < 1000:
        return str(n)
    if n < 999_500:
        return f"{n / 1000:.1f}k" if n < 9950 else f"{n / 1000:.0f}k"
    return f"{n / 1e6:.1f}M"


@dataclass(frozen=True)
class BayesError:
    """Probability of error over the prior, ``(points,)`` each.

    Attributes:
        prior: of bona fide.
        actual: with each prior's Bayes threshold, the scores being taken as LLRs.
        minimum: with the best threshold for these trials.
        default: without looking at the scores: ``min(prior, 1 - prior)``.
    """

    prior: Float64Array
    actual: Float64Array
    minimum: Float64Array
    default: Float64Array


def bayes_error(trials: ScoredTrials, log_odds: Float64Array) -> BayesError:
    """Applied probability of error (N. Brümmer, J. du Preez 2006) at prior log odds ``(points,)``.

    The area under ``actual`` over the log odds is ``2 log(2)`` Cllr, that under ``minimum``
    ``2 log(2)`` minimum Cllr.

    Raises:
        UsageError: see :func:`voxfide.metrics.trials.check_trials`.
    """
    bonafide, spoof = split_classes(trials.score, trials.is_bonafide)
    prior = 1 / (1 + np.exp(-log_odds))
    frr = np.searchsorted(bonafide, -log_odds, side="left") / bonafide.size
    far = 1 - np.searchsorted(spoof, -log_odds, side="left") / spoof.size
    curve = merged_det_curve(trials.score, trials.is_bonafide)
    # The best threshold lies where the next trial up is bona fide and the last one down a spoof.
    corner = (np.diff(curve.frr, append=np.inf) > 0) & (np.diff(curve.far, prepend=np.inf) < 0)
    frr_there, far_there = curve.frr[corner], curve.far[corner]
    minimum = np.array([np.min(p * frr_there + (1 - p) * far_there) for p in prior])
    return BayesError(prior, prior * frr + (1 - prior) * far, minimum, np.minimum(prior, 1 - prior))


def bayes_error_figure(
    trials: ScoredTrials, *, normalised: bool = False, width: float = COLUMN_WIDTH
) -> Figure:
    """Applied probability of error over the prior, or normalised by the best guess without scores.

    The shaded area between the curves is what calibration could still win. Towards either end a
    guess by the prior alone is hard to beat; above the dotted line the scores do harm.

    Args:
        trials: scores that are natural-log likelihood ratios.
        normalised: divide by ``min(prior, 1 - prior)``: the normalised Bayes error rate.
        width: inches.

    Raises:
        UsageError: see :func:`voxfide.metrics.trials.check_trials`.
    """
    log_odds = np.linspace(-7.2, 7.2, 289)
    found = bayes_error(trials, log_odds)
    scale = 1 / found.default if normalised else np.full_like(log_odds, 100.0)
    actual, minimum, default = (scale * y for y in (found.actual, found.minimum, found.default))
    with quiet_style():
        fig, ax = new_figure(width, width * 0.86)
        ax.fill_between(log_odds, minimum, actual, color=BONAFIDE_COLOUR, alpha=0.18, lw=0, gid="data-loss")
        curves = (
            ("default", default, PALETTE["muted"], DASHES[2]),
            ("minimum", minimum, SPOOF_COLOUR, DASHES[1]),
            ("actual", actual, BONAFIDE_COLOUR, "-"),
        )
        for name, y, colour, dash in curves:
            ax.plot(log_odds, y, color=colour, ls=dash, label=name, gid=f"data-error-{name}")
        top = 1.12 * float(max(actual.max(), minimum.max()))
        top = min(max(top, 1.15), 2.0) if normalised else min(max(top, 1.0), 100.0)
        _mark_asvspoof5(ax)
        ax.set(xlim=(log_odds[0], log_odds[-1]), ylim=(0, top))
        shares = np.array(_PRIOR_TICKS_PERCENT) / 100
        ax.set_xticks(np.log(shares / (1 - shares)), [f"{t:g}" for t in _PRIOR_TICKS_PERCENT])
        ax.set_xlabel("prior probability of bona fide (%), log odds")
        ax.set_ylabel("normalised Bayes error rate" if normalised else "probability of error (%)")
        handles, labels = ax.get_legend_handles_labels()
        fig.legend(handles[::-1], labels[::-1], loc="outside upper left", ncols=3)
        return fig


def _mark_asvspoof5(ax: Axes) -> None:
    place = -ASVSPOOF5_COST.threshold
    ax.axvline(place, color=PALETTE["muted"], lw=0.8, gid="data-asvspoof5")
    ax.annotate(
        "ASVspoof 5", (place, 0), (3, 3), textcoords="offset points", fontsize=7, color=PALETTE["muted"]
    )
