"""Embedding stores: manifest x front-end to features on disk, resumable and never stale.

A store is a folder:

``store.json``
    what the features are: front-end, layers, pooling, dimensions, and the fingerprint
    of everything that determines them. A store is only ever extended with features of
    the same fingerprint.
``parts/part-00000.arrow`` ...
    Arrow IPC files (Feather 2; ``pandas.read_feather`` reads them), uncompressed so
    that they can be memory-mapped: one row an utterance with :data:`PART_COLUMNS`.
    ``features`` is flat in C order: ``(layers, dim)`` float32 for time averages,
    ``(layers, frames, dim)`` float16 for full frames. A part appears whole or not at
    all. Where an utterance is in several parts (its file had changed), the last counts.
``failures.csv``
    utterances that could not be read, and why. They are tried again on the next run.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.feather as feather

from voxfide import __version__
from voxfide.engine import Engine, LocalEngine
from voxfide.errors import StoreError
from voxfide.extraction import Extracted, Extractor, Failure, Row, failures_csv, rows_of
from voxfide.files import exclusive, write_atomic
from voxfide.frontends.base import Frontend
from voxfide.manifest import Manifest
from voxfide.types import PathLike, Seconds

FORMAT = 1
SHARD_ROWS = {"mean": 256, "mean_std": 256, "none": 32}
"""Utterances a part: what a crash can cost, and for full frames what memory must hold."""

PART_COLUMNS = {
    "utterance_id": pa.string(),
    "path": pa.string(),
    "file_size": pa.int64(),
    "mtime_ns": pa.int64(),
    "duration": pa.float64(),
    "sample_rate": pa.int64(),
    "codec": pa.string(),
    "n_frames": pa.int64(),
}


@dataclass(frozen=True)
class StoreInfo:
    """``store.json``: what a store holds."""

    fingerprint: str
    frontend: str
    kind: str
    settings: dict[str, Any]
    pool: str
    n_layers: int
    dim: int
    frame_shift: Seconds
    dtype: str
    format: int = FORMAT
    voxfide_version: str = __version__

    @classmethod
    def of(cls, frontend: Frontend, pool: str) -> StoreInfo:
        """What a store of ``frontend``'s features would say."""
        return cls(
            fingerprint=frontend.fingerprint(),
            frontend=frontend.name,
            kind=frontend.kind,
            settings=frontend.settings(),
            pool=pool,
            n_layers=frontend.n_layers,
            dim=frontend.pooled_dim(pool),
            frame_shift=frontend.frame_shift,
            dtype="float16" if pool == "none" else "float32",
        )


@dataclass(frozen=True)
class EmbedResult:
    """What a run of :func:`embed` did."""

    store: EmbeddingStore
    n_new: int
    n_kept: int
    failures: list[Failure]


class EmbeddingStore:
    """A store opened for reading; features are memory-mapped.

    Attributes:
        ids: utterance ids in the order of the parts, each once.
    """

    def __init__(self, folder: PathLike) -> None:
        self.folder = Path(folder)
        self.info = read_info(self.folder)
        self._parts = [_open_part(p) for p in sorted((self.folder / "parts").glob("part-*.arrow"))]
        places: dict[str, tuple[int, int]] = {}
        for number, part in enumerate(self._parts):
            for row, name in enumerate(part.column("utterance_id").to_pylist()):
                places.pop(name, None)
                places[name] = (number, row)
        self._places = places

    @property
    def ids(self) -> list[str]:
        return list(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, utterance_id: object) -> bool:
        return utterance_id in self._places

    def features(self, utterance_id: str) -> np.ndarray:
        """``(layers, dim)`` float32, or ``(layers, frames, dim)`` float16; a view of the mapped file.

        Raises:
            StoreError: the store has no such utterance.
        """
        number, row = self._place(utterance_id)
        values = self._values[number][row]
        shape = (self.info.n_layers, -1, self.info.dim) if self.info.pool == "none" else (-1, self.info.dim)
        return values.reshape(shape)

    def matrix(self, ids: Sequence[str]) -> np.ndarray:
        """Time averages of many utterances, ``(utterances, layers, dim)`` float32."""
        if self.info.pool == "none":
            raise StoreError(f"{self.folder}: holds full frames (expected a store made with --pool mean)")
        out = np.empty((len(ids), self.info.n_layers, self.info.dim), dtype=np.float32)
        for i, utterance_id in enumerate(ids):
            out[i] = self.features(utterance_id)
        return out

    def metadata(self, utterance_id: str) -> dict[str, Any]:
        """The columns of :data:`PART_COLUMNS` for one utterance."""
        number, row = self._place(utterance_id)
        part = self._parts[number]
        return {name: part.column(name)[row].as_py() for name in PART_COLUMNS}

    def failures(self) -> list[Failure]:
        """Utterances that could not be read when the store was last extended."""
        path = self.folder / "failures.csv"
        if not path.exists():
            return []
        with path.open(encoding="utf-8", newline="") as file:
            return [Failure(**row) for row in csv.DictReader(file)]

    def _place(self, utterance_id: str) -> tuple[int, int]:
        try:
            return self._places[utterance_id]
        except KeyError:
            raise StoreError(f"{self.folder}: no features of utterance {utterance_id!r}") from None

    @cached_property
    def _values(self) -> list[Any]:
        """Per part something that maps a row to its flat feature vector, without copying."""
        views: list[Any] = []
        for part in self._parts:
            column = part.column("features").chunk(0)
            flat = column.values.to_numpy(zero_copy_only=True)
            if self.info.pool == "none":
                offsets = column.offsets.to_numpy()
                views.append(_Ragged(flat, offsets))
            else:
                views.append(flat.reshape(len(column), -1))
        return views


