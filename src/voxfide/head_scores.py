"""Scores of back-ends on full frames: one forward pass of the front-end for all heads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from voxfide.backends.neural import NeuralBackend
from voxfide.crops import Crop
from voxfide.extraction import Extractor
from voxfide.features import sent
from voxfide.frontends.base import Frontend
from voxfide.pieces import PieceScorer, score_in_pieces
from voxfide.types import Float32Array, Float64Array, Seconds


def padded(states: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """``(layers, frames, dim)`` tensors as one float32 ``(batch, layers, frames, dim)``, and lengths."""
    lengths = torch.tensor([s.shape[1] for s in states], device=states[0].device)
    if int(lengths.min()) == int(lengths.max()):
        return torch.stack(list(states)).float(), lengths
    rows = nn.utils.rnn.pad_sequence([s.transpose(0, 1) for s in states], batch_first=True)
    return rows.transpose(1, 2).float().contiguous(), lengths


@torch.inference_mode()
def score_pieces(
    frontend: Frontend, heads: Sequence[NeuralBackend], waveforms: Sequence[Float32Array]
) -> Float64Array:
    """Scores ``(pieces, heads)``: one forward pass of the front-end for all heads.

    A head that was built on fewer layers than the front-end has reads the first of them.
    """
    states = frontend.hidden_states(sent(waveforms, frontend.device))
    features, lengths = padded(states)
    columns = []
    for head in heads:
        if head.device != frontend.device:
            head.to(frontend.device)
        columns.append(head.score_padded(features[:, : head.n_layers], lengths))
    return np.stack(columns, axis=1)


def piece_scorer(frontend: Frontend, heads: Sequence[NeuralBackend], crop: Crop) -> PieceScorer:
    """Scores the pieces of one recording as they come; arguments as of :func:`score_pieces`."""
    return PieceScorer(lambda batch: score_pieces(frontend, heads, batch), len(heads), crop)


def frame_scores(
    frontend: Frontend,
    heads: Sequence[NeuralBackend],
    waveforms: Sequence[Float32Array],
    crop: Crop,
    budget: Seconds | None = None,
) -> Float64Array:
    """Scores ``(utterances, heads)`` of waveforms, in memory bounded by ``budget`` seconds of audio."""

    def score(batch: Sequence[Float32Array]) -> Float64Array:
        return score_pieces(frontend, heads, batch)

    return score_in_pieces(score, len(heads), waveforms, crop, frontend.min_samples, budget)


def frame_extractor(
    frontend: Frontend, heads: Sequence[NeuralBackend], crop: Crop, **options: Any
) -> Extractor:
    """Rows of a manifest to their scores ``(heads,)``, so that frames are never kept.

    Args:
        options: settings of :class:`~voxfide.extraction.Extractor`.
    """
    budget = options.get("batch_seconds")

    def scores(waveforms: Sequence[Float32Array]) -> Sequence[Float64Array]:
        return list(frame_scores(frontend, heads, waveforms, crop, budget))

    return Extractor(frontend, "none", compute=scores, **options)
