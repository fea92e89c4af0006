"""The verdict on one recording in words: what it is, how sure, and what lowers trust in it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from voxfide.calibration import probability_bonafide
from voxfide.report.banner import Banner
from voxfide.report.drawing import Drawing, Ink, Label, Lines, Rectangle, Shape
from voxfide.report.page import Block, Notice, Prose, Stat, Stats
from voxfide.report.recording_why import signed
from voxfide.report.tables import Column, Table

if TYPE_CHECKING:
    from voxfide.analysis.result import Analysis


class Wording(NamedTuple):
    """A verdict's name and what it says."""

    name: str
    meaning: str


VERDICTS: Final = {
    "bonafide": Wording("Bona fide", "The detector takes this recording for genuine human speech."),
    "spoof": Wording(
        "Spoof", "The detector takes this recording for synthetic, converted or otherwise faked speech."
    ),
    "inconclusive": Wording("Inconclusive", "The detector gives no verdict on this recording."),
}
PRIORS: Final = (0.01, 0.1, 0.5, 0.9, 0.99)
CLEAR: Final = "None of the measured conditions passes a limit; see the recording's measures below."


def verdict_blocks(analysis: Analysis) -> list[Block]:
    """The banner, figures, and what the figures mean."""
    blocks: list[Block] = [banner(analysis), *_trust(analysis), Stats(_stats(analysis))]
    blocks.append(Prose(_meaning(analysis)))
    if analysis.score is not None and analysis.probability is not None:
        blocks.append(_other_priors(analysis.score, analysis.prior))
    return blocks


def banner(analysis: Analysis) -> Banner:
    """What is said at first sight."""
    word, meaning = VERDICTS[analysis.verdict]
    sentences = [meaning]
    if analysis.verdict == "inconclusive":
        sentences[0] += " " + _why_none(analysis)
    if analysis.probability is not None and analysis.prior is not None:
        sentences.append(
            f"Probability that it is bona fide: {percent(analysis.probability)}, "
            f"if {percent(analysis.prior)} of such recordings are (the prior)."
        )
        return Banner(analysis.verdict, word, sentences, _gauge(analysis.probability, analysis.prior))
    if analysis.score is not None and not analysis.calibrated:
        sentences.append("It states no probability: its scores are not calibrated.")
    return Banner(analysis.verdict, word, sentences)


def percent(share: float) -> str:
    """A probability that never claims to be certain."""
    if share >= 0.999:
        return "over 99.9 %"
    if share <= 0.001:
        return "under 0.1 %"
    value = 100 * share
    return f"{value:.0f} %" if 10 <= value <= 90 or value == round(value) else f"{value:.1f} %"


def odds_words(llr: float) -> str:
    """What a natural-log likelihood ratio says, in a sentence."""
    times = math.exp(min(abs(llr), 20.0))
    if times < 1.05:
        return "Such a score is about as likely for bona fide speech as for a spoof."
    if times >= 1e6:
        many = "more than a million"
    else:
        many = f"{times:.1f}" if times < 9.95 else f"{float(f'{times:.2g}'):,.0f}"
    sides = ("bona fide speech", "a spoof")
    this, other = sides if llr > 0 else sides[::-1]
    return f"Such a score is {many} times as likely for {this} as for {other}, by the calibration."


def _why_none(analysis: Analysis) -> str:
    if any(reason.severity == "inconclusive" for reason in analysis.reasons):
        return "What stands in the way is listed below."
    if analysis.score is None:
        return "Nothing in it could be scored."
    return "The score lies between the limits for a verdict."


def _trust(analysis: Analysis) -> list[Block]:
    """Reasons in plain words; those that forbid a verdict first."""
    forbidding = [r.sentence for r in analysis.reasons if r.severity == "inconclusive"]
    reducing = [r.sentence for r in analysis.reasons if r.severity != "inconclusive"]
    blocks: list[Block] = []
    if forbidding:
        blocks.append(Notice([f"No verdict: {s}" for s in forbidding], "warning"))
    if reducing:
        blocks.append(Notice([f"Less trust: {s}" for s in reducing], "warning"))
    return blocks or [Notice([CLEAR])]


