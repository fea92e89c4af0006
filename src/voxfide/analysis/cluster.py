"""Many recordings on an engine that works elsewhere: analysed where it is, told here in order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from voxfide.analysis.batch import BLOCK, analyse_many
from voxfide.analysis.decision import DecisionRule
from voxfide.analysis.recording import Progress
from voxfide.analysis.result import Analysis, DetectorFacts
from voxfide.analysis.settings import AnalysisSettings
from voxfide.engine import Engine
from voxfide.errors import AudioError, WorkerCrashError

if TYPE_CHECKING:
    from voxfide.detectors import AnyDetector

_Item = tuple[int, str]
"""Place in the list, and path."""

_Piece = tuple[int, Analysis | AudioError]


def analyse_on(
    engine: Engine,
    paths: Sequence[str],
    load: Callable[[], AnyDetector],
    settings: AnalysisSettings,
    *,
    rule: DecisionRule,
    facts: DetectorFacts,
    progress: Progress | None = None,
) -> Iterator[tuple[str, Analysis | AudioError]]:
    """What :func:`~voxfide.analysis.batch.analyse_many` yields, in the same order and from the same batches.

    Args:
        engine: maps over blocks of recordings.
        paths: of any audio or video files.
        load: gives the detector, in every process that works.
        settings, rule, facts: see :class:`~voxfide.analysis.recording.RecordingAnalyser`.
        progress: told of the seconds done.
    """
    items = list(enumerate(paths))
    blocks = [items[first : first + BLOCK] for first in range(0, len(items), BLOCK)]
    waiting: dict[int, Analysis | AudioError] = {}
    turn = 0
    with closing(engine.map(_AnalystFactory(load, settings, rule, facts), blocks, _lost)) as pieces:
        for place, found in pieces:
            if place < turn or place in waiting:  # come again after a crash
                continue
            waiting[place] = found
            if progress and isinstance(found, Analysis):
                progress(found.info.duration)
            while turn in waiting:
                yield paths[turn], waiting.pop(turn)
                turn += 1


@dataclass(frozen=True)
class _AnalystFactory:
    load: Callable[[], AnyDetector]
    settings: AnalysisSettings
    rule: DecisionRule
    facts: DetectorFacts

    def __call__(self) -> _Analyst:
        return _Analyst(self, self.load())


@dataclass(frozen=True)
class _Analyst:
    of: _AnalystFactory
    detector: AnyDetector

    def __call__(self, block: Sequence[_Item]) -> Iterator[_Piece]:
        paths = [path for _, path in block]
        results = analyse_many(paths, self.detector, self.of.settings, rule=self.of.rule, facts=self.of.facts)
        for (place, _), (_, found) in zip(block, results, strict=True):
            yield place, found

    def close(self) -> None:
        pass


def _lost(item: _Item, reason: str) -> _Piece:
    return item[0], WorkerCrashError(item[1], reason, "a recording that leaves it running")
