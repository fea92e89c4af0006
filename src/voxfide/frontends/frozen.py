"""Front-ends of one layer around a frozen encoder, and how such an encoder gets its weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from voxfide.errors import CheckpointError, UsageError
from voxfide.frontends.base import WINDOW, FrameStatistics, Frontend
from voxfide.frontends.checkpoint import ModelSource
from voxfide.frontends.released import fill, weights_file
from voxfide.types import SAMPLE_RATE, PathLike

SHARED_MODULES = tuple(f"voxfide.frontends.{module}" for module in ("attentive_pooling", "frozen", "mel"))
"""Modules whose source determines the features of the front-ends of one frozen encoder."""


def locate_weights(
    name: str, weights: PathLike | None, revision: str | None, precision: str, options: Mapping[str, Any]
) -> tuple[Path, ModelSource]:
    """The file of weights of a registered front-end, given or from the hub, and where it came from.

    Raises:
        UsageError: an option other than ``weights``, a precision other than fp32, or a
            revision of a given file.
        CheckpointError: no such file, and none that can be downloaded.
    """
    problems = []
    if options:
        problems.append(f"no option {', '.join(sorted(options))} (expected weights)")
    if precision != "fp32":
        problems.append(f"precision {precision!r} (expected fp32)")
    if problems:
        raise UsageError(f"front-end {name}: " + "; ".join(problems))
    return weights_file(name, weights, revision)


def fill_exactly(encoder: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    """Puts ``state`` into ``encoder`` and freezes it.

    Raises:
        CheckpointError: tensors that are missing, of another shape, or have no place.
    """
    strangers = sorted(state.keys() - encoder.state_dict().keys())
    if strangers:
        raise CheckpointError(
            f"{path}: {len(strangers)} tensors have no place in this architecture: {', '.join(strangers[:5])}"
        )
    fill(encoder, state, path)


class FrozenNorm(nn.Module):
    """BatchNorm over axis 1 by the statistics of training.

    Args:
        channels: of the input.
        eps: added to the variance.
        scaled: with a gain for each channel.
    """

    weight: Tensor | None
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int, eps: float = 1e-5, scaled: bool = True) -> None:
        super().__init__()
        self.eps = eps
        self.register_parameter("weight", nn.Parameter(torch.ones(channels)) if scaled else None)
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)


class FrozenFrontend(Frontend):
    """One layer from a frozen encoder; a subclass names its types and states its frame geometry.

    Args:
        encoder: has its configuration, a dataclass, as ``config``, and in that the width ``dim`` of
            what it puts out.
        name: what it is called in reports.
        source: where its weights came from.
    """

    encoder_type: ClassVar[type[nn.Module]]
    config_type: ClassVar[type]
    n_layers = 1

    def __init__(self, encoder: nn.Module, name: str, source: ModelSource | None = None) -> None:
        super().__init__()
        self.encoder = encoder.requires_grad_(False)
        config: Any = encoder.config
        self.dim = config.dim
        self.name = name
        self.source = source
        self.eval()

    @classmethod
    def from_settings(cls, name: str, settings: dict[str, Any]) -> Self:
        """Builds the architecture that :meth:`settings` described; weights are to be loaded into it."""
        config = {k: tuple(v) if isinstance(v, list) else v for k, v in settings["config"].items()}
        return cls(cls.encoder_type(cls.config_type(**config)), name)

    def settings(self) -> dict[str, Any]:
        config: Any = self.encoder.config
        return {"config": {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(config).items()}}

    def iter_layers(self, waveforms: Sequence[Tensor]) -> Iterator[Tensor]:
        """Yields the one layer, ``(sum of frames, dim)``."""
        yield self.encoder(waveforms)

    def train(self, mode: bool = True) -> Self:
        """Frozen: stays in eval mode, whatever the module around it does."""
        return super().train(False)


class UtteranceFrontend(FrozenFrontend):
    """One vector an utterance: a single frame, which covers all of it; the encoder takes one waveform.

    An utterance longer than :data:`~voxfide.frontends.base.WINDOW` has one frame a
    window. Pooled, the windows count by their length, so that a short rest does not
    weigh as much as a whole window.
    """

    hop_samples = round(WINDOW * SAMPLE_RATE)

    def n_frames(self, n_samples: int) -> int:
        """One, however long."""
        return 1

    def iter_layers(self, waveforms: Sequence[Tensor]) -> Iterator[Tensor]:
        """Yields the one layer, ``(utterances, dim)``; each is computed by itself, without padding."""
        yield torch.stack([self.encoder(waveform) for waveform in waveforms])

    @torch.inference_mode()
    def accumulate(self, pieces: Sequence[Tensor], owners: Sequence[FrameStatistics]) -> None:
        """Adds the embedding of each window to its utterance, weighted by the window's samples."""
        (embeddings,) = self.iter_layers(pieces)
        for piece, owner, embedding in zip(pieces, owners, embeddings[:, None], strict=True):
            spread = torch.zeros_like(embedding) if owner.pool == "mean_std" else None
            owner.add(len(piece), embedding, spread)
