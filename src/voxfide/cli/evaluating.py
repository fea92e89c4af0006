"""``voxfide evaluate``: files in, tables and report out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from voxfide.cli.provenance import command_line, read_score_facts, versions
from voxfide.errors import UsageError
from voxfide.evaluation import Comparison, Evaluation, Key, Trials, align, align_systems, compare
from voxfide.evaluation import evaluate as measure
from voxfide.evaluation.asv_scores import read_asv_scores
from voxfide.evaluation.comparison import Against
from voxfide.evaluation.grid import ProtocolResult
from voxfide.evaluation.protocols import run_protocol
from voxfide.files import write_atomic
from voxfide.manifest import Manifest
from voxfide.metrics import METRICS
from voxfide.report.comparison import (
    comparisons_table,
    systems_by_table,
    systems_table,
    write_comparison_report,
)
from voxfide.report.tables import Column, Table
from voxfide.scores import read_scores


@dataclass(frozen=True)
class Evaluated:
    """An evaluation and what it was made from."""

    scores: Path
    key: Manifest
    trials: Trials
    evaluation: Evaluation


@dataclass(frozen=True)
class Several:
    """Systems evaluated on the same trials, by name, and their comparisons."""

    systems: dict[str, Evaluated]
    comparisons: list[Comparison]

    def to_json(self) -> dict[str, Any]:
        """What ``voxfide evaluate --json`` prints of several systems."""
        return {
            "systems": [{"name": n, **done.evaluation.to_json()} for n, done in self.systems.items()],
            "comparisons": [comparison.to_json() for comparison in self.comparisons],
        }


def evaluate_files(
    scores: Path,
    key: Path,
    by: Sequence[str],
    split: str | None,
    *,
    strict: bool,
    id_column: str | None = None,
    score_column: str | None = None,
    **settings: Any,
) -> Evaluated:
    """Reads, aligns and measures; see :func:`voxfide.evaluation.evaluate` for ``settings``."""
    manifest, labels = _read_key(key, split)
    found = read_scores(scores, id_column=id_column, score_column=score_column)
    trials = align(found, labels, strict=strict)
    return Evaluated(scores, manifest, trials, measure(trials, by, **settings))


def evaluate_systems(
    scores: Sequence[Path],
    key: Path,
    by: Sequence[str],
    split: str | None,
    against: str,
    *,
    strict: bool,
    id_column: str | None = None,
    score_column: str | None = None,
    **settings: Any,
) -> Several:
    """Reads all, checks that they cover the same trials, measures each and compares them."""
    manifest, labels = _read_key(key, split)
    files = named(scores)
    read = {n: read_scores(f, id_column=id_column, score_column=score_column) for n, f in files.items()}
    trials = align_systems(read, labels, strict=strict)
    done = {
        name: Evaluated(files[name], manifest, own, measure(own, by, **settings))
        for name, own in trials.items()
    }
    return Several(done, compare(trials, cast(Against, against), **settings))


def run_protocols(
    name: str,
    scores: Sequence[Path],
    key: Path,
    split: str | None,
    subset: str | None,
    asv_scores: Path | None,
    asv_key: Path | None,
    *,
    id_column: str | None = None,
    score_column: str | None = None,
) -> dict[str, ProtocolResult]:
    """The official evaluation of each system by name."""
    _, labels = _read_key(key, split)
    asv = None if asv_scores is None else read_asv_scores(asv_scores, asv_key)
    return {
        system: run_protocol(
            name, read_scores(file, id_column=id_column, score_column=score_column), labels, subset, asv
        )
        for system, file in named(scores).items()
    }


def _read_key(key: Path, split: str | None) -> tuple[Manifest, Key]:
    manifest = Manifest.read(key).require_valid().split(split)
    kept = [c for c in manifest.columns if c not in ("path", "label", "utterance_id")]
    columns = manifest.key(kept)
    return manifest, Key(columns.pop("utterance_id"), columns.pop("label"), columns)


def named(scores: Sequence[Path]) -> dict[str, Path]:
    """Score files by their names without suffix, or by their whole paths where those repeat.

    Raises:
        UsageError: a file given twice.
    """
    stems = [path.stem for path in scores]
    names = stems if len(set(stems)) == len(stems) else [str(path) for path in scores]
    if len(set(names)) < len(names):
        raise UsageError("a score file is given twice")
    return dict(zip(names, scores, strict=True))


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


def print_systems(several: Several) -> None:
    """Several systems as text on stdout: their figures, breakdowns and comparisons."""
    first = next(iter(several.systems.values())).evaluation
    print(f"{first.n_bonafide:,} bona fide, {first.n_spoof:,} spoof; higher score = more bona fide")
    if first.n_bootstrap:
        print(f"intervals: {first.confidence:.0%}, {first.n_bootstrap} bootstrap samples, the same for all")
    evaluations = {name: done.evaluation for name, done in several.systems.items()}
    print("\n" + systems_table(evaluations).to_text(), end="")
    for column in first.by:
        print("\n" + systems_by_table(evaluations, column).to_text(), end="")
    print("\n" + comparisons_table(several.comparisons).to_text(), end="")
    print()
    for comparison in several.comparisons:
        print(comparison.sentence())
    warnings = {f"{n}: {w}": None for n, e in evaluations.items() for w in e.warnings}
    for warning in warnings:
        print(f"\nwarning: {warning}")


def print_protocols(results: Mapping[str, ProtocolResult]) -> None:
    """Official tables as text on stdout, headed by the system's name where there are several."""
    for name, result in results.items():
        if len(results) > 1:
            print(f"== {name}")
        print(result.to_text(), end="")


