"""A fitted calibration with what it was fitted to and how it is used: ``calibration.json``."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from voxfide.calibration.base import Calibration
from voxfide.calibration.decision import bayes_threshold, probability_bonafide
from voxfide.calibration.registry import restore_calibration
from voxfide.errors import CheckpointError, UsageError
from voxfide.files import read_json_object, write_atomic
from voxfide.types import PathLike

FORMAT: Final = 1
FILE_NAME: Final = "calibration.json"


@dataclass(frozen=True)
class CalibrationRecord:
    """A calibration as it is stored and used.

    Attributes:
        calibration: fitted.
        prior: of bona fide where the detector is used; probabilities and the default threshold
            follow from it, likelihood ratios do not.
        c_miss: cost of rejecting a bona fide recording.
        c_fa: cost of accepting a spoof.
        fitted_to: the calibration set: manifest, splits, counts, digest.
        figures: Cllr before and after, see :class:`~voxfide.calibration.CalibrationFigures`.
        detector: fingerprint of the uncalibrated detector whose scores it is for; empty for a
            score file's own.
        weights: digest of that detector's trained numbers, checked when it is loaded.
    """

    calibration: Calibration
    prior: float = 0.5
    c_miss: float = 1.0
    c_fa: float = 1.0
    fitted_to: Mapping[str, Any] = field(default_factory=dict)
    figures: Mapping[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    detector: str = ""
    weights: str = ""

    def __post_init__(self) -> None:
        bayes_threshold(self.prior, self.c_miss, self.c_fa)

    @property
    def threshold(self) -> float:
        """The Bayes threshold of the stated prior and costs, in LLR."""
        return self.threshold_at(self.prior)

    def threshold_at(self, prior: float) -> float:
        """The Bayes threshold at another prior, with the stated costs."""
        return bayes_threshold(prior, self.c_miss, self.c_fa)

    def probability(self, llr: float, prior: float | None = None) -> float:
        """Probability of bona fide at a prior, by default the stated one."""
        return float(probability_bonafide(llr, self.prior if prior is None else prior))

    def to_json(self) -> dict[str, Any]:
        """The content of ``calibration.json``."""
        return {
            "format": FORMAT,
            "method": self.calibration.name,
            "config": self.calibration.config(),
            "score": "natural-log likelihood ratio; higher means more bona fide",
            "prior_bonafide": self.prior,
            "c_miss": self.c_miss,
            "c_fa": self.c_fa,
            "threshold": self.threshold,
            "fitted_to": dict(self.fitted_to),
            "figures": dict(self.figures),
            "warnings": list(self.warnings),
            "detector": self.detector,
            "weights_sha256": self.weights,
        }

    def write(self, path: PathLike) -> None:
        """Writes ``calibration.json``, whole or not at all."""
        text = json.dumps(self.to_json(), indent=2, ensure_ascii=False, allow_nan=False)
        write_atomic(Path(path), text + "\n")

    @classmethod
    def from_json(cls, values: Mapping[str, Any], source: str = FILE_NAME) -> CalibrationRecord:
        """What :meth:`to_json` gave.

        Raises:
            CheckpointError: another format, or entries that are missing or cannot be.
        """
        if values.get("format") != FORMAT:
            raise CheckpointError(f"{source}: not a calibration of format {FORMAT}")
        try:
            record = cls(
                restore_calibration(values["method"], dict(values["config"])),
                float(values["prior_bonafide"]),
                float(values["c_miss"]),
                float(values["c_fa"]),
                dict(values["fitted_to"]),
                dict(values["figures"]),
                tuple(map(str, values["warnings"])),
                str(values["detector"]),
                str(values["weights_sha256"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"{source}: missing or malformed entry ({type(error).__name__}: {error})"
            ) from error
        except (CheckpointError, UsageError) as error:
            raise CheckpointError(f"{source}: {error}") from error
        # The threshold is there for people and other programs; what it follows from counts.
        if not math.isclose(record.threshold, float(values.get("threshold", math.nan)), abs_tol=1e-9):
            raise CheckpointError(
                f"{source}: threshold {values.get('threshold')!r} does not follow from the stated prior and "
                f"costs (expected {record.threshold})"
            )
        return record

    @classmethod
    def read(cls, path: PathLike) -> CalibrationRecord:
        """Reads ``calibration.json``.

        Raises:
            CheckpointError: unreadable or malformed.
        """
        return cls.from_json(read_json_object(Path(path)), str(path))
