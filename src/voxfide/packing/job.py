"""Manifest to shards: resumable, the same bytes for the same input, however often it was interrupted."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple, cast

import pyarrow as pa

from voxfide.audio.decode import EXPECTED
from voxfide.audio.source import Window, open_source
from voxfide.decoding import Decode, DecodePool, default_workers
from voxfide.errors import AudioError, EmptyAudioError, UsageError
from voxfide.files import claim, exclusive, remove_temporaries, replacing
from voxfide.jobs import Failure, FileState, Row, rows_of, write_failures
from voxfide.manifest import Manifest
from voxfide.manifest_io import SUFFIXES
from voxfide.packing.lossless import as_flac
from voxfide.packing.names import member_key, member_suffix
from voxfide.packing.records import FOLDER as RECORDS
from voxfide.packing.records import Record, finished, remove_from, require_sources, shard_name
from voxfide.packing.shards import Cells, ParquetShard, Shard, TarShard
from voxfide.types import PathLike

FORMS: Final = ("tar", "parquet")
CODECS: Final = ("keep", "flac")
MEGABYTE: Final = 1_000_000

Progress = Callable[[int, int], None]
"""Called with utterances, and bytes of audio, that have just been written."""

_READ_ROWS: Final = 1024


@dataclass(frozen=True)
class Packed:
    """What :func:`pack` made.

    Attributes:
        path: of the new manifest.
        manifest: the same, as an object; rows in the order of the old one.
        n_shards, n_bytes: files that hold audio, and their size.
        n_recoded: recordings that were re-encoded.
        failures: utterances that could not be read, which the new manifest lacks.
    """

    path: Path
    manifest: Manifest
    n_shards: int
    n_bytes: int
    n_recoded: int
    failures: list[Failure]


class _Item(NamedTuple):
    """A row on its way into a shard; ``recoded`` goes there in place of its file's bytes, if it is any."""

    row: Row
    cells: Cells
    state: FileState
    recoded: bytes | AudioError | None


def pack(
    manifest: Manifest,
    folder: PathLike,
    *,
    form: str = "tar",
    shard_bytes: int = 512 * MEGABYTE,
    codec: str = "keep",
    suffix: str = ".csv",
    workers: int | None = None,
    progress: Progress | None = None,
    on_start: Callable[[int, int], None] | None = None,
) -> Packed:
    """Writes the audio of ``manifest`` into shards in ``folder``, and a manifest that names it there.

    Nothing is decoded: a file that can be read is packed, whatever it holds. The same rows give the same
    shards, byte for byte. Run again after an interruption, it goes on behind the last shard that was
    finished; from the first shard on whose sources have changed, all are made anew. Sources that were
    deleted meanwhile count as unchanged. The manifest is written last.

    Args:
        folder: for everything that is written.
        form: ``tar`` (members ``KEY.SUFFIX`` and ``KEY.json``, the form of WebDataset) or ``parquet``.
        shard_bytes: a shard is closed where it would become larger; a file that is larger has one alone.
        codec: ``keep`` the bytes of every file, or make ``flac`` of those that it makes smaller and from
            which it decodes to the same samples: 16- and 24-bit PCM.
        suffix: of the new manifest: .csv, .tsv or .parquet.
        workers: processes that re-encode; None for half of the cores, 0 for none. The result is the same.
        progress: told of every row.
        on_start: told how many rows are to be packed, and how many were before.

    Raises:
        ManifestError: the manifest has faults.
        UsageError: an argument that cannot be, a folder that holds something else, or shards that would have
            to be made anew and whose sources are gone.
        StoreError: another process is writing there.
        OSError: nothing can be written there.
    """
    folder = Path(folder)
    choices = (("format", form, FORMS), ("codec", codec, CODECS), ("manifest", suffix, SUFFIXES))
    for name, value, known in choices:
        if value not in known:
            raise UsageError(f"{name} {value!r} (expected {' or '.join(known)})")
    if shard_bytes < 1:
        raise UsageError(f"shards of {shard_bytes} bytes (expected at least 1)")
    if form == "parquet" and "audio" in manifest.columns:
        raise UsageError(
            f"{manifest.source}: a column 'audio' (expected another name: it will hold the audio)"
        )
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder}: is a file (expected a folder, or a name for a new one)")
    rows = rows_of(manifest.require_valid())
    stamp = folder / "pack.json"
    manifests = [folder / f"manifest{known}" for known in SUFFIXES]
    for other in manifests:
        if other.exists() and not stamp.exists():
            raise UsageError(
                f"{folder}: has a {other.name} of its own (expected another folder, or a new one)"
            )
    job = {"format": form, "codec": codec, "shard_bytes": shard_bytes, "rows": _digest(manifest)}
    with exclusive(folder / ".lock", f"{folder}: another process is packing there"):
        claim(stamp, job, f"{folder}: holds shards of another manifest, or made in another way")
        remove_temporaries(folder)
        remove_temporaries(folder / RECORDS)
        records = finished(folder, rows)
        n_kept = sum(len(record.members) for record in records)
        if n_kept < len(rows):
            require_sources(folder, len(records), rows[n_kept:])
            remove_from(folder, len(records), form, manifests)
        if on_start is not None:
            on_start(len(rows) - n_kept, n_kept)
        with closing(_items(manifest, rows, n_kept, codec, workers)) as items:
            records += _write(folder, form, shard_bytes, _schema(manifest), items, len(records), progress)
        return _complete(manifest, records, folder / f"manifest{suffix}")


