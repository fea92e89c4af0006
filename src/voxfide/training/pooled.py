"""Training a back-end on a frozen front-end, from a manifest to a saved detector."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
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
from voxfide.training.cross_validation import OutOfFold, out_of_fold
from voxfide.types import BONAFIDE, UNKNOWN, BoolArray, Float64Array, PathLike

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

    def readable(self, is_held: Callable[[str], bool]) -> tuple[list[str], BoolArray]:
        """Ids and classes of the rows whose features are held.

        Raises:
            UsageError: a class of which nothing could be read.
        """
        ids = self.manifest.column("utterance_id")
        kept = np.array([is_held(i) for i in ids], dtype=bool)
        is_bonafide = (self.manifest.strings("label") == BONAFIDE)[kept]
        ClassCounts.of(is_bonafide, f"readable part of the {self.name} set")
        return [i for i, held in zip(ids, kept, strict=True) if held], is_bonafide

    def values(self, column: str, is_held: Callable[[str], bool]) -> np.ndarray:
        """A column, as text, of the same rows.

        Raises:
            UsageError: no such column.
        """
        if column not in self.manifest.columns:
            columns = ", ".join(self.manifest.columns)
            raise UsageError(f"{self.manifest.source}: no column {column!r} (columns: {columns})")
        kept = np.array([is_held(i) for i in self.manifest.column("utterance_id")], dtype=bool)
        return self.manifest.strings(column)[kept]


@dataclass(frozen=True)
class TrainResult:
    """What :func:`train` made: the detector, its figures by set, what could not be read, and scores of the
    training set by back-ends that never saw them, where asked for."""

    detector: Detector
    metrics: dict[str, dict[str, float]]
    failures: list[Failure] = field(default_factory=list)
    out_of_fold: OutOfFold | None = None


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
    balance: Balance | None = None,
    cross_validate: tuple[str, int] | None = None,
) -> TrainResult:
    """Embeds both sets into ``store``, fits the back-end and measures it.

    Args:
        balance: what utterances count; all the same where left out.
        cross_validate: also score the training set out of fold: a column whose values are left out
            together, and the number of folds; see :mod:`voxfide.training.cross_validation`.

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
    weights = None if balance is None else balance.weights(train_set, _was_embedded(results[0]))
    features, is_bonafide = _examples(train_set, results[0])
    backend.fit(features, is_bonafide, weights)
    held_out = None
    if cross_validate is not None:
        held_out = _cross_validated(train_set, results[0], backend, features, weights, *cross_validate)
    detector = Detector(frontend, backend, pool)
    metrics: dict[str, dict[str, float]] = {}
    if dev_set is not None:
        features, is_bonafide = _examples(dev_set, results[1])
        scores = detector.score_features(features)
        metrics["dev"], detector.threshold = dev_figures(scores, is_bonafide)
    if held_out is not None:
        metrics["cross-validated"], _ = dev_figures(held_out.scores, held_out.is_bonafide)
    facts = {s.name: set_facts(s, len(r.failures)) for s, r in zip(present, results, strict=True)}
    detector.training = {"sets": facts, "metrics": metrics}
    if balance is not None:
        detector.training["balance"] = balance.to_json()
    return TrainResult(detector, metrics, [f for r in results for f in r.failures], held_out)


def _cross_validated(
    part: TrainingSet,
    embedded: EmbedResult,
    backend: Backend,
    features: np.ndarray,
    weights: Float64Array | None,
    column: str,
    n_folds: int,
) -> OutOfFold:
    is_held = _was_embedded(embedded)
    ids, is_bonafide = part.readable(is_held)
    groups = part.values(column, is_held)
    scores, n_folds = out_of_fold(backend, features, is_bonafide, groups, weights, n_folds)
    return OutOfFold(ids, scores, is_bonafide, column, n_folds)


@dataclass(frozen=True)
class Balance:
    """What utterances count in training: both classes the same, and within a class as follows.

    Attributes:
        column: of the manifest, such as ``system``: n utterances of one value count as √n. One that gave
            a thousand utterances shall outweigh one that gave ten, but not a hundredfold.
        share_column: a coarser column, such as ``family``; its values get shares of their class.
        shares: share of each value, in any unit; 1 where none is stated.
    """

    column: str
    share_column: str | None = None
    shares: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        wrong = [f"{value}:{share}" for value, share in self.shares.items() if not 0 < share < np.inf]
        if wrong:
            raise UsageError(f"shares {', '.join(wrong)} (expected positive numbers)")

    def to_json(self) -> dict[str, Any]:
        """What a detector's configuration says of it."""
        return {"column": self.column, "share_column": self.share_column, "shares": dict(self.shares)}

    def weights(self, part: TrainingSet, is_held: Callable[[str], bool]) -> Float64Array:
        """Weights of the readable rows of a set, in their order; their mean is 1.

        Raises:
            UsageError: a column that the manifest lacks, or shares of values that no row has.
        """
        fine = part.values(self.column, is_held)
        coarse = part.values(self.share_column, is_held) if self.share_column else None
        _, is_bonafide = part.readable(is_held)
        unknown = sorted(set(self.shares) - set([] if coarse is None else coarse.tolist()))
        if unknown:
            raise UsageError(f"{part.manifest.source}: no row has {self.share_column} {', '.join(unknown)}")
        weights = np.zeros(len(fine))
        for of_class in (is_bonafide, ~is_bonafide):
            values = [None] if coarse is None else sorted(set(coarse[of_class].tolist()))
            for value in values:
                group = of_class if coarse is None else of_class & (coarse == value)
                share = 1.0 if value is None else self.shares.get(str(value), 1.0)
                _, member, sizes = np.unique(fine[group], return_inverse=True, return_counts=True)
                own = sizes[member] ** -0.5
                weights[group] = share * own / own.sum()
            weights[of_class] *= len(fine) / 2 / weights[of_class].sum()
        return weights


def _was_embedded(embedded: EmbedResult) -> Callable[[str], bool]:
    """Whether an utterance's features are there, by its id."""
    failed = {failure.utterance_id for failure in embedded.failures}
    return lambda utterance_id: utterance_id not in failed


def _examples(part: TrainingSet, embedded: EmbedResult) -> tuple[np.ndarray, BoolArray]:
    """Features ``(utterances, layers, dim)`` and classes of the rows that could be read."""
    ids, is_bonafide = part.readable(_was_embedded(embedded))
    return embedded.store.matrix(ids), is_bonafide


def dev_figures(scores: Float64Array, is_bonafide: BoolArray) -> tuple[dict[str, float], float]:
    """Every metric of a development set, and the threshold at which its error rates meet."""
    figures = {spec.name: float(spec(scores, is_bonafide)) for spec in METRICS}
    return figures, eer(scores, is_bonafide).accepts_from


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
