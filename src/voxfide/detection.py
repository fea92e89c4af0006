"""What a detector of any kind says of one recording."""

from __future__ import annotations

from dataclasses import dataclass

from voxfide.audio import AudioInfo
from voxfide.types import BONAFIDE, SPOOF


@dataclass(frozen=True)
class Detection:
    """What a detector says of one recording.

    Attributes:
        score: higher = more bona fide; of a calibrated detector, a natural-log likelihood ratio.
        info: what the decoder found.
    """

    path: str
    score: float
    info: AudioInfo

    def verdict(self, threshold: float) -> str:
        """``bonafide`` at or above the threshold, else ``spoof``."""
        return BONAFIDE if self.score >= threshold else SPOOF
