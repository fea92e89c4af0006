"""A recording over time in one drawing: marked stretches, waveform, spectrogram, speech, window scores."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from voxfide.report.drawing import (
    Drawing,
    Hint,
    Ink,
    Label,
    Lines,
    Raster,
    Rectangle,
    Shape,
    TimeAxis,
)
from voxfide.types import Seconds

if TYPE_CHECKING:
    from voxfide.analysis.result import Analysis, Window
    from voxfide.conditions import Segment
    from voxfide.report.recording_signal import SignalPicture

WIDTH: Final = 960.0
LEFT: Final = 64.0
RIGHT: Final = WIDTH - 10
MAX_CELLS: Final = 1000
"""Steps of the score curve; where windows are more, neighbours share one."""

_BETWEEN_LABELS: Final = 20.0
_SPOOF: Final = Ink(fill="s2", opacity=0.2)
_FRAME: Final = Ink(stroke="grid", width=1)
_STEPS: Final = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400)


class Cell(NamedTuple):
    """A piece of time and the mean score of the windows that cover it; ``None`` where none does."""

    start: Seconds
    end: Seconds
    score: float | None


@dataclass(frozen=True)
class Scale:
    """Seconds to pixels."""

    seconds: Seconds

    def x(self, time: Seconds) -> float:
        """Within the drawing, also where a time lies beyond the end."""
        share = min(max(time / self.seconds, 0.0), 1.0) if self.seconds > 0 else 0.0
        return LEFT + share * (RIGHT - LEFT)


def timeline(
    analysis: Analysis, picture: SignalPicture | None, targets: Mapping[int, tuple[str, Seconds]]
) -> Drawing:
    """The drawing.

    Args:
        picture: without one there is neither waveform nor spectrogram.
        targets: number of a marked stretch, from 0 → id of its player in the page, and where in it.
    """
    scale = Scale(analysis.conditions.seconds)
    shapes: list[Shape] = []
    y = 18.0
    top = y
    if picture is not None:
        shapes += _waveform(picture, y, 84)
        y += 92
        if picture.spectrogram is not None:
            shapes += _spectrogram(picture.spectrogram, y, 120)
            y += 128
    shapes += _speech(analysis.speech, scale, y, 9)
    y += 21
    shapes += _scores(analysis, scale, y, 130)
    bottom = y + 130
    shapes += _time_axis(scale, bottom)
    shapes += _stretches(analysis, scale, top, bottom, targets)
    axis = TimeAxis(LEFT, RIGHT, scale.seconds)
    return Drawing(WIDTH, bottom + 36, shapes, _words(analysis, picture), axis, least_width=640)


def score_cells(windows: Sequence[Window]) -> list[Cell]:
    """The mean of the windows that cover each piece of time, between one window's edge and the next.

    At most :data:`MAX_CELLS`; where there are more, neighbours are joined, weighted by their length.
    """
    if not windows:
        return []
    edges = np.unique([edge for w in windows for edge in (w.start, w.end)])
    starts, ends, scores = (np.array([w[i] for w in windows], np.float64) for i in range(3))
    first, last = np.searchsorted(edges, starts), np.searchsorted(edges, ends)
    totals, counts = np.zeros(len(edges)), np.zeros(len(edges))
    for sums, value in ((totals, scores), (counts, np.ones(len(scores)))):
        np.add.at(sums, first, value)
        np.add.at(sums, last, -value)
    totals, counts = np.cumsum(totals)[:-1], np.round(np.cumsum(counts)[:-1])
    step = -(-len(counts) // MAX_CELLS)
    cells = []
    for i in range(0, len(counts), step):
        j = min(i + step, len(counts))
        covered = counts[i:j] > 0
        length = np.diff(edges[i : j + 1]) * covered
        means = totals[i:j] / np.maximum(counts[i:j], 1)
        score = float(length @ means / length.sum()) if covered.any() else None
        cells.append(Cell(float(edges[i]), float(edges[j]), score))
    return cells


def clock(time: Seconds, step: Seconds = 1.0) -> str:
    """``8.5``, ``1:05`` or ``1:02:05``, as fine as ``step`` needs; a minute's worth has no colon."""
    tenths = step < 1
    rounded = round(time, 1) if tenths else round(time)
    if rounded < 60:
        return f"{rounded:.1f}" if tenths else f"{rounded:.0f}"
    minutes, seconds = divmod(rounded, 60)
    hours, minutes = divmod(int(minutes), 60)
    ending = f"{seconds:04.1f}" if tenths else f"{int(seconds):02d}"
    return f"{hours}:{minutes:02d}:{ending}" if hours else f"{minutes}:{ending}"


