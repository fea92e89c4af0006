"""``voxfide train``: a back-end on a frozen front-end, from a manifest to a detector."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from voxfide.cli import console
from voxfide.cli.commands import (
    BatchOption,
    DeviceOption,
    FrontendOption,
    FrontendSettings,
    LayersOption,
    ManifestArgument,
    PrecisionOption,
    RevisionOption,
    StrictOption,
    WorkersOption,
    exit_if,
    make_extractor,
    make_frontend,
    pairs,
    plain_value,
)
from voxfide.cli.training_run import Run
from voxfide.errors import UsageError

if TYPE_CHECKING:
    from voxfide.frontends.base import Frontend
    from voxfide.manifest import Manifest
    from voxfide.training import TrainingSet, TrainResult
    from voxfide.training.pooled import Balance
    from voxfide.training.settings import TrainSettings
    from voxfide.training.streams import Augment

EpochsOption = Annotated[int | None, typer.Option(min=1, help="At most; 50 by default.")]
BatchSizeOption = Annotated[
    int | None, typer.Option("--batch-size", min=2, help="Utterances; 32 by default.")
]
RateOption = Annotated[float | None, typer.Option("--lr", help="Learning rate of Adam; 1e-4 by default.")]
DecayOption = Annotated[float | None, typer.Option("--weight-decay", help="1e-4 by default.")]
PatienceOption = Annotated[
    int | None,
    typer.Option(min=1, help="Epochs without a better development loss; 10 by default."),
]
ClassWeightsOption = Annotated[
    str | None,
    typer.Option("--class-weights", metavar="SPOOF,BONAFIDE", help="In the loss; 0.1,0.9 by default."),
]
CropOption = Annotated[
    str | None,
    typer.Option("--crop", metavar="SECONDS|full", help="Of each utterance; 4.0375 by default."),
]
AccumulateOption = Annotated[
    int | None,
    typer.Option("--accumulate", min=1, help="Pieces in which a batch is worked off."),
]
MixedOption = Annotated[str, typer.Option("--mixed-precision", help="Of the back-end: no or bf16.")]
BudgetOption = Annotated[
    float,
    typer.Option(
        "--disk-budget",
        metavar="GB",
        min=0,
        help="For full-frame features; beyond it they are computed anew in every epoch.",
    ),
]
TensorboardOption = Annotated[
    bool,
    typer.Option("--tensorboard", help="Write curves for TensorBoard (extra)."),
]


def train(
    manifest: ManifestArgument,
    frontend: FrontendOption,
    backend: Annotated[str, typer.Option(help="See `voxfide backends`.", show_default=False)],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="DETECTOR", help="Folder of the detector.")],
    split: Annotated[str, typer.Option(help="Split to train on.")] = "train",
    dev_split: Annotated[str, typer.Option(help="Split to measure on and choose the threshold.")] = "dev",
    layers: LayersOption = None,
    frontend_option: FrontendSettings = None,
    pool: Annotated[
        str | None, typer.Option(help="mean or mean_std; by default what the back-end asks for.")
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option("--option", metavar="NAME=VALUE", help="Setting of the back-end; repeatable."),
    ] = None,
    store: Annotated[
        Path | None, typer.Option(metavar="STORE", help="Keep features here, and use those that are there.")
    ] = None,
    balance: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN",
            help="Both classes count the same, and within them n utterances of one value (system) as √n.",
        ),
    ] = None,
    shares: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN=VALUE:N,...",
            help="With --balance: what values of a coarser column count in their class, by default 1 each.",
        ),
    ] = None,
    cross_validate: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN",
            help="Also score the training set out of fold, values of a column (source, speaker) left out "
            "together: DETECTOR/cross_validated.tsv. For back-ends on time averages.",
        ),
    ] = None,
    folds: Annotated[int, typer.Option(min=2, help="Of --cross-validate.")] = 10,
    weights: Annotated[
        str, typer.Option(help="Front-end weights: inside the detector, or left on the hub: embed or hub.")
    ] = "embed",
    revision: RevisionOption = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "fp32",
    workers: WorkersOption = None,
    batch_seconds: BatchOption = None,
    strict: StrictOption = False,
    epochs: EpochsOption = None,
    batch_size: BatchSizeOption = None,
    lr: RateOption = None,
    weight_decay: DecayOption = None,
    patience: PatienceOption = None,
    class_weights: ClassWeightsOption = None,
    crop: CropOption = None,
    crop_position: Annotated[
        str,
        typer.Option("--crop-position", help="In training: start, or random in every epoch."),
    ] = "start",
    crop_short: Annotated[
        str,
        typer.Option("--crop-short", help="Shorter utterances: tile (repeat) or keep."),
    ] = "tile",
    long: Annotated[
        str,
        typer.Option(
            "--long", help="What is scored of longer recordings: windows (all of it, averaged) or cut."
        ),
    ] = "windows",
    augment: Annotated[
        str | None,
        typer.Option(
            "--augment",
            metavar="SPEC",
            help="What is done to training audio; see `voxfide augmentations`. By default what the "
            "manifest's column `augment` says, if it has one.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of everything random.")] = 0,
    accumulate: AccumulateOption = None,
    mixed_precision: MixedOption = "no",
    disk_budget: BudgetOption = 50.0,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Go on where a run was that did not come to its end."),
    ] = False,
    tensorboard: TensorboardOption = False,
) -> None:
    """Train a detector.

    Fits a back-end on the features of a frozen front-end and saves both as one folder, with
    the threshold at which the error rates meet on the development split. A back-end on time
    averages is fitted at once; one on full frames (ffn, aasist, frames) batch by batch, until the
    development loss no longer falls: the options from --epochs on are for these.
    """
    from voxfide.backends import create_backend
    from voxfide.backends.neural import NeuralBackend
    from voxfide.manifest import Manifest
    from voxfide.training import choose_sets

    if weights not in ("embed", "hub"):
        raise UsageError(f"--weights {weights!r} (expected embed or hub)")
    head = create_backend(backend, **{k: plain_value(v) for k, v in pairs(option or [], "--option")})
    settings: TrainSettings | None = None
    given = {
        "epochs": epochs, "batch_size": batch_size, "learning_rate": lr, "weight_decay": weight_decay,
        "patience": patience, "class_weights": class_weights, "accumulation": accumulate,
    }  # fmt: skip
    neural = isinstance(head, NeuralBackend)
    if neural:
        settings = make_settings(crop, crop_position, crop_short, seed, given)
    elif wrong := [k for k, v in {**given, "crop": crop, "augment": augment}.items() if v is not None]:
        raise UsageError(f"back-end {backend} is fitted at once: it takes no {', '.join(wrong)}")
    weighing = _balance(balance, shares)
    if neural and cross_validate is not None:
        raise UsageError(f"back-end {backend} is trained batch by batch: it takes no --cross-validate")
    if neural and weighing is not None:
        raise UsageError(
            f"back-end {backend} is trained batch by batch: it takes --class-weights, no --balance"
        )
    if not neural and not console.is_first_process():
        return  # fitted at once, by the first process alone
    rows = Manifest.read(manifest).require_valid()
    sets = choose_sets(rows, split, dev_split)
    model = make_frontend(frontend, layers, frontend_option, revision, device, precision)
    if isinstance(head, NeuralBackend) and settings is not None:
        run = Run(
            out, store, resume, mixed_precision, tensorboard, disk_budget, workers, batch_seconds, strict
        )
        result = run.train(sets, model, head, settings, seed, long, _chooser(augment, rows, seed))
    else:
        features = store or out.with_name(out.name + ".features")
        result = _fit(
            sets,
            model,
            head,
            pool,
            features,
            workers,
            batch_seconds,
            strict,
            weighing,
            None if cross_validate is None else (cross_validate, folds),
        )
        if store is None:
            shutil.rmtree(features)
    _save(result, out, weights)
    print(f"{out}: detector {model.name} + {backend}, threshold {result.detector.threshold:.4f}")
    exit_if(result.failures)


def make_settings(
    crop: str | None, position: str, short: str, seed: int, given: dict[str, Any]
) -> TrainSettings:
    """Settings of the training of heads; what was not given stays as the study has it."""
    from voxfide.crops import REFERENCE_SECONDS, Crop
    from voxfide.training.settings import TrainSettings

    values = {k: v for k, v in given.items() if v is not None}
    if "class_weights" in values:
        values["class_weights"] = _two_numbers(values["class_weights"], "--class-weights")
    seconds: float | None = REFERENCE_SECONDS
    if crop == "full":
        seconds, short = None, "keep"
    elif crop is not None:
        try:
            seconds = float(crop)
        except ValueError:
            raise UsageError(f"--crop {crop!r} (expected seconds, or full)") from None
    return TrainSettings(crop=Crop(seconds, position, short), seed=seed, **values)


def _two_numbers(text: str, option: str) -> tuple[float, float]:
    try:
        first, second = (float(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"{option} {text!r} (expected two numbers and a comma between)") from None
    return first, second


def _balance(column: str | None, shares: str | None) -> Balance | None:
    """What ``--balance`` and ``--shares`` ask for."""
    from voxfide.training.pooled import Balance

    if column is None:
        if shares is not None:
            raise UsageError("--shares goes with --balance")
        return None
    if shares is None:
        return Balance(column)
    coarse, equals, listed = shares.partition("=")
    try:
        numbers = {v: float(n) for v, _, n in (item.rpartition(":") for item in listed.split(","))}
    except ValueError:
        numbers = {}
    if not coarse or not equals or not numbers or not all(numbers):
        raise UsageError(f"--shares {shares!r} (expected COLUMN=VALUE:NUMBER,VALUE:NUMBER)")
    return Balance(column, coarse, numbers)


def _chooser(spec: str | None, manifest: Manifest, seed: int) -> Augment | None:
    """What is done to training audio."""
    from voxfide.augment import Plan, Policy, parse
    from voxfide.augment.policy import PLAN_COLUMN

    if spec is not None:
        return Policy(parse(spec), seed=seed)
    return Plan.of(manifest, seed) if PLAN_COLUMN in manifest.columns else None


def _fit(
    sets: tuple[TrainingSet, TrainingSet | None],
    frontend: Frontend,
    head: Any,
    pool: str | None,
    store: Path,
    workers: int | None,
    batch_seconds: float | None,
    strict: bool,
    balance: Balance | None,
    cross_validate: tuple[str, int] | None,
) -> TrainResult:
    """A back-end on time averages, fitted at once."""
    from voxfide.backends import BACKENDS
    from voxfide.training import train as train_detector

    pool = pool or BACKENDS[head.name].pool
    with console.progress("embed") as bar:
        make = make_extractor(frontend, pool, workers, batch_seconds, bar, strict)
        return train_detector(
            sets, frontend, head, store=store, pool=pool, make_extractor=make, on_start=bar.start,
            balance=balance, cross_validate=cross_validate,
        )  # fmt: skip


def _save(result: TrainResult, out: Path, weights: str) -> None:
    from voxfide.jobs import write_failures

    result.detector.save(out, embed_frontend=weights == "embed")
    if result.out_of_fold is not None:
        from voxfide.scores import write_scores

        held_out = result.out_of_fold
        write_scores(out / "cross_validated.tsv", held_out.utterance_ids, held_out.scores)
    failed = out / "failures.csv"
    write_failures(failed, result.failures)
    shutil.rmtree(out.with_name(out.name + ".run"), ignore_errors=True)
    console.report_failures(result.failures, str(failed))
    for name, values in result.metrics.items():
        print(
            f"{name}: EER {values['eer_percent']:.2f} %, Cllr {values['cllr']:.3f}, AUC {values['auc']:.3f}"
        )
