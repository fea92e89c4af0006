"""Building blocks of the wav2vec 2.0 family, computed on packed utterances.

Packed means: frames of all utterances stand one after another in one
``(frames, dim)`` array and ``frames: list[int]`` says where each ends. Linear layers
and norms never see the boundaries; the positional convolution and attention respect
them. Parameter names are those of ``transformers``, so that official checkpoints
load by name. Dropout is 0 unless fine-tuning sets it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from voxfide.frontends.ssl_config import SSLConfig
from voxfide.frontends.ssl_gradient import LongConv

CHUNK_FRAMES = 100
"""Output frames (2 s) that the convolutional encoder computes at a time on a CPU: its widest
activation (512 channels at 3.2 kHz) then stays small enough to be reused from the allocator."""

FFT_BLOCK = 512
"""Frames a block of the overlap-save positional convolution."""


def activation(name: str) -> nn.Module:
    """The non-linearity that a configuration names."""
    if name in ("gelu_new", "gelu_pytorch_tanh"):
        return nn.GELU(approximate="tanh")
    return {"gelu": nn.GELU(), "relu": nn.ReLU(), "silu": nn.SiLU(), "swish": nn.SiLU()}[name]


def runs(frames: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    """Neighbouring utterances of equal length, as ``(first frame, utterances, frames each)``."""
    start = position = 0
    while position < len(frames):
        size = frames[position]
        end = position
        while end < len(frames) and frames[end] == size:
            end += 1
        yield start, end - position, size
        start += size * (end - position)
        position = end


class ConvLayer(nn.Module):
    """Strided convolution, norm and activation over ``(batch, channels, time)``."""

    def __init__(self, config: SSLConfig, index: int) -> None:
        super().__init__()
        in_dim = config.conv_dim[index - 1] if index else 1
        out_dim = config.conv_dim[index]
        self.conv = nn.Conv1d(
            in_dim, out_dim, config.conv_kernel[index], config.conv_stride[index], bias=config.conv_bias
        )
        self.layer_norm: nn.Module | None = None
        if config.feat_extract_norm == "layer":
            self.layer_norm = nn.LayerNorm(out_dim)
        elif index == 0:
            self.layer_norm = nn.GroupNorm(out_dim, out_dim)
        self.activation = activation(config.feat_extract_activation)

    def forward(self, x: Tensor, folded: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """``folded`` is weight and bias with an utterance-wide norm in them; see :meth:`folded`."""
        x = self.conv(x) if folded is None else F.conv1d(x, *folded, stride=self.conv.stride)
        if isinstance(self.layer_norm, nn.LayerNorm):
            x = self.layer_norm(x.transpose(1, 2)).transpose(1, 2)
        return self.activation(x)

    def folded(self, waveform: Tensor) -> tuple[Tensor, Tensor]:
        """Weight and bias of convolution and GroupNorm in one, for one whole utterance.

        The convolution is linear, so mean and variance of its output over time follow
        from mean and covariance of the input windows: the norm becomes a scale and a
        shift before anything is computed, and the signal can then be worked off in
        chunks. Statistics are those of the utterance's own samples, whatever batch it
        stands in.
        """
        conv, norm = self.conv, self.layer_norm
        assert isinstance(norm, nn.GroupNorm)
        exact = torch.float32 if waveform.device.type == "mps" else torch.float64
        cut = waveform.unfold(0, conv.kernel_size[0], conv.stride[0]).to(exact)
        mean = cut.mean(dim=0)
        centred = cut - mean
        covariance = centred.T @ centred / len(cut)
        kernel = conv.weight[:, 0].to(exact)
        variance = torch.einsum("ci,ij,cj->c", kernel, covariance, kernel)
        scale = norm.weight.to(exact) / torch.sqrt(variance.clamp_min(0) + norm.eps)
        shift = norm.bias.to(exact) - (kernel @ mean) * scale
        return (conv.weight * scale[:, None, None]).to(conv.weight.dtype), shift.to(conv.weight.dtype)


class ConvEncoder(nn.Module):
    """The strided convolutions: waveform to 50 feature vectors a second."""

    def __init__(self, config: SSLConfig) -> None:
        super().__init__()
        self.conv_layers = nn.ModuleList(ConvLayer(config, i) for i in range(len(config.conv_dim)))
        self.hop = config.hop_samples
        self.field = config.receptive_field

    def forward(self, waveform: Tensor) -> Tensor:
        """``(samples,)`` to ``(frames, channels)``, in chunks that overlap by the receptive field."""
        n_frames = (len(waveform) - self.field) // self.hop + 1
        first = self.conv_layers[0]
        assert isinstance(first, ConvLayer)
        folded = first.folded(waveform) if isinstance(first.layer_norm, nn.GroupNorm) else None
        size = CHUNK_FRAMES if waveform.device.type == "cpu" else n_frames
        n_chunks = math.ceil(n_frames / size)
        edges = [round(i * n_frames / n_chunks) for i in range(n_chunks + 1)]
        return torch.cat([
            self._chunk(waveform[a * self.hop : (b - 1) * self.hop + self.field], folded)
            for a, b in pairwise(edges)
        ])  # fmt: skip

    def _chunk(self, waveform: Tensor, folded: tuple[Tensor, Tensor] | None) -> Tensor:
        x = waveform[None, None]
        for index, layer in enumerate(self.conv_layers):
            x = layer(x, folded if index == 0 else None)
        return x[0].T


class FeatureProjection(nn.Module):
    """Norm and linear map from the convolutions' width to the transformer's."""

    def __init__(self, config: SSLConfig) -> None:
        super().__init__()
        eps = config.layer_norm_eps
        self.layer_norm = nn.LayerNorm(config.conv_dim[-1], eps=eps) if config.feat_proj_layer_norm else None
        self.projection = nn.Linear(config.conv_dim[-1], config.hidden_size)
        self.dropout = nn.Dropout(0.0)

    def forward(self, x: Tensor) -> Tensor:
        return self.dropout(self.projection(x if self.layer_norm is None else self.layer_norm(x)))


class PositionalConv(nn.Module):
    """Grouped convolution over time whose output is added to the features as position information."""

    def __init__(self, config: SSLConfig) -> None:
        super().__init__()
        kernel = config.num_conv_pos_embeddings
        self.conv = nn.Conv1d(
            config.hidden_size, config.hidden_size, kernel, groups=config.num_conv_pos_embedding_groups
        )
        self.batch_norm = nn.BatchNorm1d(config.hidden_size) if config.conv_pos_batch_norm else None
        self.activation = activation(config.feat_extract_activation)
        self._spectrum: tuple[int, Tensor] | None = None

    def forward(self, x: Tensor, frames: Sequence[int]) -> Tensor:
        """Packed ``(frames, dim)`` to the same; every utterance sees zeros beyond its ends."""
        if self.batch_norm is not None:
            x = self.batch_norm(x)
        kernel = self.conv.kernel_size[0]
        gap = kernel // 2
        lengths = torch.tensor(frames, device=x.device)
        owner = torch.repeat_interleave(torch.arange(len(frames), device=x.device), lengths)
        place = torch.arange(len(x), device=x.device) + owner * gap
        spaced = x.new_zeros(len(x) + (len(frames) + 1) * gap, x.shape[1]).index_copy(0, place + gap, x)
        on_cpu = x.device.type == "cpu"
        y = self._on_cpu(spaced).to(x.dtype) if on_cpu else self.conv(spaced.T[None])[0].T
        return self.activation(y.index_select(0, place))

    def _on_cpu(self, spaced: Tensor) -> Tensor:
        """In single precision, whatever is asked for around it: it costs less so, and on processors with AMX
        the grouped convolution of bfloat16 is wrong where a group has fewer than 16 channels (torch 2.13:
        errors as large as the values, in the forward pass alone)."""
        conv = self.conv
        with torch.autocast("cpu", enabled=False):
            spaced = spaced.float()
            if not torch.is_grad_enabled():
                return self._by_fft(spaced)
            if conv.kernel_size[0] <= FFT_BLOCK // 2:
                made: Tensor = LongConv.apply(spaced.T.contiguous(), conv.weight, conv.bias, conv.groups)
                return made.T
            whole: Tensor = conv(spaced.T[None])[0].T
            return whole

    def _by_fft(self, spaced: Tensor) -> Tensor:
        """Overlap-save: 5 to 20 times fewer operations than the 128-tap convolution itself."""
        groups, kernel = self.conv.groups, self.conv.kernel_size[0]
        step = FFT_BLOCK - kernel + 1
        n_blocks = math.ceil((len(spaced) - kernel + 1) / step)
        padded = F.pad(spaced.T, (0, n_blocks * step + kernel - 1 - len(spaced)))
        blocks = torch.fft.rfft(padded.unfold(1, FFT_BLOCK, step))  # (dim, blocks, bins)
        grouped = blocks.view(groups, -1, *blocks.shape[1:]).permute(0, 3, 1, 2)  # (groups, bins, in, blocks)
        product = torch.matmul(self._weight_spectrum(), grouped)  # (groups, bins, out, blocks)
        out = torch.fft.irfft(product.permute(0, 2, 3, 1), n=FFT_BLOCK)[..., :step]
        return out.reshape(blocks.shape[0], -1).T + self.conv.bias

    def _weight_spectrum(self) -> Tensor:
        weight = self.conv.weight
        version = weight._version if not weight.is_inference() else 0
        # A weight computed anew from its parts, as in fine-tuning, tells nothing by its version.
        kept = not is_parametrized(self.conv)
        if self._spectrum is None or self._spectrum[0] != version or not kept:
            groups = self.conv.groups
            taps = weight.detach().view(groups, -1, *weight.shape[1:])  # (groups, out, in, kernel)
            spectrum = torch.fft.rfft(taps, n=FFT_BLOCK).conj().resolve_conj()
            self._spectrum = (version, spectrum.permute(0, 3, 1, 2).contiguous())
        return self._spectrum[1]


class Attention(nn.Module):
    """Multi-head self-attention; with WavLM's gated relative position bias where configured.

    The gate reads the layer's input, split into heads (Chen et al. 2022, "WavLM",
    section III-C); the bias itself is stored in the first layer and shared by all.
    """

    def __init__(self, config: SSLConfig, has_bias_table: bool) -> None:
        super().__init__()
        dim = config.hidden_size
        self.heads = config.num_attention_heads
        self.k_proj = nn.Linear(dim, dim)
        self.v_proj = nn.Linear(dim, dim)
        self.q_proj = nn.Linear(dim, dim)
        self.out_proj = nn.Linear(dim, dim)
        self.gated = config.model_type == "wavlm"
        if self.gated:
            self.gru_rel_pos_const = nn.Parameter(torch.ones(1, self.heads, 1, 1))
            self.gru_rel_pos_linear = nn.Linear(dim // self.heads, 8)
        if has_bias_table:
            self.rel_attn_embed = nn.Embedding(config.num_buckets, self.heads)
        self.dropout = 0.0

    def forward(self, x: Tensor, frames: Sequence[int], biases: dict[int, Tensor]) -> Tensor:
        """Packed ``(frames, dim)`` to the same; ``biases[T]`` is the ``(heads, T, T)`` position bias."""
        q, k, v = self.q_proj(x), self.k_proj(x), self.v_proj(x)
        gate = self._gate(x) if self.gated else None
        if x.device.type == "cpu":
            mixed = self._by_runs(q, k, v, gate, frames, biases)
        else:
            mixed = self._padded(q, k, v, gate, frames, biases)
        return self.out_proj(mixed)

    def _gate(self, x: Tensor) -> Tensor:
        """``(frames, heads)`` factor of the position bias."""
        # The eight outputs are summed in two groups of four: sum the weights instead.
        weight = self.gru_rel_pos_linear.weight.view(2, 4, -1).sum(1)
        bias = self.gru_rel_pos_linear.bias.view(2, 4).sum(1)
        a, b = torch.sigmoid(F.linear(x.view(len(x), self.heads, -1), weight, bias)).unbind(-1)
        return a * (b * self.gru_rel_pos_const.view(-1) - 1.0) + 2.0

    def _attend(
        self, q: Tensor, k: Tensor, v: Tensor, gate: Tensor | None, bias: Tensor | None, valid: Tensor | None
    ) -> Tensor:
        """One batch ``(batch, T, dim)``; ``valid (batch, T)`` masks padded keys."""
        batch, size, dim = q.shape
        q, k, v = (t.view(batch, size, self.heads, -1).transpose(1, 2) for t in (q, k, v))
        mask = None
        if gate is not None and bias is not None:
            mask = gate.view(batch, size, self.heads).transpose(1, 2)[..., None] * bias
            mask = mask.to(q.dtype)
            if valid is not None:
                mask = mask.masked_fill(~valid[:, None, None, :], float("-inf"))
        elif valid is not None:
            mask = valid[:, None, None, :]
        dropped = self.dropout if self.training else 0.0
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropped)
        return out.transpose(1, 2).reshape(batch, size, dim)

    def _by_runs(
        self, q: Tensor, k: Tensor, v: Tensor, gate: Tensor | None, frames: Sequence[int], biases: dict
    ) -> Tensor:
        """No padding at all: one call for each run of equally long utterances."""
        mixed = []
        for start, count, size in runs(frames):
            part = slice(start, start + count * size)
            shape = (count, size, q.shape[1])
            gates = None if gate is None else gate[part]
            out = self._attend(
                q[part].view(shape), k[part].view(shape), v[part].view(shape), gates, biases.get(size), None
            )
            mixed.append(out.flatten(0, 1))
        return torch.cat(mixed)

    def _padded(
        self, q: Tensor, k: Tensor, v: Tensor, gate: Tensor | None, frames: Sequence[int], biases: dict
    ) -> Tensor:
        """One call for the whole batch, padded for attention only: for devices where launches cost."""
        size = max(frames)
        lengths = torch.tensor(frames, device=q.device)
        valid = torch.arange(size, device=q.device) < lengths[:, None]

        def spread(t: Tensor) -> Tensor:
            return t.new_zeros(*valid.shape, t.shape[-1]).masked_scatter(valid[..., None], t)

        gates = None if gate is None else spread(gate)
        out = self._attend(spread(q), spread(k), spread(v), gates, biases.get(size), valid)
        return out[valid]


class FeedForward(nn.Module):
    """Two linear maps with an activation between."""

    def __init__(self, config: SSLConfig) -> None:
        super().__init__()
        self.intermediate_dense = nn.Linear(config.hidden_size, config.intermediate_size)
        self.intermediate_act_fn = activation(config.hidden_act)
        self.output_dense = nn.Linear(config.intermediate_size, config.hidden_size)
        self.intermediate_dropout = nn.Dropout(0.0)
        self.output_dropout = nn.Dropout(0.0)

    def forward(self, x: Tensor) -> Tensor:
        x = self.intermediate_dropout(self.intermediate_act_fn(self.intermediate_dense(x)))
        return self.output_dropout(self.output_dense(x))


class TransformerLayer(nn.Module):
    """Attention and feed-forward; norms after them (base models) or before (``do_stable_layer_norm``)."""

    def __init__(self, config: SSLConfig, index: int) -> None:
        super().__init__()
        self.attention = Attention(config, has_bias_table=config.model_type == "wavlm" and index == 0)
        self.layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.feed_forward = FeedForward(config)
        self.final_layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(0.0)
        self.norm_first = config.do_stable_layer_norm

    def forward(self, x: Tensor, frames: Sequence[int], biases: dict[int, Tensor]) -> Tensor:
        if self.norm_first:
            x = x + self.dropout(self.attention(self.layer_norm(x), frames, biases))
            return x + self.feed_forward(self.final_layer_norm(x))
        x = self.layer_norm(x + self.dropout(self.attention(x, frames, biases)))
        return self.final_layer_norm(x + self.feed_forward(x))
