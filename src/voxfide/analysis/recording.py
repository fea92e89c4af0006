"""One recording analysed as it is heard: windows, conditions, score, verdict, in constant memory."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from voxfide.analysis.decision import DecisionRule
from voxfide.analysis.frame_refinement import judges_frames, refine_by_frames
from voxfide.analysis.joining import joined_score, stretches
from voxfide.analysis.result import Analysis, DetectorFacts, Stretch, Window
from voxfide.analysis.settings import AnalysisSettings
from voxfide.analysis.trust import gathered
from voxfide.analysis.windows import Listener, Piece
from voxfide.audio import AudioInfo, stream_audio
from voxfide.audio.source import open_source
from voxfide.domain import DomainMeter
from voxfide.errors import AudioError
from voxfide.types import SAMPLE_RATE, Float32Array, PathLike, Seconds

if TYPE_CHECKING:
    from voxfide.detectors import AnyDetector

CHUNK: Seconds = 10.0
"""Audio decoded at a time."""

Progress = Callable[[Seconds], None]
"""Told of seconds of audio that have just been finished."""


def facts_of(detector: AnyDetector, name: str = "") -> DetectorFacts:
    """Which detector speaks.

    Args:
        detector: that is used.
        name: by which it was asked for; of a folder the last part is kept.
    """
    record = detector.calibration
    return DetectorFacts(
        name=Path(name).name if name and Path(name).expanduser().is_dir() else name or "unnamed",
        fingerprint=detector.fingerprint(),
        facts=detector.facts(),
        score_kind=detector.score_kind,
        calibrated_on=None if record is None else dict(record.fitted_to),
    )


class RecordingAnalyser:
    """Analyses one recording that is pushed chunk by chunk.

    The result does not depend on the chunks. Memory is constant but for the lists of windows and of speech
    segments, a few thousand an hour.

    Args:
        detector: scores the windows.
        settings: windows and marking.
        rule: from score to verdict; the detector's own where left out.
        facts: of the detector, where they are known already (a fingerprint takes a moment).

    Attributes:
        windows: scored so far, in order.

    Raises:
        MissingDependencyError, CheckpointError: speech cannot be found; see
            :class:`~voxfide.conditions.ConditionMeter`.
    """

    def __init__(
        self,
        detector: AnyDetector,
        settings: AnalysisSettings | None = None,
        *,
        rule: DecisionRule | None = None,
        facts: DetectorFacts | None = None,
    ) -> None:
        self.windows: list[Window] = []
        self._ended = False
        self.settings = settings or AnalysisSettings()
        self.rule = rule or DecisionRule.of(detector)
        self._detector, self._facts = detector, facts
        self._listener = Listener(self.settings.window, self.settings.hop, detector.speech)
        self._domain = DomainMeter(detector.domain)
        self._batch: list[Piece] = []

    @property
    def seconds(self) -> Seconds:
        """Heard so far."""
        return self._listener.n_samples / SAMPLE_RATE

    @property
    def score(self) -> float | None:
        """Of the windows scored so far; ``None`` before the first."""
        return joined_score(self.windows)

    @property
    def stretches(self) -> list[Stretch]:
        """Marked by the windows scored so far."""
        return stretches(self.windows, self.rule.spoof_below, self.settings.merge_gap)

    @property
    def wants_refining(self) -> bool:
        """Whether a second pass is to find the ends of stretches: one is marked, and the settings ask for a
        pass, or the detector judges frames."""
        asked = self.settings.fine_window is not None or judges_frames(self._detector)
        return asked and bool(self.stretches)

    def push(self, chunk: Float32Array) -> list[Window]:
        """Takes the next ``(samples,)`` at 16 kHz, full scale ±1, and gives the windows newly scored.

        A window is scored once its speech is known and its batch is full: some 4.5 s and ``batch`` hops
        after it ended, at most. Settings with a batch of 1 score at once.

        Raises:
            AudioTooShortError: a window is too short for the detector's front-end.
            AudioError: a score that is not finite.
            UsageError: not one-dimensional, or not finite samples.
        """
        return self.take(self.hear(chunk))

    def finish(
        self,
        info: AudioInfo,
        *,
        sha256: str | None = None,
        n_bytes: int | None = None,
        refined: Sequence[Stretch] | None = None,
    ) -> Analysis:
        """Scores what is left and judges; call once, at the end.

        Args:
            info: what the decoder found; its ``path`` names the recording.
            sha256, n_bytes: of the file.
            refined: stretches found by a second pass, in place of this one's.
        """
        self.take(self.hear_end(info, n_bytes))
        return self.judge(info, sha256=sha256, n_bytes=n_bytes, refined=refined)

    # --- the same in single steps, for those who score windows of several recordings together

    def hear(self, chunk: Float32Array) -> list[Piece]:
        """The windows to be scored that are settled by the next chunk, not scored yet."""
        return self._wanted(self._listener.push(chunk))

    def hear_end(self, info: AudioInfo | None, n_bytes: int | None) -> list[Piece]:
        """The windows that are left; measures the conditions."""
        self._conditions = self._listener.meter.finish(info, n_bytes)
        self._ended = True
        return self._wanted(self._listener.end())

    def _wanted(self, pieces: Sequence[Piece]) -> list[Piece]:
        return [p for p in pieces if p.speech >= self.settings.min_speech]

    def take(self, pieces: Sequence[Piece]) -> list[Window]:
        """Scores windows in batches; what does not fill one waits, unless the recording has ended."""
        self._batch += pieces
        size, found = self.settings.batch, []
        while len(self._batch) >= size or (self._ended and self._batch):
            batch, self._batch = self._batch[:size], self._batch[size:]
            scores = self._detector.score_waveforms([p.waveform for p in batch])
            found += [self.add(piece, float(score)) for piece, score in zip(batch, scores, strict=True)]
        return found

    def add(self, piece: Piece, score: float) -> Window:
        """Adds a window with its score, in the order of time."""
        if not np.isfinite(score):
            where = f"its score at {piece.start:.2f} s is not finite"
            raise AudioError("<recording>", where, "finite features")
        self._domain.add(piece.waveform, piece.speech)
        window = Window(piece.start, piece.end, score, piece.speech)
        self.windows.append(window)
        return window

    def judge(
        self,
        info: AudioInfo,
        *,
        sha256: str | None = None,
        n_bytes: int | None = None,
        refined: Sequence[Stretch] | None = None,
    ) -> Analysis:
        """The analysis of what was scored, after :meth:`hear_end`."""
        score = self.score
        marked = tuple(self.stretches if refined is None else refined)
        verdict, found = gathered(
            self._conditions,
            info,
            self.rule,
            score,
            marked,
            self._domain.reason(),
            self.settings.min_speech,
        )
        return Analysis(
            path=info.path,
            sha256=sha256,
            n_bytes=n_bytes,
            info=info,
            conditions=self._conditions,
            detector=self._facts or facts_of(self._detector),
            score=score,
            probability=self.rule.probability(score),
            prior=self.rule.prior,
            verdict=verdict,
            rule=self.rule.to_json() | self.settings.stated(),
            reasons=found,
            windows=tuple(self.windows),
            speech=tuple(self._listener.meter.segments),
            stretches=marked,
        )


def analyse(
    path: PathLike,
    detector: AnyDetector,
    settings: AnalysisSettings | None = None,
    *,
    rule: DecisionRule | None = None,
    facts: DetectorFacts | None = None,
    progress: Progress | None = None,
) -> Analysis:
    """Analyses a recording of any length in constant memory.

    A recording not longer than a window is scored whole, as :meth:`~voxfide.detector.Detector.detect` does.
    Digital silence gives an analysis without a score; of a file that breaks off, what precedes is judged
    and the reason ``broken-off`` says so.

    Args:
        path: any audio or video file.
        detector, settings, rule, facts: see :class:`RecordingAnalyser`.
        progress: told of the seconds done.

    Raises:
        AudioError: it cannot be read, holds no samples, or is too short for the front-end.
    """
    settings = settings or AnalysisSettings()
    analyser = RecordingAnalyser(detector, settings, rule=rule, facts=facts)
    info, (digest, n_bytes) = _hear(path, analyser, progress)
    refined = _refined(path, detector, settings, analyser) if analyser.wants_refining else None
    return analyser.judge(info, sha256=digest, n_bytes=n_bytes, refined=refined)


def _hear(
    path: PathLike, analyser: RecordingAnalyser, progress: Progress | None
) -> tuple[AudioInfo, tuple[str, int]]:
    """Scores all of a file; what the decoder found, and digest and size of the file."""
    try:
        with stream_audio(path, chunk=CHUNK, allow_silent=True, allow_truncated=True) as stream:
            for chunk in stream:
                analyser.push(chunk)
                if progress:
                    progress(len(chunk) / SAMPLE_RATE)
        digest = file_digest(path)
        analyser.take(analyser.hear_end(stream.info, digest[1]))
    except AudioError as error:
        if error.path in ("<recording>", "<waveform>"):  # about a window: only here its file is known
            raise type(error)(str(path), error.reason, error.expected) from None
        raise
    return stream.info, digest


def _refined(
    path: PathLike, detector: AnyDetector, settings: AnalysisSettings, first: RecordingAnalyser
) -> list[Stretch]:
    """Stretches about those of a first pass, which stay where none is found: of frames, where the detector
    judges them and no shorter windows are asked for."""
    coarse = first.stretches
    if settings.fine_window is None:
        return refine_by_frames(path, detector, coarse, settings.window, settings.merge_gap)
    window = settings.fine_window or settings.window
    fine = replace(
        settings,
        window=window,
        hop=settings.fine,
        min_speech=min(settings.min_speech, window / 2),
        fine_window=None,
        fine_hop=None,
    )
    second = _Nearby(detector, fine, first.rule, coarse, settings.window)
    _hear(path, second, None)
    found: list[Stretch] = []
    for stretch in coarse:
        inside = [s for s in second.stretches if s.end > stretch.start and s.start < stretch.end]
        found += [s for s in (inside or [stretch]) if s not in found]
    return found


class _Nearby(RecordingAnalyser):
    """Scores only windows that touch marked stretches or lie at most ``margin`` seconds beside them."""

    def __init__(
        self,
        detector: AnyDetector,
        settings: AnalysisSettings,
        rule: DecisionRule,
        marked: Sequence[Stretch],
        margin: Seconds,
    ) -> None:
        super().__init__(detector, settings, rule=rule)
        self._marked, self._margin = marked, margin

    def _wanted(self, pieces: Sequence[Piece]) -> list[Piece]:
        return [p for p in super()._wanted(pieces) if any(self._near(p, s) for s in self._marked)]

    def _near(self, piece: Piece, stretch: Stretch) -> bool:
        return piece.end > stretch.start - self._margin and piece.start < stretch.end + self._margin


def file_digest(path: PathLike) -> tuple[str, int]:
    """SHA-256 and size in bytes of a file, or of a member of an archive, read in pieces.

    Raises:
        AudioNotFoundError: it cannot be read.
    """
    with ExitStack() as closing:
        _, file = open_source(path, closing)
        digest = hashlib.file_digest(file, "sha256")
        file.check()
        return digest.hexdigest(), file.size
