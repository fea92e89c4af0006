"""Files inside archives, by a path that goes through the archive as it would go through a folder.

``corpus/audio-000000.tar/utt1.flac`` is the member ``utt1.flac`` of a tar archive, and
``corpus/audio-000000.parquet/utt1.flac`` a cell of a Parquet file. Nothing is unpacked: a tar's member is
read at its offset, a cell with the rows about it. What members an archive has is read once a process.
"""

from __future__ import annotations

import io
import os
import re
import threading
from collections import OrderedDict
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

from voxfide.audio import parquet_members, tar_members
from voxfide.audio.member_index import MemberIndex, plain_name
from voxfide.errors import AudioError, AudioNotFoundError, NotAudioError, TruncatedAudioError

ARCHIVE_SUFFIXES: Final = (".tar", ".parquet")
EXPECTED: Final = "a member of an intact .tar or .parquet archive"

_THROUGH: Final = re.compile(r"\.(?:tar|parquet|zip|tgz|tar\.(?:gz|bz2|xz|zst))(?=/.)", re.IGNORECASE)
_READ_AT_ONCE: Final = 4 << 20
"""Bytes of a tar's member up to which it is read into memory, which saves a decoder's many small reads."""

_MAX_KNOWN_MEMBERS: Final = 2_000_000
"""Members of archives whose indices are kept, some 100 MB; the archives used last."""


class Location(NamedTuple):
    """A member: the path of its archive, and its name there."""

    archive: str
    name: str


class _Key(NamedTuple):
    """An archive as it is now."""

    archive: str
    n_bytes: int
    mtime_ns: int


_lock = threading.Lock()
_indices: OrderedDict[_Key, MemberIndex] = OrderedDict()
_cells = parquet_members.CellReader()


def locate(path: str) -> Location | None:
    """The member that a path leads to; ``None`` where it does not go through an archive."""
    for match in _THROUGH.finditer(path):
        archive = path[: match.end()]
        if os.path.isfile(archive):  # noqa: PTH113  (asked for every file of a job)
            return Location(archive, plain_name(path[match.end() :]))
    return None


def source_stat(path: Path) -> os.stat_result:
    """Size and times of a file; of a member those of its archive, which is written whole.

    Raises:
        OSError: there is neither.
    """
    try:
        return path.stat()
    except OSError:
        member = locate(str(path))
        if member is None:
            raise
        return os.stat(member.archive)  # noqa: PTH116  (as above)


def member_names(archive: str) -> list[str]:
    """Names of the members of an archive, in the order in which they lie in it.

    Raises:
        AudioError: it is no archive, or cannot be read.
    """
    return list(_index(archive, archive)[1])


def open_member(path: str, member: Location, closing: ExitStack) -> tuple[BinaryIO, int, int]:
    """Opens a member: a file, the offset in it from which to read, and how many bytes.

    Args:
        path: by which it was asked for, for messages.

    Raises:
        AudioNotFoundError: no such member.
        NotAudioError: no archive, or one whose members cannot be reached.
        TruncatedAudioError: the archive breaks off before or in this member.
    """
    key, index = _index(member.archive, path)
    try:
        if _is_tar(member.archive):
            return _open_in_tar(key, index, path, member, closing)
        place = index.find(member.name)
        if place is None:
            raise _absent(index, member, path)
        data = _cells.read(member.archive, key, place)
    except (OSError, ValueError) as error:
        reason = f"its archive cannot be read: {getattr(error, 'strerror', None) or error}"
        raise TruncatedAudioError(path, reason, EXPECTED) from None
    if data is None:
        raise AudioNotFoundError(path, "its row holds no bytes, only the name of a file", EXPECTED)
    return io.BytesIO(data), 0, len(data)


def _open_in_tar(
    key: _Key, index: MemberIndex, path: str, member: Location, closing: ExitStack
) -> tuple[BinaryIO, int, int]:
    file = closing.enter_context(Path(member.archive).open("rb"))  # noqa: SIM115  (closed by the caller)
    place = index.find(member.name)
    if not index.is_checked and not tar_members.holds(file, member.name, place):
        index = _known(key, tar_members.read_index(member.archive, key.n_bytes, scan=True))
        place = index.find(member.name)
    if place is None:
        raise _absent(index, member, path)
    if place == tar_members.SPARSE:
        raise NotAudioError(path, "is stored sparse in its archive", "a tar made without --sparse")
    offset, size = place
    present = key.n_bytes - offset
    if present < size:
        reason = f"its archive breaks off: {max(0, present):,} of its {size:,} bytes are there"
        raise TruncatedAudioError(path, reason, EXPECTED)
    if size > _READ_AT_ONCE:
        return file, offset, size
    file.seek(offset)
    data = file.read(size)
    return io.BytesIO(data), 0, len(data)


def _absent(index: MemberIndex, member: Location, path: str) -> AudioError:
    if index.damage is not None:
        reason = f"not among the {len(index):,} member(s) before its archive breaks off ({index.damage})"
        return TruncatedAudioError(path, reason, EXPECTED)
    example = f" (it has {len(index):,}, such as {next(iter(index), '')!r})" if len(index) else ""
    return AudioNotFoundError(path, f"no such member in {member.archive}{example}", EXPECTED)


def _index(archive: str, path: str) -> tuple[_Key, MemberIndex]:
    """The members of an archive as it is now; errors name ``path``."""
    try:
        stat = os.stat(archive)  # noqa: PTH116  (as above)
        key = _Key(archive, stat.st_size, stat.st_mtime_ns)
        with _lock:
            if key in _indices:
                _indices.move_to_end(key)
                return key, _indices[key]
        return key, _known(key, _read_index(key, path))
    except OSError as error:
        reason = f"the archive {archive} cannot be read: {error.strerror or error}"
        raise AudioNotFoundError(path, reason, EXPECTED) from None
    except ValueError as error:
        raise NotAudioError(path, f"the archive {archive} {error}", EXPECTED) from None


def _read_index(key: _Key, path: str) -> MemberIndex:
    if _is_tar(key.archive):
        return tar_members.read_index(key.archive, key.n_bytes)
    if key.archive.lower().endswith(".parquet"):
        return parquet_members.read_index(key.archive)
    plain = "an archive whose members can be reached (.tar or .parquet), or the files unpacked"
    raise NotAudioError(path, "lies in a compressed archive", plain)


def _known(key: _Key, index: MemberIndex) -> MemberIndex:
    """Keeps an index, and forgets those that were not used for longest."""
    with _lock:
        _indices[key] = index
        total = sum(map(len, _indices.values()))
        while total > _MAX_KNOWN_MEMBERS and len(_indices) > 1:
            total -= len(_indices.popitem(last=False)[1])
    return index


def _is_tar(archive: str) -> bool:
    return archive.lower().endswith(".tar")
