"""Augmentations made of others: one of several, one after the other, or perhaps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from voxfide.augment.base import Augmentation, Drawn
from voxfide.types import FloatArray


@dataclass(frozen=True)
class OneOf(Augmentation):
    """One of several, drawn for every utterance.

    Args:
        of: the candidates.
        weights: their relative probabilities; equal where left out.
    """

    name: ClassVar[str] = "one-of"
    of: tuple[Augmentation, ...]
    weights: tuple[float, ...] = ()

    def check(self) -> None:
        self.require("of", len(self.of) >= 1, "at least one")
        good = not self.weights or (len(self.weights) == len(self.of) and sum(self.weights) > 0)
        self.require("weights", good and min(self.weights, default=0) >= 0, "one for each, not negative")

    def draw(self, rng: np.random.Generator) -> Drawn:
        odds = np.array(self.weights) / sum(self.weights) if self.weights else None
        choice = int(rng.choice(len(self.of), p=odds))
        return {"choice": choice, "of": self.of[choice].draw(rng)}

    def process(self, waveform: FloatArray, sample_rate: int, drawn: Drawn) -> FloatArray:
        return self.of[drawn["choice"]].process(waveform, sample_rate, drawn["of"])

    def applied(self, drawn: Drawn) -> str:
        return self.of[drawn["choice"]].applied(drawn["of"])

    def spoofed_by(self, drawn: Drawn) -> str:
        return self.of[drawn["choice"]].spoofed_by(drawn["of"])


@dataclass(frozen=True)
class Chain(Augmentation):
    """One after the other.

    Args:
        of: in this order.
    """

    name: ClassVar[str] = "chain"
    of: tuple[Augmentation, ...]

    def check(self) -> None:
        self.require("of", len(self.of) >= 1, "at least one")

    def draw(self, rng: np.random.Generator) -> Drawn:
        return {"of": [step.draw(rng) for step in self.of]}

    def process(self, waveform: FloatArray, sample_rate: int, drawn: Drawn) -> FloatArray:
        for step, of_step in zip(self.of, drawn["of"], strict=True):
            waveform = step.process(waveform, sample_rate, of_step)
        return waveform

    def applied(self, drawn: Drawn) -> str:
        words = (step.applied(of_step) for step, of_step in zip(self.of, drawn["of"], strict=True))
        return " + ".join(word for word in words if word)

    def spoofed_by(self, drawn: Drawn) -> str:
        names = (step.spoofed_by(of_step) for step, of_step in zip(self.of, drawn["of"], strict=True))
        return "+".join(name for name in names if name)


@dataclass(frozen=True)
class Maybe(Augmentation):
    """With a probability.

    Args:
        of: what may be done.
        p: how probably, 0 … 1.
    """

    name: ClassVar[str] = "maybe"
    of: Augmentation
    p: float = 0.5

    def check(self) -> None:
        self.require("p", 0 <= self.p <= 1, "0 … 1")

    def draw(self, rng: np.random.Generator) -> Drawn:
        # The inner decisions are made in any case: what follows in a chain does not depend on ours.
        done, inner = bool(rng.random() < self.p), self.of.draw(rng)
        return {"of": inner} if done else {}

    def process(self, waveform: FloatArray, sample_rate: int, drawn: Drawn) -> FloatArray:
        return self.of.process(waveform, sample_rate, drawn["of"]) if drawn else waveform

    def applied(self, drawn: Drawn) -> str:
        return self.of.applied(drawn["of"]) if drawn else ""

    def spoofed_by(self, drawn: Drawn) -> str:
        return self.of.spoofed_by(drawn["of"]) if drawn else ""
