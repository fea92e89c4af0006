"""DeCoAR 2.0: a wav2vec 2.0-style transformer over filter-bank features.

S. Ling, Y. Liu, "DeCoAR 2.0: Deep contextualized acoustic representations with vector
quantization", 2020 (arXiv 2012.06659). Trained by filling in masked slices of the features
through a vector quantiser; the quantiser is not needed here.

Input is as s3prl computes it, in which the model is commonly evaluated: 80 Kaldi log mel
energies of samples in -1...1 with Hamming windows, each band to zero mean and unit variance
over the utterance, every second frame. (The authors' own script calls Kaldi's programs,
with Povey windows, 16-bit scale and random dither.)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from voxfide.frontends import kaldi_fbank
from voxfide.frontends.fairseq import SHARED_MODULES, FairseqEncoder, FairseqFrontend, Sizes, renamed
from voxfide.frontends.kaldi_fbank import KaldiFbank
from voxfide.frontends.released import fill, read_pickled, require_no_options, state_in, weights_file
from voxfide.frontends.ssl_model import TransformerEncoder
from voxfide.types import PathLike

SIZES = Sizes()
"""Of the released model; its checkpoint does not state them."""
N_BANDS = 80
KEEP_EVERY = 2
EPS = 1e-10
"""Added to a band's standard deviation, as in the reference."""


def normalise(bands: Tensor) -> Tensor:
    """Zero mean and unit variance (of the sample, ``n - 1``) of each band over time."""
    return (bands - bands.mean(dim=0)) / (bands.std(dim=0) + EPS)


class Decoar2Encoder(FairseqEncoder):
    """Waveforms to the outputs of blocks 1...n."""

    hop_samples = KEEP_EVERY * kaldi_fbank.HOP_SAMPLES
    min_samples = kaldi_fbank.samples_for(2)  # one frame alone has no variance

    def __init__(self, config: Sizes, n_layers: int | None = None) -> None:
        super().__init__(config, n_layers)
        self.fbank = KaldiFbank(N_BANDS, "hamming")
        self.post_extract_proj = nn.Linear(N_BANDS, config.encoder_embed_dim)
        self.encoder = TransformerEncoder(config.ssl("wav2vec2"), self.n_layers)

    def n_frames(self, n_samples: int) -> int:
        if n_samples < self.min_samples:
            return 0
        return (kaldi_fbank.n_frames(n_samples) + KEEP_EVERY - 1) // KEEP_EVERY

    def features(self, waveform: Tensor) -> Tensor:
        """The transformer's input features, ``(frames, 80)``."""
        return normalise(self.fbank(waveform))[::KEEP_EVERY]

    def forward(self, waveforms: Sequence[Tensor]) -> Iterator[Tensor]:
        """Yields layers 1...n in order, packed ``(sum of frames, dim)``."""
        features = [self.features(w) for w in waveforms]
        x = self.post_extract_proj(torch.cat(features))
        yield from self.encoder(x, [len(f) for f in features])


class Decoar2(FairseqFrontend):
    """DeCoAR 2.0 as a front-end: one frame every 20 ms, layer n is the output of block n."""

    kind: ClassVar[str] = "decoar2"
    encoder_class: ClassVar[type[FairseqEncoder]] = Decoar2Encoder
    source_modules: ClassVar[tuple[str, ...]] = (*SHARED_MODULES, __name__)


def make(
    name: str,
    n_layers: int | None,
    *,
    revision: str | None,
    precision: str,
    weights: PathLike | None = None,
    **options: Any,
) -> Decoar2:
    """Loads ``checkpoint_decoar2.pt``, cut to its first ``n_layers`` blocks.

    Raises:
        CheckpointError: no weights, or not those of this model.
    """
    require_no_options(name, options, "weights")
    path, source = weights_file(name, weights, revision)
    with torch.device("meta"):
        encoder = Decoar2Encoder(SIZES, n_layers)
    fill(encoder, renamed(state_in(read_pickled(path), "model", path)), path)
    return Decoar2(encoder, name, precision, source)
