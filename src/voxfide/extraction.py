"""From rows of a manifest to features, in batches under a budget; what cannot be read is recorded."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, cast

import numpy as np

from voxfide.audio import Audio, AudioInfo
from voxfide.crops import WHOLE, Crop
from voxfide.decoding import DecodePool, default_workers
from voxfide.devices import batch_seconds_on
from voxfide.engine import Engine
from voxfide.errors import AudioError, UsageError, WorkerCrashError
from voxfide.frontends.windowing import POOLS, FrameGeometry
from voxfide.jobs import Failure, FileState, Row
from voxfide.types import SAMPLE_RATE, Seconds

if TYPE_CHECKING:
    from voxfide.frontends.base import Frontend

log = logging.getLogger(__name__)

WINDOW_BATCHES = 4
"""Batches of audio that are sorted by length together."""

PORTION_BYTES = 1 << 26
"""Features that one piece of a shard's results holds, or a little more."""

Progress = Callable[[int, Seconds], None]
"""Called with utterances and audio seconds that have just been finished."""


class Extracted(NamedTuple):
    """Features of one utterance.

    Attributes:
        features: ``(layers, dim)`` float32 pooled, ``(layers, frames, dim)`` float16, or what the
            extractor's ``compute`` gave.
        n_frames: frames of the utterance, also where they are pooled.
        state: of the audio file, before it was read.
    """

    row: Row
    features: np.ndarray
    n_frames: int
    info: AudioInfo
    state: FileState


Outcome = tuple[list[Extracted], list[Failure]]
"""What became of some rows."""


