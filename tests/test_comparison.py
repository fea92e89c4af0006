"""Comparison of systems on the same trials: DeLong, paired bootstrap, sentences and coverage."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxfide.errors import ScoreFileError, UsageError
from voxfide.evaluation import Key, Trials, align_systems, compare
from voxfide.metrics import METRICS, auc, delong_test
from voxfide.metrics.paired import paired_replicates
from voxfide.scores import Scores


def _trials(score: np.ndarray, is_bonafide: np.ndarray, speakers: int = 40) -> Trials:
    n = len(score)
    return Trials(
        np.array([f"E_{i}" for i in range(n)], dtype=object),
        score,
        is_bonafide,
        {"speaker": np.array([f"S{i % speakers}" for i in range(n)], dtype=object)},
    )


def _two_systems(n: int = 800, gain: float = 0.0, seed: int = 0) -> dict[str, Trials]:
    """Two systems that share most of what makes a trial hard; a separates better by ``gain``."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) < n // 3
    shared = rng.normal(size=n) + 1.5 * labels
    scores = {"a": gain * labels, "b": 0.0}
    return {name: _trials(shared + g + 0.3 * rng.normal(size=n), labels) for name, g in scores.items()}


@st.composite
def paired_scores(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    labels = draw(st.lists(st.booleans(), min_size=4, max_size=30).filter(lambda x: 1 < sum(x) < len(x) - 1))
    grid = st.lists(st.integers(-6, 6), min_size=len(labels), max_size=len(labels))
    return np.array(draw(grid)) / 4, np.array(draw(grid)) / 4, np.array(labels)


class TestDelong:
    @given(paired_scores())
    def test_equals_the_definition_by_pairs(self, data: tuple[np.ndarray, ...]) -> None:
        a, b, labels = data
        kernels = [
            (s[labels][:, None] > s[~labels]) + 0.5 * (s[labels][:, None] == s[~labels]) for s in (a, b)
        ]
        by_bonafide = np.array([k.mean(axis=1) for k in kernels])
        by_spoof = np.array([k.mean(axis=0) for k in kernels])
        covariance = np.cov(by_bonafide) / labels.sum() + np.cov(by_spoof) / (~labels).sum()
        contrast = np.array([1, -1])
        found = delong_test(a, b, labels)
        assert found.difference == pytest.approx(auc(a, labels) - auc(b, labels), abs=1e-12)
        assert found.standard_error**2 == pytest.approx(contrast @ covariance @ contrast, abs=1e-12)
        if found.standard_error > 1e-6:
            z = abs(found.difference) / found.standard_error
            assert found.p_value == pytest.approx(math.erfc(z / math.sqrt(2)), abs=1e-12)
        swapped = delong_test(b, a, labels)
        assert swapped.p_value == pytest.approx(found.p_value, nan_ok=True)
        assert swapped.difference == -found.difference

    def test_p_values_of_equally_good_systems_are_uniform(self) -> None:
        p_values = []
        for seed in range(300):
            systems = _two_systems(200, seed=seed)
            p_values.append(
                delong_test(systems["a"].score, systems["b"].score, systems["a"].is_bonafide).p_value
            )
        assert 0.02 < np.mean(np.array(p_values) < 0.05) < 0.09
        assert 0.42 < np.mean(p_values) < 0.58

    def test_no_difference_and_no_variance(self) -> None:
        labels = np.arange(10) < 5
        perfect = np.where(labels, 1.0, 0.0)
        assert delong_test(perfect, 2 * perfect, labels).p_value == 1
        assert math.isnan(delong_test(perfect, 1 - perfect, labels).p_value)


class TestPairedReplicates:
    @pytest.mark.parametrize("with_clusters", [False, True])
    def test_figures_are_those_of_the_same_resampled_trials(
        self, monkeypatch: pytest.MonkeyPatch, with_clusters: bool
    ) -> None:
        """Recorded draws, applied by hand to the trials, give the same figures."""
        rng = np.random.default_rng(0)
        labels = rng.random(60) < 0.4
        systems = [rng.normal(size=60) + labels, np.round(rng.normal(size=60) + labels, 1)]
        clusters = np.arange(60) % 13 if with_clusters else None
        drawn: list[np.ndarray] = []
        from voxfide.metrics import paired

        draw = paired.draw_copies

        def record(n: int, samples: int, generator: np.random.Generator) -> np.ndarray:
            drawn.append(draw(n, samples, generator))
            return drawn[-1]

        monkeypatch.setattr(paired, "draw_copies", record)
        found = paired_replicates(systems, labels, list(METRICS), 5, 0, clusters)
        copies = np.zeros((5, 60), dtype=int)
        if clusters is None:
            copies[:, labels], copies[:, ~labels] = drawn
        else:
            copies = drawn[0][:, clusters]
        for figures, scores in zip(found, systems, strict=True):
            for spec in METRICS:
                for i in range(5):
                    sample = np.repeat(np.arange(60), copies[i])
                    expected = spec(scores[sample], labels[sample])
                    assert figures[spec.name][i] == pytest.approx(expected, abs=1e-12)

    def test_does_not_depend_on_the_memory_budget(self, monkeypatch: pytest.MonkeyPatch) -> None:
        systems = _two_systems(150)
        at_once = compare(systems, n_bootstrap=40)[0].differences
        monkeypatch.setattr("voxfide.metrics.paired.CELL_BUDGET", 150 * 7)
        in_parts = compare(systems, n_bootstrap=40)[0].differences
        for name, difference in at_once.items():
            assert in_parts[name].interval == pytest.approx(difference.interval, abs=1e-12)


class TestCompare:
    def test_a_clear_difference(self) -> None:
        (found,) = compare(_two_systems(1500, gain=0.7), "first", n_bootstrap=300)
        assert (found.a, found.b) == ("b", "a")
        low, high = found.differences["eer_percent"].interval or (0, 0)
        assert 0 < low < found.differences["eer_percent"].value < high
        assert found.differences["auc"].value < 0
        assert found.differences["eer_percent"].p_value == pytest.approx(2 / 301)
        assert found.delong.p_value < 1e-6
        assert found.sentence().startswith("b makes more errors than a on trials like these (EER ")
        assert "more than chance explains" in found.sentence()
        reverse = compare(dict(reversed(_two_systems(1500, gain=0.7).items())), n_bootstrap=300)[0]
        assert reverse.sentence().startswith("a makes fewer errors than b")

    def test_no_difference_to_speak_of(self) -> None:
        (found,) = compare(_two_systems(400), n_bootstrap=200)
        assert "cannot be told apart" in found.sentence()
        assert (found.differences["eer_percent"].p_value or 0) > 0.05
        same = _two_systems(200)["a"]
        (identical,) = compare({"a": same, "b": same}, n_bootstrap=50)
        assert {(d.value, d.interval, d.p_value) for d in identical.differences.values()} == {(0, (0, 0), 1)}
        assert identical.delong.p_value == 1

    def test_pairing_narrows_the_interval(self) -> None:
        systems = _two_systems(1200)
        shuffled = np.random.default_rng(1).permutation(1200)
        b = systems["b"]
        order = np.concatenate([shuffled[b.is_bonafide[shuffled]], shuffled[~b.is_bonafide[shuffled]]])
        unrelated = {"a": systems["a"], "b": replace(b, score=b.score[order])}
        widths = []
        for pair in (systems, unrelated):
            low, high = compare(pair, n_bootstrap=200)[0].differences["auc"].interval or (0, 0)
            widths.append(high - low)
        assert widths[0] < 0.6 * widths[1]

    def test_ninety_percent_intervals_cover_no_difference(self) -> None:
        covered = 0
        for seed in range(120):
            systems = _two_systems(150, seed=seed)
            interval = compare(systems, n_bootstrap=100, confidence=0.9)[0].differences["auc"].interval
            assert interval is not None
            covered += interval[0] <= 0 <= interval[1]
        assert 0.8 <= covered / 120 <= 0.97

    def test_clusters(self) -> None:
        systems = {n: replace(t) for n, t in _two_systems(400).items()}
        (found,) = compare(systems, n_bootstrap=100, clusters="speaker")
        assert found.clusters == "speaker"
        assert found.differences["auc"].interval
        with pytest.raises(UsageError, match="no column 'spk'"):
            compare(systems, clusters="spk")

    def test_who_is_compared_with_whom(self) -> None:
        systems = _two_systems(300, gain=1.5)
        systems = {"poor": systems["b"], "good": systems["a"], "middle": _two_systems(300, gain=0.7)["a"]}
        pairs = {
            against: [(c.a, c.b) for c in compare(systems, against, n_bootstrap=0)]
            for against in ("first", "best", "all")
        }
        assert pairs["first"] == [("good", "poor"), ("middle", "poor")]
        assert pairs["best"] == [("poor", "good"), ("middle", "good")]
        assert pairs["all"] == [("poor", "good"), ("poor", "middle"), ("good", "middle")]
        assert compare({"poor": systems["poor"]}) == []
        with pytest.raises(UsageError, match="expected one of first, best, all"):
            compare(systems, "last")  # type: ignore[arg-type]

    def test_without_samples(self) -> None:
        (found,) = compare(_two_systems(200), n_bootstrap=0)
        assert found.differences["cllr"].interval is None
        assert "without intervals" in found.sentence()
        report = json.loads(json.dumps(found.to_json(), allow_nan=False))
        assert list(report) == ["a", "b", "sentence", "differences", "delong", "confidence", "clusters"]
        assert list(report["differences"]) == METRICS.names()
        assert report["differences"]["auc"] == {
            "a": found.figures_a["auc"],
            "b": found.figures_b["auc"],
            "difference": found.figures_a["auc"] - found.figures_b["auc"],
            "interval": None,
            "p_value": None,
        }

    def test_other_trials_are_refused(self) -> None:
        systems = _two_systems(100)
        renamed = replace(systems["b"], utterance_id=systems["b"].utterance_id[::-1])
        with pytest.raises(UsageError, match="a and b are of different trials"):
            compare({"a": systems["a"], "b": renamed})


class TestAlignSystems:
    def _key(self) -> Key:
        ids = np.array(list("abcd"), dtype=object)
        return Key(ids, np.array(["bonafide", "spoof", "spoof", "spoof"], dtype=object))

    def _scores(self, ids: str) -> Scores:
        return Scores(np.array(list(ids), dtype=object), np.arange(len(ids), dtype=float), source="s.tsv")

    def test_same_trials(self) -> None:
        aligned = align_systems({"x": self._scores("abcd"), "y": self._scores("dcba")}, self._key())
        assert aligned["x"].utterance_id.tolist() == aligned["y"].utterance_id.tolist() == list("abcd")
        assert aligned["y"].score.tolist() == [3, 2, 1, 0]

    def test_what_is_missing_where(self) -> None:
        with pytest.raises(ScoreFileError) as caught:
            align_systems({"x": self._scores("abc"), "y": self._scores("ad")}, self._key())
        message = str(caught.value)
        assert "x lacks 1 trial(s) that others scored: d" in message
        assert "y lacks 2 trial(s) that others scored: b, c" in message

    def test_what_all_lack_is_a_warning_unless_strict(self) -> None:
        systems = {"x": self._scores("abc"), "y": self._scores("cba")}
        assert align_systems(systems, self._key())["y"].warnings == (
            "1 trial(s) of the key have no score: d",
        )
        with pytest.raises(ScoreFileError, match="have no score: d"):
            align_systems(systems, self._key(), strict=True)
