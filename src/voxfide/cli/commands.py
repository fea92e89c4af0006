"""The working commands; each parses, calls one function of the library and prints."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from voxfide.cli import console
from voxfide.cli.engines import (
    ActorCpusOption,
    ActorGpusOption,
    ActorsOption,
    AddressOption,
    EngineOption,
    make_engine,
    on_actors,
)
from voxfide.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from voxfide.extraction import Extractor
    from voxfide.frontends.base import Frontend

EXIT_FAILED_FILES = 1

ManifestArgument = Annotated[Path, typer.Argument(metavar="MANIFEST", help="CSV or Parquet manifest.")]
FrontendOption = Annotated[
    str,
    typer.Option(
        "--frontend", metavar="NAME|HUB_ID|DIR", help="See `voxfide frontends`.", show_default=False
    ),
]
LayersOption = Annotated[
    int | None, typer.Option("--layers", metavar="N", help="Build and run the first N layers only.")
]
FrontendSettings = Annotated[
    list[str] | None,
    typer.Option(
        "--frontend-option",
        metavar="NAME=VALUE",
        help="Setting of the front-end, such as weights=FILE; repeatable.",
    ),
]
RevisionOption = Annotated[str | None, typer.Option(help="Branch, tag or commit of a hub id.")]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")]
PrecisionOption = Annotated[str, typer.Option(help="fp32, bf16 or fp16.")]
WorkersOption = Annotated[
    int | None, typer.Option(min=0, help="Decoding processes: by default half the cores; 0: none.")
]
BatchOption = Annotated[
    float | None, typer.Option("--batch-seconds", min=1.0, help="Audio in one batch; by default by device.")
]
StrictOption = Annotated[bool, typer.Option("--strict", help="Stop at the first file that cannot be used.")]
SplitOption = Annotated[str | None, typer.Option("--split", help="Use only rows of this split.")]
LabelsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--labels",
        metavar="CLASS=LABEL",
        help="Of a public classifier: bonafide=LABEL_1, spoof=...; repeatable.",
    ),
]
DETECTOR_HELP = "`bundled`, a detector's folder, a hub id, or hf:ORGANISATION/NAME of a public classifier."


def demo(
    out: Annotated[Path, typer.Option("-o", "--out", metavar="DIR", help="Where to.")] = Path("voxfide-demo"),
    seed: Annotated[int, typer.Option(min=0, help="Of everything random.")] = 0,
) -> None:
    """Run the whole line on a self-made corpus.

    From manifest to report: synthesises speech-like signals and attacks on them, trains two
    detectors, evaluates both and tries one on two files. Proves the plumbing, nothing else.
    """
    from voxfide.demo import run_demo

    run_demo(out, seed, console.say, console.progress)


def embed(
    manifest: ManifestArgument,
    frontend: FrontendOption,
    out: Annotated[Path, typer.Option("-o", "--out", metavar="STORE", help="Folder of the store.")],
    layers: LayersOption = None,
    frontend_option: FrontendSettings = None,
    pool: Annotated[str, typer.Option(help="mean, mean_std, or none for full frames in fp16.")] = "mean",
    split: SplitOption = None,
    revision: RevisionOption = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "fp32",
    workers: WorkersOption = None,
    batch_seconds: BatchOption = None,
    strict: StrictOption = False,
    engine: EngineOption = "local",
    address: AddressOption = None,
    actors: ActorsOption = None,
    actor_cpus: ActorCpusOption = None,
    actor_gpus: ActorGpusOption = None,
) -> None:
    """Compute features into a store.

    One store holds one kind of features. Run again, it goes on where it was.
    """
    from voxfide.embeddings import embed as embed_manifest
    from voxfide.manifest import Manifest

    rows = Manifest.read(manifest).require_valid().split(split)
    runner = make_engine(engine, address, actors, actor_cpus, actor_gpus, device=device)
    here = device if runner is None else "cpu"  # actors have devices of their own
    model = make_frontend(frontend, layers, frontend_option, revision, here, precision)
    model.pooled_dim(pool)
    with console.progress("embed") as bar:
        if runner is None:
            make: Callable[[], Extractor] = make_extractor(model, pool, workers, batch_seconds, bar, strict)
        else:
            from voxfide.named import FrontendExtractor

            make = FrontendExtractor(
                frontend, model.fingerprint(), layers, revision, precision, on_actors(device),
                frontend_settings(frontend_option), pool,
                {"workers": workers, "batch_seconds": batch_seconds, "strict": strict},
            )  # fmt: skip
        result = embed_manifest(
            rows, model, out, pool=pool, engine=runner, make_extractor=make, on_start=bar.start,
            progress=None if runner is None else bar,
        )  # fmt: skip
    console.report_failures(result.failures, f"{out}/failures.csv")
    shape = f"{model.n_layers} layer(s) of {result.store.info.dim} values"
    print(f"{out}: {len(result.store):,} utterances, {shape} ({pool})")
    exit_if(result.failures)


def score(
    detector: Annotated[str, typer.Argument(metavar="DETECTOR", help=DETECTOR_HELP)],
    manifest: ManifestArgument,
    out: Annotated[Path, typer.Option("-o", "--out", metavar="SCORES", help="Score file to write.")],
    split: SplitOption = None,
    device: DeviceOption = "auto",
    workers: WorkersOption = None,
    batch_seconds: BatchOption = None,
    strict: StrictOption = False,
    uncalibrated: Annotated[
        bool, typer.Option("--uncalibrated", help="Leave the detector's calibration out.")
    ] = False,
    labels: LabelsOption = None,
    engine: EngineOption = "local",
    address: AddressOption = None,
    actors: ActorsOption = None,
    actor_cpus: ActorCpusOption = None,
    actor_gpus: ActorGpusOption = None,
) -> None:
    """Score a manifest with a detector.

    Writes what the ASVspoof 5 evaluation package reads; a calibrated detector's scores are
    natural-log likelihood ratios. Run again after an interruption, it goes on where it was.
    """
    from voxfide.cli.provenance import write_score_facts
    from voxfide.detectors import load_detector
    from voxfide.manifest import Manifest
    from voxfide.scoring import score_manifest

    rows = Manifest.read(manifest).require_valid().split(split)
    named = dict(pairs(labels or [], "--labels"))
    runner = make_engine(engine, address, actors, actor_cpus, actor_gpus, device=device)
    model = load_detector(detector, device=device if runner is None else "cpu", labels=named)
    if uncalibrated:
        model = model.uncalibrated()
    options: dict[str, Any] = {"workers": workers, "batch_seconds": batch_seconds, "strict": strict}
    with console.progress("score") as bar:
        if runner is None:
            make: Callable[[], Extractor] = partial(model.extractor, progress=bar, **options)
        else:
            from voxfide.named import DetectorExtractor, NamedDetector

            there = NamedDetector(detector, model.fingerprint(), on_actors(device), named, uncalibrated)
            make = DetectorExtractor(there, options)
        result = score_manifest(
            model, rows, out, engine=runner, make_extractor=make, on_start=bar.start,
            progress=None if runner is None else bar,
        )  # fmt: skip
    write_score_facts(out, model, detector, rows, split, result)
    console.report_failures(result.failures, f"{out}.failures.csv")
    print(f"{out}: {result.n_scored:,} scores")
    exit_if(result.failures)


def make_frontend(
    name: str,
    layers: int | None,
    options: list[str] | None,
    revision: str | None,
    device: str,
    precision: str,
) -> Frontend:
    from voxfide.devices import resolve_device
    from voxfide.frontends import create_frontend

    settings = frontend_settings(options)
    clash = sorted({"n_layers", "revision", "precision", "device", "name"} & set(settings))
    if clash:
        raise UsageError(f"--frontend-option {clash[0]}: has an option of its own (see --help)")
    return create_frontend(
        name, layers, revision=revision, precision=precision, device=resolve_device(device), **settings
    )


def frontend_settings(options: list[str] | None) -> dict[str, Any]:
    """What ``--frontend-option`` says."""
    return {key: plain_value(value) for key, value in pairs(options or [], "--frontend-option")}


def make_extractor(
    frontend: Frontend,
    pool: str,
    workers: int | None,
    batch_seconds: float | None,
    bar: console.Progress,
    strict: bool,
) -> Callable[[], Extractor]:
    from voxfide.extraction import Extractor

    return lambda: Extractor(frontend, pool, workers, batch_seconds, bar, strict)


def pairs(items: list[str], option: str) -> list[tuple[str, str]]:
    """``NAME=VALUE`` items of a repeatable option."""
    found = [item.partition("=") for item in items]
    for name, equals, value in found:
        if not name or not equals or not value:
            raise UsageError(f"{option} {name}{equals}{value}: expected NAME=VALUE")
    return [(name, value) for name, _, value in found]


def plain_value(text: str) -> Any:
    """A number, ``true`` or ``false`` as such; any other text, such as a path, as it is."""
    try:
        value = json.loads(text, parse_constant=str)
    except ValueError:
        return text
    return value if isinstance(value, bool | int | float) else text


def exit_if(failed: object) -> None:
    """Ends with code 1 where files could not be used; not under a launcher, which takes it for a crash."""
    if failed and not console.is_launched():
        raise typer.Exit(EXIT_FAILED_FILES)
