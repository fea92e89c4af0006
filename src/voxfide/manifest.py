"""The manifest: one row an utterance, in CSV or Parquet.

Required columns: ``utterance_id`` (unique), ``path`` (relative to the manifest's
folder, or absolute) and ``label`` (bonafide | spoof | unknown). Well-known optional
ones are in :data:`OPTIONAL_COLUMNS`; any others are kept and can be broken down by.
An empty cell means "not known". Rows are counted from 1, the header not included.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from voxfide.errors import ManifestError, UsageError
from voxfide.manifest_io import read_table, write_table
from voxfide.types import LABELS, PathLike

REQUIRED_COLUMNS: Final = ("utterance_id", "path", "label")
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
        """Reads ``.csv`` (or ``.tsv``) or ``.parquet`` and checks that it is usable as a table.

        Raises:
            ManifestError: no such file, malformed rows, or missing required columns.
        """
        path = Path(path)
        table = read_table(path)
        missing = [c for c in REQUIRED_COLUMNS if c not in table.column_names]
        if missing:
            found = ", ".join(table.column_names) or "none"
            raise ManifestError(
                str(path),
                [f"column {c!r} is missing (required: {', '.join(REQUIRED_COLUMNS)}; found: {found})" for c in missing],
            )  # fmt: skip
        return cls(table, path.resolve().parent, str(path))

    @classmethod
    def from_columns(
        cls, columns: Mapping[str, Sequence[Any]], root: PathLike, source: str = "<manifest>"
    ) -> Manifest:
        """From equally long columns; ``root`` is the folder of relative paths."""
        missing = [c for c in REQUIRED_COLUMNS if c not in columns]
        if missing:
            raise ManifestError(source, [f"column {c!r} is missing" for c in missing])
        table = pa.table({
            name: pa.array([str(v) for v in values] if name in REQUIRED_COLUMNS else list(values))
            for name, values in columns.items()
        })  # fmt: skip
        for name in REQUIRED_COLUMNS:
            position = table.column_names.index(name)
            table = table.set_column(position, name, table.column(name).cast(pa.string()))
        return cls(table, Path(root).resolve(), source)

    def write(self, path: PathLike) -> Path:
        """Writes CSV or Parquet, by suffix, atomically; paths are made to fit the new place.

        Audio below the new manifest's folder is named relative to it, other audio absolutely.
        """
        path = Path(path)
        folder = path.resolve().parent
        table = self.table
        if folder != self.root:
            moved = pa.array([_relocate(p, self.root, folder) for p in self.column("path")], pa.string())
            table = table.set_column(table.column_names.index("path"), "path", moved)
        write_table(table, path)
        return path

    def __len__(self) -> int:
        return self.table.num_rows

    @property
    def columns(self) -> list[str]:
        """Column names, in file order."""
        return list(self.table.column_names)

    def column(self, name: str) -> list[Any]:
        """Values of a column as Python objects; None where empty."""
        if name not in self.table.column_names:
            raise UsageError(f"{self.source}: no column {name!r} (columns: {', '.join(self.columns)})")
        return self.table.column(name).to_pylist()

    def strings(self, name: str) -> np.ndarray:
        """A column as an object array of strings, ``(rows,)``; empty strings where empty."""
        values = self.column(name)
        return np.array(["" if v is None else str(v) for v in values], dtype=object)

    def audio_paths(self) -> list[Path]:
        """Absolute path of every row's audio."""
        return [self.root / p for p in self.column("path")]

    def digest(self) -> str:
        """Hex digest of ids, paths and labels, in order."""
        digest = hashlib.sha256()
        for name in REQUIRED_COLUMNS:
            for value in self.column(name):
                digest.update(str(value).encode() + b"\0")
        return digest.hexdigest()

    def take(self, rows: Sequence[int] | np.ndarray) -> Manifest:
        """The given rows (from 0), in the given order."""
        return Manifest(self.table.take(pa.array(rows, pa.int64())), self.root, self.source)

    def filter(self, **conditions: str | Iterable[str]) -> Manifest:
        """Rows whose columns equal a value or one of several: ``filter(split="train", label=["spoof"])``.

        Raises:
            UsageError: no such column, or a value that no row has (with those there are).
        """
        mask: Any = pa.array(np.ones(len(self), dtype=bool))
        for name, wanted in conditions.items():
            values = [wanted] if isinstance(wanted, str) else list(wanted)
            column = pc.cast(self.table.column(self._known(name)), pa.string())
            present = set(pc.unique(column).to_pylist())
            for value in values:
                if value not in present:
                    shown = ", ".join(sorted(str(p) for p in present if p is not None)[:20])
                    raise UsageError(f"{self.source}: no row has {name} = {value!r} (values: {shown})")
            mask = pc.and_(mask, pc.fill_null(pc.is_in(column, pa.array(values)), False))
        return Manifest(self.table.filter(mask), self.root, self.source)

    def split(self, name: str | None) -> Manifest:
        """Rows of one split; all rows where ``name`` is None."""
        return self if name is None else self.filter(split=name)

    def sample(self, n: int, by: Sequence[str] = ("label",), seed: int = 0) -> Manifest:
        """``n`` rows that keep the proportions of the strata given by the columns ``by``.

        Each stratum gets its share of ``n``, rounded by largest remainder. Which rows
        are drawn depends on ``seed`` and their ids only, not on the row order.

        Raises:
            UsageError: fewer than ``n`` rows.
        """
        if not 0 <= n <= len(self):
            raise UsageError(f"{self.source}: {n} rows asked for, {len(self)} are there")
        keys = list(zip(*(self.strings(self._known(c)) for c in by), strict=True)) or [()] * len(self)
        strata: dict[tuple[str, ...], list[int]] = {}
        for row, key in enumerate(keys):
            strata.setdefault(key, []).append(row)
        ids = self.strings("utterance_id")
        drawn: list[int] = []
        for key, count in _shares({k: len(rows) for k, rows in strata.items()}, n).items():
            rows = strata[key]
            drawn += sorted(rows, key=lambda row: _lottery(seed, ids[row]))[:count]
        return self.take(sorted(drawn))

    def key(self, columns: Sequence[str] = ()) -> dict[str, np.ndarray]:
        """``utterance_id``, ``label`` and the asked-for columns as string arrays, for evaluation."""
        wanted = ["utterance_id", "label", *columns]
        return {name: self.strings(self._known(name)) for name in dict.fromkeys(wanted)}

    def counts(self) -> dict[str, int]:
        """Rows of each label."""
        labels = self.strings("label")
        return {label: int(np.sum(labels == label)) for label in LABELS}

    def validate(self, check_files: bool = False) -> list[str]:
        """Everything that is wrong, with row numbers; empty where all is well.

        Checks duplicated and unusable ids, unknown labels, empty paths, paths that climb
        out of the manifest's folder, durations and segments; ``check_files`` also looks
        whether the audio files exist (one listing a folder; nothing is opened).
        """
        from voxfide.manifest_checks import find_problems

        return find_problems(self, check_files)

    def require_valid(self, check_files: bool = False) -> Manifest:
        """Itself, or a :class:`ManifestError` that lists every problem."""
        problems = self.validate(check_files)
        if problems:
            raise ManifestError(self.source, problems)
        return self

    def _known(self, name: str) -> str:
        if name not in self.table.column_names:
            raise UsageError(f"{self.source}: no column {name!r} (columns: {', '.join(self.columns)})")
        return name