@dataclass(frozen=True)
class _Ragged:
    flat: np.ndarray
    offsets: np.ndarray

    def __getitem__(self, row: int) -> np.ndarray:
        return self.flat[self.offsets[row] : self.offsets[row + 1]]


def read_info(folder: Path) -> StoreInfo:
    """Parses ``store.json``.

    Raises:
        StoreError: no store, or one of another format.
    """
    path = folder / "store.json"
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if values["format"] != FORMAT:
            raise StoreError(f"{path}: format {values['format']} (this version reads format {FORMAT})")
        return StoreInfo(**values)
    except FileNotFoundError:
        raise StoreError(f"{folder}: no embedding store (expected a folder with store.json)") from None
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise StoreError(f"{path}: damaged ({error})") from error


def embed(
    manifest: Manifest,
    frontend: Frontend,
    out: PathLike,
    *,
    pool: str = "mean",
    engine: Engine | None = None,
    make_extractor: Callable[[], Extractor] | None = None,
    shard_rows: int | None = None,
    on_start: Callable[[int, int], None] | None = None,
) -> EmbedResult:
    """Adds to the store ``out`` whatever features of ``manifest`` it does not hold yet.

    Interrupted at any point, the next run goes on with the missing utterances. An
    utterance whose audio file has changed in size or time is computed again.

    Args:
        manifest: valid; ids name the utterances.
        frontend: the loaded model.
        out: folder; made if it does not exist.
        pool: ``mean``, ``mean_std`` or ``none`` (full frames in float16).
        engine: maps over shards; in this process where left out.
        make_extractor: how a worker makes its extractor; default settings where left out.
        shard_rows: utterances a part.
        on_start: told how many utterances are missing and how many are there.

    Raises:
        StoreError: ``out`` holds other features, or another process is writing to it.
    """
    folder = Path(out)
    rows = rows_of(manifest)
    (folder / "parts").mkdir(parents=True, exist_ok=True)
    with exclusive(folder / ".lock", f"{folder}: another process is writing to this store"):
        _claim(folder, StoreInfo.of(frontend, pool))
        missing = _missing(folder, rows)
        if on_start:
            on_start(len(missing), len(rows) - len(missing))
        size = shard_rows or SHARD_ROWS[pool]
        shards = (missing[i : i + size] for i in range(0, len(missing), size))
        factory = make_extractor or (lambda: Extractor(frontend, pool))
        number = _next_number(folder)
        failures: list[Failure] = []
        n_new = 0
        for extracted, failed in _run(engine or LocalEngine(), factory, shards):
            failures += failed
            write_atomic(folder / "failures.csv", failures_csv(failures))
            if extracted:
                _write_part(folder, number, extracted, pool)
                number += 1
                n_new += len(extracted)
        write_atomic(folder / "failures.csv", failures_csv(failures))
    return EmbedResult(EmbeddingStore(folder), n_new, len(rows) - len(missing), failures)


