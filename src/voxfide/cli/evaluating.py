"""``voxfide evaluate``: files in, tables and report out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from voxfide.cli.provenance import command_line, read_score_facts, versions
from voxfide.evaluation import Evaluation, Key, Trials, align
from voxfide.evaluation import evaluate as measure
from voxfide.files import write_atomic
from voxfide.manifest import Manifest
from voxfide.metrics import METRICS
from voxfide.report.tables import Column, Table
from voxfide.scores import read_scores


@dataclass(frozen=True)
class Evaluated:
    """An evaluation and what it was made from."""

    scores: Path
    key: Manifest
    trials: Trials
    evaluation: Evaluation


def evaluate_files(
    scores: Path, key: Path, by: Sequence[str], split: str | None, *, strict: bool, **settings: Any
) -> Evaluated:
    """Reads, aligns and measures; see :func:`voxfide.evaluation.evaluate` for ``settings``."""
    manifest = Manifest.read(key).require_valid().split(split)
    kept = [c for c in manifest.columns if c not in ("path", "label", "utterance_id")]
    columns = manifest.key(kept)
    trials = align(
        read_scores(scores),
        Key(columns.pop("utterance_id"), columns.pop("label"), columns),
        strict=strict,
    )
    return Evaluated(scores, manifest, trials, measure(trials, by, **settings))


def metrics_table(evaluation: Evaluation) -> Table:
    """Every metric with its interval, a row each."""
    rows = [(spec.summary, evaluation.metrics[spec.name]) for spec in METRICS]
    return Table([Column("metric"), Column("value", spec=".4g", estimate=True)], rows)


def breakdown_table(evaluation: Evaluation, column: str) -> Table:
    """Metrics of each value of a column, worst first."""
    names = [spec.name for spec in METRICS]
    rows = [
        (g.value, g.n_bonafide, g.n_spoof, *((g.metrics or {}).get(n) for n in names), g.note)
        for g in evaluation.by[column]
    ]
    estimates = [Column(n, spec=".2f" if n.endswith("percent") else ".3f", estimate=True) for n in names]
    counts = [Column("n_bonafide", "bona fide"), Column("n_spoof", "spoof")]
    columns = [Column(column), *counts, *estimates, Column("note")]
    return Table(columns, rows)


def print_evaluation(evaluation: Evaluation) -> None:
    """The figures as text on stdout."""
    print(f"{evaluation.n_bonafide:,} bona fide, {evaluation.n_spoof:,} spoof; higher score = more bona fide")
    if evaluation.n_bootstrap:
        print(f"intervals: {evaluation.confidence:.0%}, {evaluation.n_bootstrap} bootstrap samples")
    print()
    print(metrics_table(evaluation).to_text(), end="")
    for column, groups in evaluation.by.items():
        shown = [(g.value, g.n_bonafide, g.n_spoof, (g.metrics or {}).get("eer_percent")) for g in groups]
        columns = [
            Column(column), Column("n_bonafide", "bona fide"), Column("n_spoof", "spoof"),
            Column("eer_percent", "EER %", spec=".2f", estimate=True),
        ]  # fmt: skip
        print("\n" + Table(columns, shown).to_text(), end="")
        for note in sorted({g.note for g in groups if g.note}):
            print(f"({note})")
    for warning in evaluation.warnings:
        print(f"\nwarning: {warning}")


def write_evaluation(folder: Path, done: Evaluated, players: bool) -> Path:
    """Writes ``report.html``, ``metrics.json``, a CSV a table and the figures; returns the report's path."""
    from voxfide.report import det_figure, histogram_figure, save_figure, write_evaluation_report

    evaluation, trials = done.evaluation, done.trials
    write_atomic(folder / "metrics.json", json.dumps(evaluation.to_json(), indent=2, allow_nan=False) + "\n")
    write_atomic(folder / "metrics.csv", metrics_table(evaluation).to_csv())
    for column in evaluation.by:
        write_atomic(folder / f"by_{_file_name(column)}.csv", breakdown_table(evaluation, column).to_csv())
    save_figure(det_figure({done.scores.stem: trials}), folder / "det.pdf")
    save_figure(
        histogram_figure(trials, thresholds={"EER": evaluation.thresholds["eer"]}), folder / "scores.pdf"
    )
    paths = None
    if players:
        names = done.key.column("utterance_id")
        paths = dict(zip(names, done.key.audio_paths(), strict=True))
    return write_evaluation_report(
        folder / "report.html",
        evaluation,
        trials,
        title=f"Evaluation of {done.scores.name}",
        provenance=_provenance(done),
        audio_paths=paths,
    )


def _provenance(done: Evaluated) -> Mapping[str, Any]:
    facts = read_score_facts(done.scores)
    shown: dict[str, Any] = {"Command": command_line(), "Scores": str(done.scores), "Key": done.key.source}
    for name, title in (("detector", "Detector"), ("manifest", "Scored manifest"), ("counts", "Counts")):
        if isinstance(facts.get(name), dict):
            shown[title] = {k: str(v) for k, v in facts[name].items()}
    if "command" in facts:
        shown["Scoring command"] = str(facts["command"])
    shown["Versions"] = facts.get("versions") or versions()
    return shown


def _file_name(column: str) -> str:
    return "".join(c if c.isalnum() or c in "-_" else "_" for c in column)
