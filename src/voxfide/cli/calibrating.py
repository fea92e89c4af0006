"""``voxfide calibrate`` and ``voxfide calibrate-scores``: scores and a key to log likelihood ratios."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from voxfide.cli import console
from voxfide.cli.commands import DETECTOR_HELP, LabelsOption, pairs
from voxfide.errors import UsageError

if TYPE_CHECKING:
    import numpy as np

    from voxfide.calibration import CalibrationRecord
    from voxfide.detectors import AnyDetector
    from voxfide.evaluation import Trials

KeyOption = Annotated[Path, typer.Option("--key", metavar="MANIFEST", help="Manifest with the labels.")]
MethodOption = Annotated[str, typer.Option(help="affine, temperature, isotonic or identity.")]
PriorOption = Annotated[
    float, typer.Option(help="Probability of bona fide where it is used: weighs the fit, sets the threshold.")
]
CostMissOption = Annotated[float, typer.Option("--cost-miss", help="Cost of rejecting bona fide.")]
CostFaOption = Annotated[float, typer.Option("--cost-fa", help="Cost of accepting a spoof.")]
RegularisationOption = Annotated[
    float | None, typer.Option(help="affine, temperature: weight of the squared slope beside the loss.")
]
FoldsOption = Annotated[int, typer.Option(min=0, help="Of the cross-validation; 0 for none.")]
GroupsOption = Annotated[
    str | None, typer.Option(metavar="COLUMN", help="Keep values of this column, e.g. speaker, in one fold.")
]
SplitOption = Annotated[str | None, typer.Option("--split", help="Use only rows of this split.")]
SeedOption = Annotated[int, typer.Option(min=0, help="Of the folds.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print calibration.json.")]


def calibrate(
    detector: Annotated[str, typer.Argument(metavar="DETECTOR", help=DETECTOR_HELP)],
    scores: Annotated[Path, typer.Argument(metavar="SCORES", help="Its scores of the calibration set.")],
    key: KeyOption,
    method: MethodOption = "affine",
    prior: PriorOption = 0.5,
    cost_miss: CostMissOption = 1.0,
    cost_fa: CostFaOption = 1.0,
    regularisation: RegularisationOption = None,
    folds: FoldsOption = 5,
    groups: GroupsOption = None,
    split: SplitOption = None,
    seed: SeedOption = 0,
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", metavar="NEW_DETECTOR", help="Write a copy, not into DETECTOR."),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Take scores of another detector, or a calibration that is flat.")
    ] = False,
    labels: LabelsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Calibrate a detector.

    Its scores become natural-log likelihood ratios, its threshold and probabilities follow from
    the prior and the costs. Needs scores of trials that it was not trained on.
    """
    from voxfide.detectors import exported_refusal, load_detector
    from voxfide.exported.detector import ExportedDetector

    here = Path(detector).expanduser()
    if out is None and not _is_own(here):
        raise UsageError(f"{detector}: no detector folder to write into: give -o NEW_DETECTOR for a copy")
    options = Options(method, prior, cost_miss, cost_fa, regularisation, folds, groups, split, seed)
    calibration_set = CalibrationSet.read(scores, key, options)
    loaded = load_detector(detector, labels=dict(pairs(labels or [], "--labels")))
    if isinstance(loaded, ExportedDetector):
        raise exported_refusal(detector, "calibrate")
    origin = _check_origin(loaded, scores, force)
    record = calibration_set.fit(options, origin, _warn_if_trained_on(loaded, calibration_set))
    _refuse_flat(record, force)
    if out is None or out.resolve() == here.resolve():
        loaded.write_calibration(here, record)
    else:
        loaded.calibrated(record).save(out, embed_frontend=_embeds_frontend(here))
    _report(record, str(out or detector), as_json)


