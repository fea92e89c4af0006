"""Members of Parquet files: cells of a column ``{bytes, path}``, as Hugging Face ``datasets`` keeps audio.

A member's name is its ``path``; where that is empty or was given to a row before, the number of its row
(from 0, six digits) with the same suffix. Cells are read by row group, whole: files whose row groups are
large are slow to read in random order.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Final

from voxfide.audio.member_index import MemberIndex, Place, plain_name

if TYPE_CHECKING:
    import pyarrow as pa

_OPEN_FILES: Final = 4


def audio_column(schema: pa.Schema) -> str | None:
    """The first column that holds files: a struct with fields ``bytes`` and ``path``."""
    import pyarrow as pa

    for field in schema:
        if pa.types.is_struct(field.type) and {"bytes", "path"} <= {f.name for f in field.type}:
            return str(field.name)
    return None


def cell_names(paths: list[str | None]) -> list[str]:
    """Names of the members in rows that hold these paths."""
    seen: set[str] = set()
    names = []
    for row, path in enumerate(paths):
        name = plain_name(path or "")
        if name in seen or name in ("", "."):
            name = f"{row:06d}{PurePosixPath(name).suffix}"
        seen.add(name)
        names.append(name)
    return names


@contextmanager
def _arrow_errors() -> Iterator[None]:
    """Errors of Arrow's own kinds as :class:`ValueError`; most of them are already."""
    import pyarrow as pa

    try:
        yield
    except pa.ArrowException as error:
        raise ValueError(f"is not readable as Parquet: {str(error).splitlines()[0]}") from error


def read_index(archive: str) -> MemberIndex:
    """The members of a Parquet file.

    Raises:
        ValueError: it is none, or holds no column of audio.
        OSError: it cannot be read.
    """
    try:
        import pyarrow.parquet as pq
    except ImportError:
        raise ValueError("is read by pyarrow, which is not installed (pip install pyarrow)") from None
    with _arrow_errors(), pq.ParquetFile(archive) as file:
        column = audio_column(file.schema_arrow)
        if column is None:
            raise ValueError("has no column of audio (a struct of bytes and path)")
        paths = file.read(columns=[f"{column}.path"]).column(column).combine_chunks().field("path")
        groups = [file.metadata.row_group(g).num_rows for g in range(file.metadata.num_row_groups)]
    places = [(group, row) for group, n in enumerate(groups) for row in range(n)]
    return MemberIndex(dict(zip(cell_names(paths.to_pylist()), places, strict=True)))


class CellReader:
    """Reads cells; keeps some files open, and the row group that was read last.

    A key says which file is meant, as it was at a certain time: a file that has been replaced has another.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._files: OrderedDict[Any, tuple[Any, str]] = OrderedDict()
        self._group: tuple[Any, Any] = (None, None)

    def read(self, archive: str, key: Any, place: Place) -> bytes | None:
        """The bytes of a cell; ``None`` where it has none.

        Raises:
            ValueError, OSError: the file cannot be read there.
        """
        group, row = place
        with self._lock, _arrow_errors():
            if self._group[0] != (key, group):
                self._group = (None, None)
                file, column = self._open(archive, key)
                cells = file.read_row_group(group, columns=[f"{column}.bytes"]).column(column)
                self._group = (key, group), cells.combine_chunks().field("bytes")
            cell = self._group[1][row]
            return bytes(cell.as_buffer()) if cell.is_valid else None

    def _open(self, archive: str, key: Any) -> tuple[Any, str]:
        import pyarrow.parquet as pq

        if key not in self._files:
            file = pq.ParquetFile(archive)  # not mapped: a file cut short meanwhile would end the process
            self._files[key] = file, audio_column(file.schema_arrow) or "audio"
            if len(self._files) > _OPEN_FILES:
                _, (oldest, _) = self._files.popitem(last=False)
                with suppress(OSError):
                    oldest.close(force=True)
        self._files.move_to_end(key)
        return self._files[key]
