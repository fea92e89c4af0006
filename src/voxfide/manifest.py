"""The manifest: one row an utterance, in CSV or Parquet.

Required columns: ``utterance_id`` (unique), ``path`` (relative to the manifest's
folder, or absolute) and ``label`` (bonafide | spoof | unknown). Well-known optional
ones are in :data:`OPTIONAL_COLUMNS`; any others are kept and can be broken down by.
An empty cell means "not known". Rows are counted from 1, the header not included.
"""

from __future__ import annotations

import hashlib
import heapq
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from voxfide.errors import ManifestError, UsageError
from voxfide.manifest_io import (
    REQUIRED_COLUMNS,
    as_column,
    as_text,
    concatenate,
    normalised,
    read_table,
    write_table,
)
from voxfide.types import LABELS, PathLike

OPTIONAL_COLUMNS: Final = {
    "split": "train, dev, eval or another part of the corpus",
    "attack": "the corpus's own tag of the spoofing attack (A01 …), '-' for bona fide",
    "system": "the synthesis system, '-' for bona fide",
    "speaker": "who speaks, or whose voice is imitated",
    "language": "ISO 639-1 code, 'und' where not determined",
    "codec": "coding the audio went through",
    "duration": "seconds",
    "segments": 'JSON list of [start, end, label], seconds: "[[0.0, 1.2, "spoof"]]"',
    "corpus": "where the row came from, in a mix",
}