def span(start: Seconds, end: Seconds) -> str:
    """From when to when, to a tenth of a second."""
    return f"{clock(start, 0.1)} to {clock(end, 0.1)}" + (" s" if end < 59.95 else "")


def _waveform(picture: SignalPicture, y: float, height: float) -> list[Shape]:
    middle, half = y + height / 2, height / 2 - 1
    loudest = float(picture.envelope.max()) or 1.0
    step = (RIGHT - LEFT) / len(picture.envelope)
    upper = [
        (LEFT + (i + 0.5) * step, max(0.4, half * float(peak) / loudest))
        for i, peak in enumerate(picture.envelope)
    ]
    outline = [(x, middle - a) for x, a in upper] + [(x, middle + a) for x, a in reversed(upper)]
    name = Label(LEFT - 8, middle + 4, "Waveform", "end")
    return [Rectangle(LEFT, y, RIGHT - LEFT, height, _FRAME), Lines([outline], Ink(fill="s5")), name]


def _spectrogram(png: bytes, y: float, height: float) -> list[Shape]:
    shapes: list[Shape] = [Raster(LEFT, y, RIGHT - LEFT, height, png)]
    for khz in (0, 2, 4, 6, 8):
        place = y + height * (1 - khz / 8)
        shapes.append(Label(LEFT - 8, place + (10 if khz == 8 else 4), f"{khz}", "end"))
    shapes.append(Label(16, y + height / 2, "kHz", "middle", turned=True))
    return [*shapes, Rectangle(LEFT, y, RIGHT - LEFT, height, _FRAME)]


def _speech(speech: Sequence[Segment], scale: Scale, y: float, height: float) -> list[Shape]:
    shapes: list[Shape] = [Lines([[(LEFT, y + height / 2), (RIGHT, y + height / 2)]], _FRAME)]
    spans: list[list[float]] = []
    for segment in speech:
        left, right = scale.x(segment.start), scale.x(segment.end)
        if spans and left - spans[-1][1] < 0.5:  # closer than the eye sees, and than a page can hold
            spans[-1][1] = max(right, spans[-1][1])
        else:
            spans.append([left, right])
    ink = Ink(fill="s3")
    shapes += [Rectangle(a, y + 1, max(b - a, 0.5), height - 2, ink) for a, b in spans]
    return [*shapes, Label(LEFT - 8, y + height, "Speech", "end")]


def _scores(analysis: Analysis, scale: Scale, y: float, height: float) -> list[Shape]:
    cells = score_cells(analysis.windows)
    limits = thresholds(analysis)
    reach = _reach([c.score for c in cells if c.score is not None] + limits)

    def place(score: float) -> float:
        return y + height / 2 - min(max(score / reach, -1), 1) * height / 2

    shapes: list[Shape] = [Rectangle(LEFT, y, RIGHT - LEFT, height, _FRAME)]
    for value in (-reach, -reach / 2, 0, reach / 2, reach):
        at = place(value)
        ink = Ink(stroke="muted", width=1) if value == 0 else _FRAME
        shapes.append(Lines([[(LEFT, at), (RIGHT, at)]], ink))
        text = "0" if value == 0 else f"{value:+g}".replace("-", "−")
        shapes.append(Label(LEFT - 8, at + 4, text, "end"))
    neutral = 0.0 if analysis.calibrated or not limits else limits[-1]
    shapes += _area(cells, scale, place, neutral)
    for limit in limits:
        shapes.append(
            Lines([[(LEFT, place(limit)), (RIGHT, place(limit))]], Ink(stroke="ink", dashes=(4, 3)))
        )
    for cell in cells if len(cells) <= 240 else []:
        if cell.score is not None:
            words = f"{span(cell.start, cell.end)}: {cell.score:+.2f}"
            left = scale.x(cell.start)
            shapes.append(Hint(left, y, scale.x(cell.end) - left, height, words.replace("-", "−")))
    if not cells:
        shapes.append(Label((LEFT + RIGHT) / 2, y + height / 2 - 8, "no window was scored", "middle", 13))
    name = "LLR" if analysis.calibrated else "score"
    return [
        *shapes,
        Label(RIGHT - 6, y + 14, "speaks for bona fide", "end", ink="s1"),
        Label(RIGHT - 6, y + height - 6, "speaks for a spoof", "end", ink="s2"),
        Label(16, y + height / 2, name, "middle", turned=True),
    ]


