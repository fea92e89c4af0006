"""Window scores to the score of the recording, and to the stretches that they mark."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from itertools import pairwise

from voxfide.analysis.result import Stretch, Window
from voxfide.types import Seconds


def joined_score(windows: Iterable[Window]) -> float | None:
    """Mean of the window scores, weighted by seconds of speech; ``None`` without windows.

    Of one window it is that window's score. The windows of a recording share speaker, room and (half of
    it) even the audio, so their log likelihood ratios must not be added up as if they were independent
    witnesses: the mean says what one typical window says, and grows no surer with length. Without any
    speech all windows count alike.
    """
    chosen = list(windows)
    if not chosen:
        return None
    if len(chosen) == 1:
        return chosen[0].score
    weights = [w.speech for w in chosen]
    total = sum(weights)
    if total <= 0:
        return sum(w.score for w in chosen) / len(chosen)
    return sum(w.score * weight for w, weight in zip(chosen, weights, strict=True)) / total


def cells(windows: Sequence[Window]) -> list[Stretch]:
    """The recording between all starts and ends of windows: each cell with the mean of those that cover it.

    Windows are in order of start and of end, as sliding windows are. With windows at regular hops a cell is
    as long as a hop. What no window covers has no cell.
    """
    starts, ends = [w.start for w in windows], [w.end for w in windows]
    edges = sorted({*starts, *ends})
    found = []
    for start, end in pairwise(edges):
        first, beyond = bisect_left(ends, end), bisect_right(starts, start)
        if first < beyond:
            covering = windows[first:beyond]
            found.append(Stretch(start, end, sum(w.score for w in covering) / len(covering)))
    return found


def stretches(windows: Sequence[Window], below: float, merge_gap: Seconds = 0.0) -> list[Stretch]:
    """Where the mean of the windows that cover a place lies below a score.

    Args:
        windows: in order of start and of end.
        below: score; of a rule the one from which down it says spoof.
        merge_gap: stretches no further apart become one, s; what lies between counts for its score.
    """
    everywhere = cells(windows)
    groups: list[list[int]] = []
    for index, cell in enumerate(everywhere):
        if cell.score >= below:
            continue
        if groups and cell.start - everywhere[groups[-1][1]].end <= merge_gap:
            groups[-1][1] = index
        else:
            groups.append([index, index])
    return [_joined(everywhere[first : last + 1]) for first, last in groups]


def _joined(part: Sequence[Stretch]) -> Stretch:
    seconds = sum(cell.end - cell.start for cell in part)
    score = sum(cell.score * (cell.end - cell.start) for cell in part) / seconds
    return Stretch(part[0].start, part[-1].end, score)
