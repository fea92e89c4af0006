"""Which members an archive has and where they are, compactly: jobs touch thousands of archives."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from itertools import accumulate
from pathlib import PurePosixPath

Place = tuple[int, int]
"""Of a tar's member: offset of its first byte, and its size. Of a Parquet cell: row group, and row in it."""


class MemberIndex:
    """Names of members to their places, in some 60 bytes a member.

    Args:
        places: by name; names as :func:`plain_name` gives them.
        damage: where and why the list breaks off, if it does.
        is_checked: whether the places were read from the archive itself, just now.
    """

    def __init__(
        self, places: Mapping[str, Place], damage: str | None = None, *, is_checked: bool = True
    ) -> None:
        self.damage = damage
        self.is_checked = is_checked
        encoded = sorted((_encoded(name), place) for name, place in places.items())
        self._names = b"".join(name for name, _ in encoded)
        self._ends = array("q", accumulate((len(name) for name, _ in encoded), initial=0))
        self._first = array("q", (place[0] for _, place in encoded))
        self._second = array("q", (place[1] for _, place in encoded))

    def __len__(self) -> int:
        return len(self._first)

    def __iter__(self) -> Iterator[str]:
        """Names in the order of their places."""
        order = sorted(range(len(self)), key=lambda i: (self._first[i], self._second[i]))
        return (self._name(i).decode("utf-8", "surrogateescape") for i in order)

    def find(self, name: str) -> Place | None:
        """The place of a member; ``None`` where there is none of that name."""
        wanted = _encoded(name)
        i = bisect_left(range(len(self)), wanted, key=self._name)
        found = i < len(self) and self._name(i) == wanted
        return (self._first[i], self._second[i]) if found else None

    def _name(self, i: int) -> bytes:
        return self._names[self._ends[i] : self._ends[i + 1]]


def plain_name(name: str) -> str:
    """A member's name as it stands behind the archive's in a path: no ``./`` in front, no doubled slash."""
    name = name.lstrip("/")
    return PurePosixPath(name).as_posix() if "/" in name else name


def _encoded(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")