def mix(parts: Mapping[str, Manifest], *, prefix_ids: bool = False) -> Manifest:
    """Joins manifests; a ``corpus`` column names the part each row came from.

    Args:
        parts: name to manifest, already filtered and sampled as wished.
        prefix_ids: make ids ``NAME/id``; without it an id in two parts is an error.
    """
    if not parts:
        raise UsageError("nothing to mix: no manifests were given")
    tables = []
    for name, part in parts.items():
        absolute = pa.array([str(p) for p in part.audio_paths()], pa.string())
        table = part.table.set_column(part.columns.index("path"), "path", absolute)
        if prefix_ids:
            ids = pa.array([f"{name}/{i}" for i in part.column("utterance_id")], pa.string())
            table = table.set_column(part.columns.index("utterance_id"), "utterance_id", ids)
        if "corpus" in table.column_names:
            table = table.drop_columns(["corpus"])
        tables.append(table.append_column("corpus", pa.array([name] * len(part), pa.string())))
    joined = pa.concat_tables(tables, promote_options="permissive")
    first = next(iter(parts.values()))
    mixed = Manifest(joined, first.root, " + ".join(parts))
    return mixed.require_valid()


def _relocate(path: str, old_root: Path, new_root: Path) -> str:
    absolute = Path(os.path.normpath(old_root / path))
    if absolute.is_relative_to(new_root):
        return absolute.relative_to(new_root).as_posix()
    return absolute.as_posix()


def _lottery(seed: int, utterance_id: str) -> bytes:
    return hashlib.blake2b(f"{seed}\0{utterance_id}".encode(), digest_size=16).digest()


def _shares(sizes: Mapping[tuple[str, ...], int], n: int) -> dict[tuple[str, ...], int]:
    """Largest-remainder shares of ``n`` in proportion to ``sizes``, none above its size."""
    total = sum(sizes.values())
    if not total:
        return {}
    exact = {k: n * size / total for k, size in sizes.items()}
    shares = {k: int(v) for k, v in exact.items()}
    by_remainder = sorted(exact, key=lambda k: (shares[k] - exact[k], k))
    for k in by_remainder[: n - sum(shares.values())]:
        shares[k] += 1
    return shares
