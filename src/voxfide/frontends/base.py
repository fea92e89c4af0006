"""The front-end protocol: waveforms and lengths in, hidden states of layers 1...n out.

Work is done on *packed* utterances: their frames stand one after another, with no
padding between them, so that nothing is computed in vain and an utterance gets the
same features alone as in any batch. :meth:`Frontend.forward` pads only at the end,
for callers that want one array.
"""

from __future__ import annotations

import hashlib
import inspect
import itertools
import json
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

import voxfide.audio
from voxfide.audio import AUDIO_SETTINGS
from voxfide.errors import UsageError
from voxfide.frontends.windowing import POOLS, WINDOW, FrameGeometry, FrameMoments, windows

__all__ = [
    "POOLS",
    "WINDOW",
    "FrameStatistics",
    "Frontend",
    "LayerFeatures",
    "code_digest",
    "tensors_digest",
    "windows",
]


class LayerFeatures(NamedTuple):
    """Padded layer features of a batch.

    Attributes:
        hidden_states: ``(batch, layers, frames, dim)``, zero beyond each length.
        lengths: ``(batch,)`` int64, valid frames of each utterance.
    """

    hidden_states: Tensor
    lengths: Tensor


class FrameStatistics(FrameMoments[Tensor]):
    """Time average and spread of frames, as features of an utterance."""

    def result(self) -> Tensor:
        """``(layers, dim)`` mean over time, or ``(layers, 2 dim)`` mean and standard deviation."""
        mean, variance = self.moments()
        return mean if variance is None else torch.cat([mean, variance.sqrt()], dim=-1)


class Frontend(nn.Module, FrameGeometry):
    """Waveform to layer features.

    Class attributes of a subclass state its frame geometry; instances know how many
    layers they were built with.
    """

    n_layers: int
    dim: int
    kind: ClassVar[str]
    """How a detector's configuration names the class; see :data:`voxfide.frontends.KINDS`."""
    source_modules: ClassVar[tuple[str, ...]] = ()
    """Modules whose source determines the features: part of the fingerprint."""

    @abstractmethod
    def iter_layers(self, waveforms: Sequence[Tensor]) -> Iterator[Tensor]:
        """Yields layers 1...n in order, each packed ``(sum of frames, dim)``.

        Args:
            waveforms: one ``(samples,)`` float32 tensor an utterance, each at least
                ``min_samples`` long, on the front-end's device.
        """

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """What is needed, beside the weights, to build this front-end again (JSON-safe)."""

    @property
    def device(self) -> torch.device:
        """Where the weights (or, without weights, the constants) are."""
        return next(itertools.chain(self.parameters(), self.buffers())).device

    @property
    def device_kind(self) -> str:
        return self.device.type

    def pooled_dim(self, pool: str) -> int:
        """Dimension of a pooled layer vector.

        Raises:
            UsageError: an unknown pool.
        """
        if pool not in POOLS:
            raise UsageError(f"pool {pool!r} (expected one of {', '.join(POOLS)})")
        return 2 * self.dim if pool == "mean_std" else self.dim

    def forward(self, waveforms: Tensor, lengths: Tensor | None = None) -> LayerFeatures:
        """Layer features of a padded batch.

        Args:
            waveforms: ``(batch, samples)`` float32; what stands beyond a length is ignored.
            lengths: ``(batch,)`` valid samples; all of them where left out.

        Raises:
            AudioTooShortError: an utterance shorter than ``min_samples``.
        """
        sizes = [waveforms.shape[1]] * len(waveforms) if lengths is None else [int(n) for n in lengths]
        pieces = [waveform[:n] for waveform, n in zip(waveforms, sizes, strict=True)]
        for n in sizes:
            self.check_length(n)
        frames = [self.n_frames(n) for n in sizes]
        layers = [
            nn.utils.rnn.pad_sequence(layer.split(frames), batch_first=True)
            for layer in self.iter_layers(pieces)
        ]
        return LayerFeatures(
            torch.stack(layers, dim=1), torch.tensor(frames, device=waveforms.device, dtype=torch.int64)
        )

    @torch.inference_mode()
    def hidden_states(self, waveforms: Sequence[Tensor]) -> list[Tensor]:
        """Full-frame features of each utterance, ``(layers, frames, dim)`` float32, long ones windowed."""
        cuts = [windows(len(w), self.min_samples) for w in waveforms]
        pieces = [w[a:b] for w, cut in zip(waveforms, cuts, strict=True) for a, b in cut]
        frames = [self.n_frames(len(p)) for p in pieces]
        packed = torch.stack(list(self.iter_layers(pieces)))
        parts = iter(packed.split(frames, dim=1))
        return [torch.cat([next(parts) for _ in cut], dim=1) for cut in cuts]

    @torch.inference_mode()
    def pooled(self, waveforms: Sequence[Tensor], pool: str = "mean") -> Tensor:
        """Time-averaged features ``(batch, layers, dim)`` float32 (``2 dim`` for ``mean_std``)."""
        statistics = [FrameStatistics(pool) for _ in waveforms]
        pieces, owners = [], []
        for owner, waveform in zip(statistics, waveforms, strict=True):
            for start, stop in windows(len(waveform), self.min_samples):
                pieces.append(waveform[start:stop])
                owners.append(owner)
        self.accumulate(pieces, owners)
        return torch.stack([s.result() for s in statistics])

    @torch.inference_mode()
    def accumulate(self, pieces: Sequence[Tensor], owners: Sequence[FrameStatistics]) -> None:
        """Analyses windows and adds each to the statistics of the utterance it belongs to."""
        frames = [self.n_frames(len(p)) for p in pieces]
        spread = any(owner.pool == "mean_std" for owner in owners)
        means: list[Tensor] = []
        deviations: list[Tensor] = []
        for layer in self.iter_layers(pieces):
            parts = layer.split(frames)
            mean = torch.stack([p.mean(dim=0) for p in parts])
            means.append(mean)
            if spread:
                squares = [(p - m).square().sum(dim=0) for p, m in zip(parts, mean, strict=True)]
                deviations.append(torch.stack(squares))
        mean = torch.stack(means, dim=1)
        deviation = torch.stack(deviations, dim=1) if deviations else [None] * len(pieces)
        for owner, *window in zip(owners, frames, mean, deviation, strict=True):
            owner.add(*window)

    def fingerprint(self) -> str:
        """Hex digest of all that determines the features: settings, weights, audio settings and code."""
        digest = hashlib.sha256()
        facts = {"settings": self.settings(), "audio": AUDIO_SETTINGS, "window_s": WINDOW}
        digest.update(json.dumps(facts, sort_keys=True).encode())
        digest.update(code_digest(self.source_modules).encode())
        digest.update(tensors_digest(self.state_dict()).encode())
        return digest.hexdigest()


def tensors_digest(tensors: Mapping[str, Tensor]) -> str:
    """Hex digest over names, shapes, types and bytes, independent of order and file format."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(memoryview(tensor.flatten().view(torch.uint8).numpy()))
    return digest.hexdigest()


def code_digest(modules: Sequence[str]) -> str:
    """Hex digest of the source of the audio layer, of this module and what it stands on, and of ``modules``.

    A change of code thus makes stored features stale without anyone having to
    remember a version number.
    """
    from importlib import import_module
    from pathlib import Path

    digest = hashlib.sha256()
    audio_files = sorted(Path(inspect.getfile(voxfide.audio)).parent.glob("*.py"))
    module_files = [
        Path(inspect.getfile(import_module(m))) for m in sorted({*modules, __name__, windows.__module__})
    ]
    for file in [*audio_files, *module_files]:
        digest.update(file.name.encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()
