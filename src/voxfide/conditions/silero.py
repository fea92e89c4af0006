"""The network of silero-vad 6.2, run on many windows at once.

The weights are those of the installed package (its ``silero_vad.jit``; the safetensors file beside it
holds other, older ones). The package's own code is not imported: it goes through one window at a time,
and sets the number of threads of the whole process. Every window of 32 ms passes four convolutions on its
own, and one LSTM carries what was heard before, so all but the LSTM runs on a batch of windows.

Silero Team, "Silero VAD: pre-trained enterprise-grade voice activity detector", 2021-2026, MIT licence.
"""

from __future__ import annotations

import warnings
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from voxfide.errors import CheckpointError, MissingDependencyError
from voxfide.types import Float32Array

WINDOW: Final = 512
"""Samples for which there is one probability: 32 ms at 16 kHz."""

_CONTEXT: Final = 64  # samples before the window that are seen with it
_BINS: Final = 129
_SIZE: Final = 128
_FILE: Final = Path("data", "silero_vad.jit")
_NAMES: Final = {
    "stft_conv.weight": "stft.forward_basis_buffer",
    **{f"conv{i + 1}.weight": f"encoder.{i}.reparam_conv.weight" for i in range(4)},
    **{f"conv{i + 1}.bias": f"encoder.{i}.reparam_conv.bias" for i in range(4)},
    **{f"lstm.{part}_l0": f"decoder.rnn.{part}" for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")},
    **{f"final_conv.{part}": f"decoder.decoder.2.{part}" for part in ("weight", "bias")},
}  # fmt: skip
"""Our names of the weights to those in the file, where ``_model`` stands before those for 16 kHz."""


class SileroNetwork(nn.Module):
    """Speech probability of each window of 512 samples at 16 kHz, from left to right."""

    def __init__(self) -> None:
        super().__init__()
        self.stft_conv = nn.Conv1d(1, 2 * _BINS, 256, stride=128, bias=False)
        self.conv1 = nn.Conv1d(_BINS, 128, 3, padding=1)
        self.conv2 = nn.Conv1d(128, 64, 3, stride=2, padding=1)
        self.conv3 = nn.Conv1d(64, 64, 3, stride=2, padding=1)
        self.conv4 = nn.Conv1d(64, _SIZE, 3, padding=1)
        self.lstm = nn.LSTM(_SIZE, _SIZE)
        self.final_conv = nn.Conv1d(_SIZE, 1, 1)

    def encode(self, windows: Tensor) -> Tensor:
        """``(windows, 64 + 512)`` samples, the first 64 from before, to ``(windows, 128)``."""
        padded = functional.pad(windows[:, None], (0, _CONTEXT), mode="reflect")
        real, imaginary = self.stft_conv(padded).split(_BINS, dim=1)
        hidden = torch.sqrt(real.square() + imaginary.square())
        for layer in (self.conv1, self.conv2, self.conv3, self.conv4):
            hidden = layer(hidden).relu()
        return hidden[:, :, 0]

    def forward(self, signal: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Goes on from ``state``.

        Args:
            signal: ``(64 + 512 · windows,)`` at 16 kHz; the first 64 were already judged.
            state: of the LSTM, ``(1, 128)`` twice.

        Returns:
            ``(windows,)`` probabilities in [0, 1], and the state after them.
        """
        heard = self.encode(signal.unfold(0, _CONTEXT + WINDOW, WINDOW))
        outputs, state = self.lstm(heard, state)
        logits = self.final_conv(outputs.relu()[:, :, None])
        return torch.sigmoid(logits[:, 0, 0]), state


class SileroStream:
    """The network with its memory: windows in, probabilities out.

    Raises:
        MissingDependencyError: the package silero-vad is not installed.
        CheckpointError: its file of weights is not there or not as expected.
    """

    def __init__(self) -> None:
        self._network = load_network()
        self._state = (torch.zeros(1, _SIZE), torch.zeros(1, _SIZE))
        self._context = torch.zeros(_CONTEXT)

    @torch.inference_mode()
    def push(self, signal: Float32Array) -> list[float]:
        """Probabilities of the next ``(512 · windows,)`` samples, one for each window."""
        heard = torch.cat([self._context, torch.from_numpy(np.ascontiguousarray(signal, np.float32))])
        probabilities, self._state = self._network(heard, self._state)
        self._context = heard[-_CONTEXT:].clone()
        return probabilities.tolist()


@cache
def load_network() -> SileroNetwork:
    """The network with the weights of the installed package; frozen, so that all streams share it.

    Raises what :class:`SileroStream` does.
    """
    package = find_spec("silero_vad")
    if package is None or not package.submodule_search_locations:
        raise MissingDependencyError("finding speech needs silero-vad (pip install 'voxfide[full]')")
    path = Path(package.submodule_search_locations[0]) / _FILE
    network = SileroNetwork()
    try:
        with warnings.catch_warnings():
            # TorchScript, in which alone the current weights are published, is deprecated in torch.
            warnings.simplefilter("ignore", DeprecationWarning)
            weights = torch.jit.load(path, map_location="cpu").state_dict()
        network.load_state_dict({name: weights[f"_model.{theirs}"] for name, theirs in _NAMES.items()})
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise CheckpointError(f"{path}: expected the weights of silero-vad 6.2 ({error})") from error
    return network.eval().requires_grad_(False)
