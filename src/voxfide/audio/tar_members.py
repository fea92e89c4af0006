"""Members of tar archives: found by scanning the headers once, or by the index that lies beside.

An index ``NAME.tar.index`` saves the scan, which on a cold or remote disk costs as much as reading the
archive. It holds a line ``voxfide-tar-index 1 SIZE`` with the size of the archive in bytes, then lines
``OFFSET<TAB>SIZE<TAB>NAME``. It is only ever a hint: one of another size is not used, and the header in
front of every member that is opened has to bear its name and size; else the headers are scanned.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, Final

from voxfide.audio.member_index import MemberIndex, Place, plain_name
from voxfide.files import write_atomic

BLOCK: Final = 512
SPARSE: Final = (-1, -1)
"""Place of a member that is stored in pieces."""

_MAGIC: Final = "voxfide-tar-index 1"
_COMPRESSED: Final = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
_DAMAGED: Final = (tarfile.TarError, ValueError, OverflowError, LookupError, EOFError)


def index_path(archive: str) -> Path:
    """Where the index of an archive lies."""
    return Path(f"{archive}.index")


def write_index(archive: Path, places: Mapping[str, Place]) -> None:
    """Writes the index of an archive that is complete."""
    lines = [f"{_MAGIC} {archive.stat().st_size}"]
    lines += (f"{offset}\t{size}\t{name}" for name, (offset, size) in places.items())
    write_atomic(index_path(str(archive)), "\n".join(lines) + "\n")


def read_index(archive: str, n_bytes: int, *, scan: bool = False) -> MemberIndex:
    """The members of an archive of ``n_bytes``.

    Args:
        scan: read the archive's own headers, whatever lies beside it.

    Raises:
        ValueError: it is no tar, or a compressed one.
        OSError: it cannot be read.
    """
    places = None if scan else _stored(index_path(archive), n_bytes)
    if places is not None:
        return MemberIndex(places, is_checked=False)
    with open(archive, "rb") as file:  # noqa: PTH123  (a path of many: no object for each)
        found: dict[str, Place] = {}
        damage = None
        try:
            for member in _members(file):
                found[plain_name(member.name)] = (
                    SPARSE if member.issparse() else (member.offset_data, member.size)
                )
            damage = _unread(file)
        except _DAMAGED as error:
            damage = str(error) or type(error).__name__
        if not found and damage is not None:
            file.seek(0)
            head = file.read(8)
            form = next((form for magic, form in _COMPRESSED.items() if head.startswith(magic)), None)
            raise ValueError(f"is {form}-compressed" if form else f"is no tar ({damage})")
    return MemberIndex(found, damage)


def holds(file: BinaryIO, name: str, place: Place | None) -> bool:
    """Whether the header in front of a place is that of a member of this name and size."""
    if place is None:
        return False
    offset, size = place
    file.seek(max(0, offset - BLOCK))
    header = file.read(BLOCK)
    # As the writers of an index write it: no member's name is longer than that, nor its size over 8 GiB.
    return header[:100].rstrip(b"\0") == name.encode() and header[124:135] == b"%011o" % size


def _members(file: BinaryIO) -> Iterator[tarfile.TarInfo]:
    """Regular files, links left out."""
    behind = -1
    with tarfile.open(fileobj=file, mode="r:") as archive:
        while (member := archive.next()) is not None:
            archive.members = []  # type: ignore[attr-defined]  # it would keep them all
            if member.offset_data <= behind or member.size < 0:
                raise ValueError(f"the header at byte {member.offset:,} points backwards")
            behind = member.offset_data
            if member.isreg():
                yield member
        file.seek(archive.offset)


def _unread(file: BinaryIO) -> str | None:
    """Why reading stopped where it did, if not at the end: ``tarfile`` takes a broken header for that too."""
    at = file.tell()
    header = file.read(BLOCK)
    if header.strip(b"\0"):
        return f"no header at byte {at:,}"
    return None if len(header) == BLOCK else "it has no end mark"


def _stored(index: Path, n_bytes: int) -> dict[str, Place] | None:
    """What a stored index says of an archive of this size; ``None`` where none fits."""
    try:
        header, *lines = index.read_text(encoding="utf-8").removesuffix("\n").split("\n")
        if header != f"{_MAGIC} {n_bytes}":
            return None
        places = {}
        for line in lines:
            offset, size, name = line.split("\t", 2)
            places[name] = int(offset), int(size)
    except (OSError, ValueError):
        return None
    return places
