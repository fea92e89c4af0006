"""Speed perturbation: tempo and pitch together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from voxfide.audio import resample
from voxfide.augment.base import Augmentation, Drawn, Spread
from voxfide.types import FloatArray


@dataclass(frozen=True)
class Speed(Augmentation):
    """Plays the recording faster or slower (Ko, Peddinti, Povey & Khudanpur, Interspeech 2015).

    The only augmentation that changes the length: ``n`` samples become about ``n / factor``.

    Args:
        factor: above 1 is faster and higher.
    """

    name: ClassVar[str] = "speed"
    factor: Spread = Spread(0.9, 1.1)

    def check(self) -> None:
        self.require("factor", 0.25 <= self.factor.low <= self.factor.high <= 4, "0.25 … 4")

    def draw(self, rng: np.random.Generator) -> Drawn:
        return {"factor": self.factor.draw(rng)}

    def process(self, waveform: FloatArray, sample_rate: int, drawn: Drawn) -> FloatArray:
        # Read as if it had been recorded at another rate; a whole number of Hz is exact enough.
        as_if = max(1, round(sample_rate * drawn["factor"]))
        changed = resample(waveform.astype(np.float32), as_if, sample_rate)
        return changed.astype(np.float64) if len(changed) else waveform
