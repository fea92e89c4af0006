"""Which recordings a command is to work on: files, folders, patterns, or a list on standard input."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

from voxfide.errors import UsageError

STDIN = "-"


def recordings(arguments: Iterable[str]) -> list[str]:
    """The recordings that arguments name, in order, each once.

    A folder stands for the audio and video files in and below it, sorted; ``-`` for the lines of standard
    input; a pattern that no file bears as its name, for the files that match it (``**`` for folders).
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
        return [line.strip("\r\n") for line in sys.stdin if line.strip()]
    path = Path(argument)
    if path.is_dir():
        from voxfide.audio.sniff import SUFFIXES

        known = frozenset().union(*SUFFIXES.values())
        inside = sorted(p for p in path.rglob("*") if p.suffix.lower() in known and p.is_file())
        kept = [str(p) for p in inside if not p.name.startswith(".")]
        if not kept:
            raise UsageError(f"{argument}: no audio or video files in this folder, by their suffixes")
        return kept
    if any(letter in argument for letter in "*?[") and not path.exists():
        matching = Path(path.anchor).glob(str(path.relative_to(path.anchor)))
        matches = sorted(str(p) for p in matching if p.is_file())
        if not matches:
            raise UsageError(f"{argument}: no file matches this pattern")
        return matches
    return [argument]
