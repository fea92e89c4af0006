"""wav2vec 2.0, HuBERT and WavLM on padded batches, with plain array operations that every runtime has.

The encoder of :mod:`voxfide.frontends.ssl_model` works on packed utterances, whose number and lengths are
part of the program. A graph has to take any: here the same weights work on a padded batch, and whatever an
utterance's neighbours or padding hold is masked out of all that it meets. Convolutions over time are written
as matrix products, which runtimes do fastest, and in 8 bits too.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from voxfide.exporting.masks import OUT_OF_SIGHT, cleared, valid_until
from voxfide.frontends.ssl_layers import Attention, ConvLayer, PositionalConv, TransformerLayer
from voxfide.frontends.ssl_model import SSLEncoder, relative_position_buckets


def windows_of(x: Tensor, kernel: int, stride: int) -> Tensor:
    """Windows ``(batch, windows, kernel * dim)`` of ``x (batch, time, dim)``, as of a convolution."""
    batch, time, dim = x.shape
    n_blocks = (time + stride - 1) // stride
    blocks = F.pad(x, (0, 0, 0, n_blocks * stride - time)).reshape(batch, n_blocks, stride * dim)
    n_windows, reach = (time - kernel) // stride + 1, math.ceil(kernel / stride)
    parts = [blocks.narrow(1, j, n_windows) for j in range(reach)]
    parts[-1] = parts[-1][:, :, : (kernel - (reach - 1) * stride) * dim]
    return parts[0] if reach == 1 else torch.cat(parts, dim=2)


class PaddedConv(nn.Module):
    """A convolution of the encoder on ``(batch, time, channels)``; its norm may be over time."""

    weight: Tensor
    bias: Tensor | None
    basis: Tensor | None

    def __init__(self, layer: ConvLayer) -> None:
        super().__init__()
        conv = layer.conv
        self.kernel, self.stride = conv.kernel_size[0], conv.stride[0]
        self.register_buffer("weight", conv.weight.detach().permute(2, 1, 0).flatten(0, 1).contiguous())
        self.register_buffer("bias", None if conv.bias is None else conv.bias.detach().clone())
        self.norm = layer.layer_norm
        self.activation = layer.activation
        self.register_buffer("basis", _cosines(self.kernel) if isinstance(self.norm, nn.GroupNorm) else None)

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Output and its lengths."""
        windows = windows_of(x, self.kernel, self.stride)
        lengths = (lengths - self.kernel) // self.stride + 1
        if isinstance(self.norm, nn.GroupNorm):
            y = self._normalised(windows, lengths, self.norm)
        else:
            y = windows @ self.weight
            y = y if self.bias is None else y + self.bias
            y = y if self.norm is None else self.norm(y)
        return self.activation(y), lengths

    def _normalised(self, windows: Tensor, lengths: Tensor, norm: nn.GroupNorm) -> Tensor:
        """Product and GroupNorm in one; the norm's statistics follow from those of the windows.

        As in :meth:`ConvLayer.folded`, but in single precision: windows are turned into cosine
        coefficients first, which are nearly uncorrelated, so that the variance behind a high-pass filter is
        no small difference of large numbers.
        """
        assert self.basis is not None
        valid = valid_until(lengths, windows.shape[1])[..., None]
        counts = lengths[:, None, None].float()
        turned = windows @ self.basis
        mean = cleared(turned, valid).sum(1, keepdim=True) / counts
        centred = cleared(turned - mean, valid)
        covariance = centred.transpose(1, 2) @ centred / counts  # (batch, kernel, kernel)
        filters = self.basis.T @ self.weight  # (kernel, channels), of the coefficients
        variance = ((covariance @ filters) * filters).sum(1, keepdim=True)
        scale = norm.weight * torch.rsqrt(variance.clamp_min(0) + norm.eps)  # (batch, 1, channels)
        return windows @ (self.weight * scale) + (norm.bias - (mean @ filters) * scale)


def _cosines(size: int) -> Tensor:
    """Orthonormal DCT-II, ``(size, size)``, coefficients in columns."""
    from voxfide.frontends.lfcc import dct_matrix

    return dct_matrix(size, size).float()


class PaddedPosition(nn.Module):
    """The grouped positional convolution; zeros stand around every utterance."""

    def __init__(self, layer: PositionalConv) -> None:
        super().__init__()
        conv = layer.conv
        self.conv = nn.Conv1d(
            conv.in_channels, conv.out_channels, conv.kernel_size[0], padding=conv.kernel_size[0] // 2,
            groups=conv.groups,
        )  # fmt: skip
        self.conv.load_state_dict(conv.state_dict())
        self.batch_norm = layer.batch_norm
        self.activation = layer.activation

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        y = x.transpose(1, 2)
        y = y if self.batch_norm is None else self.batch_norm(y)
        y = self.conv(cleared(y, valid[:, None]))[:, :, : x.shape[1]]
        return self.activation(y).transpose(1, 2)