def _area(
    cells: Sequence[Cell], scale: Scale, place: Callable[[float], float], neutral: float
) -> Iterator[Shape]:
    """Areas between the neutral score and the cells', one colour above and one below it, and the curve."""
    for sign, ink in ((1, Ink(fill="s1", opacity=0.45)), (-1, Ink(fill="s2", opacity=0.6))):
        boxes = []
        for cell in cells:
            if cell.score is not None and (cell.score - neutral) * sign > 0:
                a, b, top, zero = scale.x(cell.start), scale.x(cell.end), place(cell.score), place(neutral)
                boxes.append([(a, zero), (a, top), (b, top), (b, zero)])
        yield Lines(boxes, ink)
    runs: list[list[tuple[float, float]]] = [[]]
    for cell in cells:
        if cell.score is None:
            runs.append([])
        else:
            runs[-1] += [(scale.x(t), place(cell.score)) for t in (cell.start, cell.end)]
    yield Lines(runs, Ink(stroke="ink", width=1.3))


def _stretches(
    analysis: Analysis, scale: Scale, top: float, bottom: float, targets: Mapping[int, tuple[str, Seconds]]
) -> list[Shape]:
    shapes: list[Shape] = []
    labelled = -math.inf
    for i, stretch in enumerate(analysis.stretches):
        left = scale.x(stretch.start)
        width = max(scale.x(stretch.end) - left, 1.5)
        target, at = targets.get(i, ("", None))
        words = f"Stretch {i + 1}, {span(stretch.start, stretch.end)}"
        words += f", score {stretch.score:+.2f}".replace("-", "−") + (": play" if target else "")
        middle = left + width / 2
        if middle - labelled >= _BETWEEN_LABELS:
            shapes.append(Label(middle, top - 6, str(i + 1), "middle", bold=True, ink="ink"))
            labelled = middle
        shapes += [
            Rectangle(left, top, width, bottom - top, _SPOOF),
            Rectangle(left, top - 3, width, 3, Ink(fill="s2")),
            Hint(left, 0, width, bottom, words, target, at),
        ]
    return shapes


def _time_axis(scale: Scale, y: float) -> list[Shape]:
    if scale.seconds <= 0:
        return []
    step = next((s for s in _STEPS if scale.seconds / s <= 12), _STEPS[-1])
    shapes: list[Shape] = []
    for i in range(math.floor(scale.seconds / step + 1e-9) + 1):
        x = scale.x(i * step)
        shapes.append(Lines([[(x, y), (x, y + 4)]], Ink(stroke="muted")))
        # The last one stays within the drawing.
        shapes.append(Label(x, y + 16, clock(i * step, step), "end" if x > RIGHT - 16 else "middle"))
    unit = "seconds" if scale.seconds < 60 else "minutes:seconds" if scale.seconds < 3600 else "h:min:s"
    return [*shapes, Label((LEFT + RIGHT) / 2, y + 31, unit, "middle")]


def thresholds(analysis: Analysis) -> list[float]:
    """Scores between which the verdict changes, without repeats."""
    found = [analysis.rule.get(key) for key in ("bonafide_from", "spoof_below")]
    return sorted({float(v) for v in found if isinstance(v, int | float) and math.isfinite(v)})


def _reach(values: Sequence[float]) -> float:
    """The end of the score axis: an even number that holds nearly all values."""
    largest = max(map(abs, values), default=0.0)
    return next((float(r) for r in (0.2, 0.4, 1, 2, 4, 6, 10, 20, 40, 100) if r >= largest), largest)


def _words(analysis: Analysis, picture: SignalPicture | None) -> str:
    parts = "waveform, spectrogram, speech and " if picture is not None else "speech and "
    scores = [w.score for w in analysis.windows]
    text = f"Timeline of {analysis.conditions.seconds:.1f} s: {parts}window scores."
    if scores:
        text += f" {len(scores)} window(s) score from {min(scores):+.2f} to {max(scores):+.2f}."
    marked = len(analysis.stretches)
    return (text + f" Marked stretches: {marked or 'none'}; they are listed below.").replace("-", "−")
