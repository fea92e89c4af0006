"""One shard being written: members are added whole or not at all, in constant memory."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO, Final, Protocol

from voxfide.audio.source import Window
from voxfide.audio.tar_members import BLOCK, write_index
from voxfide.errors import AudioError, AudioNotFoundError, AudioTooLongError

if TYPE_CHECKING:
    import pyarrow as pa

MAX_CELL_BYTES: Final = 1 << 30
"""Of a file in Parquet, where it is held in memory whole."""

GROUP_ROWS: Final = 32
GROUP_BYTES: Final = 1 << 19
"""A row group is closed at whichever comes first: a reader of one row reads its group."""

_COPY_BLOCK: Final = 1 << 20
_RECORD: Final = 20 * BLOCK  # POSIX: a tar ends in two blocks of zeros, filled up to a record

Cells = Mapping[str, Any]
"""What a manifest's row holds, but for its path."""


class Shard(Protocol):
    """A context manager; the file is complete once it has been left."""

    n_bytes: int

    def add(self, key: str, suffix: str, file: Window, cells: Cells) -> None:
        """Adds a file and its row.

        Raises:
            AudioError: the file cannot be read, or not be held; the shard is as it was before.
            OSError: the shard cannot be written.
        """

    def finish(self, path: Path) -> None:
        """Does what is to be done once the shard has its name ``path``."""

    def __enter__(self) -> Shard: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class TarShard:
    """``KEY.SUFFIX`` with the bytes of the file, then ``KEY.json`` with the row: a sample of WebDataset."""

    def __init__(self, path: Path) -> None:
        self.n_bytes = 0
        self._out: BinaryIO = path.open("wb")
        self._places: dict[str, tuple[int, int]] = {}

    def add(self, key: str, suffix: str, file: Window, cells: Cells) -> None:
        start = self.n_bytes
        try:
            self._header(f"{key}{suffix}", file.size)
            _copy(file, self._out)
        except AudioError:
            self._out.seek(start)
            self._out.truncate()
            del self._places[f"{key}{suffix}"]
            raise
        self._pad()
        row = json.dumps(cells, ensure_ascii=False, default=str).encode("utf-8", "surrogatepass")
        self._header(f"{key}.json", len(row))
        self._out.write(row)
        self._pad()
        self.n_bytes = self._out.tell()

    def finish(self, path: Path) -> None:
        write_index(path, self._places)

    def _header(self, name: str, n_bytes: int) -> None:
        """The same for the same content: without owner and time."""
        member = tarfile.TarInfo(name)
        member.size, member.mode = n_bytes, 0o644
        self._out.write(member.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape"))
        self._places[name] = self._out.tell(), n_bytes

    def _pad(self, size: int = BLOCK) -> None:
        self._out.write(b"\0" * (-self._out.tell() % size))

    def __enter__(self) -> TarShard:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._out:
            if kind is None:
                self._out.write(b"\0" * 2 * BLOCK)
                self._pad(_RECORD)


class ParquetShard:
    """A row an utterance: the manifest's columns, and ``audio {bytes, path}``.

    Args:
        schema: of the manifest's columns.
    """

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        self.n_bytes = 0
        self._audio = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        self._schema = schema.append(pa.field("audio", self._audio))
        self._writer = pq.ParquetWriter(
            path,
            self._schema,
            # Audio is compressed already, or does not compress by general means.
            compression={**dict.fromkeys(schema.names, "zstd"), "audio.path": "zstd", "audio.bytes": "none"},
            use_dictionary=list(schema.names),
            write_statistics=False,
        )
        self._rows: list[dict[str, Any]] = []
        self._group_bytes = 0

    def add(self, key: str, suffix: str, file: Window, cells: Cells) -> None:
        if file.size > MAX_CELL_BYTES:
            limit = f"at most {MAX_CELL_BYTES:,} bytes in Parquet; tar takes any"
            raise AudioTooLongError(file.label, f"holds {file.size:,} bytes", limit)
        data = file.at(0, file.size)
        _require_whole(file, len(data))
        if self._rows and self._group_bytes + len(data) > GROUP_BYTES:
            self._flush()
        self._rows.append({**cells, "audio": {"bytes": data, "path": f"{key}{suffix}"}})
        self._group_bytes += len(data)
        self.n_bytes += len(data)
        if len(self._rows) >= GROUP_ROWS or self._group_bytes >= GROUP_BYTES:
            self._flush()

    def finish(self, path: Path) -> None:
        """Nothing: Parquet has an index of its own."""

    def _flush(self) -> None:
        import pyarrow as pa

        if self._rows:
            rows, self._rows, self._group_bytes = self._rows, [], 0
            self._writer.write_table(pa.Table.from_pylist(rows, self._schema))

    def __enter__(self) -> ParquetShard:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._flush()
            self._writer.close()
        else:
            with suppress(OSError):  # of a disk that is full: the one to tell of is on its way
                self._writer.close()


def _copy(file: Window, out: BinaryIO) -> None:
    file.seek(0)
    n_copied = 0
    while block := file.read(_COPY_BLOCK):
        out.write(block)
        n_copied += len(block)
    _require_whole(file, n_copied)


def _require_whole(file: Window, n_read: int) -> None:
    file.check()
    if n_read != file.size:
        reason = f"became shorter while it was read: {n_read:,} of {file.size:,} bytes"
        raise AudioNotFoundError(file.label, reason, "a file that stays as it is")
