"""The methods of calibration by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from voxfide.calibration.base import Calibration
from voxfide.registry import Registry, load_object


@dataclass(frozen=True)
class CalibrationSpec:
    """One registry line. ``place`` names the class.

    Attributes:
        prior_weighted: whether it has an option ``prior``, at which it is fitted.
    """

    name: str
    summary: str
    place: str
    prior_weighted: bool = False
    citation: str = ""


CALIBRATIONS: Registry[CalibrationSpec] = Registry("calibration")

_C = "voxfide.calibration"
for _spec in (
    CalibrationSpec(
        "affine",
        "scale and offset, by prior-weighted logistic regression",
        f"{_C}.affine:AffineCalibration",
        prior_weighted=True,
        citation="Brümmer and du Preez 2006",
    ),
    CalibrationSpec(
        "temperature",
        "scale only, by prior-weighted logistic regression",
        f"{_C}.affine:TemperatureCalibration",
        prior_weighted=True,
        citation="Guo et al. 2017",
    ),
    CalibrationSpec(
        "isotonic",
        "any rising step function, by pool adjacent violators",
        f"{_C}.isotonic:IsotonicCalibration",
        citation="Brümmer and du Preez 2006; Zadrozny and Elkan 2002",
    ),
    CalibrationSpec(
        "identity",
        "scores as they are: they are said to be log likelihood ratios already",
        f"{_C}.identity:IdentityCalibration",
    ),
):
    CALIBRATIONS.register(_spec)


def create_calibration(name: str, **options: Any) -> Calibration:
    """Makes a calibration that is not fitted yet.

    Raises:
        UnknownNameError: not registered.
        UsageError: an option that it does not have, or a value that cannot work.
    """
    made: Calibration = load_object(CALIBRATIONS[name].place).from_options(options)
    return made


def restore_calibration(name: str, config: dict[str, Any]) -> Calibration:
    """A fitted calibration from what its :meth:`Calibration.config` gave.

    Raises:
        UnknownNameError: not registered.
        CheckpointError: entries that are missing or cannot be.
    """
    restored: Calibration = load_object(CALIBRATIONS[name].place).restore(config)
    return restored