def _digest(manifest: Manifest) -> str:
    """Of all that the shards hold of a manifest."""
    digest = hashlib.sha256(manifest.digest().encode())
    for name in manifest.columns:
        digest.update(json.dumps([name, manifest.column(name)], default=str).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def _schema(manifest: Manifest) -> pa.Schema:
    return manifest.table.drop_columns(["path"]).schema.remove_metadata()


def _items(
    manifest: Manifest, rows: Sequence[Row], start: int, codec: str, workers: int | None
) -> Generator[_Item, None, None]:
    """The rows from ``start`` on, with what is to be written for each."""
    table = manifest.table.drop_columns(["path"])
    cells = (
        row for at in range(start, len(rows), _READ_ROWS) for row in table.slice(at, _READ_ROWS).to_pylist()
    )
    rest = rows[start:]
    states = [FileState.of(row.path) for row in rest]
    recoded: Iterator[bytes | AudioError | None] = itertools.repeat(None, len(rest))
    n_workers = default_workers() if workers is None else workers
    with DecodePool(n_workers, None, cast(Decode, as_flac)) as pool:
        if codec == "flac":
            recoded = cast("Iterator[bytes | AudioError | None]", pool.decode([row.path for row in rest]))
        yield from map(_Item, rest, cells, states, recoded)


def _write(
    folder: Path,
    form: str,
    shard_bytes: int,
    schema: pa.Schema,
    items: Iterator[_Item],
    number: int,
    progress: Progress | None,
) -> Iterator[Record]:
    """Writes one shard after another, numbered from ``number`` on."""
    item = next(items, None)
    while item is not None:
        record = Record(shard_name(number, form))
        path = folder / record.shard
        try:
            with replacing(path) as temporary:
                shard: Shard
                with TarShard(temporary) if form == "tar" else ParquetShard(temporary, schema) as shard:
                    while item is not None:
                        n_bytes = _add(shard, item, record, shard_bytes)
                        if n_bytes is None:
                            break
                        if progress is not None:
                            progress(1, n_bytes)
                        item = next(items, None)
                    if not any(record.members):
                        raise _NothingToWriteError
            shard.finish(path)
            record.n_bytes = path.stat().st_size
        except _NothingToWriteError:
            record.shard = ""
        except OSError as error:
            raise OSError(error.errno, error.strerror or str(error), str(path)) from error
        record.write(folder, number)
        yield record
        number += 1


class _NothingToWriteError(Exception):
    """None of the rows of a shard could be read."""


def _add(shard: Shard, item: _Item, record: Record, shard_bytes: int) -> int | None:
    """Adds a row to a shard and its record; bytes of audio, or ``None`` if the shard is full."""
    row, cells, state, recoded = item
    member, n_bytes = None, 0
    try:
        if isinstance(recoded, AudioError):
            raise recoded
        with ExitStack() as opened:
            _, file = open_source(row.path if recoded is None else recoded, opened)
            if shard.n_bytes and shard.n_bytes + file.size > shard_bytes:
                return None
            _require_content(file, row)
            key, suffix = member_key(row.utterance_id), ".flac" if recoded else member_suffix(row.path)
            shard.add(key, suffix, file, cells)
            member, n_bytes = f"{key}{suffix}", file.size
    except AudioError as error:
        record.failures.append(Failure.of(row, error))
    record.n_recoded += recoded is not None and member is not None
    record.members.append(member)
    record.states.append((state.size, state.mtime_ns))
    return n_bytes


def _require_content(file: Window, row: Row) -> None:
    if file.size == 0:
        file.check()
        raise EmptyAudioError(str(row.path), "holds no bytes", EXPECTED)


def _complete(manifest: Manifest, records: Sequence[Record], made: Path) -> Packed:
    """Writes the table of failures and the manifest of what was packed."""
    folder = made.parent
    paths = [f"{r.shard}/{member}" if member else None for r in records for member in r.members]
    packed = manifest.take([row for row, path in enumerate(paths) if path is not None])
    column = pa.array([path for path in paths if path is not None], pa.string())
    table = packed.table.set_column(packed.columns.index("path"), "path", column)
    result = Manifest(table, folder.resolve(), str(made))
    failures = [failure for record in records for failure in record.failures]
    write_failures(folder / "failures.csv", failures)
    result.write(made)
    shards = [record for record in records if record.shard]
    return Packed(
        path=made,
        manifest=result,
        n_shards=len(shards),
        n_bytes=sum(record.n_bytes for record in shards),
        n_recoded=sum(record.n_recoded for record in records),
        failures=failures,
    )
