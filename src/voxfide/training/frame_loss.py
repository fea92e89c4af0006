"""The loss of frames beside that of utterances, and where the error rates of frames meet."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from voxfide.backends.frames import FramesBackend
from voxfide.metrics import eer
from voxfide.training.frame_labels import GENUINE, SPOOFED, UNLABELLED
from voxfide.training.streams import Batch, FeatureStream, consecutive


@dataclass(frozen=True)
class FrameTargets:
    """What a head that judges frames is taught on a batch.

    The loss of the frames is the mean over both classes of the mean cross-entropy over a class's frames in
    the batch, so that neither outweighs the other however rare it is; a class that the batch lacks is
    left out.

    Attributes:
        utterances: ``(batch,)``; a crop of a spoofed utterance that holds none of its spoofed parts
            counts as bona fide.
        norm: class weights of these, summed over the batches of all processes.
        frames: ``(batch, frames)``.
        weights: of spoofed and bona fide frames, ``(2,)``.
    """

    utterances: Tensor
    norm: Tensor
    frames: Tensor
    weights: Tensor

    @classmethod
    def of(
        cls, batch: Batch, labels: Tensor, class_weights: Tensor, total: Callable[[Tensor], Tensor]
    ) -> FrameTargets | None:
        """The targets of a batch; ``None`` where its frames have no labels.

        Args:
            labels: of the utterances, ``(batch,)``.
            class_weights: of the utterances, ``(2,)``.
            total: the sum of a tensor over all processes.
        """
        frames = batch.frame_labels
        if frames is None:
            return None
        spoofed, genuine = ((frames == value).any(1) for value in (SPOOFED, GENUINE))
        labels = torch.where(genuine & ~spoofed, torch.ones_like(labels), labels)
        norm = total(class_weights[labels].sum())
        counts = total(torch.stack([(frames == value).sum() for value in (SPOOFED, GENUINE)]).float())
        present = counts > 0
        weights = present / (counts.clamp_min(torch.finfo(counts.dtype).tiny) * present.sum().clamp_min(1))
        return cls(labels, norm, frames, weights)

    def loss(self, logits: Tensor, piece: Tensor) -> Tensor:
        """The frames' loss of a piece of the batch, of which those of all pieces add up.

        Args:
            logits: of the frames, ``(piece, frames, 2)``.
            piece: its rows of the batch.
        """
        return F.cross_entropy(
            logits.float().flatten(0, 1),
            self.frames[piece].flatten(),
            self.weights,
            ignore_index=UNLABELLED,
            reduction="sum",
        )


@dataclass
class FrameTally:
    """The same loss over a whole set, batch by batch.

    Attributes:
        sums: cross-entropy of spoofed and of bona fide frames, and their numbers, ``(2, 2)``.
    """

    sums: np.ndarray = field(default_factory=lambda: np.zeros((2, 2)))

    def add(self, logits: Tensor, labels: Tensor) -> None:
        """Adds a batch: logits ``(batch, frames, 2)`` and labels ``(batch, frames)``."""
        losses = F.cross_entropy(
            logits.float().flatten(0, 1), labels.flatten(), ignore_index=UNLABELLED, reduction="none"
        )
        for value in (SPOOFED, GENUINE):
            chosen = losses[labels.flatten() == value]
            self.sums[0, value] += float(chosen.double().sum())
            self.sums[1, value] += len(chosen)

    @staticmethod
    def loss(parts: Sequence[np.ndarray]) -> float:
        """Of the sums of all processes; 0 where no frame is labelled."""
        sums, counts = np.sum(parts, axis=0)
        present = counts > 0
        return float((sums[present] / counts[present]).mean()) if present.any() else 0.0


def fit_threshold(backend: FramesBackend, dev: FeatureStream, batch_size: int) -> dict[str, Any] | None:
    """Sets the threshold of a trained head's frames where their error rates meet.

    Args:
        dev: labelled set, measured without chance.
        batch_size: utterances at a time.

    Returns:
        Threshold, EER in percent, and how many frames are behind it; ``None``, and no threshold, where the
        set's frames have no labels, or all the same one.
    """
    scores, labels = [], []
    for batch in dev.batches(consecutive(len(dev.is_bonafide), batch_size), None):
        if batch.frame_labels is None:
            return None
        found = backend.frame_scores(batch.features[:, : backend.n_layers], batch.lengths)
        known = batch.frame_labels.cpu().numpy()
        chosen = known != UNLABELLED
        scores.append(found[chosen])
        labels.append(known[chosen] == GENUINE)
    is_bonafide = np.concatenate([np.zeros(0, bool), *labels])
    if not is_bonafide.any() or is_bonafide.all():
        return None
    point = eer(np.concatenate(scores), is_bonafide)
    backend.frame_threshold = float(point.accepts_from)
    return {
        "threshold": backend.frame_threshold,
        "eer_percent": 100 * point.value,
        "n_bonafide": int(is_bonafide.sum()),
        "n_spoof": int((~is_bonafide).sum()),
    }
