"""Scores of training utterances by back-ends that never saw their group: what new sources may expect."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np

from voxfide.backends import create_backend
from voxfide.backends.base import Backend
from voxfide.calibration.folds import deal_folds
from voxfide.types import BoolArray, Float64Array

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class OutOfFold:
    """Scores of a training set, each by a back-end trained without its group.

    Attributes:
        utterance_ids: in the order of the training set.
        scores: ``(utterances,)``.
        is_bonafide: ``(utterances,)``.
        column: whose values were left out together.
        n_folds: how many parts there were.
    """

    utterance_ids: list[str]
    scores: Float64Array
    is_bonafide: BoolArray
    column: str
    n_folds: int


def out_of_fold(
    backend: Backend,
    features: np.ndarray,
    is_bonafide: BoolArray,
    groups: np.ndarray,
    weights: Float64Array | None,
    n_folds: int,
    seed: int = 0,
) -> tuple[Float64Array, int]:
    """Scores ``(utterances,)`` by back-ends fitted to the other folds, and the number of folds.

    Utterances of one group, such as a source of recordings, are left out together: speakers, rooms and
    systems that come from one place are alike, and who knows one of them knows half of the others. Such
    scores part the classes less well than those on the training set, as those of new recordings do.

    Args:
        backend: its options are used; it is left as it is.
        features: ``(utterances, layers, dim)``.
        is_bonafide: ``(utterances,)``.
        groups: ``(utterances,)`` names.
        weights: ``(utterances,)`` of :meth:`Backend.fit`, or ``None``.
        n_folds: at most this many; fewer where a class has fewer groups.
        seed: of the division.

    Raises:
        UsageError: a class that only one group holds.
    """
    fold = deal_folds(is_bonafide, n_folds, groups=groups, seed=seed)
    scores = np.zeros(len(fold))
    numbers = np.unique(fold)
    for number in numbers:
        left_out = fold == number
        part = create_backend(backend.name, **backend.config())
        part.fit(features[~left_out], is_bonafide[~left_out], None if weights is None else weights[~left_out])
        scores[left_out] = part.score(features[left_out])
        log.info("fold %d of %d: %d utterances", number + 1, len(numbers), np.count_nonzero(left_out))
    return scores, len(numbers)
