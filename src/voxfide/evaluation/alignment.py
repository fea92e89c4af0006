"""Scores and key brought together, and every gap between them found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from voxfide.errors import UsageError
from voxfide.scores import Scores, problem_list
from voxfide.types import BONAFIDE, LABELS, UNKNOWN, BoolArray, Float64Array, IntArray

IDS_SHOWN: Final = 5

StrArray = NDArray[Any]
"""``(rows,)`` of str: dtype object or a NumPy string."""


@dataclass(frozen=True)
class Key:
    """What is known about the trials, as plain arrays of one length.

    Attributes:
        utterance_id: ``(rows,)``, all different.
        label: ``(rows,)``: ``bonafide``, ``spoof`` or ``unknown``.
        columns: any further columns, ``(rows,)`` each, for breakdowns. ``split`` also says
            which rows a score file is expected to cover.

    Raises:
        UsageError: arrays of different lengths.
    """

    utterance_id: StrArray
    label: StrArray
    columns: Mapping[str, StrArray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        n = len(self.utterance_id)
        lengths = {"label": len(self.label), **{name: len(values) for name, values in self.columns.items()}}
        wrong = [f"{name} {length:,}" for name, length in lengths.items() if length != n]
        if wrong:
            raise UsageError(f"the key has {n:,} utterance ids, but {', '.join(wrong)} value(s)")


@dataclass(frozen=True)
class Trials:
    """Scored trials with their labels and columns, ``(trials,)`` each, in the key's order."""

    utterance_id: StrArray
    score: Float64Array
    is_bonafide: BoolArray
    columns: Mapping[str, StrArray] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.score)

    def select(self, rows: BoolArray) -> Trials:
        """Only the trials marked in ``rows (trials,)``."""
        columns = {name: values[rows] for name, values in self.columns.items()}
        return Trials(
            self.utterance_id[rows], self.score[rows], self.is_bonafide[rows], columns, self.warnings
        )

    def require_column(self, name: str) -> None:
        """Raises :class:`UsageError`, saying which columns there are, if ``name`` is none."""
        if name not in self.columns:
            known = ", ".join(self.columns) or "none"
            raise UsageError(f"the key has no column {name!r} (columns: {known})")


def align(scores: Scores, key: Key, *, strict: bool = False) -> Trials:
    """Finds the label and columns of every score.

    Rows of label ``unknown`` are left out. Rows of the key without a score are a warning;
    where the key has a ``split`` column, only the splits that were scored count.

    Args:
        scores: what a system gave.
        key: what the trials are.
        strict: rows without a score are an error instead.

    Raises:
        ScoreFileError: scored utterances that are not in the key, duplicates on either side,
            labels other than the three, or nothing to evaluate: all problems at once.
    """
    key_ids, ids = [str(i) for i in key.utterance_id], [str(i) for i in scores.utterance_id]
    labels = np.asarray(key.label, dtype=object)
    problems = [*_repeated(key_ids, "the key"), *_repeated(ids, "the scores"), *_unknown_labels(labels)]

    row_of = dict(zip(key_ids, range(len(key_ids)), strict=True))
    rows = np.fromiter((row_of.get(name, -1) for name in ids), dtype=np.int64, count=len(ids))
    found = rows >= 0
    surplus = np.flatnonzero(~found)
    if surplus.size:
        names = _some((ids[i] for i in surplus), surplus.size)
        problems.append(f"{surplus.size:,} scored utterance(s) not in the key: {names}")
    score = np.full(len(key_ids), np.nan)
    score[rows[found]] = scores.score[found]
    scored = np.zeros(len(key_ids), dtype=np.bool_)
    scored[rows[found]] = True

    labelled = np.asarray(labels != UNKNOWN, dtype=np.bool_)
    warnings = []
    n_unknown = int(np.count_nonzero(scored & ~labelled))
    if n_unknown:
        warnings.append(f"{n_unknown:,} scored trial(s) labelled 'unknown' are left out")
    missing, where = _missing(key, scored, labelled)
    if missing.size:
        names = _some((key_ids[i] for i in missing), missing.size)
        (problems if strict else warnings).append(
            f"{missing.size:,} trial(s) of the key{where} have no score: {names}"
        )
    kept = np.flatnonzero(scored & labelled)
    if not kept.size:
        problems.append("no scored utterance has a row labelled bonafide or spoof in the key")
    if problems:
        raise problem_list(scores.source, problems)
    return Trials(
        utterance_id=np.asarray(key.utterance_id)[kept],
        score=score[kept],
        is_bonafide=np.asarray(labels[kept] == BONAFIDE, dtype=np.bool_),
        columns={name: np.asarray(values)[kept] for name, values in key.columns.items()},
        warnings=tuple(warnings),
    )


def align_systems(systems: Mapping[str, Scores], key: Key, *, strict: bool = False) -> dict[str, Trials]:
    """:func:`align` for each system, all of which must have scored the same trials.

    Args:
        systems: name to scores.
        key: what the trials are.
        strict: rows of the key without a score are an error, also where all systems lack them.

    Raises:
        ScoreFileError: trials that some systems scored and others did not, named by system; or
            as for :func:`align`.
    """
    aligned = {name: align(scores, key, strict=strict) for name, scores in systems.items()}
    scored = {name: set(trials.utterance_id.tolist()) for name, trials in aligned.items()}
    everything: dict[str, None] = {
        i: None for trials in aligned.values() for i in trials.utterance_id.tolist()
    }
    problems = []
    for name, ids in scored.items():
        missing = [i for i in everything if i not in ids]
        if missing:
            problems.append(
                f"{name} lacks {len(missing):,} trial(s) that others scored: {_some(missing, len(missing))}"
            )
    if problems:
        raise problem_list("systems are compared on the same trials only", problems)
    return aligned


def _missing(key: Key, scored: BoolArray, labelled: BoolArray) -> tuple[IntArray, str]:
    """Labelled rows without a score, in the splits that were scored; and a phrase naming those."""
    expected = labelled & ~scored
    if "split" not in key.columns:
        return np.flatnonzero(expected), ""
    split = np.asarray([str(value) for value in key.columns["split"]], dtype=object)
    splits = sorted(set(split[scored]))
    in_scored_split = np.fromiter(map(set(splits).__contains__, split), dtype=np.bool_, count=len(split))
    return np.flatnonzero(expected & in_scored_split), f" (split {', '.join(splits)})"


def _repeated(ids: Sequence[str], where: str) -> Iterator[str]:
    if len(set(ids)) != len(ids):
        repeated = [name for name, count in Counter(ids).items() if count > 1]
        names = _some(repeated, len(repeated))
        yield f"{len(repeated):,} utterance(s) occur more than once in {where}: {names}"


def _unknown_labels(labels: NDArray[np.object_]) -> Iterator[str]:
    strange = {label: count for label, count in Counter(labels.tolist()).items() if label not in LABELS}
    if strange:
        found = ", ".join(f"{label!r} ({count:,})" for label, count in islice(strange.items(), IDS_SHOWN))
        yield f"labels in the key other than {', '.join(LABELS)}: {found}"


def _some(names: Iterable[str], n: int) -> str:
    return ", ".join(islice(names, IDS_SHOWN)) + (", …" if n > IDS_SHOWN else "")
