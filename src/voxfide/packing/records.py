"""What became of each shard's rows: a small file a shard, by which an interrupted job goes on."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

from voxfide.errors import UsageError
from voxfide.files import write_atomic
from voxfide.jobs import Failure, FileState, Row, missing_rows

FOLDER: Final = "records"


@dataclass
class Record:
    """What became of the rows of one shard; on disk once the shard is.

    Attributes:
        shard: its file name; empty where none of its rows could be read.
        n_bytes: size of that file.
        members: name of each row's audio in it; ``None`` for a row that failed.
        states: size and time of each row's source.
    """

    shard: str
    n_bytes: int = 0
    members: list[str | None] = field(default_factory=list)
    states: list[tuple[int, int]] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    n_recoded: int = 0

    def write(self, folder: Path, number: int) -> None:
        """Writes it down; to be done once the shard is complete."""
        content = json.dumps(asdict(self), ensure_ascii=False)
        write_atomic(_record_path(folder, number), content + "\n")


def finished(folder: Path, rows: Sequence[Row]) -> list[Record]:
    """Records of shards from the first on that are there and whose sources have not changed."""
    found: list[Record] = []
    start = 0
    for number in itertools.count():
        record = _read_record(folder, number)
        those = rows[start : start + len(record.members)] if record else []
        if record is None or not _is_good(record, folder, those):
            break
        found.append(record)
        start += len(those)
    return found


def _is_good(record: Record, folder: Path, rows: Sequence[Row]) -> bool:
    if record.shard and FileState.of(folder / record.shard).size != record.n_bytes:
        return False
    states = zip(rows, record.states, strict=True)
    held = {row.utterance_id: FileState(str(row.path), *state) for row, state in states}
    return not any(missing_rows(rows, held))


def _record_path(folder: Path, number: int) -> Path:
    return folder / FOLDER / f"{number:06d}.json"


def _read_record(folder: Path, number: int) -> Record | None:
    try:
        content = json.loads(_record_path(folder, number).read_text(encoding="utf-8"))
        failures = [Failure(**failure) for failure in content.pop("failures")]
        return Record(**content, failures=failures)
    except (OSError, ValueError, TypeError, KeyError):  # none, or not one of ours
        return None


def require_sources(folder: Path, number: int, rows: Sequence[Row]) -> None:
    """Sees to it that what shards from ``number`` on hold can be packed anew.

    Args:
        rows: those that are not in the shards before.

    Raises:
        UsageError: there are shards whose sources are gone: they hold the only copies.
    """
    start = 0
    while (record := _read_record(folder, number)) is not None:
        those = zip(rows[start:], record.members, strict=False)
        gone = [row for row, member in those if member and FileState.of(row.path).size < 0]
        if gone:
            why = f"a shard is damaged or its sources have changed, so audio-{number:06d} and later ones"
            raise UsageError(
                f"{folder}: {why} would be made anew; but {gone[0].path} is gone "
                "(expected the sources of all of them, or another folder)"
            )
        start += len(record.members)
        number += 1


def remove_from(folder: Path, number: int, form: str, manifests: Iterable[Path]) -> None:
    """Removes what is no longer, or not yet, part of the result: first what vouches for the rest."""
    for manifest in manifests:
        manifest.unlink(missing_ok=True)
    for path in sorted((folder / FOLDER).glob("*.json"), reverse=True):
        if int(path.stem) >= number:
            path.unlink()
    for path in folder.glob(f"audio-*.{form}*"):
        if path.name >= shard_name(number, form):
            path.unlink()


def shard_name(number: int, form: str) -> str:
    return f"audio-{number:06d}.{form}"
