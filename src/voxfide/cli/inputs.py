"""Which recordings a command is to work on: files, folders, patterns, or a list on standard input."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path, PurePath

from voxfide.errors import AudioError, UsageError

STDIN = "-"


def recordings(arguments: Iterable[str]) -> list[str]:
    """The recordings that arguments name, in order, each once.

    A folder stands for the audio and video files in and below it, sorted, and an archive (.tar, .parquet)
    for those in it, in its order; ``-`` for the lines of standard input; a pattern that no file bears as its
    name, for the files that match it (``**`` for folders).
    What is none of these is passed on as it is, so that the job tells of it and goes on.

    Raises:
        UsageError: a folder without audio, a pattern without a match, or nothing at all.
    """
    found: dict[str, None] = {}
    for argument in arguments:
        for path in _named(argument):
            found[path] = None
    if not found:
        raise UsageError("no recordings: the list on standard input is empty (expected a path a line)")
    return list(found)


def _named(argument: str) -> list[str]:
    if argument == STDIN:
        return [path for line in sys.stdin if line.strip() for path in _whole(line.strip("\r\n"))]
    path = Path(argument)
    if path.is_dir():
        files = (str(p) for p in sorted(path.rglob("*")) if p.is_file() and not p.name.startswith("."))
        found = [name for file in files for name in (_members(file) if _is_archive(file) else _audio([file]))]
        if not found:
            raise UsageError(f"{argument}: no audio or video files in this folder, by their suffixes")
        return found
    if any(letter in argument for letter in "*?[") and not path.exists():
        matching = Path(path.anchor).glob(str(path.relative_to(path.anchor)))
        matches = [name for p in sorted(matching) if p.is_file() for name in _whole(str(p))]
        if not matches:
            raise UsageError(f"{argument}: no file matches this pattern")
        return matches
    return _whole(argument)


def _whole(path: str) -> list[str]:
    """What is in an archive, if it is one that holds audio; else the path as it is."""
    return (_members(path) if _is_archive(path) else []) or [path]


def _is_archive(path: str) -> bool:
    return PurePath(path).suffix.lower() in (".tar", ".parquet") and Path(path).is_file()


def _members(archive: str) -> list[str]:
    """Paths of the audio and video files in an archive, in its order; none where it cannot be read."""
    from voxfide.audio.members import member_names

    try:
        return _audio(f"{archive}/{name}" for name in member_names(archive))
    except AudioError:
        return []


def _audio(paths: Iterable[str]) -> list[str]:
    """Those that are audio or video by their suffix."""
    from voxfide.audio.sniff import SUFFIXES

    known = frozenset().union(*SUFFIXES.values())
    return [path for path in paths if PurePath(path).suffix.lower() in known]
