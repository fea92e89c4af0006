"""Ends of marked stretches by the scores of frames, of detectors whose back-end judges frames."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from voxfide.analysis.result import Stretch
from voxfide.audio import stream_audio
from voxfide.errors import UsageError
from voxfide.exported.detector import ExportedDetector
from voxfide.types import SAMPLE_RATE, Float32Array, Float64Array, PathLike, Seconds

if TYPE_CHECKING:
    from voxfide.backends.frames import FramesBackend
    from voxfide.detectors import AnyDetector
    from voxfide.frontends.base import Frontend
    from voxfide.frontends.windowing import FrameGeometry

CHUNK: Seconds = 10.0
"""Audio whose frames are scored at a time."""

CONTEXT: Seconds = 1.0
"""Heard on either side of it, so that no frame is judged at a border."""

SHORTEST: Seconds = 0.2
"""Shorter stretches are noise of single frames."""


_JUDGES_NONE = "does not judge frames (expected a detector with back-end frames)"


class Frames(NamedTuple):
    """Scored frames in order.

    Attributes:
        start, end: seconds from the start of the recording, ``(frames,)``.
        score: ``(frames,)``, higher = more bona fide.
    """

    start: Float64Array
    end: Float64Array
    score: Float64Array


def judges_frames(detector: AnyDetector) -> bool:
    """Whether a detector's frames can be relied on: back-end ``frames``, trained with labels of frames.

    Not of ensembles: what their other members say of a frame is not known.
    """
    return getattr(detector, "frame_threshold", None) is not None


def frame_timeline(detector: AnyDetector, waveform: Float32Array) -> tuple[Float64Array, Float64Array]:
    """First moments, s, and scores of all frames of a recording, ``(frames,)`` each.

    A frame lasts until the next one starts. Scores are log odds as
    :meth:`~voxfide.backends.frames.FramesBackend.frame_scores` gives them, not calibrated.

    Args:
        detector: with back-end ``frames``.
        waveform: ``(samples,)`` at 16 kHz; the whole of it is held in memory.

    Raises:
        UsageError: a detector of another kind, or not a vector of finite numbers.
        AudioTooShortError: not even one frame.
    """
    from voxfide.pieces import checked_waveforms

    if isinstance(detector, ExportedDetector):
        if not detector.model.gives_frames:
            raise UsageError(f"back-end {detector.config['backend']['name']} {_JUDGES_NONE}")
        (vector,) = checked_waveforms([waveform], detector.frontend.check_length)
        return detector.model.frame_scores(vector)
    import torch

    from voxfide.frontends.base import windows
    from voxfide.head_scores import padded

    frontend, backend = _parts(detector)
    (vector,) = checked_waveforms([waveform], frontend.check_length)
    if backend.device != frontend.device:
        backend.to(frontend.device)
    states = frontend.hidden_states([torch.from_numpy(vector).to(frontend.device)])
    scores = backend.frame_scores(*padded(states))[0]
    starts = [
        (first + frontend.hop_samples * np.arange(frontend.n_frames(last - first))) / SAMPLE_RATE
        for first, last in windows(len(vector), frontend.min_samples)
    ]
    return np.concatenate(starts), scores


def _parts(detector: AnyDetector) -> tuple[Frontend, FramesBackend]:
    from voxfide.backends.frames import FramesBackend
    from voxfide.detector import Detector

    if not isinstance(detector, Detector):
        raise UsageError(f"an ensemble {_JUDGES_NONE}")
    if not isinstance(detector.backend, FramesBackend):
        name = detector.backend.name
        raise UsageError(f"back-end {name} {_JUDGES_NONE}")
    return detector.frontend, detector.backend


def refine_by_frames(
    path: PathLike, detector: AnyDetector, coarse: Sequence[Stretch], margin: Seconds, merge_gap: Seconds
) -> list[Stretch]:
    """Stretches of frames about those that windows have marked, which stay where frames find none.

    A stretch of frames is a run whose evidence for spoofing, threshold less score, cannot be raised by
    making it longer or shorter (:func:`maximal_runs`), and lasts at least :data:`SHORTEST`. It keeps the
    score of the windows, whose scale is the detector's.

    Args:
        path: the recording, which is read again, in memory that grows by some bytes a marked frame.
        detector: one that :func:`judges_frames`.
        coarse: marked by windows, in order.
        margin: how far beside them is listened, s.
        merge_gap: stretches no further apart become one, s.

    Raises:
        AudioError: it cannot be read.
        UsageError: a detector of another kind.
    """
    threshold = getattr(detector, "frame_threshold", None) or 0.0
    fine = _spoofed(_frames_near(path, detector, coarse, margin), threshold, merge_gap)
    found: list[Stretch] = []
    taken: set[tuple[Seconds, Seconds]] = set()
    for stretch in coarse:
        inside = [ends for ends in fine if ends[1] > stretch.start and ends[0] < stretch.end]
        for start, end in inside or [(stretch.start, stretch.end)]:
            if (start, end) not in taken:
                taken.add((start, end))
                found.append(Stretch(start, end, stretch.score))
    return found


@dataclass
class _Run:
    """A run of frames, the sums of all gains before it and up to its end, and what can join no other run any
    more: runs before it, down to that which it may yet join."""

    first: int
    beyond: int
    before: float
    total: float
    settled: list[_Run]


def maximal_runs(gains: Iterable[float]) -> list[tuple[int, int]]:
    """All maximal scoring runs of a sequence, as first and beyond-last index, in order.

    The run of the highest sum, then the same of what lies before and behind it, and so on. In linear time:
    W. L. Ruzzo, M. Tompa, "A linear time algorithm for finding all maximal scoring subsequences", ISMB 1999.
    """
    open_runs: list[_Run] = []
    total = 0.0
    for index, gain in enumerate(gains):
        total += gain
        if gain <= 0:
            continue
        new = _Run(index, index + 1, total - gain, total, [])
        passed: list[_Run] = []
        while open_runs:
            run = open_runs[-1]
            if run.before >= new.before:  # no later run can reach back across the new one to it
                passed.append(open_runs.pop())
            elif run.total >= total:
                break
            else:  # joined, with all between
                open_runs.pop()
                new = _Run(run.first, index + 1, run.before, total, run.settled)
                passed = []
        new.settled += passed
        open_runs.append(new)
    found = []
    while open_runs:
        run = open_runs.pop()
        found.append((run.first, run.beyond))
        open_runs += run.settled
    return sorted(found)


def _spoofed(frames: Frames, threshold: float, merge_gap: Seconds) -> list[tuple[Seconds, Seconds]]:
    """Starts and ends of the stretches that frames mark."""
    found: list[tuple[Seconds, Seconds]] = []
    breaks = np.flatnonzero(frames.start[1:] - frames.end[:-1] > frames.end[:-1] - frames.start[:-1]) + 1
    edges = [0, *breaks.tolist(), len(frames.start)]
    for low, high in itertools.pairwise(edges):
        for first, beyond in maximal_runs((threshold - frames.score[low:high]).tolist()):
            start, end = float(frames.start[low + first]), float(frames.end[low + beyond - 1])
            if end - start < SHORTEST:
                continue
            if found and start - found[-1][1] <= merge_gap:
                start = found.pop()[0]
            found.append((start, end))
    return found


def _frames_near(path: PathLike, detector: AnyDetector, marked: Sequence[Stretch], margin: Seconds) -> Frames:
    """The frames of a recording that lie at most ``margin`` seconds beside marked stretches."""
    frontend: FrameGeometry = (
        detector.frontend if isinstance(detector, ExportedDetector) else _parts(detector)[0]
    )
    parts, heard = [], 0.0
    with stream_audio(path, chunk=CHUNK, allow_silent=True, allow_truncated=True) as stream:
        for first, n_before, n_samples, piece in _in_context(stream, round(CONTEXT * SAMPLE_RATE)):
            start, heard = first / SAMPLE_RATE, (first + n_samples) / SAMPLE_RATE
            near = [s for s in marked if s.end + margin > start and s.start - margin < heard]
            if not near or len(piece) < frontend.min_samples:
                continue
            times, scores = frame_timeline(detector, piece)
            times = times + (first - n_before) / SAMPLE_RATE
            inside = np.zeros(len(times), bool)
            for stretch in near:
                inside |= (times >= stretch.start - margin) & (times < stretch.end + margin)
            inside &= (times >= start) & (times < heard)
            parts.append((times[inside], scores[inside]))
    starts = np.concatenate([np.zeros(0), *(part[0] for part in parts)])
    hop = frontend.frame_shift
    ends = starts + hop
    if len(ends) and heard - ends[-1] < 2 * hop:  # what is too short for one more frame goes with the last
        ends[-1] = heard
    return Frames(starts, ends, np.concatenate([np.zeros(0), *(part[1] for part in parts)]))


def _in_context(chunks: Iterable[Float32Array], context: int) -> Iterator[tuple[int, int, int, Float32Array]]:
    """Chunks with up to ``context`` samples of those beside them.

    Yields:
        First sample of the chunk, samples before it in the piece, its own samples, and the piece.
    """
    before, held, first = np.zeros(0, np.float32), None, 0
    for chunk in itertools.chain(chunks, [None]):
        if held is not None:
            after = before[:0] if chunk is None else chunk[:context]
            yield first, len(before), len(held), np.concatenate([before, held, after])
            first += len(held)
            before = held[-context:]
        held = chunk