def protocols_json(results: Mapping[str, ProtocolResult]) -> dict[str, Any]:
    """One system's result as it is; several under ``systems``."""
    if len(results) == 1:
        return next(iter(results.values())).to_json()
    return {"systems": [{"name": name, **result.to_json()} for name, result in results.items()]}


def write_systems(folder: Path, several: Several, players: bool) -> Path:
    """A report of the comparison, its tables, and each system's own report in a folder of its name."""
    from voxfide.report import det_figure, save_figure

    evaluations = {name: done.evaluation for name, done in several.systems.items()}
    trials = {name: done.trials for name, done in several.systems.items()}
    write_atomic(folder / "metrics.json", json.dumps(several.to_json(), indent=2, allow_nan=False) + "\n")
    write_atomic(folder / "systems.csv", systems_table(evaluations, intervals=True).to_csv())
    write_atomic(folder / "comparisons.csv", comparisons_table(several.comparisons).to_csv())
    for column in next(iter(evaluations.values())).by:
        table = systems_by_table(evaluations, column)
        write_atomic(folder / f"by_{_file_name(column)}.csv", table.to_csv())
    save_figure(det_figure(trials), folder / "det.pdf")
    folders = {name: _file_name(name) for name in several.systems}
    for number, (name, done) in enumerate(several.systems.items(), start=1):
        if list(folders.values()).count(folders[name]) > 1:
            folders[name] = f"{number}_{folders[name]}"
        write_evaluation(folder / folders[name], done, players)
    key = next(iter(several.systems.values())).key.source
    files = {name: str(done.scores) for name, done in several.systems.items()}
    provenance = {"Command": command_line(), "Key": key, "Scores": files, "Versions": versions()}
    return write_comparison_report(
        folder / "report.html",
        evaluations,
        trials,
        several.comparisons,
        provenance=provenance,
        own_reports={name: f"{folders[name]}/report.html" for name in folders},
    )


def write_evaluation(folder: Path, done: Evaluated, players: bool) -> Path:
    """Writes ``report.html``, ``metrics.json``, a CSV a table and the figures; returns the report's path."""
    from voxfide.report import write_evaluation_report, write_figures

    evaluation, trials = done.evaluation, done.trials
    write_atomic(folder / "metrics.json", json.dumps(evaluation.to_json(), indent=2, allow_nan=False) + "\n")
    write_atomic(folder / "metrics.csv", metrics_table(evaluation).to_csv())
    for column in evaluation.by:
        write_atomic(folder / f"by_{_file_name(column)}.csv", breakdown_table(evaluation, column).to_csv())
    write_figures(folder, trials, evaluation)
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
