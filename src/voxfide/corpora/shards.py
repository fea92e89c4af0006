"""The generic corpus of shards: tar archives in WebDataset's convention, Parquet files that hold audio."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from voxfide.audio import parquet_members, tar_members
from voxfide.audio.members import ARCHIVE_SUFFIXES
from voxfide.corpora.csv import SYNONYMS, from_table
from voxfide.corpora.folder import AUDIO_SUFFIXES
from voxfide.corpora.labels import split_of
from voxfide.errors import ManifestError, UsageError
from voxfide.manifest import Manifest
from voxfide.manifest_io import as_text, concatenate
from voxfide.types import BONAFIDE, SPOOF

log = logging.getLogger(__name__)

_AUDIO: Final = AUDIO_SUFFIXES | {".audio"}
_SAMPLE: Final = re.compile(r"((?:.*/)?[^./]+)\.([^/]+)")
"""Key and extensions: WebDataset cuts the last part of a member's name at its first dot."""

_MAX_TEXT: Final = 4096
"""Bytes of a member that is read as the text of one field."""

_MAX_JSON: Final = 16 << 20

_KEY: Final = "__key__"

Fields = dict[str, str | None]


def prepare(
    root: Path,
    split: str | None = None,
    columns: Mapping[str, str] | None = None,
    bonafide: str | None = None,
    spoof: str | None = None,
) -> Manifest:
    """Every recording in the shards at ``root`` or below it; paths go through the shards.

    The fields of a recording are those of its JSON members, and each short text beside it, such as
    ``KEY.cls``, is the field of that name; of Parquet files they are the other columns. They are found,
    translated and kept as :func:`voxfide.corpora.csv.prepare` does with a table's. Without a field of
    ids, the id is the key where all keys differ, else with the shard in front. Without a field of splits,
    names of folders and the first words of shards' names tell the split, as in ``train-000000.tar``.

    Args:
        root: a folder, or one shard.
        split: keep only recordings of this split; synonyms as in the fields.
        columns: manifest column to the field's name, where it is no common synonym.
        bonafide, spoof: values of the label field that mean that class, separated by commas; all others
            have to be common words for one.

    Raises:
        UsageError: no shards with audio, or fields that cannot be found.
        ManifestError: shards that cannot be read, all of them, or labels that mean neither class.
    """
    folder = root if root.is_dir() else root.parent
    tables, problems = [], []
    for archive in _archives(root):
        name = archive.relative_to(folder).as_posix()
        try:
            table = (
                _read_tar(archive, name) if archive.suffix.lower() == ".tar" else _read_parquet(archive, name)
            )
        except (OSError, ValueError) as error:
            problems.append(f"{name}: {getattr(error, 'strerror', None) or error}")
            continue
        if table.num_rows:
            tables.append(_with_split(table, name))
    if problems:
        raise ManifestError(str(root), problems)
    if not tables:
        raise UsageError(f"{root}: no shards with audio in it ({' or '.join(ARCHIVE_SUFFIXES)})")
    table = concatenate(tables)
    given = dict(columns or {})
    for label, values in ((BONAFIDE, bonafide), (SPOOF, spoof)):
        if values is not None:
            table = _meaning(table, given, label, values.split(","), str(root))
    return from_table(_with_ids(table, given), folder, str(root), split, given)


def _archives(root: Path) -> list[Path]:
    if not root.is_dir():
        if not root.is_file():
            raise UsageError(f"{root}: no such folder or file")
        return [root]
    found = (p for p in root.rglob("*") if p.suffix.lower() in ARCHIVE_SUFFIXES and p.is_file())
    return sorted(p for p in found if not p.name.startswith("."))


def _read_tar(archive: Path, name: str) -> pa.Table:
    """A row for each audio member, with its fields as text."""
    n_bytes = archive.stat().st_size
    index = tar_members.read_index(str(archive), n_bytes, scan=True)
    if index.damage is not None:
        log.warning("%s: broken off; its first %d members are used (%s)", archive, len(index), index.damage)
    audio: list[tuple[str, str]] = []
    objects: dict[str, Fields] = {}
    texts: dict[str, Fields] = {}
    with archive.open("rb") as file:
        for member in index:
            offset, size = index.find(member) or tar_members.SPARSE
            sample = _SAMPLE.fullmatch(member)
            if sample is None or offset < 0 or offset + size > n_bytes:
                continue
            key, extension = sample[1], sample[2].lower()
            if PurePosixPath(member).suffix.lower() in _AUDIO:
                audio.append((key, f"{name}/{member}"))
                continue
            kind, limit = (objects, _MAX_JSON) if extension == "json" else (texts, _MAX_TEXT)
            if size <= limit:
                file.seek(offset)
                kind.setdefault(key, {}).update(_fields(file.read(size), extension, f"{archive}/{member}"))
    rows = [objects.get(key, {}) | texts.get(key, {}) | {"path": path, _KEY: key} for key, path in audio]
    names = dict.fromkeys(field for row in rows for field in row)
    return pa.table({n: pa.array([row.get(n) for row in rows], pa.string()) for n in names})


