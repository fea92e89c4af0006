"""The working commands; each parses, calls one function of the library and prints."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from voxfide.cli import console
from voxfide.cli.reading import Reading
from voxfide.errors import AudioError, UsageError

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
    pool: Annotated[str, typer.Option(help="mean, mean_std, or none for full frames in fp16.")] = "mean",
    split: SplitOption = None,
    revision: RevisionOption = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "fp32",
    workers: WorkersOption = None,
    batch_seconds: BatchOption = None,
    strict: StrictOption = False,
) -> None:
    """Compute features into a store.

    One store holds one kind of features. Run again, it goes on where it was.
    """
    from voxfide.embeddings import embed as embed_manifest
    from voxfide.manifest import Manifest

    rows = Manifest.read(manifest).require_valid().split(split)
    model = _frontend(frontend, layers, revision, device, precision)
    model.pooled_dim(pool)
    with console.progress("embed") as bar:
        make = _extractor(model, pool, workers, batch_seconds, bar, strict)
        result = embed_manifest(rows, model, out, pool=pool, make_extractor=make, on_start=bar.start)
    console.report_failures(result.failures, f"{out}/failures.csv")
    shape = f"{model.n_layers} layer(s) of {result.store.info.dim} values"
    print(f"{out}: {len(result.store):,} utterances, {shape} ({pool})")
    _exit_if(result.failures)


def train(
    manifest: ManifestArgument,
    frontend: FrontendOption,
    backend: Annotated[str, typer.Option(help="See `voxfide backends`.", show_default=False)],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="DETECTOR", help="Folder of the detector.")],
    split: Annotated[str, typer.Option(help="Split to train on.")] = "train",
    dev_split: Annotated[str, typer.Option(help="Split to measure on and choose the threshold.")] = "dev",
    layers: LayersOption = None,
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
    weights: Annotated[
        str, typer.Option(help="Front-end weights: inside the detector, or left on the hub: embed or hub.")
    ] = "embed",
    revision: RevisionOption = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "fp32",
    workers: WorkersOption = None,
    batch_seconds: BatchOption = None,
    strict: StrictOption = False,
) -> None:
    """Train a detector.

    Fits a back-end on the features of a frozen front-end and saves both as one folder, with
    the threshold at which the error rates meet on the development split.
    """
    import shutil

    from voxfide.backends import BACKENDS, create_backend
    from voxfide.manifest import Manifest
    from voxfide.training import choose_sets
    from voxfide.training import train as train_detector

    if weights not in ("embed", "hub"):
        raise UsageError(f"--weights {weights!r} (expected embed or hub)")
    head = create_backend(backend, **dict(pairs(option or [], "--option")))
    pool = pool or BACKENDS[backend].pool
    sets = choose_sets(Manifest.read(manifest).require_valid(), split, dev_split)
    model = _frontend(frontend, layers, revision, device, precision)
    features = store or out.with_name(out.name + ".features")
    with console.progress("embed") as bar:
        make = _extractor(model, pool, workers, batch_seconds, bar, strict)
        result = train_detector(
            sets, model, head, store=features, pool=pool, make_extractor=make, on_start=bar.start
        )
    result.detector.save(out, embed_frontend=weights == "embed")
    failed = out / "failures.csv"
    _write_failures(failed, result.failures)
    if store is None:
        shutil.rmtree(features)
    console.report_failures(result.failures, str(failed))
    for name, values in result.metrics.items():
        print(
            f"{name}: EER {values['eer_percent']:.2f} %, Cllr {values['cllr']:.3f}, AUC {values['auc']:.3f}"
        )
    print(f"{out}: detector {model.name} + {backend}, threshold {result.detector.threshold:.4f}")
    _exit_if(result.failures)


def score(
    detector: Annotated[Path, typer.Argument(metavar="DETECTOR", help="Detector folder or hub id.")],
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
) -> None:
    """Score a manifest with a detector.

    Writes what the ASVspoof 5 evaluation package reads; a calibrated detector's scores are
    natural-log likelihood ratios. Run again after an interruption, it goes on where it was.
    """
    from voxfide.cli.provenance import write_score_facts
    from voxfide.detector import Detector
    from voxfide.devices import resolve_device
    from voxfide.manifest import Manifest
    from voxfide.scoring import score_manifest

    rows = Manifest.read(manifest).require_valid().split(split)
    model = Detector.from_pretrained(str(detector), device=resolve_device(device))
    if uncalibrated:
        model = model.uncalibrated()
    with console.progress("score") as bar:
        make = _extractor(model.frontend, model.pool, workers, batch_seconds, bar, strict)
        result = score_manifest(model, rows, out, make_extractor=make, on_start=bar.start)
    write_score_facts(out, model, str(detector), rows, split, result)
    console.report_failures(result.failures, f"{out}.failures.csv")
    print(f"{out}: {result.n_scored:,} scores")
    _exit_if(result.failures)


def detect(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Recordings, audio or video.")],
    detector: Annotated[
        str | None, typer.Option("--detector", metavar="DETECTOR", help="Detector folder or hub id.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")] = False,
    threshold: Annotated[
        float | None, typer.Option(help="Score from which a recording counts as bona fide.")
    ] = None,
    prior: Annotated[
        float | None,
        typer.Option(help="Of bona fide; a calibrated detector's probability and threshold follow."),
    ] = None,
    device: DeviceOption = "auto",
) -> None:
    """Score recordings.

    Any audio or video container, any length. Higher scores mean more bona fide. A calibrated
    detector also says how probable bona fide is at a stated prior.
    """
    from voxfide.detector import Detector
    from voxfide.devices import resolve_device

    if detector is None:
        raise UsageError(
            "no detector is bundled in this version: give --detector FOLDER (`voxfide train` makes one; "
            "`voxfide demo` makes one that knows synthetic test signals only)"
        )
    model = Detector.from_pretrained(detector, device=resolve_device(device))
    reading = Reading.of(model, prior, threshold)
    failed = False
    for file in files:
        try:
            found = model.detect(file)
        except AudioError as error:
            failed = True
            if as_json:
                print(json.dumps({"path": str(file), "error": str(error)}, ensure_ascii=False), flush=True)
            else:
                print(f"voxfide: {error}", file=sys.stderr)
            continue
        for warning in found.info.warnings:
            print(f"voxfide: {file}: {warning}", file=sys.stderr)
        if as_json:
            print(json.dumps(reading.to_json(found), ensure_ascii=False), flush=True)
        else:
            print(reading.to_text(found), flush=True)
    _exit_if(failed)


def _frontend(name: str, layers: int | None, revision: str | None, device: str, precision: str) -> Frontend:
    from voxfide.devices import resolve_device
    from voxfide.frontends import create_frontend

    return create_frontend(
        name, layers, revision=revision, precision=precision, device=resolve_device(device)
    )


def _extractor(
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


def _write_failures(path: Path, failures: list[Any]) -> None:
    from voxfide.files import write_atomic
    from voxfide.jobs import failures_csv

    if failures:
        write_atomic(path, failures_csv(failures))


def _exit_if(failed: object) -> None:
    if failed:
        raise typer.Exit(EXIT_FAILED_FILES)
