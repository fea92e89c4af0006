"""The parts of a cross-validation: which trials are left out together."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from voxfide.errors import UsageError
from voxfide.types import BoolArray, IntArray


def deal_folds(
    is_bonafide: BoolArray, n_folds: int, *, groups: ArrayLike | None = None, seed: int = 0
) -> IntArray:
    """``(trials,)`` number of the fold that each trial is left out in.

    Folds hold about equally many trials of each class; whole groups are dealt out, the
    largest first, where groups are given. Where there are fewer trials of a class, or groups,
    than folds, there are fewer folds.

    Args:
        is_bonafide: ``(trials,)``.
        n_folds: at least 2.
        groups: ``(trials,)`` names, such as speakers, that are not to be divided.
        seed: of the division.

    Raises:
        UsageError: fewer than 2 folds; groups of another length; a class that only one trial
            or one group holds, so that some fold leaves nothing to be fitted to.
    """
    if n_folds < 2:
        raise UsageError(f"{n_folds} folds; expected at least 2 (or 0 for no cross-validation)")
    units = _units(groups, len(is_bonafide))
    return _deal(units, is_bonafide, n_folds, np.random.default_rng(seed))


def _units(groups: ArrayLike | None, n_trials: int) -> IntArray:
    """``(trials,)`` numbers of what is dealt out as a whole; without groups, every trial by itself."""
    if groups is None:
        return np.arange(n_trials)
    names = np.asarray(groups)
    if names.shape != (n_trials,):
        raise UsageError(f"groups of shape {names.shape} for {n_trials:,} trials: expected ({n_trials},)")
    return np.unique(names.astype(str), return_inverse=True)[1].astype(np.int64)


def _deal(units: IntArray, labels: BoolArray, n_folds: int, generator: np.random.Generator) -> IntArray:
    """``(trials,)`` fold of each trial, so that every fold leaves trials of both classes."""
    n_units = int(units.max()) + 1
    counts = np.stack([np.bincount(units[part], minlength=n_units) for part in (labels, ~labels)], axis=1)
    n_folds = min(n_folds, *(int(np.count_nonzero(counts[:, c])) for c in (0, 1)))
    if n_folds < 2:
        raise UsageError(
            "a class has all of its trials in one group (or only one trial), so nothing of it can be left "
            "out: no cross-validation (folds 0)"
        )
    if counts.max() == 1 and counts.sum() == n_units:  # every trial by itself: deal each class in turn
        fold = np.empty(n_units, dtype=np.int64)
        start = 0
        for part in (labels, ~labels):
            members = generator.permutation(np.flatnonzero(part))
            fold[members] = (start + np.arange(len(members))) % n_folds
            start += len(members)
        return fold
    shares = counts / counts.sum(axis=0)
    order = generator.permutation(n_units)
    order = order[np.argsort(-shares[order].sum(axis=1), kind="stable")]
    filled = np.zeros((n_folds, 2))
    fold_of = np.empty(n_units, dtype=np.int64)
    for unit in order:
        # The fold that would be least full, in the fuller of its classes.
        after = (filled + shares[unit]) * (shares[unit] > 0)
        fold_of[unit] = int(np.argmin(after.max(axis=1) + 1e-9 * filled.sum(axis=1)))
        filled[fold_of[unit]] += shares[unit]
    return fold_of[units]
