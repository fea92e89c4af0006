"""One front-end of a benchmark, measured in a process of its own: load, extract, classify.

A process of its own, so that the peak of its memory is that of this front-end, and so that a
front-end that takes the machine's last memory, or crashes, ends nothing but itself.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from voxfide.backends.base import ClassCounts
from voxfide.backends.logistic import LogisticBackend
from voxfide.embeddings import EmbeddingStore, embed
from voxfide.errors import CheckpointError, UsageError, VoxfideError
from voxfide.extraction import Extractor
from voxfide.frontends import create_frontend
from voxfide.frontends.base import Frontend
from voxfide.frontends.random_weights import create_with_random_weights, has_random_weights
from voxfide.jobs import Failure, write_failures
from voxfide.scores import write_scores
from voxfide.studies.benchmark_choice import BenchmarkFrontend
from voxfide.studies.benchmark_machine import (
    describe_machine,
    measure_extraction,
    peak_device_memory,
    peak_memory,
    sample_audio,
)
from voxfide.studies.benchmark_rows import BenchmarkRow, Weights, write_row
from voxfide.studies.depth import depth_of
from voxfide.studies.projection import layer_embeddings
from voxfide.studies.reporting import eer_with_interval
from voxfide.training.pooled import TrainingSet
from voxfide.types import BONAFIDE, BoolArray, Float32Array

MOST_RANDOM: Final = 400_000_000
"""Parameters beyond which no architecture is built with random weights: they would take gigabytes
and hours, and show nothing."""

Tell = Callable[[str, Any], None]
"""Called with ``start``, ``progress``, ``log``, ``failures``, ``row`` or ``error``, and its content."""


@dataclass(frozen=True)
class BenchmarkOptions:
    """How front-ends are measured.

    Args:
        layer: whose time average is classified: ``last``, a number from 1, ``mean`` over layers, or ``all``.
        C: inverse strength of the penalty of the regression.
        n_layers: build and run the first n layers only, of front-ends that have more.
        random_weights: build registered architectures with random weights where none can be had.
        device, precision: of the front-ends.
        workers: decoding processes; None chooses.
        batch_seconds: audio in a batch; None chooses.
        n_bootstrap: samples for the intervals; 0 for none.
        seed: of bootstrap, random weights and the sample that speed is measured on.
    """

    layer: str | int = "last"
    C: float = 1e3
    n_layers: int | None = None
    random_weights: bool = False
    device: str = "cpu"
    precision: str = "fp32"
    workers: int | None = None
    batch_seconds: float | None = None
    n_bootstrap: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        if self.layer not in ("last", "mean", "all") and not (
            isinstance(self.layer, int) and self.layer >= 1
        ):
            raise UsageError(f"layer {self.layer!r} (expected last, mean, all or a number from 1)")
        if not self.C > 0:
            raise UsageError(f"C={self.C} (expected a positive number)")


@dataclass(frozen=True)
class Job:
    """All that a process needs to measure a front-end; picklable.

    Attributes:
        folder: of the front-end, for everything that is written.
        key: under which its row is kept.
        options: how it is measured.
    """

    choice: BenchmarkFrontend
    train: TrainingSet
    dev: TrainingSet
    folder: Path
    key: str
    options: BenchmarkOptions


def run(job: Job, pipe: Connection) -> None:
    """What the process does: measures, and tells the outcome through ``pipe``."""

    def tell(kind: str, content: Any) -> None:
        pipe.send((kind, content))

    _die_with_parent()
    logger = logging.getLogger("voxfide")
    logger.addHandler(_Forwarding(tell))
    logger.propagate = False
    try:
        tell("row", measure(job, tell))
    except VoxfideError as error:
        tell("error", str(error))
    except (MemoryError, torch.OutOfMemoryError) as error:
        tell("error", f"out of memory ({type(error).__name__})")
    except (KeyboardInterrupt, BrokenPipeError):
        os._exit(130)  # the parent has been interrupted or is gone, and says so itself


def measure(job: Job, tell: Tell) -> BenchmarkRow:
    """Measures a front-end; its store stays in ``job.folder``, its row is written last.

    Raises:
        VoxfideError: whatever stops it.
    """
    options = job.options
    frontend, weights = load(job)
    fingerprint = frontend.fingerprint()
    # Named after what is in it: other weights, or other code, get a store of their own.
    store_folder = job.folder / f"store-{fingerprint[:12]}"
    speed = measure_extraction(frontend, sample_audio(job.dev.manifest, frontend, options.seed))
    failures: list[Failure] = []
    store: EmbeddingStore | None = None
    for part in (job.train, job.dev):
        result = embed(
            part.manifest, frontend, store_folder,
            make_extractor=lambda: Extractor(
                frontend, "mean", options.workers, options.batch_seconds,
                lambda n, s: tell("progress", (n, s)),
            ),
            on_start=lambda missing, kept: tell("start", (missing, kept)),
        )  # fmt: skip
        store = result.store
        failures += result.failures
    memory, device_memory = peak_memory(), peak_device_memory(options.device)
    assert store is not None
    tell("failures", failures)
    write_failures(job.folder / "failures.csv", failures)
    train, is_bonafide, _ = examples(job.train, store, options.layer)
    backend = LogisticBackend(C=options.C, layer="all").fit(train, is_bonafide)
    dim = train.shape[1] * train.shape[2]
    del train
    dev, is_bonafide, ids = examples(job.dev, store, options.layer)
    scores = backend.score(dev)
    write_scores(job.folder / "dev.tsv", ids, scores)
    spec = job.choice.spec
    row = BenchmarkRow(
        job.choice.label, job.choice.name, weights, fingerprint,
        sum(p.numel() for p in frontend.parameters()), frontend.n_layers, options.layer, dim,
        *eer_with_interval(scores, is_bonafide, options.n_bootstrap, options.seed),
        int(is_bonafide.sum()), int((~is_bonafide).sum()), len(failures),
        speed, memory, device_memory, describe_machine(options.device),
        spec.open_condition if spec else None, spec.training_data if spec else "",
    )  # fmt: skip
    write_row(job.folder, job.key, row)
    return row


def load(job: Job) -> tuple[Frontend, Weights]:
    """The front-end, and where its weights are from.

    Raises:
        VoxfideError: it cannot be had.
    """
    choice, options = job.choice, job.options
    n_layers = None if options.n_layers is None else min(options.n_layers, depth_of(choice.name))
    spec = choice.spec
    registered = spec is not None and choice.name == spec.name
    try:
        made = create_frontend(
            choice.name,
            n_layers,
            precision=options.precision,
            device=options.device,
            **choice.options,
        )
    except CheckpointError as error:
        # Never in place of files that were given: what is wrong with those must be said.
        if not (options.random_weights and registered and spec) or choice.options or choice.folder:
            raise
        if spec.n_parameters > MOST_RANDOM:
            raise CheckpointError(
                f"{error}; with {spec.n_parameters / 1e6:,.0f} million parameters it is not built with "
                f"random weights either (at most {MOST_RANDOM / 1e6:,.0f} million)"
            ) from None
        drawn = create_with_random_weights(
            choice.name,
            n_layers,
            seed=options.seed,
            precision=options.precision,
            device=options.device,
        )
        return drawn, "random"
    needs_none = registered and spec and not has_random_weights(spec) and "weights" not in choice.options
    return made, "none" if needs_none else "released"


def examples(
    part: TrainingSet, store: EmbeddingStore, layer: str | int
) -> tuple[Float32Array, BoolArray, list[str]]:
    """Features ``(utterances, layers, dim)``, classes and ids of what could be read of a set.

    Of a single layer, or their mean, only so much is taken into memory: ``layers`` is then 1.

    Raises:
        UsageError: no such layer, or a class of which nothing could be read.
    """
    everything = part.manifest.strings("utterance_id").tolist()
    readable = np.array([i in store for i in everything], dtype=bool)
    ids = [i for i in everything if i in store]
    is_bonafide = (part.manifest.strings("label") == BONAFIDE)[readable]
    ClassCounts.of(is_bonafide, f"readable part of the {part.name} set")
    if layer == "all":
        return store.matrix(ids), is_bonafide, ids
    if layer == "mean":
        averages = np.stack([store.features(i).mean(axis=0) for i in ids])
        return averages[:, None], is_bonafide, ids
    if layer != "last" and not isinstance(layer, int):
        raise UsageError(f"layer {layer!r} (expected last, mean, all or a number from 1)")
    number = None if layer == "last" else int(layer)
    return layer_embeddings(store, ids, number)[:, None], is_bonafide, ids


def _die_with_parent() -> None:
    """Ends this process when the one that started it is gone, so that it holds no lock any longer."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)  # as by kill -9, which nothing here minds

    threading.Thread(target=watch, name="parent", daemon=True).start()


class _Forwarding(logging.Handler):
    """Hands log messages to the parent, which knows where they are to go."""

    def __init__(self, tell: Tell) -> None:
        super().__init__()
        self._tell = tell

    def emit(self, record: logging.LogRecord) -> None:
        self._tell("log", (record.levelno, record.getMessage()))
