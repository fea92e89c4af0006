"""Layer features of a labelled set in batches: from a store, or from the front-end as they are needed.

The order of the utterances and the batches follow from a seed and the number of the epoch alone.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from voxfide.audio import Audio, resampled_length
from voxfide.crops import Crop
from voxfide.decoding import DecodePool, default_workers
from voxfide.errors import AudioError, UsageError
from voxfide.features import sent
from voxfide.frontends.base import Frontend
from voxfide.head_scores import padded
from voxfide.jobs import Failure, Row
from voxfide.store import EmbeddingStore
from voxfide.training.frame_labels import UNLABELLED, FrameLabels
from voxfide.types import BONAFIDE, SAMPLE_RATE, SPOOF, BoolArray, Float32Array

log = logging.getLogger(__name__)


class Batch(NamedTuple):
    """Layer features of some utterances.

    Attributes:
        indices: rows of the set, ``(batch,)``.
        features: ``(batch, layers, frames, dim)`` float32, zero beyond each length.
        lengths: ``(batch,)`` valid frames.
        frame_labels: ``(batch, frames)`` int64, 1 bona fide, 0 spoofed,
            :data:`~voxfide.training.frame_labels.UNLABELLED` also beyond each length; None of a stream
            without labels of frames.
    """

    indices: np.ndarray
    features: Tensor
    lengths: Tensor
    frame_labels: Tensor | None = None


class Augment(Protocol):
    """What may be done to a waveform before it is cropped; seeded by utterance and epoch."""

    def __call__(
        self, waveform: Float32Array, sample_rate: int, utterance_id: str, label: str, *, epoch: int = 0
    ) -> Float32Array:
        """The waveform as it is trained on in this epoch."""

    def describe(self) -> dict[str, Any]:
        """What decides, as JSON."""


def training_waveform(
    row: Row,
    waveform: Float32Array,
    is_bonafide: bool,
    crop: Crop,
    key: tuple[int, int, int],
    *,
    check_length: Callable[[int, str], None],
    augment: Augment | None = None,
) -> Float32Array:
    """What a model is trained on of an utterance: augmented, then cropped.

    Args:
        key: seed, epoch and number of the row; all chance follows from it and the utterance's id.
        check_length: raises where the audio is too short; asked before and after the augmentation.
    """
    waveform = _augmented(row, waveform, is_bonafide, key[1], check_length, augment)
    return np.ascontiguousarray(crop(waveform, np.random.default_rng(key)), dtype=np.float32)


def _augmented(
    row: Row,
    waveform: Float32Array,
    is_bonafide: bool,
    epoch: int,
    check_length: Callable[[int, str], None],
    augment: Augment | None,
) -> Float32Array:
    """The whole recording as it is trained on in an epoch, before it is cropped."""
    check_length(len(waveform), str(row.path))
    if augment is not None:
        label = BONAFIDE if is_bonafide else SPOOF
        waveform = augment(waveform, SAMPLE_RATE, row.utterance_id, label, epoch=epoch)
        check_length(len(waveform), str(row.path))
    return waveform


def record_failure(failures: dict[str, Failure], row: Row, error: AudioError, strict: bool) -> None:
    """Notes an utterance that cannot be used, and warns of it once; ``strict`` raises instead."""
    if strict:
        raise error
    if row.utterance_id not in failures:
        log.warning("%s", error)
        failures[row.utterance_id] = Failure.of(row, error)


class FeatureStream(Protocol):
    """A labelled set that can be gone through again and again."""

    dim: int
    n_layers: int

    @property
    def is_bonafide(self) -> BoolArray:
        """Classes ``(utterances,)``."""

    def batches(self, order: Sequence[np.ndarray], epoch: int | None) -> Iterator[Batch]:
        """Features of the rows in each item of ``order``; ``epoch`` None: without chance."""


def shuffled(n: int, batch_size: int, seed: int, epoch: int, at_least: int = 2) -> list[np.ndarray]:
    """Rows in random order in batches; a last batch of fewer than ``at_least`` rows is left out."""
    order = np.random.default_rng([seed, epoch]).permutation(n)
    batches = [order[i : i + batch_size] for i in range(0, n, batch_size)]
    return batches if len(batches) == 1 or len(batches[-1]) >= at_least else batches[:-1]


def padded_labels(labels: Sequence[np.ndarray], n_frames: int, device: torch.device) -> Tensor:
    """Labels of frames ``(batch, n_frames)`` of those of each utterance."""
    rows = torch.full((len(labels), n_frames), UNLABELLED)
    for row, of_utterance in zip(rows, labels, strict=True):
        n = min(n_frames, len(of_utterance))
        row[:n] = torch.from_numpy(of_utterance[:n])
    return rows.to(device)


def consecutive(n: int, batch_size: int) -> list[np.ndarray]:
    """All rows as they stand, in batches."""
    return [np.arange(i, min(i + batch_size, n)) for i in range(0, n, batch_size)]


@dataclass
class StoreStream:
    """Full-frame features from a store that holds the crops of these utterances.

    Args:
        store: made with pool ``none``.
        ids: utterances of the set.
        is_bonafide: their classes.
        device: where batches go.
        frame_labels: of the frames of these utterances, where a head is trained on them.
    """

    store: EmbeddingStore
    ids: Sequence[str]
    is_bonafide: BoolArray
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    frame_labels: FrameLabels | None = None

    def __post_init__(self) -> None:
        if self.store.info.pool != "none":
            raise UsageError(f"{self.store.folder}: holds time averages (expected full frames, pool none)")
        self.dim, self.n_layers = self.store.info.dim, self.store.info.n_layers

    def batches(self, order: Sequence[np.ndarray], epoch: int | None) -> Iterator[Batch]:
        for rows in order:
            if not len(rows):
                continue
            # Copied: the store's own memory is mapped read-only.
            states = [torch.from_numpy(self.store.features(self.ids[i]).copy()) for i in rows]
            features, lengths = padded(states)
            frames = None
            if self.frame_labels is not None:
                found = [self._frame_labels(self.frame_labels, int(i)) for i in rows]
                frames = padded_labels(found, features.shape[2], self.device)
            yield Batch(rows, features.to(self.device), lengths.to(self.device), frames)

    def _frame_labels(self, labels: FrameLabels, index: int) -> np.ndarray:
        facts = self.store.metadata(self.ids[index])
        rate = facts["sample_rate"]
        n_samples = resampled_length(round(facts["duration"] * rate), rate, SAMPLE_RATE)
        return labels.heard(self.ids[index], bool(self.is_bonafide[index]), n_samples)


@dataclass
class LiveStream:
    """Features computed anew for every batch: decoded ahead, augmented, cropped, then the front-end.

    An utterance that cannot be read is left out of its batch and listed in ``failures``.

    Args:
        frontend: frozen, in eval mode.
        rows: utterances of the set.
        is_bonafide: their classes.
        crop: what is used of each.
        seed: of random crops.
        augment: what is done before; only where an epoch is given.
        workers: decoding processes; None chooses.
        strict: raise the first file that cannot be read.
        frame_labels: of the frames of these utterances, where a head is trained on them.
    """

    frontend: Frontend
    rows: Sequence[Row]
    is_bonafide: BoolArray
    crop: Crop
    seed: int = 0
    augment: Augment | None = None
    workers: int | None = None
    strict: bool = False
    frame_labels: FrameLabels | None = None
    failures: dict[str, Failure] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if any(module.training for module in self.frontend.modules()):
            raise UsageError(
                f"front-end {self.frontend.name} is in training mode (expected eval: it is frozen)"
            )
        self.dim, self.n_layers = self.frontend.dim, self.frontend.n_layers

    def batches(self, order: Sequence[np.ndarray], epoch: int | None) -> Iterator[Batch]:
        workers = default_workers() if self.workers is None else self.workers
        decoder = DecodePool(workers)
        try:
            flat = [int(i) for rows in order for i in rows]
            decoded = decoder.decode([self.rows[i].path for i in flat])
            for rows in order:
                batch = self._batch(rows, [next(decoded) for _ in rows], epoch)
                if batch is not None:
                    yield batch
        finally:
            decoder.close()

    def _batch(
        self, rows: np.ndarray, decoded: Sequence[Audio | AudioError], epoch: int | None
    ) -> Batch | None:
        kept: list[int] = []
        waveforms: list[np.ndarray] = []
        labels: list[np.ndarray] = []
        for i, audio in zip(rows, decoded, strict=True):
            try:
                if isinstance(audio, AudioError):
                    raise audio
                waveform, n_augmented = self._waveform(int(i), audio, epoch)
            except AudioError as error:
                record_failure(self.failures, self.rows[i], error, self.strict)
                continue
            kept.append(int(i))
            waveforms.append(waveform)
            if self.frame_labels is not None:
                labels.append(
                    self.frame_labels.heard(
                        self.rows[i].utterance_id,
                        bool(self.is_bonafide[i]),
                        len(audio.waveform),
                        n_augmented=n_augmented,
                        key=None if epoch is None else (self.seed, epoch, int(i)),
                    )
                )
        if not kept:
            return None
        features, lengths = padded(self.frontend.hidden_states(sent(waveforms, self.frontend.device)))
        frames = padded_labels(labels, features.shape[2], self.frontend.device) if labels else None
        return Batch(np.array(kept), features, lengths, frames)

    def _waveform(self, index: int, audio: Audio, epoch: int | None) -> tuple[Float32Array, int]:
        """What the front-end sees of an utterance, and the samples of the recording that it was cut from."""
        row = self.rows[index]
        if epoch is None:
            self.frontend.check_length(len(audio.waveform), str(row.path))
            return self.crop.at_start()(audio.waveform), len(audio.waveform)
        is_bonafide, check_length = bool(self.is_bonafide[index]), self.frontend.check_length
        whole = _augmented(row, audio.waveform, is_bonafide, epoch, check_length, self.augment)
        rng = np.random.default_rng((self.seed, epoch, index))
        return np.ascontiguousarray(self.crop(whole, rng), dtype=np.float32), len(whole)
