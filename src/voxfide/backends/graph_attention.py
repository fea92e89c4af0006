"""Graph attention over nodes of one or two kinds, and graph pooling, for any number of nodes.

J. Jung et al., "AASIST: audio anti-spoofing using integrated spectro-temporal graph attention
networks", ICASSP 2022; H. Tak et al., "End-to-end spectro-temporal graph attention networks for
speaker verification anti-spoofing and speech deepfake detection", ASVspoof 2021 workshop.
Nodes beyond an utterance's count get no attention, are never chosen by pooling and leave the
batch statistics alone; their values mean nothing.
"""

from __future__ import annotations

from fractions import Fraction
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from voxfide.backends.masking import MaskedBatchNorm, length_mask, masked_softmax

INPUT_DROPOUT = 0.2
POOL_DROPOUT = 0.3
PAIR_NUMBERS = 2**24
"""Numbers held for pairs of nodes at once where no gradient is needed: 64 MiB of float32."""


class Nodes(NamedTuple):
    """A set of nodes for each utterance.

    Attributes:
        values: ``(batch, nodes, dim)``.
        counts: ``(batch,)`` valid nodes, the first ones; None where all are.
    """

    values: Tensor
    counts: Tensor | None = None

    @classmethod
    def of(cls, values: Tensor, counts: Tensor) -> Nodes:
        """Forgets counts that are all the same as the number of nodes."""
        full = not torch.compiler.is_exporting() and bool((counts == values.shape[1]).all())
        return cls(values, None if full else counts)

    def mask(self) -> Tensor | None:
        """``(batch, nodes)``, or None where all are valid."""
        return None if self.counts is None else length_mask(self.counts, self.values.shape[1])

    def with_values(self, values: Tensor) -> Nodes:
        return Nodes(values, self.counts)


def _attention_vector(dim: int) -> nn.Parameter:
    return nn.Parameter(nn.init.xavier_normal_(torch.empty(dim, 1)))


class GraphAttention(nn.Module):
    """Attention between all pairs of nodes: ``softmax_j(a · tanh(W (x_i * x_j) + b) / temperature)``.

    Args:
        in_dim, out_dim: of nodes.
        temperature: of the softmax over neighbours.
    """

    def __init__(self, in_dim: int, out_dim: int, temperature: float) -> None:
        super().__init__()
        self.pair = nn.Linear(in_dim, out_dim)
        self.pair_weight = _attention_vector(out_dim)
        self.attended = nn.Linear(in_dim, out_dim)
        self.direct = nn.Linear(in_dim, out_dim)
        self.norm = MaskedBatchNorm(out_dim)
        self.dropout = nn.Dropout(INPUT_DROPOUT)
        self.temperature = temperature

    def forward(self, nodes: Nodes) -> Nodes:
        """Nodes of ``out_dim`` values."""
        return nodes.with_values(self.update(self.dropout(nodes.values), nodes.mask()))

    def update(self, x: Tensor, mask: Tensor | None, kinds: Tensor | None = None) -> Tensor:
        """New values ``(batch, nodes, out_dim)``: what is attended to, and the node itself.

        Args:
            x: ``(batch, nodes, in_dim)``.
            mask: ``(batch, nodes)``, or None.
            kinds: ``(nodes,)``, for attention that depends on the kind of nodes.
        """
        y = self.attended(self._aggregate(x, mask, kinds)) + self.direct(x)
        keep = None if mask is None else mask[:, None]
        return F.selu(self.norm(y.transpose(1, 2), keep).transpose(1, 2))

    def pair_scores(self, energies: Tensor, rows: Tensor | None, kinds: Tensor | None) -> Tensor:
        """Attention logits ``(batch, rows, nodes)`` of energies ``(batch, rows, nodes, out_dim)``.

        Args:
            energies: behind the tanh, of some consecutive nodes with all nodes.
            rows: kinds of these nodes.
            kinds: kinds of all nodes.
        """
        return (energies @ self.pair_weight).squeeze(-1)

    def _aggregate(self, x: Tensor, mask: Tensor | None, kinds: Tensor | None) -> Tensor:
        """Neighbours' values averaged by attention, ``(batch, nodes, in_dim)``; of many nodes, where no
        gradient is needed, in parts that bound the memory."""
        batch, n_nodes, dim = x.shape
        keys = None if mask is None else mask[:, None]
        if torch.is_grad_enabled() or torch.compiler.is_exporting():
            return self._attended(x, x, keys, kinds, kinds)
        rows = max(1, PAIR_NUMBERS // (batch * n_nodes * dim))
        cuts = [slice(first, first + rows) for first in range(0, n_nodes, rows)]
        parts = [self._attended(x[:, s], x, keys, None if kinds is None else kinds[s], kinds) for s in cuts]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)

    def _attended(
        self, some: Tensor, x: Tensor, keys: Tensor | None, rows: Tensor | None, kinds: Tensor | None
    ) -> Tensor:
        energies = self.pair(some[:, :, None] * x[:, None]).tanh()
        scores = self.pair_scores(energies, rows, kinds) / self.temperature
        return masked_softmax(scores, keys, 2) @ x