class PaddedAttention(nn.Module):
    """Self-attention of one layer, with WavLM's gate where it has one."""

    gate_weight: Tensor
    gate_bias: Tensor

    def __init__(self, layer: Attention) -> None:
        super().__init__()
        self.layer = layer
        self.heads = layer.heads
        if layer.gated:
            linear = layer.gru_rel_pos_linear
            # The eight outputs are summed in two groups of four: sum the weights instead.
            self.register_buffer("gate_weight", linear.weight.detach().view(2, 4, -1).sum(1).T.contiguous())
            self.register_buffer("gate_bias", linear.bias.detach().view(2, 4).sum(1))

    def forward(self, x: Tensor, masked: Tensor, bias: Tensor | None) -> Tensor:
        """``(batch, T, dim)``; ``masked (batch, 1, 1, T)`` is added to scores, ``bias (heads, T, T)`` too."""
        size, dim = x.shape[1:]
        width = dim // self.heads
        q, k, v = (
            project(x).reshape(-1, size, self.heads, width).transpose(1, 2)
            for project in (self.layer.q_proj, self.layer.k_proj, self.layer.v_proj)
        )
        scores = (q * width**-0.5) @ k.transpose(2, 3)
        if bias is not None:
            scores = scores + self._gate(x, width) * bias
        mixed = (scores + masked).softmax(-1) @ v
        return self.layer.out_proj(mixed.transpose(1, 2).reshape(-1, size, dim))

    def _gate(self, x: Tensor, width: int) -> Tensor:
        """``(batch, heads, T, 1)`` factor of the position bias."""
        split = x.reshape(-1, x.shape[1], self.heads, width).transpose(1, 2)
        a, b = torch.sigmoid(split @ self.gate_weight + self.gate_bias).split(1, dim=3)
        return a * (b * self.layer.gru_rel_pos_const - 1.0) + 2.0


class PaddedBlock(nn.Module):
    """A transformer block."""

    def __init__(self, layer: TransformerLayer) -> None:
        super().__init__()
        self.layer = layer
        self.attention = PaddedAttention(layer.attention)

    def forward(self, x: Tensor, masked: Tensor, bias: Tensor | None) -> Tensor:
        layer = self.layer
        if layer.norm_first:
            x = x + self.attention(layer.layer_norm(x), masked, bias)
            return x + layer.feed_forward(layer.final_layer_norm(x))
        x = layer.layer_norm(x + self.attention(x, masked, bias))
        return layer.final_layer_norm(x + layer.feed_forward(x))


class PaddedSSL(nn.Module):
    """Hidden states of a padded batch of waveforms.

    Args:
        encoder: gives the weights; stays as it is.
    """

    def __init__(self, encoder: SSLEncoder) -> None:
        super().__init__()
        config, inner = encoder.config, encoder.encoder
        self.config = config
        convolutions: Any = encoder.feature_extractor.conv_layers
        self.convolutions = nn.ModuleList(PaddedConv(layer) for layer in convolutions)
        self.projection = encoder.feature_projection
        self.position = PaddedPosition(inner.pos_conv_embed)
        self.norm = inner.layer_norm
        self.head_states = inner.head_states
        layers: Any = inner.layers
        self.blocks = nn.ModuleList(PaddedBlock(layer) for layer in layers)
        self.bias_table: nn.Parameter | None = None
        if config.model_type == "wavlm":
            table = layers[0].attention.rel_attn_embed.weight.detach()
            # Offsets from the largest distance on share a bucket, so that a finite table serves any length.
            buckets = relative_position_buckets(
                config.max_bucket_distance + 1, config.num_buckets, config.max_bucket_distance
            )
            self.bias_table = nn.Parameter(table[buckets].T.contiguous(), requires_grad=False)

    def forward(self, waveform: Tensor, lengths: Tensor) -> tuple[list[Tensor], Tensor]:
        """States, ``(batch, frames, dim)`` each, of ``waveform (batch, samples)``; and valid frames."""
        valid = valid_until(lengths, waveform.shape[1])
        x = self._normalised(waveform, lengths) if self.config.do_normalize else cleared(waveform, valid)
        x, frames = x[..., None], lengths
        for convolution in self.convolutions:
            x, frames = convolution(x, frames)
        x = self.projection(x)
        valid = valid_until(frames, x.shape[1])
        return list(self._states(x, valid)), frames

    def _normalised(self, waveform: Tensor, lengths: Tensor) -> Tensor:
        """Zero mean and unit variance of each utterance's own samples."""
        valid = valid_until(lengths, waveform.shape[1])
        counts = lengths[:, None].float()
        mean = cleared(waveform, valid).sum(1, keepdim=True) / counts
        centred = cleared(waveform - mean, valid)
        return centred / torch.sqrt(centred.square().sum(1, keepdim=True) / counts + 1e-7)

    def _states(self, x: Tensor, valid: Tensor) -> Iterator[Tensor]:
        norm_first = self.config.do_stable_layer_norm
        x = x + self.position(x, valid)
        if self.norm is not None and not norm_first:
            x = self.norm(x)
        if self.head_states:
            yield x
        masked = torch.where(valid, 0.0, OUT_OF_SIGHT)[:, None, None]
        bias = None if self.bias_table is None else self._bias(x.shape[1])
        for block in self.blocks:
            x = block(x, masked, bias)
            yield x
        if norm_first and self.norm is not None:
            yield self.norm(x)

    def _bias(self, size: int) -> Tensor:
        """WavLM's ``(heads, size, size)`` bias, before the gate."""
        assert self.bias_table is not None
        far = self.config.max_bucket_distance
        place = torch.arange(size)
        offset = (place[None] - place[:, None]).clamp(-far, far) + far
        return self.bias_table[:, offset]
