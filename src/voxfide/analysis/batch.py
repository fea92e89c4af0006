"""Many recordings with one detector: decoded ahead, windows of several scored together by length."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from voxfide.analysis.decision import DecisionRule
from voxfide.analysis.decode import decode_leniently
from voxfide.analysis.recording import Progress, RecordingAnalyser, analyse, facts_of, file_digest
from voxfide.analysis.result import Analysis, DetectorFacts
from voxfide.analysis.settings import AnalysisSettings
from voxfide.analysis.windows import Piece
from voxfide.audio import Audio, AudioInfo
from voxfide.decoding import DecodePool, default_workers
from voxfide.errors import AudioError, AudioTooLongError
from voxfide.types import SAMPLE_RATE, PathLike, Seconds

if TYPE_CHECKING:
    from voxfide.detectors import AnyDetector

LONG: Seconds = 60.0
"""Longer recordings are analysed by themselves, as a stream."""

HELD: Seconds = 160.0
"""Audio that is gathered before its windows are sorted by length and scored."""

BLOCK: Final = 32
"""Recordings after which all that was gathered is scored: an engine's shard, so that batches are the same."""

FEW: Final = 8
"""So many files are decoded in this process: starting others would take longer."""


@dataclass
class _Heard:
    """A recording that was heard, whose windows wait for their scores."""

    analyser: RecordingAnalyser
    info: AudioInfo
    sha256: str
    n_bytes: int
    pieces: list[Piece]
    scores: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.scores = [math.nan] * len(self.pieces)


_Result = Analysis | AudioError | _Heard


def analyse_many(
    paths: Sequence[PathLike],
    detector: AnyDetector,
    settings: AnalysisSettings | None = None,
    *,
    rule: DecisionRule | None = None,
    facts: DetectorFacts | None = None,
    progress: Progress | None = None,
    workers: int | None = None,
) -> Iterator[tuple[PathLike, Analysis | AudioError]]:
    """Analyses recordings and yields each with its path, in order; what cannot be used with its error.

    The windows of short recordings are scored in batches of similar length across the files of a block.
    Results are those of :func:`~voxfide.analysis.recording.analyse` but for rounding in the sums of a batch.

    Args:
        paths: of any audio or video files.
        detector, settings, rule, facts: see :class:`~voxfide.analysis.recording.RecordingAnalyser`.
        progress: told of the seconds done.
        workers: decoding processes; none for a few files, else by the number of cores.
    """
    settings = settings or AnalysisSettings()
    rule = rule or DecisionRule.of(detector)
    facts = facts or facts_of(detector)
    if workers is None:
        workers = 0 if len(paths) <= FEW else default_workers()

    def alone(path: PathLike) -> Analysis | AudioError:
        try:
            return analyse(path, detector, settings, rule=rule, facts=facts, progress=progress)
        except AudioError as error:
            return error

    def finished() -> Iterator[tuple[PathLike, Analysis | AudioError]]:
        heard = [result for _, result in group if isinstance(result, _Heard)]
        _score(heard, detector, settings.batch)
        for path, result in group:
            yield path, _judged(path, result, alone, progress)
        group.clear()

    group: list[tuple[PathLike, _Result]] = []
    held = 0.0
    with DecodePool(workers, LONG, decode_leniently) as pool:
        for number, (path, found) in enumerate(
            zip(paths, pool.decode([Path(p) for p in paths]), strict=True), start=1
        ):
            result: _Result
            if isinstance(found, AudioTooLongError):
                yield from finished()
                held = 0.0
                yield path, alone(path)
                continue
            if isinstance(found, AudioError):
                result = found
            else:
                result = _hear(path, found, RecordingAnalyser(detector, settings, rule=rule, facts=facts))
                held += len(found.waveform) / SAMPLE_RATE
            group.append((path, result))
            if held >= HELD or number % BLOCK == 0:
                yield from finished()
                held = 0.0
        yield from finished()


def _hear(path: PathLike, audio: Audio, analyser: RecordingAnalyser) -> _Heard | AudioError:
    try:
        digest, n_bytes = file_digest(path)
    except AudioError as error:
        return error
    pieces = [*analyser.hear(audio.waveform), *analyser.hear_end(audio.info, n_bytes)]
    return _Heard(analyser, audio.info, digest, n_bytes, pieces)


def _score(heard: Sequence[_Heard], detector: AnyDetector, size: int) -> None:
    """Scores the windows of several recordings, those of similar length together.

    Where a batch cannot be scored, its scores stay NaN.
    """
    places = [(one, index) for one in heard for index in range(len(one.pieces))]
    places.sort(key=lambda place: len(place[0].pieces[place[1]].waveform))
    for first in range(0, len(places), size):
        batch = places[first : first + size]
        try:
            scores = detector.score_waveforms([one.pieces[index].waveform for one, index in batch])
        except AudioError:
            continue
        for (one, index), score in zip(batch, scores, strict=True):
            one.scores[index] = float(score)


def _judged(
    path: PathLike,
    result: _Result,
    alone: Callable[[PathLike], Analysis | AudioError],
    progress: Progress | None,
) -> Analysis | AudioError:
    """The analysis of what was heard; of a recording with a window that has no score, by itself."""
    if not isinstance(result, _Heard):
        return result
    if not all(map(math.isfinite, result.scores)):
        return alone(path)
    for piece, score in zip(result.pieces, result.scores, strict=True):
        result.analyser.add(piece, score)
    if result.analyser.wants_refining:
        return alone(path)
    if progress:
        progress(result.info.duration)
    return result.analyser.judge(result.info, sha256=result.sha256, n_bytes=result.n_bytes)
