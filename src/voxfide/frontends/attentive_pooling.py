"""Attentive statistics pooling with global context, as ECAPA-TDNN and TitaNet have it.

K. Okabe, T. Koshinaka, K. Shinoda, "Attentive statistics pooling for deep speaker
embedding", Interspeech 2018; with the global context of B. Desplanques et al. 2020.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from voxfide.frontends.frozen import FrozenNorm


class AttentiveStatistics(nn.Module):
    """Mean and standard deviation over time under weights that each channel attends with.

    Args:
        channels: of the input.
        attention_channels: of the hidden layer of the attention.
        floor: least variance, against the root's slope at 0.
    """

    def __init__(self, channels: int, attention_channels: int, floor: float) -> None:
        super().__init__()
        self.channels = channels
        self.floor = floor
        self.context = nn.Conv1d(3 * channels, attention_channels, 1)
        self.norm = FrozenNorm(attention_channels)
        self.attention = nn.Conv1d(attention_channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """``(batch, channels, frames)``, all of them valid, to ``(batch, 2 channels)``."""
        mean, deviation = self._statistics(x, torch.full_like(x[:1, :1], 1 / x.shape[-1]))
        # The context is the same at every frame, so it is multiplied once in place of being repeated.
        weight = self.context.weight
        hidden = F.conv1d(x, weight[:, : self.channels], self.context.bias)
        around = torch.cat([mean, deviation], dim=1) @ weight[:, self.channels :, 0].T
        hidden = torch.tanh(self.norm(F.relu(hidden + around[..., None])))
        return torch.cat(self._statistics(x, self.attention(hidden).softmax(dim=-1)), dim=1)

    def _statistics(self, x: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        mean = (x * weights).sum(dim=-1)
        variance = ((x - mean[..., None]).square() * weights).sum(dim=-1)
        return mean, variance.clamp_min(self.floor).sqrt()
