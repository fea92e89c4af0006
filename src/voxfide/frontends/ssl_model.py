"""The wav2vec 2.0 / HuBERT / WavLM encoder, cut to its first n transformer layers.

A. Baevski et al., "wav2vec 2.0", NeurIPS 2020; W.-N. Hsu et al., "HuBERT", TASLP
2021; S. Chen et al., "WavLM", JSTSP 2022. One architecture serves all three; it is
written here, rather than taken from ``transformers``, so that batches need no
padding, only the asked-for layers exist, and start-up stays short. ``transformers``
is the reference that the tests compare it with.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from voxfide.frontends.ssl_config import SSLConfig, layers_to_build
from voxfide.frontends.ssl_layers import ConvEncoder, FeatureProjection, PositionalConv, TransformerLayer


def relative_position_buckets(size: int, n_buckets: int, max_distance: int) -> Tensor:
    """Bucket of every offset ``-(size - 1) ... size - 1``, ``(2 size - 1,)``.

    Half of the buckets for each sign; offsets are exact up to a quarter of
    ``n_buckets``, then logarithmic up to ``max_distance`` (T5's scheme).
    """
    offset = torch.arange(-(size - 1), size)
    half = n_buckets // 2
    exact = half // 2
    distance = offset.abs()
    logarithmic = torch.log(distance.float() / exact) / math.log(max_distance / exact) * (half - exact)
    far = (exact + logarithmic.clamp_min(0)).to(torch.int64).clamp_max(half - 1)
    return (offset > 0).to(torch.int64) * half + torch.where(distance < exact, distance, far)


class TransformerEncoder(nn.Module):
    """Positional convolution and ``n_layers`` blocks on packed frames.

    Attributes:
        layerdrop: in training, probability that a block is left out (Fan et al. 2020).
        layerdrop_seed: of which blocks that are; None draws from torch's global state.
        gradient_checkpointing: compute blocks again in the backward pass, to save memory.
    """

    def __init__(self, config: SSLConfig, n_layers: int, head_states: bool = False) -> None:
        super().__init__()
        self.config = config
        self.head_states = head_states
        self.pos_conv_embed = PositionalConv(config)
        # Pre-norm models apply this norm only after their last layer, beyond the hidden states of blocks.
        self.layer_norm = (
            None
            if config.do_stable_layer_norm and not head_states
            else nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        )
        self.dropout = nn.Dropout(0.0)
        self.layers = nn.ModuleList(TransformerLayer(config, i) for i in range(n_layers))
        self.layerdrop = 0.0
        self.layerdrop_seed: int | None = None
        self.gradient_checkpointing = False

    def position_bias(self, size: int) -> Tensor:
        """WavLM's ``(heads, size, size)`` bias, before the gate."""
        first = self.layers[0]
        assert isinstance(first, TransformerLayer)
        table = first.attention.rel_attn_embed
        buckets = relative_position_buckets(size, self.config.num_buckets, self.config.max_bucket_distance)
        by_offset = table(buckets.to(table.weight.device)).T  # (heads, 2 size - 1)
        return by_offset.unfold(1, size, 1).flip(1)

    def forward(self, x: Tensor, frames: Sequence[int]) -> Iterator[Tensor]:
        """Yields the output of each block, packed ``(frames, dim)``; see ``head_states`` of the model."""
        norm_first = self.config.do_stable_layer_norm
        x = x + self.pos_conv_embed(x, frames)
        if self.layer_norm is not None and not norm_first:
            x = self.layer_norm(x)
        x = self.dropout(x)
        if self.head_states:
            yield x
        biases: dict[int, Tensor] = {}
        if self.config.model_type == "wavlm":
            sizes = set(frames) if x.device.type == "cpu" else {max(frames)}
            biases = {size: self.position_bias(size) for size in sizes}
        seed = self.layerdrop_seed
        chance = None if seed is None else torch.Generator().manual_seed(seed)
        for index, layer in enumerate(self.layers):
            # The first block is never dropped: in WavLM it holds the position bias of all.
            if not (index and self._leaves_out(chance)):
                x = self._block(layer, x, frames, biases)
            yield x
        if norm_first and self.layer_norm is not None:
            yield self.layer_norm(x)

    def _leaves_out(self, chance: torch.Generator | None) -> bool:
        if not (self.training and self.layerdrop):
            return False
        return bool(torch.rand((), generator=chance) < self.layerdrop)

    def _block(self, layer: nn.Module, x: Tensor, frames: Sequence[int], biases: dict[int, Tensor]) -> Tensor:
        if not (self.gradient_checkpointing and self.training and torch.is_grad_enabled()):
            out: Tensor = layer(x, frames, biases)
        else:
            # With use_reentrant=True, WavLM's shared bias makes the backward pass run on and on.
            out = checkpoint(layer, x, frames, biases, use_reentrant=False)
        return out


class SSLEncoder(nn.Module):
    """Waveforms to the hidden states of blocks 1...n.

    Args:
        config: the model's configuration.
        n_layers: how many blocks to build; all of them where left out.
        head_states: yield what classification heads read, states 0...n: the transformer's input, then
            the blocks' outputs; and of a pre-norm model the last one after the final norm once more.

    Raises:
        UsageError: ``n_layers`` outside ``1 ... config.num_hidden_layers``.
    """

    def __init__(self, config: SSLConfig, n_layers: int | None = None, head_states: bool = False) -> None:
        super().__init__()
        n_layers = layers_to_build(n_layers, config.num_hidden_layers)
        self.config = config
        self.n_layers = n_layers
        self.feature_extractor = ConvEncoder(config)
        self.feature_projection = FeatureProjection(config)
        self.encoder = TransformerEncoder(config, n_layers, head_states)

    @property
    def n_states(self) -> int:
        """How many hidden states it yields."""
        if not self.encoder.head_states:
            return self.n_layers
        return 1 + self.n_layers + self.config.do_stable_layer_norm

    def n_frames(self, n_samples: int) -> int:
        """Frames of ``n_samples`` samples; 0 below the receptive field."""
        return max(0, (n_samples - self.config.receptive_field) // self.config.hop_samples + 1)

    def forward(self, waveforms: Sequence[Tensor]) -> Iterator[Tensor]:
        """Yields layers 1...n in order, packed ``(sum of frames, dim)``.

        Args:
            waveforms: ``(samples,)`` float32 each, at least the receptive field long.
        """
        yield from self.encoder(*self.project(waveforms))

    def project(self, waveforms: Sequence[Tensor]) -> tuple[Tensor, list[int]]:
        """What enters the transformer, packed ``(sum of frames, dim)``, and frames of each utterance."""
        if self.config.do_normalize:
            waveforms = [normalise(w) for w in waveforms]
        features = [self.feature_extractor(w) for w in waveforms]
        return self.feature_projection(torch.cat(features)), [len(f) for f in features]


def normalise(waveform: Tensor) -> Tensor:
    """Zero mean and unit variance, with the 1e-7 that ``Wav2Vec2FeatureExtractor`` adds."""
    centred = waveform - waveform.mean()
    return centred / torch.sqrt(centred.square().mean() + 1e-7)
