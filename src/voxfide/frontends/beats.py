"""BEATs: a transformer over patches of a spectrogram, trained on AudioSet.

S. Chen et al., "BEATs: Audio pre-training with acoustic tokenizers", ICML 2023. Kaldi log mel
energies of 128 bands at 16-bit scale are cut into patches of 16 frames by 16 bands; each is
one token, the eight of a time step after one another. The transformer is WavLM's with two
changes: residuals are scaled up before the norms (DeepNorm, Wang et al. 2022) and the gate of
the position bias reads the projected query, not the layer's input.

Frames, here, are time steps: the mean over the eight tokens of a step, one every 160 ms. The
mean over all frames is thus the mean over all tokens. Frames of the filter bank that fill no
whole patch (up to 150 ms at the end) are not seen, as in the reference.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from voxfide.errors import CheckpointError
from voxfide.frontends import kaldi_fbank
from voxfide.frontends.fairseq import SHARED_MODULES, FairseqEncoder, FairseqFrontend, Sizes, renamed
from voxfide.frontends.kaldi_fbank import KaldiFbank
from voxfide.frontends.released import fill, read_pickled, require_no_options, state_in, weights_file
from voxfide.frontends.ssl_config import SSLConfig
from voxfide.frontends.ssl_layers import Attention, TransformerLayer
from voxfide.frontends.ssl_model import TransformerEncoder
from voxfide.types import PathLike

N_BANDS = 128
PATCH = 16
BANDS_A_STEP = N_BANDS // PATCH
FULL_SCALE = 2.0**15
FBANK_MEAN, FBANK_STD = 15.41663, 6.55582
"""Of AudioSet, as the authors measured them; features are divided by twice the latter."""

REQUIRED: Mapping[str, Any] = {
    "activation_fn": "gelu",
    "input_patch_size": PATCH,
    "layer_norm_first": False,
    "deep_norm": True,
    "relative_position_embedding": True,
    "gru_rel_pos": True,
}
"""What every released checkpoint says of its architecture; nothing else is built here."""


@dataclass(frozen=True)
class BeatsConfig(Sizes):
    """Sizes of a BEATs model, as its checkpoint's ``cfg`` states them."""

    embed_dim: int = 512
    conv_bias: bool = False
    num_buckets: int = 320
    max_distance: int = 800

    @classmethod
    def from_checkpoint(cls, cfg: Any, path: Path) -> BeatsConfig:
        """Reads the checkpoint's ``cfg``.

        Raises:
            CheckpointError: no configuration, or of an architecture other than the releases'.
        """
        if not isinstance(cfg, Mapping):
            raise CheckpointError(f"{path}: no configuration under 'cfg' (expected a BEATs checkpoint)")
        problems = [f"{k} is {cfg.get(k)!r} (expected {v!r})" for k, v in REQUIRED.items() if cfg.get(k) != v]
        if problems:
            raise CheckpointError(f"{path}: not a supported BEATs model: " + "; ".join(problems))
        return cls.from_dict(cfg)


class QueryGatedAttention(Attention):
    """Attention whose position bias is gated by the projected query."""

    def forward(self, x: Tensor, frames: Sequence[int], biases: dict[int, Tensor]) -> Tensor:
        q, k, v = self.q_proj(x), self.k_proj(x), self.v_proj(x)
        attend = self._by_runs if x.device.type == "cpu" else self._padded
        return self.out_proj(attend(q, k, v, self._gate(q), frames, biases))


class DeepNormLayer(TransformerLayer):
    """A post-norm block whose residuals count ``scale`` times."""

    def __init__(self, config: SSLConfig, index: int) -> None:
        super().__init__(config, index)
        self.attention = QueryGatedAttention(config, has_bias_table=index == 0)
        self.scale = (2 * config.num_hidden_layers) ** 0.25

    def forward(self, x: Tensor, frames: Sequence[int], biases: dict[int, Tensor]) -> Tensor:
        x = self.layer_norm(x * self.scale + self.dropout(self.attention(x, frames, biases)))
        return self.final_layer_norm(x * self.scale + self.feed_forward(x))