def _stats(analysis: Analysis) -> list[Stat]:
    score = "–" if analysis.score is None else signed(analysis.score)
    stats = []
    if analysis.calibrated:
        stats.append(Stat("Log likelihood ratio", score, "above 0 speaks for bona fide, below for a spoof"))
    else:
        stats.append(Stat("Score", score, "higher speaks for bona fide; not calibrated"))
    if analysis.probability is not None and analysis.prior is not None:
        detail = f"at a prior of {percent(analysis.prior)}"
        stats.append(Stat("Probability of bona fide", percent(analysis.probability), detail))
    speech = analysis.conditions.speech_seconds
    length = f"of {analysis.conditions.seconds:,.1f} s"
    stats.append(Stat("Speech", f"{speech:,.1f}", length, "s"))
    marked = len(analysis.stretches)
    stats.append(Stat("Marked stretches", str(marked), "that speak for a spoof" if marked else "none found"))
    return stats


def _meaning(analysis: Analysis) -> list[str]:
    if analysis.score is None:
        return [
            "No part of the recording holds enough speech to be scored, so there is no score to interpret."
        ]
    rule = _rule_words(analysis.rule)
    if not analysis.calibrated:
        return [
            "A higher score speaks for bona fide speech. The score has no unit and no probability follows "
            f"from it, for this detector was not calibrated. {rule}"
        ]
    return [
        f"{odds_words(analysis.score)} The probability follows from that and from the prior: the share of "
        f"recordings that are genuine among those that are judged, before any of them is heard. {rule}"
    ]


def _rule_words(rule: Mapping[str, Any]) -> str:
    upper, lower = rule.get("bonafide_from"), rule.get("spoof_below")
    if not isinstance(upper, int | float) or not isinstance(lower, int | float):
        return ""
    if rule.get("kind") == "threshold":
        return (
            f"By the threshold that was stated for this analysis, a recording counts as bona fide from "
            f"{signed(upper)} on, and as a spoof below."
        )
    if upper == lower:
        return f"From {signed(upper)} on a recording counts as bona fide, below as a spoof."
    return (
        f"From {signed(upper)} on a recording counts as bona fide, below {signed(lower)} as a spoof; between "
        "them the verdict is inconclusive."
    )


def _other_priors(llr: float, stated: float | None) -> Table:
    priors = sorted({*PRIORS, *([] if stated is None else [stated])})
    rows = [
        (
            percent(prior) + (" (stated)" if prior == stated else ""),
            percent(float(probability_bonafide(llr, prior))),
        )
        for prior in priors
    ]
    columns = [Column("prior", "Prior"), Column("probability", "Probability of bona fide", right=True)]
    return Table(columns, rows, "What the same score means under other priors.")


def _gauge(probability: float, prior: float) -> Drawing:
    """A scale from 0 to 100 % with the probability, and the prior that it started from."""
    width, left, right, y = 440.0, 2.0, 438.0, 26.0

    def x(share: float) -> float:
        return left + share * (right - left)

    at, start = x(probability), x(prior)
    anchor: Any = "start" if probability < 0.1 else "end" if probability > 0.9 else "middle"
    shapes: list[Shape] = [
        Rectangle(left, y, x(0.5) - left, 10, Ink(fill="s2", opacity=0.35)),
        Rectangle(x(0.5), y, right - x(0.5), 10, Ink(fill="s1", opacity=0.35)),
        Lines([[(start, y - 3), (start, y + 13)]], Ink(stroke="muted", width=1.5, dashes=(2, 2))),
        Lines([[(at - 7, y - 9), (at + 7, y - 9), (at, y + 1)]], Ink(fill="ink")),
        Lines([[(at, y - 4), (at, y + 10)]], Ink(stroke="ink", width=2)),
        Label(at, y - 13, percent(probability), anchor, 12, "ink", bold=True),
        Label(left, y + 25, "0 %: spoof"),
        Label(right, y + 25, "100 %: bona fide", "end"),
        Label(min(max(start, 110), width - 140), y + 25, f"prior {percent(prior)}", "middle"),
    ]
    alt = f"Probability of bona fide from 0 to 100 %: {percent(probability)}; prior {percent(prior)}."
    return Drawing(width, y + 30, shapes, alt)
