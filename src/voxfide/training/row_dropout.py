"""Dropout that follows the utterance: the same whatever stands beside it, in whichever process of a run.

Whether a value is dropped is a hash of the utterance's key, the number of the dropout in the forward pass,
and the value's place: a counter-based generator (J. K. Salmon et al., "Parallel random numbers: as easy as
1, 2, 3", SC 2011), here with the finaliser of SplitMix64 (G. L. Steele et al., OOPSLA 2014) for a hash.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

STEP = -0x61C8864680B583EB
"""2⁶⁴ over the golden ratio, as a signed number: an odd one without pattern."""

FACTORS = (-0x40A7B892E31B1A47, -0x6B2FB644ECCEEE15)
BITS = 24


class RowDropout(nn.Dropout):
    """``nn.Dropout`` on ``(batch, ...)`` whose draws follow from a key of each row, where there are keys.

    Attributes:
        keys: of the rows, in :func:`following_rows`.
    """

    keys: RowKeys | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.keys is None or not self.training or not self.p:
            return super().forward(x)
        kept = self.keys.uniform(x) >= self.p
        return x * (kept.to(x.dtype) / (1 - self.p))


class RowKeys:
    """The keys of a batch, and how many draws its forward pass has made."""

    def __init__(self, keys: Sequence[int], device: torch.device) -> None:
        self._keys = torch.tensor(keys, dtype=torch.int64, device=device)
        self._draws = 0

    def uniform(self, x: Tensor) -> Tensor:
        """Numbers from 0 to below 1 in the shape of ``x (batch, ...)``, others with every call."""
        self._draws += 1
        streams = _mixed(self._keys + torch.full_like(self._keys, self._draws) * STEP)
        places = torch.arange(x[0].numel(), device=x.device)
        bits = _mixed(streams[:, None] + places * STEP)
        return (_shifted(bits, 64 - BITS).to(torch.float32) / 2**BITS).view(x.shape)


def _shifted(x: Tensor, n: int) -> Tensor:
    """Logical shift to the right of 64 bits."""
    return (x >> n) & ((1 << (64 - n)) - 1)


def _mixed(x: Tensor) -> Tensor:
    x = (x ^ _shifted(x, 30)) * FACTORS[0]
    x = (x ^ _shifted(x, 27)) * FACTORS[1]
    return x ^ _shifted(x, 31)


@contextmanager
def following_rows(module: nn.Module, keys: Sequence[int], device: torch.device) -> Iterator[None]:
    """For the time of a forward pass, dropout in a module follows from these keys of the batch's rows."""
    drawing = RowKeys(keys, device)
    found = [m for m in module.modules() if type(m) in (nn.Dropout, RowDropout)]
    for dropout in found:
        dropout.__class__ = RowDropout
        dropout.keys = drawing  # type: ignore[assignment]
    try:
        yield
    finally:
        for dropout in found:
            del dropout.keys
            dropout.__class__ = nn.Dropout
