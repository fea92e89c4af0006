"""The generic table corpus: any CSV or TSV that names files and labels."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Final

import pyarrow as pa

from voxfide.corpora.folder import AUDIO_SUFFIXES
from voxfide.corpora.labels import label_of, split_of
from voxfide.errors import ManifestError, UsageError
from voxfide.manifest import Manifest
from voxfide.manifest_io import as_text, read_table
from voxfide.types import UNKNOWN

log = logging.getLogger(__name__)

SYNONYMS: Final = {
    "path": ("path", "file", "filename", "file_name", "filepath", "audio", "audio_path", "wav", "flac"),
    "label": ("label", "key", "class", "cls"),
    "utterance_id": ("utterance_id", "utterance", "utt_id", "utt", "id", "trial"),
    "split": ("split", "subset", "partition", "set"),
    "speaker": ("speaker", "speaker_id", "spk"),
    "attack": ("attack", "attack_id", "attack_label"),
}


def prepare(root: Path, split: str | None = None, columns: Mapping[str, str] | None = None) -> Manifest:
    """Reads the table at ``root``; paths in it are relative to its folder.

    Columns are found by synonyms in any case; labels and splits are translated, empty labels
    and tables without labels are ``unknown``. Backslashes in paths become slashes. Without a
    column of ids, the id is the path without its audio suffix, or the whole path where some
    files differ in nothing else. Further columns are kept.

    Args:
        root: the table; text is split at whichever of comma, tab, semicolon and bar its
            header holds most of.
        split: keep only rows of this split; synonyms as in the table.
        columns: manifest column to the table's own name for it, where it is no common synonym.

    Raises:
        ManifestError: unreadable rows, or labels that mean neither class.
        UsageError: columns that cannot be found.
    """
    return from_table(_read(root), root.parent, str(root), split, columns)


def from_table(
    table: pa.Table, folder: Path, source: str, split: str | None, columns: Mapping[str, str] | None
) -> Manifest:
    """A manifest of a table that was read already; see :func:`prepare`.

    Args:
        folder: that paths in the table start from.
        source: for messages.
    """
    names = _find_columns(table.column_names, dict(columns or {}), source)
    values: dict[str, Any] = {wanted: table.column(name) for wanted, name in names.items()}
    values["path"] = [p and p.replace("\\", "/") for p in _texts(table, names["path"])]
    if "label" in names:
        values["label"] = _labels(_texts(table, names["label"]), names["label"], source)
    else:
        values["label"] = [UNKNOWN] * table.num_rows
        log.warning("%s: no column of labels: label unknown", source)
    if "split" in names:
        values["split"] = [v and (split_of(v) or v) for v in _texts(table, names["split"])]
    if "utterance_id" not in names:
        values["utterance_id"] = _ids(values["path"])
    for name in table.column_names:
        if name not in names.values():
            if name in values:
                log.warning("%s: its own column %r is left out for the mapped one", source, name)
            values.setdefault(name, table.column(name))
    made = Manifest.from_columns(values, folder, source)
    return made.split(split and (split_of(split) or split))


def _read(root: Path) -> pa.Table:
    if root.suffix.lower() == ".parquet" or not root.is_file():
        return read_table(root)
    with root.open("rb") as file:
        header = file.readline(1 << 16)
    delimiter = max(",\t;|", key=lambda d: header.count(d.encode()))
    return read_table(root, delimiter)


def _texts(table: pa.Table, name: str) -> list[str | None]:
    return as_text(table.column(name)).to_pylist()


def _find_columns(present: Sequence[str], given: dict[str, str], source: str) -> dict[str, str]:
    """Manifest column to table column."""
    absent = [f"{wanted}={name}" for wanted, name in given.items() if name not in present]
    if absent:
        raise UsageError(
            f"{source}: mapped columns are not there: {', '.join(absent)} (columns: {', '.join(present)})"
        )
    lower = {c.strip().lower(): c for c in reversed(present)} | {c: c for c in present}
    names = dict(given)
    for wanted, synonyms in SYNONYMS.items():
        for word in synonyms:
            if wanted not in names and word in lower and lower[word] not in names.values():
                names[wanted] = lower[word]
    if "path" not in names:
        raise UsageError(
            f"{source}: no column of files (expected one of {', '.join(SYNONYMS['path'])}, "
            f"or --map path=COLUMN; columns: {', '.join(present)})"
        )
    return names


def _labels(values: Sequence[str | None], column: str, source: str) -> list[str]:
    rows: dict[str | None, int] = {}
    for row, value in enumerate(values, start=1):
        rows.setdefault(value, row)
    found = {v: label_of(v) if v else UNKNOWN for v in rows}
    problems = [
        f"row {row}: {column} {value!r} means neither class "
        "(expected words such as bonafide, real, spoof, fake; numbers are ambiguous)"
        for value, row in rows.items()
        if found[value] is None
    ]
    if problems:
        raise ManifestError(source, problems)
    return [found[v] or UNKNOWN for v in values]


def _ids(paths: Sequence[str | None]) -> list[str | None]:
    names = [p and PurePosixPath(p).as_posix() for p in paths]
    stems = [n and _stem(n) for n in names]
    return stems if len(set(stems)) == len(set(names)) else names


def _stem(name: str) -> str:
    suffix = PurePosixPath(name).suffix
    return name.removesuffix(suffix) if suffix.lower() in AUDIO_SUFFIXES else name