def _fields(content: bytes, extension: str, where: str) -> Fields:
    """What a member that is no audio says of its sample; nothing where it is no text."""
    try:
        text = content.decode()
        if extension != "json":
            return {} if "\0" in text else {extension: text.strip() or None}
        values = json.loads(text)
    except (UnicodeDecodeError, RecursionError):
        return {}
    except json.JSONDecodeError as error:
        raise ValueError(f"{where} is not JSON ({error})") from None
    return {k: _text(v) for k, v in values.items()} if isinstance(values, dict) else {extension: text}


def _text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _read_parquet(archive: Path, name: str) -> pa.Table:
    """The columns but the audio itself; classes that are numbered by their names."""
    with pq.ParquetFile(archive) as file:
        schema = file.schema_arrow
        column = parquet_members.audio_column(schema)
        if column is None:
            return pa.table({})
        others = [n for n in schema.names if n != column]
        table = file.read(columns=[*others, f"{column}.path"])
    cells = parquet_members.cell_names(table.column(column).combine_chunks().field("path").to_pylist())
    paths = pa.array([f"{name}/{cell}" for cell in cells], pa.string())
    keys = pa.array([cell.rpartition(".")[0] or cell for cell in cells], pa.string())
    table = table.select([n for n in others if n not in ("path", _KEY)])
    for field, classes in _classes(schema).items():
        if field in table.column_names:
            named = [
                classes[v] if isinstance(v, int) and 0 <= v < len(classes) else v
                for v in table[field].to_pylist()
            ]
            table = table.set_column(table.column_names.index(field), field, pa.array(named, pa.string()))
    return table.append_column("path", paths).append_column(_KEY, keys)


def _classes(schema: pa.Schema) -> dict[str, list[str]]:
    """Names of the numbers in columns that Hugging Face ``datasets`` calls class labels."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return {
            n: f["names"]
            for n, f in features.items()
            if isinstance(f, dict) and f.get("_type") == "ClassLabel"
        }
    except (KeyError, TypeError, ValueError):
        return {}


def _with_split(table: pa.Table, name: str) -> pa.Table:
    """With the split that names of folders and of the shard tell, unless a field does."""
    if any(column.lower() in SYNONYMS["split"] for column in table.column_names):
        return table
    words = [*PurePosixPath(name).parent.parts, re.split(r"[-_.]", PurePosixPath(name).name)[0]]
    found = next(filter(None, map(split_of, words)), None)
    return (
        table if found is None else table.append_column("split", pa.array([found] * len(table), pa.string()))
    )


def _with_ids(table: pa.Table, given: Mapping[str, str]) -> pa.Table:
    """With keys for ids, where there are no others and all keys differ."""
    keys = table.column(_KEY)
    table = table.drop_columns([_KEY])
    named = {column.strip().lower() for column in table.column_names}
    if "utterance_id" in given or named & set(SYNONYMS["utterance_id"]) or len(keys.unique()) < len(keys):
        return table
    return table.append_column("utterance_id", keys)


def _meaning(
    table: pa.Table, given: Mapping[str, str], label: str, values: list[str], source: str
) -> pa.Table:
    """With ``label`` in place of some values of the label field."""
    named = {column.strip().lower(): column for column in table.column_names}
    name = given.get("label") or next((named[w] for w in SYNONYMS["label"] if w in named), None)
    if name is None or name not in table.column_names:
        raise UsageError(f"{source}: no field of labels (fields: {', '.join(table.column_names)})")
    texts = as_text(table.column(name)).to_pylist()
    wanted = {value.strip() for value in values}
    if absent := sorted(wanted.difference(filter(None, texts))):
        raise UsageError(
            f"{source}: no recording has {name} = {', '.join(absent)} (expected values that occur)"
        )
    column = pa.array([label if text in wanted else text for text in texts], pa.string())
    return table.set_column(table.column_names.index(name), name, column)
