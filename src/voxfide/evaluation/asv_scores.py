"""The organisers' speaker verification (ASV) scores, which tandem figures are computed with.

Read, white-space separated and without a header, by number of columns:

- 3: ``attack kind score`` (ASVspoof 2019, ``ASVspoof2019.LA.asv.eval.gi.trl.scores.txt``);
- 6: ``attack … … … kind score`` (the 2019 t-DCF package);
- 3 with a key beside: ``speaker trial score`` and the ASV ``trial_metadata.txt`` of ASVspoof
  2021, line by line;
- 9: that key and its scores in one file.

``kind`` is ``target``, ``nontarget`` or ``spoof``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np

from voxfide.errors import ScoreFileError
from voxfide.evaluation.alignment import StrArray
from voxfide.metrics.asv import NONTARGET, SPOOF, TARGET, ThreeClasses
from voxfide.scores import problem_list, read_lines
from voxfide.types import BoolArray, Float64Array, PathLike

KEY_NAME: Final = "trial_metadata.txt"

_KINDS: Final = frozenset((TARGET, NONTARGET, SPOOF))

_KEY_FORM: Final = {"codec": 2, "transmission": 3, "attack": 4, "kind": 5, "subset": 7}
_FORMS: Final[Mapping[int, Mapping[str, int]]] = {
    3: {"attack": 0, "kind": 1},
    6: {"attack": 0, "kind": 4},
    9: _KEY_FORM,
}


@dataclass(frozen=True)
class AsvTrials:
    """ASV scores with what is known of their trials, ``(trials,)`` each.

    Attributes:
        score: higher for the claimed speaker.
        kind: ``target``, ``nontarget`` or ``spoof``.
        columns: ``attack`` and, from ASVspoof 2021, ``codec``, ``transmission`` and ``subset``.
    """

    score: Float64Array
    kind: StrArray
    columns: Mapping[str, StrArray] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.score)

    def select(self, rows: BoolArray) -> AsvTrials:
        """Only the trials marked in ``rows (trials,)``."""
        return AsvTrials(self.score[rows], self.kind[rows], {n: v[rows] for n, v in self.columns.items()})

    def classes(self) -> ThreeClasses:
        """The scores of each kind; a :class:`~voxfide.errors.UsageError` where one is missing."""
        return ThreeClasses.of(self.score, self.kind)


def read_asv_scores(path: PathLike, key: PathLike | None = None) -> AsvTrials:
    """Reads ASV scores in one of the forms above.

    Args:
        path: the scores.
        key: the ASV key of ASVspoof 2021; by default the ``trial_metadata.txt`` in the folder of
            the scores or the one above, where the scores themselves do not say the kinds.

    Raises:
        ScoreFileError: malformed lines, an unknown form, or a key of other trials.
    """
    path = Path(path)
    rows = _rows(path)
    width = len(rows[0])
    if width == 3 and key is None and rows[0][1] not in _KINDS:
        key = next((k for k in (path.parent / KEY_NAME, path.parent.parent / KEY_NAME) if k.is_file()), None)
        if key is None:
            raise ScoreFileError(
                f"{path}: scores without kinds (target, nontarget, spoof) need their key, {KEY_NAME}"
            )
    if key is not None:
        rows, width = _with_key(rows, path, Path(key)), 9
    if width not in _FORMS:
        raise ScoreFileError(f"{path}: lines of {width} columns; expected 3, 6 or 9")
    form = _FORMS[width]
    columns = {name: np.array([row[i] for row in rows], dtype=object) for name, i in form.items()}
    kind = columns.pop("kind")
    return AsvTrials(_numbers([row[-1] for row in rows], kind, path), kind, columns)


def _rows(path: Path) -> list[list[str]]:
    rows = [line.split() for line in read_lines(path)]
    numbered = [(i, row) for i, row in enumerate(rows, start=1) if row]
    if not numbered:
        raise ScoreFileError(f"{path}: the file is empty")
    width = len(numbered[0][1])
    problems = [
        f"line {i}: {len(row)} column(s), expected {width}" for i, row in numbered if len(row) != width
    ]
    if problems:
        raise problem_list(str(path), problems)
    return [row for _, row in numbered]


def _with_key(rows: list[list[str]], path: Path, key: Path) -> list[list[str]]:
    """Key columns followed by the score, for each line of both files."""
    known = _rows(key)
    if len(known[0]) != 8 or len(rows[0]) != 3:
        raise ScoreFileError(f"{path}, {key}: expected scores of 3 columns and a key of 8")
    if len(known) != len(rows):
        raise ScoreFileError(f"{path}: {len(rows):,} scores for the {len(known):,} trials of {key}")
    problems = [
        f"line {i}: trial {row[1]!r}, the key has {k[1]!r}"
        for i, (row, k) in enumerate(zip(rows, known, strict=True), start=1)
        if row[1] != k[1]
    ]
    if problems:
        raise problem_list(str(path), problems)
    return [[*k, row[2]] for k, row in zip(known, rows, strict=True)]


def _numbers(texts: list[str], kind: StrArray, path: Path) -> Float64Array:
    strange = sorted(set(kind.tolist()) - _KINDS)
    if strange:
        raise ScoreFileError(f"{path}: kinds other than target, nontarget, spoof: {', '.join(strange[:5])}")
    try:
        return np.array(list(map(float, texts)))
    except ValueError as error:
        raise ScoreFileError(f"{path}: {error}") from error