class HeterogeneousAttention(GraphAttention):
    """The same over nodes of two kinds, with attention of its own for each pair of kinds, and a master
    node that attends to all nodes and to which none attends."""

    def __init__(self, in_dim: int, out_dim: int, temperature: float) -> None:
        super().__init__(in_dim, out_dim, temperature)
        self.project1 = nn.Linear(in_dim, in_dim)
        self.project2 = nn.Linear(in_dim, in_dim)
        self.pair_weight2 = _attention_vector(out_dim)
        self.pair_weight12 = _attention_vector(out_dim)
        self.master_pair = nn.Linear(in_dim, out_dim)
        self.master_weight = _attention_vector(out_dim)
        self.master_attended = nn.Linear(in_dim, out_dim)
        self.master_direct = nn.Linear(in_dim, out_dim)

    def forward(self, nodes1: Nodes, nodes2: Nodes, master: Tensor) -> tuple[Nodes, Nodes, Tensor]:  # type: ignore[override]
        """Both kinds of nodes and the master ``(batch, 1, dim)``, each of ``out_dim`` values."""
        n_first = nodes1.values.shape[1]
        x = torch.cat([self.project1(nodes1.values), self.project2(nodes2.values)], dim=1)
        x = self.dropout(x)
        mask = _joined_mask(nodes1, nodes2)
        master = self._update_master(x, mask, master)
        y = self.update(x, mask, kinds=torch.arange(x.shape[1], device=x.device) >= n_first)
        return nodes1.with_values(y[:, :n_first]), nodes2.with_values(y[:, n_first:]), master

    def pair_scores(self, energies: Tensor, rows: Tensor | None, kinds: Tensor | None) -> Tensor:
        assert rows is not None
        assert kinds is not None
        weights = torch.cat([self.pair_weight, self.pair_weight2, self.pair_weight12], dim=1)
        same1, same2, across = (energies @ weights).unbind(-1)
        of_second = rows[:, None]
        return torch.where(of_second == kinds, torch.where(of_second, same2, same1), across)

    def _update_master(self, x: Tensor, mask: Tensor | None, master: Tensor) -> Tensor:
        scores = (self.master_pair(x * master).tanh() @ self.master_weight) / self.temperature
        attention = masked_softmax(scores, None if mask is None else mask[..., None], 1)
        updated: Tensor = self.master_attended(attention.transpose(1, 2) @ x) + self.master_direct(master)
        return updated


def _joined_mask(nodes1: Nodes, nodes2: Nodes) -> Tensor | None:
    masks = [nodes1.mask(), nodes2.mask()]
    if masks == [None, None]:
        return None
    full = [
        torch.ones(n.values.shape[:2], dtype=torch.bool, device=n.values.device) if mask is None else mask
        for n, mask in zip((nodes1, nodes2), masks, strict=True)
    ]
    return torch.cat(full, dim=1)


class GraphPool(nn.Module):
    """Keeps the ``max(1, int(ratio n))`` of n nodes of the highest learnt gate, scaled by it.

    The nodes kept stand in descending order of their gates, as in the official code, where nodes
    of two paths are later compared by rank. H. Gao, S. Ji, "Graph U-Nets", ICML 2019.
    """

    def __init__(self, ratio: float, dim: int) -> None:
        super().__init__()
        self.gate = nn.Linear(dim, 1)
        self.dropout = nn.Dropout(POOL_DROPOUT)
        self.ratio = ratio

    def forward(self, nodes: Nodes) -> Nodes:
        """Fewer nodes."""
        x = nodes.values
        gates = self.gate(self.dropout(x)).sigmoid()
        ranking, counts = gates, None
        mask = nodes.mask()
        if mask is not None and nodes.counts is not None:
            ranking = gates.masked_fill(~mask[..., None], -1)
            # In double precision, as Python multiplies.
            share = (nodes.counts.cpu().double() * self.ratio).long()
            counts = share.clamp_min(1).to(x.device)
        index = ranking.topk(self._kept(x.shape[1]), dim=1).indices.expand(-1, -1, x.shape[2])
        return Nodes((x * gates).gather(1, index), counts)

    def _kept(self, n_nodes: int) -> int:
        """Nodes kept of the longest utterance; of a traced graph, whose sizes are whole numbers, perhaps one
        more, which is masked."""
        if isinstance(n_nodes, torch.SymInt):
            part = Fraction(self.ratio).limit_denominator(1000)
            return (n_nodes * part.numerator + part.denominator - 1) // part.denominator
        return max(int(n_nodes * self.ratio), 1)
