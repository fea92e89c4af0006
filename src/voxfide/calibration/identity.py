"""No change: for scores that are log likelihood ratios already."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Self

from numpy.typing import ArrayLike

from voxfide.calibration.base import Calibration, check_numbers
from voxfide.metrics.trials import check_trials
from voxfide.types import Float64Array


@dataclass(eq=False)
class IdentityCalibration(Calibration):
    """Scores as they are, taken at their word."""

    name: ClassVar[str] = "identity"

    def fit(self, scores: ArrayLike, is_bonafide: ArrayLike) -> Self:
        """Checks the trials; there is nothing to fit."""
        check_trials(scores, is_bonafide)
        return self

    def apply(self, scores: ArrayLike) -> Float64Array:
        return check_numbers(scores)

    def config(self) -> dict[str, Any]:
        return {}

    @classmethod
    def restore(cls, config: dict[str, Any]) -> Self:
        return cls()

    def describe(self) -> str:
        return "llr = score"

    @property
    def is_flat(self) -> bool:
        return False
