"""Layer weighting: per-layer normalisation and a softmax-weighted sum over layers.

S. Yang et al., "SUPERB: Speech processing universal performance benchmark", Interspeech 2021
(weighted sum); Y. El Kheir et al., "Comprehensive layer-wise analysis of SSL models for audio
deepfake detection", Findings of NAACL 2025 (batch normalisation over the layer axis before it).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from voxfide.backends.masking import MaskedBatchNorm, length_mask
from voxfide.errors import UsageError

CANCELLATION = 1e3
"""Ratio of squared mean to variance from which one pass in float32 would lose digits of the variance."""


class LayerStatistics(NamedTuple):
    """What batch normalisation needs of a batch: per layer, over valid frames and all dims.

    Attributes:
        mean, variance: ``(layers,)``; the variance is the biased one.
        n_values: values behind each.
    """

    mean: Tensor
    variance: Tensor
    n_values: int | Tensor

    def first(self, n_layers: int) -> LayerStatistics:
        """Those of the first ``n_layers`` layers."""
        return LayerStatistics(self.mean[:n_layers], self.variance[:n_layers], self.n_values)


def layer_statistics(features: Tensor, lengths: Tensor) -> LayerStatistics:
    """Mean and variance of each layer of ``features (batch, layers, frames, dim)``, in one pass.

    They do not depend on any weight: heads that see the same batch can share them.
    Moments of single frames are merged exactly (Chan et al. 1979), so that padding is left out
    by leaving frames out.
    """
    dim = features.shape[3]
    frame_mean = features.sum(-1) / dim
    frame_variance = torch.linalg.vector_norm(features, dim=-1).square() / dim - frame_mean.square()
    if bool((frame_mean.detach().square() > CANCELLATION * frame_variance.detach()).any()):
        frame_variance = features.var(-1, correction=0)
    mask = length_mask(lengths, features.shape[2])
    if mask is None:
        mean = frame_mean.mean((0, 2))
        spread = frame_variance + (frame_mean - mean[:, None]).square()
        return LayerStatistics(mean, spread.mean((0, 2)), features.shape[0] * features.shape[2] * dim)
    valid = mask[:, None]
    n_frames = int(lengths.sum())
    mean = torch.where(valid, frame_mean, 0).sum((0, 2)) / n_frames
    spread = frame_variance + (frame_mean - mean[:, None]).square()
    return LayerStatistics(mean, torch.where(valid, spread, 0).sum((0, 2)) / n_frames, n_frames * dim)


def merged(part: LayerStatistics, total: Callable[[Tensor], Tensor]) -> LayerStatistics:
    """Statistics of a whole batch, of those of each process's part (Chan et al. 1979)."""
    n = torch.as_tensor(part.n_values, dtype=part.mean.dtype, device=part.mean.device)
    n_all = total(n)
    mean = total(n * part.mean) / n_all
    variance = total(n * (part.variance + (part.mean - mean).square())) / n_all
    return LayerStatistics(mean, variance, n_all)


class LayerWeighting(nn.Module):
    """``sum over l of w_l (gain_l (x_l - mean_l) / sd_l + bias_l)``, ``w = softmax(logits / temperature)``.

    Mean and standard deviation are the batch's in training and running averages in eval mode, as
    of ``torch.nn.BatchNorm2d(n_layers)``. Normalisation and sum are computed as one weighted sum
    with a scale per layer and one shift, which is the same number without the normalised copy of
    the features.

    Args:
        n_layers: layers.
        initial: logits at the start, one for all or one a layer. One for all means equal weights.
        temperature: above 1 flattens the weights, below 1 sharpens them.
        freeze: leave the logits as they are; gains and biases are still learnt.
    """

    def __init__(
        self,
        n_layers: int,
        initial: float | tuple[float, ...] = 1.0,
        temperature: float = 1.0,
        freeze: bool = False,
    ) -> None:
        super().__init__()
        start = torch.as_tensor(initial, dtype=torch.float32)
        if start.ndim and len(start) != n_layers:
            raise UsageError(f"{len(start)} initial layer weights for {n_layers} layers (expected one each)")
        self.norm = MaskedBatchNorm(n_layers)
        self.logits = nn.Parameter(start.expand(n_layers).clone(), requires_grad=not freeze)
        self.temperature = temperature

    def weights(self) -> Tensor:
        """Softmax weights ``(layers,)``."""
        return (self.logits / self.temperature).softmax(0)

    def forward(self, features: Tensor, lengths: Tensor, statistics: LayerStatistics | None = None) -> Tensor:
        """``(batch, frames, dim)`` of ``features (batch, layers, frames, dim)``.

        Args:
            features: float32.
            lengths: ``(batch,)`` valid frames.
            statistics: of this batch, where they are already known; only used in training.
        """
        # In full precision, also where the head runs in half: the shift takes off what may be large.
        with torch.autocast(features.device.type, enabled=False):
            return self._weighted(features, lengths, statistics)

    def _weighted(self, features: Tensor, lengths: Tensor, statistics: LayerStatistics | None) -> Tensor:
        mean, variance = self._moments(features, lengths, statistics)
        gain = self.weights() * self.norm.weight * (variance + self.norm.eps).rsqrt()
        shift = (self.weights() * self.norm.bias - gain * mean).sum()
        batch, n_layers, frames, dim = features.shape
        # As a batched product: ten times as fast, forward and backward, as `gain @ features`.
        total = torch.bmm(gain.expand(batch, 1, n_layers), features.reshape(batch, n_layers, frames * dim))
        return total.view(batch, frames, dim) + shift

    def _moments(
        self, features: Tensor, lengths: Tensor, statistics: LayerStatistics | None
    ) -> tuple[Tensor, Tensor]:
        if not self.training:
            return self.norm.running_mean, self.norm.running_var
        found = statistics or layer_statistics(features, lengths)
        if self.norm.total is not None:
            found = merged(found, self.norm.in_all)
        self.norm.track(found.mean.detach(), found.variance.detach(), found.n_values)
        return found.mean, found.variance
