"""Opening every audio file of a manifest once: what they are, and which cannot be read.

Files are decoded to their end in worker processes, here or on a cluster. Results go to a journal beside the
table as they come, so an interrupted check goes on where it was; the table itself appears whole.
"""

from __future__ import annotations

import csv
import io
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Final

import numpy as np

from voxfide.audio import Audio, AudioInfo, probe_audio, stream_audio
from voxfide.decoding import Decoded, DecodePool, default_workers
from voxfide.engine import Engine, LocalEngine
from voxfide.errors import AudioError, WorkerCrashError
from voxfide.files import exclusive, write_atomic
from voxfide.jobs import FileState
from voxfide.manifest import Manifest
from voxfide.types import BONAFIDE, SPOOF, Seconds

Progress = Callable[[int, Seconds], None]
"""Called with utterances and audio seconds that have just been checked."""

_SHARD: Final = 256

_Item = tuple[str, Path]
"""An utterance's id and its audio."""


@dataclass(frozen=True)
class FileFacts:
    """A row of the table: what an audio file is, or why it cannot be used.

    Attributes:
        duration: seconds decoded.
        n_bytes: size of the file, or of the archive that it is in; -1 where it is gone. Tells whether
            it has changed since.
        error: empty for a good file.
    """

    utterance_id: str
    path: str
    duration: str
    sample_rate: str
    channels: str
    codec: str
    error: str
    n_bytes: str


COLUMNS: Final = tuple(f.name for f in fields(FileFacts))


@dataclass(frozen=True)
class AudioSummary:
    """All files together."""

    n_files: int
    n_unreadable: int
    hours: float
    durations: dict[str, float]
    median_by_label: dict[str, float]
    sample_rates: dict[str, int]
    channels: dict[str, int]
    codecs: dict[str, int]
    errors: tuple[str, ...]

    def lines(self) -> Iterator[str]:
        """The summary as text."""
        yield f"{self.n_files:,} files, {self.hours:,.1f} h, {self.n_unreadable:,} unreadable"
        if self.durations:
            yield "duration: " + ", ".join(f"{k} {v:.2f} s" for k, v in self.durations.items())
            yield "median by label: " + ", ".join(f"{k} {v:.2f} s" for k, v in self.median_by_label.items())
        for name, counts in (("Hz", self.sample_rates), ("channels", self.channels), ("codec", self.codecs)):
            if counts:
                yield f"{name}: " + ", ".join(f"{value} ({n:,})" for value, n in counts.items())


def check_one(path: Path, max_duration: Seconds | None) -> Decoded:
    """Decodes a file to its end and keeps nothing but what it is."""
    try:
        rate = probe_audio(path).sample_rate
        with stream_audio(path, sample_rate=rate, max_duration=max_duration) as stream:
            for _ in stream:
                pass
            return Audio(np.zeros(0, np.float32), rate, stream.info)
    except AudioError as error:
        return error


def check_audio(
    manifest: Manifest,
    table: Path,
    *,
    engine: Engine | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
    on_start: Callable[[int, int], None] | None = None,
) -> AudioSummary:
    """Checks every file of ``manifest`` and writes one row for each to ``table``, a CSV.

    Good files that a previous run has checked are not opened again while their size is the
    same; files that it could not read are.

    Args:
        engine: maps over shards of files; in this process where left out.
        workers: decoding processes; None for half of the cores, 0 for none. Of each actor, on a cluster.
        progress: told of every checked file.
        on_start: told how many files are to be checked, and how many were before.

    Raises:
        StoreError: another process is checking to the same table.
    """
    rows = list(zip(manifest.strings("utterance_id").tolist(), manifest.audio_paths(), strict=True))
    journal = table.with_name(f"{table.name}.part")
    lock = table.with_name(f".{table.name}.lock")
    with exclusive(lock, f"{table}: another process is checking this"):
        known = {f.utterance_id: f for f in [*_read(table), *_read(journal)] if not f.error}
        todo = [(i, p) for i, p in rows if not _is_known(known.get(i), p)]
        asked = {i for i, _ in todo}
        done = {i: known[i] for i, _ in rows if i not in asked}
        if on_start is not None:
            on_start(len(todo), len(rows) - len(todo))
        shards = [todo[first : first + _SHARD] for first in range(0, len(todo), _SHARD)]
        pending: list[FileFacts] = []
        with closing((engine or LocalEngine()).map(_CheckerFactory(workers), shards, _lost)) as found:
            try:
                for facts in found:
                    if facts.utterance_id in done:  # come again after a crash
                        continue
                    done[facts.utterance_id] = facts
                    pending.append(facts)
                    if progress is not None:
                        progress(1, float(facts.duration or 0))
                    if len(pending) >= _SHARD:
                        portion, pending = pending, []
                        _append(journal, portion)
            finally:
                if pending:
                    _append(journal, pending)
        ordered = [done[i] for i, _ in rows]
        write_atomic(table, _to_csv(ordered, header=True))
        journal.unlink(missing_ok=True)
        lock.unlink(missing_ok=True)
    return summarise(ordered, manifest.strings("label").tolist())


