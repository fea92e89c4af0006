"""``voxfide study benchmark``: front-ends by their time averages and logistic regression."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from voxfide.cli import console
from voxfide.cli.commands import (
    BatchOption,
    DeviceOption,
    ManifestArgument,
    PrecisionOption,
    WorkersOption,
    exit_if,
    pairs,
    plain_value,
)
from voxfide.errors import UsageError, VoxfideError

if TYPE_CHECKING:
    from voxfide.training import TrainingSet


def benchmark(
    manifest: ManifestArgument,
    out: Annotated[Path, typer.Option("-o", "--out", metavar="DIR", help="Where to.", show_default=False)],
    frontends: Annotated[
        str,
        typer.Option(
            metavar="LIST|FILE.yaml",
            help="all; table1 (the paper's twelve); registered names, hub ids, folders, each with LABEL= "
            "before it or not; or a YAML list of front-ends with options.",
        ),
    ] = "all",
    frontend_option: Annotated[
        list[str] | None,
        typer.Option(
            "--frontend-option",
            metavar="LABEL:NAME=VALUE",
            help="Setting of one of the front-ends, such as beats:weights=FILE; repeatable.",
        ),
    ] = None,
    split: Annotated[str, typer.Option(help="Split to fit to.")] = "train",
    dev_split: Annotated[str, typer.Option("--dev-split", help="Split to measure on.")] = "dev",
    dev_manifest: Annotated[
        Path | None, typer.Option("--dev", metavar="MANIFEST", help="Measure on this manifest's --dev-split.")
    ] = None,
    sample: Annotated[
        int | None,
        typer.Option(min=2, help="Use so many utterances of each set, drawn in proportion of labels."),
    ] = None,
    layer: Annotated[
        str, typer.Option(metavar="last|N|mean|all", help="Whose time averages are classified.")
    ] = "last",
    n_layers: Annotated[
        int | None,
        typer.Option(
            "--n-layers", min=1, help="Build and run the first N layers only, where there are more."
        ),
    ] = None,
    c: Annotated[float, typer.Option("-C", help="Inverse strength of the regression's penalty.")] = 1e3,
    random_weights: Annotated[
        bool,
        typer.Option(
            "--random-weights",
            help="Where no weights can be had, try the architecture with random ones: such an EER means "
            "nothing about the model.",
        ),
    ] = False,
    published: Annotated[
        bool, typer.Option("--published", help="Set the paper's table 1 beside the measured one.")
    ] = False,
    bootstrap: Annotated[int, typer.Option(min=0, help="Samples for intervals; 0 for none.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Of everything random.")] = 0,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "fp32",
    workers: WorkersOption = None,
    batch_seconds: BatchOption = None,
) -> None:
    """Compare representations: table 1 of Combei and others (2024).

    Frozen front-ends, features averaged over time, logistic regression with C = 1000. Each is
    measured in a process of its own, with its speed and memory; one that fails is listed in the
    table. Run again after an interruption, it goes on where it was.
    """
    from voxfide.devices import resolve_device
    from voxfide.studies.benchmark import BenchmarkOptions, run_benchmark
    from voxfide.studies.benchmark_choice import check_layer, choose
    from voxfide.studies.benchmark_report import write_benchmark_report
    from voxfide.studies.reporting import Reporter

    problems: list[str] = []
    chosen, sets = [], None
    try:
        chosen = choose(
            [part.strip() for part in frontends.split(",") if part.strip()], _settings(frontend_option)
        )
    except VoxfideError as error:
        problems.append(str(error))
    try:
        sets = _sets(manifest, dev_manifest, split, dev_split, sample, seed)
    except VoxfideError as error:
        problems.append(str(error))
    try:
        options = BenchmarkOptions(
            plain_value(layer), c, n_layers, random_weights, resolve_device(device), precision, workers,
            batch_seconds, bootstrap, seed,
        )  # fmt: skip
        problems += check_layer(chosen, n_layers, options.layer)
    except VoxfideError as error:
        problems.append(str(error))
    if problems or sets is None:
        raise UsageError.listing("the benchmark cannot be run", problems)
    result = run_benchmark(chosen, sets, out, options, Reporter(console.say, console.progress))
    page = write_benchmark_report(out, result, sets, published=published)
    _print(result)
    print(page)
    console.report_failures(result.failures, f"{out}/runs/*/failures.csv")
    exit_if(result.failures or result.broken)


def _print(result: Any) -> None:
    from dataclasses import replace

    from voxfide.studies.benchmark_tables import RANDOM_NOTE, main_table

    table = main_table(result.rows, {})
    keep = [i for i, column in enumerate(table.columns) if column.key != "note"]
    rows = [[row[i] for i in keep] for row in table.rows]
    print(replace(table, columns=[table.columns[i] for i in keep], rows=rows, caption="").to_text())
    if any(row.is_random for row in result.rows):
        print(f"{RANDOM_NOTE}\n")
    for label, reason in result.broken.items():
        print(f"voxfide: not measured: {label}: {reason}", file=sys.stderr)


def _settings(items: list[str] | None) -> list[tuple[str, str, Any]]:
    found = []
    for key, value in pairs(items or [], "--frontend-option"):
        label, colon, name = key.rpartition(":")
        if not colon or not label or not name:
            raise UsageError(f"--frontend-option {key}={value}: expected LABEL:NAME=VALUE")
        found.append((label, name, plain_value(value)))
    return found


def _sets(
    manifest: Path, dev: Path | None, split: str, dev_split: str, sample: int | None, seed: int
) -> tuple[TrainingSet, TrainingSet]:
    from dataclasses import replace

    from voxfide.manifest import Manifest
    from voxfide.training import TrainingSet

    rows = Manifest.read(manifest).require_valid()
    if dev is None and split == dev_split:
        raise UsageError(f"split {split!r} is named for training and for development: figures would flatter")
    measured = rows if dev is None else Manifest.read(dev).require_valid()
    made = []
    for name, part, of in (("train", rows, split), ("dev", measured, dev_split)):
        whole = of if "split" in part.columns or dev is None else None
        found = TrainingSet.of(name, part, whole)
        if sample is not None and sample < len(found.manifest):
            found = replace(found, manifest=found.manifest.sample(sample, seed=seed))
        made.append(found)
    train, measured_set = made
    shared = set(train.manifest.column("utterance_id")) & set(measured_set.manifest.column("utterance_id"))
    if shared:
        raise UsageError(f"{len(shared)} utterance id(s) are in both sets ({sorted(shared)[0]!r}, …)")
    return train, measured_set
