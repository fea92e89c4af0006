"""From protocols and folders to a manifest: which audio belongs to which row, and what is missing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from voxfide.corpora.datasheet import DataSheet
from voxfide.corpora.inventory import Inventory, SplitFound, Surplus
from voxfide.corpora.labels import split_of
from voxfide.corpora.tree import Tree, join
from voxfide.errors import UsageError
from voxfide.manifest import Manifest
from voxfide.manifest_io import concatenate
from voxfide.types import BONAFIDE, LABELS


@dataclass(frozen=True)
class Part:
    """Rows of a protocol, and the folders in which their audio should be.

    Attributes:
        columns: ``utterance_id``, ``label`` and any others; with ``path``, nothing is looked for;
            ``_stem`` is the audio file's name without suffix, where that is not the id.
        split: of all rows; None where ``columns`` has it, or nobody knows.
        folders: regular expressions for the ends of folders' paths, the usual one first.
        beside: a folder that is known, tried first.
        expected: where the audio of utterance ``ID`` would lie: ``flac_T/ID.flac``.
        surplus_hint: why there may be more audio than rows.
    """

    columns: Mapping[str, Any]
    split: str | None = None
    folders: Sequence[str] = ()
    expected: str = "ID"
    surplus_hint: str = ""
    beside: str | None = None


def wanted_splits(sheet: DataSheet, split: str | None) -> list[str]:
    """The asked-for split by its name in the data sheet, or all of them.

    Raises:
        UsageError: no such split.
    """
    if split is None:
        return list(sheet.splits)
    named = {s.lower(): s for s in sheet.splits}
    found = named.get(split.lower()) or named.get(split_of(split) or "")
    if found is None:
        raise UsageError(f"{sheet.name} has no split {split!r} (splits: {', '.join(sheet.splits) or 'none'})")
    return [found]


def nothing_found(sheet: DataSheet, tree: Tree, looked_for: Sequence[str]) -> UsageError:
    """Says that nothing of a corpus is there, and what was looked for."""
    things = "; ".join(dict.fromkeys(looked_for))
    return UsageError(f"{tree.root}: {sheet.name} was not found here or below; looked for {things}")


def the_one(tree: Tree, files: Sequence[str], what: str) -> str:
    """The only one of several files that were found.

    Raises:
        UsageError: there are more.
    """
    if len(files) > 1:
        shown = ", ".join(files[:5])
        raise UsageError(f"{tree.root}: several files could be the {what}: {shown} (give a narrower ROOT)")
    return files[0]


def assemble(
    sheet: DataSheet,
    tree: Tree,
    parts: Sequence[Part],
    wanted: Sequence[str],
    inventory: Inventory,
    *,
    keep_missing: bool = False,
) -> Manifest:
    """Finds the audio of every row, takes stock, and makes the manifest of the wanted splits.

    Rows without audio are left out, unless ``keep_missing``: then their path says where it
    was expected.

    Raises:
        UsageError: no audio at all.
    """
    inventory.sheet, inventory.root, inventory.kept_missing = sheet, str(tree.root), keep_missing
    tables = [_with_audio(tree, part, inventory) for part in parts]
    table = concatenate([t for t in tables if t.num_rows] or tables[:1])
    if sheet.splits:
        table = table.filter(pc.is_in(table.column("split"), value_set=pa.array(wanted, pa.string())))
    _take_stock(table, wanted if sheet.splits else [""], inventory)
    here = table.column("_here")
    if not pc.any(here).as_py() and not keep_missing:
        places = "; ".join(dict.fromkeys(part.expected for part in parts))
        rows = f"{table.num_rows:,} utterances" if table.num_rows else f"no rows of split {', '.join(wanted)}"
        raise UsageError(
            f"{tree.root}: the protocol of {sheet.name} lists {rows}, but no audio was found "
            f"for them (looked for {places})"
        )
    if not keep_missing:
        table = table.filter(here)
    table = table.drop_columns(["_here"])
    return Manifest.from_columns(_plain_attacks(table), tree.root, str(tree.root))


def _with_audio(tree: Tree, part: Part, inventory: Inventory) -> pa.Table:
    """The part's rows with ``path``, and ``_here`` where there is such a file."""
    columns = {name: _chunked(values) for name, values in part.columns.items()}
    ids = columns.pop("_stem", columns["utterance_id"])
    if part.split is not None:
        columns["split"] = _constant(part.split, len(ids))
    if "path" in columns:
        return pa.table({**columns, "_here": _constant(True, len(ids))})
    located = _locate(tree, part, ids, inventory)
    # What is missing would lie beside what is there.
    beside = next((join(f, f"ID{Path(tree.listing(f).audio[0]).suffix}") for f in located), part.expected)
    before, _, after = beside.rpartition("ID")
    columns["path"] = pc.binary_join_element_wise(before, ids, after, "")
    columns["_here"] = _constant(False, len(ids))
    for folder, position in located.items():
        prefix = f"{folder}/" if folder else ""
        paths = pa.array([prefix + name for name in tree.listing(folder).audio], pa.string())
        found = pa.chunked_array([paths.take(chunk) for chunk in position.chunks], pa.string())
        columns["path"] = pc.if_else(pc.is_valid(found), found, columns["path"])
        columns["_here"] = pc.or_(columns["_here"], pc.is_valid(found))
        if len(paths) > len(found) - found.null_count:
            _note_surplus(tree, folder, ids, part.surplus_hint, inventory)
    return pa.table(columns)


