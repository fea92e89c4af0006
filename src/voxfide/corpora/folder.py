"""The generic folder corpus: names of folders tell label, split and system."""

from __future__ import annotations

import logging
import os
from collections import Counter
from pathlib import Path

from voxfide.corpora.labels import label_of, split_of
from voxfide.errors import UsageError
from voxfide.manifest import Manifest
from voxfide.types import UNKNOWN

log = logging.getLogger(__name__)

AUDIO_SUFFIXES = frozenset(
    ".wav .flac .ogg .oga .opus .mp3 .m4a .mp4 .aac .amr .webm .mkv .mka .mov .aif .aiff .au .caf .wma .3gp".split()
)


def prepare(root: Path, split: str | None = None) -> Manifest:
    """Every audio file below ``root``, in sorted order; links to folders are not followed.

    The first folder from the top whose name is a synonym gives the label, likewise the
    split; the folder right below a label folder, if any, names the system. A file with no
    label folder above it is ``unknown``. The utterance id is the path without suffix,
    or with it where two files differ in nothing else.

    Raises:
        UsageError: ``root`` is no folder, or holds no audio of the asked-for split.
    """
    if not root.is_dir():
        raise UsageError(f"{root}: no such folder")
    files = [
        Path(folder, name).relative_to(root)
        for folder, folders, names in os.walk(root)
        if folders.sort() is None
        for name in sorted(names)
        if Path(name).suffix.lower() in AUDIO_SUFFIXES and not name.startswith(".")
    ]
    stems = Counter(f.with_suffix("").as_posix() for f in files)
    rows = [_row(f, stems) for f in files]
    if split is not None:
        rows = [r for r in rows if r["split"] == split]
    if not rows:
        wanted = f" of split {split!r}" if split else ""
        raise UsageError(
            f"{root}: no audio files{wanted} below it (looked for {', '.join(sorted(AUDIO_SUFFIXES))})"
        )
    unknown = sum(r["label"] == UNKNOWN for r in rows)
    if unknown:
        log.warning(
            "%s: %d of %d files have no label folder above them: label unknown", root, unknown, len(rows)
        )
    used = [c for c in rows[0] if c in ("utterance_id", "path", "label") or any(r[c] for r in rows)]
    return Manifest.from_columns({c: [r[c] for r in rows] for c in used}, root, str(root))


def _row(file: Path, stems: Counter[str]) -> dict[str, str]:
    folders = file.parts[:-1]
    labels = [(i, label) for i, name in enumerate(folders) if (label := label_of(name))]
    splits = [found for name in folders if (found := split_of(name))]
    system = ""
    if labels:
        below = [name for name in folders[labels[0][0] + 1 :] if not split_of(name)]
        system = below[0] if below else ""
    stem = file.with_suffix("").as_posix()
    return {
        "utterance_id": stem if stems[stem] == 1 else file.as_posix(),
        "path": file.as_posix(),
        "label": labels[0][1] if labels else UNKNOWN,
        "split": splits[0] if splits else "",
        "system": system,
    }
