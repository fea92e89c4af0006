"""How a detector's score of one recording is read: verdict, and probability where it is calibrated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from voxfide.errors import UsageError

if TYPE_CHECKING:
    from voxfide.calibration import CalibrationRecord
    from voxfide.detector import Detection
    from voxfide.detectors import AnyDetector


@dataclass(frozen=True)
class Reading:
    """What scores are held against.

    Attributes:
        threshold: score from which a recording counts as bona fide.
        calibration: of the detector; None if it has none.
        prior: of bona fide, for the probability.
    """

    threshold: float
    calibration: CalibrationRecord | None = None
    prior: float = 0.5

    @classmethod
    def of(cls, detector: AnyDetector, prior: float | None, threshold: float | None) -> Reading:
        """The detector's own reading, but for a stated prior or threshold.

        Raises:
            UsageError: a prior for a detector without a calibration, or one that cannot be.
        """
        record = detector.calibration
        if record is None:
            if prior is not None:
                raise UsageError(
                    "--prior needs a calibrated detector, whose scores are likelihood ratios "
                    "(`voxfide calibrate` makes it one)"
                )
            return cls(detector.threshold if threshold is None else threshold)
        prior = record.prior if prior is None else prior
        limit = record.threshold_at(prior)
        return cls(limit if threshold is None else threshold, record, prior)

    def to_json(self, found: Detection) -> dict[str, Any]:
        """The keys of ``voxfide detect --json``."""
        values: dict[str, Any] = {
            "path": found.path,
            "score": found.score,
            "verdict": found.verdict(self.threshold),
            "duration": found.info.duration,
        }
        if self.calibration is not None:
            probability = self.calibration.probability(found.score, self.prior)
            values |= {"llr": found.score, "probability_bonafide": probability, "prior": self.prior}
        return values

    def to_text(self, found: Detection) -> str:
        """One line for people."""
        verdict = found.verdict(self.threshold)
        name = "score" if self.calibration is None else "log likelihood ratio"
        odds = ""
        if self.calibration is not None:
            probability = self.calibration.probability(found.score, self.prior)
            odds = f", probability of bona fide {probability:.3f} at prior {self.prior:g}"
        score = f"{name} {found.score:+.3f} (bona fide from {self.threshold:+.3f})"
        return f"{found.path}: {verdict}, {score}{odds}, {found.info.duration:.2f} s"
