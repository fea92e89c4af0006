"""What a back-end on full frames scores of a recording: its crop, or its windows one after another.

How a piece is scored is up to the caller: by a front-end and heads (:mod:`voxfide.head_scores`), or by an
exported graph.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from voxfide.crops import Crop
from voxfide.errors import UsageError
from voxfide.frontends.windowing import WINDOW
from voxfide.types import SAMPLE_RATE, Float32Array, Float64Array, Seconds

BATCH_SECONDS: Seconds = 40.0
"""Audio whose frames are held at once where the caller states no budget."""


def chunk_seconds(crop: Crop) -> Seconds:
    """The length of chunk that :func:`pieces` wants of a recording."""
    return WINDOW if crop.seconds is None else crop.seconds


def pieces(chunks: Iterable[Float32Array], crop: Crop, min_samples: int) -> Iterator[Float32Array]:
    """What is scored of a recording that comes in chunks of :func:`chunk_seconds`, the last maybe shorter.

    A recording without a crop is cut into windows of :data:`~voxfide.frontends.base.WINDOW`; a rest
    shorter than ``min_samples`` joins the window before it. Chunks that are not scored are read
    all the same, so that a streamed recording ends up checked and measured whole.
    """
    n = crop.n_samples
    held: Float32Array | None = None
    n_chunks = 0
    for chunk in chunks:
        n_chunks += 1
        if n is None:
            if held is not None and len(chunk) < min_samples:
                held = np.concatenate([held, chunk])
                continue
            if held is not None:
                yield held
            held = chunk
        elif n_chunks == 1:
            held = chunk
            yield crop.at_start()(chunk)
        elif crop.long == "windows" and held is not None:
            yield chunk if len(chunk) == n else np.concatenate([held, chunk])[-n:]
            held = chunk
    if n is None and held is not None:
        yield held


def pieces_of(waveform: Float32Array, crop: Crop, min_samples: int) -> list[Float32Array]:
    """The pieces of a waveform ``(samples,)`` that is in memory."""
    size = round(chunk_seconds(crop) * SAMPLE_RATE)
    chunks = (waveform[i : i + size] for i in range(0, max(1, len(waveform)), size))
    return list(pieces(chunks, crop, min_samples))


class PieceScores:
    """Average score of a recording over its pieces, each weighted by its length."""

    def __init__(self, n_scores: int = 1) -> None:
        self._sum = np.zeros(n_scores)
        self._n_samples = 0

    def add(self, scores: Float64Array, n_samples: int) -> None:
        """Adds the ``(n_scores,)`` scores of one piece."""
        self._sum += np.asarray(scores, dtype=np.float64) * n_samples
        self._n_samples += n_samples

    def result(self) -> Float64Array:
        """``(n_scores,)``; NaN where nothing was added."""
        return self._sum / self._n_samples if self._n_samples else np.full_like(self._sum, np.nan)


ScorePieces = Callable[[Sequence[Float32Array]], Float64Array]
"""Pieces ``(samples,)`` to scores ``(pieces, heads)``."""


class PieceScorer:
    """Scores the pieces of one recording as they come, some at a time, in constant memory.

    Args:
        score: of several pieces.
        n_heads: scores of each.
        crop: that the pieces are of; says how many are held.
    """

    def __init__(self, score: ScorePieces, n_heads: int, crop: Crop) -> None:
        self._score = score
        self._at_once = max(1, int(BATCH_SECONDS / chunk_seconds(crop)))
        self._total = PieceScores(n_heads)
        self._held: list[Float32Array] = []

    def hear(self, piece: Float32Array) -> None:
        """Takes a piece."""
        self._held.append(piece)
        if len(self._held) >= self._at_once:
            self._flush()

    def result(self) -> Float64Array:
        """Scores ``(heads,)`` of all pieces; NaN where there were none."""
        self._flush()
        return self._total.result()

    def _flush(self) -> None:
        if self._held:
            scores = self._score(self._held)
            for piece, row in zip(self._held, scores, strict=True):
                self._total.add(row, len(piece))
            self._held = []


def checked_waveforms(
    waveforms: Sequence[np.ndarray], check_length: Callable[[int], None]
) -> list[Float32Array]:
    """Waveforms ``(samples,)`` as contiguous float32.

    Raises:
        AudioTooShortError: of ``check_length``.
        UsageError: one that is not a vector of finite numbers.
    """
    vectors = [np.ascontiguousarray(w, dtype=np.float32) for w in waveforms]
    for number, waveform in enumerate(vectors):
        if waveform.ndim != 1 or not np.isfinite(waveform).all():
            raise UsageError(f"waveform {number} of shape {waveform.shape} (expected (samples,), finite)")
        check_length(len(waveform))
    return vectors


def score_in_pieces(
    score: ScorePieces,
    n_heads: int,
    waveforms: Sequence[Float32Array],
    crop: Crop,
    min_samples: int,
    budget: Seconds | None = None,
) -> Float64Array:
    """Scores ``(utterances, heads)`` of waveforms, in memory bounded by ``budget`` seconds of audio.

    Args:
        score, n_heads, crop: as of :class:`PieceScorer`.
        waveforms: ``(samples,)`` each.
        min_samples: that a piece must have.
        budget: audio in one batch, padded to its longest piece.
    """
    totals = [PieceScores(n_heads) for _ in waveforms]
    limit = round((budget or BATCH_SECONDS) * SAMPLE_RATE)
    batch: list[Float32Array] = []
    owners: list[PieceScores] = []

    def flush() -> None:
        for owner, piece, scores in zip(owners, batch, score(batch), strict=True):
            owner.add(scores, len(piece))
        batch.clear()
        owners.clear()

    for total, waveform in zip(totals, waveforms, strict=True):
        for piece in pieces_of(waveform, crop, min_samples):
            if batch and max(len(piece), *map(len, batch)) * (len(batch) + 1) > limit:
                flush()
            batch.append(piece)
            owners.append(total)
    if batch:
        flush()
    return np.stack([t.result() for t in totals]) if totals else np.zeros((0, n_heads))
