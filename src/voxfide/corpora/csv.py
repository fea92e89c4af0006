"""The generic table corpus: any CSV or TSV that names files and labels."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa

from voxfide.corpora.labels import label_of, split_of
from voxfide.errors import ManifestError, UsageError
from voxfide.manifest import Manifest
from voxfide.manifest_io import read_table
from voxfide.types import UNKNOWN

SYNONYMS = {
    "path": ("path", "file", "filename", "file_name", "filepath", "audio", "audio_path", "wav", "flac"),
    "label": ("label", "key", "class"),
    "utterance_id": ("utterance_id", "utterance", "utt_id", "utt", "id", "trial"),
    "split": ("split", "subset", "partition", "set"),
    "speaker": ("speaker", "speaker_id", "spk"),
    "attack": ("attack", "attack_id", "attack_label"),
}


def prepare(root: Path, split: str | None = None, columns: Mapping[str, str] | None = None) -> Manifest:
    """Reads the table at ``root``; paths in it are relative to its folder.

    Args:
        root: the CSV, TSV or Parquet file.
        split: keep only rows of this split.
        columns: manifest column to the table's own name for it, where it is no common synonym.

    Raises:
        ManifestError: unreadable rows, or labels that mean neither class.
        UsageError: columns that cannot be found.
    """
    table = read_table(root)
    names = _find_columns(table, dict(columns or {}), str(root))
    values: dict[str, list[str]] = {}
    for wanted, name in names.items():
        values[wanted] = ["" if v is None else str(v) for v in table.column(name).to_pylist()]
    if "label" in values:
        values["label"] = _labels(values["label"], names["label"], str(root))
    else:
        values["label"] = [UNKNOWN] * table.num_rows
    if "split" in values:
        values["split"] = [split_of(v) or v for v in values["split"]]
    if "utterance_id" not in values:
        values["utterance_id"] = [Path(p).with_suffix("").as_posix() for p in values["path"]]
    others = [c for c in table.column_names if c not in names.values() and c not in values]
    values |= {c: ["" if v is None else str(v) for v in table.column(c).to_pylist()] for c in others}
    made = Manifest.from_columns(values, root.parent, str(root))
    return made.split(split)


def _find_columns(table: pa.Table, given: dict[str, str], source: str) -> dict[str, str]:
    """Manifest column to table column."""
    absent = [f"{wanted}={name}" for wanted, name in given.items() if name not in table.column_names]
    if absent:
        raise UsageError(
            f"{source}: mapped columns are not there: {', '.join(absent)} (columns: {', '.join(table.column_names)})"
        )
    lower = {c.lower(): c for c in table.column_names}
    names = dict(given)
    for wanted, synonyms in SYNONYMS.items():
        for word in synonyms:
            if wanted not in names and word in lower and lower[word] not in names.values():
                names[wanted] = lower[word]
    if "path" not in names:
        raise UsageError(
            f"{source}: no column of files (expected one of {', '.join(SYNONYMS['path'])}, or --map path=COLUMN; "
            f"columns: {', '.join(table.column_names)})"
        )
    return names


def _labels(values: list[str], column: str, source: str) -> list[str]:
    found = {v: label_of(v) if v else UNKNOWN for v in set(values)}
    strange = sorted(v for v, label in found.items() if label is None)
    if strange:
        rows = {v: values.index(v) + 1 for v in strange}
        raise ManifestError(
            source,
            [f"row {rows[v]}: {column} {v!r} means neither class (expected words such as bonafide, real, "
             "spoof, fake; numbers are ambiguous)" for v in strange],
        )  # fmt: skip
    return [found[v] or UNKNOWN for v in values]
