"""Training a back-end on a frozen front-end, from a manifest to a saved detector."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from voxfide.backends.base import Backend, ClassCounts
from voxfide.detector import Detector
from voxfide.embeddings import EmbedResult, embed
from voxfide.errors import UsageError
from voxfide.extraction import Extractor
from voxfide.frontends.base import Frontend
from voxfide.jobs import Failure
from voxfide.manifest import Manifest
from voxfide.metrics import METRICS, eer
from voxfide.types import BONAFIDE, UNKNOWN, BoolArray, PathLike

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingSet:
    """The labelled rows of a manifest that a detector is trained or measured on."""

    name: str
    manifest: Manifest
    split: str | None

    @classmethod
    def of(cls, name: str, manifest: Manifest, split: str | None) -> TrainingSet:
        """Rows of ``split`` whose label is known.

        Raises:
            UsageError: no such split, or one class only.
        """
        part = manifest.split(split)
        labels = part.strings("label")
        part = part.take(np.flatnonzero(labels != UNKNOWN))
        ClassCounts.of(part.strings("label") == BONAFIDE, f"{manifest.source}, split {split or 'all'}")
        return cls(name, part, split)


@dataclass(frozen=True)
class TrainResult:
    """What :func:`train` made: the detector, its figures by set, and what could not be read."""

    detector: Detector
    metrics: dict[str, dict[str, float]]
    failures: list[Failure] = field(default_factory=list)


def choose_sets(
    manifest: Manifest, split: str | None, dev_split: str | None
) -> tuple[TrainingSet, TrainingSet | None]:
    """The training set, and the development set if the manifest has that split.

    A manifest without a ``split`` column is used whole, for training only.
    """
    if "split" not in manifest.columns:
        log.warning("%s: has no split column: all rows are used for training", manifest.source)
        return TrainingSet.of("train", manifest, None), None
    train = TrainingSet.of("train", manifest, split)
    if dev_split is None or dev_split not in set(manifest.strings("split")):
        log.warning("%s: no split %r: the detector is not measured", manifest.source, dev_split)
        return train, None
    if dev_split == split:
        raise UsageError(f"split {split!r} is named for training and for development: figures would flatter")
    return train, TrainingSet.of("dev", manifest, dev_split)


def train(
    sets: tuple[TrainingSet, TrainingSet | None],
    frontend: Frontend,
    backend: Backend,
    *,
    store: PathLike,
    pool: str,
    make_extractor: Callable[[], Extractor] | None = None,
    on_start: Callable[[int, int], None] | None = None,
) -> TrainResult:
    """Embeds both sets into ``store``, fits the back-end and measures it.

    The decision threshold is where the error rates meet on the development set (0 where
    there is none).

    Raises:
        UsageError: features or classes that the back-end cannot be trained on.
        StoreError: ``store`` holds other features.
    """
    train_set, dev_set = sets
    if pool not in backend.pools:
        raise UsageError(f"back-end {backend.name} takes {' or '.join(backend.pools)} features, not {pool!r}")
    present = [s for s in sets if s is not None]
    results = [
        embed(
            s.manifest, frontend, store, pool=pool, make_extractor=make_extractor, on_start=on_start
        )
        for s in present
    ]  # fmt: skip
    backend.fit(*_examples(train_set, results[0]))
    detector = Detector(frontend, backend, pool)
    metrics: dict[str, dict[str, float]] = {}
    if dev_set is not None:
        features, is_bonafide = _examples(dev_set, results[1])
        scores = detector.score_features(features)
        metrics["dev"] = {spec.name: float(spec(scores, is_bonafide)) for spec in METRICS}
        detector.threshold = eer(scores, is_bonafide).accepts_from
    facts = {s.name: set_facts(s, len(r.failures)) for s, r in zip(present, results, strict=True)}
    detector.training = {"sets": facts, "metrics": metrics}
    return TrainResult(detector, metrics, [f for r in results for f in r.failures])


def _examples(part: TrainingSet, embedded: EmbedResult) -> tuple[np.ndarray, BoolArray]:
    """Features ``(utterances, layers, dim)`` and classes of the rows that could be read."""
    ids = part.manifest.column("utterance_id")
    failed = {failure.utterance_id for failure in embedded.failures}
    readable = np.array([i not in failed for i in ids], dtype=bool)
    is_bonafide = (part.manifest.strings("label") == BONAFIDE)[readable]
    ClassCounts.of(is_bonafide, f"readable part of the {part.name} set")
    return embedded.store.matrix([i for i in ids if i not in failed]), is_bonafide


def set_facts(part: TrainingSet, n_failed: int) -> dict[str, Any]:
    """What a model card says of a set."""
    counts = part.manifest.counts()
    return {
        "manifest": Path(part.manifest.source).name,
        "split": part.split,
        "n_bonafide": counts["bonafide"],
        "n_spoof": counts["spoof"],
        "n_failed": n_failed,
        "digest": part.manifest.digest(),
    }
