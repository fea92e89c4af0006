"""YAMNet audio event embeddings, as Google trained and released them.

M. Plakal, D. Ellis, "YAMNet", github.com/tensorflow/models, research/audioset/yamnet: a
MobileNet (A. Howard et al., arXiv:1704.04861) on patches of log mel energies, trained to
tag AudioSet. The release is ``yamnet.h5``, weights in Keras' older HDF5 form.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from voxfide.errors import CheckpointError, MissingDependencyError
from voxfide.frontends.frozen import (
    SHARED_MODULES,
    FrozenFrontend,
    FrozenNorm,
    fill_exactly,
    locate_weights,
)
from voxfide.frontends.mel import audioset_bank, spectrogram
from voxfide.types import PathLike

WINDOW, HOP, N_FFT = 400, 160, 512
N_MELS, LOWEST_HZ, HIGHEST_HZ = 64, 125.0, 7500.0
LOG_OFFSET = 1e-3
PATCH_FRAMES, PATCH_HOP_FRAMES = 96, 48
PATCH_SAMPLES = (PATCH_FRAMES - 1) * HOP + WINDOW
PATCH_HOP_SAMPLES = PATCH_HOP_FRAMES * HOP
NORM_EPS = 1e-4
STRIDES = (2, 1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1)
KINDS_OF_WEIGHTS = {
    "kernel": "conv.weight",
    "depthwise_kernel": "conv.weight",
    "beta": "norm.bias",
    "moving_mean": "norm.running_mean",
    "moving_variance": "norm.running_var",
}
"""What Keras and what this module call the weights of a convolution and its norm."""


@dataclass(frozen=True)
class YamnetConfig:
    """Channels that each of the fourteen layers puts out; the defaults are those of the release."""

    widths: tuple[int, ...] = (32, 64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024)

    @property
    def dim(self) -> int:
        """Channels of the last layer, which are averaged into an embedding."""
        return self.widths[-1]


class ConvNorm(nn.Module):
    """Convolution without bias, BatchNorm without gain, ReLU."""

    def __init__(self, n_in: int, n_out: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        # TensorFlow completes an even length that is halved at its end only.
        self.pad = (0, 1, 0, 1) if stride == 2 else (kernel // 2,) * 4
        self.conv = nn.Conv2d(n_in, n_out, kernel, stride, groups=groups, bias=False)
        self.norm = FrozenNorm(n_out, NORM_EPS, scaled=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.norm(self.conv(F.pad(x, self.pad))))


class Yamnet(nn.Module):
    """Waveforms to the embeddings of their patches."""

    window: Tensor
    filterbank: Tensor

    def __init__(self, config: YamnetConfig) -> None:
        super().__init__()
        self.config = config
        first, *rest = zip(config.widths, STRIDES, strict=True)
        self.layers = nn.ModuleList([nn.ModuleDict({"conv": ConvNorm(1, first[0], 3, first[1])})])
        n_in = first[0]
        for n_out, stride in rest:
            depthwise = ConvNorm(n_in, n_in, 3, stride, groups=n_in)
            self.layers.append(
                nn.ModuleDict({"depthwise_conv": depthwise, "pointwise_conv": ConvNorm(n_in, n_out, 1)})
            )
            n_in = n_out
        self.register_buffer("window", torch.hann_window(WINDOW), persistent=False)
        bank = audioset_bank(N_FFT, N_MELS, LOWEST_HZ, HIGHEST_HZ)
        self.register_buffer("filterbank", bank, persistent=False)

    def log_mel(self, waveform: Tensor) -> Tensor:
        """``(samples,)``, completed with zeros to whole patches, to ``(frames, 64)``."""
        wanted = PATCH_SAMPLES + (n_patches(len(waveform)) - 1) * PATCH_HOP_SAMPLES
        padded = F.pad(waveform, (0, wanted - len(waveform)))
        magnitude = spectrogram(padded, self.window, HOP, N_FFT, centred=False)
        return torch.log(magnitude @ self.filterbank + LOG_OFFSET)

    def forward(self, waveforms: Sequence[Tensor]) -> Tensor:
        """``(samples,)`` each, to ``(patches of all, dim)``."""
        patches = [self.log_mel(w).unfold(0, PATCH_FRAMES, PATCH_HOP_FRAMES) for w in waveforms]
        x = torch.cat(patches).transpose(1, 2)[:, None]
        for layer in self.layers:
            assert isinstance(layer, nn.ModuleDict)
            for step in layer.values():
                x = step(x)
        return x.mean(dim=(2, 3))


def n_patches(n_samples: int) -> int:
    """Patches of 0.96 s, one every 0.48 s, that cover ``n_samples`` samples."""
    return 1 + math.ceil(max(0, n_samples - PATCH_SAMPLES) / PATCH_HOP_SAMPLES)


class YamnetFrontend(FrozenFrontend):
    """YAMNet's embeddings, one frame a patch of 0.96 s, every 0.48 s; the last completed with zeros."""

    kind: ClassVar[str] = "yamnet"
    encoder_type: ClassVar[type[nn.Module]] = Yamnet
    config_type: ClassVar[type] = YamnetConfig
    source_modules: ClassVar[tuple[str, ...]] = (*SHARED_MODULES, __name__)
    encoder: Yamnet
    hop_samples = PATCH_HOP_SAMPLES
    min_samples = WINDOW

    def n_frames(self, n_samples: int) -> int:
        return n_patches(n_samples)


