"""One run of a front-end for all members of an ensemble that look at the audio in the same way."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from voxfide.audio import AudioStream
from voxfide.backends.neural import NeuralBackend
from voxfide.crops import WHOLE, Crop
from voxfide.detector import Detector
from voxfide.ensemble.sharing import whole_of
from voxfide.features import pooled_features
from voxfide.frontends.base import FrameStatistics, Frontend
from voxfide.head_scores import frame_scores, piece_scorer
from voxfide.pieces import chunk_seconds, pieces
from voxfide.types import SAMPLE_RATE, Float32Array, Float64Array, Seconds


@dataclass
class Pass(ABC):
    """Members that share a front-end and what they hear of a recording.

    Attributes:
        frontend: of all of them, or whose first layers they use.
        crop: the part of a recording that they score.
        members: with their numbers in the ensemble.
    """

    frontend: Frontend
    crop: Crop
    members: list[tuple[int, Detector]] = field(default_factory=list)

    @abstractmethod
    def score(self, waveforms: Sequence[Float32Array], budget: Seconds | None) -> Float64Array:
        """``(utterances, members)``, NaN where features are not finite."""

    @abstractmethod
    def listen(self) -> Listening:
        """What follows one recording as it is decoded."""


class Listening(ABC):
    """A pass over one recording, piece by piece."""

    @abstractmethod
    def hear(self, piece: Float32Array) -> None:
        """Takes the next piece of :func:`voxfide.pieces.pieces`."""

    @abstractmethod
    def scores(self) -> Float64Array:
        """``(members,)``, once all was heard; NaN where features are not finite."""


class PooledPass(Pass):
    """Of back-ends on time averages: all of the recording, averaged once."""

    @property
    def pool(self) -> str:
        """The richest that a member asks for: means come before standard deviations."""
        return "mean_std" if any(m.pool == "mean_std" for _, m in self.members) else "mean"

    def score(self, waveforms: Sequence[Float32Array], budget: Seconds | None) -> Float64Array:
        return self.score_features(pooled_features(self.frontend, waveforms, self.pool, budget))

    def score_features(self, features: np.ndarray) -> Float64Array:
        """``(utterances, members)`` of ``(utterances, layers, dim)``."""
        finite = np.isfinite(features).all(axis=(1, 2))
        scores = np.full((len(features), len(self.members)), np.nan)
        if finite.any():
            for column, (_, member) in enumerate(self.members):
                dim = self.frontend.pooled_dim(member.pool)
                own = features[finite, : member.frontend.n_layers, :dim]
                scores[finite, column] = member.score_features(own)
        return scores

    def listen(self) -> Listening:
        return _PooledListening(self)


class _PooledListening(Listening):
    def __init__(self, of: PooledPass) -> None:
        self._pass = of
        self._statistics = FrameStatistics(of.pool)

    def hear(self, piece: Float32Array) -> None:
        frontend = self._pass.frontend
        frontend.accumulate([torch.from_numpy(piece).to(frontend.device)], [self._statistics])

    def scores(self) -> Float64Array:
        return self._pass.score_features(self._statistics.result().cpu().numpy()[None])[0]


class FramesPass(Pass):
    """Of back-ends on full frames: the recording's crop, or its windows one after another."""

    @property
    def heads(self) -> list[NeuralBackend]:
        """Back-ends of the members."""
        return [m.backend for _, m in self.members if isinstance(m.backend, NeuralBackend)]

    def score(self, waveforms: Sequence[Float32Array], budget: Seconds | None) -> Float64Array:
        return self.calibrated(frame_scores(self.frontend, self.heads, waveforms, self.crop, budget))

    def calibrated(self, scores: Float64Array) -> Float64Array:
        """What the members make of their back-ends' scores, both ``(utterances, members)``."""
        finite = np.isfinite(scores).all(axis=1)
        found = np.full_like(scores, np.nan)
        for column, (_, member) in enumerate(self.members):
            found[finite, column] = member.score_extracted(list(scores[finite, column]))
        return found

    def listen(self) -> Listening:
        return _FramesListening(self)


