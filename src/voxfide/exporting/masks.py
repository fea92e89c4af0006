"""Masks of padded batches inside graphs, whose lengths are only known when they run."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

OUT_OF_SIGHT: Final = -1e30
"""Added to attention scores of padding: its softmax is exactly 0, and no infinity is in the graph."""


GROUPS: Final = 32
"""Groups of frames that are averaged each by itself."""


def valid_until(lengths: Tensor, size: int) -> Tensor:
    """``(batch, size)``, true before each of ``lengths (batch,)``."""
    return torch.arange(size) < lengths[:, None]


def cleared(x: Tensor, valid: Tensor) -> Tensor:
    """``x`` where ``valid``, which broadcasts to it, and 0 elsewhere, whatever stands there."""
    return torch.where(valid, x, 0.0)


def shares(lengths: Tensor, size: int) -> Tensor:
    """``(batch, GROUPS, size)``, what each frame counts in an average, in the row of its group.

    That is 1 over the length before it, and 0 behind; neighbours belong to different groups.
    """
    own = torch.where(valid_until(lengths, size), 1 / lengths[:, None].float(), 0.0)
    group = torch.arange(size)[None] % GROUPS == torch.arange(GROUPS)[:, None]
    return torch.where(group, own[:, None], 0.0)


def average(x: Tensor, share: Tensor) -> Tensor:
    """``(batch, 1, dim)`` of ``x (batch, frames, dim)``, which must be finite behind the end too.

    Group by group, and then over groups: OpenVINO adds up one number after another, which over thousands
    of frames would cost a digit.
    """
    return (share @ x).sum(1, keepdim=True)
