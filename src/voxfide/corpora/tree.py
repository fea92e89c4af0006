"""A folder tree, listed once, level by level, and only as deep as a search needs."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pyarrow as pa

from voxfide.corpora.folder import AUDIO_SUFFIXES
from voxfide.errors import UsageError

MAX_DEPTH: Final = 6
"""Levels below ROOT that are searched: the official layouts need three, a parent of the corpus
and an archive that was unpacked into a folder of its own add some."""

_BEYOND: Final = 3
"""Once a file was found, levels below its own that are searched for the rest of the corpus: ROOT
may be the parent of much else."""


@dataclass(frozen=True)
class Listing:
    """What is in one folder; hidden entries are left out.

    Attributes:
        path: relative to the root, with slashes; empty for the root.
        folders, audio, others: names, sorted.
    """

    path: str
    folders: tuple[str, ...]
    audio: tuple[str, ...]
    others: tuple[str, ...]


class Tree:
    """Folders below ``root``; each is listed by one scan, when first needed.

    Raises:
        UsageError: ``root`` is no folder, or one below it cannot be read.
    """

    def __init__(self, root: Path) -> None:
        if not root.is_dir():
            raise UsageError(f"{root}: no such folder")
        self.root = root
        self._name = root.resolve().name
        self._depth = MAX_DEPTH
        self._listings: dict[str, Listing] = {}
        self._stems: dict[str, pa.Array] = {}

    def listing(self, folder: str) -> Listing:
        """What is in ``folder``, a path relative to the root."""
        if folder not in self._listings:
            self._listings[folder] = self._list(folder)
        return self._listings[folder]

    def stems(self, folder: str) -> pa.Array:
        """Names of the audio files in ``folder`` without their suffixes, in the order of its listing."""
        if folder not in self._stems:
            names = self.listing(folder).audio
            self._stems[folder] = pa.array([name.rpartition(".")[0] for name in names], pa.string())
        return self._stems[folder]

    def levels(self, below: str = "", depth: int | None = None) -> Iterator[list[Listing]]:
        """The folder ``below``, then those in it, then those in these …"""
        seen: set[tuple[int, int]] = set()
        level = [below]
        for _ in range(1 + (self._depth if depth is None else depth)):
            listings = [self.listing(folder) for folder in level if self._is_new(folder, seen)]
            if not listings:
                return
            yield listings
            level = [join(found.path, name) for found in listings for name in found.folders]

    def files(self, pattern: str, accept: Callable[[Path], bool] | None = None) -> list[str]:
        """Files, other than audio, whose path ends as ``pattern`` says, at the first level that has any.

        Args:
            pattern: a regular expression for the last parts of the path, in any case.
            accept: looks into a file that is named right.
        """
        named = _ending(pattern)
        for depth, level in enumerate(self.levels()):
            paths = [join(found.path, name) for found in level for name in found.others]
            matching = [p for p in paths if named(f"{self._name}/{p}")]
            matching = [p for p in matching if accept is None or accept(self.root / p)]
            if matching:
                self._depth = min(self._depth, depth + _BEYOND)
                return sorted(matching)
        return []

    def named(self, *names: str, accept: Callable[[Path], bool] | None = None) -> list[str]:
        """As :meth:`files`, for the first of some exact names that there is."""
        found = (self.files(re.escape(name), accept) for name in names)
        return next(filter(None, found), [])

    def folders(self, pattern: str) -> list[str]:
        """Folders whose path ends as ``pattern`` says, at the first level that has any; may be the root."""
        named = _ending(pattern)
        for level in self.levels():
            matching = [found.path for found in level if named(f"{self._name}/{found.path}".rstrip("/"))]
            if matching:
                return sorted(matching)
        return []

    def audio_below(self, folder: str) -> Iterator[str]:
        """Audio files in ``folder`` and everything below it, relative to the root, folder by folder."""
        for level in self.levels(folder, depth=4 * MAX_DEPTH):
            for found in level:
                yield from (join(found.path, name) for name in found.audio)

    def _list(self, folder: str) -> Listing:
        try:
            names = sorted(os.listdir(self.root / folder))  # noqa: PTH208  (names only: no object an entry)
        except OSError as error:
            raise UsageError(f"{error.filename}: folder cannot be read ({error.strerror})") from error
        strange = next((name for name in names if not name.isascii() and not _is_text(name)), None)
        if strange is not None:
            raise UsageError(f"{self.root / folder}: file name {strange!a} is not UTF-8")
        names = [name for name in names if not name.startswith((".", "__MACOSX"))]
        audio = [name for name in names if name[name.rfind(".") :].lower() in AUDIO_SUFFIXES]
        rest = sorted(set(names).difference(audio)) if len(audio) < len(names) else []
        folders = [name for name in rest if (self.root / folder / name).is_dir()]
        others = sorted(set(rest).difference(folders))
        return Listing(folder, tuple(folders), tuple(audio), tuple(others))

    def _is_new(self, folder: str, seen: set[tuple[int, int]]) -> bool:
        """Links may lead round in circles."""
        status = (self.root / folder).stat()
        identity = status.st_dev, status.st_ino
        new = identity not in seen
        seen.add(identity)
        return new


def _is_text(name: str) -> bool:
    """Whether a name is Unicode; other bytes in it become lone surrogates."""
    return not any("\ud800" <= c <= "\udfff" for c in name)


def join(folder: str, name: str) -> str:
    """A path below the root, whose own path is empty."""
    return f"{folder}/{name}" if folder else name


def _ending(pattern: str) -> Callable[[str], re.Match[str] | None]:
    return re.compile(rf"(?:^|/)(?:{pattern})\Z", re.IGNORECASE).search
