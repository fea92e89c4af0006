"""Copy-synthesis as an augmentation: the same words and voice, made anew, hence no longer bona fide."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from voxfide.augment.base import SEEDS, Augmentation, Drawn
from voxfide.errors import UnknownNameError
from voxfide.resynthesis import ROUTES
from voxfide.types import FloatArray


@dataclass(frozen=True)
class Resynthesis(Augmentation):
    """A route of :mod:`voxfide.resynthesis`; what comes out is labelled spoof.

    Args:
        route: its name.
    """

    name: ClassVar[str] = "resynthesis"
    route: str

    def check(self) -> None:
        try:
            ROUTES[self.route]
        except UnknownNameError as error:
            self.require("route", False, str(error))

    def draw(self, rng: np.random.Generator) -> Drawn:
        return {"seed": int(rng.integers(SEEDS))}

    def process(self, waveform: FloatArray, sample_rate: int, drawn: Drawn) -> FloatArray:
        made = ROUTES[self.route].load()(waveform, sample_rate, np.random.default_rng(drawn["seed"]))
        return made.astype(np.float64)

    def applied(self, drawn: Drawn) -> str:
        return f"{self.name} {self.route}"

    def spoofed_by(self, drawn: Drawn) -> str:
        return self.route
