"""The report on one recording: what it is held for, how sure, where, why, and how that was found."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from voxfide.errors import AudioError, AudioNotFoundError, MissingDependencyError, UsageError
from voxfide.report.drawing import Drawn
from voxfide.report.markup import printable
from voxfide.report.page import Block, Folded, Page, Prose, Section
from voxfide.report.recording_excerpts import (
    Excerpts,
    Player,
    choose_parts,
    excerpt_words,
    make_players,
    targets,
)
from voxfide.report.recording_facts import (
    detector_blocks,
    file_name,
    limit_blocks,
    recording_blocks,
    repeat_blocks,
)
from voxfide.report.recording_signal import SignalPicture, read_signal
from voxfide.report.recording_timeline import clock, thresholds, timeline
from voxfide.report.recording_verdict import verdict_blocks
from voxfide.report.recording_why import why_blocks
from voxfide.report.tables import Column, Table
from voxfide.types import PathLike

if TYPE_CHECKING:
    from voxfide.analysis.result import Analysis

SUFFIXES: Final = (".html", ".pdf")

MAX_ROWS: Final = 120
"""Of the table of windows; where they are more, neighbours share a row."""

_READ_BLOCK: Final = 1 << 20


@dataclass(frozen=True)
class _Heard:
    """What was taken from the audio; without it, why not."""

    picture: SignalPicture | None = None
    players: list[Player] = field(default_factory=list)
    trouble: str = ""


def write_recording_report(
    path: PathLike,
    analysis: Analysis,
    *,
    audio: PathLike | None = None,
    decoded: bool = False,
    command: str | None = None,
) -> Path:
    """Writes one self-contained HTML page, or a PDF, by the suffix; whole or not at all.

    The page makes no request to any host. The PDF holds the same less the players. The same analysis of
    the same file gives the same bytes, with one version of voxfide and of the libraries beneath it.
    Audio is read in one pass, in memory that does not depend on its length.

    Args:
        path: ends in ``.html`` or ``.pdf``; its folder is made if it is missing.
        analysis: what is reported; parts that it lacks (probability, windows, explanation, hash) are
            left out or said to be missing.
        audio: the recording, for waveform, spectrogram and players; ``analysis.path`` where left out.
            If it cannot be read, the report says so and goes without them.
        decoded: ``audio`` holds the decoded samples of the recording in place of its bytes, so that its
            SHA-256 is another; the caller vouches that they belong together.
        command: that repeats the analysis, shown as it is; built from the analysis where left out.

    Raises:
        UsageError: another suffix, or audio that is not the file that was analysed (by its SHA-256).
        MissingDependencyError: a PDF, in an installation without what writes it.
    """
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(f"{path}: reports are written as {' or '.join(SUFFIXES)}, not {path.suffix!r}")
    with_players = path.suffix.lower() == ".html"
    page = recording_page(analysis, audio=audio, decoded=decoded, command=command, with_players=with_players)
    if with_players:
        return page.write(path)
    write_pdf = pdf_writer()
    return write_pdf(page, path)


def pdf_writer() -> Callable[[Page, Path], Path]:
    """What writes a page as PDF.

    Raises:
        MissingDependencyError: the packages that it stands on are not installed.
    """
    try:
        import matplotlib  # noqa: F401  its fonts are embedded

        from voxfide.report.pdf import write_pdf
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            f"a report in PDF needs {error.name}: pip install 'voxfide[pdf]' (a report in HTML needs nothing)"
        ) from error
    return write_pdf


def recording_page(
    analysis: Analysis,
    *,
    audio: PathLike | None = None,
    decoded: bool = False,
    command: str | None = None,
    with_players: bool = True,
) -> Page:
    """The report as a page; arguments and errors are those of :func:`write_recording_report`."""
    heard = _hear(analysis, analysis.path if audio is None else audio, with_players, decoded)
    name = printable(file_name(analysis.path))
    sections = [
        Section("Verdict", verdict_blocks(analysis)),
        Section("Where", _where(analysis, heard)),
    ]
    if analysis.why is not None and (blocks := why_blocks(analysis.why)):
        sections.append(Section("Why", blocks))
    sections += [
        Section("What this cannot tell", limit_blocks()),
        Section("The recording", recording_blocks(analysis)),
        Section("The detector", detector_blocks(analysis)),
        Section("How to repeat it", repeat_blocks(analysis, command)),
    ]
    subtitle = f"{_length(analysis.conditions.seconds)}. Detector: {analysis.detector.name}"
    if analysis.sha256:
        subtitle += f". SHA-256 `{analysis.sha256[:16]}…`"
    return Page(name, subtitle, sections, kicker="voxfide · report on one recording")


def _hear(analysis: Analysis, audio: PathLike, with_players: bool, decoded: bool) -> _Heard:
    """Pictures and players, from one pass over the audio."""
    parts = choose_parts(analysis) if with_players else []
    try:
        if not decoded:
            _check_same(Path(audio), analysis)
        picture = read_signal(audio, analysis.conditions.seconds, [part.segment for part in parts])
    except (AudioError, OSError) as error:
        reason = error.reason if isinstance(error, AudioError) else error.strerror or "not readable"
        return _Heard(
            trouble=f"Waveform, spectrogram and players are missing: the audio cannot be read ({reason})."
        )
    return _Heard(picture, make_players(parts, picture.excerpts))


def _check_same(path: Path, analysis: Analysis) -> None:
    if analysis.sha256 is None:
        return
    digest = hashlib.sha256()
    try:
        opened = path.open("rb")
    except ValueError as error:
        raise AudioNotFoundError(str(path), f"no name of a file: {error}", "the path of a file") from None
    with opened as file:
        while block := file.read(_READ_BLOCK):
            digest.update(block)
    if digest.hexdigest() != analysis.sha256:
        raise UsageError(
            f"{path}: not the file that was analysed: its SHA-256 is {digest.hexdigest()} "
            f"(expected {analysis.sha256})"
        )


def _where(analysis: Analysis, heard: _Heard) -> list[Block]:
    """Timeline, players, marked stretches, windows."""
    found = targets(heard.players, analysis.stretches)
    words = "log likelihood ratios" if analysis.calibrated else "scores"
    caption = (
        f"The recording over time. At the bottom the {words} of its windows, averaged where windows overlap."
    )
    if thresholds(analysis):
        caption += " Dashed lines are the thresholds of the verdict."
    if analysis.stretches:
        caption += " Shaded: marked stretches, where windows by themselves speak for a spoof."
    if found:
        caption += " A click on a marked stretch plays it."
    drawing = timeline(analysis, heard.picture, found)
    blocks: list[Block] = [Drawn(drawing, caption, wide=True)]
    if heard.trouble:
        blocks.insert(0, Prose([heard.trouble]))
    if heard.players:
        blocks += [Prose([excerpt_words(analysis, len(heard.players))])]
        blocks += [Excerpts(heard.players, analysis.stretches)]
    if analysis.stretches:
        blocks.append(_stretch_table(analysis))
    elif analysis.windows:
        blocks.append(Prose(["No stretch is marked: no part of the recording by itself speaks for a spoof."]))
    if analysis.windows:
        table, joined = _window_table(analysis)
        blocks.append(
            Folded(f"The scores of all {len(analysis.windows):,} windows as a table{joined}", [table])
        )
    return blocks


def _stretch_table(analysis: Analysis) -> Table:
    columns = [
        Column("number", "Stretch"),
        Column("start", "From (s)", ".2f"),
        Column("end", "To (s)", ".2f"),
        Column("seconds", "Length (s)", ".2f"),
        Column("score", "Mean score", "+.3f"),
    ]
    rows = [(i, s.start, s.end, s.end - s.start, s.score) for i, s in enumerate(analysis.stretches, 1)]
    caption = "Marked stretches: where windows by themselves speak for a spoof."
    return Table(columns, rows, caption, sortable=len(rows) > 2)


def _window_table(analysis: Analysis) -> tuple[Table, str]:
    """Every window, or neighbours joined; and what was joined, in words."""
    windows = analysis.windows
    step = -(-len(windows) // MAX_ROWS)
    rows = []
    for i in range(0, len(windows), step):
        some = windows[i : i + step]
        scores: Sequence[float] = [w.score for w in some]
        row = (some[0].start, some[-1].end, sum(scores) / len(scores))
        rows.append((*row, *([min(scores)] if step > 1 else [some[0].speech])))
    columns = [
        Column("start", "From (s)", ".2f"),
        Column("end", "To (s)", ".2f"),
        Column("score", "Mean score" if step > 1 else "Score", "+.3f"),
        Column("lowest", "Lowest score", "+.3f") if step > 1 else Column("speech", "Speech (s)", ".2f"),
    ]
    joined = f", {step} to a row" if step > 1 else ""
    return Table(columns, rows, "Scores of windows; a higher score speaks for bona fide."), joined


def _length(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 60 else f"{clock(seconds)} ({seconds:,.1f} s)"
