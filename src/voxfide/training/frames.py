"""Training heads on full frames of a frozen front-end: features kept on disk where they fit, else anew."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from voxfide.backends.frames import FramesBackend
from voxfide.backends.neural import NeuralBackend
from voxfide.crops import Crop
from voxfide.detector import Detector
from voxfide.embeddings import EmbeddingStore, embed
from voxfide.engine import LocalEngine
from voxfide.errors import UsageError
from voxfide.extraction import Extractor, Progress, run_shards
from voxfide.frontends.base import Frontend
from voxfide.jobs import Failure, rows_of, shards_of
from voxfide.training.frame_labels import FrameLabels, segments_digest
from voxfide.training.frame_loss import fit_threshold
from voxfide.training.heads import HeadJob, HeadTrainer, TrainedHead
from voxfide.training.pooled import TrainingSet, TrainResult, dev_figures, set_facts
from voxfide.training.processes import (
    as_the_first_says,
    gather_failures,
    naming_lost_processes,
    wait_for_the_first,
)
from voxfide.training.settings import TrainSettings
from voxfide.training.streams import Augment, FeatureStream, LiveStream, StoreStream
from voxfide.types import BONAFIDE, SAMPLE_RATE, BoolArray

if TYPE_CHECKING:
    from accelerate import Accelerator

log = logging.getLogger(__name__)

DISK_SHARE = 0.8
"""Of the free space that stored features may fill."""

BYTES_PER_NUMBER = 2
"""Full frames are stored in float16."""


@dataclass(frozen=True)
class FeatureOptions:
    """How heads get their features.

    Args:
        disk_budget: bytes that full-frame features may take on disk; where the sets need more, or
            their crops are random or augmented, features are computed anew in every epoch.
        augment: what is done to training waveforms.
        workers: decoding processes; None chooses.
        batch_seconds: audio in one batch of the front-end; None chooses.
        strict: raise the first file that cannot be read.
        store: where full-frame features are kept; a folder of the run's by default, and not kept.
        progress, on_start: told of utterances as their features are stored, and how many there are.
    """

    disk_budget: float = 50e9
    augment: Augment | None = None
    workers: int | None = None
    batch_seconds: float | None = None
    strict: bool = False
    store: Path | None = None
    progress: Progress | None = None
    on_start: Callable[[int, int], None] | None = None


@dataclass
class Streams:
    """Features of a training and a development set, and what of them could not be read."""

    train: FeatureStream
    dev: FeatureStream
    kept_at: Path | None = None
    _failures: list[Failure] = field(default_factory=list)

    @property
    def failures(self) -> list[Failure]:
        """Files that could not be read, known after the first epoch where nothing is stored."""
        live = [s for s in (self.train, self.dev) if isinstance(s, LiveStream)]
        return [*self._failures, *(f for stream in live for f in stream.failures.values())]

    def remove(self) -> None:
        """Deletes stored features."""
        if self.kept_at is not None:
            shutil.rmtree(self.kept_at, ignore_errors=True)


def frame_bytes(sets: Sequence[TrainingSet], frontend: Frontend, crop: Crop) -> float:
    """Size in bytes of the sets' full-frame features; infinite where durations are not known."""
    total = 0.0
    for part in sets:
        if crop.seconds is not None and crop.short == "tile":
            samples = float(crop.n_samples or 0) * len(part.manifest)
        elif "duration" in part.manifest.columns:
            durations = [d if d is not None else np.inf for d in part.manifest.column("duration")]
            samples = sum(min(d, crop.seconds or np.inf) for d in durations) * SAMPLE_RATE
        else:
            return float("inf")
        total += samples / frontend.hop_samples * frontend.n_layers * frontend.dim * BYTES_PER_NUMBER
    return total


