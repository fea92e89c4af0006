"""``voxfide study ensemble``: fine-tuned models and their late fusion, from corpora to a submission."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from voxfide.cli import console
from voxfide.cli.commands import (
    EXIT_FAILED_FILES,
    BatchOption,
    DeviceOption,
    PrecisionOption,
    WorkersOption,
    exit_if,
    pairs,
    plain_value,
)
from voxfide.errors import UsageError, VoxfideError

if TYPE_CHECKING:
    from voxfide.studies.ensemble import EnsembleResult
    from voxfide.studies.ensemble_data import StudyData
    from voxfide.studies.ensemble_recipe import EnsembleRecipe
    from voxfide.studies.ensemble_systems import EnsembleOptions


def ensemble(
    out: Annotated[Path, typer.Option("-o", "--out", metavar="DIR", help="Where to.", show_default=False)],
    recipe: Annotated[
        str, typer.Option(metavar="NAME|FILE.yaml", help="combei2024, or one of your own.")
    ] = "combei2024",
    manifest: Annotated[
        list[str] | None,
        typer.Option("--manifest", metavar="CORPUS=FILE", help="A prepared manifest; repeatable."),
    ] = None,
    root: Annotated[
        list[str] | None,
        typer.Option("--root", metavar="CORPUS=DIR", help="Where a corpus lies; repeatable."),
    ] = None,
    frontend: Annotated[
        list[str] | None,
        typer.Option(
            "--frontend",
            metavar="NAME=DIR|HUB_ID",
            help="Take this in place of a model of the recipe, such as wavlm-base=FOLDER; repeatable.",
        ),
    ] = None,
    scale: Annotated[str, typer.Option(help="Multiplies all counts of utterances: 0.001 for a try.")] = "1",
    finetune_option: Annotated[
        list[str] | None,
        typer.Option(
            "--finetune-option",
            metavar="NAME=VALUE",
            help="Setting of every fine-tuning in place of the recipe's: epochs=1, precision=bf16, "
            "gradient_checkpointing=true, accumulation=2; repeatable.",
        ),
    ] = None,
    published: Annotated[
        bool, typer.Option("--published", help="Set the paper's figures beside the measured ones.")
    ] = False,
    bootstrap: Annotated[int, typer.Option(min=0, help="Samples for intervals; 0 for none.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Of everything random.")] = 0,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "fp32",
    workers: WorkersOption = None,
    batch_seconds: BatchOption = None,
) -> None:
    """The WavLM ensemble: tables 2 and 3 and figure 2 of Combei and others (2024).

    Draws and augments the mixes, fine-tunes the models, classifies their features, fuses four of
    them, and writes tables, one page, one detector and submission.zip. Corpora and models that are
    missing are said at once. Run again after an interruption, it goes on where it was; a step that
    fails ends only those that need it. Under `torchrun` or `accelerate launch` all processes
    fine-tune together.
    """
    from voxfide.devices import resolve_device
    from voxfide.jobs import write_failures
    from voxfide.studies.ensemble import run_ensemble
    from voxfide.studies.ensemble_recipe import read_ensemble_recipe
    from voxfide.studies.ensemble_report import write_ensemble_report
    from voxfide.studies.ensemble_systems import EnsembleOptions
    from voxfide.studies.reporting import Reporter
    from voxfide.training.processes import leave

    wanted = read_ensemble_recipe(recipe)
    options = EnsembleOptions(
        frontends=dict(pairs(frontend or [], "--frontend")),
        finetuning={k: plain_value(v) for k, v in pairs(finetune_option or [], "--finetune-option")},
        device=resolve_device(device), precision=precision, workers=workers, batch_seconds=batch_seconds,
        n_bootstrap=bootstrap, seed=seed,
    )  # fmt: skip
    data = _preflight(wanted, options, manifest or [], root or [], scale)
    for note in data.notes:
        console.say(f"{note}: left out")
    result = run_ensemble(wanted, data, out, options, Reporter(console.say, console.progress))
    leave()
    if not console.is_first_process():
        return
    page = write_ensemble_report(out, result, published=published)
    _print(result, published)
    print(page)
    write_failures(out / "failures.csv", result.failures)
    console.report_failures(result.failures, f"{out}/failures.csv")
    for step, reason in result.broken.items():
        print(f"voxfide: not done: {step}: {reason}", file=sys.stderr)
    if result.broken:
        raise typer.Exit(EXIT_FAILED_FILES)
    exit_if(result.failures)


def _preflight(
    recipe: EnsembleRecipe, options: EnsembleOptions, manifests: list[str], roots: list[str], scale: str
) -> StudyData:
    """The study's data; everything that is missing, of data and of models, is said at once.

    Raises:
        UsageError: anything that would stop the study later.
    """
    from voxfide.manifest import Manifest
    from voxfide.studies.ensemble import check_models
    from voxfide.studies.ensemble_data import find_data

    problems = check_models(recipe, options)
    given: dict[str, Manifest] = {}
    for name, file in pairs(manifests, "--manifest"):
        try:
            given[name] = Manifest.read(file).require_valid()
        except VoxfideError as error:
            problems.append(str(error))
    data = None
    try:
        places = dict(pairs(roots, "--root"))
        data = find_data(recipe, manifests=given, roots=places, scale=scale, seed=options.seed)
    except VoxfideError as error:
        problems.append(str(error))
    if problems or data is None:
        raise UsageError.listing("the study cannot be run", problems)
    return data


def _print(result: EnsembleResult, published: bool) -> None:
    from voxfide.studies.ensemble_tables import fusion_table, systems_table

    tables: list[Any] = [
        systems_table(result, published=published), fusion_table(result, published=published)
    ]  # fmt: skip
    for table in tables:
        if table is not None:
            print(table.to_text())
