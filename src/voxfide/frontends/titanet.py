"""TitaNet speaker embeddings, as NVIDIA trained and released them with NeMo.

N. R. Koluguri, T. Park, B. Ginsburg, "TitaNet: Neural model for speaker representation
with 1D depth-wise separable convolutions and global context", ICASSP 2022. The release
is a ``.nemo`` archive: a tar file with ``model_config.yaml`` and ``model_weights.ckpt``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from voxfide.errors import CheckpointError
from voxfide.frontends.attentive_pooling import AttentiveStatistics
from voxfide.frontends.frozen import (
    SHARED_MODULES,
    FrozenNorm,
    UtteranceFrontend,
    fill_exactly,
    locate_weights,
)
from voxfide.frontends.mel import slaney_bank, spectrogram
from voxfide.frontends.nemo import NemoArchive
from voxfide.types import SAMPLE_RATE, PathLike

WINDOW, HOP, N_FFT = 400, 160, 512
N_MELS = 80
PRE_EMPHASIS = 0.97
LOG_OFFSET = 2.0**-24
DEVIATION_OFFSET = 1e-5
NORM_EPS = 1e-3
GIVEN = {
    "preprocessor.sample_rate": SAMPLE_RATE,
    "preprocessor.window_size": WINDOW / SAMPLE_RATE,
    "preprocessor.window_stride": HOP / SAMPLE_RATE,
    "preprocessor.window": "hann",
    "preprocessor.n_fft": N_FFT,
    "preprocessor.features": N_MELS,
    "preprocessor.normalize": "per_feature",
    "encoder.activation": "relu",
    "decoder.pool_mode": "attention",
}
"""Entries of a release's configuration, and what they must be for this module to be the model."""
GIVEN_OF_BLOCKS = {"stride": [1], "dilation": [1], "separable": True, "se": True, "se_context_size": -1}
UNUSED = ("preprocessor.", "decoder.final.", "loss.")
"""Prefixes of tensors in a release that its embeddings do not need."""


@dataclass(frozen=True)
class TitaNetConfig:
    """Sizes of the network, an entry a block; the defaults are those of the large release.

    Attributes:
        filters, kernels: channels and taps of a block.
        repeats: depth-wise separable convolutions in a block.
        residual: whether a block adds its input.
        se_reduction: channels of a squeeze-and-excitation gate's hidden layer are this part.
    """

    filters: tuple[int, ...] = (1024, 1024, 1024, 1024, 3072)
    repeats: tuple[int, ...] = (1, 3, 3, 3, 1)
    kernels: tuple[int, ...] = (3, 7, 11, 15, 1)
    residual: tuple[bool, ...] = (False, True, True, True, False)
    attention_channels: int = 128
    dim: int = 192
    se_reduction: int = 8

    @classmethod
    def of(cls, archive: NemoArchive) -> TitaNetConfig:
        """What the configuration in an archive says.

        Raises:
            CheckpointError: it is that of another model; names every entry that differs.
        """
        problems = [
            f"{key} is {found!r}, expected {expected!r}"
            for key, expected in GIVEN.items()
            if (found := archive.value(key)) != expected
        ]
        blocks = archive.value("encoder.jasper")
        if not isinstance(blocks, list) or not all(isinstance(b, dict) for b in blocks) or not blocks:
            raise CheckpointError(
                f"{archive.path}: no list encoder.jasper (expected a TitaNet configuration)"
            )
        for i, block in enumerate(blocks):
            problems += [
                f"encoder.jasper[{i}].{key} is {block.get(key)!r}, expected {expected!r}"
                for key, expected in GIVEN_OF_BLOCKS.items()
                if block.get(key) != expected
            ]
        if problems:
            raise CheckpointError(f"{archive.path}: not a TitaNet that is known here: " + "; ".join(problems))
        try:
            return cls(
                filters=tuple(int(b["filters"]) for b in blocks),
                repeats=tuple(int(b["repeat"]) for b in blocks),
                kernels=tuple(int(b["kernel"][0]) for b in blocks),
                residual=tuple(bool(b["residual"]) for b in blocks),
                attention_channels=int(archive.value("decoder.attention_channels") or 128),
                dim=int(archive.value("decoder.emb_sizes")),
                se_reduction=int(blocks[0].get("se_reduction_ratio", 8)),
            )
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise CheckpointError(
                f"{archive.path}: missing or malformed entry ({type(error).__name__}: {error})"
            ) from None


