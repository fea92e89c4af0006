"""How an analysis is told to people: a few plain lines, or a row of a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from voxfide.analysis.result import Analysis, Explanation
    from voxfide.report.tables import Table

VERDICTS = {"bonafide": "bona fide", "spoof": "spoof", "inconclusive": "inconclusive"}
_SHOWN_STRETCHES = 20


def told(analysis: Analysis) -> str:
    """Several lines: verdict, score with its meaning, what it rests on, what lowers trust, stretches."""
    lines = [f"{analysis.path}: {VERDICTS[analysis.verdict]}", *_score(analysis), _rests_on(analysis)]
    for reason in analysis.reasons:
        name = "no verdict" if reason.severity == "inconclusive" else "less trust"
        lines.append(f"{name}: {reason.sentence}")
    lines += [f"note: {text}" for text in analysis.info.warnings if not text.startswith("truncated: ")]
    for stretch in analysis.stretches[:_SHOWN_STRETCHES]:
        times = f"{clock(stretch.start)} to {clock(stretch.end)}"
        lines.append(f"marked as spoofed: {times}, mean {stretch.score:+.2f}")
    if len(analysis.stretches) > _SHOWN_STRETCHES:
        lines.append(
            f"… and {len(analysis.stretches) - _SHOWN_STRETCHES} more stretches (--segments, --json)"
        )
    if analysis.why is not None:
        lines += _why(analysis.why)
    return "\n  ".join(lines)


def _score(analysis: Analysis) -> list[str]:
    if analysis.score is None:
        return ["no score: no window holds enough speech"]
    high, low = analysis.rule["bonafide_from"], analysis.rule["spoof_below"]
    limits = f"bona fide from {high:+.2f}"
    if low != high:
        limits += f", spoof below {low:+.2f}"
    if analysis.probability is None:
        return [f"score {analysis.score:+.3f} (higher: more bona fide; {limits})"]
    return [
        f"log likelihood ratio {analysis.score:+.2f} (+ speaks for bona fide, - for spoof; {limits})",
        f"probability of bona fide {analysis.probability:.3f} at prior {analysis.prior:g}",
    ]


def _rests_on(analysis: Analysis) -> str:
    n = len(analysis.windows)
    heard = f"{analysis.conditions.speech_seconds:.1f} s of speech in {analysis.info.duration:.1f} s"
    return f"heard {heard}, {n} window{'' if n == 1 else 's'} scored by {analysis.detector.name}"


def _why(why: Explanation) -> list[str]:
    lines = []
    for band in why.bands:
        side = "bona fide" if band.contribution > 0 else "spoof"
        edges = f"{band.low_hz:.0f} to {band.high_hz:.0f} Hz"
        lines.append(f"why: {edges} speak for {side} ({band.contribution:+.2f})")
    for member in why.members:
        lines.append(f"why: {member.name} says {member.score:+.2f}, adds {member.contribution:+.2f}")
    if why.agreement is not None:
        lines.append(f"why: {why.agreement:.0%} of the members are on the side of the result")
    weights = sorted(why.layers, key=lambda layer: -layer.weight)[:3]
    if weights:
        best = ", ".join(f"{layer.layer} ({layer.weight:.0%})" for layer in weights)
        lines.append(f"why: layers of the greatest weight: {best}")
    return lines


def clock(seconds: float) -> str:
    """``h:mm:ss.ss``, without hours below one."""
    hundredths = round(seconds * 100)
    minutes, rest = divmod(hundredths, 6000)
    hours, minutes = divmod(minutes, 60)
    tail = f"{rest / 100:05.2f}"
    return f"{hours}:{minutes:02d}:{tail}" if hours else f"{minutes}:{tail}"


def summary(analyses: Sequence[Analysis]) -> Table:
    """A row a recording."""
    from voxfide.report.tables import Column, Table

    columns = [
        Column("path", "file"),
        Column("verdict"),
        Column("score", spec="+.2f"),
        Column("probability", "P(bona fide)", spec=".3f"),
        Column("speech", "speech s", spec=".1f"),
        Column("stretches"),
        Column("reasons"),
    ]
    rows = [
        (
            a.path,
            VERDICTS[a.verdict],
            a.score,
            a.probability,
            a.conditions.speech_seconds,
            len(a.stretches),
            ", ".join(r.code for r in a.reasons),
        )
        for a in analyses
    ]
    counts = {v: sum(a.verdict == v for a in analyses) for v in VERDICTS}
    said = ", ".join(f"{n} {VERDICTS[v]}" for v, n in counts.items() if n)
    return Table(columns, rows, caption=f"{len(analyses)} recordings: {said}" if analyses else "")
