"""The trials that look most like the other class, as a table or with players."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from voxfide.evaluation import worst_errors
from voxfide.report.page import Block, Prose
from voxfide.report.players import Budget, Clip, Players, add_audio
from voxfide.report.tables import Column, Table
from voxfide.types import BONAFIDE, SPOOF

if TYPE_CHECKING:
    from voxfide.evaluation import Trials

_PER_CLASS = 6
_DETAILS_PER_CLIP = 8
_NOTHING = frozenset(("", "-", "nan", "None", "<NA>"))
_SHOWN_ELSEWHERE = frozenset(("utterance_id", "label"))


def worst_blocks(
    trials: Trials,
    threshold: float,
    first: Sequence[str],
    audio_paths: Mapping[str, Path] | None,
    budget: Budget,
) -> list[Block]:
    """Prose and a table of the worst errors, or cards with players where audio is given.

    Args:
        threshold: the score above which a trial is accepted.
        first: columns of the trials to be shown before the others.
        audio_paths: utterance id → file; ``None`` for no players.
    """
    worst = worst_errors(trials, threshold, _PER_CLASS)
    clips = [_clip(trials, int(i), SPOOF, threshold, first) for i in worst.spoof]
    clips += [_clip(trials, int(i), BONAFIDE, threshold, first) for i in worst.bonafide]
    if not clips:
        return [Prose(["At the threshold of equal errors no trial is misjudged."])]
    prose = [
        "What is misjudged most confidently at the threshold of equal errors: the spoofs with the highest "
        "scores, then the bona fide recordings with the lowest."
    ]
    if audio_paths is None:
        return [Prose(prose), _table(clips)]
    prose.append(
        f"Players hold the first {budget.seconds:g} s at most, re-encoded as 32 kbit/s MP3 at 16 kHz. "
        "For a judgement by ear, go back to the original file."
    )
    return [Prose(prose), Players(add_audio(clips, audio_paths, budget))]


def _clip(trials: Trials, index: int, label: str, threshold: float, first: Sequence[str]) -> Clip:
    score = float(trials.score[index])
    side = "above" if score > threshold else "below"
    remark = f"{abs(score - threshold):.3f} {side} the threshold"
    names = [*first, *(name for name in trials.columns if name not in first)]
    values = {name: str(trials.columns[name][index]) for name in names}
    shown = {k: v for k, v in values.items() if v not in _NOTHING and k not in _SHOWN_ELSEWHERE}
    details = dict(list(shown.items())[:_DETAILS_PER_CLIP])
    return Clip(str(trials.utterance_id[index]), label, score, remark, details)


def _table(clips: Sequence[Clip]) -> Table:
    keys = list(dict.fromkeys(key for clip in clips for key in clip.details))[:4]
    columns = [
        Column("utterance_id", "Utterance"),
        Column("label", "Label"),
        Column("score", "Score", ".3f"),
        Column("remark", "Distance"),
        *(Column(key) for key in keys),
    ]
    rows = [
        (clip.name, clip.label, clip.score, clip.remark, *(clip.details.get(key) for key in keys))
        for clip in clips
    ]
    return Table(columns, rows, "Worst errors of each class.")
