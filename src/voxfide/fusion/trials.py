"""The scores of several systems, brought together trial by trial."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

import numpy as np

from voxfide.errors import UsageError
from voxfide.evaluation import Key, align
from voxfide.evaluation.alignment import StrArray
from voxfide.metrics.trials import check_trials
from voxfide.scores import Scores, problem_list
from voxfide.types import BoolArray, Float64Array

IDS_SHOWN: Final = 5


@dataclass(frozen=True)
class JointScores:
    """Scores of the same trials by several systems.

    Attributes:
        systems: names, all different.
        utterance_id: ``(trials,)``, in the order of the first system's scores.
        scores: ``(trials, systems)``, finite; higher means more bona fide.
    """

    systems: tuple[str, ...]
    utterance_id: StrArray
    scores: Float64Array

    def __len__(self) -> int:
        return len(self.scores)


@dataclass(frozen=True)
class JointTrials:
    """:class:`JointScores` with their labels: what a fusion is learnt on or measured on.

    Attributes:
        systems: names, all different.
        scores: ``(trials, systems)``.
        is_bonafide: ``(trials,)``.
        utterance_id: ``(trials,)``; empty where the trials have no names.
        columns: of the key, ``(trials,)`` each.
        warnings: what a reader of the figures has to know.

    Raises:
        UsageError: shapes that do not fit together, numbers that are not finite, or a class
            without trials.
    """

    systems: tuple[str, ...]
    scores: Float64Array
    is_bonafide: BoolArray
    utterance_id: StrArray = field(default_factory=lambda: np.empty(0, dtype=object))
    columns: Mapping[str, StrArray] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.systems or len(set(self.systems)) != len(self.systems):
            raise UsageError(f"systems {', '.join(self.systems) or 'none'}: expected different names")
        if self.scores.ndim != 2 or self.scores.shape[1] != len(self.systems):
            raise UsageError(
                f"scores of shape {self.scores.shape} of {len(self.systems)} system(s): "
                "expected (trials, systems)"
            )
        for column in self.scores.T:
            check_trials(column, self.is_bonafide)

    def __len__(self) -> int:
        return len(self.scores)

    def of(self, systems: Sequence[int]) -> JointTrials:
        """The same trials by some of the systems, given by their numbers."""
        return JointTrials(
            tuple(self.systems[i] for i in systems),
            self.scores[:, list(systems)],
            self.is_bonafide,
            self.utterance_id,
            self.columns,
            self.warnings,
        )


def join_scores(systems: Mapping[str, Scores]) -> JointScores:
    """Puts the scores of several systems side by side.

    Args:
        systems: name to scores; all of them must have scored the same utterances, in any order.

    Raises:
        UsageError: no system.
        ScoreFileError: utterances that a file lacks or holds twice: of every file how many, and
            the first of them.
    """
    if not systems:
        raise UsageError("nothing to fuse: no scores were given")
    ids = {name: [str(i) for i in scores.utterance_id] for name, scores in systems.items()}
    everything = dict.fromkeys(i for names in ids.values() for i in names)
    problems = []
    for name, scores in systems.items():
        repeated = [i for i, count in Counter(ids[name]).items() if count > 1]
        if repeated:
            problems.append(f"{scores.source}: {_some(repeated)} more than once")
        held = set(ids[name])
        missing = [i for i in everything if i not in held]
        if missing:
            problems.append(f"{scores.source}: no score of {_some(missing)} that others scored")
    if problems:
        raise problem_list("systems are fused on the same utterances only", problems)
    order = next(iter(ids.values()))
    columns = []
    for name, scores in systems.items():
        row_of = dict(zip(ids[name], range(len(order)), strict=True))
        columns.append(scores.score[[row_of[i] for i in order]])
    names = np.empty(len(order), dtype=object)
    names[:] = order
    return JointScores(tuple(systems), names, np.stack(columns, axis=1))


def label_scores(joint: JointScores, key: Key) -> JointTrials:
    """Finds the labels and columns of joint scores; rows labelled ``unknown`` are left out.

    Raises:
        ScoreFileError: see :func:`voxfide.evaluation.align`.
        UsageError: a class without trials.
    """
    first = Scores(joint.utterance_id, joint.scores[:, 0], source=f"scores of {joint.systems[0]}")
    trials = align(first, key)
    row_of = dict(zip(joint.utterance_id.tolist(), range(len(joint)), strict=True))
    rows = [row_of[str(i)] for i in trials.utterance_id]
    return JointTrials(
        joint.systems,
        joint.scores[rows],
        trials.is_bonafide,
        trials.utterance_id,
        trials.columns,
        trials.warnings,
    )


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(map(repr, islice(names, IDS_SHOWN))) + (", …" if len(names) > IDS_SHOWN else "")
    return f"{len(names):,} utterance(s) ({shown})"