def _locate(tree: Tree, part: Part, ids: pa.ChunkedArray, inventory: Inventory) -> dict[str, pa.ChunkedArray]:
    """Folders that hold the part's audio, with each row's position in their listings.

    Those of the usual names, or else any that hold some of it.
    """

    def positions(folders: Iterable[str]) -> dict[str, pa.ChunkedArray]:
        found = {f: pc.index_in(ids, value_set=tree.stems(f)) for f in folders if len(tree.stems(f))}
        return {f: position for f, position in found.items() if position.null_count < len(ids)}

    beside = [] if part.beside is None else [[part.beside]]
    for folders in (*beside, *(tree.folders(pattern) for pattern in part.folders)):
        if found := positions(folders):
            return found
    for level in tree.levels() if part.folders else ():
        if found := positions(listing.path for listing in level):
            inventory.note(f"audio found in {', '.join(f or '.' for f in found)}, not as {part.expected}")
            return found
    return {}


def _note_surplus(tree: Tree, folder: str, ids: pa.ChunkedArray, hint: str, inventory: Inventory) -> None:
    listed = pc.is_in(tree.stems(folder), value_set=ids.combine_chunks())
    extra = np.flatnonzero(~listed.to_numpy(zero_copy_only=False))
    if len(extra):
        example = tree.listing(folder).audio[extra[0]]
        inventory.surplus.append(Surplus(folder, len(extra), example, hint))


def _take_stock(table: pa.Table, splits: Sequence[str], inventory: Inventory) -> None:
    table = table.select([c for c in ("split", "label", "_here") if c in table.column_names])
    for split in splits:
        rows = table.filter(pc.equal(table.column("split"), split)) if split else table
        if not rows.num_rows:
            continue
        counts = {c["values"]: c["counts"] for c in pc.value_counts(rows.column("label")).to_pylist()}
        missing = rows.num_rows - pc.sum(pc.cast(rows.column("_here"), pa.int64())).as_py()
        labels = {label: counts.get(label, 0) for label in LABELS}
        inventory.splits.append(SplitFound(split, rows.num_rows, missing, labels))


def _plain_attacks(table: pa.Table) -> dict[str, pa.ChunkedArray]:
    """Bona fide rows have ``-`` for attack and system, whatever the protocol writes there."""
    columns = dict(zip(table.column_names, table.columns, strict=True))
    bonafide = pc.equal(columns["label"], BONAFIDE)
    for name in {"attack", "system"} & set(columns):
        columns[name] = pc.if_else(bonafide, "-", columns[name])
    order = ["utterance_id", "path", "label", *(["split"] if "split" in columns else [])]
    return {name: columns[name] for name in [*order, *(c for c in columns if c not in order)]}


def _chunked(values: Any) -> pa.ChunkedArray:
    if isinstance(values, pa.ChunkedArray):
        return values
    return pa.chunked_array([values if isinstance(values, pa.Array) else pa.array(values)])


def _constant(value: Any, n: int) -> pa.ChunkedArray:
    return pa.chunked_array([pa.repeat(pa.scalar(value), n)])
