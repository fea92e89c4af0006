"""ECAPA-TDNN speaker embeddings, as SpeechBrain trained and released them.

B. Desplanques, J. Thienpondt, K. Demuynck, "ECAPA-TDNN: Emphasized channel attention,
propagation and aggregation in TDNN based speaker verification", Interspeech 2020.
The release is the state dict ``embedding_model.ckpt``; the widths follow from it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from voxfide.errors import CheckpointError
from voxfide.frontends.attentive_pooling import AttentiveStatistics
from voxfide.frontends.checkpoint import ModelSource
from voxfide.frontends.frozen import (
    SHARED_MODULES,
    FrozenNorm,
    UtteranceFrontend,
    fill_exactly,
    locate_weights,
)
from voxfide.frontends.mel import spectrogram, speechbrain_bank
from voxfide.frontends.released import read_pickled
from voxfide.types import PathLike

WINDOW, HOP = 400, 160
N_MELS = 80
LEAST_POWER = 1e-10
RANGE_DB = 80.0
"""Bands weaker than this below an utterance's strongest are raised to it."""


@dataclass(frozen=True)
class EcapaConfig:
    """Widths of the network; the defaults are those of the release.

    Attributes:
        channels: of the first block and the SE-Res2Net blocks.
        aggregated: channels that the blocks' outputs are aggregated to.
        scale: groups of a Res2Net block.
        kernels, dilations: of the first block and the SE-Res2Net blocks.
    """

    channels: int = 1024
    aggregated: int = 3072
    attention_channels: int = 128
    se_channels: int = 128
    dim: int = 192
    scale: int = 8
    kernels: tuple[int, ...] = (5, 3, 3, 3)
    dilations: tuple[int, ...] = (1, 2, 3, 4)

    @classmethod
    def of(cls, state: Mapping[str, Tensor]) -> EcapaConfig:
        """What the shapes of a state dict say; dilations leave no trace there and are the paper's.

        Raises:
            KeyError: a tensor that says so is missing.
        """
        blocks = [f"blocks.{i}.res2net_block.blocks.0.conv.weight" for i in (1, 2, 3)]
        groups = [k for k in state if re.fullmatch(r"blocks\.1\.res2net_block\.blocks\.\d+\.conv\.weight", k)]
        return cls(
            channels=len(state["blocks.0.conv.weight"]),
            aggregated=len(state["mfa.conv.weight"]),
            attention_channels=len(state["asp.context.weight"]),
            se_channels=len(state["blocks.1.se_block.conv1.weight"]),
            dim=len(state["fc.weight"]),
            scale=len(groups) + 1,
            kernels=tuple(state[k].shape[2] for k in ("blocks.0.conv.weight", *blocks)),
        )

    @property
    def least_frames(self) -> int:
        """Mirrored padding must be shorter than what it mirrors."""
        return max((k - 1) * d // 2 for k, d in zip(self.kernels, self.dilations, strict=True)) + 1


class TdnnBlock(nn.Module):
    """Convolution over time with mirrored ends, ReLU, BatchNorm."""

    def __init__(self, n_in: int, n_out: int, kernel: int = 1, dilation: int = 1) -> None:
        super().__init__()
        mode: Literal["reflect", "zeros"] = "reflect" if kernel > 1 else "zeros"
        self.conv = nn.Conv1d(n_in, n_out, kernel, dilation=dilation, padding="same", padding_mode=mode)
        self.norm = FrozenNorm(n_out)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(F.relu(self.conv(x)))


class Res2NetBlock(nn.Module):
    """Groups of channels, each convolved together with the result of the group before it."""

    def __init__(self, channels: int, scale: int, kernel: int, dilation: int) -> None:
        super().__init__()
        width = channels // scale
        self.blocks = nn.ModuleList(TdnnBlock(width, width, kernel, dilation) for _ in range(scale - 1))

    def forward(self, x: Tensor) -> Tensor:
        first, *groups = x.chunk(len(self.blocks) + 1, dim=1)
        done = [first]
        for number, (block, group) in enumerate(zip(self.blocks, groups, strict=True)):
            done.append(block(group if number == 0 else group + done[-1]))
        return torch.cat(done, dim=1)


class SqueezeExcitation(nn.Module):
    """Channels scaled by a gate that sees their time averages."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(channels, hidden, 1)
        self.conv2 = nn.Conv1d(hidden, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.conv2(F.relu(self.conv1(x.mean(dim=-1, keepdim=True)))))


class SERes2NetBlock(nn.Module):
    """TDNN, Res2Net, TDNN, squeeze-and-excitation, and the input added."""

    def __init__(self, config: EcapaConfig, kernel: int, dilation: int) -> None:
        super().__init__()
        self.tdnn1 = TdnnBlock(config.channels, config.channels)
        self.res2net_block = Res2NetBlock(config.channels, config.scale, kernel, dilation)
        self.tdnn2 = TdnnBlock(config.channels, config.channels)
        self.se_block = SqueezeExcitation(config.channels, config.se_channels)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.se_block(self.tdnn2(self.res2net_block(self.tdnn1(x))))


class Ecapa(nn.Module):
    """Waveform to speaker embedding."""

    window: Tensor
    filterbank: Tensor

    def __init__(self, config: EcapaConfig) -> None:
        super().__init__()
        self.config = config
        first, *rest = zip(config.kernels, config.dilations, strict=True)
        self.blocks = nn.ModuleList([TdnnBlock(N_MELS, config.channels, *first)])
        self.blocks.extend(SERes2NetBlock(config, *shape) for shape in rest)
        self.mfa = TdnnBlock(config.channels * len(rest), config.aggregated)
        self.asp = AttentiveStatistics(config.aggregated, config.attention_channels, floor=1e-12)
        self.asp_bn = FrozenNorm(2 * config.aggregated)
        self.fc = nn.Conv1d(2 * config.aggregated, config.dim, 1)
        self.register_buffer("window", torch.hamming_window(WINDOW), persistent=False)
        self.register_buffer("filterbank", speechbrain_bank(WINDOW, N_MELS), persistent=False)

    def filterbanks(self, waveform: Tensor) -> Tensor:
        """``(samples,)`` to decibels ``(frames, 80)``, 100 frames a second."""
        power = spectrogram(waveform, self.window, HOP, WINDOW, centred=True).square()
        level = 10 * torch.log10((power @ self.filterbank).clamp_min(LEAST_POWER))
        return level.clamp_min(level.max() - RANGE_DB)

    def forward(self, waveform: Tensor) -> Tensor:
        """``(samples,)`` to ``(dim,)``."""
        features = self.filterbanks(waveform)
        x = (features - features.mean(dim=0)).T[None]
        outputs = []
        for block in self.blocks:
            x = block(x)
            outputs.append(x)
        statistics = self.asp(self.mfa(torch.cat(outputs[1:], dim=1)))
        return self.fc(self.asp_bn(statistics)[..., None])[0, :, 0]


class EcapaFrontend(UtteranceFrontend):
    """ECAPA-TDNN's embedding of an utterance.

    The original pads a batch and its convolutions see the padding, which changes the
    embedding of every utterance but the longest; here each is computed as if alone.
    """

    kind: ClassVar[str] = "ecapa"
    encoder_type: ClassVar[type[nn.Module]] = Ecapa
    config_type: ClassVar[type] = EcapaConfig
    source_modules: ClassVar[tuple[str, ...]] = (*SHARED_MODULES, __name__)
    encoder: Ecapa

    def __init__(self, encoder: Ecapa, name: str, source: ModelSource | None = None) -> None:
        super().__init__(encoder, name, source)
        self.min_samples = (encoder.config.least_frames - 1) * HOP


def plain_names(content: Mapping[Any, Any]) -> dict[str, Tensor]:
    """SpeechBrain wraps each convolution and norm once more; here they stand by themselves."""
    state = {}
    for name, tensor in content.items():
        if isinstance(name, str) and isinstance(tensor, Tensor) and not name.endswith("num_batches_tracked"):
            name = re.sub(r"(conv\d?|norm|fc|asp_bn)\.(?:conv|norm)\.(\w+)$", r"\1.\2", name)
            for theirs, ours in (("asp.conv.", "asp.attention."), ("asp.tdnn.conv.", "asp.context.")):
                name = name.replace(theirs, ours)
            state[name.replace("asp.tdnn.", "asp.")] = tensor
    return state


def make(
    name: str,
    n_layers: int | None,
    *,
    revision: str | None,
    precision: str,
    weights: PathLike | None = None,
    **options: Any,
) -> EcapaFrontend:
    """Loads the released embeddings from the hub, or from a file in SpeechBrain's form."""
    path, source = locate_weights(name, weights, revision, precision, options)
    state = plain_names(read_pickled(path))
    try:
        encoder = Ecapa(EcapaConfig.of(state))
    except (KeyError, IndexError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{path}: not the state dict of an ECAPA-TDNN ({error})") from None
    fill_exactly(encoder, state, path)
    return EcapaFrontend(encoder, name, source)
