"""``voxfide fuse`` and ``voxfide fuse-scores``: scores of several systems to log likelihood ratios."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from voxfide.cli import console
from voxfide.errors import UsageError

if TYPE_CHECKING:
    from voxfide.fusion import FusionOptions, FusionRecord, JointTrials

ScoreFiles = Annotated[list[Path], typer.Argument(metavar="SCORES...", help="Score files, one a system.")]


def fuse(
    scores: ScoreFiles,
    key: Annotated[Path, typer.Option("--key", metavar="MANIFEST", help="Manifest with the labels.")],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="FUSION.json", help="File to write.")],
    method: Annotated[
        str, typer.Option(help="logistic, mean (equal weights) or best (one system).")
    ] = "logistic",
    inputs: Annotated[
        str, typer.Option(help="scores, or probabilities that they give at --input-prior.")
    ] = "scores",
    input_prior: Annotated[float, typer.Option(help="Of bona fide, for the probabilities.")] = 0.5,
    prior: Annotated[
        float | None,
        typer.Option(help="Of bona fide: what the classes weigh in the fit; by default trials weigh alike."),
    ] = None,
    c: Annotated[float, typer.Option("--C", help="Inverse strength of the penalty on the weights.")] = 1e3,
    folds: Annotated[int, typer.Option(min=0, help="Of the cross-validation; 0 for none.")] = 5,
    groups: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="Keep values of this column, e.g. speaker, together."),
    ] = None,
    split: Annotated[str | None, typer.Option("--split", help="Use only rows of this split.")] = None,
    bootstrap: Annotated[int, typer.Option(min=0, help="Samples for the intervals; 0 for none.")] = 1000,
    confidence: Annotated[float, typer.Option(help="Of the intervals.")] = 0.95,
    seed: Annotated[int, typer.Option(min=0, help="Of folds and bootstrap.")] = 0,
    ablation: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write tables of all subsets of the systems here.")
    ] = None,
    on: Annotated[
        list[str] | None,
        typer.Option(
            "--on",
            metavar="NAME=SCORES,SCORES,…",
            help="With --ablation: measure there too; score files in the same order of systems; repeatable.",
        ),
    ] = None,
    on_key: Annotated[
        list[str] | None,
        typer.Option("--on-key", metavar="NAME=MANIFEST", help="Its key, if not that of --key; repeatable."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print FUSION.json.")] = False,
) -> None:
    """Learn to fuse several systems.

    Logistic regression over their scores on one set of trials, preferably not those that they
    were trained on. Weights may be negative. `voxfide fuse-scores` applies the result,
    `voxfide ensemble` makes one detector of it.
    """
    from voxfide.fusion import FusionOptions, learn_fusion

    options = FusionOptions(method, inputs, input_prior, prior, c)  # type: ignore[arg-type]
    if (on or on_key) and ablation is None:
        raise UsageError("--on and --on-key belong to --ablation DIR")
    trials, facts = read_joint(scores, key, split, groups)
    others = _other_sets(trials.systems, on or [], on_key or [], key, groups)
    settings: dict[str, Any] = {
        "n_folds": folds, "groups": groups, "n_bootstrap": bootstrap, "confidence": confidence, "seed": seed
    }  # fmt: skip
    record = learn_fusion(trials, options, fitted_to=facts, sources=_sources(scores), **settings)
    record = _with_warnings(record, _not_likelihood_ratios(scores, options))
    if ablation is not None:
        from voxfide.studies.ablation import ablate

        console.say(f"fuse: {2 ** len(trials.systems) - 1} subsets of {len(trials.systems)} systems")
        table = ablate(trials, options, others, **settings)
        table.write(ablation)
    record.write(out)
    _report(record, out, as_json)
    if ablation is not None and not as_json:
        print("\n" + table.table().to_text(), end="")
        print(f"{ablation}: ablation.csv, ablation.md, ablation.tex")


def fuse_scores(
    fusion: Annotated[Path, typer.Argument(metavar="FUSION.json", help="Made by `voxfide fuse`.")],
    scores: Annotated[
        list[Path], typer.Argument(metavar="SCORES...", help="Score files, in the order of `voxfide fuse`.")
    ],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="SCORES_OUT", help="Score file to write.")],
    force: Annotated[bool, typer.Option("--force", help="Take scores of other detectors.")] = False,
) -> None:
    """Fuse the scores of several systems.

    Natural-log likelihood ratios out. All files must hold the same utterances.
    """
    from voxfide.cli.provenance import command_line, facts_path, versions
    from voxfide.files import write_atomic
    from voxfide.fusion import FusionRecord, join_scores
    from voxfide.scores import read_scores, write_scores

    record = FusionRecord.read(fusion)
    found = {name: read_scores(file) for name, file in _named(scores).items()}
    sources = _sources(scores)
    record.check_systems(["" if force else source["detector"] for source in sources])
    joint = join_scores(found)
    if [s["scores_sha256"] for s in sources] == [s.scores_sha256 for s in record.systems]:
        console.say("warning: the fusion was learnt on these very scores: figures on them flatter")
    write_scores(out, joint.utterance_id, record.fusion.apply(joint.scores))
    facts = {
        "command": command_line(),
        "score": "natural-log likelihood ratio",
        "fused_from": sources,
        "fusion": record.to_json(),
        "versions": versions(),
    }
    write_atomic(facts_path(out), json.dumps(facts, indent=2, ensure_ascii=False) + "\n")
    print(f"{out}: {len(joint):,} scores fused of {len(scores)} systems")


def read_joint(
    files: Sequence[Path], key: Path, split: str | None, groups: str | None
) -> tuple[JointTrials, dict[str, Any]]:
    """Scores of several systems with their labels, and what is to be remembered of the trials."""
    from dataclasses import replace

    from voxfide.evaluation import Key
    from voxfide.fusion import join_scores, label_scores
    from voxfide.manifest import Manifest
    from voxfide.scores import read_scores

    manifest = Manifest.read(key).require_valid()
    systems = {name: read_scores(file) for name, file in _named(files).items()}
    if split is not None:
        everything, manifest = manifest, manifest.split(split)
        other = set(everything.column("utterance_id")) - set(manifest.column("utterance_id"))
        for name, found in systems.items():
            kept = [row for row, i in enumerate(found.utterance_id) if i not in other]
            systems[name] = replace(found, utterance_id=found.utterance_id[kept], score=found.score[kept])
    wanted = [c for c in ("split", groups) if c and (c in manifest.columns or c == groups)]
    columns = manifest.key(wanted)
    trials = label_scores(
        join_scores(systems), Key(columns.pop("utterance_id"), columns.pop("label"), columns)
    )
    row_of = {name: row for row, name in enumerate(manifest.strings("utterance_id").tolist())}
    used = manifest.take([row_of[str(name)] for name in trials.utterance_id])
    facts = {
        "manifest": Path(manifest.source).name,
        "split": ", ".join(sorted(set(map(str, trials.columns.get("split", ()))))) or None,
        "digest": used.digest(),
    }
    return trials, facts


def _other_sets(
    systems: Sequence[str], on: list[str], on_key: list[str], key: Path, groups: str | None
) -> dict[str, JointTrials]:
    """The evaluation sets of an ablation by name, each with the systems in the order of the fit."""
    from dataclasses import replace

    from voxfide.cli.commands import pairs

    keys = dict(pairs(on_key, "--on-key"))
    lists = dict(pairs(on, "--on"))
    unknown = [name for name in keys if name not in lists]
    if unknown:
        raise UsageError(
            f"--on-key {', '.join(unknown)}: no such set (--on names {', '.join(lists) or 'none'})"
        )
    files = {name: [Path(part.strip()) for part in text.split(",")] for name, text in lists.items()}
    wrong = [f"{name} has {len(part)}" for name, part in files.items() if len(part) != len(systems)]
    if wrong:
        raise UsageError(f"--on: {len(systems)} score files expected, one a system: {', '.join(wrong)}")
    found = {}
    for name, part in files.items():
        trials, _ = read_joint(part, Path(keys.get(name, key)), None, groups)
        found[name] = replace(trials, systems=tuple(systems))
    return found


def _named(files: Sequence[Path]) -> dict[str, Path]:
    """Score files by the detectors that made them; by their own names where these are not known or repeat."""
    from voxfide.cli.evaluating import named
    from voxfide.cli.provenance import read_score_facts

    by_file = named(files)
    detectors = [read_score_facts(file).get("detector") for file in files]
    names = [Path(str(d.get("name", ""))).name if isinstance(d, dict) else "" for d in detectors]
    return dict(zip(names, files, strict=True)) if all(names) and len(set(names)) == len(names) else by_file


def _sources(files: Sequence[Path]) -> list[dict[str, str]]:
    """What is known of each score file: its name, its digest and the detector that made it."""

    from voxfide.cli.provenance import read_score_facts
    from voxfide.files import file_sha256

    found = []
    for file in files:
        detector = read_score_facts(file).get("detector")
        fingerprint = detector.get("fingerprint", "") if isinstance(detector, dict) else ""
        digest = file_sha256(file)
        found.append({"scores": file.name, "scores_sha256": digest, "detector": str(fingerprint)})
    return found


def _not_likelihood_ratios(files: Sequence[Path], options: FusionOptions) -> list[str]:
    from voxfide.cli.provenance import read_score_facts

    if options.inputs != "probabilities":
        return []
    unsaid = [f.name for f in files if "likelihood ratio" not in str(read_score_facts(f).get("score", ""))]
    if not unsaid:
        return []
    return [
        f"{', '.join(unsaid)}: not known to be calibrated log likelihood ratios; the probabilities are those "
        "that they would give if they were"
    ]


def _with_warnings(record: FusionRecord, warnings: list[str]) -> FusionRecord:
    from dataclasses import replace

    return replace(record, warnings=(*record.warnings, *warnings))


def _report(record: FusionRecord, out: Path, as_json: bool) -> None:
    from voxfide.evaluation.result import Metric
    from voxfide.report.tables import Column, Table

    for warning in record.warnings:
        console.say(f"warning: {warning}")
    if as_json:
        print(json.dumps(record.to_json(), ensure_ascii=False, allow_nan=False))
        return
    facts, figures = record.fitted_to, record.figures
    split = f", split {facts['split']}" if facts["split"] else ""
    what = f"{record.options.method} fusion of {record.options.inputs}"
    print(f"{what}, fitted to {facts['n_bonafide']:,} bona fide and {facts['n_spoof']:,} spoof trials of "
          f"{facts['manifest']}{split}\n")  # fmt: skip
    columns = [
        Column("system"), Column("weight", spec=".4g", estimate=True),
        Column("standardised", "× spread", spec=".3f"), Column("eer_percent", "EER %", spec=".2f"),
        Column("cllr", "Cllr", spec=".4f"),
    ]  # fmt: skip
    rows: list[Sequence[Any]] = [
        (
            s.name, Metric(s.weight, s.weight_interval), s.standardised_weight,
            *(figures["systems"][s.name][m] for m in ("eer_percent", "cllr")),
        )
        for s in record.systems
    ]  # fmt: skip
    rows.append(("intercept", Metric(record.intercept, record.intercept_interval), None, None, None))
    print(Table(columns, rows).to_text())
    names = {"logistic": "logistic", "mean": "equal weights", "best": "best single"}
    kept = f" by {facts['groups']}" if "groups" in facts else ""
    measured = [("on the trials of the fit", figures["fitted"])] + [
        (f"{names[m]}, cross-validated in {figures['n_folds']} folds{kept}", values)
        for m, values in figures["cross_validated"].items()
    ]
    head = [
        Column("fused"), Column("eer_percent", "EER %", spec=".2f"), Column("min_dcf", "min DCF", spec=".4f"),
        Column("act_dcf", "act DCF", spec=".4f"), Column("cllr", "Cllr", spec=".4f"),
    ]  # fmt: skip
    print(Table(head, [(name, *(values[c.key] for c in head[1:])) for name, values in measured]).to_text())
    print(f"{out}: {record.describe()}")
