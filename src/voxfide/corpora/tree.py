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
"""Levels below ROOT at which things are found: the official layouts need three, a parent of the
corpus and an archive that was unpacked into a folder of its own add some."""

_AUDIO: Final = tuple(sorted(AUDIO_SUFFIXES))


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

    def levels(self, below: str = "", depth: int = MAX_DEPTH) -> Iterator[list[Listing]]:
        """The folder ``below``, then those in it, then those in these …"""
        seen: set[tuple[int, int]] = set()
        level = [below]
        for _ in range(depth + 1):
            listings = [self.listing(folder) for folder in level if self._is_new(folder, seen)]
            if not listings:
                return
            yield listings
            level = [_join(found.path, name) for found in listings for name in found.folders]

    def files(self, pattern: str, accept: Callable[[Path], bool] | None = None) -> list[str]:
        """Files, other than audio, whose path ends as ``pattern`` says, at the first level that has any.

        Args:
            pattern: a regular expression for the last parts of the path, in any case.
            accept: looks into a file that is named right.
        """
        named = _ending(pattern)
        for level in self.levels():
            paths = [_join(found.path, name) for found in level for name in found.others]
            matching = [p for p in paths if named(f"{self._name}/{p}")]
            matching = [p for p in matching if accept is None or accept(self.root / p)]
            if matching:
                return sorted(matching)
        return []

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
                yield from (_join(found.path, name) for name in found.audio)

    def _list(self, folder: str) -> Listing:
        folders: list[str] = []
        audio: list[str] = []
        others: list[str] = []
        try:
            with os.scandir(self.root / folder) as entries:
                for entry in entries:
                    name = entry.name
                    if name.startswith((".", "__MACOSX")):
                        continue
                    if not name.isascii() and any("\ud800" <= c <= "\udfff" for c in name):
                        raise UsageError(f"{self.root / folder}: file name {name!a} is not UTF-8")
                    if name.endswith(_AUDIO) or name.lower().endswith(_AUDIO):
                        audio.append(name)
                    elif entry.is_dir():
                        folders.append(name)
                    else:
                        others.append(name)
        except OSError as error:
            raise UsageError(f"{error.filename}: folder cannot be read ({error.strerror})") from error
        return Listing(folder, tuple(sorted(folders)), tuple(sorted(audio)), tuple(sorted(others)))

    def _is_new(self, folder: str, seen: set[tuple[int, int]]) -> bool:
        """Links may lead round in circles."""
        status = (self.root / folder).stat()
        identity = status.st_dev, status.st_ino
        new = identity not in seen
        seen.add(identity)
        return new


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


def _ending(pattern: str) -> Callable[[str], re.Match[str] | None]:
    return re.compile(rf"(?:^|/)(?:{pattern})\Z", re.IGNORECASE).search
