"""Back-end that judges every frame, and the utterance by all of them: says where speech is spoofed.

After the single-resolution countermeasure of L. Zhang, X. Wang, E. Cooper, J. Yamagishi, "The
PartialSpoof database and countermeasures for the detection of short fake speech segments embedded
in an utterance", IEEE/ACM TASLP 31, 2023: frame and utterance are trained together. The network is
smaller than theirs (two dilated convolutions in place of gated MLPs), and frames are pooled by the
log-mean-exp of P. O. Pinheiro, R. Collobert, "From image-level to pixel-level labeling with
convolutional networks", CVPR 2015, so that a few spoofed frames make a spoofed utterance.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from voxfide.backends.layer_weighting import LayerStatistics, LayerWeighting
from voxfide.backends.layerwise import LayerwiseBackend
from voxfide.backends.masking import MaskedBatchNorm, check_lengths, length_mask
from voxfide.errors import UsageError
from voxfide.types import Float64Array

KERNEL = 5
"""Frames that a convolution sees, before dilation."""

DILATIONS = (1, 4)
"""Of the two convolutions: a frame is judged with ten frames on either side of it."""


class TemporalConvolution(nn.Module):
    """``x + relu(conv(x))``, each utterance as if zeros stood around it."""

    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        reach = dilation * (KERNEL // 2)
        self.conv = nn.Conv1d(width, width, KERNEL, padding=reach, dilation=dilation)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """``(batch, width, frames)`` of the same; what stands beyond a length is 0 in and out."""
        y = x + F.relu(self.conv(x))
        return y if mask is None else y.masked_fill(~mask, 0)


def log_mean_exp(x: Tensor, lengths: Tensor, mask: Tensor | None) -> Tensor:
    """``log(mean over valid frames of exp x)``, ``(batch,)`` of ``x (batch, frames)``: a soft maximum."""
    if mask is not None:
        x = x.masked_fill(~mask, -torch.inf)
    return x.logsumexp(1) - lengths.log()


class FramesHead(nn.Module):
    """Weighted layers, one ReLU layer, two convolutions over time, two logits a frame, pooled."""

    def __init__(self, layers: LayerWeighting, dim: int, hidden: int) -> None:
        super().__init__()
        self.layers = layers
        self.enter = nn.Linear(dim, hidden)
        self.norm = MaskedBatchNorm(hidden)
        self.convolutions = nn.ModuleList(TemporalConvolution(hidden, dilation) for dilation in DILATIONS)
        self.out = nn.Linear(hidden, 2)
        self.offset = nn.Parameter(torch.zeros(2))

    def forward(
        self,
        features: Tensor,
        lengths: Tensor,
        statistics: LayerStatistics | None = None,
        *,
        with_frames: bool = False,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Logits ``(batch, 2)`` of ``features (batch, layers, frames, dim)``; see :class:`NeuralBackend`.

        Args:
            with_frames: give the logits of the frames ``(batch, frames, 2)`` too, which beyond a length
                mean nothing.
        """
        check_lengths(features, lengths)
        mask = length_mask(lengths, features.shape[2])
        frames = self._frames(self.layers(features, lengths, statistics), mask)
        pooled = self._pooled(frames, lengths, mask)
        return (pooled, frames) if with_frames else pooled

    def _frames(self, x: Tensor, mask: Tensor | None) -> Tensor:
        x = self.enter(x).relu().transpose(1, 2)
        channels = None if mask is None else mask[:, None]
        if channels is not None:  # whatever the padding holds
            x = x.masked_fill(~channels, 0)
        x = self.norm(x, channels)
        if channels is not None:
            x = x.masked_fill(~channels, 0)
        for convolution in self.convolutions:
            x = convolution(x, channels)
        logits: Tensor = self.out(x.transpose(1, 2))
        return logits

    def _pooled(self, frames: Tensor, lengths: Tensor, mask: Tensor | None) -> Tensor:
        """Spoof as far as any frame is, bona fide as far as every frame is: soft maximum and soft minimum."""
        frames = frames.float()
        spoof = log_mean_exp(frames[..., 0], lengths, mask)
        bonafide = -log_mean_exp(-frames[..., 1], lengths, mask)
        return torch.stack([spoof, bonafide], dim=1) + self.offset


@dataclass(eq=False)
class FramesBackend(LayerwiseBackend):
    """Two logits a frame, pooled to the utterance.

    No public code is matched: ``variant=reference`` differs from ``paper`` in what a score is, no more.

    Args:
        frame_weight: of the frames' cross-entropy beside the utterance's, in training on a manifest with
            ``segments``; 0 trains on the labels of the utterances alone.
        frame_threshold: frame score from which a frame counts as bona fide. Set by training, where the
            error rates of the development set's frames meet; ``None`` where there were no frame labels,
            and the scores of frames therefore mean little.
    """

    name: ClassVar[str] = "frames"
    reference_names: ClassVar[dict[str, str]] = {}

    frame_weight: float = 1.0
    frame_threshold: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.frame_weight = self._number("frame_weight", self.frame_weight)
        if self.frame_weight < 0:
            raise UsageError(f"{self.name}: frame_weight={self.frame_weight} (expected a number from 0)")
        if self.frame_threshold is not None:
            self.frame_threshold = self._number("frame_threshold", self.frame_threshold)

    @property
    def frame_loss_weight(self) -> float:
        return self.frame_weight

    def make_head(self, n_layers: int, dim: int) -> FramesHead:
        return FramesHead(self.make_weighting(n_layers), dim, self.hidden)

    def frame_scores(self, features: Tensor, lengths: Tensor) -> Float64Array:
        """Log odds of bona fide of every frame ``(batch, frames)``, NaN beyond each length.

        At equal weights of the classes, as frames are trained: a log likelihood ratio, uncalibrated. An
        utterance gets the same scores, to rounding, alone and in any batch.

        Args:
            features: ``(batch, layers, frames, dim)``; cast to float32 on the head's device.
            lengths: ``(batch,)`` valid frames, at least one each.

        Raises:
            UsageError: not built, or lengths that cannot be.
        """
        head, device = self._built("score with"), self.device
        was_training = head.training
        head.eval()
        try:
            with torch.inference_mode():
                _, frames = head(features.to(device, torch.float32), lengths.to(device), with_frames=True)
        finally:
            head.train(was_training)
        scores = np.asarray((frames[..., 1] - frames[..., 0]).cpu().numpy(), np.float64)
        scores[np.arange(scores.shape[1]) >= lengths.cpu().numpy()[:, None]] = np.nan
        return scores
