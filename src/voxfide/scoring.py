"""Detector x manifest to a score file, shard by shard, resumable."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from voxfide.detector import Detector
from voxfide.engine import Engine, LocalEngine
from voxfide.extraction import Extractor, Failure, Row, failures_csv, rows_of
from voxfide.files import exclusive, write_atomic
from voxfide.manifest import Manifest
from voxfide.scores import write_scores
from voxfide.types import PathLike

SHARD_ROWS = 256


@dataclass(frozen=True)
class ScoreResult:
    """What :func:`score_manifest` wrote: how many scores, and what could not be read."""

    path: Path
    n_scored: int
    failures: list[Failure]


def score_manifest(
    detector: Detector,
    manifest: Manifest,
    out: PathLike,
    *,
    engine: Engine | None = None,
    make_extractor: Callable[[], Extractor] | None = None,
    on_start: Callable[[int, int], None] | None = None,
) -> ScoreResult:
    """Writes ``out`` as the ASVspoof 5 package reads it, in the order of the manifest.

    While it runs, finished shards lie in ``OUT.parts``; a run that was interrupted goes
    on there, if detector and manifest are the same. Utterances that cannot be read are
    listed in ``OUT.failures.csv``.
    """
    out = Path(out)
    rows = rows_of(manifest)
    parts = out.with_name(out.name + ".parts")
    with exclusive(parts / ".lock", f"{out}: another process is writing it"):
        job = hashlib.sha256(
            f"{detector.fingerprint()} {manifest.digest()} {SHARD_ROWS}".encode()
        ).hexdigest()
        _claim(parts, job)
        shards = [rows[i : i + SHARD_ROWS] for i in range(0, len(rows), SHARD_ROWS)]
        missing = [n for n in range(len(shards)) if not _part(parts, n).exists()]
        left = sum(len(shards[n]) for n in missing)
        if on_start:
            on_start(left, len(rows) - left)
        _run(detector, [(n, shards[n]) for n in missing], parts, engine or LocalEngine(), make_extractor)
        done = [json.loads(_part(parts, n).read_text(encoding="utf-8")) for n in range(len(shards))]
        ids = [i for d in done for i in d["ids"]]
        write_scores(out, ids, np.array([s for d in done for s in d["scores"]], dtype=np.float64))
        failures = [Failure(**f) for d in done for f in d["failures"]]
        _write_failures(out.with_name(out.name + ".failures.csv"), failures)
    shutil.rmtree(parts, ignore_errors=True)
    return ScoreResult(out, len(ids), failures)


def _run(
    detector: Detector,
    shards: Sequence[tuple[int, list[Row]]],
    parts: Path,
    engine: Engine,
    make_extractor: Callable[[], Extractor] | None,
) -> None:
    made: list[Extractor] = []

    def make() -> Callable[[tuple[int, list[Row]]], tuple[int, dict[str, list[object]]]]:
        made.append(make_extractor() if make_extractor else Extractor(detector.frontend, detector.pool))
        return lambda shard: (shard[0], _score_shard(detector, made[-1], shard[1]))

    try:
        for number, part in engine.map(make, shards):
            write_atomic(_part(parts, number), json.dumps(part))
    finally:
        for extractor in made:
            extractor.close()


def _score_shard(detector: Detector, extractor: Extractor, rows: list[Row]) -> dict[str, list[object]]:
    extracted, failures = extractor(rows)
    scores: list[float] = []
    if extracted:
        scores = detector.score_features(np.stack([e.features for e in extracted])).tolist()
    return {
        "ids": [e.row.utterance_id for e in extracted],
        "scores": list(scores),
        "failures": [f.to_dict() for f in failures],
    }


def _part(parts: Path, number: int) -> Path:
    return parts / f"part-{number:06d}.json"


def _claim(parts: Path, job: str) -> None:
    """Throws away parts of another job; what they hold would not belong to this one."""
    stamp = parts / "job"
    if not stamp.exists() or stamp.read_text(encoding="utf-8") != job:
        for stale in parts.glob("part-*.json"):
            stale.unlink()
        write_atomic(stamp, job)


def _write_failures(path: Path, failures: Sequence[Failure]) -> None:
    if failures:
        write_atomic(path, failures_csv(failures))
    else:
        path.unlink(missing_ok=True)
