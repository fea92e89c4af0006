"""The part of AASIST that all its forms share: from spectral and temporal nodes to two logits.

J. Jung et al., "AASIST: audio anti-spoofing using integrated spectro-temporal graph attention
networks", ICASSP 2022, section 3.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from voxfide.backends.graph_attention import GraphAttention, GraphPool, HeterogeneousAttention, Nodes

PATH_DROPOUT = 0.2
READOUT_DROPOUT = 0.5

REFERENCE_NAMES = {
    "master1": "graph.paths.0.master",
    "master2": "graph.paths.1.master",
    "GAT_layer_S.": "graph.spectral.",
    "GAT_layer_T.": "graph.temporal.",
    "pool_S.": "graph.spectral_pool.",
    "pool_T.": "graph.temporal_pool.",
    "HtrgGAT_layer_ST11.": "graph.paths.0.first.",
    "HtrgGAT_layer_ST12.": "graph.paths.0.second.",
    "HtrgGAT_layer_ST21.": "graph.paths.1.first.",
    "HtrgGAT_layer_ST22.": "graph.paths.1.second.",
    "pool_hS1.": "graph.paths.0.spectral_pool.",
    "pool_hT1.": "graph.paths.0.temporal_pool.",
    "pool_hS2.": "graph.paths.1.spectral_pool.",
    "pool_hT2.": "graph.paths.1.temporal_pool.",
    "out_layer.": "graph.out.",
    "pos_S": "position",
}
"""Beginnings of names in state dicts of the official code to those here."""

REFERENCE_PARTS = {
    "att_projM.": "master_pair.",
    "att_proj.": "pair.",
    "att_weightM": "master_weight",
    "att_weight12": "pair_weight12",
    "att_weight22": "pair_weight2",
    "att_weight11": "pair_weight",
    "att_weight": "pair_weight",
    "proj_with_attM.": "master_attended.",
    "proj_without_attM.": "master_direct.",
    "proj_with_att.": "attended.",
    "proj_without_att.": "direct.",
    "proj_type": "project",
    "bn.": "norm.",
    "proj.": "gate.",
}
"""The same for what follows: first match in this order."""


def own_graph_name(name: str) -> str | None:
    """What a tensor of the official state dict is called here; None where it is not of this part."""
    for theirs, ours in REFERENCE_NAMES.items():
        if name.startswith(theirs):
            rest = name.removeprefix(theirs)
            for part, own in REFERENCE_PARTS.items():
                if rest.startswith(part):
                    return ours + own + rest.removeprefix(part)
            return ours + rest
    return None


@dataclass(frozen=True)
class GraphSettings:
    """Sizes of the graph part.

    Args:
        node_dim: of nodes that come in.
        graph_dim: behind the first attention layers, and of the master nodes.
        path_dim: within the two paths.
        ratios: of nodes kept by spectral, temporal and inner pooling.
        temperatures: of spectral, temporal and heterogeneous attention.
    """

    node_dim: int = 64
    graph_dim: int = 64
    path_dim: int = 32
    ratios: tuple[float, float, float] = (0.5, 0.5, 0.5)
    temperatures: tuple[float, float, float] = (2.0, 2.0, 100.0)


class Path(nn.Module):
    """One of two parallel branches: two heterogeneous attention layers around a graph pooling."""

    def __init__(self, s: GraphSettings) -> None:
        super().__init__()
        self.master = nn.Parameter(torch.randn(1, 1, s.graph_dim))
        self.first = HeterogeneousAttention(s.graph_dim, s.path_dim, s.temperatures[2])
        self.second = HeterogeneousAttention(s.path_dim, s.path_dim, s.temperatures[2])
        self.spectral_pool = GraphPool(s.ratios[2], s.path_dim)
        self.temporal_pool = GraphPool(s.ratios[2], s.path_dim)
        self.dropout = nn.Dropout(PATH_DROPOUT)

    def forward(self, temporal: Nodes, spectral: Nodes) -> tuple[Nodes, Nodes, Tensor]:
        """Temporal and spectral nodes and the master ``(batch, 1, path_dim)``."""
        master = self.master.expand(temporal.values.shape[0], -1, -1)
        temporal, spectral, master = self.first(temporal, spectral, master)
        temporal, spectral = self.temporal_pool(temporal), self.spectral_pool(spectral)
        more_temporal, more_spectral, more_master = self.second(temporal, spectral, master)
        return (
            temporal.with_values(self.dropout(temporal.values + more_temporal.values)),
            spectral.with_values(self.dropout(spectral.values + more_spectral.values)),
            self.dropout(master + more_master),
        )


class SpectroTemporalGraph(nn.Module):
    """Attention within each kind of nodes, pooling, two heterogeneous paths whose results are compared
    node by node for the larger, and a readout of five vectors."""

    def __init__(self, settings: GraphSettings) -> None:
        super().__init__()
        s = settings
        self.spectral = GraphAttention(s.node_dim, s.graph_dim, s.temperatures[0])
        self.temporal = GraphAttention(s.node_dim, s.graph_dim, s.temperatures[1])
        self.spectral_pool = GraphPool(s.ratios[0], s.graph_dim)
        self.temporal_pool = GraphPool(s.ratios[1], s.graph_dim)
        self.paths = nn.ModuleList([Path(s), Path(s)])
        self.dropout = nn.Dropout(READOUT_DROPOUT)
        self.out = nn.Linear(5 * s.path_dim, 2)

    def forward(self, spectral: Nodes, temporal: Nodes) -> Tensor:
        """Logits ``(batch, 2)``."""
        logits: Tensor = self.out(self.dropout(self.embedding(spectral, temporal)))
        return logits

    def embedding(self, spectral: Nodes, temporal: Nodes) -> Tensor:
        """Readout ``(batch, 5 path_dim)``: largest magnitude and mean of temporal nodes, the same of
        spectral nodes, and the master."""
        spectral = self.spectral_pool(self.spectral(spectral))
        temporal = self.temporal_pool(self.temporal(temporal))
        temporal1, spectral1, master1 = self.paths[0](temporal, spectral)
        temporal2, spectral2, master2 = self.paths[1](temporal, spectral)
        return torch.cat(
            [
                *_readout(temporal1.with_values(torch.maximum(temporal1.values, temporal2.values))),
                *_readout(spectral1.with_values(torch.maximum(spectral1.values, spectral2.values))),
                torch.maximum(master1, master2).squeeze(1),
            ],
            dim=1,
        )


def _readout(nodes: Nodes) -> tuple[Tensor, Tensor]:
    """Largest magnitude and mean over nodes, ``(batch, dim)`` each."""
    x, mask = nodes.values, nodes.mask()
    if mask is None or nodes.counts is None:
        return x.abs().amax(1), x.mean(1)
    x = x.masked_fill(~mask[..., None], 0)
    return x.abs().amax(1), x.sum(1) / nodes.counts[:, None]
