"""The calibration protocol: ``fit``, ``apply``, and a state of plain numbers to save and load."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike

from voxfide.errors import CheckpointError, UsageError
from voxfide.types import Float64Array


@dataclass(eq=False)
class Calibration(ABC):
    """Scores to natural-log likelihood ratios, never reversing the order of two scores.

    Subclasses are dataclasses whose ``init`` fields are the options.

    Attributes:
        warnings: what a user of the fitted calibration has to know.
    """

    name: ClassVar[str]
    warnings: tuple[str, ...] = field(default=(), init=False)

    @classmethod
    def from_options(cls, options: dict[str, Any]) -> Self:
        """Checks names; values are the constructor's to check."""
        known = sorted(f.name for f in fields(cls) if f.init)
        unknown = sorted(set(options) - set(known))
        if unknown:
            raise UsageError(
                f"calibration {cls.name} has no option {', '.join(unknown)} "
                f"(options: {', '.join(known) or 'none'})"
            )
        return cls(**options)

    @abstractmethod
    def fit(self, scores: ArrayLike, is_bonafide: ArrayLike) -> Self:
        """Fits to ``scores (trials,)`` with their classes ``(trials,)`` and returns itself.

        Raises:
            UsageError: see :func:`voxfide.metrics.trials.check_trials`.
        """

    @abstractmethod
    def apply(self, scores: ArrayLike) -> Float64Array:
        """Natural-log likelihood ratios of ``scores``, in the same shape.

        Raises:
            UsageError: not fitted yet.
        """

    @abstractmethod
    def config(self) -> dict[str, Any]:
        """Options and fitted numbers, JSON-safe.

        Raises:
            UsageError: not fitted yet.
        """

    @classmethod
    @abstractmethod
    def restore(cls, config: dict[str, Any]) -> Self:
        """The fitted calibration that gave ``config``.

        Raises:
            CheckpointError: entries that are missing or cannot be.
        """

    @abstractmethod
    def describe(self) -> str:
        """What it does to a score, in a line."""

    @property
    @abstractmethod
    def is_flat(self) -> bool:
        """Whether every score gets the same likelihood ratio, so that nothing is told apart."""


def check_prior(prior: float, what: str = "prior") -> float:
    """The prior probability of bona fide; :class:`UsageError` unless strictly between 0 and 1."""
    try:
        value = float(prior)
    except (TypeError, ValueError):
        raise UsageError(f"{what} is {prior!r}; expected a probability between 0 and 1") from None
    if not 0 < value < 1:
        raise UsageError(f"{what} is {prior}; expected a probability between 0 and 1, both excluded")
    return value


def check_numbers(scores: ArrayLike) -> Float64Array:
    """Scores as float64; :class:`UsageError` where one is NaN or infinite."""
    values = np.asarray(scores, dtype=np.float64)
    n_bad = int(np.count_nonzero(~np.isfinite(values)))
    if n_bad:
        raise UsageError(f"{n_bad:,} of {values.size:,} scores are NaN or infinite")
    return values


def not_fitted(name: str) -> UsageError:
    return UsageError(f"calibration {name} is not fitted yet (expected fit first)")


def need_number(config: dict[str, Any], key: str, name: str) -> float:
    """A finite number of a stored calibration, or a :class:`CheckpointError`."""
    value = config.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise CheckpointError(f"calibration {name}: {key} is {value!r} (expected a finite number)")
    return float(value)
