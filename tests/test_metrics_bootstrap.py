"""Bootstrap: weighted figures equal recomputed ones; samples are reproducible and cover."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxfide.errors import UsageError
from voxfide.metrics import METRICS, auc, bootstrap, bootstrap_intervals
from voxfide.metrics.bootstrap import percentile_interval, replicates
from voxfide.metrics.ranking import RankedClass, Ranking, WeightedClass, WeightedTrials


@st.composite
def weighted_sets(draw: st.DrawFn) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Per class: scores on a coarse grid and the weights of three samples, none of them empty."""
    scores, weights = [], []
    span = draw(st.sampled_from([1, 6, 300]))
    for _ in range(2):
        n = draw(st.integers(1, 25))
        scores.append(np.array(draw(st.lists(st.integers(-span, span), min_size=n, max_size=n))) / 8)
        row = st.lists(st.integers(0, 3), min_size=n, max_size=n).filter(any)
        weights.append(np.array(draw(st.lists(row, min_size=3, max_size=3))))
    return scores, weights


def _normal_trials(n: int, shift: float = 1.5, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = np.arange(n) < n // 4
    return rng.normal(size=n) + shift * labels, labels


@given(weighted_sets())
def test_weighted_figures_equal_those_of_the_resampled_set(
    data: tuple[list[np.ndarray], list[np.ndarray]],
) -> None:
    (bonafide, spoof), weights = data
    ranking = Ranking(RankedClass(bonafide, "bonafide"), RankedClass(spoof, "spoof"))
    trials = WeightedTrials(
        ranking, WeightedClass(ranking.bonafide, weights[0]), WeightedClass(ranking.spoof, weights[1])
    )
    for spec in METRICS:
        figures = spec.resampled(trials)
        for i in range(3):
            sample = [np.repeat(np.sort(s), w[i]) for s, w in zip((bonafide, spoof), weights, strict=True)]
            labels = np.arange(sum(map(len, sample))) < len(sample[0])
            assert figures[i] == pytest.approx(spec(np.concatenate(sample), labels), abs=1e-12), spec.name


def test_a_metric_without_a_weighted_form_is_recomputed() -> None:
    scores, labels = _normal_trials(60)
    ranking = Ranking(RankedClass(scores[labels], "bonafide"), RankedClass(scores[~labels], "spoof"))
    fast = list(METRICS)
    slow = [replace(spec, resampled_place="") for spec in fast]
    with_form, without = (replicates([ranking], specs, 20, seed=1)[0] for specs in (fast, slow))
    for name, figures in with_form.items():
        np.testing.assert_allclose(without[name], figures, rtol=0, atol=1e-12)


def test_same_seed_same_intervals_in_any_order_of_trials() -> None:
    scores, labels = _normal_trials(300)
    order = np.random.default_rng(9).permutation(300)
    first = bootstrap_intervals(scores, labels, n_bootstrap=50, seed=3)
    assert bootstrap_intervals(scores[order], labels[order], n_bootstrap=50, seed=3) == first
    assert bootstrap_intervals(scores, labels, n_bootstrap=50, seed=4) != first


@pytest.mark.parametrize("with_clusters", [False, True])
def test_samples_do_not_depend_on_the_memory_budget(
    monkeypatch: pytest.MonkeyPatch, with_clusters: bool
) -> None:
    scores, labels = _normal_trials(301)
    clusters = np.arange(301) % 37 if with_clusters else None
    at_once = bootstrap_intervals(scores, labels, n_bootstrap=40, clusters=clusters)
    monkeypatch.setattr("voxfide.metrics.bootstrap.CELL_BUDGET", 301 * 7)
    monkeypatch.setattr("voxfide.metrics.bootstrap.DRAW_BLOCK", 500)
    in_parts = bootstrap_intervals(scores, labels, n_bootstrap=40, clusters=clusters)
    for name, interval in at_once.items():
        assert in_parts[name] == pytest.approx(interval, abs=1e-12), name


def test_each_class_keeps_its_number_of_trials() -> None:
    copies = bootstrap.draw_copies(50, 200, np.random.default_rng(0))
    assert copies.shape == (200, 50)
    assert (copies.sum(axis=1) == 50).all()
    # Each trial is drawn once on average, with the variance of a binomial(50, 1/50).
    assert copies.mean(axis=0) == pytest.approx(1, abs=0.35)
    assert copies.var() == pytest.approx(49 / 50, abs=0.05)


def test_sets_that_share_a_class_share_its_samples() -> None:
    scores, labels = _normal_trials(400)
    bonafide = RankedClass(scores[labels], "bonafide")
    spoofs = [RankedClass(s, f"spoof {i}") for i, s in enumerate(np.split(scores[~labels], 3))]
    together = replicates([Ranking(bonafide, spoof) for spoof in spoofs], [METRICS["auc"]], 300, seed=0)
    alone = replicates([Ranking(bonafide, spoofs[1])], [METRICS["auc"]], 300, seed=0)
    np.testing.assert_array_equal(together[1]["auc"], alone[0]["auc"])
    assert np.corrcoef(together[0]["auc"], together[1]["auc"])[0, 1] > 0.3


def test_ninety_five_percent_intervals_cover() -> None:
    true_auc = 0.8555778  # of unit normals 1.5 apart: the normal CDF at 1.5 / sqrt(2)
    covered = 0
    for seed in range(150):
        scores, labels = _normal_trials(240, seed=seed)
        interval = bootstrap_intervals(scores, labels, ["auc"], n_bootstrap=200)["auc"]
        assert interval is not None
        covered += interval[0] <= true_auc <= interval[1]
    assert 0.88 <= covered / 150 <= 0.99


def test_interval_surrounds_the_figure_and_widens_with_confidence() -> None:
    scores, labels = _normal_trials(400)
    narrow, wide = (bootstrap_intervals(scores, labels, ["auc"], confidence=c)["auc"] for c in (0.5, 0.99))
    assert narrow is not None
    assert wide is not None
    assert wide[0] < narrow[0] < auc(scores, labels) < narrow[1] < wide[1]


def test_clusters_of_identical_trials_widen_the_interval() -> None:
    scores, labels = _normal_trials(80)
    many, many_labels, speaker = np.repeat(scores, 16), np.repeat(labels, 16), np.repeat(np.arange(80), 16)
    by_trial = bootstrap_intervals(many, many_labels, ["auc"])["auc"]
    by_speaker = bootstrap_intervals(many, many_labels, ["auc"], clusters=speaker)["auc"]
    assert by_trial is not None
    assert by_speaker is not None
    ratio = (by_speaker[1] - by_speaker[0]) / (by_trial[1] - by_trial[0])
    assert 3 < ratio < 5  # the square root of 16, give or take


def test_samples_without_a_class_do_not_count() -> None:
    scores, labels = np.array([0.0, 1.0, 2.0, 3.0]), np.array([False, False, False, True])
    intervals = bootstrap_intervals(scores, labels, ["auc"], clusters=list("abcd"), n_bootstrap=400)
    assert intervals["auc"] == (1.0, 1.0)
    assert percentile_interval(np.array([0.5, *[np.nan] * 3]), 0.95) is None


def test_no_samples_no_intervals() -> None:
    scores, labels = _normal_trials(40)
    assert set(bootstrap_intervals(scores, labels, n_bootstrap=0).values()) == {None}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_bootstrap": -1}, "n_bootstrap is -1"),
        ({"confidence": 95}, "confidence is 95"),
        ({"seed": -3}, "seed is -3"),
        ({"clusters": np.zeros(40)}, "one cluster"),
        ({"clusters": np.arange(3)}, r"clusters of shape \(3,\)"),
        ({"metrics": ["eer"]}, "unknown metric 'eer'"),
    ],
)
def test_unusable_settings(settings: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        bootstrap_intervals(*_normal_trials(40), **settings)
