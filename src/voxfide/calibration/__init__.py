"""Calibration: scores of any scale to natural-log likelihood ratios (LLRs), and what follows from them.

An LLR compares how well "bona fide" and "spoof" explain the score and holds whatever their
proportions; with a stated prior it gives a probability, with costs a threshold
(N. Brümmer, J. du Preez, "Application-independent evaluation of speaker detection", 2006).

To add a method, write a class on :class:`~voxfide.calibration.base.Calibration` and
register a spec here; contract tests pick it up.
"""

from __future__ import annotations

from voxfide.calibration.assess import CalibrationFigures, CrossValidated, calibrate, cross_validate
from voxfide.calibration.base import Calibration
from voxfide.calibration.decision import bayes_threshold, probability_bonafide
from voxfide.calibration.record import CalibrationRecord
from voxfide.calibration.registry import (
    CALIBRATIONS,
    CalibrationSpec,
    create_calibration,
    restore_calibration,
)

__all__ = [
    "CALIBRATIONS",
    "Calibration",
    "CalibrationFigures",
    "CalibrationRecord",
    "CalibrationSpec",
    "CrossValidated",
    "bayes_threshold",
    "calibrate",
    "create_calibration",
    "cross_validate",
    "probability_bonafide",
    "restore_calibration",
]
