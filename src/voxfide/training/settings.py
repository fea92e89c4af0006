"""How back-ends are trained on frozen front-ends."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

from voxfide.crops import Crop
from voxfide.errors import UsageError


@dataclass(frozen=True)
class TrainSettings:
    """Settings of the layer-wise study (El Kheir et al. 2025), which are the defaults.

    Args:
        epochs: at most.
        batch_size: utterances in a batch, over all processes.
        learning_rate: of Adam, constant.
        weight_decay: of Adam, added to the gradient.
        patience: epochs without a better development loss after which a head stops.
        class_weights: of spoof and of bona fide in the cross-entropy.
        crop: what the front-end sees of an utterance; measured from the start.
        seed: of the order of the batches, of random crops and of augmentation. Every head has a seed
            of its own, for its first weights and its dropout.
        accumulation: pieces in which a batch is worked off, to save memory. The gradient is that of
            the whole batch, but batch normalisation sees a piece at a time.

    Raises:
        UsageError: values that cannot be; all at once.
    """

    epochs: int = 50
    batch_size: int = 32
    learning_rate: float = 1e-4
    weight_decay: float = 1e-4
    patience: int = 10
    class_weights: tuple[float, float] = (0.1, 0.9)
    crop: Crop = field(default_factory=Crop)
    seed: int = 0
    accumulation: int = 1

    def __post_init__(self) -> None:
        problems = [
            f"{name} {value} (expected at least {least})"
            for name, value, least in (
                ("epochs", self.epochs, 1),
                ("batch size", self.batch_size, 2),
                ("patience", self.patience, 1),
                ("seed", self.seed, 0),
                ("accumulation", self.accumulation, 1),
            )
            if value < least
        ]
        if not 0 < self.learning_rate < math.inf:
            problems.append(f"learning rate {self.learning_rate} (expected a positive number)")
        if not 0 <= self.weight_decay < math.inf:
            problems.append(f"weight decay {self.weight_decay} (expected a number from 0)")
        if len(self.class_weights) != 2 or not all(0 < w < math.inf for w in self.class_weights):
            problems.append(f"class weights {self.class_weights} (expected two positive numbers)")
        if self.accumulation > self.batch_size:
            problems.append(f"accumulation {self.accumulation} exceeds the batch size {self.batch_size}")
        if problems:
            raise UsageError("training: " + "; ".join(problems))

    def to_json(self) -> dict[str, Any]:
        """What determines the outcome, JSON-safe."""
        values = asdict(self)
        values["class_weights"] = list(self.class_weights)
        return values