@dataclass
class Extractor:
    """Rows to features: decodes ahead, groups by length under a budget, runs the front-end.

    Args:
        frontend: the model; stays loaded.
        pool: ``mean``, ``mean_std`` or ``none``.
        workers: decoding processes; None chooses, 0 decodes in this process.
        batch_seconds: audio in one batch; None chooses by device.
        progress: told of every finished utterance.
        strict: raise the first error in place of recording it.
        max_duration: seconds that a file may last.
        crop: the part of every utterance that is analysed.
        compute: waveforms of a batch to one array each, in place of the front-end's features:
            a back-end on full frames scores here, so that frames are never kept. Needed where
            ``frontend`` is no :class:`~voxfide.frontends.base.Frontend`.
    """

    frontend: FrameGeometry
    pool: str = "mean"
    workers: int | None = None
    batch_seconds: Seconds | None = None
    progress: Progress | None = None
    strict: bool = False
    max_duration: Seconds | None = 3600.0
    crop: Crop = WHOLE
    compute: Callable[[Sequence[np.ndarray]], Sequence[np.ndarray]] | None = None

    def __post_init__(self) -> None:
        if self.pool not in POOLS:
            raise UsageError(f"pool {self.pool!r} (expected one of {', '.join(POOLS)})")
        if self.batch_seconds is not None and not self.batch_seconds > 0:
            raise UsageError(f"batch of {self.batch_seconds} s (expected a positive number of seconds)")
        workers = default_workers() if self.workers is None else self.workers
        self._decoder = DecodePool(workers, self.max_duration)

    def close(self) -> None:
        """Ends the decoding processes."""
        self._decoder.close()

    def __call__(self, rows: Sequence[Row]) -> Outcome:
        """Features in the order of ``rows``, and what failed."""
        extracted: list[Extracted] = []
        failures: list[Failure] = []
        for some, failed in self.outcomes(rows):
            extracted += some
            failures += failed
        return extracted, failures

    def outcomes(self, rows: Sequence[Row]) -> Iterator[Outcome]:
        """The same, a few batches at a time, so that what was yielded can be saved whatever comes.

        Windows of batches follow from the rows alone: going on behind the last outcome
        gives the same batches, hence the same numbers, as never having stopped.
        """
        states = [FileState.of(row.path) for row in rows]
        for window, failures in self._windows(rows):
            done: dict[int, Extracted] = {}
            for batch in _bucket(window, self._budget):
                waveforms = [audio.waveform for _, audio in batch]
                for (index, audio), features in zip(batch, self._features(waveforms), strict=True):
                    row = rows[index]
                    if not np.isfinite(features).all():
                        error = AudioError(str(row.path), "its features are not finite", "finite features")
                        failures.append(self._failed(row, error))
                        continue
                    n_samples = len(audio.waveform)
                    n_frames = self.frontend.total_frames(self.crop.used(n_samples))
                    done[index] = Extracted(row, features, n_frames, audio.info, states[index])
                    if self.progress:
                        self.progress(1, n_samples / SAMPLE_RATE)
            yield [done[i] for i in sorted(done)], failures

    @property
    def _budget(self) -> Seconds:
        return self.batch_seconds or batch_seconds_on(self.frontend.device_kind)

    def _windows(self, rows: Sequence[Row]) -> Iterator[tuple[list[tuple[int, Audio]], list[Failure]]]:
        """Decoded audio for a few batches, with row numbers, and what could not be decoded meanwhile."""
        window: list[tuple[int, Audio]] = []
        failures: list[Failure] = []
        held = 0.0
        for index, result in enumerate(self._decoder.decode([row.path for row in rows])):
            try:
                if isinstance(result, AudioError):
                    raise result
                self.frontend.check_length(len(result.waveform), str(rows[index].path))
            except AudioError as error:
                failures.append(self._failed(rows[index], error))
                continue
            window.append((index, result))
            held += len(result.waveform) / SAMPLE_RATE
            if held >= WINDOW_BATCHES * self._budget:
                yield window, failures
                window, failures, held = [], [], 0.0
        if window or failures:
            yield window, failures

    def _features(self, waveforms: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
        waveforms = [self.crop(waveform) for waveform in waveforms]
        if self.compute is not None:
            return self.compute(waveforms)
        from voxfide.features import frame_features, pooled_features

        frontend = cast("Frontend", self.frontend)
        if self.pool == "none":
            return frame_features(frontend, waveforms, self._budget)
        return list(pooled_features(frontend, waveforms, self.pool, self._budget))

    def _failed(self, row: Row, error: AudioError) -> Failure:
        if self.strict:
            raise error
        log.warning("%s", error)
        if self.progress:
            self.progress(1, 0.0)
        return Failure.of(row, error)


def _bucket(window: list[tuple[int, Audio]], budget: Seconds) -> Iterator[list[tuple[int, Audio]]]:
    """Sorted by length and cut where a batch, padded to its longest, would pass the budget."""
    batch: list[tuple[int, Audio]] = []
    for item in sorted(window, key=lambda pair: len(pair[1].waveform)):
        longest = len(item[1].waveform) / SAMPLE_RATE
        if batch and longest * (len(batch) + 1) > budget:
            yield batch
            batch = []
        batch.append(item)
    if batch:
        yield batch


@dataclass(frozen=True)
class _Extraction:
    """The worker of :func:`run_shards`."""

    extractor: Extractor

    def __call__(self, rows: Sequence[Row]) -> Iterator[Outcome]:
        for extracted, failures in self.extractor.outcomes(rows):
            for portion in _portions(extracted):
                yield portion, failures
                failures = []
            if failures:
                yield [], failures

    def close(self) -> None:
        self.extractor.close()


@dataclass(frozen=True)
class _ExtractionFactory:
    make: Callable[[], Extractor]

    def __call__(self) -> _Extraction:
        return _Extraction(self.make())


def _portions(extracted: Sequence[Extracted]) -> Iterator[list[Extracted]]:
    """Parts of about :data:`PORTION_BYTES`, so that full frames travel between processes in small pieces."""
    portion: list[Extracted] = []
    held = 0
    for one in extracted:
        portion.append(one)
        held += one.features.nbytes
        if held >= PORTION_BYTES:
            yield portion
            portion, held = [], 0
    if portion:
        yield portion


def _lost(row: Row, reason: str) -> Outcome:
    return [], [Failure.of(row, WorkerCrashError(str(row.path), reason, "audio that leaves it running"))]


def run_shards(
    engine: Engine,
    factory: Callable[[], Extractor],
    shards: Sequence[list[Row]],
    progress: Progress | None = None,
) -> Iterator[Outcome]:
    """What becomes of the rows of ``shards``, as it becomes known; ends the extractors at the end.

    Args:
        engine: maps over shards, in any order.
        factory: makes an extractor in every process that works.
        shards: of rows.
        progress: told of what comes back, where the extractors cannot tell because they are elsewhere.
    """
    seen: set[str] = set()
    with closing(engine.map(_ExtractionFactory(factory), shards, _lost)) as outcomes:
        for extracted, failures in outcomes:
            # After a crash a row may come again.
            new = [one for one in extracted if one.row.utterance_id not in seen]
            failed = [one for one in failures if one.utterance_id not in seen]
            seen.update(one.row.utterance_id for one in new)
            seen.update(one.utterance_id for one in failed)
            if progress:
                progress(len(new) + len(failed), sum(one.info.duration for one in new))
            yield new, failed
