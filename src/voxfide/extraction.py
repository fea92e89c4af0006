"""From rows of a manifest to features, in batches under a budget; what cannot be read is recorded."""

from __future__ import annotations

import csv
import io
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from voxfide.audio import Audio, AudioInfo
from voxfide.decoding import DecodePool, default_workers
from voxfide.errors import AudioError, UsageError
from voxfide.frontends.base import POOLS, Frontend
from voxfide.manifest import Manifest
from voxfide.types import SAMPLE_RATE, Seconds

log = logging.getLogger(__name__)

BATCH_SECONDS = {"cpu": 40.0, "cuda": 320.0, "mps": 80.0}
"""Audio in one batch: more only costs memory, less leaves matrix products too small."""

Progress = Callable[[int, Seconds], None]
"""Called with utterances and audio seconds that have just been finished."""


class Row(NamedTuple):
    """One utterance to be analysed."""

    utterance_id: str
    path: Path


@dataclass(frozen=True)
class Failure:
    """An utterance that could not be analysed, as the failures table lists it."""

    utterance_id: str
    path: str
    kind: str
    reason: str
    expected: str

    @classmethod
    def of(cls, row: Row, error: AudioError) -> Failure:
        return cls(row.utterance_id, str(row.path), error.kind, error.reason, error.expected)

    def to_dict(self) -> dict[str, str]:
        return asdict(self)

    def __str__(self) -> str:
        return f"{self.utterance_id}: {self.path}: {self.reason} (expected {self.expected})"


def failures_csv(failures: Sequence[Failure]) -> str:
    """The failures table: ``utterance_id, path, kind, reason, expected``."""
    text = io.StringIO()
    columns = [f.name for f in fields(Failure)]
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(f.to_dict() for f in failures)
    return text.getvalue()


class Extracted(NamedTuple):
    """Features of one utterance: ``(layers, dim)`` pooled or ``(layers, frames, dim)``, float32."""

    row: Row
    features: np.ndarray
    n_frames: int
    info: AudioInfo


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
    """

    frontend: Frontend
    pool: str = "mean"
    workers: int | None = None
    batch_seconds: Seconds | None = None
    progress: Progress | None = None
    strict: bool = False
    max_duration: Seconds | None = 3600.0

    def __post_init__(self) -> None:
        if self.pool not in POOLS:
            raise UsageError(f"pool {self.pool!r} (expected one of {', '.join(POOLS)})")
        workers = default_workers() if self.workers is None else self.workers
        self._decoder = DecodePool(workers, self.max_duration)

    def close(self) -> None:
        """Ends the decoding processes."""
        self._decoder.close()

    def __call__(self, rows: Sequence[Row]) -> tuple[list[Extracted], list[Failure]]:
        """Features in the order of ``rows``, and what failed."""
        done: dict[int, Extracted] = {}
        failures: list[Failure] = []
        for batch in self._batches(rows, failures):
            for index, extracted in self._run(rows, batch, failures):
                done[index] = extracted
        return [done[i] for i in sorted(done)], failures

    def _batches(self, rows: Sequence[Row], failures: list[Failure]) -> Iterator[list[tuple[int, Audio]]]:
        """Batches of similar lengths from a window of a few batches of decoded audio."""
        budget = self.batch_seconds or BATCH_SECONDS.get(self.frontend.device.type, 40.0)
        window: list[tuple[int, Audio]] = []
        held = 0.0
        for index, result in enumerate(self._decoder.decode([row.path for row in rows])):
            try:
                if isinstance(result, AudioError):
                    raise result
                self.frontend.check_length(len(result.waveform), str(rows[index].path))
            except AudioError as error:
                self._fail(rows[index], error, failures)
                continue
            window.append((index, result))
            held += result.info.duration
            if held >= 4 * budget:
                yield from _bucket(window, budget)
                window, held = [], 0.0
        yield from _bucket(window, budget)

    def _run(
        self, rows: Sequence[Row], batch: list[tuple[int, Audio]], failures: list[Failure]
    ) -> Iterator[tuple[int, Extracted]]:
        device = self.frontend.device
        waveforms = [torch.from_numpy(audio.waveform).to(device) for _, audio in batch]
        if self.pool == "none":
            features = [f.cpu().numpy() for f in self.frontend.hidden_states(waveforms)]
        else:
            features = list(self.frontend.pooled(waveforms, self.pool).cpu().numpy())
        for (index, audio), values in zip(batch, features, strict=True):
            seconds = len(audio.waveform) / SAMPLE_RATE
            if not np.isfinite(values).all():
                error = AudioError(str(rows[index].path), "its features are not finite", "finite features")
                self._fail(rows[index], error, failures)
                continue
            if self.progress:
                self.progress(1, seconds)
            n_frames = self.frontend.total_frames(len(audio.waveform))
            yield index, Extracted(rows[index], values, n_frames, audio.info)

    def _fail(self, row: Row, error: AudioError, failures: list[Failure]) -> None:
        if self.strict:
            raise error
        log.warning("%s", error)
        failures.append(Failure.of(row, error))
        if self.progress:
            self.progress(1, 0.0)


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


def rows_of(manifest: Manifest) -> list[Row]:
    """The utterances of a manifest as rows to analyse."""
    return [Row(i, p) for i, p in zip(manifest.column("utterance_id"), manifest.audio_paths(), strict=True)]
