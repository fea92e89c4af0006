"""``voxfide study layerwise``: from corpora or a manifest to the study's tables, figures and page."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from voxfide.cli import console
from voxfide.cli.commands import (
    EXIT_FAILED_FILES,
    BatchOption,
    DeviceOption,
    PrecisionOption,
    StrictOption,
    WorkersOption,
    exit_if,
    pairs,
    plain_value,
)
from voxfide.cli.training import (
    AccumulateOption,
    BatchSizeOption,
    BudgetOption,
    ClassWeightsOption,
    CropOption,
    DecayOption,
    EpochsOption,
    MixedOption,
    PatienceOption,
    RateOption,
    TensorboardOption,
    make_settings,
)
from voxfide.errors import UsageError, VoxfideError

if TYPE_CHECKING:
    from voxfide.studies.layerwise import StudyResult
    from voxfide.studies.layerwise_cell import StudyOptions
    from voxfide.studies.layerwise_grid import Grid
    from voxfide.studies.recipe import Recipe, Sources, Task


def layerwise(
    out: Annotated[Path, typer.Option("-o", "--out", metavar="DIR", help="Where to.", show_default=False)],
    recipe: Annotated[
        list[str] | None,
        typer.Option(
            "--recipe",
            metavar="NAME|FILE|all",
            help="A published row group: la19, add22, habla, partialspoof, had, scenefake, ctrsvdd; "
            "a YAML file; or all. Repeatable.",
        ),
    ] = None,
    manifest: Annotated[
        list[str] | None,
        typer.Option(
            "--manifest",
            metavar="[CORPUS=]FILE",
            help="Train and score on this manifest's splits; with CORPUS=, what recipes use for it. "
            "Repeatable.",
        ),
    ] = None,
    root: Annotated[
        list[str] | None,
        typer.Option("--root", metavar="CORPUS=DIR", help="Where a corpus of a recipe lies. Repeatable."),
    ] = None,
    evaluate: Annotated[
        list[str] | None,
        typer.Option(
            "--eval", metavar="NAME=FILE", help="Score this manifest; by default split eval. Repeatable."
        ),
    ] = None,
    eval_split: Annotated[str, typer.Option("--eval-split", help="Split of --eval manifests.")] = "eval",
    split: Annotated[str, typer.Option(help="Of --manifest, to train on.")] = "train",
    dev_split: Annotated[str, typer.Option(help="Of --manifest, to decide on when to stop.")] = "dev",
    frontends: Annotated[
        str,
        typer.Option(
            metavar="LIST",
            help="wav2vec2, hubert, wavlm of a size; registered names, hub ids, folders; LABEL=NAME.",
        ),
    ] = "wav2vec2,hubert,wavlm",
    size: Annotated[str | None, typer.Option(help="small or large; small by default.")] = None,
    n_layers: Annotated[
        str | None,
        typer.Option(
            "--n-layers", metavar="LIST", help="By default 2,4,6,12 (small), 4,6,8,10,12,24 (large)."
        ),
    ] = None,
    backends: Annotated[str, typer.Option(metavar="LIST", help="ffn, aasist.")] = "ffn,aasist",
    seeds: Annotated[
        str | None, typer.Option(metavar="LIST", help="Of the heads; 1,42,1234 by default.")
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(
            "--option", metavar="NAME=VALUE", help="Setting of the back-ends, such as variant=paper."
        ),
    ] = None,
    epochs: EpochsOption = None,
    batch_size: BatchSizeOption = None,
    lr: RateOption = None,
    weight_decay: DecayOption = None,
    patience: PatienceOption = None,
    class_weights: ClassWeightsOption = None,
    accumulate: AccumulateOption = None,
    crop: CropOption = None,
    mixed_precision: MixedOption = "no",
    disk_budget: BudgetOption = 50.0,
    bootstrap: Annotated[int, typer.Option(min=0, help="Samples for intervals; 0 for none.")] = 1000,
    published: Annotated[
        bool, typer.Option("--published", help="Set the paper's numbers beside the measured ones.")
    ] = False,
    from_published: Annotated[
        bool,
        typer.Option("--from-published", help="Draw the paper's tables and heat maps; measure nothing."),
    ] = False,
    save_detectors: Annotated[
        bool, typer.Option("--save-detectors", help="Keep every head, with its front-end, as a detector.")
    ] = False,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "fp32",
    workers: WorkersOption = None,
    batch_seconds: BatchOption = None,
    strict: StrictOption = False,
    tensorboard: TensorboardOption = False,
) -> None:
    """Which layers of a front-end matter: the study of El Kheir and others (2025).

    Trains every back-end on the first n layers of every front-end, for each seed and training
    corpus, scores the evaluation sets, and writes tables, heat maps and one page. The front-end is
    run once for all heads. Run again after an interruption, it goes on where it was. Under
    `torchrun` or `accelerate launch`, every process works off cells of its own.
    """
    from voxfide.studies.layerwise_report import report_published, write_layerwise_report

    if from_published:
        print(report_published(out))
        return
    settings = {
        "epochs": epochs, "batch_size": batch_size, "learning_rate": lr, "weight_decay": weight_decay,
        "patience": patience, "class_weights": class_weights, "accumulation": accumulate,
    }  # fmt: skip
    options, grid, tasks = _plan(
        recipes=recipe or [],
        manifests=manifest or [],
        roots=root or [],
        evaluations=evaluate or [],
        splits=(split, dev_split, eval_split),
        grid=(frontends, size, n_layers, backends, seeds),
        backend=option or [],
        crop=crop,
        settings=settings,
    )
    options = replace(
        options,
        device=_device(device),
        precision=precision,
        n_bootstrap=bootstrap,
        save_detectors=save_detectors,
        features=replace(
            options.features,
            disk_budget=disk_budget * 1e9,
            workers=workers,
            batch_seconds=batch_seconds,
            strict=strict,
        ),
    )
    result = _run(tasks, grid, out, options, mixed_precision, tensorboard)
    if not console.is_first_process():
        return
    if result.eers:
        page = write_layerwise_report(out, result.eers, result.weights, result.speeds, published=published)
        print(page)
    console.report_failures(result.failures, f"{out}/runs/*/*/failures.csv")
    for line in result.broken:
        print(f"voxfide: not done: {line}", file=sys.stderr)
    if result.broken:
        raise typer.Exit(EXIT_FAILED_FILES)
    exit_if(result.failures)


def _plan(
    *,
    recipes: list[str],
    manifests: list[str],
    roots: list[str],
    evaluations: list[str],
    splits: tuple[str, str, str],
    grid: tuple[str, str | None, str | None, str, str | None],
    backend: list[str],
    crop: str | None,
    settings: dict[str, Any],
) -> tuple[StudyOptions, Grid, list[Task]]:
    """What is to be run; everything that is wrong with it is said at once.

    Raises:
        UsageError: anything that would stop the study later.
    """
    from voxfide.studies.layerwise_cell import StudyOptions
    from voxfide.studies.layerwise_grid import check_backends, choose_frontends

    problems: list[str] = []
    frontends, size, n_layers, backends, seeds = grid
    chosen: Grid | None = None
    try:
        chosen = choose_frontends(_list(frontends), size, _numbers(n_layers, "--n-layers"))
        chosen = replace(chosen, backends=tuple(_list(backends)), seeds=_numbers(seeds, "--seeds"))
    except VoxfideError as error:
        problems.append(str(error).removeprefix("layer-wise study: "))
    problems += check_backends(_list(backends))
    training: dict[str, Any] = {}
    try:
        made = make_settings(crop, "start", "tile", 0, settings)
        training = {k: getattr(made, k) for k, v in settings.items() if v is not None}
        wanted, sources = _recipes(recipes, manifests, roots, evaluations, splits)
        changes: dict[str, Any] = {} if crop is None else {"crop": made.crop}
        given = {k: plain_value(v) for k, v in pairs(backend, "--option")}
        wanted = [replace(r, backend={**r.backend, **given}, **changes) for r in wanted]
        tasks = [task for r in wanted if (task := sources.task(r)) is not None]
        problems += sources.problems
    except VoxfideError as error:
        problems.append(str(error))
    if problems or chosen is None:
        raise UsageError.listing("the study cannot be run", problems)
    return StudyOptions(training=training), chosen, tasks


def _recipes(
    names: list[str],
    manifests: list[str],
    roots: list[str],
    evaluations: list[str],
    splits: tuple[str, str, str],
) -> tuple[list[Recipe], Sources]:
    """Recipes by name, one for every manifest that is given without a corpus, and where data comes from."""
    from voxfide.manifest import Manifest
    from voxfide.studies.recipe import SetSpec, Sources, own_recipe, read_recipe, recipe_names

    split, dev_split, eval_split = splits
    named = {
        n: Manifest.read(f).require_valid()
        for n, f in pairs([m for m in manifests if "=" in m], "--manifest")
    }
    scored = {n: Manifest.read(f).require_valid() for n, f in pairs(evaluations, "--eval")}
    wanted = [read_recipe(n) for n in (recipe_names() if "all" in names else names)]
    for file in [m for m in manifests if "=" not in m]:
        own = Manifest.read(file).require_valid()
        recipe = own_recipe(own, dict.fromkeys(scored, eval_split), split, dev_split)
        named[recipe.train.corpus] = own
        wanted.append(recipe)
    if not wanted:
        raise UsageError("nothing to train on (expected --recipe or --manifest)")
    if scored and names:
        wanted = [
            replace(r, evaluations={**r.evaluations, **{n: SetSpec(n, eval_split) for n in scored}})
            for r in wanted
        ]
    return wanted, Sources({**scored, **named}, dict(pairs(roots, "--root")))


def _run(
    tasks: list[Task], grid: Grid, out: Path, options: StudyOptions, mixed_precision: str, tensorboard: bool
) -> StudyResult:
    from voxfide.files import exclusive
    from voxfide.studies.layerwise import run_study
    from voxfide.studies.reporting import Reporter
    from voxfide.training.journal import make_accelerator
    from voxfide.training.processes import work_alone

    if mixed_precision not in ("no", "bf16"):
        raise UsageError(f"--mixed-precision {mixed_precision!r} (expected no or bf16)")
    process, n_processes = work_alone()
    with ExitStack() as held:
        if not process:
            held.enter_context(exclusive(out / ".lock", f"{out}: another study is writing there"))
        accelerator = make_accelerator(
            out, mixed_precision=mixed_precision, tensorboard=tensorboard, cpu=options.device == "cpu"
        )
        result = run_study(
            tasks, grid, out,
            accelerator=accelerator, options=options, reporter=Reporter(console.say, console.progress),
            process=process, n_processes=n_processes,
        )  # fmt: skip
        accelerator.end_training()
    return result


def _list(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _numbers(text: str | None, option: str) -> tuple[int, ...]:
    if text is None:
        return ()
    try:
        return tuple(int(part) for part in _list(text))
    except ValueError:
        raise UsageError(f"{option} {text!r} (expected whole numbers with commas between)") from None


def _device(name: str) -> str:
    from voxfide.devices import resolve_device

    return resolve_device(name)
