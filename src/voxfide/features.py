"""Waveforms in memory to a front-end's features, windows of long ones in groups under a budget."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from voxfide.devices import batch_seconds_on
from voxfide.frontends.base import FrameStatistics, Frontend
from voxfide.frontends.windowing import windows
from voxfide.types import SAMPLE_RATE, Seconds


def pooled_features(
    frontend: Frontend, waveforms: Sequence[np.ndarray], pool: str, budget: Seconds | None = None
) -> np.ndarray:
    """Time-averaged features ``(utterances, layers, dim)`` float32, in memory bounded by ``budget``.

    Equal to :meth:`Frontend.pooled`; but windows of long waveforms are analysed in groups
    of at most ``budget`` seconds (one batch of the device where left out).
    """
    statistics = [FrameStatistics(pool) for _ in waveforms]
    for pieces, owners in _groups(frontend, waveforms, budget):
        frontend.accumulate(pieces, [statistics[owner] for owner in owners])
    if not statistics:
        return np.zeros((0, frontend.n_layers, frontend.pooled_dim(pool)), np.float32)
    return torch.stack([s.result() for s in statistics]).cpu().numpy()


def frame_features(
    frontend: Frontend, waveforms: Sequence[np.ndarray], budget: Seconds | None = None
) -> list[np.ndarray]:
    """Full-frame features, ``(layers, frames, dim)`` float16 each; memory is bounded as above.

    Finite numbers beyond the range of float16 become its largest.
    """
    parts: list[list[np.ndarray]] = [[] for _ in waveforms]
    for pieces, owners in _groups(frontend, waveforms, budget):
        for owner, features in zip(owners, frontend.hidden_states(pieces), strict=True):
            parts[owner].append(_to_half(features).cpu().numpy())
    return [p[0] if len(p) == 1 else np.concatenate(p, axis=1) for p in parts]


def _to_half(features: Tensor) -> Tensor:
    limit = torch.finfo(torch.float16).max
    finite = torch.isfinite(features)
    return torch.where(finite, features.clamp(-limit, limit), torch.nan).half()


def _groups(
    frontend: Frontend, waveforms: Sequence[np.ndarray], budget: Seconds | None
) -> Iterator[tuple[list[Tensor], list[int]]]:
    """Windows on the front-end's device, each with the number of its waveform, cut by the budget."""
    limit = budget or batch_seconds_on(frontend.device_kind)
    pieces: list[np.ndarray] = []
    owners: list[int] = []
    held = 0.0
    for owner, waveform in enumerate(waveforms):
        for start, stop in windows(len(waveform), frontend.min_samples):
            seconds = (stop - start) / SAMPLE_RATE
            if pieces and held + seconds > limit:
                yield sent(pieces, frontend.device), owners
                pieces, owners, held = [], [], 0.0
            pieces.append(waveform[start:stop])
            owners.append(owner)
            held += seconds
    if pieces:
        yield sent(pieces, frontend.device), owners


def sent(pieces: Sequence[np.ndarray], device: torch.device) -> list[Tensor]:
    """Waveforms ``(samples,)`` on a device: to a GPU all in one copy from pinned memory, which does not
    wait for what the GPU is still computing."""
    if device.type != "cuda":
        return [torch.from_numpy(piece).to(device) for piece in pieces]
    staged = torch.empty(sum(map(len, pieces)), dtype=torch.float32, pin_memory=True)
    parts = staged.split([len(piece) for piece in pieces])
    for part, piece in zip(parts, pieces, strict=True):
        part.copy_(torch.from_numpy(piece))
    return list(staged.to(device, non_blocking=True).split([len(piece) for piece in pieces]))
