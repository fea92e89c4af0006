"""The positional convolution with a fast backward pass, for training on a CPU."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

FFT_BLOCK = 512
"""Samples of the input in a block of the correlation that gives the weight's gradient."""


class LongConv(torch.autograd.Function):
    """Grouped convolution ``(channels, time)`` to ``(channels, time - kernel + 1)``.

    PyTorch's own backward pass of a 128-tap grouped convolution takes five times as long as the forward
    pass. Here the input's gradient is a convolution like the forward one, with the kernel
    reversed, and the weight's is computed block by block in the frequency domain.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, groups: int) -> Tensor:
        """``weight (channels, channels / groups, kernel)``, ``bias (channels,)``."""
        ctx.save_for_backward(x, weight)
        ctx.groups = groups
        return F.conv1d(x[None], weight, bias, groups=groups)[0]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        x, weight = ctx.saved_tensors
        groups, kernel = ctx.groups, weight.shape[2]
        grad = grad.contiguous()
        of_x = of_weight = None
        if ctx.needs_input_grad[0]:
            # (out, in / groups, kernel) to (in, out / groups, kernel), reversed in time.
            turned = weight.view(groups, -1, *weight.shape[1:]).transpose(1, 2).flip(3).flatten(0, 1)
            of_x = F.conv1d(F.pad(grad, (kernel - 1, kernel - 1))[None], turned, groups=groups)[0]
        if ctx.needs_input_grad[1]:
            of_weight = _correlation(x, grad, groups, kernel)
        return of_x, of_weight, grad.sum(dim=1), None


def _correlation(x: Tensor, grad: Tensor, groups: int, kernel: int) -> Tensor:
    """``sum over t of grad[o, t] x[i, t + k]`` for each group, ``(out, in / groups, kernel)``."""
    step = FFT_BLOCK - kernel + 1
    n_blocks = math.ceil(grad.shape[1] / step)
    padded = F.pad(grad, (0, n_blocks * step - grad.shape[1])).view(len(grad), n_blocks, step)
    outputs = torch.fft.rfft(padded, n=FFT_BLOCK)  # (out, blocks, bins)
    x = F.pad(x, (0, n_blocks * step + kernel - 1 - x.shape[1]))
    inputs = torch.fft.rfft(x.unfold(1, FFT_BLOCK, step))
    taps = []
    for of_output, of_input in zip(
        outputs.chunk(groups), inputs.chunk(groups), strict=True
    ):  # to save memory
        product = torch.matmul(
            of_output.permute(2, 0, 1).conj(), of_input.permute(2, 1, 0)
        )  # (bins, out, in)
        taps.append(torch.fft.irfft(product.permute(1, 2, 0), n=FFT_BLOCK)[..., :kernel])
    return torch.cat(taps)
