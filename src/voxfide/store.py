"""Embedding stores on disk: the format, reading, and writing of single parts.

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
    all. Where an utterance is in several parts (its file had changed), the one with the
    highest number counts.
``failures.csv``
    utterances that could not be read, and why. They are tried again on the next run;
    what a part may still hold of them is of a file that has changed, and is not used.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.feather as feather

from voxfide import __version__
from voxfide.crops import WHOLE, Crop
from voxfide.errors import StoreError
from voxfide.extraction import Extracted
from voxfide.files import replacing
from voxfide.frontends.base import Frontend
from voxfide.jobs import Failure, FileState, read_failures
from voxfide.types import PathLike, Seconds

FORMAT = 1

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
    crop: dict[str, Any] | None = None
    format: int = FORMAT
    voxfide_version: str = __version__

    @classmethod
    def of(cls, frontend: Frontend, pool: str, crop: Crop = WHOLE) -> StoreInfo:
        """What a store of ``frontend``'s features would say."""
        fingerprint = frontend.fingerprint()
        if crop != WHOLE:
            fingerprint = hashlib.sha256(f"{fingerprint} {json.dumps(crop.to_json())}".encode()).hexdigest()
        return cls(
            fingerprint=fingerprint,
            frontend=frontend.name,
            kind=frontend.kind,
            settings=frontend.settings(),
            pool=pool,
            n_layers=frontend.n_layers,
            dim=frontend.pooled_dim(pool),
            frame_shift=frontend.frame_shift,
            dtype="float16" if pool == "none" else "float32",
            crop=None if crop == WHOLE else crop.to_json(),
        )

    @property
    def feature_type(self) -> pa.DataType:
        """Arrow type of the ``features`` column."""
        if self.pool == "none":
            return pa.large_list(pa.float16())
        return pa.list_(pa.float32(), self.n_layers * self.dim)


class EmbeddingStore:
    """A store opened for reading; features are memory-mapped.

    Args:
        folder: of the store.

    Raises:
        StoreError: no store, another format, or a damaged part.
    """

    def __init__(self, folder: PathLike) -> None:
        self.folder = Path(folder)
        self.info = read_info(self.folder)
        self._parts = [read_part(path, self.info) for path in part_files(self.folder)]
        places: dict[str, tuple[int, int]] = {}
        for number, part in enumerate(self._parts):
            for row, name in enumerate(part.column("utterance_id").to_pylist()):
                places.pop(name, None)
                places[name] = (number, row)
        for failure in self.failures():
            places.pop(failure.utterance_id, None)
        self._places = places

    @property
    def ids(self) -> list[str]:
        """Utterance ids in the order of the parts, each once."""
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
        """Time averages of many utterances, ``(utterances, layers, dim)`` float32.

        Raises:
            StoreError: full frames are held, or not all of these utterances.
        """
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
        return read_failures(self.folder / "failures.csv")

    def file_states(self) -> dict[str, FileState]:
        """The audio file that each utterance's features were computed from, as it was then."""
        states: dict[str, FileState] = {}
        for part in self._parts:
            columns = (part.column(c).to_pylist() for c in ("utterance_id", "path", "file_size", "mtime_ns"))
            states.update((name, FileState(*facts)) for name, *facts in zip(*columns, strict=True))
        return {name: states[name] for name in self._places}

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
                views.append(_Ragged(flat, column.offsets.to_numpy()))
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
    except (FileNotFoundError, NotADirectoryError):
        raise StoreError(f"{folder}: no embedding store (expected a folder with store.json)") from None
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise StoreError(f"{path}: damaged ({error})") from error


def part_files(folder: Path) -> list[Path]:
    """The parts of a store by their number."""
    numbers = ((part_number(path), path) for path in (folder / "parts").glob("part-*.arrow"))
    return [path for number, path in sorted(numbers) if number >= 0]


def part_number(path: Path) -> int:
    """The number in the name of a part, -1 where it has none."""
    found = re.fullmatch(r"part-(\d+)\.arrow", path.name)
    return int(found[1]) if found else -1


def read_part(path: Path, info: StoreInfo) -> pa.Table:
    """Maps a part into memory.

    Raises:
        StoreError: it cannot be read, or is not as ``info`` promises.
    """
    try:
        part = feather.read_table(path, memory_map=True)
    except pa.ArrowException as error:
        raise StoreError(f"{path}: damaged part ({error}): delete it and run again") from error
    except OSError as error:
        raise StoreError(f"{path}: cannot be read ({error})") from error
    schema = pa.schema([*PART_COLUMNS.items(), ("features", info.feature_type)])
    if part.schema != schema or part.column("features").num_chunks != 1:
        raise StoreError(
            f"{path}: is not a part of this store (expected columns {', '.join(schema.names)} with features "
            f"of {info.n_layers} layers of {info.dim}): delete it and run again"
        )
    return part


def write_part(path: Path, extracted: Sequence[Extracted], info: StoreInfo) -> None:
    """Writes some utterances, at least one, as a part that appears whole or not at all."""
    columns: dict[str, list[Any]] = {
        "utterance_id": [e.row.utterance_id for e in extracted],
        "path": [e.state.path for e in extracted],
        "file_size": [e.state.size for e in extracted],
        "mtime_ns": [e.state.mtime_ns for e in extracted],
        "duration": [e.info.duration for e in extracted],
        "sample_rate": [e.info.sample_rate for e in extracted],
        "codec": [e.info.codec for e in extracted],
        "n_frames": [e.n_frames for e in extracted],
    }
    arrays = [pa.array(columns[name], kind) for name, kind in PART_COLUMNS.items()]
    table = pa.table([*arrays, _feature_column(extracted, info)], names=[*PART_COLUMNS, "features"])
    with replacing(path) as temporary:
        # One chunk, so that a row's features can be found by its number.
        feather.write_feather(table, str(temporary), compression="uncompressed", chunksize=len(extracted))


def _feature_column(extracted: Sequence[Extracted], info: StoreInfo) -> pa.Array:
    flat = np.concatenate([e.features.ravel() for e in extracted]).astype(info.dtype, copy=False)
    if info.pool != "none":
        return pa.FixedSizeListArray.from_arrays(pa.array(flat), info.n_layers * info.dim)
    offsets = np.cumsum([0, *(e.features.size for e in extracted)])
    return pa.LargeListArray.from_arrays(pa.array(offsets, pa.int64()), pa.array(flat))
