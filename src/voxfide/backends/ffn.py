"""Feed-forward back-end on weighted layer features, with attentive statistics pooling.

Y. El Kheir et al., "Comprehensive layer-wise analysis of SSL models for audio deepfake
detection", Findings of NAACL 2025; K. Okabe, T. Koshinaka, K. Shinoda, "Attentive statistics
pooling for deep speaker embedding", Interspeech 2018.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from voxfide.backends.layer_weighting import LayerStatistics, LayerWeighting
from voxfide.backends.layerwise import LayerwiseBackend
from voxfide.backends.masking import check_lengths, length_mask, masked_softmax

VARIANCE_FLOOR = 1e-8
"""Below it a standard deviation is held, where its gradient would grow without bound."""


class FrameAttention(nn.Module):
    """One weight a frame, softmax over valid frames.

    ``bounded`` puts the tanh after the product with ``v``, as the reference does: logits then lie
    in -1...1, so that no frame can weigh more than e² = 7.4 times another.
    """

    def __init__(self, dim: int, bounded: bool) -> None:
        super().__init__()
        self.project = nn.Linear(dim, dim)
        self.v = nn.Parameter(torch.randn(dim) * (1.0 if bounded else dim**-0.5))
        self.bounded = bounded

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Weights ``(batch, frames)`` of ``x (batch, frames, dim)``."""
        projected = self.project(x)
        logits = (projected @ self.v).tanh() if self.bounded else projected.tanh() @ self.v
        return masked_softmax(logits, mask, 1)


def attentive_statistics(x: Tensor, weights: Tensor) -> Tensor:
    """Weighted mean and standard deviation over frames, ``(batch, 2 dim)``; Okabe et al., eq. 5-6."""
    mean = (weights[..., None] * x).sum(1)
    variance = (weights[..., None] * (x - mean[:, None]).square()).sum(1)
    return torch.cat([mean, variance.clamp_min(VARIANCE_FLOOR).sqrt()], dim=1)


def reference_statistics(x: Tensor, weights: Tensor, lengths: Tensor) -> Tensor:
    """What the reference pools: the weighted mean over the number of frames, and
    ``sum w x² - mean²`` with that mean, no root taken, ``(batch, 2 dim)``."""
    mean = (weights[..., None] * x).sum(1) / lengths[:, None]
    return torch.cat([mean, (weights[..., None] * x.square()).sum(1) - mean.square()], dim=1)


class FfnHead(nn.Module):
    """Weighted layers, two ReLU layers, pooling over frames, one ReLU layer, two logits."""

    def __init__(self, layers: LayerWeighting, dim: int, hidden: int, reference: bool) -> None:
        super().__init__()
        self.layers = layers
        self.frame1 = nn.Linear(dim, hidden)
        self.frame2 = nn.Linear(hidden, hidden)
        self.attention = FrameAttention(hidden, bounded=reference)
        self.utterance = nn.Linear(2 * hidden, hidden)
        self.out = nn.Linear(hidden, 2)
        self.reference = reference

    def forward(self, features: Tensor, lengths: Tensor, statistics: LayerStatistics | None = None) -> Tensor:
        """Logits ``(batch, 2)`` of ``features (batch, layers, frames, dim)``; see :class:`NeuralBackend`."""
        check_lengths(features, lengths)
        mask = length_mask(lengths, features.shape[2])
        x = self.layers(features, lengths, statistics)
        x = self.frame2(self.frame1(x).relu()).relu()
        if mask is not None:  # whatever the padding holds, a weight of 0 must take it out
            x = x.masked_fill(~mask[..., None], 0)
        weights = self.attention(x, mask)
        pooled = (
            reference_statistics(x, weights, lengths) if self.reference else attentive_statistics(x, weights)
        )
        logits: Tensor = self.out(self.utterance(pooled).relu())
        return logits


@dataclass(eq=False)
class FfnBackend(LayerwiseBackend):
    """The study's feed-forward back-end.

    Args:
        hidden: units of each layer.
    """

    name: ClassVar[str] = "ffn"
    reference_names: ClassVar[dict[str, str]] = {
        "LL.": "frame1.",
        "LL2.": "frame2.",
        "attention_block.lin_proj.": "attention.project.",
        "attention_block.v": "attention.v",
        "LL3.": "utterance.",
        "LL4.": "out.",
    }

    hidden: int = 128

    def make_head(self, n_layers: int, dim: int) -> FfnHead:
        return FfnHead(self.make_weighting(n_layers), dim, self.hidden, self.variant == "reference")