def read_keras(path: Path) -> dict[str, Tensor]:
    """Weights in a file of Keras' older HDF5 form, under their own names.

    Raises:
        MissingDependencyError: h5py is not installed.
        CheckpointError: not such a file.
    """
    try:
        import h5py
    except ImportError:
        raise MissingDependencyError(
            "reading yamnet.h5 needs h5py: pip install 'voxfide[yamnet]' (or pip install h5py)"
        ) from None
    weights = {}
    try:
        with h5py.File(path) as file:
            for layer in file.attrs["layer_names"]:
                group = file[layer]
                for name in group.attrs["weight_names"]:
                    weights[_text(name)] = torch.from_numpy(group[name][()])
    except (OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{path}: not a readable HDF5 file of Keras weights ({error})") from error
    return weights


def _text(name: Any) -> str:
    return name.decode() if isinstance(name, bytes) else str(name)


def renamed(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Keras' names and axis orders to those of :class:`Yamnet`; the classifier is left out."""
    state = {}
    for name, tensor in weights.items():
        match = re.fullmatch(r"layer(\d+)/(\w+)/(?:bn/)?(\w+):0", name)
        if match and match[3] in KINDS_OF_WEIGHTS:
            if tensor.ndim == 4:  # height, width, in, out; a depth-wise one has 1 for out
                tensor = tensor.permute((2, 3, 0, 1) if match[3] == "depthwise_kernel" else (3, 2, 0, 1))
            state[f"layers.{int(match[1]) - 1}.{match[2]}.{KINDS_OF_WEIGHTS[match[3]]}"] = tensor
    return state


def make(
    name: str,
    n_layers: int | None,
    *,
    revision: str | None,
    precision: str,
    weights: PathLike | None = None,
    **options: Any,
) -> YamnetFrontend:
    """Loads the released network from ``yamnet.h5``."""
    path, source = locate_weights(name, weights, revision, precision, options)
    state = renamed(read_keras(path))
    last_norms = ["layers.0.conv.norm.bias"]
    last_norms += [f"layers.{i}.pointwise_conv.norm.bias" for i in range(1, len(STRIDES))]
    missing = [k for k in last_norms if k not in state]
    if missing:
        raise CheckpointError(f"{path}: not the weights of YAMNet (no {', '.join(missing[:3])})")
    encoder = Yamnet(YamnetConfig(tuple(len(state[k]) for k in last_norms)))
    fill_exactly(encoder, state, path)
    return YamnetFrontend(encoder, name, source)
