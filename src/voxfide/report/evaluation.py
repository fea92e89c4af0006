"""The report of an evaluation: how good the scores are, where they fail, and how it was found."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from voxfide.metrics.det import DetCurve, merged_det_curve
from voxfide.report.evaluation_figures import BAND_SAMPLES, group_blocks, likelihood_blocks
from voxfide.report.figures import det_figure, histogram_figure, rates_at
from voxfide.report.page import Block, Figure, Figures, KeyValues, Notice, Page, Prose, Section, Stat, Stats
from voxfide.report.players import Budget
from voxfide.report.tables import MISSING, Column, Table, number, show
from voxfide.report.wording import Meaning, meaning_of, plain_words
from voxfide.report.worst import worst_blocks
from voxfide.types import PathLike

if TYPE_CHECKING:
    from voxfide.evaluation import Evaluation, Group, Metric, Trials

MAX_GROUPS = 200
"""Rows of one breakdown; the worst are shown and the rest counted."""

_EER_COLUMN = Column("eer_percent", "EER (%)", ".2f", estimate=True)
_THRESHOLDS = {"eer": "EER", "min_dcf": "minDCF"}
"""Read on the official DET curve: the highest rejected score."""


def write_evaluation_report(
    path: PathLike,
    evaluation: Evaluation,
    trials: Trials,
    *,
    title: str,
    provenance: Mapping[str, str | Mapping[str, Any]],
    audio_paths: Mapping[str, Path] | None = None,
    notes: Sequence[str] = (),
    budget: Budget | None = None,
) -> Path:
    """Writes one self-contained HTML file, atomically; the same input gives the same bytes.

    Args:
        path: the file to write; its folder is made if missing.
        evaluation: the figures of ``trials``.
        trials: scores, classes and the columns that describe them.
        title: what was evaluated.
        provenance: how it came about: name → text, or group → {name → text}
            (``"Versions"``, ``"Missing trials"`` …); long groups are folded.
        audio_paths: utterance id → file, for players beside the worst errors; ``None`` for none.
        notes: limits and remarks in sentences.
        budget: how much audio the page may carry.

    Raises:
        UsageError: scores that are not finite or of one class only.
        OSError: the file cannot be written.
    """
    curve = merged_det_curve(trials.score, trials.is_bonafide)
    sections = [
        Section("Result", _result(evaluation)),
        Section("Metrics", _metrics(evaluation)),
        Section("Errors and scores", _figures(evaluation, trials, curve)),
        Section("Scores as likelihood ratios", likelihood_blocks(trials)),
    ]
    if evaluation.by:
        blocks = [*_breakdown(evaluation), *group_blocks(evaluation, trials)]
        sections.append(Section("Breakdown", blocks))
    worst = worst_blocks(
        trials,
        evaluation.thresholds["eer"],
        _own_columns(evaluation, trials),
        audio_paths,
        budget or Budget(),
    )
    sections.append(Section("Worst errors", worst))
    sections.append(Section("Limits", _limits(notes)))
    sections.append(Section("What was run", _provenance(evaluation, provenance)))
    total = evaluation.n_bonafide + evaluation.n_spoof
    subtitle = (
        f"{total:,} trials: {evaluation.n_bonafide:,} bona fide and {evaluation.n_spoof:,} spoof. "
        "A higher score means more bona fide."
    )
    return Page(title, subtitle, sections, kicker="Spoofed-speech detection · evaluation").write(path)


def _result(evaluation: Evaluation) -> list[Block]:
    metrics = evaluation.metrics
    stats = [
        _stat(name, metrics[name], evaluation.confidence)
        for name in ("eer_percent", "min_dcf", "cllr", "auc")
        if name in metrics
    ]
    eer = metrics["eer_percent"]
    paragraphs = [
        plain_words(eer.value, eer.interval),
        "Each recording was given one score. A higher score means more bona fide (genuine human speech), "
        "a lower one more likely spoofed (made or altered by a machine).",
    ]
    blocks: list[Block] = [Stats(stats), Prose(paragraphs)]
    if evaluation.warnings:
        blocks.append(Notice(evaluation.warnings, "warning"))
    return blocks


def _metrics(evaluation: Evaluation) -> list[Block]:
    percent = f"{evaluation.confidence * 100:g} %"
    columns = [
        Column("metric", "Metric"),
        Column("value", "Value", right=True),
        Column("interval", f"{percent} interval", right=True),
        Column("meaning", "What it says", wrap=True),
    ]
    rows = []
    for name, metric in evaluation.metrics.items():
        meaning = meaning_of(name)
        ends = _range(meaning, metric.interval) if metric.interval else MISSING
        rows.append((meaning.title, number(metric.value, meaning.spec), ends, meaning.text))
    if evaluation.n_bootstrap:
        how = f"Intervals: {percent}, from {evaluation.n_bootstrap:,} bootstrap resamples of the trials."
    else:
        how = "Computed without intervals."
    return [Table(columns, rows, f"All trials pooled. {how}")]


def _figures(evaluation: Evaluation, trials: Trials, curve: DetCurve) -> list[Block]:
    thresholds = _operating_thresholds(evaluation)
    eer = number(evaluation.metrics["eer_percent"].value, ".2f")
    marks = {"EER": f"EER {eer} %", "minDCF": f"minDCF {number(evaluation.metrics['min_dcf'].value, '.3f')}"}
    samples = min(evaluation.n_bootstrap, BAND_SAMPLES)
    band = f" Shaded: {evaluation.confidence * 100:g} % band, point by point." if samples else ""
    det = Figure(
        det_figure(
            {"scores": trials},
            marks={"scores": {marks[k]: v for k, v in thresholds.items()}},
            n_bootstrap=samples,
            confidence=evaluation.confidence,
            seed=evaluation.seed,
        ),
        "Detection error trade-off: each point of the curve is one threshold, on normal-deviate axes. "
        f"Towards the lower left is better; the diagonal is where both errors are equal.{band}",
        f"DET curve of spoofs accepted against bona fide rejected; equal error rate {eer} %.",
    )
    histogram = Figure(
        histogram_figure(trials, thresholds={k: v for k, v in thresholds.items() if k == "EER"}),
        "Scores of both classes, each as a share of its own class, with the threshold of equal errors. "
        "Where the two overlap, errors are made.",
        "Histograms of the scores of bona fide and spoofed recordings. "
        f"Medians: {_median(trials, True):.3g} bona fide, {_median(trials, False):.3g} spoof.",
    )
    return [Figures([det, histogram]), _operating_points(thresholds, curve)]


def _operating_points(thresholds: Mapping[str, float], curve: DetCurve) -> Table:
    rows: list[tuple[Any, ...]] = []
    for name, threshold in thresholds.items():
        frr, far = rates_at(curve, threshold)
        rows.append((f"{name} threshold", threshold, 100 * far, 100 * frr))
    for target in (0.01, 0.05, 0.10):
        index = int(np.argmax(curve.far <= target))
        rates = (100 * float(curve.far[index]), 100 * float(curve.frr[index]))
        name = f"at most {target * 100:g} % of spoofs accepted"
        rows.append((name, float(curve.thresholds[index]), *rates))
    columns = [
        Column("point", "Operating point"),
        Column("threshold", "Score at least", ".4f"),
        Column("far_percent", "Spoofs accepted (%)", ".2f"),
        Column("frr_percent", "Bona fide rejected (%)", ".2f"),
    ]
    caption = (
        "What a threshold costs, read from these trials: a recording is accepted as bona fide "
        "if its score reaches the threshold."
    )
    return Table(columns, rows, caption)


def _breakdown(evaluation: Evaluation) -> list[Block]:
    pooled = evaluation.metrics["eer_percent"].value
    tables: list[Block] = []
    for column, groups in evaluation.by.items():
        caption = (
            f"By {column}, worst first. Bars: EER with its interval, from 0 to the largest here; "
            "the dotted line is the EER of all trials."
        )
        macro = evaluation.by_macro.get(column, {}).get("eer_percent")
        if macro is not None and not math.isnan(macro.value):
            caption += f" Plain mean of the groups: {show(macro, _EER_COLUMN)} %."
        notes = {group.note for group in groups if group.metrics}
        shared = notes.pop() if len(notes) == 1 else ""
        if shared:
            caption += f" {shared[0].upper()}{shared[1:]}."
        if len(groups) > MAX_GROUPS:
            caption += f" The {MAX_GROUPS} worst of {len(groups):,} are shown."
        tables.append(_group_table(column, groups[:MAX_GROUPS], caption, pooled, shared))
    return tables


def _group_table(
    column: str, groups: Sequence[Group], caption: str, pooled: float, shared_note: str
) -> Table:
    others = [name for name in ("min_dcf", "cllr", "auc") if any(name in (g.metrics or {}) for g in groups)]
    notes = ["" if group.note == shared_note else group.note for group in groups]
    columns = [
        Column(column),
        replace(_EER_COLUMN, bar=True, reference=pooled),
        *(Column(name, meaning_of(name).title, ".3f") for name in others),
        Column("n_bonafide", "Bona fide"),
        Column("n_spoof", "Spoof"),
        *([Column("note", "Note", wrap=True)] if any(notes) else []),
    ]
    rows = []
    for group, note in zip(groups, notes, strict=True):
        metrics = group.metrics or {}
        figures = (metrics[name].value if name in metrics else None for name in others)
        row = (group.value, metrics.get("eer_percent"), *figures, group.n_bonafide, group.n_spoof)
        rows.append((*row, note) if any(notes) else row)
    return Table(columns, rows, caption, sortable=len(rows) > 2)


def _own_columns(evaluation: Evaluation, trials: Trials) -> list[str]:
    """The columns that were broken down by, alone or joined with others."""
    parts = (part.strip() for name in evaluation.by for part in (name, *name.split(",")))
    return list(dict.fromkeys(part for part in parts if part in trials.columns))


def _limits(notes: Sequence[str]) -> list[Block]:
    standing = [
        "These figures hold for these trials. Attacks, speakers, languages, codecs and rooms that are not "
        "among them can fare much better or worse.",
        "Intervals cover the chance of which trials were drawn, not a change of conditions. Where trials "
        "resemble each other (one speaker, one source) and were drawn one by one, they are too narrow.",
    ]
    return [Notice([*notes, *standing])]


def _provenance(evaluation: Evaluation, provenance: Mapping[str, Any]) -> list[Block]:
    counts = {"Bona fide": f"{evaluation.n_bonafide:,}", "Spoof": f"{evaluation.n_spoof:,}"}
    settings = {
        "Bootstrap resamples": f"{evaluation.n_bootstrap:,}",
        "Confidence": f"{evaluation.confidence * 100:g} %",
        "Seed": evaluation.seed,
    }
    return [KeyValues({**provenance, "Trials evaluated": counts, "Intervals": settings})]


def _operating_thresholds(evaluation: Evaluation) -> dict[str, float]:
    """Label → lowest accepted score; the official threshold is the highest rejected one."""
    return {
        label: float(np.nextafter(evaluation.thresholds[name], np.inf)) for name, label in _THRESHOLDS.items()
    }


def _stat(name: str, metric: Metric, confidence: float) -> Stat:
    meaning = meaning_of(name)
    detail = "no interval"
    if metric.interval is not None:
        detail = f"{confidence * 100:g} % interval {_range(meaning, metric.interval)}"
    return Stat(meaning.name, number(metric.value, meaning.spec), detail, meaning.unit)


def _median(trials: Trials, bonafide: bool) -> float:
    return float(np.median(trials.score[trials.is_bonafide == bonafide]))


def _range(meaning: Meaning, interval: tuple[float, float]) -> str:
    return f"{number(interval[0], meaning.spec)} to {number(interval[1], meaning.spec)}"
