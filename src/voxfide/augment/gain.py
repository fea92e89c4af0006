"""Level changes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from voxfide.augment.base import Augmentation, Drawn, Spread
from voxfide.types import FloatArray


@dataclass(frozen=True)
class Gain(Augmentation):
    """Louder or softer.

    Args:
        db: dB; nothing is clipped, so that peaks may pass ±1.
    """

    name: ClassVar[str] = "gain"
    db: Spread = Spread(-6.0, 6.0)

    def check(self) -> None:
        self.require("db", -120 <= self.db.low <= self.db.high <= 120, "-120 … 120 dB")

    def draw(self, rng: np.random.Generator) -> Drawn:
        return {"db": self.db.draw(rng)}

    def process(self, waveform: FloatArray, sample_rate: int, drawn: Drawn) -> FloatArray:
        return waveform * 10 ** (drawn["db"] / 20)
