"""Windows and marked stretches as files of other tools: a format is one function and one registry line."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from voxfide.analysis.result import Analysis
from voxfide.errors import UsageError
from voxfide.registry import Registry
from voxfide.types import PathLike

Writer = Callable[[Analysis], str]


@dataclass(frozen=True)
class WriterSpec:
    """A format of the stretches.

    Attributes:
        name: of the format, for ``--segments-format``.
        summary: in a line.
        suffix: of its files.
        write: an analysis to the content of a file; several files' contents can be joined.
        header: that stands once at the top.
    """

    name: str
    summary: str
    suffix: str
    write: Writer
    header: str = ""


WRITERS: Final[Registry[WriterSpec]] = Registry("format of segments")

_CSV_COLUMNS: Final = ("path", "kind", "start", "end", "score", "speech")


def _json(analysis: Analysis) -> str:
    values = {
        "path": analysis.path,
        "verdict": analysis.verdict,
        "score": analysis.score,
        "duration": analysis.info.duration,
        "stretches": [stretch._asdict() for stretch in analysis.stretches],
        "windows": [window._asdict() for window in analysis.windows],
        "speech": [segment._asdict() for segment in analysis.speech],
    }
    return json.dumps(values, ensure_ascii=False, allow_nan=False) + "\n"


def _csv(analysis: Analysis) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    for stretch in analysis.stretches:
        times = (f"{stretch.start:.3f}", f"{stretch.end:.3f}")
        writer.writerow((analysis.path, "stretch", *times, f"{stretch.score:.6g}", ""))
    for window in analysis.windows:
        times = (f"{window.start:.3f}", f"{window.end:.3f}")
        row = (analysis.path, "window", *times, f"{window.score:.6g}", f"{window.speech:.3f}")
        writer.writerow(row)
    return out.getvalue()


def _rttm(analysis: Analysis) -> str:
    """Rich Transcription Time Marked, NIST RT-09 evaluation plan, appendix A: ten fields a line."""
    name = re.sub(r"\s+", "_", Path(analysis.path).stem) or "recording"
    return "".join(
        f"SPEAKER {name} 1 {s.start:.3f} {s.end - s.start:.3f} <NA> <NA> spoof {s.score:.4f} <NA>\n"
        for s in analysis.stretches
    )


def _audacity(analysis: Analysis) -> str:
    """A label track: start, end and text, parted by tabs."""
    return "".join(f"{s.start:.6f}\t{s.end:.6f}\tspoof {s.score:+.2f}\n" for s in analysis.stretches)


WRITERS.register(WriterSpec("json", "stretches, windows and speech, an object a recording", ".json", _json))
WRITERS.register(
    WriterSpec("csv", "stretches and windows, a row each", ".csv", _csv, ",".join(_CSV_COLUMNS) + "\n")
)
WRITERS.register(WriterSpec("rttm", "stretches as speaker turns of 'spoof'", ".rttm", _rttm))
WRITERS.register(WriterSpec("audacity", "stretches as an Audacity label track", ".txt", _audacity))


def format_of(path: PathLike, name: str | None = None) -> WriterSpec:
    """The format by its name, or else by the suffix of a file.

    Raises:
        UnknownNameError: no such format.
        UsageError: a suffix that is no format's.
    """
    if name is not None:
        return WRITERS[name]
    suffix = Path(path).suffix.lower()
    found = next((spec for spec in WRITERS if spec.suffix == suffix), None)
    if found is None:
        known = ", ".join(f"{spec.suffix} ({spec.name})" for spec in WRITERS)
        raise UsageError(f"{path}: no format of segments has this suffix (known: {known})")
    return found


def written(analyses: Sequence[Analysis], spec: WriterSpec) -> str:
    """The content of one file for all recordings.

    Raises:
        UsageError: label tracks of several recordings, which name none of them.
    """
    if spec.name == "audacity" and len(analyses) > 1:
        raise UsageError(
            f"an Audacity label track holds the labels of one recording, not of {len(analyses)} "
            "(expected one file, or another format)"
        )
    return spec.header + "".join(map(spec.write, analyses))
