"""Partial fakes: how well scores over time find which parts of an utterance are spoofed.

Segment EER counts segments of a stated length, as L. Zhang et al., "The PartialSpoof database
and countermeasures for the detection of short fake speech segments embedded in an utterance",
IEEE/ACM TASLP 31, 2023. Range EER measures misjudged time and needs no such length:
L. Zhang et al., "Range-based equal error rate for spoof localization", Interspeech 2023.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike

from voxfide.errors import UsageError
from voxfide.metrics.asv import finite_scores
from voxfide.metrics.eer import EerMethod, eer
from voxfide.metrics.trials import OperatingPoint
from voxfide.types import BONAFIDE, LABELS, SPOOF, BoolArray, Float64Array, Seconds

Span = tuple[Seconds, Seconds, str]
"""Start, end and label of a part of an utterance, as in a manifest's ``segments``."""

_TOLERANCE: Final = 1e-6
"""Seconds that times in files may be off by."""


@dataclass(frozen=True)
class ScoredUtterance:
    """Scores of equally long segments beside the truth.

    Attributes:
        scores: ``(segments,)``, higher means more bona fide; segment i is from ``i step``
            to ``(i + 1) step``.
        step: length of a segment in seconds.
        spans: the truth in order of time. Time in no span, or in one labelled ``unknown``, is
            not evaluated.

    Raises:
        UsageError: scores that are not finite, a step that is not above 0, spans that overlap,
            are not in order, are empty or have another label.
    """

    scores: Float64Array
    step: Seconds
    spans: Sequence[Span]

    def __post_init__(self) -> None:
        object.__setattr__(self, "scores", finite_scores(self.scores, "segment"))
        if not 0 < self.step < math.inf:
            raise UsageError(f"a step of {self.step} s; expected more than 0")
        previous = 0.0
        for start, end, label in self.spans:
            if not (previous - _TOLERANCE <= start < end < math.inf):
                raise UsageError(
                    f"span {start} … {end} s is empty, overlaps the one before, or is out of order"
                )
            if label not in LABELS:
                raise UsageError(f"span {start} … {end} s: label {label!r} (expected {', '.join(LABELS)})")
            previous = end


def segment_eer(
    utterances: Sequence[ScoredUtterance], resolution: Seconds, method: EerMethod = "asvspoof"
) -> OperatingPoint:
    """The EER, a fraction, over all segments of ``resolution`` seconds of all utterances.

    A segment is spoofed if any part of it is, and is left out if none is labelled. Scores of
    shorter segments are joined by their minimum, those of longer ones repeated, as in
    PartialSpoof's own code; scores past the last span do not count, and a last segment that is
    scored only in part does.

    Args:
        utterances: scores and truth.
        resolution: a whole multiple, or a whole fraction, of each utterance's step.
        method: how ties and gaps count; see :func:`voxfide.metrics.eer.eer`.

    Raises:
        UsageError: a resolution that fits the steps in neither way; or segments of one class only.
    """
    scores, labels = [], []
    for utterance in utterances:
        resampled = _at_resolution(utterance, resolution)
        labelled, is_bonafide = _segment_labels(utterance.spans, resolution, len(resampled))
        scores.append(resampled[labelled])
        labels.append(is_bonafide[labelled])
    return eer(_joined(scores), np.concatenate([np.zeros(0, dtype=np.bool_), *labels]), method)


def range_eer(utterances: Sequence[ScoredUtterance]) -> OperatingPoint:
    """The EER, a fraction, over time: misjudged seconds of each class.

    At a threshold, the miss rate is the share of bona fide time whose score lies below it, the
    false acceptance rate the share of spoofed time whose score does not. The figure is their
    mean at the threshold (one of the scores) where they differ least. After the last segment
    its score holds on.

    Args:
        utterances: scores and truth, of any steps.

    Raises:
        UsageError: no time of one of the classes.
    """
    pieces = [_pieces(utterance) for utterance in utterances]
    scores = _joined([p[0] for p in pieces])
    seconds = _joined([p[1] for p in pieces])
    is_bonafide = np.concatenate([np.zeros(0, dtype=np.bool_), *(p[2] for p in pieces)])
    total = {True: float(seconds[is_bonafide].sum()), False: float(seconds[~is_bonafide].sum())}
    if not min(total.values()) > 0:
        raise UsageError(
            f"{total[True]:.3f} s of bona fide and {total[False]:.3f} s of spoofed speech: "
            "the range EER needs some of each"
        )
    thresholds, at = np.unique(scores, return_inverse=True)
    below = {
        kind: np.concatenate(
            ([0.0], np.cumsum(np.bincount(at, seconds * (is_bonafide == kind), len(thresholds))))
        )
        for kind in (True, False)
    }
    frr, far = below[True] / total[True], 1 - below[False] / total[False]
    i = int(np.argmin(np.abs(frr - far)))
    threshold = thresholds[i] if i < len(thresholds) else np.nextafter(thresholds[-1], np.inf)
    return OperatingPoint(float((frr[i] + far[i]) / 2), float(threshold), float(frr[i]), float(far[i]))


def _at_resolution(utterance: ScoredUtterance, resolution: Seconds) -> Float64Array:
    """Scores of segments of ``resolution`` seconds, ``(segments,)``."""
    if not 0 < resolution < math.inf:
        raise UsageError(f"a resolution of {resolution} s; expected more than 0")
    ratio = resolution / utterance.step
    joined, repeated = round(ratio), round(1 / ratio)
    if joined >= 1 and abs(ratio - joined) < _TOLERANCE * joined:
        starts = np.arange(0, len(utterance.scores), joined)
        return np.minimum.reduceat(utterance.scores, starts)
    if repeated >= 1 and abs(1 / ratio - repeated) < _TOLERANCE * repeated:
        return np.repeat(utterance.scores, repeated)
    raise UsageError(
        f"a resolution of {resolution} s is neither a multiple nor a fraction of the step, {utterance.step} s"
    )


def _segment_labels(
    spans: Sequence[Span], resolution: Seconds, n_segments: int
) -> tuple[BoolArray, BoolArray]:
    """Which segments are labelled at all, and which of them are bona fide throughout."""
    touched = {BONAFIDE: np.zeros(n_segments, dtype=np.bool_), SPOOF: np.zeros(n_segments, dtype=np.bool_)}
    for start, end, label in spans:
        if label in touched:
            first = math.floor(start / resolution + _TOLERANCE)
            touched[label][first : math.ceil(end / resolution - _TOLERANCE)] = True
    labelled = touched[BONAFIDE] | touched[SPOOF]
    return labelled, labelled & ~touched[SPOOF]


def _pieces(utterance: ScoredUtterance) -> tuple[Float64Array, Float64Array, BoolArray]:
    """Score, seconds and class of every stretch of one span within one segment."""
    edges = np.arange(1, len(utterance.scores)) * utterance.step
    scores, seconds, is_bonafide = [], [], []
    for start, end, label in utterance.spans:
        if label not in (BONAFIDE, SPOOF):
            continue
        first, last = np.searchsorted(edges, [start, end], side="right")
        cuts = np.concatenate(([start], edges[first:last], [end]))
        durations = np.diff(cuts)
        scores.append(utterance.scores[first : first + len(durations)])
        seconds.append(durations)
        is_bonafide.append(np.full(len(durations), label == BONAFIDE))
    kinds = np.concatenate([np.zeros(0, dtype=np.bool_), *is_bonafide])
    return _joined(scores), _joined(seconds), kinds


def _joined(arrays: Sequence[ArrayLike]) -> Float64Array:
    return np.concatenate([np.zeros(0), *map(np.asarray, arrays)])