def open_streams(
    sets: tuple[TrainingSet, TrainingSet],
    frontend: Frontend,
    settings: TrainSettings,
    folder: Path,
    options: FeatureOptions,
    accelerator: Accelerator | None = None,
    *,
    frame_labels: bool = False,
) -> Streams:
    """Streams of both sets: from a store in ``folder`` where it fits the budget, else from the front-end.

    Of several processes the first fills the store, and the others wait for it.

    Args:
        frame_labels: whether batches bring the labels of frames, of sets whose manifest has ``segments``.

    Raises:
        UsageError: a class of a set of which not one file could be read.
    """
    crop = settings.crop
    labels = [FrameLabels.of(part.manifest, frontend, crop) if frame_labels else None for part in sets]
    if frame_labels and labels[0] is None:
        log.warning("the manifest has no column 'segments': only the labels of utterances are learnt")
    store = options.store or folder / "frames"
    # Free space may look different to every process, and all must do the same.
    if why := as_the_first_says(accelerator, _why_anew(sets, frontend, crop, store, options)):
        log.info("features are computed anew in every epoch: %s", why)
        train, dev = (
            _live(part, frontend, settings, options, of_frames)
            for part, of_frames in zip(sets, labels, strict=True)
        )
        return Streams(train, replace(dev, augment=None))
    streams, failures = [], []
    for part, of_frames in zip(sets, labels, strict=True):
        if accelerator is None or accelerator.is_main_process:
            _fill(store, part, frontend, crop, options)
        wait_for_the_first(accelerator)
        held = EmbeddingStore(store)
        ids_of_part = set(part.manifest.column("utterance_id"))
        failed = [failure for failure in held.failures() if failure.utterance_id in ids_of_part]
        failures += failed
        ids, is_bonafide = part.readable(held.__contains__)
        streams.append(StoreStream(held, ids, is_bonafide, frontend.device, of_frames))
    return Streams(streams[0], streams[1], None if options.store else store, failures)


def _fill(store: Path, part: TrainingSet, frontend: Frontend, crop: Crop, options: FeatureOptions) -> None:
    """Computes what a store lacks of a set's full-frame features."""
    make = partial(
        Extractor,
        frontend,
        "none",
        options.workers,
        options.batch_seconds,
        options.progress,
        options.strict,
        crop=crop,
    )
    embed(
        part.manifest,
        frontend,
        store,
        pool="none",
        make_extractor=make,
        crop=crop,
        on_start=options.on_start,
    )


def _why_anew(
    sets: Sequence[TrainingSet], frontend: Frontend, crop: Crop, store: Path, options: FeatureOptions
) -> str:
    """Why features are not stored; empty where they are."""
    if frontend.kind == "waveform":
        return "they are the audio itself"
    if options.augment is not None or (crop.seconds is not None and crop.position == "random"):
        return "crops or augmentation are random"
    needed = frame_bytes(sets, frontend, crop)
    if needed > min(options.disk_budget, DISK_SHARE * _free(store)):
        return f"they would take {needed / 1e9:.1f} GB"
    return ""


def _live(
    part: TrainingSet,
    frontend: Frontend,
    settings: TrainSettings,
    options: FeatureOptions,
    frame_labels: FrameLabels | None,
) -> LiveStream:
    is_bonafide = part.manifest.strings("label") == BONAFIDE
    return LiveStream(
        frontend, rows_of(part.manifest), is_bonafide, settings.crop, settings.seed, options.augment,
        options.workers, options.strict, frame_labels,
    )  # fmt: skip


def _free(store: Path) -> float:
    """Bytes that a store may take: what is free on its disk, and what it holds already."""
    held = sum(part.stat().st_size for part in store.glob("parts/*")) if store.is_dir() else 0
    there = next(p for p in (store.absolute(), *store.absolute().parents) if p.exists())
    return float(shutil.disk_usage(there).free + held)


