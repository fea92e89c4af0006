"""The generic folder corpus: names of folders tell label, split and system."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from voxfide.audio.sniff import SUFFIXES
from voxfide.corpora.labels import label_of, split_of
from voxfide.errors import ManifestError, UsageError
from voxfide.manifest import REQUIRED_COLUMNS, Manifest
from voxfide.types import BONAFIDE, UNKNOWN

log = logging.getLogger(__name__)

AUDIO_SUFFIXES: Final = frozenset().union(*SUFFIXES.values())


def prepare(root: Path, split: str | None = None) -> Manifest:
    """Every audio file below ``root``, in sorted order; hidden files and folders are left out.

    The folder whose name is a synonym gives the label, likewise the split; the folder right
    below the label folder of a spoof, if any, names the system. A file with no label folder
    above it is ``unknown``. The utterance id is the path without suffix, or with it where
    that names two files. Links to folders are followed, each folder being visited once.

    Args:
        root: the top folder; its own name and those above it tell nothing.
        split: keep only files of this split; synonyms as for folders.

    Raises:
        UsageError: ``root`` is no folder, holds no audio of the asked-for split, or has
            folders that cannot be read.
        ManifestError: files below folders of two labels or of two splits.
    """
    if not root.is_dir():
        raise UsageError(f"{root}: no such folder")
    files = [Path(folder, name).relative_to(root) for folder, name in _audio_files(root)]
    rows = _rows(files, str(root))
    splits = sorted({r["split"] for r in rows if r["split"]})
    if split is not None:
        rows = [r for r in rows if r["split"] == (split_of(split) or split)]
    if not rows:
        wanted = f" of split {split!r} (splits: {', '.join(splits) or 'none'})" if files else ""
        raise UsageError(
            f"{root}: no audio files{wanted} below it (looked for {', '.join(sorted(AUDIO_SUFFIXES))})"
        )
    unknown = sum(r["label"] == UNKNOWN for r in rows)
    if unknown:
        log.warning(
            "%s: %d of %d files have no label folder above them: label unknown", root, unknown, len(rows)
        )
    used = [c for c in rows[0] if c in REQUIRED_COLUMNS or any(r[c] not in ("", "-") for r in rows)]
    return Manifest.from_columns({c: [r[c] for r in rows] for c in used}, root, str(root))


def _audio_files(root: Path) -> Iterator[tuple[str, str]]:
    """Folder and name of every audio file, sorted; a folder that links lead to twice is listed once."""
    seen = {_identity(root)}

    def refuse(error: OSError) -> None:
        # Going on would leave out a part of the corpus without a word.
        raise UsageError(f"{error.filename}: folder cannot be read ({error.strerror})") from error

    def is_new(folder: str, name: str) -> bool:
        identity = _identity(Path(folder, name))
        new = identity not in seen
        seen.add(identity)
        return new

    for folder, folders, names in os.walk(root, onerror=refuse, followlinks=True):
        folders[:] = [f for f in sorted(folders) if not f.startswith(".") and is_new(folder, f)]
        for name in sorted(names):
            if not name.startswith(".") and Path(name).suffix.lower() in AUDIO_SUFFIXES:
                yield folder, name


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino


def _rows(files: Sequence[Path], source: str) -> list[dict[str, str]]:
    names = {f.as_posix() for f in files}
    stems = Counter(f.with_suffix("").as_posix() for f in files)
    rows, problems = [], []
    for file in files:
        folders = file.parts[:-1]
        labels, splits = _labels(folders), _meanings(folders, split_of)
        for kind, found in (("labels", labels), ("splits", splits)):
            if len(set(found.values())) > 1:
                problems.append(f"{file.as_posix()}: folders of two {kind} above it: {', '.join(found)}")
        label = next(iter(labels.values()), UNKNOWN)
        stem = file.with_suffix("").as_posix()
        if not _is_text(stem):
            problems.append(f"{file.as_posix()!a}: file name is not UTF-8")
        rows.append(
            {
                "utterance_id": stem if stems[stem] == 1 and stem not in names else file.as_posix(),
                "path": file.as_posix(),
                "label": label,
                "split": next(iter(splits.values()), ""),
                "system": "-" if label == BONAFIDE else _system(folders, labels),
            }
        )
    if problems:
        raise ManifestError(source, problems)
    return rows


def _is_text(name: str) -> bool:
    """Whether a name is Unicode; other bytes in it become lone surrogates."""
    return name.isascii() or not any("\ud800" <= c <= "\udfff" for c in name)


def _labels(folders: Sequence[str]) -> dict[str, str]:
    """Folders that tell the class; beside one that does, "unknown" names an unknown attack."""
    labels = _meanings(folders, label_of)
    known = {name: label for name, label in labels.items() if label != UNKNOWN}
    return known or labels


def _meanings(folders: Sequence[str], meaning: Callable[[str], str | None]) -> dict[str, str]:
    """Those folder names that mean something, from the top, with what they mean."""
    return {name: found for name in folders if (found := meaning(name))}


def _system(folders: Sequence[str], labels: dict[str, str]) -> str:
    if not labels:
        return ""
    below = folders[folders.index(next(iter(labels))) + 1 :]
    return next((name for name in below if not split_of(name) and name not in labels), "")
