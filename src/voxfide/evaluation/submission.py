"""A submission to the ASVspoof 5 evaluation page: ``score.tsv`` in a zip file, complete or not at all."""

from __future__ import annotations

import zipfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from voxfide.errors import UsageError
from voxfide.files import replacing
from voxfide.scores import Scores, problem_list, score_text
from voxfide.types import Float64Array, PathLike

MEMBER: Final = "score.tsv"
"""The one file of the zip, as the evaluation page asks for it."""

IDS_SHOWN: Final = 5

_EPOCH: Final = (1980, 1, 1, 0, 0, 0)
"""The earliest time that a zip file can state; always the same, so that the bytes are."""


def complete_scores(scores: Scores, trials: Sequence[str]) -> Float64Array:
    """Scores ``(trials,)`` in the order of the trial list.

    Args:
        scores: of a system.
        trials: ids that are to be scored, all different.

    Raises:
        UsageError: an empty trial list, or one with repeated ids.
        ScoreFileError: trials without a score, scored twice, scored NaN or infinite, or scores of
            what is no trial: all of these, with counts and the first ids.
    """
    repeated = [i for i, count in Counter(trials).items() if count > 1]
    if not trials or repeated:
        raise UsageError(
            "the trial list " + (f"repeats {_some(repeated)}" if repeated else "is empty: nothing to submit")
        )
    ids = [str(i) for i in scores.utterance_id]
    wanted, held = set(trials), set(ids)
    not_finite = [i for i, score in zip(ids, scores.score.tolist(), strict=True) if not np.isfinite(score)]
    found = {
        "have no score": [i for i in trials if i not in held],
        "are scored more than once": [i for i, count in Counter(ids).items() if count > 1],
        "are scored NaN or infinite": not_finite,
        "are scored but not in the trial list": [i for i in dict.fromkeys(ids) if i not in wanted],
    }
    problems = [f"{_some(names)} {what}" for what, names in found.items() if names]
    if problems:
        raise problem_list(f"{scores.source}: no complete submission of {len(trials):,} trials", problems)
    row_of = dict(zip(ids, range(len(ids)), strict=True))
    return scores.score[[row_of[i] for i in trials]]


def write_submission(path: PathLike, scores: Scores, trials: Sequence[str]) -> None:
    """Writes the zip; the same scores and trials give the same bytes.

    Args:
        path: replaced if it exists.
        scores: of a system; higher means more bona fide.
        trials: ids that are to be scored, in the order of the file.

    Raises:
        UsageError: not a ``.zip`` name, or see :func:`complete_scores`.
        ScoreFileError: see :func:`complete_scores`.
    """
    path = Path(path)
    if path.suffix.lower() != ".zip":
        raise UsageError(f"{path}: a submission is a zip file (expected a name that ends in .zip)")
    text = score_text(trials, complete_scores(scores, trials))
    entry = zipfile.ZipInfo(MEMBER, _EPOCH)
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.create_system = 3  # Unix, wherever it is written
    entry.external_attr = 0o644 << 16
    with replacing(path) as temporary, zipfile.ZipFile(temporary, "w") as file:
        file.writestr(entry, text.encode("utf-8"), compresslevel=6)


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(map(repr, names[:IDS_SHOWN])) + (", …" if len(names) > IDS_SHOWN else "")
    return f"{len(names):,} trial(s) ({shown})"
