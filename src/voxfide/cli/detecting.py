"""``voxfide detect``: recordings to verdicts."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from voxfide.cli import console
from voxfide.cli.commands import EXIT_FAILED_FILES, DeviceOption, LabelsOption, pairs
from voxfide.cli.engines import (
    ActorCpusOption,
    ActorGpusOption,
    ActorsOption,
    AddressOption,
    EngineOption,
    make_engine,
    on_actors,
)
from voxfide.errors import AudioError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from voxfide.analysis.decision import DecisionRule
    from voxfide.analysis.result import Analysis
    from voxfide.analysis.settings import AnalysisSettings
    from voxfide.detectors import AnyDetector
    from voxfide.engine import Engine
    from voxfide.named import NamedDetector

EXIT_VERDICT = 3
REPORT_SUFFIXES = (".html", ".pdf")
MANY = 20
"""Files from which a summary and a progress bar help."""

LONG_SECONDS = 60.0
"""Audio from which a progress bar helps."""

SMALL_BYTES = 100_000
"""Files below it hold little more than a minute, however they are coded."""


def detect(
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE",
            help="Audio or video files, folders, patterns in quotes, or - for a list on standard input.",
        ),
    ],
    detector: Annotated[
        str,
        typer.Option(
            "--detector",
            metavar="DETECTOR",
            help="Folder, hub id, or hf:ORGANISATION/NAME of a public classifier.",
        ),
    ] = "bundled",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")] = False,
    summary: Annotated[
        bool, typer.Option("--summary", help="Print one table, a row a file, in place of the details.")
    ] = False,
    prior: Annotated[
        float | None, typer.Option(help="Probability of bona fide before anything was heard.")
    ] = None,
    cost_miss: Annotated[float | None, typer.Option(help="Cost of calling bona fide speech a spoof.")] = None,
    cost_fa: Annotated[float | None, typer.Option(help="Cost of calling a spoof bona fide.")] = None,
    cost_inconclusive: Annotated[
        float | None,
        typer.Option(
            help="Cost of giving no verdict; by default a quarter of the lower of the others.",
            show_default=False,
        ),
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(help="Score from which a recording counts as bona fide, below it as spoof."),
    ] = None,
    window: Annotated[float, typer.Option(min=0.1, help="Length of a window, seconds.")] = 4.0,
    hop: Annotated[
        float | None, typer.Option(min=0.01, help="From one window to the next; by default half a window.")
    ] = None,
    min_speech: Annotated[
        float, typer.Option(min=0.0, help="Speech that a window needs to be scored, seconds; 0 scores all.")
    ] = 0.5,
    fine: Annotated[
        float | None,
        typer.Option(min=0.1, help="Find the ends of marked stretches with windows of this length."),
    ] = None,
    segments: Annotated[
        Path | None,
        typer.Option(
            "--segments",
            metavar="FILE",
            help="Write marked stretches: .json, .csv, .rttm or .txt (Audacity).",
        ),
    ] = None,
    segments_format: Annotated[
        str | None,
        typer.Option("--segments-format", help="json, csv, rttm or audacity, whatever the suffix."),
    ] = None,
    why: Annotated[
        bool, typer.Option("--why", help="Say what the score rests on: bands, layers, members.")
    ] = False,
    report: Annotated[
        Path | None,
        typer.Option(
            "--report",
            metavar="OUT",
            help="Write a report, .html or .pdf; for several files a folder of them.",
        ),
    ] = None,
    fail_on: Annotated[
        list[str] | None,
        typer.Option(
            "--fail-on", metavar="VERDICT", help="spoof or inconclusive: exit 3 if it occurs; repeatable."
        ),
    ] = None,
    device: DeviceOption = "auto",
    labels: LabelsOption = None,
    engine: EngineOption = "local",
    address: AddressOption = None,
    actors: ActorsOption = None,
    actor_cpus: ActorCpusOption = None,
    actor_gpus: ActorGpusOption = None,
) -> None:
    """Tell whether recordings are bona fide speech or spoofed.

    Any audio or video container, any length. The verdict is bona fide, spoof or inconclusive; with it come
    a score (higher: more bona fide), of a calibrated detector a log likelihood ratio and a probability at a
    stated prior, whatever lowers trust in them, and the stretches that sound spoofed.

    Exit code: 0 all files analysed; 1 some could not be (they are listed at the end); 2 a call that cannot
    work; 3 a verdict named by --fail-on.
    """
    from voxfide.analysis.settings import AnalysisSettings
    from voxfide.cli.inputs import recordings

    settings = AnalysisSettings(
        window, window / 2 if hop is None else hop, min(min_speech, window), fine_window=fine
    )
    outputs = _Outputs.checked(as_json, summary, segments, segments_format, report, fail_on or [])
    paths = recordings(files)
    outputs.check_number(len(paths))
    runner = make_engine(engine, address, actors, actor_cpus, actor_gpus, device=device)
    named = dict(pairs(labels or [], "--labels"))
    model = _load(detector, device if runner is None else "cpu", named)
    from voxfide.analysis.decision import DecisionRule
    from voxfide.named import NamedDetector

    rule = DecisionRule.of(
        model,
        prior=prior,
        c_miss=cost_miss,
        c_fa=cost_fa,
        c_inconclusive=cost_inconclusive,
        threshold=threshold,
    )
    there = NamedDetector(detector, model.fingerprint(), on_actors(device), named)
    for path, found in _analysed(paths, model, there, settings, rule, runner):
        if not isinstance(found, AudioError) and (why or report is not None):
            found = _explained(path, model, found)
        outputs.add(path, found)
    outputs.finish()


def _load(name: str, device: str, labels: Mapping[str, str]) -> AnyDetector:
    from voxfide.detectors import BUNDLED, bundled_folder, load_detector

    if name == BUNDLED and bundled_folder() is None:
        raise UsageError(
            "no detector is bundled in this version: give --detector FOLDER (`voxfide train` makes one; "
            "`voxfide demo` makes one that knows synthetic test signals only)"
        )
    return load_detector(name, device=device, labels=labels)


def _analysed(
    paths: Sequence[str],
    model: AnyDetector,
    there: NamedDetector,
    settings: AnalysisSettings,
    rule: DecisionRule,
    engine: Engine | None,
) -> Iterator[tuple[str, Analysis | AudioError]]:
    """What ``model`` finds in this process, or on an engine the detector loaded ``there``."""
    from voxfide.analysis.batch import analyse_many
    from voxfide.analysis.cluster import analyse_on
    from voxfide.analysis.recording import facts_of

    facts = facts_of(model, there.name)
    with _progress(paths) as progress:
        if engine is None:
            for path, found in analyse_many(
                paths, model, settings, rule=rule, facts=facts, progress=progress
            ):
                yield str(path), found
        else:
            yield from analyse_on(engine, paths, there, settings, rule=rule, facts=facts, progress=progress)


@contextmanager
def _progress(paths: Sequence[str]) -> Iterator[Callable[[float], None] | None]:
    """A bar that counts seconds of audio where there is much of it; else nothing."""
    seconds = sum(map(_declared, paths)) if len(paths) < MANY else LONG_SECONDS * len(paths)
    if seconds <= LONG_SECONDS:
        yield None
        return
    with console.progress("detect, seconds of audio") as bar:
        if len(paths) < MANY:
            bar.start(round(seconds), 0)
        yield lambda done: bar(round(done), done)


def _declared(path: str) -> float:
    """Seconds by the header of a file; 0 where it does not say, or is too small to take long."""
    from voxfide.audio import probe_audio
    from voxfide.audio.source import source_size

    try:
        if source_size(path) < SMALL_BYTES:
            return 0.0
        duration = probe_audio(path).duration
    except AudioError:
        return 0.0
    return duration if duration == duration else 0.0


def _explained(path: str, model: AnyDetector, analysis: Analysis) -> Analysis:
    from voxfide.analysis.explain import explain

    if analysis.score is None:
        return analysis
    return replace(analysis, why=explain(path, model, analysis))


@dataclass
class _Outputs:
    """What is printed and written of the analyses as they come."""

    as_json: bool
    summary: bool
    segments: Path | None
    segments_format: Any
    report: Path | None
    fail_on: Sequence[str]
    one: bool = True
    found: list[Analysis] = field(default_factory=list)
    failures: list[AudioError] = field(default_factory=list)
    alarmed: bool = False
    names: set[str] = field(default_factory=set)

    @classmethod
    def checked(
        cls,
        as_json: bool,
        summary: bool,
        segments: Path | None,
        segments_format: str | None,
        report: Path | None,
        fail_on: Sequence[str],
    ) -> _Outputs:
        """Refuses what cannot work before any work is done."""
        from voxfide.analysis.writers import format_of

        unknown = [verdict for verdict in fail_on if verdict not in ("spoof", "inconclusive")]
        if unknown:
            raise UsageError(f"--fail-on {unknown[0]}: expected spoof or inconclusive")
        if as_json and summary:
            raise UsageError("--json and --summary: expected one of them")
        if segments is None and segments_format is not None:
            raise UsageError("--segments-format needs --segments FILE")
        form = None if segments is None else format_of(segments, segments_format)
        return cls(as_json, summary, segments, form, report, fail_on)

    def check_number(self, n: int) -> None:
        """Refuses outputs that do not fit the number of files."""
        self.one = n == 1
        if self.report is not None:
            if self.report.suffix.lower() == ".pdf":
                from voxfide.report.recording import pdf_writer

                pdf_writer()
            is_file = self.report.suffix.lower() in REPORT_SUFFIXES and not self.report.is_dir()
            if is_file and n > 1:
                raise UsageError(
                    f"--report {self.report}: is one file for {n} recordings (expected a folder)"
                )
            if not is_file and n == 1 and self.report.suffix and not self.report.is_dir():
                raise UsageError(f"--report {self.report}: expected a name in .html or .pdf, or a folder")
        if self.segments_format is not None and self.segments_format.name == "audacity" and n > 1:
            raise UsageError(
                f"--segments {self.segments}: an Audacity label track is of one recording, not of {n} "
                "(expected .json, .csv or .rttm)"
            )

    def add(self, path: str, found: Analysis | AudioError) -> None:
        """Prints one result, and writes its report."""
        if isinstance(found, AudioError):
            self.failures.append(found)
            if self.as_json:
                self._line({"path": path, "error": str(found)})
            else:
                print(f"voxfide: {found}", file=sys.stderr)
            return
        self.alarmed = self.alarmed or found.verdict in self.fail_on
        if self.as_json:
            self._line(found.to_json())
        elif not self.summary:
            from voxfide.cli.reading import told

            print(told(found), flush=True)
        if self.report is not None:
            self._write_report(found)
        if self.summary or self.segments is not None:
            self.found.append(found)

    @staticmethod
    def _line(values: dict[str, Any]) -> None:
        print(json.dumps(values, ensure_ascii=False, allow_nan=False), flush=True)

    def _write_report(self, analysis: Analysis) -> None:
        from voxfide.report.recording import write_recording_report

        assert self.report is not None
        out = self.report
        if out.suffix.lower() not in REPORT_SUFFIXES or out.is_dir():
            stem, number = Path(analysis.path).name, 1
            while f"{stem}.html" in self.names:
                number += 1
                stem = f"{Path(analysis.path).name}-{number}"
            self.names.add(f"{stem}.html")
            out = out / f"{stem}.html"
        write_recording_report(out, analysis)
        console.say(f"report: {out}")

    def finish(self) -> None:
        """Table, segments, list of failures, and the exit code."""
        if self.summary:
            from voxfide.cli.reading import summary

            print(summary(self.found).to_text(), end="")
        if self.segments is not None:
            from voxfide.analysis.writers import written
            from voxfide.files import write_atomic

            write_atomic(self.segments, written(self.found, self.segments_format))
        if not self.one:
            console.list_failures(self.failures, "could not be analysed")
        if self.alarmed:
            raise typer.Exit(EXIT_VERDICT)
        if self.failures:
            raise typer.Exit(EXIT_FAILED_FILES)
