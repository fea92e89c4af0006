"""Batches of waveforms for fine-tuning: decoded, augmented and cropped ahead of their use.

Order, batches, crops and augmentation follow from seed, epoch and row alone, so a run that starts in
the middle sees what one that never stopped would have.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

import numpy as np

from voxfide.audio import Audio
from voxfide.decoding import DecodePool, default_workers
from voxfide.errors import AudioError
from voxfide.jobs import Failure, Row
from voxfide.training.finetune_settings import FinetuneSettings
from voxfide.training.streams import Augment, record_failure, shuffled, training_waveform
from voxfide.types import BoolArray, Float32Array

STEPS_AHEAD = 2
"""Steps whose waveforms are ready while one is computed."""

T = TypeVar("T")


class Piece(NamedTuple):
    """What is computed at once.

    Attributes:
        rows: of the training set.
        waveforms: ``(samples,)`` float32 each.
    """

    rows: list[int]
    waveforms: list[Float32Array]


@dataclass
class StepStream:
    """The training set, step by step; each process gets its share of every step.

    An utterance that cannot be read is left out, and listed in ``failures`` by its id.

    Args:
        rows: utterances.
        is_bonafide: their classes.
        settings: batch size, pieces, crop and seed.
        check_length: raises :class:`AudioError` for ``(samples, path)`` that the model cannot take.
        augment: what is done to a waveform before it is cropped.
        workers: decoding processes; None chooses.
        strict: raise the first file that cannot be read.
        process, n_processes: which share of every step.
    """

    rows: Sequence[Row]
    is_bonafide: BoolArray
    settings: FinetuneSettings
    check_length: Callable[[int, str], None]
    augment: Augment | None = None
    workers: int | None = None
    strict: bool = False
    process: int = 0
    n_processes: int = 1
    failures: dict[str, Failure] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._pool = DecodePool(default_workers() if self.workers is None else self.workers)

    def close(self) -> None:
        """Ends the decoding processes."""
        self._pool.close()

    @property
    def n_steps(self) -> int:
        """Steps an epoch; the last may be of fewer utterances."""
        return -(-len(self.rows) // self.settings.batch_size)

    def shares(self, epoch: int) -> list[np.ndarray]:
        """The rows of this process in each step of an epoch."""
        batches = shuffled(len(self.rows), self.settings.batch_size, self.settings.seed, epoch, at_least=1)
        return [rows[self.process :: self.n_processes] for rows in batches]

    def steps(self, epoch: int, first: int = 0) -> Iterator[list[Piece]]:
        """The pieces of each step of an epoch from step ``first`` on; pieces may be empty."""
        yield from ahead(self._steps(self.shares(epoch)[first:], epoch), STEPS_AHEAD)

    def _steps(self, shares: Sequence[np.ndarray], epoch: int) -> Iterator[list[Piece]]:
        decoded = self._pool.decode([self.rows[i].path for share in shares for i in share])
        for share in shares:
            pieces = np.array_split(share, self.settings.accumulation)
            yield [self._piece(rows, [next(decoded) for _ in rows], epoch) for rows in pieces]

    def _piece(self, rows: np.ndarray, decoded: Sequence[Audio | AudioError], epoch: int) -> Piece:
        piece = Piece([], [])
        for i, audio in zip(rows.tolist(), decoded, strict=True):
            try:
                if isinstance(audio, AudioError):
                    raise audio
                waveform = training_waveform(
                    self.rows[i],
                    audio.waveform,
                    bool(self.is_bonafide[i]),
                    self.settings.crop,
                    (self.settings.seed, epoch, i),
                    check_length=self.check_length,
                    augment=self.augment,
                )
            except AudioError as error:
                record_failure(self.failures, self.rows[i], error, self.strict)
                continue
            piece.rows.append(i)
            piece.waveforms.append(waveform)
        return piece


def ahead(items: Iterator[T], n: int) -> Iterator[T]:
    """The same items, made in a thread up to ``n`` ahead of their use; its errors are raised here."""
    ready: queue.Queue[tuple[bool, T | BaseException | None]] = queue.Queue(n)
    stopped = threading.Event()

    def put(done: bool, value: T | BaseException | None) -> bool:
        while not stopped.is_set():
            with suppress(queue.Full):
                ready.put((done, value), timeout=0.1)
                return True
        return False

    def make() -> None:
        try:
            for item in items:
                if not put(False, item):
                    return
        except BaseException as error:
            put(True, error)
        else:
            put(True, None)

    thread = threading.Thread(target=make, name="ahead", daemon=True)
    thread.start()
    try:
        while True:
            done, value = ready.get()
            if not done:
                yield value  # type: ignore[misc]
            elif isinstance(value, BaseException):
                raise value
            else:
                return
    finally:
        stopped.set()
        thread.join()
