"""What batch jobs are made of: rows to analyse, what is missing of them, what has failed."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import NamedTuple

from voxfide.audio.members import source_stat
from voxfide.errors import AudioError, StoreError, UsageError
from voxfide.files import write_atomic
from voxfide.manifest import Manifest

SHARD_ROWS = 256
"""Utterances a shard and a part: what a crash can cost."""


class Row(NamedTuple):
    """One utterance to be analysed."""

    utterance_id: str
    path: Path


class FileState(NamedTuple):
    """What tells whether an audio file is still the one that was analysed; -1 where it is gone.

    Of a member of an archive it is the archive's size and time: archives are written whole.
    """

    path: str
    size: int
    mtime_ns: int

    @classmethod
    def of(cls, path: Path) -> FileState:
        name = str(path)
        try:
            stat = source_stat(path)
        except OSError:
            return cls(name, -1, -1)
        return cls(name, stat.st_size, stat.st_mtime_ns)


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


def in_order_of(rows: Sequence[Row], failures: Iterable[Failure]) -> list[Failure]:
    """Failures in the order of the rows that they are of, in whatever order these were worked on."""
    place = {row.utterance_id: number for number, row in enumerate(rows)}
    return sorted(failures, key=lambda failure: place[failure.utterance_id])


def write_failures(path: Path, failures: Sequence[Failure]) -> None:
    """Writes the failures table; where nothing has failed, one that is there goes."""
    if failures:
        write_atomic(path, failures_csv(failures))
    else:
        path.unlink(missing_ok=True)


def read_failures(path: Path) -> list[Failure]:
    """Parses a failures table; there is none where nothing has failed.

    Raises:
        StoreError: it is not one.
    """
    if not path.exists():
        return []
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return [Failure(**row) for row in csv.DictReader(file)]
    except (UnicodeDecodeError, TypeError, csv.Error) as error:
        raise StoreError(f"{path}: not a failures table ({error}): delete it and run again") from error


def rows_of(manifest: Manifest) -> list[Row]:
    """The utterances of a manifest as rows to analyse."""
    return [Row(i, p) for i, p in zip(manifest.column("utterance_id"), manifest.audio_paths(), strict=True)]


def missing_rows(rows: Iterable[Row], held: Mapping[str, FileState]) -> list[bool]:
    """Which rows are not among those held, or whose audio file has changed since.

    A file that is no longer there cannot have changed: what is held of it stays good.
    """
    missing = []
    for row in rows:
        before = held.get(row.utterance_id)
        if before is None or before.path != str(row.path):
            missing.append(True)
        else:
            now = FileState.of(row.path)
            missing.append(now.size >= 0 and now != before)
    return missing


def shards_of(rows: Sequence[Row], missing: Sequence[bool], size: int = SHARD_ROWS) -> list[list[Row]]:
    """The missing rows of each block of ``size`` rows.

    Blocks are counted from the first row, whatever is missing: a job that is resumed
    thereby computes the same batches as one that was never interrupted.
    """
    if size < 1:
        raise UsageError(f"shards of {size} rows (expected at least 1)")
    blocks = range(0, len(rows), size)
    shards = ([rows[i] for i in range(b, min(b + size, len(rows))) if missing[i]] for b in blocks)
    return [shard for shard in shards if shard]
