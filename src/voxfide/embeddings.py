"""Embedding: manifest x front-end to a store on disk, resumable and never stale.

See :mod:`voxfide.store` for what a store is and how it is read.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from voxfide.crops import WHOLE, Crop
from voxfide.engine import Engine, LocalEngine
from voxfide.errors import StoreError
from voxfide.extraction import Extracted, Extractor, Progress, run_shards
from voxfide.files import exclusive, remove_temporaries, write_atomic
from voxfide.frontends.base import Frontend
from voxfide.jobs import (
    SHARD_ROWS,
    Failure,
    Row,
    failures_csv,
    in_order_of,
    missing_rows,
    read_failures,
    rows_of,
    shards_of,
)
from voxfide.manifest import Manifest
from voxfide.store import (
    EmbeddingStore,
    StoreInfo,
    part_files,
    part_number,
    read_info,
    write_part,
)
from voxfide.types import PathLike

__all__ = ["EmbedResult", "EmbeddingStore", "StoreInfo", "embed"]

PART_BYTES = 1 << 27
"""A part is written earlier where its features take this much memory, as full frames do."""


@dataclass(frozen=True)
class EmbedResult:
    """What a run of :func:`embed` did."""

    store: EmbeddingStore
    n_new: int
    n_kept: int
    failures: list[Failure]


def embed(
    manifest: Manifest,
    frontend: Frontend,
    out: PathLike,
    *,
    pool: str = "mean",
    engine: Engine | None = None,
    make_extractor: Callable[[], Extractor] | None = None,
    shard_rows: int = SHARD_ROWS,
    on_start: Callable[[int, int], None] | None = None,
    crop: Crop = WHOLE,
    progress: Progress | None = None,
) -> EmbedResult:
    """Adds to the store ``out`` whatever features of ``manifest`` it does not hold yet.

    Ctrl-C keeps all that was finished, a crash all but the last ``shard_rows`` utterances
    or so; the next run goes on with the missing ones and computes what an uninterrupted
    run would have. An utterance whose audio file has changed in place, size or time is
    computed again; features of audio that has been deleted since are kept.

    Args:
        manifest: ids name the utterances.
        frontend: the loaded model.
        out: folder; made if it does not exist.
        pool: ``mean``, ``mean_std`` or ``none`` (full frames in float16).
        engine: maps over shards; in this process where left out.
        make_extractor: how a worker makes its extractor; default settings where left out.
        shard_rows: utterances a shard, and a part unless their features are large.
        on_start: told how many utterances are missing and how many are there.
        crop: the part of every utterance that is analysed; an extractor that ``make_extractor``
            makes has the same.
        progress: told of features as they come back, where ``engine`` works elsewhere; see
            :func:`~voxfide.extraction.run_shards`.

    Raises:
        ManifestError: ids that are not unique, or other faults.
        StoreError: ``out`` holds other features, or another process is writing to it.
    """
    folder = Path(out)
    rows = rows_of(manifest.require_valid())
    info = StoreInfo.of(frontend, pool, crop)
    if folder.exists() and not folder.is_dir():
        raise StoreError(f"{folder}: is a file (expected a folder, or a name for a new one)")
    with exclusive(folder / ".lock", f"{folder}: another process is writing to this store"):
        _claim(folder, info)
        missing = missing_rows(rows, EmbeddingStore(folder).file_states())
        if on_start:
            on_start(sum(missing), len(rows) - sum(missing))
        writer = _Writer(folder, info, shard_rows, rows)
        factory = make_extractor or (lambda: Extractor(frontend, pool, crop=crop))
        try:
            for extracted, failed in run_shards(
                engine or LocalEngine(), factory, shards_of(rows, missing, shard_rows), progress
            ):
                writer.add(extracted, failed)
        finally:
            writer.flush()
    return EmbedResult(EmbeddingStore(folder), writer.n_new, len(rows) - sum(missing), writer.failures)


class _Writer:
    """Gathers outcomes into parts and the failures table."""

    def __init__(self, folder: Path, info: StoreInfo, part_rows: int, rows: Sequence[Row]) -> None:
        self.failures: list[Failure] = []
        self.n_new = 0
        self._folder = folder
        self._info = info
        self._part_rows = part_rows
        self._number = max((part_number(path) for path in part_files(folder)), default=-1) + 1
        self._pending: list[Extracted] = []
        self._rows = rows
        ids = {row.utterance_id for row in rows}
        table = folder / "failures.csv"
        self._failures_elsewhere = [f for f in read_failures(table) if f.utterance_id not in ids]
        self._n_listed = -1

    def add(self, extracted: Sequence[Extracted], failed: Sequence[Failure]) -> None:
        """Takes an outcome; writes where enough has come together."""
        self._pending += extracted
        self.failures += failed
        held = sum(e.features.nbytes for e in self._pending)
        if len(self._pending) >= self._part_rows or held >= PART_BYTES:
            self._write_part()
        # Each writing lists all of them: at every tenth more, the total stays linear.
        if len(self.failures) > 1.1 * self._n_listed:
            self._write_failures()

    def flush(self) -> None:
        """Writes what is left."""
        if self._pending:
            self._write_part()
        self._write_failures()

    def _write_part(self) -> None:
        path = self._folder / "parts" / f"part-{self._number:05d}.arrow"
        write_part(path, self._pending, self._info)
        # In this order: interrupted in between, flush() overwrites the part with itself and doubles nothing.
        self.n_new += len(self._pending)
        self._pending = []
        self._number += 1

    def _write_failures(self) -> None:
        if self._n_listed != len(self.failures):
            self.failures = in_order_of(self._rows, self.failures)
            table = [*self._failures_elsewhere, *self.failures]
            write_atomic(self._folder / "failures.csv", failures_csv(table))
            self._n_listed = len(self.failures)


def _claim(folder: Path, info: StoreInfo) -> None:
    """Makes ``store.json``, or checks that the one there promises the same features."""
    (folder / "parts").mkdir(parents=True, exist_ok=True)
    remove_temporaries(folder)
    remove_temporaries(folder / "parts")
    if not (folder / "store.json").exists():
        if part_files(folder):
            raise StoreError(f"{folder}: has parts but no store.json: not a store that can be extended")
        write_atomic(folder / "store.json", json.dumps(asdict(info), indent=2, ensure_ascii=False) + "\n")
        return
    held = read_info(folder)
    if (held.fingerprint, held.pool) != (info.fingerprint, info.pool):
        raise StoreError(
            f"{folder}: holds other features (front-end {held.frontend}, {held.n_layers} layers, pool "
            f"{held.pool}, fingerprint {held.fingerprint[:12]}; asked for {info.frontend}, {info.n_layers} "
            f"layers, pool {info.pool}, fingerprint {info.fingerprint[:12]}): the front-end, its weights, "
            "the settings or the code differ. Choose another folder, or delete this one"
        )