def calibrate_scores(
    scores: Annotated[Path, typer.Argument(metavar="SCORES", help="Scores to fit the calibration to.")],
    key: KeyOption,
    apply_to: Annotated[
        Path, typer.Option("--apply", metavar="SCORES_IN", help="Scores of the same system to calibrate.")
    ],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="SCORES_OUT", help="Score file to write.")],
    method: MethodOption = "affine",
    prior: PriorOption = 0.5,
    regularisation: RegularisationOption = None,
    folds: FoldsOption = 5,
    groups: GroupsOption = None,
    split: SplitOption = None,
    seed: SeedOption = 0,
    force: Annotated[bool, typer.Option("--force", help="Take a calibration that is flat.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Calibrate score files of any system.

    Fits to one score file and its key and applies it to another: natural-log likelihood ratios
    out.
    """
    from voxfide.cli.provenance import command_line, facts_path, versions
    from voxfide.files import write_atomic
    from voxfide.scores import read_scores, write_scores

    options = Options(method, prior, 1.0, 1.0, regularisation, folds, groups, split, seed)
    calibration_set = CalibrationSet.read(scores, key, options)
    incoming = read_scores(apply_to)
    record = calibration_set.fit(options, "", _warn_if_shared(calibration_set, incoming.utterance_id))
    _refuse_flat(record, force)
    write_scores(out, incoming.utterance_id, record.calibration.apply(incoming.score))
    facts = {
        "command": command_line(),
        "score": "natural-log likelihood ratio",
        "calibrated_from": str(apply_to),
        "calibration": record.to_json(),
        "versions": versions(),
    }
    write_atomic(facts_path(out), json.dumps(facts, indent=2, ensure_ascii=False) + "\n")
    _report(record, f"{out}: {len(incoming):,} scores", as_json)


@dataclass(frozen=True)
class Options:
    """What both commands take."""

    method: str
    prior: float
    c_miss: float
    c_fa: float
    regularisation: float | None
    folds: int
    groups: str | None
    split: str | None
    seed: int


@dataclass(frozen=True)
class CalibrationSet:
    """Scored trials with their labels, and what is to be remembered of them."""

    trials: Trials
    facts: dict[str, Any]

    @classmethod
    def read(cls, scores: Path, key: Path, options: Options) -> CalibrationSet:
        """Brings scores and key together; of scores of several splits only ``options.split`` counts."""
        from dataclasses import replace

        from voxfide.evaluation import Key, align
        from voxfide.manifest import Manifest
        from voxfide.scores import read_scores

        manifest = Manifest.read(key).require_valid()
        found = read_scores(scores)
        if options.split is not None:
            everything, manifest = manifest, manifest.split(options.split)
            other = set(everything.column("utterance_id")) - set(manifest.column("utterance_id"))
            kept = [row for row, name in enumerate(found.utterance_id) if name not in other]
            found = replace(found, utterance_id=found.utterance_id[kept], score=found.score[kept])
        wanted = ["split"] if "split" in manifest.columns else []
        columns = manifest.key([*wanted, *([options.groups] if options.groups else [])])
        trials = align(found, Key(columns.pop("utterance_id"), columns.pop("label"), columns))
        row_of = {name: row for row, name in enumerate(manifest.strings("utterance_id").tolist())}
        used = manifest.take([row_of[name] for name in trials.utterance_id])
        facts = {
            "manifest": Path(manifest.source).name,
            "split": ", ".join(sorted(set(map(str, trials.columns.get("split", ()))))) or None,
            "n_bonafide": int(trials.is_bonafide.sum()),
            "n_spoof": int((~trials.is_bonafide).sum()),
            "digest": used.digest(),
            "scores": scores.name,
        }
        return cls(trials, facts)

    def fit(self, options: Options, detector: str, warnings: list[str]) -> CalibrationRecord:
        """The record of a calibration fitted to these trials."""
        from voxfide.calibration import CALIBRATIONS, CalibrationRecord, create_calibration
        from voxfide.calibration import calibrate as fit_calibration

        settings: dict[str, Any] = {}
        if CALIBRATIONS[options.method].prior_weighted:
            settings = {"prior": options.prior}
        if options.regularisation is not None:
            settings["regularisation"] = options.regularisation
        calibration, figures = fit_calibration(
            lambda: create_calibration(options.method, **settings),
            self.trials.score,
            self.trials.is_bonafide,
            n_folds=options.folds,
            groups=self._groups(options.groups),
            seed=options.seed,
        )
        facts = self.facts | ({"groups": options.groups} if options.groups else {})
        return CalibrationRecord(
            calibration,
            prior=options.prior,
            c_miss=options.c_miss,
            c_fa=options.c_fa,
            fitted_to=facts,
            figures=figures.to_json(),
            warnings=(*self.trials.warnings, *warnings, *calibration.warnings),
            detector=detector,
        )

    def _groups(self, column: str | None) -> np.ndarray | None:
        if column is None:
            return None
        values = self.trials.columns[column]
        n_unnamed = sum(value in ("", "-") for value in values)
        if n_unnamed:
            raise UsageError(f"{n_unnamed:,} trials have no value in column {column!r}: cannot group by it")
        return values


def _check_origin(detector: AnyDetector, scores: Path, force: bool) -> str:
    """The uncalibrated detector's fingerprint; refuses scores that are not its own."""
    from voxfide.cli.provenance import facts_path, read_score_facts

    raw = detector.uncalibrated().fingerprint()
    facts = read_score_facts(scores).get("detector")
    found = facts.get("fingerprint") if isinstance(facts, dict) else None
    if detector.calibration is not None and found == detector.fingerprint():
        raise UsageError(
            f"{scores}: these scores are calibrated already; score again with `voxfide score --uncalibrated`"
        )
    if found != raw and not force:
        why = (
            f"there is no {facts_path(scores).name} that says which detector made them"
            if found is None
            else "they were made by another detector, or by another version of voxfide"
        )
        raise UsageError(f"{scores}: not known to be scores of this detector: {why} (--force takes them)")
    return raw


def _warn_if_trained_on(detector: AnyDetector, calibration_set: CalibrationSet) -> list[str]:
    trained_on = detector.training.get("sets", {}).get("train", {}).get("digest")
    if trained_on != calibration_set.facts["digest"]:
        return []
    return [
        "these are the trials that the detector was trained on: its likelihood ratios will be too extreme "
        "elsewhere (calibrate on a split that was left out)"
    ]


def _warn_if_shared(calibration_set: CalibrationSet, incoming: np.ndarray) -> list[str]:
    n_shared = len(set(incoming.tolist()) & set(calibration_set.trials.utterance_id.tolist()))
    if not n_shared:
        return []
    return [f"{n_shared:,} of the calibrated scores were fitted to: figures on them flatter"]


def _refuse_flat(record: CalibrationRecord, force: bool) -> None:
    if record.calibration.is_flat and not force:
        raise UsageError("; ".join(record.warnings) + " (nothing was written; --force takes it)")


def _is_own(folder: Path) -> bool:
    """Whether it is a folder that voxfide wrote, into which a calibration can go."""
    from voxfide.frontends.ssl_config import read_json

    return folder.is_dir() and read_json(folder / "config.json").get("library") == "voxfide"


def _embeds_frontend(folder: Path) -> bool:
    """Whether the copy is to hold the front-end's weights: as the detector does that it is made from."""
    from voxfide.frontends.ssl_config import read_json

    if not _is_own(folder):
        return True
    config = read_json(folder / "config.json")
    entries = config.get("frontends") or [config["frontend"]]  # of an ensemble, or of one detector
    return all(entry["weights"]["in"] != "hub" for entry in entries)


def _report(record: CalibrationRecord, target: str, as_json: bool) -> None:
    for warning in record.warnings:
        console.say(f"warning: {warning}")
    if as_json:
        print(json.dumps(record.to_json(), ensure_ascii=False, allow_nan=False))
        return
    facts, figures = record.fitted_to, record.figures
    split = f", split {facts['split']}" if facts["split"] else ""
    print(f"{record.calibration.name}: {record.calibration.describe()}")
    print(f"fitted to {facts['n_bonafide']:,} bona fide and {facts['n_spoof']:,} spoof trials of "
          f"{facts['manifest']}{split}")  # fmt: skip
    cross = figures["cllr_cross_validated"]
    left_out = ""
    if cross is not None:
        by = f" by {facts['groups']}" if "groups" in facts else ""
        left_out = f", {cross:.4f} cross-validated in {figures['n_folds']} folds{by}"
    print(f"Cllr (bits): {figures['cllr_before']:.4f} before, {figures['cllr_after']:.4f} after{left_out}, "
          f"{figures['min_cllr']:.4f} at the least")  # fmt: skip
    print(f"{target}: log likelihood ratios; bona fide from {record.threshold:+.4f} "
          f"(prior {record.prior:g}, costs {record.c_miss:g} and {record.c_fa:g})")  # fmt: skip