class BeatsEncoder(FairseqEncoder):
    """Waveforms to the outputs of blocks 1...n."""

    sizes: ClassVar[type[Sizes]] = BeatsConfig
    hop_samples = PATCH * kaldi_fbank.HOP_SAMPLES
    min_samples = kaldi_fbank.samples_for(PATCH)

    def __init__(self, config: BeatsConfig, n_layers: int | None = None) -> None:
        super().__init__(config, n_layers)
        self.fbank = KaldiFbank(N_BANDS, "povey")
        self.patch_embedding = nn.Conv2d(1, config.embed_dim, PATCH, PATCH, bias=config.conv_bias)
        self.layer_norm = nn.LayerNorm(config.embed_dim)
        # The reference leaves the projection out where it would not change the width.
        same = config.embed_dim == config.encoder_embed_dim
        self.post_extract_proj = None if same else nn.Linear(config.embed_dim, config.encoder_embed_dim)
        ssl = config.ssl("wavlm", num_buckets=config.num_buckets, max_bucket_distance=config.max_distance)
        self.encoder = TransformerEncoder(ssl, 0)
        self.encoder.layers = nn.ModuleList(DeepNormLayer(ssl, i) for i in range(self.n_layers))

    def n_frames(self, n_samples: int) -> int:
        return kaldi_fbank.n_frames(n_samples) // PATCH

    def features(self, waveform: Tensor) -> Tensor:
        """Normalised log mel energies of whole patches, ``(16 frames, 128)``."""
        bands = (self.fbank(waveform * FULL_SCALE) - FBANK_MEAN) / (2 * FBANK_STD)
        return bands[: PATCH * self.n_frames(len(waveform))]

    def patches(self, waveforms: Sequence[Tensor]) -> Tensor:
        """Patch embeddings after their norm, packed ``(sum of tokens, embed_dim)``, eight a time step."""
        embedded = self.patch_embedding(torch.cat([self.features(w) for w in waveforms])[None, None])
        return self.layer_norm(embedded[0].flatten(1).T)

    def tokens(self, waveforms: Sequence[Tensor]) -> Iterator[Tensor]:
        """Yields layers 1...n in order, packed ``(sum of tokens, dim)``."""
        x = self.patches(waveforms)
        if self.post_extract_proj is not None:
            x = self.post_extract_proj(x)
        yield from self.encoder(x, [BANDS_A_STEP * self.n_frames(len(w)) for w in waveforms])

    def forward(self, waveforms: Sequence[Tensor]) -> Iterator[Tensor]:
        """Yields layers 1...n in order, packed ``(sum of frames, dim)``."""
        for layer in self.tokens(waveforms):
            yield layer.view(-1, BANDS_A_STEP, layer.shape[-1]).float().mean(dim=1)


class Beats(FairseqFrontend):
    """BEATs as a front-end: one frame every 160 ms, layer n is the output of block n."""

    kind: ClassVar[str] = "beats"
    encoder_class: ClassVar[type[FairseqEncoder]] = BeatsEncoder
    source_modules: ClassVar[tuple[str, ...]] = (*SHARED_MODULES, __name__)


def make(
    name: str,
    n_layers: int | None,
    *,
    revision: str | None,
    precision: str,
    weights: PathLike | None = None,
    **options: Any,
) -> Beats:
    """Loads a released checkpoint, pre-trained or fine-tuned, cut to its first ``n_layers`` blocks.

    Raises:
        CheckpointError: no weights, or not those of a BEATs model.
    """
    require_no_options(name, options, "weights")
    path, source = weights_file(name, weights, revision)
    content = read_pickled(path)
    config = BeatsConfig.from_checkpoint(content.get("cfg"), path)
    with torch.device("meta"):
        encoder = BeatsEncoder(config, n_layers)
    fill(encoder, renamed(state_in(content, "model", path)), path)
    return Beats(encoder, name, precision, source)
