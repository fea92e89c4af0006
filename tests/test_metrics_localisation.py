"""Segment and range EER of partial fakes: cases by hand, a naive count in milliseconds, invariances."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxfide.errors import UsageError
from voxfide.metrics import eer
from voxfide.metrics.localisation import ScoredUtterance, range_eer, segment_eer


def _utterance(scores: list[float], *spans: tuple[float, float, str], step: float = 0.02) -> ScoredUtterance:
    return ScoredUtterance(np.array(scores), step, spans)


@st.composite
def corpora(draw: st.DrawFn) -> list[ScoredUtterance]:
    """A few utterances whose spans end on whole milliseconds, with both classes among them."""
    utterances = []
    for _ in range(draw(st.integers(1, 3))):
        bounds = sorted(draw(st.sets(st.integers(1, 120), min_size=1, max_size=4)))
        first = draw(st.booleans())
        spans = [
            (a / 1000, b / 1000, "bonafide" if (i % 2 == 0) == first else "spoof")
            for i, (a, b) in enumerate(zip([0, *bounds[:-1]], bounds, strict=True))
        ]
        n = draw(st.integers(1, 8))
        scores = [s / 4 for s in draw(st.lists(st.integers(-8, 8), min_size=n, max_size=n))]
        utterances.append(_utterance(scores, *spans))
    utterances.append(_utterance([1.0, -1.0], (0, 0.02, "bonafide"), (0.02, 0.04, "spoof")))
    return utterances


def _by_millisecond(utterances: list[ScoredUtterance]) -> tuple[np.ndarray, np.ndarray]:
    """The score and class of each millisecond, by a loop."""
    scores, labels = [], []
    for u in utterances:
        for start, end, label in u.spans:
            for ms in range(round(start * 1000), round(end * 1000)):
                scores.append(u.scores[min(ms // round(u.step * 1000), len(u.scores) - 1)])
                labels.append(label == "bonafide")
    return np.array(scores), np.array(labels)


class TestRangeEer:
    def test_by_hand(self) -> None:
        # 50 ms bona fide then 50 ms spoof; segment 2 (40 to 60 ms) straddles the border.
        utterance = _utterance([3, 3, 0, -3, -3], (0, 0.05, "bonafide"), (0.05, 0.1, "spoof"))
        point = range_eer([utterance])
        # At threshold 0 the straddling segment is accepted: 10 of 50 ms of the spoof; above it,
        # 10 of 50 ms bona fide are rejected. Both differ by 0.2; the lower threshold comes first.
        assert point.value == pytest.approx(0.1)
        assert (point.frr, point.far) == (pytest.approx(0), pytest.approx(0.2))
        assert point.threshold == 0

    @given(corpora())
    def test_equals_the_eer_of_milliseconds(self, utterances: list[ScoredUtterance]) -> None:
        scores, labels = _by_millisecond(utterances)
        naive = eer(scores, labels, "sklearn")
        assert range_eer(utterances).value == pytest.approx(naive.value, abs=1e-9) or _near_tie(
            scores, labels
        )

    @given(corpora())
    def test_does_not_depend_on_how_time_is_cut(self, utterances: list[ScoredUtterance]) -> None:
        finer = [ScoredUtterance(np.repeat(u.scores, 4), u.step / 4, u.spans) for u in utterances]
        split = [
            ScoredUtterance(
                u.scores,
                u.step,
                [s for a, b, n in u.spans for s in ((a, (a + b) / 2, n), ((a + b) / 2, b, n))],
            )
            for u in utterances
        ]
        scores, labels = _by_millisecond(utterances)
        for other in (finer, split, utterances * 2, utterances[::-1]):
            found = range_eer(other).value
            assert found == pytest.approx(range_eer(utterances).value, abs=1e-9) or _near_tie(scores, labels)

    @given(corpora(), st.sampled_from([lambda x: 3 * x + 1, np.exp, np.arctan]))
    def test_increasing_maps(self, utterances: list[ScoredUtterance], mapping: np.ufunc) -> None:
        mapped = [ScoredUtterance(mapping(u.scores), u.step, u.spans) for u in utterances]
        assert range_eer(mapped).value == range_eer(utterances).value

    def test_unlabelled_time_does_not_count(self) -> None:
        spans = [(0, 0.02, "bonafide"), (0.02, 0.04, "unknown"), (0.06, 0.08, "spoof")]
        utterance = _utterance([1, -9, 9, -1], *spans)
        assert range_eer([utterance]).value == 0

    def test_one_class_only(self) -> None:
        with pytest.raises(UsageError, match=r"0.020 s of bona fide and 0.000 s of spoofed"):
            range_eer([_utterance([1.0], (0, 0.02, "bonafide"))])
        with pytest.raises(UsageError, match="needs some of each"):
            range_eer([])


def _near_tie(scores: np.ndarray, labels: np.ndarray) -> bool:
    """Whether two thresholds are equally near to equal rates, so that rounding decides between them."""
    gaps = [
        abs((scores[labels] < t).mean() - (scores[~labels] >= t).mean()) for t in [*np.unique(scores), np.inf]
    ]
    best = sorted(gaps)[:2]
    return best[1] - best[0] < 1e-9


class TestSegmentEer:
    def test_a_segment_is_spoofed_if_any_part_is(self) -> None:
        utterance = _utterance([3, 1, 2, -3], (0, 0.03, "bonafide"), (0.03, 0.08, "spoof"))
        assert segment_eer([utterance], 0.02).value == eer([3, 1, 2, -3], [True, False, False, False]).value
        # At 40 ms the first segment holds a spoof as well: only one class is left.
        with pytest.raises(UsageError, match="0 bona fide and 2 spoof"):
            segment_eer([utterance], 0.04)

    def test_borders_on_the_grid_belong_to_one_segment(self) -> None:
        spans = [(0, 0.06, "bonafide"), (0.06, 0.14, "spoof")]
        point = segment_eer([_utterance([5, 5, 5, -5, -5, -5, -5], *spans)], 0.02)
        assert (point.value, point.frr, point.far) == (0, 0, 0)

    def test_coarser_scores_are_minima_and_finer_ones_repeated(self) -> None:
        spans = [(0, 0.08, "bonafide"), (0.08, 0.16, "spoof")]
        scores = [4.0, 1.0, 5.0, 5.0, 2.0, -1.0, 0.0, 3.0]
        utterance = _utterance(scores, *spans)
        coarse = segment_eer([utterance], 0.04)
        assert coarse.value == eer([1, 5, -1, 0], [True, True, False, False]).value
        fine = segment_eer([utterance], 0.01)
        assert fine.value == eer(np.repeat(scores, 2), np.arange(16) < 8).value

    def test_scores_past_the_end_and_unlabelled_segments(self) -> None:
        spans = [(0, 0.02, "bonafide"), (0.04, 0.05, "spoof")]
        utterance = _utterance([2, -7, 1, 9, 9], *spans)
        assert segment_eer([utterance], 0.02).value == eer([2, 1], [True, False]).value

    def test_steps_of_several_lengths(self) -> None:
        one = _utterance([1, 2, -1, -2], (0, 0.04, "bonafide"), (0.04, 0.08, "spoof"))
        two = _utterance([3, -3], (0, 0.04, "bonafide"), (0.04, 0.08, "spoof"), step=0.04)
        assert segment_eer([one, two], 0.04).value == 0

    @given(corpora())
    def test_equals_a_loop_over_segments(self, utterances: list[ScoredUtterance]) -> None:
        scores, labels = [], []
        for u in utterances:
            for i, score in enumerate(u.scores):
                span_labels = {
                    n for a, b, n in u.spans if round(a * 1000) < 20 * (i + 1) and round(b * 1000) > 20 * i
                }
                if span_labels:
                    scores.append(score)
                    labels.append("spoof" not in span_labels)
        assert segment_eer(utterances, 0.02) == eer(scores, labels)

    @pytest.mark.parametrize("resolution", [0.03, 0.015, 0, -1])
    def test_resolutions_that_do_not_fit(self, resolution: float) -> None:
        utterance = _utterance([1, -1], (0, 0.02, "bonafide"), (0.02, 0.04, "spoof"))
        with pytest.raises(UsageError, match=r"resolution of"):
            segment_eer([utterance], resolution)


@pytest.mark.parametrize(
    ("spans", "message"),
    [
        ([(0.1, 0.1, "spoof")], "is empty"),
        ([(0, 0.2, "spoof"), (0.1, 0.3, "bonafide")], "overlaps"),
        ([(0, 0.2, "fake")], "label 'fake'"),
        ([(-0.1, 0.2, "spoof")], "out of order"),
    ],
)
def test_malformed_spans(spans: list, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        _utterance([1.0], *spans)


def test_malformed_scores() -> None:
    with pytest.raises(UsageError, match="1 of 2 segment scores are NaN"):
        _utterance([1.0, np.nan], (0, 1, "spoof"))
    with pytest.raises(UsageError, match="a step of 0 s"):
        _utterance([1.0], (0, 1, "spoof"), step=0)