class _FramesListening(Listening):
    def __init__(self, of: FramesPass) -> None:
        self._pass = of
        self._scorer = piece_scorer(of.frontend, of.heads, of.crop)

    def hear(self, piece: Float32Array) -> None:
        self._scorer.hear(piece)

    def scores(self) -> Float64Array:
        return self._pass.calibrated(self._scorer.result()[None])[0]


def passes_of(members: Sequence[Detector]) -> list[Pass]:
    """The fewest passes that score all members, whose equal front-ends are one object."""
    found: dict[tuple[int, Crop | None], Pass] = {}
    for number, member in enumerate(members):
        frontend = whole_of(member.frontend)
        frames = isinstance(member.backend, NeuralBackend)
        key = (id(frontend), member.crop if frames else None)
        if key not in found:
            found[key] = FramesPass(frontend, member.crop) if frames else PooledPass(frontend, WHOLE)
        found[key].members.append((number, member))
    return list(found.values())


def scores_of(
    passes: Sequence[Pass], waveforms: Sequence[Float32Array], budget: Seconds | None = None
) -> Float64Array:
    """``(utterances, members)`` scores of waveforms in memory; NaN where features are not finite."""
    return _ordered(passes, [p.score(waveforms, budget) for p in passes])


def scores_of_stream(passes: Sequence[Pass], stream: AudioStream, path: str) -> Float64Array:
    """``(members,)`` scores of a recording that is decoded once, in constant memory.

    Every pass cuts the recording as it does for itself. The one that is furthest behind goes
    on, so that only little audio is held for the others.

    Args:
        passes: all that are wanted.
        stream: comes in chunks of any length.
        path: for messages.

    Raises:
        AudioTooShortError: too short for one of the front-ends.
    """
    listeners = [p.listen() for p in passes]
    fan = _Fan(stream, len(passes))
    heard = {
        number: pieces(_rechunked(fan.reader(number), p.crop), p.crop, p.frontend.min_samples)
        for number, p in enumerate(passes)
    }
    position = [0] * len(passes)
    while heard:
        number = min(heard, key=position.__getitem__)
        this = passes[number]
        piece = next(heard[number], None)
        if piece is not None:
            this.frontend.check_length(len(piece), path)
            listeners[number].hear(piece)
            position[number] += len(piece)
        starts_only = this.crop.seconds is not None and this.crop.long != "windows"
        if piece is None or starts_only:
            fan.close(number)
            del heard[number]
    for _ in stream:  # decoded to the end, so that the recording is checked and measured whole
        pass
    return _ordered(passes, [listener.scores()[None] for listener in listeners])[0]


class _Fan:
    """One stream for several readers, each at its own pace: holds what the slowest has yet to read."""

    def __init__(self, stream: Iterable[Float32Array], n_readers: int) -> None:
        self._stream = iter(stream)
        self._waiting: dict[int, deque[Float32Array]] = {number: deque() for number in range(n_readers)}

    def reader(self, number: int) -> Iterator[Float32Array]:
        """The chunks of the stream, for the reader of this number."""
        waiting = self._waiting[number]
        while True:
            if not waiting:
                chunk = next(self._stream, None)
                if chunk is None:
                    return
                for other in self._waiting.values():
                    other.append(chunk)
                del chunk
            yield waiting.popleft()

    def close(self, number: int) -> None:
        """Holds nothing for this reader any more."""
        del self._waiting[number]


def _rechunked(chunks: Iterable[Float32Array], crop: Crop) -> Iterator[Float32Array]:
    """The same audio in chunks of the length that the crop wants, the last maybe shorter."""
    size = round(chunk_seconds(crop) * SAMPLE_RATE)
    held = np.empty(0, dtype=np.float32)
    for chunk in chunks:
        held = np.concatenate([held, chunk]) if len(held) else chunk
        while len(held) >= size:
            yield held[:size]
            held = held[size:]
    if len(held):
        yield held


def _ordered(passes: Sequence[Pass], columns: Sequence[Float64Array]) -> Float64Array:
    """Puts the passes' ``(utterances, their members)`` into the order of the ensemble."""
    numbers = [number for p in passes for number, _ in p.members]
    return np.concatenate(columns, axis=1)[:, np.argsort(numbers)]
