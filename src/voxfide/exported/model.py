"""Waveforms of any length to uncalibrated scores: how an exported detector's graphs are put together.

The first graph takes a padded batch of pieces of at most 30 s. Back-ends on full frames score a piece with
it, and a recording by the average over its pieces. Back-ends on time averages take those of all windows of a
recording, which are merged here and given to the second graph, the head.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from voxfide.crops import WHOLE, Crop
from voxfide.errors import AudioError
from voxfide.exported.sessions import Graph
from voxfide.frontends.windowing import FrameGeometry, FrameMoments, windows
from voxfide.pieces import BATCH_SECONDS, PieceScorer, pieces, score_in_pieces
from voxfide.types import SAMPLE_RATE, Float32Array, Float64Array, Seconds


@dataclass
class ExportedFrontend(FrameGeometry):
    """What is known of the front-end in a graph.

    Attributes:
        name, kind, n_layers, settings: of the front-end that was exported.
    """

    name: str
    kind: str
    n_layers: int
    hop_samples: int
    min_samples: int
    settings: dict[str, Any]

    def n_frames(self, n_samples: int) -> int:
        """Frames that lie wholly inside: one more may come of front-ends that complete their last."""
        return (n_samples - self.min_samples) // self.hop_samples + 1


@dataclass
class ExportedModel:
    """The graphs of a detector, and how long recordings are brought to them.

    Attributes:
        frontend: geometry of frames.
        graph: padded batch to scores, or to features.
        head: features to scores, of back-ends on time averages; else None.
        pool: ``mean``, ``mean_std``, or ``none`` of back-ends on full frames.
        crop: what is scored of a recording.
    """

    frontend: ExportedFrontend
    graph: Graph
    head: Graph | None
    pool: str
    crop: Crop

    def score(self, waveforms: Sequence[Float32Array], budget: Seconds | None = None) -> Float64Array:
        """Uncalibrated scores ``(waveforms,)``, in memory bounded by ``budget`` seconds of audio.

        Args:
            waveforms: ``(samples,)`` each, of at least ``frontend.min_samples``.
            budget: audio in one batch, padded to its longest piece.
        """
        order = sorted(range(len(waveforms)), key=lambda i: len(waveforms[i]))
        in_order = [waveforms[i] for i in order]
        found = np.zeros(len(waveforms))
        if self.head is None:
            minimum = self.frontend.min_samples
            found[order] = score_in_pieces(self.score_pieces, 1, in_order, self.crop, minimum, budget)[:, 0]
        else:
            found[order] = self._score_averages(in_order, budget)
        return found

    def score_stream(self, chunks: Iterable[Float32Array], path: str) -> float:
        """The uncalibrated score of a recording that comes in chunks, in constant memory.

        Raises:
            AudioTooShortError: too short for one frame.
            AudioError: its features are not finite.
        """
        if self.head is None:
            scorer = PieceScorer(self.score_pieces, 1, self.crop)
            for piece in pieces(chunks, self.crop, self.frontend.min_samples):
                self.frontend.check_length(len(piece), path)
                scorer.hear(piece)
            score = float(scorer.result()[0])
        else:
            moments: FrameMoments[Float32Array] = FrameMoments(self.pool)
            for window in pieces(chunks, WHOLE, self.frontend.min_samples):
                self.frontend.check_length(len(window), path)
                self._accumulate([window], [moments])
            score = float(self._of_features(_features(moments)[None])[0])
        if not np.isfinite(score):
            raise AudioError(path, "its features are not finite", "finite features")
        return score

    @property
    def gives_frames(self) -> bool:
        """Whether the graph also tells the scores of frames."""
        return "frame_scores" in self.graph.session.outputs

    def frame_scores(self, waveform: Float32Array) -> tuple[Float64Array, Float64Array]:
        """First moments, s, and scores of the frames of ``(samples,)``, if the graph :attr:`gives_frames`."""
        starts, scores = [], []
        for first, last in windows(len(waveform), self.frontend.min_samples):
            of_window = self.graph.run(padded([waveform[first:last]]))["frame_scores"][0]
            scores.append(of_window.astype(np.float64))
            starts.append((first + self.frontend.hop_samples * np.arange(len(of_window))) / SAMPLE_RATE)
        return np.concatenate(starts), np.concatenate(scores)

    def score_pieces(self, batch: Sequence[Float32Array]) -> Float64Array:
        """``(pieces, 1)`` by a back-end on full frames."""
        return self.graph.run(padded(batch))["raw_score"].astype(np.float64)[:, None]

    def _score_averages(self, waveforms: Sequence[Float32Array], budget: Seconds | None) -> Float64Array:
        """``(waveforms,)``; these are in order of length, so that what is batched together is alike."""
        if not waveforms:
            return np.zeros(0)
        moments: list[FrameMoments[Float32Array]] = [FrameMoments(self.pool) for _ in waveforms]
        limit = round((budget or BATCH_SECONDS) * SAMPLE_RATE)
        batch: list[Float32Array] = []
        owners: list[FrameMoments[Float32Array]] = []
        for owner, waveform in zip(moments, waveforms, strict=True):
            for start, stop in windows(len(waveform), self.frontend.min_samples):
                if batch and max(stop - start, *map(len, batch)) * (len(batch) + 1) > limit:
                    self._accumulate(batch, owners)
                    batch, owners = [], []
                batch.append(waveform[start:stop])
                owners.append(owner)
        self._accumulate(batch, owners)
        return self._of_features(np.stack([_features(m) for m in moments]))

    def _accumulate(
        self, batch: Sequence[Float32Array], owners: Sequence[FrameMoments[Float32Array]]
    ) -> None:
        found = self.graph.run(padded(batch))
        spread = found["deviations"] if self.pool == "mean_std" else [None] * len(batch)
        parts = zip(owners, found["frames"].tolist(), found["features"], spread, strict=True)
        for owner, n_frames, mean, deviation in parts:
            owner.add(n_frames, mean, deviation)

    def _of_features(self, features: Float32Array) -> Float64Array:
        assert self.head is not None
        return self.head.run({"features": features})["raw_score"].astype(np.float64)


def padded(batch: Sequence[Float32Array]) -> dict[str, np.ndarray]:
    """Inputs of the first graph: ``waveform (batch, samples)``, zero beyond ``lengths (batch,)``."""
    lengths = np.array([len(w) for w in batch], np.int64)
    waveform = np.zeros((len(batch), lengths.max()), np.float32)
    for row, piece in zip(waveform, batch, strict=True):
        row[: len(piece)] = piece
    return {"waveform": waveform, "lengths": lengths}


def _features(moments: FrameMoments[Float32Array]) -> Float32Array:
    """``(layers, dim)`` mean over time, or ``(layers, 2 dim)`` mean and standard deviation."""
    mean, variance = moments.moments()
    return mean if variance is None else np.concatenate([mean, np.sqrt(variance)], axis=-1)