class Unit(nn.Module):
    """Depth-wise and point-wise convolution without bias, BatchNorm."""

    def __init__(self, n_in: int, n_out: int, kernel: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv1d(n_in, n_in, kernel, padding=kernel // 2, groups=n_in, bias=False)
        self.pointwise = nn.Conv1d(n_in, n_out, 1, bias=False)
        self.norm = FrozenNorm(n_out, NORM_EPS)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.pointwise(self.depthwise(x)))


class Block(nn.Module):
    """Separable convolutions, a squeeze-and-excitation gate, and the input added where residual."""

    def __init__(self, n_in: int, n_out: int, kernel: int, repeat: int, residual: bool, hidden: int) -> None:
        super().__init__()
        self.units = nn.ModuleList(Unit(n_out if i else n_in, n_out, kernel) for i in range(repeat))
        self.squeeze = nn.Linear(n_out, hidden, bias=False)
        self.excite = nn.Linear(hidden, n_out, bias=False)
        self.shortcut = nn.Conv1d(n_in, n_out, 1, bias=False) if residual else None
        self.shortcut_norm = FrozenNorm(n_out, NORM_EPS) if residual else None

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for number, unit in enumerate(self.units):
            y = unit(F.relu(y) if number else y)
        gate = torch.sigmoid(self.excite(F.relu(self.squeeze(y.mean(dim=-1)))))
        y = y * gate[..., None]
        if self.shortcut is not None and self.shortcut_norm is not None:
            y = y + self.shortcut_norm(self.shortcut(x))
        return F.relu(y)


class TitaNet(nn.Module):
    """Waveform to speaker embedding."""

    window: Tensor
    filterbank: Tensor

    def __init__(self, config: TitaNetConfig) -> None:
        super().__init__()
        self.config = config
        self.blocks = nn.ModuleList()
        n_in = N_MELS
        for n_out, kernel, repeat, residual in zip(
            config.filters, config.kernels, config.repeats, config.residual, strict=True
        ):
            self.blocks.append(Block(n_in, n_out, kernel, repeat, residual, n_out // config.se_reduction))
            n_in = n_out
        self.pooling = AttentiveStatistics(n_in, config.attention_channels, floor=1e-10)
        self.norm = FrozenNorm(2 * n_in)
        self.embedding = nn.Conv1d(2 * n_in, config.dim, 1)
        self.register_buffer("window", torch.hann_window(WINDOW, periodic=False), persistent=False)
        self.register_buffer("filterbank", slaney_bank(N_FFT, N_MELS), persistent=False)

    def log_mel(self, waveform: Tensor) -> Tensor:
        """``(samples,)`` to ``(samples // 160, 80)``, 100 frames a second."""
        emphasised = torch.cat([waveform[:1], waveform[1:] - PRE_EMPHASIS * waveform[:-1]])
        power = spectrogram(emphasised, self.window, HOP, N_FFT, centred=True).square()
        return torch.log(power[: len(waveform) // HOP] @ self.filterbank + LOG_OFFSET)

    def features(self, waveform: Tensor) -> Tensor:
        """Log mel energies, each band normalised over the utterance, ``(frames, 80)``."""
        level = self.log_mel(waveform)
        return (level - level.mean(dim=0)) / (level.std(dim=0) + DEVIATION_OFFSET)

    def encode(self, features: Tensor) -> Tensor:
        """``(frames, 80)`` to the encoder's output ``(1, channels, frames)``."""
        x = features.T[None]
        for block in self.blocks:
            x = block(x)
        return x

    def forward(self, waveform: Tensor) -> Tensor:
        """``(samples,)`` to ``(dim,)``."""
        statistics = self.pooling(self.encode(self.features(waveform)))
        return self.embedding(self.norm(statistics)[..., None])[0, :, 0]


class TitaNetFrontend(UtteranceFrontend):
    """TitaNet's embedding of an utterance, before the layer of speaker classes."""

    kind: ClassVar[str] = "titanet"
    encoder_type: ClassVar[type[nn.Module]] = TitaNet
    config_type: ClassVar[type] = TitaNetConfig
    source_modules: ClassVar[tuple[str, ...]] = (*SHARED_MODULES, __name__)
    encoder: TitaNet
    min_samples = 2 * HOP
    """Two frames: the spread of one is not defined."""


def official_names(config: TitaNetConfig) -> Iterator[tuple[str, str]]:
    """Beginnings of NeMo's tensor names and of ours; NeMo numbers a block's activations and dropouts too."""
    for i, repeat in enumerate(config.repeats):
        theirs, ours = f"encoder.encoder.{i}.", f"blocks.{i}."
        for r in range(repeat):
            yield f"{theirs}mconv.{5 * r}.conv.", f"{ours}units.{r}.depthwise."
            yield f"{theirs}mconv.{5 * r + 1}.conv.", f"{ours}units.{r}.pointwise."
            yield f"{theirs}mconv.{5 * r + 2}.", f"{ours}units.{r}.norm."
        gate = f"{theirs}mconv.{5 * repeat - 2}.fc."
        yield f"{gate}0.", f"{ours}squeeze."
        yield f"{gate}2.", f"{ours}excite."
        yield f"{theirs}res.0.0.conv.", f"{ours}shortcut."
        yield f"{theirs}res.0.1.", f"{ours}shortcut_norm."
    attention = "decoder._pooling.attention_layer."
    yield f"{attention}0.conv_layer.", "pooling.context."
    yield f"{attention}0.bn.", "pooling.norm."
    yield f"{attention}2.", "pooling.attention."
    yield "decoder.emb_layers.0.0.", "norm."
    yield "decoder.emb_layers.0.1.", "embedding."


def renamed(state: Mapping[str, Tensor], config: TitaNetConfig) -> dict[str, Tensor]:
    """A NeMo state dict under the names used here, without what embeddings do not need."""
    names = dict(official_names(config))
    ours = {}
    for name, tensor in state.items():
        if not name.startswith(UNUSED) and not name.endswith("num_batches_tracked"):
            start, _, last = name.rpartition(".")
            ours[names.get(f"{start}.", f"{start}.") + last] = tensor
    return ours


def make(
    name: str,
    n_layers: int | None,
    *,
    revision: str | None,
    precision: str,
    weights: PathLike | None = None,
    **options: Any,
) -> TitaNetFrontend:
    """Loads the released embeddings from the hub, or from a ``.nemo`` file."""
    path, source = locate_weights(name, weights, revision, precision, options)
    archive = NemoArchive.read(path)
    config = TitaNetConfig.of(archive)
    encoder = TitaNet(config)
    fill_exactly(encoder, renamed(archive.state, config), path)
    return TitaNetFrontend(encoder, name, source)