def fit_heads(
    jobs: Sequence[HeadJob],
    sets: tuple[TrainingSet, TrainingSet],
    frontend: Frontend,
    settings: TrainSettings,
    folder: Path,
    *,
    accelerator: Accelerator,
    options: FeatureOptions | None = None,
    say: Callable[[str], None] | None = None,
) -> tuple[list[TrainedHead], Streams]:
    """Trains heads on two sets; goes on where a killed run in ``folder`` was.

    The front-end stays frozen and in eval mode: no dropout, no layer left out.
    """
    frontend.eval().requires_grad_(False)
    frame_labels = any(job.backend.frame_loss_weight > 0 for job in jobs)
    streams = open_streams(
        sets, frontend, settings, folder, options or FeatureOptions(), accelerator, frame_labels=frame_labels
    )
    augment = options.augment if options else None
    facts: dict[str, Any] = {
        "frontend": frontend.fingerprint(),
        "sets": [part.manifest.digest() for part in sets],
        "augmentation": None if augment is None else augment.describe(),
    }
    if frame_labels:
        facts["segments"] = [segments_digest(part.manifest) for part in sets]
    trainer = HeadTrainer(
        jobs, streams.train, streams.dev, settings, folder, accelerator=accelerator, facts=facts, say=say
    )
    return trainer.fit(), streams


@naming_lost_processes()
def train_frames(
    sets: tuple[TrainingSet, TrainingSet | None],
    frontend: Frontend,
    backend: NeuralBackend,
    settings: TrainSettings,
    folder: Path,
    *,
    seed: int = 0,
    long: str = "windows",
    accelerator: Accelerator,
    options: FeatureOptions | None = None,
    say: Callable[[str], None] | None = None,
) -> TrainResult:
    """Trains one head and measures the detector that it makes; of several processes, the first measures.

    Args:
        sets: training and development set; the second decides when to stop.
        frontend: frozen.
        backend: not built yet.
        settings: of the training.
        folder: where checkpoints, journal and stored features lie; removed but for the journal.
        seed: of the head's first weights and dropout.
        long: what the detector scores of a recording longer than the crop (see :class:`Crop`).

    Raises:
        UsageError: no development set.
        LostProcessError: another process of the run has ended.
    """
    train_set, dev_set = sets
    if dev_set is None:
        raise UsageError(
            f"back-end {backend.name} is trained until the development loss no longer falls: it needs a "
            "development split (see --dev-split)"
        )
    both = (train_set, dev_set)
    job = HeadJob(backend.name, backend, frontend.n_layers, seed)
    trained, streams = fit_heads(
        [job], both, frontend, settings, folder, accelerator=accelerator, options=options, say=say
    )
    failures = gather_failures(accelerator, {f.utterance_id: f for f in streams.failures})
    crop = replace(settings.crop.at_start(), long=long)
    detector = Detector(frontend, backend, "none", crop=crop)
    if not accelerator.is_main_process:
        return TrainResult(detector, {}, failures)
    of_frames = None
    if isinstance(backend, FramesBackend):
        of_frames = fit_threshold(backend, streams.dev, settings.batch_size)
    scores, is_bonafide = _score_set(detector, dev_set, options or FeatureOptions())
    figures, detector.threshold = dev_figures(scores, is_bonafide)
    metrics = {"dev": figures}
    failed = {failure.utterance_id for failure in failures}
    weights = backend.layer_weights()
    detector.training = {
        "sets": {
            part.name: set_facts(part, sum(i in failed for i in part.manifest.column("utterance_id")))
            for part in both
        },
        "metrics": metrics,
        "settings": settings.to_json() | {"head_seed": seed},
        "best_epoch": trained[0].best_epoch,
        "dev_loss": trained[0].dev_loss,
        "layer_weights": None if weights is None else weights.tolist(),
    }
    if of_frames is not None:
        detector.training["dev_frames"] = of_frames
    return TrainResult(detector, metrics, failures)


def _score_set(
    detector: Detector, part: TrainingSet, options: FeatureOptions
) -> tuple[np.ndarray, BoolArray]:
    """Scores and classes of the readable part of a set, as the detector scores recordings."""
    rows = rows_of(part.manifest)
    label = dict(zip(part.manifest.column("utterance_id"), part.manifest.strings("label"), strict=True))
    shards = shards_of(rows, [True] * len(rows))
    make = partial(detector.extractor, workers=options.workers, batch_seconds=options.batch_seconds)
    extracted = [e for some, _ in run_shards(LocalEngine(), make, shards) for e in some]
    is_bonafide = np.array([label[e.row.utterance_id] == BONAFIDE for e in extracted])
    return detector.score_extracted([e.features for e in extracted]), is_bonafide
