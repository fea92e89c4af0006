"""Batches of unequal lengths: masks, and batch statistics and softmax over what is valid only.

A mask is a boolean tensor, true where a frame or node belongs to its utterance. Where all
lengths are equal there is none (None), and everything here is the plain operation.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from voxfide.errors import UsageError


def length_mask(lengths: Tensor, size: int) -> Tensor | None:
    """``(batch, size)``, or None where every utterance fills all of ``size``.

    While a graph is traced for export it is always there: lengths are only known when the graph runs.
    """
    if not torch.compiler.is_exporting() and bool((lengths == size).all()):
        return None
    return torch.arange(size, device=lengths.device) < lengths[:, None]


def check_lengths(features: Tensor, lengths: Tensor) -> None:
    """Raises :class:`UsageError` unless there is one length an utterance, each from 1 to the frames held."""
    if torch.compiler.is_exporting():
        return
    frames = features.shape[-2]
    if lengths.shape != features.shape[:1] or not bool(((lengths >= 1) & (lengths <= frames)).all()):
        raise UsageError(
            f"lengths {lengths.tolist()} of {features.shape[0]} utterances of {frames} frames "
            f"(expected one each, 1 to {frames})"
        )


def repeat_short(x: Tensor, lengths: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Repeats utterances of ``x (batch, frames, dim)`` from their beginning until they have ``size``
    frames; returns them with their lengths."""
    if torch.compiler.is_exporting():
        frames = torch.sym_max(x.shape[1], size)
    elif int(lengths.min()) >= size:
        return x, lengths
    else:
        frames = max(x.shape[1], size)
    index = torch.arange(frames, device=x.device).expand(x.shape[0], -1)
    index = torch.where(lengths[:, None] < size, index % lengths[:, None], index.clamp_max(x.shape[1] - 1))
    return x.gather(1, index[..., None].expand(-1, -1, x.shape[2])), lengths.clamp_min(size)


def masked_softmax(x: Tensor, mask: Tensor | None, dim: int) -> Tensor:
    """Softmax over the valid entries along ``dim``; exactly 0 elsewhere. ``mask`` broadcasts to ``x``."""
    if mask is not None:
        x = x.masked_fill(~mask, -torch.inf)
    return x.softmax(dim)


class MaskedBatchNorm(nn.BatchNorm1d):
    """Batch normalisation of any array along axis 1 whose training statistics leave padding out.

    Ioffe and Szegedy 2015; parameters, buffers and momentum are ``torch.nn.BatchNorm1d``'s,
    and so is the result where there is no mask.

    Attributes:
        total: where a batch is shared out over several processes, the sum over all of them, through
            which gradients flow; None where this process has all of it.
    """

    total: Callable[[Tensor], Tensor] | None = None

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor
    momentum: float

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Normalises ``x (batch, channels, ...)``.

        Args:
            mask: broadcasts to ``x``, of one channel; None where everything is valid.
        """
        if not self.training or (mask is None and self.total is None):
            return super().forward(x)
        dtype = x.dtype
        x = x.to(torch.promote_types(dtype, torch.float32))  # sums of half precision would lose count
        axes = [axis for axis in range(x.ndim) if axis != 1]
        own = x.new_ones(len(x), 1, *x.shape[2:]) if mask is None else mask.expand(-1, 1, *x.shape[2:])
        valid = own.to(x.dtype)
        n = self.in_all(valid.sum())
        mean = self.in_all((x * valid).sum(axes, keepdim=True)) / n
        centred = (x - mean) * valid
        variance = self.in_all(centred.square().sum(axes, keepdim=True)) / n
        self.track(mean.flatten(), variance.flatten(), n)
        shape = (1, -1, *[1] * (x.ndim - 2))
        scale = self.weight.view(shape) * (variance + self.eps).rsqrt()
        return (centred * scale + self.bias.view(shape)).to(dtype)

    def _check_input_dim(self, input: Tensor) -> None:
        """Any number of axes after the channels."""

    def in_all(self, value: Tensor) -> Tensor:
        """The sum of a value over all processes."""
        return value if self.total is None else self.total(value)

    @torch.no_grad()
    def track(self, mean: Tensor, variance: Tensor, n: Tensor | float) -> None:
        """Moves the running statistics towards a batch's ``mean`` and biased ``variance`` of ``n`` values."""
        n = torch.as_tensor(n, dtype=variance.dtype, device=variance.device)
        self.num_batches_tracked.add_(1)
        self.running_mean.lerp_(mean.to(self.running_mean), self.momentum)
        unbiased = variance * (n / (n - 1).clamp_min(1))
        self.running_var.lerp_(unbiased.to(self.running_var), self.momentum)
