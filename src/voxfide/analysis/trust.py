"""What lowers trust in one verdict, beside what was measured on the recording's conditions."""

from __future__ import annotations

from collections.abc import Sequence

from voxfide.analysis.decision import DecisionRule
from voxfide.analysis.result import INCONCLUSIVE, Stretch, Verdict
from voxfide.audio import AudioInfo
from voxfide.conditions import Conditions, Reason, reasons
from voxfide.types import BONAFIDE, Seconds


def gathered(
    conditions: Conditions,
    info: AudioInfo,
    rule: DecisionRule,
    score: float | None,
    marked: Sequence[Stretch],
    unfamiliar: Reason | None,
    min_speech: Seconds,
) -> tuple[Verdict, tuple[Reason, ...]]:
    """The verdict, held back where a reason forbids one, and all reasons: those that forbid one first.

    Args:
        conditions: measured on the recording.
        info: of the decoder.
        rule: for the score.
        score: of the recording; ``None`` where no window was scored.
        marked: stretches that speak for spoofing.
        unfamiliar: of the detector's domain, where it knows it.
        min_speech: that a window needs to be scored, s.
    """
    found = reasons(conditions)
    verdict = rule.verdict(score)
    if score is None and not any(r.code == "little-speech" and r.severity == INCONCLUSIVE for r in found):
        found = [r for r in found if r.code != "little-speech"] + [_scattered(conditions, min_speech)]
    if marked and verdict == BONAFIDE:
        found.append(_partly(marked))
    if unfamiliar is not None:
        found.append(unfamiliar)
    if rule.prior is None:
        found.append(UNCALIBRATED)
    broken = next((text for text in info.warnings if text.startswith("truncated: ")), None)
    if broken is not None:
        sentence = f"The file breaks off ({broken.removeprefix('truncated: ')}); what precedes was judged."
        found.append(Reason("broken-off", "reduced", sentence, "breaks", 1.0, 0.0, "count"))
    found.sort(key=lambda reason: reason.severity != INCONCLUSIVE)
    if found and found[0].severity == INCONCLUSIVE:
        verdict = INCONCLUSIVE
    return verdict, tuple(found)


UNCALIBRATED = Reason(
    "uncalibrated",
    "reduced",
    "The detector is not calibrated: its score has no unit, and no probability can be stated.",
    "calibrations",
    0.0,
    1.0,
    "count",
)


def _scattered(conditions: Conditions, min_speech: Seconds) -> Reason:
    sentence = (
        f"The {conditions.speech_seconds:.3g} s of speech are so scattered that no window holds the "
        f"{min_speech:.3g} s that a score needs."
    )
    return Reason(
        "little-speech", INCONCLUSIVE, sentence, "speech_seconds", conditions.speech_seconds, min_speech, "s"
    )


def _partly(marked: Sequence[Stretch]) -> Reason:
    seconds = sum(stretch.end - stretch.start for stretch in marked)
    many = "a stretch" if len(marked) == 1 else f"{len(marked)} stretches"
    sentence = (
        f"As a whole it scores as bona fide, but {many} of {seconds:.3g} s in all score as spoofed: parts of "
        "it may be."
    )
    return Reason("stretches", INCONCLUSIVE, sentence, "marked_seconds", seconds, 0.0, "s")
