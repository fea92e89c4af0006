"""Figures of pre-training over some steps."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from voxfide.training.pretrain_model import Predictions

if TYPE_CHECKING:
    from accelerate import Accelerator


@dataclass
class Tally:
    """Sums over the steps since the last entry of the journal; plain numbers, to be kept in checkpoints.

    Attributes:
        steps, utterances, seconds: done; of audio. But for steps and norm, sums are those of this process.
        frames, loss, hits: of masked frames (0) and the others (1).
        penalty, norm: of the features and the gradient, summed over steps.
        predicted, wanted: masked frames by cluster.
    """

    steps: int = 0
    utterances: int = 0
    seconds: float = 0.0
    frames: list[int] = field(default_factory=lambda: [0, 0])
    loss: list[float] = field(default_factory=lambda: [0.0, 0.0])
    hits: list[int] = field(default_factory=lambda: [0, 0])
    penalty: float = 0.0
    norm: float = 0.0
    predicted: list[int] = field(default_factory=list)
    wanted: list[int] = field(default_factory=list)

    def add(self, made: Predictions, labels: torch.Tensor, losses: torch.Tensor, share: float = 1.0) -> None:
        """Counts the predictions of a step, or of a part of it.

        Args:
            labels, losses: ``(frames,)``.
            share: of the step's frames.
        """
        clusters = made.logits.shape[1]
        best = made.logits.argmax(dim=1)
        for i, chosen in enumerate((made.mask, ~made.mask)):
            self.frames[i] += int(chosen.sum())
            self.loss[i] += float(losses[chosen].sum(dtype=torch.float64))
            self.hits[i] += int((best == labels)[chosen].sum())
        self.predicted = _added(self.predicted, best[made.mask], clusters)
        self.wanted = _added(self.wanted, labels[made.mask], clusters)
        self.penalty += share * float(made.penalty)

    def of_all(self, accelerator: Accelerator) -> Tally:
        """The sums of all processes, each of which has counted its own parts of the same steps."""
        from accelerate.utils import gather_object

        if accelerator.num_processes == 1:
            return self
        first, *others = gather_object([asdict(self)])
        for part in others:
            for name in ("utterances", "seconds", "penalty"):
                first[name] += part[name]
            for name in ("frames", "loss", "hits", "predicted", "wanted"):
                first[name] = _sums(first[name], part[name])
        return Tally(**first)

    def without_parts(self) -> Tally:
        """What all processes count alike: for those but the first, where a run goes on."""
        return Tally(steps=self.steps, norm=self.norm)

    def figures(self) -> dict[str, Any]:
        """What the journal says.

        ``majority`` is the accuracy of always naming the commonest cluster; perplexities are those of
        the clusters that were named and of those that were right: how many are in use, in effect.
        """
        masked, others = max(1, self.frames[0]), max(1, self.frames[1])
        return {
            "loss_masked": self.loss[0] / masked,
            "loss_unmasked": self.loss[1] / others,
            "accuracy_masked": self.hits[0] / masked,
            "accuracy_unmasked": self.hits[1] / others,
            "majority": max(self.wanted, default=0) / masked,
            "perplexity_predicted": perplexity(self.predicted),
            "perplexity_targets": perplexity(self.wanted),
            "masked_share": self.frames[0] / max(1, sum(self.frames)),
            "feature_penalty": self.penalty / max(1, self.steps),
            "gradient_norm": self.norm / max(1, self.steps),
        }


def _added(counts: list[int], chosen: torch.Tensor, clusters: int) -> list[int]:
    found = torch.bincount(chosen, minlength=clusters).tolist()
    return [a + b for a, b in zip(counts or [0] * clusters, found, strict=True)]


def _sums(one: list[Any], other: list[Any]) -> list[Any]:
    """Of lists of which either may be empty."""
    return [a + b for a, b in zip(one, other, strict=True)] if one and other else one or other


def perplexity(counts: list[int]) -> float:
    """Exponential of the entropy of a distribution, given as counts; 0 of nothing."""
    total = sum(counts)
    if not total:
        return 0.0
    share = np.array([c for c in counts if c]) / total
    return math.exp(-float((share * np.log(share)).sum()))
