"""``voxfide domain``: what the training audio of a detector sounds like, kept with the detector."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from voxfide.cli import console
from voxfide.cli.commands import ManifestArgument, SplitOption, WorkersOption, exit_if
from voxfide.errors import AudioError, UsageError

if TYPE_CHECKING:
    from voxfide.augment.base import Augmentation
    from voxfide.domain import DomainModel
    from voxfide.jobs import Failure
    from voxfide.manifest import Manifest
    from voxfide.types import Float32Array


def domain(
    detector: Annotated[Path, typer.Argument(metavar="DETECTOR", help="Detector folder.")],
    manifest: ManifestArgument,
    split: SplitOption = None,
    groups: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="Leave values of this column, e.g. speaker, out together."),
    ] = None,
    augment: Annotated[
        str | None,
        typer.Option(
            metavar="SPEC",
            help="Take every recording a second time, augmented as the detector's training was.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the augmentation.")] = 0,
    workers: WorkersOption = None,
) -> None:
    """Teach a detector to tell unfamiliar recordings.

    Measures the recordings that it was trained on and keeps in DETECTOR/domain.json what they sound like.
    `detect` then says how far a recording lies from them. Scores do not change.
    """
    from voxfide.augment import parse
    from voxfide.detector_search import described
    from voxfide.domain import FILE_NAME
    from voxfide.files import write_atomic
    from voxfide.manifest import Manifest

    if not (detector / "config.json").is_file():
        raise UsageError(f"{detector}: no detector there (expected a folder with config.json)")
    problem = described(detector, str(detector), "folder").problem
    if problem:
        raise UsageError(problem)
    rows = Manifest.read(manifest).require_valid().split(split)
    if groups is not None and groups not in rows.columns:
        raise UsageError(f"{manifest}: no column {groups} (it has {', '.join(rows.columns)})")
    change = None if augment is None else _Change(parse(augment), seed)
    model, failures = _fitted(rows, split, groups, change, workers)
    write_atomic(detector / FILE_NAME, model.to_text())
    reduced, far = model.limits
    print(
        f"{detector / FILE_NAME}: {model.fitted_to['n_recordings']:,} recordings; "
        f"unfamiliar above a distance of {reduced:.2f}, no verdict above {far:.2f}"
    )
    console.list_failures(failures, "could not be used")
    exit_if(failures)


@dataclass(frozen=True)
class _Change:
    """An augmentation whose chance belongs to the utterance."""

    augmentation: Augmentation
    seed: int

    def __call__(self, waveform: Float32Array, utterance_id: str) -> Float32Array:
        from voxfide.augment.seeds import utterance_rng
        from voxfide.types import SAMPLE_RATE

        return self.augmentation(waveform, SAMPLE_RATE, utterance_rng(self.seed, utterance_id))


def _fitted(
    rows: Manifest, split: str | None, groups: str | None, change: _Change | None, workers: int | None
) -> tuple[DomainModel, list[Failure]]:
    from voxfide.decoding import DecodePool, default_workers
    from voxfide.domain import DomainModel, features_of
    from voxfide.jobs import Failure, rows_of

    jobs = rows_of(rows)
    names = rows.strings(groups) if groups is not None else [row.utterance_id for row in jobs]
    features, kept = [], []
    failures: list[Failure] = []
    with (
        console.progress("domain") as bar,
        DecodePool(default_workers() if workers is None else workers) as pool,
    ):
        bar.start(len(jobs), 0)
        for row, name, audio in zip(jobs, names, pool.decode([row.path for row in jobs]), strict=True):
            if isinstance(audio, AudioError):
                failures.append(Failure.of(row, audio))
                bar(1, 0.0)
                continue
            try:
                versions = [audio.waveform]
                if change is not None:
                    versions.append(change(audio.waveform, row.utterance_id))
                features += [features_of(version) for version in versions]
                kept += [str(name)] * len(versions)
            except AudioError as error:
                failures.append(Failure.of(row, error))
            bar(1, audio.info.duration)
    facts = {
        "manifest": Path(rows.source).name,
        "split": split,
        "groups": groups,
        "augmentation": None if change is None else change.augmentation.describe(),
        "n_recordings": len(features),
        "digest": rows.digest(),
    }
    return DomainModel.fit(features, kept, facts), failures
