"""AASIST as a back-end on weighted layer features.

J. Jung et al., "AASIST", ICASSP 2022; on features of a self-supervised model with self-attentive
aggregation of nodes: H. Tak et al., "Automatic speaker verification spoofing and deepfake detection
using wav2vec 2.0 and data augmentation", Odyssey 2022; on several layers: Y. El Kheir et al.,
Findings of NAACL 2025.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from voxfide.backends.aasist_encoder import Encoder, time_mask
from voxfide.backends.aasist_graph import GraphSettings, SpectroTemporalGraph, own_graph_name
from voxfide.backends.graph_attention import Nodes
from voxfide.backends.layer_weighting import LayerStatistics, LayerWeighting
from voxfide.backends.layerwise import LayerwiseBackend
from voxfide.backends.masking import (
    MaskedBatchNorm,
    check_lengths,
    length_mask,
    masked_softmax,
    repeat_short,
)

POOL = 3
"""Frames, and hidden units, that are max-pooled into one node."""

CHANNELS = (1, 32, 32, 64, 64, 64, 64)


class NodeAttention(nn.Module):
    """Attention maps of one weight for each channel, frequency and time."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(dim, 2 * dim, 1)
        self.norm = MaskedBatchNorm(2 * dim)
        self.conv2 = nn.Conv2d(2 * dim, dim, 1)

    def forward(self, x: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Spectral nodes ``(batch, frequency, dim)``, weighted sums over time, and temporal nodes
        ``(batch, time, dim)``, weighted sums over frequency, of maps ``(batch, dim, frequency, time)``."""
        logits = self.conv2(self.norm(F.selu(self.conv1(x), inplace=True), mask))
        spectral = (x * masked_softmax(logits, mask, 3)).sum(3)
        temporal = (x * logits.softmax(2)).sum(2)
        return spectral.transpose(1, 2), temporal.transpose(1, 2)


class AasistHead(nn.Module):
    """Weighted layers, a projection, max-pooling, the residual encoder, node attention, the graph part."""

    def __init__(self, layers: LayerWeighting, dim: int, hidden: int, reference: bool) -> None:
        super().__init__()
        self.layers = layers
        self.project = nn.Linear(dim, hidden)
        self.first_norm = MaskedBatchNorm(1)
        self.encoder = Encoder(CHANNELS, pre_activation=not reference, pool=1)
        self.last_norm = MaskedBatchNorm(CHANNELS[-1])
        self.attention = NodeAttention(CHANNELS[-1])
        self.position = nn.Parameter(torch.randn(1, hidden // POOL, CHANNELS[-1]))
        self.graph = SpectroTemporalGraph(GraphSettings(node_dim=CHANNELS[-1]))

    def forward(self, features: Tensor, lengths: Tensor, statistics: LayerStatistics | None = None) -> Tensor:
        """Logits ``(batch, 2)`` of ``features (batch, layers, frames, dim)``; see :class:`NeuralBackend`."""
        logits: Tensor = self.graph(*self.nodes(features, lengths, statistics))
        return logits

    def nodes(
        self, features: Tensor, lengths: Tensor, statistics: LayerStatistics | None = None
    ) -> tuple[Nodes, Nodes]:
        """Spectral nodes, ``hidden // 3`` of every utterance, and temporal ones, one for three frames."""
        check_lengths(features, lengths)
        x = self.layers(features, lengths, statistics)
        x, lengths = repeat_short(x, lengths, POOL)
        mask = length_mask(lengths, x.shape[1])
        if mask is not None:  # whatever the padding holds
            x = x.masked_fill(~mask[..., None], 0)
        x = F.max_pool2d(self.project(x).transpose(1, 2)[:, None], POOL)
        lengths = lengths // POOL  # windows that hold valid frames only, as of the utterance alone
        over_time = time_mask(lengths, x)
        x, _ = self.encoder(F.selu(self.first_norm(x, over_time), inplace=True), lengths)
        x = F.selu(self.last_norm(x, over_time), inplace=True)
        spectral, temporal = self.attention(x, over_time)
        return Nodes(spectral + self.position), Nodes.of(temporal, lengths)


@dataclass(eq=False)
class AasistBackend(LayerwiseBackend):
    """The study's AASIST back-end: ``hidden // 3`` spectral nodes (42 of 128), a temporal node for
    every three frames."""

    name: ClassVar[str] = "aasist"
    min_frames: ClassVar[int] = POOL
    reference_names: ClassVar[dict[str, str]] = {
        "LL.": "project.",
        "first_bn1.": "last_norm.",
        "first_bn.": "first_norm.",
        "attention.0.": "attention.conv1.",
        "attention.2.": "attention.norm.",
        "attention.3.": "attention.conv2.",
    }

    def make_head(self, n_layers: int, dim: int) -> AasistHead:
        return AasistHead(self.make_weighting(n_layers), dim, self.hidden, self.variant == "reference")

    @classmethod
    def own_name(cls, name: str) -> str:
        return own_graph_name(name) or own_encoder_name(name) or super().own_name(name)


def own_encoder_name(name: str) -> str | None:
    """What a tensor of the official encoder, ``encoder.N.0.…``, is called here."""
    if not name.startswith("encoder."):
        return None
    _, number, _, rest = name.split(".", 3)
    renamed = rest.replace("bn", "norm").replace("conv_downsample", "skip")
    return f"encoder.blocks.{number}.{renamed}"