@dataclass(frozen=True)
class Manifest:
    """An immutable table of utterances.

    Attributes:
        table: all columns; ids, paths and labels as strings.
        root: folder that relative paths start from.
        source: where it was read from, for messages.
    """

    table: pa.Table
    root: Path
    source: str = "<manifest>"

    @classmethod
    def read(cls, path: PathLike) -> Manifest:
        """Reads ``.csv``, ``.tsv`` or ``.parquet`` and checks that it is usable as a table.

        Relative paths start from the folder in which ``path`` lies, also where it is a link.

        Raises:
            ManifestError: no such file, malformed rows, or missing required columns.
        """
        path = Path(path)
        table = read_table(path)
        columns = dict(zip(table.column_names, table.columns, strict=True))
        return cls.from_columns(columns, path.parent, str(path))

    @classmethod
    def from_columns(
        cls, columns: Mapping[str, Sequence[Any]], root: PathLike, source: str = "<manifest>"
    ) -> Manifest:
        """From equally long columns of Python values or Arrow arrays.

        Args:
            columns: name to values; ids, paths and labels may be anything that has a text form.
            root: folder that relative paths start from.
            source: for messages.

        Raises:
            ManifestError: missing required columns, different lengths, or a column of values
                that have no type in common.
        """
        found = ", ".join(map(repr, columns)) or "none"
        problems = [
            f"column {c!r} is missing (required: {', '.join(REQUIRED_COLUMNS)}; found: {found})"
            for c in REQUIRED_COLUMNS
            if c not in columns
        ]
        lengths = {name: len(values) for name, values in columns.items()}
        if len(set(lengths.values())) > 1:
            problems.append(f"columns of different lengths: {lengths}")
        if problems:
            raise ManifestError(source, problems)
        table = pa.table({name: as_column(name, values, source) for name, values in columns.items()})
        return cls(normalised(table), Path(root).resolve(), source)

    def write(self, path: PathLike) -> Path:
        """Writes CSV, TSV or Parquet, by suffix, atomically; paths are made to fit the new place.

        Audio below the new manifest's folder is named relative to it, other audio absolutely.
        """
        path = Path(path)
        folder = path.parent.resolve()
        prefix = str(folder).rstrip("/") + "/"
        names = self.table.column("path")
        moved = [p and os.path.normpath(p).removeprefix(prefix) for p in self._absolute().to_pylist()]
        kept = pc.invert(pc.starts_with(names, "/")) if folder == self.root else pa.scalar(False)
        paths = pc.if_else(kept, names, pa.array(moved, pa.string()))
        write_table(self.table.set_column(self.columns.index("path"), "path", paths), path)
        return path

    def __len__(self) -> int:
        return self.table.num_rows

    @property
    def columns(self) -> list[str]:
        """Column names, in file order."""
        return list(self.table.column_names)

    def column(self, name: str) -> list[Any]:
        """Values of a column as Python objects; None where empty."""
        return self._column(name).to_pylist()

    def strings(self, name: str) -> np.ndarray:
        """A column as an object array of strings, ``(rows,)``, as CSV has them; empty strings where empty."""
        return pc.fill_null(as_text(self._column(name)), "").to_numpy()

    def audio_paths(self) -> list[Path]:
        """Absolute path of every row's audio.

        Raises:
            ManifestError: rows without a path.
        """
        paths = self.column("path")
        empty = [f"row {row}: path is empty" for row, p in enumerate(paths, start=1) if p is None]
        if empty:
            raise ManifestError(self.source, empty)
        return [self.root / p for p in paths]

    def digest(self) -> str:
        """Hex digest of ids, paths and labels, in order."""
        digest = hashlib.sha256()
        for name in REQUIRED_COLUMNS:
            digest.update(json.dumps(self.column(name)).encode())
        return digest.hexdigest()

    def take(self, rows: Sequence[int] | np.ndarray) -> Manifest:
        """The given rows (from 0), in the given order.

        Raises:
            UsageError: rows that are not there, or that are no row numbers.
        """
        numbers = np.asarray(rows)
        if numbers.size and not np.issubdtype(numbers.dtype, np.integer):
            raise UsageError(f"rows of type {numbers.dtype} (expected row numbers)")
        if numbers.size and not 0 <= numbers.min() <= numbers.max() < len(self):
            raise UsageError(f"{self.source}: rows {numbers.min()} … {numbers.max()}, {len(self)} are there")
        return Manifest(self.table.take(pa.array(numbers, pa.int64())), self.root, self.source)

    def filter(self, **conditions: Any) -> Manifest:
        """Rows whose columns equal a value or one of several: ``filter(split="train", label=["spoof"])``.

        Values are compared as text, the way :meth:`strings` gives it; ``""`` is an empty cell.

        Raises:
            UsageError: no such column, or a value that no row has (with those there are).
        """
        mask = np.ones(len(self), dtype=bool)
        for name, wanted in conditions.items():
            column = pc.fill_null(as_text(self._column(name)), "")
            several = isinstance(wanted, Iterable) and not isinstance(wanted, str)
            values = pc.fill_null(as_text(as_column(name, wanted if several else [wanted], self.source)), "")
            present = set(pc.unique(column).to_pylist())
            for value in values.to_pylist():
                if value not in present:
                    shown = ", ".join(sorted(present)[:20]) or "none"
                    raise UsageError(f"{self.source}: no row has {name} = {value!r} (values: {shown})")
            mask &= pc.is_in(column, values).to_numpy()
        return Manifest(self.table.filter(pa.array(mask)), self.root, self.source)

    def split(self, name: str | None) -> Manifest:
        """Rows of one split; all rows where ``name`` is None."""
        return self if name is None else self.filter(split=name)

    def sample(self, n: int, by: Sequence[str] = ("label",), seed: int = 0) -> Manifest:
        """``n`` rows that keep the proportions of the strata given by the columns ``by``.

        Each stratum gets its share of ``n`` to within one row. Which rows are drawn depends
        on ``seed`` and their ids only, not on the row order, and a larger sample holds every
        smaller one of the same seed.

        Raises:
            UsageError: fewer than ``n`` rows.
        """
        if not 0 <= n <= len(self):
            raise UsageError(f"{self.source}: {n} rows asked for, {len(self)} are there")
        columns = [self.strings(c).tolist() for c in ([by] if isinstance(by, str) else by)]
        strata: dict[tuple[str, ...], list[int]] = {}
        for row in range(len(self)):
            strata.setdefault(tuple(c[row] for c in columns), []).append(row)
        ids = self.strings("utterance_id").tolist()
        drawn: list[int] = []
        for stratum, count in _shares({s: len(rows) for s, rows in strata.items()}, n).items():
            drawn += sorted(strata[stratum], key=lambda row: _lottery(seed, ids[row]))[:count]
        return self.take(sorted(drawn))

    def key(self, columns: Sequence[str] = ()) -> dict[str, np.ndarray]:
        """``utterance_id``, ``label`` and the asked-for columns as string arrays, for evaluation."""
        return {name: self.strings(name) for name in dict.fromkeys(["utterance_id", "label", *columns])}

    def counts(self) -> dict[str, int]:
        """Rows of each label."""
        labels = self.strings("label")
        return {label: int(np.sum(labels == label)) for label in LABELS}

    def validate(self, check_files: bool = False) -> list[str]:
        """Everything that is wrong, with row numbers; empty where all is well.

        Checks duplicated and unusable ids, unknown labels, one file with two labels, empty
        paths, paths that climb out of the manifest's folder, durations and segments;
        ``check_files`` also looks whether the audio files exist (one listing a folder;
        nothing is opened).
        """
        from voxfide.manifest_checks import find_problems

        return find_problems(self, check_files)

    def require_valid(self, check_files: bool = False) -> Manifest:
        """Itself, or a :class:`ManifestError` that lists every problem."""
        problems = self.validate(check_files)
        if problems:
            raise ManifestError(self.source, problems)
        return self

    def _absolute(self) -> pa.ChunkedArray:
        """Absolute paths as strings; null where empty."""
        names = self.table.column("path")
        below = pc.binary_join_element_wise(str(self.root).rstrip("/"), names, "/")
        return pc.if_else(pc.starts_with(names, "/"), names, below)

    def _column(self, name: str) -> pa.ChunkedArray:
        if name not in self.table.column_names:
            raise UsageError(f"{self.source}: no column {name!r} (columns: {', '.join(self.columns)})")
        return self.table.column(name)


