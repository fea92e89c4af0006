"""One upload from bytes to the JSON object of an answer; runs in a thread, several at a time."""

from __future__ import annotations

import base64
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import soundfile

from voxfide.analysis.decision import DecisionRule
from voxfide.analysis.recording import RecordingAnalyser, facts_of
from voxfide.analysis.result import Analysis
from voxfide.errors import AudioError, UsageError
from voxfide.serve.admission import Ticket
from voxfide.serve.batcher import Batcher, sharing
from voxfide.serve.decoders import DecoderPool
from voxfide.serve.overview import Overview
from voxfide.serve.uploads import Upload
from voxfide.serve.workspace import Workspace
from voxfide.types import SAMPLE_RATE, Seconds

if TYPE_CHECKING:
    from voxfide.detectors import AnyDetector

ReportKind = Literal["html", "pdf"]
REPORT_TYPES: dict[str, str] = {"html": "text/html", "pdf": "application/pdf"}

BOUNDS: dict[str, tuple[float, float]] = {
    "prior": (1e-6, 1 - 1e-6),
    "cost_miss": (1e-6, 1e6),
    "cost_fa": (1e-6, 1e6),
    "cost_inconclusive": (1e-6, 1e6),
    "threshold": (-1e6, 1e6),
}
"""Of the options of a verdict."""

Progress = Callable[[Seconds], None]
"""Told of the seconds of audio finished so far."""


@dataclass(frozen=True)
class RuleOptions:
    """From score to verdict, as of ``voxfide detect``; ``None`` is what the detector says.

    Attributes:
        prior: of bona fide.
        cost_miss, cost_fa, cost_inconclusive: see :class:`~voxfide.analysis.decision.DecisionRule`.
        threshold: a plain two-way decision at this score.

    Raises:
        UsageError: numbers out of :data:`BOUNDS`, beyond which arithmetic means nothing.
    """

    prior: float | None = None
    cost_miss: float | None = None
    cost_fa: float | None = None
    cost_inconclusive: float | None = None
    threshold: float | None = None

    def __post_init__(self) -> None:
        for name, (low, high) in BOUNDS.items():
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise UsageError(f"{name} {value}: expected {low:g} to {high:g}")

    def rule(self, detector: AnyDetector) -> DecisionRule:
        """The rule for a detector.

        Raises:
            UsageError: options that it cannot follow.
        """
        return DecisionRule.of(
            detector,
            prior=self.prior,
            c_miss=self.cost_miss,
            c_fa=self.cost_fa,
            c_inconclusive=self.cost_inconclusive,
            threshold=self.threshold,
        )


@dataclass(frozen=True)
class Options:
    """What an answer holds.

    Attributes:
        rule: from score to verdict.
        segments: windows, speech and marked stretches.
        why: bands, layers and members; see :func:`voxfide.analysis.explain.explain`.
        overview: envelope and spectrogram; see :class:`~voxfide.serve.overview.Overview`.
        report: the document that ``voxfide detect --report`` writes, in base64.
    """

    rule: RuleOptions = RuleOptions()
    segments: bool = True
    why: bool = False
    overview: bool = False
    report: ReportKind | None = None

    @property
    def needs_audio(self) -> bool:
        """Whether parts of the recording are read a second time."""
        return self.why or self.report is not None


class Analyst:
    """Analyses uploads with one detector.

    Args:
        detector: that is asked.
        name: by which it was asked for.
        batcher: scores the windows of all requests.
        pool: decodes.
        workspace: for decoded audio and reports.
    """

    def __init__(
        self, detector: AnyDetector, name: str, batcher: Batcher, pool: DecoderPool, workspace: Workspace
    ) -> None:
        self.detector = sharing(detector, batcher)
        self.facts = facts_of(detector, name)
        self._pool, self._workspace = pool, workspace

    def run(self, upload: Upload, options: Options, ticket: Ticket, progress: Progress) -> dict[str, Any]:
        """The answer for one upload.

        Raises:
            AudioError: it cannot be used.
            UsageError: an option that the detector cannot follow.
            CancelledError: the ticket was withdrawn.
        """
        overview = Overview() if options.overview else None
        with ExitStack() as closing:
            copy: Path | None = None
            if options.needs_audio:
                copy = closing.enter_context(self._workspace.subfolder()) / "decoded.wav"
            try:
                analysis = self._analyse(upload, options.rule, copy, overview, ticket, progress)
                if copy is not None and options.needs_audio:
                    analysis = self._explained(analysis, copy, ticket)
            except AudioError as error:
                ticket.check()  # what was aborted looks like a crash
                # About a window or the decoded copy: clients know the recording by their own name for it.
                raise type(error)(upload.name, error.reason, error.expected) from error
            answer = _to_json(analysis, options)
            if overview is not None:
                answer["overview"] = overview.to_json()
            if copy is not None and options.report is not None:
                ticket.check()
                answer["report"] = _report(analysis, copy, options.report)
        return answer

    def _analyse(
        self,
        upload: Upload,
        rule: RuleOptions,
        copy: Path | None,
        overview: Overview | None,
        ticket: Ticket,
        progress: Progress,
    ) -> Analysis:
        analyser = RecordingAnalyser(self.detector, rule=rule.rule(self.detector), facts=self.facts)
        with ExitStack() as closing:
            wav = None
            if copy is not None:
                wav = closing.enter_context(
                    soundfile.SoundFile(str(copy), "w", SAMPLE_RATE, 1, format="WAV", subtype="FLOAT")
                )
            decoded = closing.enter_context(self._pool.open(upload.file, upload.name))
            ticket.on_cancel(decoded.abort)
            for chunk in decoded:
                ticket.check()
                analyser.push(chunk)
                if wav is not None:
                    wav.write(chunk)
                if overview is not None:
                    overview.push(chunk)
                progress(analyser.seconds)
        return analyser.finish(decoded.info, sha256=upload.sha256, n_bytes=upload.n_bytes)

    def _explained(self, analysis: Analysis, copy: Path, ticket: Ticket) -> Analysis:
        from voxfide.analysis.explain import explain

        ticket.check()
        return replace(analysis, why=explain(copy, self.detector, analysis))


def _to_json(analysis: Analysis, options: Options) -> dict[str, Any]:
    answer = analysis.to_json()
    if not options.segments:
        for key in ("windows", "speech", "stretches"):
            del answer[key]
    return answer


def _report(analysis: Analysis, copy: Path, kind: ReportKind) -> dict[str, str]:
    """The report in base64, with the name under which to keep it."""
    from voxfide.report.recording import write_recording_report

    path = write_recording_report(copy.with_name(f"report.{kind}"), analysis, audio=copy, decoded=True)
    return {
        "file_name": f"{Path(analysis.path).stem or 'recording'}.voxfide.{kind}",
        "media_type": REPORT_TYPES[kind],
        "content_base64": base64.b64encode(path.read_bytes()).decode(),
    }
