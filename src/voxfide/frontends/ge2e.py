"""GE2E speaker embeddings, as the package Resemblyzer carries them.

L. Wan, Q. Wang, A. Papir, I. Lopez Moreno, "Generalized end-to-end loss for speaker
verification", ICASSP 2018: an LSTM over 1.6 s of mel energies, trained by C. Jemine.
The release is the file ``pretrained.pt`` inside the package, which need not be imported.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from voxfide.errors import CheckpointError
from voxfide.frontends.frozen import SHARED_MODULES, FrozenFrontend, fill_exactly, locate_weights
from voxfide.frontends.mel import slaney_bank, spectrogram
from voxfide.frontends.released import read_pickled, state_in
from voxfide.types import PathLike

WINDOW, HOP = 400, 160
N_MELS = 40
PARTIAL_FRAMES, PARTIAL_HOP_FRAMES = 160, 77
PARTIAL_SAMPLES, PARTIAL_HOP_SAMPLES = PARTIAL_FRAMES * HOP, PARTIAL_HOP_FRAMES * HOP
LEAST_COVERAGE = 0.75
"""A last partial that the signal fills to a smaller part is left out."""
LEAST_RMS = 10 ** (-30 / 20)
"""Quieter utterances are raised to it, -30 dB of full scale."""
UNUSED = ("similarity_weight", "similarity_bias")
"""Scale and offset of the loss."""


@dataclass(frozen=True)
class Ge2eConfig:
    """Sizes of the network; the defaults are those of the release."""

    hidden: int = 256
    lstm_layers: int = 3
    dim: int = 256


class Ge2e(nn.Module):
    """Waveforms to the embeddings of their partials."""

    window: Tensor
    filterbank: Tensor

    def __init__(self, config: Ge2eConfig) -> None:
        super().__init__()
        self.config = config
        self.lstm = nn.LSTM(N_MELS, config.hidden, config.lstm_layers, batch_first=True)
        self.linear = nn.Linear(config.hidden, config.dim)
        self.register_buffer("window", torch.hann_window(WINDOW), persistent=False)
        self.register_buffer("filterbank", slaney_bank(WINDOW, N_MELS), persistent=False)

    def partials(self, waveform: Tensor) -> Tensor:
        """``(samples,)`` to mel energies, without a logarithm, ``(partials, 160, 40)``."""
        raised = waveform * (LEAST_RMS / waveform.square().mean().sqrt().clamp_min(1e-10)).clamp_min(1)
        n = n_partials(len(waveform))
        end = (n - 1) * PARTIAL_HOP_SAMPLES + PARTIAL_SAMPLES
        padded = F.pad(raised, (0, max(0, end - len(waveform))))
        energy = spectrogram(padded, self.window, HOP, WINDOW, centred=True).square() @ self.filterbank
        return energy.unfold(0, PARTIAL_FRAMES, PARTIAL_HOP_FRAMES)[:n].transpose(1, 2)

    def forward(self, waveforms: Sequence[Tensor]) -> Tensor:
        """``(samples,)`` each, to ``(partials of all, dim)``, not negative and of length 1."""
        _, (hidden, _) = self.lstm(torch.cat([self.partials(w) for w in waveforms]).contiguous())
        return F.normalize(F.relu(self.linear(hidden[-1])), dim=1)


def n_partials(n_samples: int) -> int:
    """Partials of 1.6 s, one every 0.77 s, that ``n_samples`` samples are cut to; at least one."""
    mel_frames = n_samples // HOP + 1
    n = math.ceil(max(1, mel_frames - PARTIAL_FRAMES + PARTIAL_HOP_FRAMES + 1) / PARTIAL_HOP_FRAMES)
    covered = n_samples - (n - 1) * PARTIAL_HOP_SAMPLES
    return n - 1 if n > 1 and covered < LEAST_COVERAGE * PARTIAL_SAMPLES else n


class Ge2eFrontend(FrozenFrontend):
    """GE2E embeddings, one frame a partial of 1.6 s, every 0.77 s.

    Their mean, scaled to length 1, is Resemblyzer's embedding of an utterance, whose long
    silences it would first cut out with a voice activity detector; here they stay.
    """

    kind: ClassVar[str] = "ge2e"
    encoder_type: ClassVar[type[nn.Module]] = Ge2e
    config_type: ClassVar[type] = Ge2eConfig
    source_modules: ClassVar[tuple[str, ...]] = (*SHARED_MODULES, __name__)
    encoder: Ge2e
    hop_samples = PARTIAL_HOP_SAMPLES
    min_samples = WINDOW

    def n_frames(self, n_samples: int) -> int:
        return n_partials(n_samples)


def installed_weights() -> Path | None:
    """``pretrained.pt`` of an installed Resemblyzer, found without importing it and what it needs."""
    found = find_spec("resemblyzer")
    path = Path(found.origin).with_name("pretrained.pt") if found and found.origin else None
    return path if path and path.is_file() else None


def make(
    name: str,
    n_layers: int | None,
    *,
    revision: str | None,
    precision: str,
    weights: PathLike | None = None,
    **options: Any,
) -> Ge2eFrontend:
    """Loads Resemblyzer's weights, from a file or from the installed package."""
    path, source = locate_weights(name, weights or installed_weights(), revision, precision, options)
    state = {k: v for k, v in state_in(read_pickled(path), "model_state", path).items() if k not in UNUSED}
    try:
        config = Ge2eConfig(
            hidden=state["lstm.weight_hh_l0"].shape[1],
            lstm_layers=sum(k.startswith("lstm.weight_hh_l") for k in state),
            dim=len(state["linear.weight"]),
        )
    except (KeyError, IndexError) as error:
        raise CheckpointError(f"{path}: not the weights of a GE2E encoder ({error})") from None
    encoder = Ge2e(config)
    fill_exactly(encoder, state, path)
    return Ge2eFrontend(encoder, name, source)