def _run(
    engine: Engine, factory: Callable[[], Extractor], shards: Iterator[list[Row]]
) -> Iterator[tuple[list[Extracted], list[Failure]]]:
    made: list[Extractor] = []

    def make() -> Extractor:
        made.append(factory())
        return made[-1]

    try:
        yield from engine.map(make, shards)
    finally:
        for extractor in made:
            extractor.close()


def _claim(folder: Path, info: StoreInfo) -> None:
    """Makes ``store.json``, or checks that the one there promises the same features."""
    if not (folder / "store.json").exists():
        if any((folder / "parts").glob("part-*.arrow")):
            raise StoreError(f"{folder}: has parts but no store.json: not a store that can be extended")
        write_atomic(folder / "store.json", json.dumps(asdict(info), indent=2, ensure_ascii=False) + "\n")
        return
    held = read_info(folder)
    if (held.fingerprint, held.pool) != (info.fingerprint, info.pool):
        raise StoreError(
            f"{folder}: holds other features (front-end {held.frontend}, {held.n_layers} layers, pool "
            f"{held.pool}, fingerprint {held.fingerprint[:12]}; asked for {info.frontend}, {info.n_layers} "
            f"layers, pool {info.pool}, fingerprint {info.fingerprint[:12]}): the front-end, its weights, the "
            "settings or the code differ. Choose another folder, or delete this one"
        )


def _missing(folder: Path, rows: Sequence[Row]) -> list[Row]:
    """Rows whose features the store lacks or whose audio has changed since."""
    held: dict[str, tuple[str, int, int]] = {}
    names = ["utterance_id", "path", "file_size", "mtime_ns"]
    for path in sorted((folder / "parts").glob("part-*.arrow")):
        columns = _open_part(path).select(names).to_pydict()
        for name, *facts in zip(*(columns[c] for c in names), strict=True):
            held[name] = (facts[0], facts[1], facts[2])
    return [row for row in rows if row.utterance_id not in held or held[row.utterance_id] != _state(row)]


def _state(row: Row) -> tuple[str, int, int]:
    """What tells whether a file is still the one that was analysed."""
    try:
        stat = row.path.stat()
    except OSError:
        return str(row.path), -1, -1
    return str(row.path), stat.st_size, stat.st_mtime_ns


def _next_number(folder: Path) -> int:
    numbers = [int(p.stem.removeprefix("part-")) for p in (folder / "parts").glob("part-*.arrow")]
    return max(numbers, default=-1) + 1


def _write_part(folder: Path, number: int, extracted: Sequence[Extracted], pool: str) -> None:
    states = [_state(e.row) for e in extracted]
    columns = {
        "utterance_id": [e.row.utterance_id for e in extracted],
        "path": [s[0] for s in states],
        "file_size": [s[1] for s in states],
        "mtime_ns": [s[2] for s in states],
        "duration": [e.info.duration for e in extracted],
        "sample_rate": [e.info.sample_rate for e in extracted],
        "codec": [e.info.codec for e in extracted],
        "n_frames": [e.n_frames for e in extracted],
    }
    arrays = [pa.array(columns[name], kind) for name, kind in PART_COLUMNS.items()]
    table = pa.table([*arrays, _feature_column(extracted, pool)], names=[*PART_COLUMNS, "features"])
    buffer = pa.BufferOutputStream()
    feather.write_feather(table, buffer, compression="uncompressed", chunksize=len(extracted))
    write_atomic(folder / "parts" / f"part-{number:05d}.arrow", buffer.getvalue())


def _feature_column(extracted: Sequence[Extracted], pool: str) -> pa.Array:
    if pool == "none":
        limit = np.finfo(np.float16).max
        flat = [np.clip(e.features, -limit, limit).astype(np.float16).ravel() for e in extracted]
        offsets = np.cumsum([0, *(len(f) for f in flat)])
        return pa.LargeListArray.from_arrays(pa.array(offsets, pa.int64()), pa.array(np.concatenate(flat)))
    stacked = np.stack([e.features for e in extracted]).astype(np.float32)
    return pa.FixedSizeListArray.from_arrays(pa.array(stacked.ravel()), stacked[0].size)


def _open_part(path: Path) -> pa.Table:
    try:
        return feather.read_table(path, memory_map=True)
    except (pa.ArrowInvalid, OSError) as error:
        raise StoreError(f"{path}: damaged part ({error}): delete it and run again") from error
