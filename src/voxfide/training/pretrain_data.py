"""Audio for pre-training: decoded once and kept in memory where it fits, cut and mixed batch by batch.

Order, crops and mixing follow from seed, pass and batch alone, so a run that starts in the middle sees
what one that never stopped would have.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from voxfide.audio import Audio
from voxfide.decoding import DecodePool, default_workers
from voxfide.errors import AudioError, AudioTooShortError, CheckpointError
from voxfide.jobs import Failure, Row
from voxfide.training.finetune_data import ahead
from voxfide.training.pretrain_mixing import Mixer
from voxfide.training.pretrain_settings import FIELD_SAMPLES, HOP_SAMPLES, PretrainSettings
from voxfide.training.pretrain_targets import Targets, n_frames
from voxfide.training.processes import chance_key
from voxfide.training.streams import record_failure
from voxfide.types import SAMPLE_RATE, Float32Array

STEPS_AHEAD = 2
"""Batches that are ready while one is computed."""

LEVELS = 2**15


class Stored(NamedTuple):
    """A waveform in 16 bits a sample: the numbers, and what one of them stands for."""

    samples: np.ndarray
    unit: float

    @classmethod
    def of(cls, waveform: Float32Array) -> Stored:
        """Exact for what was 16-bit audio; what exceeds full scale is kept in coarser steps, not clipped."""
        peak = float(np.abs(waveform).max(initial=0.0))
        unit = 1 / LEVELS if peak * LEVELS < LEVELS - 0.5 else peak / (LEVELS - 1)
        return cls(np.rint(waveform / np.float32(unit)).astype(np.int16), unit)

    def waveform(self) -> Float32Array:
        """``(samples,)`` float32."""
        return self.samples.astype(np.float32) * np.float32(self.unit)


@dataclass
class AudioBank:
    """The waveforms of a training set, in memory up to a budget and decoded anew beyond it.

    Every waveform is that of :class:`Stored`, kept or not: the budget does not change what is trained.

    Args:
        rows: utterances.
        least_frames: shorter utterances are not used.
        budget_bytes: for waveforms that are kept.
        workers: decoding processes; None chooses.
        strict: raise the first file that cannot be used, in place of listing it in ``failures``.
    """

    rows: Sequence[Row]
    least_frames: int
    budget_bytes: int
    workers: int | None = None
    strict: bool = False
    failures: dict[str, Failure] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._pool = DecodePool(default_workers() if self.workers is None else self.workers)
        self._kept: dict[int, Stored] = {}
        self._held = 0
        self._is_full = False

    def close(self) -> None:
        """Ends the decoding processes."""
        self._pool.close()

    @property
    def is_full(self) -> bool:
        """Whether a waveform has not fitted into the budget."""
        return self._is_full

    def waveforms(self, indices: Sequence[int]) -> Iterator[Float32Array | None]:
        """The waveform of each row, in order; None for one that cannot be used, which is recorded."""
        held = [self._kept.get(i) for i in indices]
        missing = [i for i, stored in zip(indices, held, strict=True) if stored is None]
        decoded = self._pool.decode([self.rows[i].path for i in missing])
        for i, kept in zip(indices, held, strict=True):
            stored = self._taken(i, next(decoded)) if kept is None else kept
            yield None if stored is None else stored.waveform()

    def _taken(self, index: int, decoded: Audio | AudioError) -> Stored | None:
        row = self.rows[index]
        try:
            if isinstance(decoded, AudioError):
                raise decoded
            self._check_length(len(decoded.waveform), str(row.path))
        except AudioError as error:
            record_failure(self.failures, row, error, self.strict)
            return None
        stored = Stored.of(decoded.waveform)
        self._is_full = self._is_full or self._held + stored.samples.nbytes > self.budget_bytes
        if not self._is_full and index not in self._kept:
            self._kept[index] = stored
            self._held += stored.samples.nbytes
        return stored

    def _check_length(self, n_samples: int, path: str) -> None:
        if n_frames(n_samples) < self.least_frames:
            least = ((self.least_frames - 1) * HOP_SAMPLES + FIELD_SAMPLES) / SAMPLE_RATE
            raise AudioTooShortError(
                path, f"{n_samples / SAMPLE_RATE:.3f} s: too short to be masked", f"at least {least:g} s"
            )


class Stretch(NamedTuple):
    """Part of an utterance: its row, and its frames as first and number."""

    row: int
    first: int
    frames: int


def plan(frames: Sequence[int], settings: PretrainSettings, number: int) -> list[list[Stretch]]:
    """The batches of one pass over the training set, in random order.

    An utterance of up to ``crop_seconds`` is seen whole, a longer one in as many stretches at random
    places as it would take to cover it. A batch is of at most ``batch_seconds``.
    """
    rng = np.random.default_rng([settings.seed, number])
    longest = n_frames(round(settings.crop_seconds * SAMPLE_RATE))
    limit = round(settings.batch_seconds * SAMPLE_RATE) // HOP_SAMPLES
    stretches = []
    for row, available in enumerate(frames):
        size = min(available, longest)
        for _ in range(-(-available // longest)):
            stretches.append(Stretch(row, int(rng.integers(available - size + 1)), size))
    batches: list[list[Stretch]] = []
    filled = limit
    for i in rng.permutation(len(stretches)):
        stretch = stretches[i]
        if filled + stretch.frames > limit:
            batches.append([])
            filled = 0
        batches[-1].append(stretch)
        filled += stretch.frames
    return batches


class Batch(NamedTuple):
    """What a step is computed from.

    Attributes:
        waveforms: ``(samples,)`` float32 each.
        labels: clusters ``(frames,)`` of each.
        places: of each in the batch of all processes.
        keys: a seed for the mask of each.
        size: utterances of all processes, had all been readable.
    """

    waveforms: list[Float32Array]
    labels: list[np.ndarray]
    places: list[int]
    keys: list[int]
    size: int

    def part(self, chosen: Sequence[int]) -> Batch:
        """Of these utterances, counted from 0."""
        return Batch(
            [self.waveforms[i] for i in chosen],
            [self.labels[i] for i in chosen],
            [self.places[i] for i in chosen],
            [self.keys[i] for i in chosen],
            self.size,
        )


@dataclass
class BatchStream:
    """The batches of each pass over a training set; of several processes, each gets its share of every batch.

    Each makes all of it, since utterances are mixed with others of the batch.
    """

    bank: AudioBank
    targets: Targets
    settings: PretrainSettings
    mixer: Mixer
    process: int = 0
    n_processes: int = 1

    def batches(self, number: int, first: int = 0) -> Iterator[Batch]:
        """The batches of pass ``number`` from batch ``first`` on, made ahead of their use.

        Raises:
            CheckpointError: audio that is not as long as when the targets were computed.
        """
        yield from ahead(self._batches(number, first), STEPS_AHEAD)

    def _batches(self, number: int, first: int) -> Iterator[Batch]:
        batches = plan(self.targets.frames.tolist(), self.settings, number)[first:]
        waveforms = self.bank.waveforms([stretch.row for batch in batches for stretch in batch])
        for i, batch in enumerate(batches, start=first):
            made = Batch([], [], [], [], len(batch))
            for place, stretch in enumerate(batch):
                waveform = next(waveforms)
                if waveform is not None:
                    made.waveforms.append(self._cut(stretch, waveform))
                    made.labels.append(self._labels(stretch))
                    made.places.append(place)
                    made.keys.append(chance_key(self.settings.seed, number, i, place))
            rng = np.random.default_rng([self.settings.seed, number, i])
            made = made._replace(waveforms=self.mixer(made.waveforms, rng))
            yield made.part(
                [k for k, place in enumerate(made.places) if place % self.n_processes == self.process]
            )

    def _cut(self, stretch: Stretch, waveform: Float32Array) -> Float32Array:
        frames, before = n_frames(len(waveform)), len(self.targets.labels[stretch.row])
        if frames != before:
            raise CheckpointError(
                f"{self.bank.rows[stretch.row].path}: {frames} frames, but {before} when its targets were "
                "computed: choose another folder"
            )
        start = stretch.first * HOP_SAMPLES
        return waveform[start : start + (stretch.frames - 1) * HOP_SAMPLES + FIELD_SAMPLES]

    def _labels(self, stretch: Stretch) -> np.ndarray:
        return self.targets.labels[stretch.row][stretch.first : stretch.first + stretch.frames]
