"""The residual encoder of AASIST: six blocks of two-dimensional convolutions over frequency and time.

J. Jung et al., "Improved RawNet with feature map scaling for text-independent speaker verification
using raw waveforms", Interspeech 2020; "AASIST", ICASSP 2022.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from voxfide.backends.masking import MaskedBatchNorm, length_mask


def time_mask(lengths: Tensor, x: Tensor) -> Tensor | None:
    """Mask ``(batch, 1, 1, time)`` of maps ``(batch, channels, frequency, time)``; None if all are full."""
    mask = length_mask(lengths, x.shape[3])
    return None if mask is None else mask[:, None, None]


def _cleared(x: Tensor, mask: Tensor | None) -> Tensor:
    """Zero beyond each length, as the border of a convolution is for an utterance alone."""
    return x if mask is None else x.masked_fill(~mask, 0)


class ResidualBlock(nn.Module):
    """Two convolutions and a skip connection.

    Args:
        n_in, n_out: channels.
        first: the first block, without normalisation before its first convolution.
        pre_activation: whether later blocks normalise and activate before their first
            convolution, as RawNet2 does. The official AASIST code computes that and then
            does not use it.
        pool: steps of time that are max-pooled into one; 1 for none.
    """

    def __init__(self, n_in: int, n_out: int, first: bool, pre_activation: bool, pool: int) -> None:
        super().__init__()
        self.norm1 = None if first else MaskedBatchNorm(n_in)
        self.conv1 = nn.Conv2d(n_in, n_out, (2, 3), padding=(1, 1))
        self.norm2 = MaskedBatchNorm(n_out)
        self.conv2 = nn.Conv2d(n_out, n_out, (2, 3), padding=(0, 1))
        self.skip = nn.Conv2d(n_in, n_out, (1, 3), padding=(0, 1)) if n_in != n_out else None
        self.pre_activation = pre_activation
        self.pool = pool

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """``(batch, n_out, frequency, time // pool)``.

        Args:
            x: ``(batch, n_in, frequency, time)``.
            mask: ``(batch, 1, 1, time)``, or None.
        """
        x = _cleared(x, mask)
        y = x
        if self.norm1 is not None and self.pre_activation:
            y = _cleared(F.selu(self.norm1(x, mask), inplace=True), mask)
        y = F.selu(self.norm2(self.conv1(y), mask), inplace=True)
        y = self.conv2(_cleared(y, mask)) + (x if self.skip is None else self.skip(x))
        return y if self.pool == 1 else F.max_pool2d(y, (1, self.pool))


class Encoder(nn.Module):
    """Residual blocks one after another.

    Args:
        channels: input channels of the first block and output channels of each.
        pre_activation, pool: of every block.
    """

    def __init__(self, channels: Sequence[int], pre_activation: bool, pool: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            ResidualBlock(n_in, n_out, number == 0, pre_activation, pool)
            for number, (n_in, n_out) in enumerate(zip(channels[:-1], channels[1:], strict=True))
        )
        self.pool = pool

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Maps ``(batch, channels, frequency, time)`` and lengths in, the same out."""
        for block in self.blocks:
            x = block(x, time_mask(lengths, x))
            lengths = lengths // self.pool
        return x, lengths