def summarise(facts: Sequence[FileFacts], labels: Sequence[str]) -> AudioSummary:
    """Durations, rates and errors of all rows together."""
    good = [(f, label) for f, label in zip(facts, labels, strict=True) if not f.error]
    seconds = np.array([float(f.duration) for f, _ in good])
    of = np.array([label for _, label in good])
    return AudioSummary(
        n_files=len(facts),
        n_unreadable=len(facts) - len(good),
        hours=float(seconds.sum() / 3600),
        durations=_quantiles(seconds),
        median_by_label={x: float(np.median(seconds[of == x])) for x in (BONAFIDE, SPOOF) if (of == x).any()},
        sample_rates=_counted(f.sample_rate for f, _ in good),
        channels=_counted(f.channels for f, _ in good),
        codecs=_counted(f.codec for f, _ in good),
        errors=tuple(f"{f.utterance_id}: {f.path}: {f.error}" for f in facts if f.error),
    )


@dataclass(frozen=True)
class _CheckerFactory:
    workers: int | None

    def __call__(self) -> _Checker:
        return _Checker(
            DecodePool(default_workers() if self.workers is None else self.workers, None, check_one)
        )


@dataclass(frozen=True)
class _Checker:
    pool: DecodePool

    def __call__(self, shard: Sequence[_Item]) -> Iterator[FileFacts]:
        for item, result in zip(shard, self.pool.decode([path for _, path in shard]), strict=True):
            yield _failed(item, result) if isinstance(result, AudioError) else _facts(*item, result.info)

    def close(self) -> None:
        self.pool.close()


def _failed(item: _Item, error: AudioError) -> FileFacts:
    name, path = item
    return FileFacts(name, str(path), "", "", "", "", f"{error.kind}: {error.reason}", _size(path))


def _lost(item: _Item, reason: str) -> FileFacts:
    return _failed(item, WorkerCrashError(str(item[1]), reason, "audio that leaves it running"))


def _facts(name: str, path: Path, info: AudioInfo) -> FileFacts:
    return FileFacts(
        name, str(path), f"{info.duration:.6f}", str(info.sample_rate), str(info.channels), info.codec, "",
        _size(path),
    )  # fmt: skip


def _size(path: Path) -> str:
    return str(FileState.of(path).size)


def _is_known(before: FileFacts | None, path: Path) -> bool:
    return before is not None and before.path == str(path) and before.n_bytes == _size(path)


def _to_csv(facts: Iterable[FileFacts], *, header: bool) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    if header:
        writer.writerow(COLUMNS)
    writer.writerows(astuple(f) for f in facts)
    return text.getvalue()


def _append(journal: Path, facts: Sequence[FileFacts]) -> None:
    journal.parent.mkdir(parents=True, exist_ok=True)
    with journal.open("a", encoding="utf-8", newline="") as file:
        file.write(_to_csv(facts, header=False))
        file.flush()
        os.fsync(file.fileno())


def _read(path: Path) -> list[FileFacts]:
    """Rows of a table or journal; the end of a journal whose writer was killed is left out."""
    if not path.exists():
        return []
    text = path.read_bytes().decode("utf-8", "replace")
    whole = text[: text.rfind("\n") + 1]
    rows = csv.reader(io.StringIO(whole))
    return [FileFacts(*row) for row in rows if len(row) == len(COLUMNS) and row[0] != COLUMNS[0]]


def _quantiles(seconds: np.ndarray) -> dict[str, float]:
    if not len(seconds):
        return {}
    names = {"shortest": 0.0, "5 %": 0.05, "median": 0.5, "95 %": 0.95, "longest": 1.0}
    return {name: float(np.quantile(seconds, q)) for name, q in names.items()}


def _counted(values: Iterable[str]) -> dict[str, int]:
    return dict(Counter(values).most_common())
