"""Detector x manifest to a score file, resumable; or many heads of one front-end to a file each."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from voxfide.engine import Engine, LocalEngine
from voxfide.errors import UsageError
from voxfide.extraction import Extracted, Extractor, Progress, run_shards
from voxfide.files import exclusive, remove_temporaries, write_atomic
from voxfide.jobs import (
    SHARD_ROWS,
    Failure,
    FileState,
    in_order_of,
    missing_rows,
    rows_of,
    shards_of,
    write_failures,
)
from voxfide.manifest import Manifest
from voxfide.scores import write_scores
from voxfide.types import Float64Array, PathLike


class Scorer(Protocol):
    """What scores utterances: a :class:`~voxfide.detector.Detector`, an ensemble, many heads at once."""

    def fingerprint(self) -> str:
        """Hex digest of everything that determines its scores."""

    def extractor(self, **options: Any) -> Extractor:
        """What turns rows of a manifest into what :meth:`score_extracted` takes."""

    def score_extracted(self, extracted: Sequence[np.ndarray]) -> Float64Array:
        """Scores ``(utterances,)``, or ``(utterances, heads)``."""


@dataclass(frozen=True)
class ScoreResult:
    """What :func:`score_manifest` wrote: how many scores, and what could not be read."""

    path: Path
    n_scored: int
    failures: list[Failure]


def score_manifest(
    detector: Scorer,
    manifest: Manifest,
    out: PathLike,
    *,
    engine: Engine | None = None,
    make_extractor: Callable[[], Extractor] | None = None,
    shard_rows: int = SHARD_ROWS,
    on_start: Callable[[int, int], None] | None = None,
    progress: Progress | None = None,
) -> ScoreResult:
    """Writes ``out`` as the ASVspoof 5 package reads it, in the order of the manifest.

    While it runs, finished scores lie in ``OUT.parts``; a run that was interrupted goes
    on there, if detector and manifest are the same, with what is missing or whose audio
    file has changed. Utterances that cannot be read are listed in ``OUT.failures.csv``.

    Args:
        detector: trained; anything that scores like one.
        manifest: ids name the trials.
        out: score file; replaced if it exists.
        engine: maps over shards; in this process where left out.
        make_extractor: how a worker makes its extractor; default settings where left out.
        shard_rows: utterances a shard: what a crash can cost.
        on_start: told how many utterances are missing and how many are there.
        progress: told of scores as they come back, where ``engine`` works elsewhere; see
            :func:`~voxfide.extraction.run_shards`.

    Raises:
        ManifestError: ids that are not unique, or other faults.
        StoreError: another process is writing ``out``.
        UsageError: ``out`` is a folder.
    """
    return score_many(
        detector,
        manifest,
        [Path(out)],
        engine=engine,
        make_extractor=make_extractor,
        shard_rows=shard_rows,
        on_start=on_start,
        progress=progress,
    )


def score_many(
    scorer: Scorer,
    manifest: Manifest,
    outs: Sequence[Path],
    *,
    engine: Engine | None = None,
    make_extractor: Callable[[], Extractor] | None = None,
    shard_rows: int = SHARD_ROWS,
    on_start: Callable[[int, int], None] | None = None,
    progress: Progress | None = None,
) -> ScoreResult:
    """The same for a scorer of several columns: one score file a column, from one pass over the audio.

    What stands beside the score files is named after the first.
    """
    first = outs[0]
    for out in outs:
        if out.is_dir():
            raise UsageError(f"{out}: is a folder (expected the name of a score file)")
    rows = rows_of(manifest.require_valid())
    folder = first.with_name(first.name + ".parts")
    with exclusive(folder / ".lock", f"{first}: another process is writing it"):
        _claim(folder, f"{scorer.fingerprint()} {manifest.digest()}")
        parts = _Parts(folder, scorer)
        missing = missing_rows(rows, parts.states)
        if on_start:
            on_start(sum(missing), len(rows) - sum(missing))
        failures: list[Failure] = []
        try:
            for extracted, failed in run_shards(
                engine or LocalEngine(),
                make_extractor or scorer.extractor,
                shards_of(rows, missing, shard_rows),
                progress,
            ):
                failures += failed
                parts.add(extracted, shard_rows)
        finally:
            parts.flush()
        failures = in_order_of(rows, failures)
        failed_ids = {failure.utterance_id for failure in failures}
        ids = [row.utterance_id for row in rows if row.utterance_id not in failed_ids]
        columns = np.array([parts.scores[i] for i in ids], dtype=np.float64).reshape(len(ids), len(outs))
        for out, scores in zip(outs, columns.T, strict=True):
            write_scores(out, ids, scores)
        write_failures(first.with_name(first.name + ".failures.csv"), failures)
        shutil.rmtree(folder, ignore_errors=True)
    return ScoreResult(first, len(ids), failures)


@dataclass
class _Parts:
    """Scores so far: in memory, and on disk as ``part-*.json``, each a list of ``[id, scores, *state]``."""

    folder: Path
    scorer: Scorer
    scores: dict[str, float | list[float]] = field(default_factory=dict)
    states: dict[str, FileState] = field(default_factory=dict)
    _pending: list[Extracted] = field(default_factory=list)
    _number: int = 0

    def __post_init__(self) -> None:
        for path in sorted(self.folder.glob("part-*.json")):
            for name, score, *state in json.loads(path.read_text(encoding="utf-8")):
                self.scores[name] = score
                self.states[name] = FileState(*state)
            self._number = int(path.stem.removeprefix("part-")) + 1

    def add(self, extracted: Sequence[Extracted], part_rows: int) -> None:
        """Takes features; scores and saves them where enough have come together."""
        self._pending += extracted
        if len(self._pending) >= part_rows:
            self.flush()

    def flush(self) -> None:
        """Scores and saves what is left."""
        if not self._pending:
            return
        scores = self.scorer.score_extracted([e.features for e in self._pending]).tolist()
        names = [e.row.utterance_id for e in self._pending]
        lines = [[n, s, *e.state] for n, s, e in zip(names, scores, self._pending, strict=True)]
        write_atomic(self.folder / f"part-{self._number:06d}.json", json.dumps(lines))
        self.scores.update(zip(names, scores, strict=True))
        self._pending = []
        self._number += 1


def _claim(folder: Path, job: str) -> None:
    """Throws away parts of another job; what they hold would not belong to this one."""
    remove_temporaries(folder)
    stamp = folder / "job"
    digest = hashlib.sha256(job.encode()).hexdigest()
    if not stamp.exists() or stamp.read_text(encoding="utf-8") != digest:
        for stale in folder.glob("part-*.json"):
            stale.unlink()
        write_atomic(stamp, digest)
