"""Figures at column width: DET curves and score histograms, for pages, papers and slides.

Every function returns a :class:`matplotlib.figure.Figure` that
:func:`voxfide.report.style.save_figure` writes as PDF, PNG or SVG.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np
from numpy.typing import ArrayLike

from voxfide.metrics.det import DetCurve, merged_det_curve
from voxfide.report.bands import det_band
from voxfide.report.markup import printable
from voxfide.report.style import (
    BONAFIDE_COLOUR,
    COLUMN_WIDTH,
    DASHES,
    PALETTE,
    SERIES,
    SPOOF_COLOUR,
    new_figure,
    quiet_style,
)
from voxfide.types import BoolArray, Float64Array, IntArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_TICKS_PERCENT: Final = (0.5, 1, 2, 5, 10, 20, 40)
_DEEP_TICKS_PERCENT: Final = (0.02, 0.1, 0.5, 2, 5, 10, 20, 40)
_WIDE_TICKS_PERCENT: Final = (0.1, 1, 5, 20, 50, 80, 95)
_MAX_POINTS: Final = 600


class ScoredTrials(Protocol):
    """Scores ``(trials,)`` with their classes ``(trials,)``; higher means more bona fide."""

    @property
    def score(self) -> Float64Array: ...

    @property
    def is_bonafide(self) -> BoolArray: ...


def rates_at(curve: DetCurve, threshold: float) -> tuple[float, float]:
    """Shares of bona fide rejected and of spoofs accepted when ``score >= threshold`` accepts.

    Args:
        curve: a merged curve (:func:`voxfide.metrics.det.merged_det_curve`).
    """
    index = min(int(np.searchsorted(curve.thresholds, threshold, side="left")), len(curve) - 1)
    return float(curve.frr[index]), float(curve.far[index])


def det_figure(
    systems: Mapping[str, ScoredTrials],
    *,
    marks: Mapping[str, Mapping[str, float]] | None = None,
    n_bootstrap: int = 0,
    confidence: float = 0.95,
    seed: int = 0,
    clusters: ArrayLike | None = None,
    width: float = COLUMN_WIDTH,
) -> Figure:
    """Detection error trade-off on normal-deviate axes (Martin et al., Eurospeech 1997).

    Args:
        systems: name → trials; several are told apart by colour and dashes, with a legend.
        marks: name → {label → threshold}: operating points to be marked on that curve.
        n_bootstrap: samples behind a confidence band around each curve, see
            :func:`voxfide.report.bands.det_band`; 0 for none.
        confidence: of the bands, point by point.
        seed: of the bands.
        clusters: ``(trials,)`` speakers, say, to resample instead of utterances; then all
            systems must have the same trials.
        width: inches; the axes are square.

    Raises:
        UsageError: see :func:`voxfide.metrics.trials.check_trials`.
    """
    curves = {name: merged_det_curve(t.score, t.is_bonafide) for name, t in systems.items()}
    with quiet_style():
        legend_rows = (len(systems) + 1) // 2 if len(systems) > 1 else 0
        fig, ax = new_figure(width, width * 0.96 + 0.17 * legend_rows)
        low, high = _det_limits(systems, curves)
        _probit_axes(ax, low, high)
        for index, (name, curve) in enumerate(curves.items()):
            shown = printable(name)
            colour = PALETTE[SERIES[index % len(SERIES)]]
            far, frr = _probit(curve.far, low, high), _probit(curve.frr, low, high)
            kept = _decimate(far, frr)
            x, y = far[kept], frr[kept]
            if n_bootstrap:
                trials = systems[name]
                outline = det_band(
                    trials.score, trials.is_bonafide, curve.thresholds[kept],
                    lambda p: _probit(p, low, high),
                    n_bootstrap=n_bootstrap, confidence=confidence, seed=seed, clusters=clusters,
                )  # fmt: skip
                ax.fill(*outline, color=colour, alpha=0.18, lw=0, gid=f"data-band-{shown}")
            ax.plot(x, y, color=colour, ls=DASHES[index % len(DASHES)], label=shown, gid=f"data-det-{shown}")
            _mark_points(ax, curve, (marks or {}).get(name, {}), colour, (low, high))
        if len(systems) > 1:
            fig.legend(loc="outside upper left", ncols=2)
        return fig


def histogram_figure(
    trials: ScoredTrials, *, thresholds: Mapping[str, float] | None = None, width: float = COLUMN_WIDTH
) -> Figure:
    """Score distributions of both classes, each as a share of its own class.

    The range holds the central 99.9 % of each class; what lies beyond is counted in the
    outermost bins, and the figure says how many that is.

    Args:
        thresholds: label → score, drawn as vertical lines.
        width: inches.
    """
    score = trials.score
    groups = {"bona fide": score[trials.is_bonafide], "spoof": score[~trials.is_bonafide]}
    low, high = _score_range([g for g in groups.values() if g.size], (thresholds or {}).values())
    smallest = min((g.size for g in groups.values() if g.size), default=1)
    edges = np.linspace(low, high, int(np.clip(3 * smallest ** (1 / 3), 12, 80)) + 1)
    with quiet_style():
        fig, ax = new_figure(width, width * 0.96)
        styles = zip(groups.items(), (BONAFIDE_COLOUR, SPOOF_COLOUR), ("-", DASHES[1]), strict=True)
        for (name, values), colour, dash in styles:
            share = np.histogram(np.clip(values, low, high), edges)[0] / max(values.size, 1) * 100
            ax.stairs(share, edges, fill=True, color=colour, alpha=0.22, lw=0)
            ax.stairs(share, edges, color=colour, lw=1.4, ls=dash, label=name, gid=f"data-scores-{name}")
        _threshold_lines(ax, thresholds or {})
        ax.grid(False, axis="x")
        ax.set_xlim(low, high)
        ax.set_ylim(0, ax.get_ylim()[1] * 1.12)
        outside = int(np.sum((score < low) | (score > high)))
        note = f"  ({outside:,} beyond the edges)" if outside else ""
        ax.set_xlabel(f"score → more bona fide{note}")
        ax.set_ylabel("share of the class per bin (%)")
        fig.legend(loc="outside upper left", ncols=2)
        return fig


def _det_limits(systems: Mapping[str, ScoredTrials], curves: Mapping[str, DetCurve]) -> tuple[float, float]:
    """One range for both axes: the curves between their upper ends, no finer than half an error."""
    worst = max(float(np.min(np.maximum(curve.frr, curve.far))) for curve in curves.values())
    high = 0.6 if worst < 0.4 else 0.98
    ends = [rates[other <= high].min() for c in curves.values() for rates, other in _both_ways(c)]
    trials = max(max(int(t.is_bonafide.sum()), int((~t.is_bonafide).sum())) for t in systems.values())
    floor = min(max(0.5 / trials, 0.0002), 0.02)
    return float(np.clip(0.6 * min(ends), floor, 0.02)), high


def _both_ways(curve: DetCurve) -> tuple[tuple[Float64Array, Float64Array], ...]:
    return (curve.frr, curve.far), (curve.far, curve.frr)


def _probit(p: Float64Array, low: float, high: float) -> Float64Array:
    """Normal deviates, with shares beyond the axes set just outside them."""
    from scipy.special import ndtri

    return np.asarray(ndtri(np.clip(p, low * 0.8, 1 - (1 - high) * 0.8)), dtype=np.float64)


def _probit_axes(ax: Axes, low: float, high: float) -> None:
    from scipy.special import ndtri

    wanted = _TICKS_PERCENT if low >= 0.004 else _DEEP_TICKS_PERCENT
    ticks = [t for t in (_WIDE_TICKS_PERCENT if high > 0.9 else wanted) if low <= t / 100 <= high]
    places = [float(ndtri(t / 100)) for t in ticks]
    limits = (float(ndtri(low)), float(ndtri(high)))
    ends = np.array(limits)
    ax.plot(ends, ends, color=PALETTE["grid"], lw=0.8, gid="data-equal-errors")
    if high > 0.9:
        ax.plot(ends, -ends, color=PALETTE["muted"], lw=0.8, ls=(0, (1, 2)), gid="data-guessing")
        ax.annotate(
            "guessing", (1.1, -1.1), xytext=(3, 3), textcoords="offset points", color=PALETTE["muted"]
        )
    ax.set(xlim=limits, ylim=limits, aspect="equal")
    ax.set_xticks(places, [f"{t:g}" for t in ticks])
    ax.set_yticks(places, [f"{t:g}" for t in ticks])
    ax.set_xlabel("spoofs accepted (%)")
    ax.set_ylabel("bona fide rejected (%)")


def _mark_points(
    ax: Axes, curve: DetCurve, marks: Mapping[str, float], colour: str, limits: tuple[float, float]
) -> None:
    places: dict[tuple[float, float], list[str]] = {}
    for label, threshold in marks.items():
        frr, far = rates_at(curve, threshold)
        x, y = (float(_probit(np.array([p]), *limits)[0]) for p in (far, frr))
        inside = (min(max(v, ax.get_xlim()[0]), ax.get_xlim()[1]) for v in (x, y))
        places.setdefault((next(inside), next(inside)), []).append(printable(label))
    for index, ((x, y), labels) in enumerate(places.items()):
        text = ", ".join(labels)
        ax.plot(
            [x], [y], marker="os^D"[index % 4], ms=5, mfc=colour, mec=PALETTE["ink"], mew=0.6,
            ls="none", clip_on=False, zorder=5, gid=f"data-mark-{text}",
        )  # fmt: skip
        # Right of the point the curve falls away; near the edge there is room only on its inner side.
        low, high = ax.get_xlim()
        left = x > low + 0.7 * (high - low)
        below = left and y > low + 0.1 * (high - low)
        near = 0.08 * (high - low)
        if any(abs(x - a) < near and abs(y - b) < near for a, b in list(places)[:index]):
            left, below = not left, not below  # the label of the other stands on this side
        ax.annotate(
            text, (x, y), xytext=(-6 if left else 6, -11 if below else 5), ha="right" if left else "left",
            textcoords="offset points", fontsize=7.5,
        )  # fmt: skip


def _decimate(x: Float64Array, y: Float64Array) -> IntArray:
    """Numbers of at most ``_MAX_POINTS`` points, evenly along the curve as drawn (both ends kept)."""
    if x.size <= _MAX_POINTS:
        return np.arange(x.size)
    length = np.concatenate([[0.0], np.cumsum(np.abs(np.diff(x)) + np.abs(np.diff(y)))])
    wanted = np.linspace(0.0, length[-1], _MAX_POINTS)
    return np.unique(np.minimum(np.searchsorted(length, wanted), x.size - 1))


def _score_range(groups: list[Float64Array], thresholds: Iterable[float]) -> tuple[float, float]:
    tails = [np.quantile(g, [0.0005, 0.9995]) for g in groups]
    values = [float(v) for v in np.concatenate(tails)] if tails else [0.0]
    values += [float(t) for t in thresholds if np.isfinite(t)]
    low, high = min(values), max(values)
    margin = 0.02 * (high - low) or 0.5
    return low - margin, high + margin


def _threshold_lines(ax: Axes, thresholds: Mapping[str, float]) -> None:
    for index, (label, threshold) in enumerate((printable(k), v) for k, v in thresholds.items()):
        if not np.isfinite(threshold):
            continue
        ax.axvline(threshold, color=PALETTE["ink"], lw=0.9, ls=DASHES[2 - index % 2], gid=f"data-at-{label}")
        ax.annotate(
            label, (threshold, 0.99 - 0.07 * index), xycoords=("data", "axes fraction"), xytext=(3, 0),
            textcoords="offset points", va="top", fontsize=7.5,
        )  # fmt: skip