def mix(parts: Mapping[str, Manifest], *, prefix_ids: bool = False) -> Manifest:
    """Joins manifests; a ``corpus`` column names the part each row came from.

    Paths become absolute. Columns that a part lacks are empty there; where the parts have a
    column in different types, it becomes text.

    Args:
        parts: name to manifest, already filtered and sampled as wished.
        prefix_ids: make ids ``NAME/id``; without it an id in two parts is an error.

    Raises:
        UsageError: nothing to mix.
        ManifestError: every problem of every part, or ids that occur in two.
    """
    if not parts:
        raise UsageError("nothing to mix: no manifests were given")
    source = " + ".join(parts)
    problems = [f"{name}: {problem}" for name, part in parts.items() for problem in part.validate()]
    if problems:
        raise ManifestError(source, problems)
    tables = []
    owner: dict[str, str] = {}
    for name, part in parts.items():
        ids = [f"{name}/{i}" if prefix_ids else i for i in part.column("utterance_id")]
        problems += [
            f"utterance_id {i!r} is in {owner[i]} and in {name} (prefixed ids would differ)"
            for i in ids
            if owner.setdefault(i, name) != name
        ]
        replaced = {
            "utterance_id": pa.array(ids, pa.string()),
            "path": part._absolute(),
            "corpus": pa.array([name] * len(part), pa.string()),
        }
        tables.append(pa.table({c: part.table.column(c) for c in part.columns} | replaced))
    if problems:
        raise ManifestError(source, problems)
    root = next(iter(parts.values())).root
    return Manifest(concatenate(tables), root, source).require_valid()


def _lottery(seed: int, utterance_id: str) -> bytes:
    return hashlib.blake2b(f"{seed}\0{utterance_id}".encode(), digest_size=16).digest()


Stratum = tuple[str, ...]


def _shares(sizes: Mapping[Stratum, int], n: int) -> dict[Stratum, int]:
    """Rows of each stratum among the first ``n`` draws, at every ``n`` within one of the exact share.

    Draw ``j`` of a stratum of ``size`` among ``total`` may happen at
    ``⌊j·total/size⌋ … ⌈(j+1)·total/size⌉ - 1``; taking the earliest deadline first keeps to
    all these windows (Tijdeman 1980, "The chairman assignment problem"; Steiner & Yeomans
    1993, "Level schedules for mixed-model, just-in-time processes"). Rounding each ``n`` by
    itself, as largest remainders do, would let a stratum lose rows as ``n`` grows.
    """
    strata = sorted(sizes)
    counts = [sizes[s] for s in strata]
    total = sum(counts)
    drawn = [0] * len(strata)
    opened = [0] * len(strata)
    waiting = [(0, s) for s in range(len(strata))]
    ready: list[tuple[int, int]] = []
    for draw in range(n):
        while waiting and waiting[0][0] <= draw:
            _, s = heapq.heappop(waiting)
            opened[s] += 1
            heapq.heappush(ready, (-(-opened[s] * total // counts[s]), s))
            if opened[s] < counts[s]:
                heapq.heappush(waiting, (opened[s] * total // counts[s], s))
        _, s = heapq.heappop(ready)
        drawn[s] += 1
    return dict(zip(strata, drawn, strict=True))
