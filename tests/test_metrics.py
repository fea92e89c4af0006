"""Metrics against the official packages' values, scikit-learn, naive definitions and invariances."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import GOLDEN, needs_shared
from voxfide.errors import UnknownNameError, UsageError
from voxfide.evaluation.protocols import PROTOCOLS
from voxfide.metrics import (
    METRICS,
    DcfCost,
    act_dcf,
    auc,
    calibration_loss,
    cllr,
    det_curve,
    eer,
    eer_percent,
    merged_det_curve,
    min_cllr,
    min_dcf,
)

REFERENCE = GOLDEN / "asvspoof5_metrics"
SETS = [
    "n2000_overlap", "n2000_ties", "n2000_heavy_ties", "n2000_separated", "n2000_inverted",
    "n2000_uncalibrated", "n2000_probabilities", "n20_overlap", "n20_ties", "n20_separated",
    "n20_one_bonafide", "n20_three_values",
]  # fmt: skip
EXACT = {"rtol": 0, "atol": 1e-9}
EER_METHODS = ("asvspoof", "sklearn", "interpolated", "rocch")


@cache
def _reference(name: str) -> dict[str, float]:
    return json.loads((REFERENCE / "track1_expected.json").read_text())["sets"][name]


@cache
def _set(name: str) -> tuple[np.ndarray, np.ndarray]:
    with np.load(REFERENCE / "track1_scores.npz") as sets:
        return sets[f"{name}__score"], sets[f"{name}__is_bonafide"].astype(bool)


@st.composite
def trials(draw: st.DrawFn, max_size: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """Scores on a coarse grid, hence with many ties, and at least one trial of each class."""
    labels = draw(
        st.lists(st.booleans(), min_size=2, max_size=max_size).filter(lambda x: 0 < sum(x) < len(x))
    )
    span = draw(st.sampled_from([2, 8, 200]))
    grid = st.integers(-span, span)
    scores = draw(st.lists(grid, min_size=len(labels), max_size=len(labels)))
    return np.array(scores) / 16, np.array(labels)


def _all_figures(scores: np.ndarray, is_bonafide: np.ndarray) -> list[float]:
    figures = [eer(scores, is_bonafide, method).value for method in EER_METHODS]
    others = [float(min_dcf(scores, is_bonafide)), auc(scores, is_bonafide), min_cllr(scores, is_bonafide)]
    return [*figures, *others]


@needs_shared("golden/asvspoof5_metrics")
class TestOfficialValues:
    """Every value of the official packages' reference, to 1e-9."""

    @pytest.mark.parametrize("name", SETS)
    def test_figures_and_thresholds(self, name: str) -> None:
        scores, labels = _set(name)
        point, lowest, actual = eer(scores, labels), min_dcf(scores, labels), act_dcf(scores, labels)
        found = {
            "eer": point.value,
            "eer_threshold": point.threshold,
            "eer_index": det_curve(scores, labels).nearest(),
            "frr_at_eer": point.frr,
            "far_at_eer": point.far,
            "min_dcf": lowest.value,
            "min_dcf_threshold": lowest.threshold,
            "act_dcf": actual.value,
            "act_dcf_threshold": actual.threshold,
            "cllr_bits": cllr(scores, labels),
            "eer_yaselley_sklearn": eer(scores, labels, "sklearn").value,
            "eer_with_negated_scores_and_swapped_classes": eer(-scores, ~labels).value,
        }
        assert found == pytest.approx({k: _reference(name)[k] for k in found}, rel=0, abs=1e-9)

    def test_all_sets_of_the_reference_are_tested(self) -> None:
        assert set(SETS) == set(json.loads((REFERENCE / "track1_expected.json").read_text())["sets"])

    @pytest.mark.parametrize("name", ["n20_overlap", "n20_ties", "n20_three_values", "n2000_ties"])
    def test_det_curves(self, name: str) -> None:
        curve = det_curve(*_set(name))
        with np.load(REFERENCE / "det_curves.npz") as curves:
            np.testing.assert_allclose(curve.frr, curves[f"{name}__frr"], **EXACT)
            np.testing.assert_allclose(curve.far, curves[f"{name}__far"], **EXACT)
            np.testing.assert_allclose(curve.thresholds, curves[f"{name}__thr"], **EXACT)


class TestNaiveDefinitions:
    """The same figures by slow loops written from the definitions."""

    @given(trials())
    def test_official_eer_rejects_one_trial_at_a_time(self, data: tuple[np.ndarray, np.ndarray]) -> None:
        scores, labels = data
        n_bonafide, n_spoof = labels.sum(), (~labels).sum()
        missed, accepted = 0, n_spoof
        best = (1.0, 0.5, min(scores) - 0.001)
        for score, is_spoof in sorted(zip(scores, ~labels, strict=True)):
            missed, accepted = missed + (not is_spoof), accepted - is_spoof
            frr, far = missed / n_bonafide, accepted / n_spoof
            if abs(frr - far) < best[0]:
                best = (abs(frr - far), (frr + far) / 2, score)
        point = eer(scores, labels)
        assert (point.value, point.threshold) == (best[1], best[2])

    @given(trials())
    def test_min_dcf_tries_every_threshold(self, data: tuple[np.ndarray, np.ndarray]) -> None:
        scores, labels = data
        cost = DcfCost(p_spoof=0.3, c_miss=2, c_fa=5)
        costs = [
            (2 * 0.7 * (scores[labels] < t).mean() + 5 * 0.3 * (scores[~labels] >= t).mean())
            / min(2 * 0.7, 5 * 0.3)
            for t in [*scores, math.inf]
        ]
        assert min_dcf(scores, labels, cost).value == pytest.approx(min(costs), abs=1e-12)

    @given(trials())
    def test_auc_compares_every_pair(self, data: tuple[np.ndarray, np.ndarray]) -> None:
        scores, labels = data
        wins = [(b > s) + (b == s) / 2 for b in scores[labels] for s in scores[~labels]]
        assert auc(scores, labels) == pytest.approx(np.mean(wins), abs=1e-12)

    @given(trials())
    def test_cllr(self, data: tuple[np.ndarray, np.ndarray]) -> None:
        scores, labels = data
        bonafide = np.mean([math.log2(1 + math.exp(-s)) for s in scores[labels]])
        spoof = np.mean([math.log2(1 + math.exp(s)) for s in scores[~labels]])
        assert cllr(scores, labels) == pytest.approx((bonafide + spoof) / 2, abs=1e-12)

    @given(trials())
    def test_min_cllr_pools_adjacent_violators(self, data: tuple[np.ndarray, np.ndarray]) -> None:
        scores, labels = data
        pools = [[labels[scores == s].sum(), (~labels[scores == s]).sum()] for s in np.unique(scores)]
        i = 0
        while i + 1 < len(pools):
            (b0, s0), (b1, s1) = pools[i : i + 2]
            if b0 * s1 >= b1 * s0:  # the lower pool is at least as bona fide as the higher
                pools[i : i + 2] = [[b0 + b1, s0 + s1]]
                i = max(0, i - 1)
            else:
                i += 1
        n_bonafide, n_spoof = labels.sum(), (~labels).sum()
        cost = 0.0
        for b, s in pools:
            x, y = b / n_bonafide, s / n_spoof
            cost += sum(p * math.log2((x + y) / p) / 2 for p in (x, y) if p)
        assert min_cllr(scores, labels) == pytest.approx(cost, abs=1e-12)

    @given(trials(max_size=25))
    def test_convex_hull_eer_is_the_lowest_chord(self, data: tuple[np.ndarray, np.ndarray]) -> None:
        curve = merged_det_curve(*data)
        crossings = []
        for frr, far in zip(curve.frr, curve.far, strict=True):
            for frr2, far2 in zip(curve.frr, curve.far, strict=True):
                if frr <= far and frr2 > far2:
                    share = (far - frr) / ((far - frr) + (frr2 - far2))
                    crossings.append(frr + share * (frr2 - frr))
        assert eer(*data, "rocch").value == pytest.approx(min(crossings), abs=1e-12)

    @given(trials())
    def test_interpolated_eer_lies_on_a_segment_of_the_merged_curve(
        self, data: tuple[np.ndarray, np.ndarray]
    ) -> None:
        curve = merged_det_curve(*data)
        value = eer(*data, "interpolated").value
        gap = curve.frr - curve.far
        # Along the curve gap = FRR - FAR rises strictly, so FRR is a function of it; read it at 0.
        assert value == pytest.approx(np.interp(0.0, gap, curve.frr), abs=1e-12)


class TestScikitLearn:
    @given(trials())
    def test_min_cllr_is_the_cllr_of_isotonic_regression(self, data: tuple[np.ndarray, np.ndarray]) -> None:
        isotonic = pytest.importorskip("sklearn.isotonic")
        scores, labels = data
        weights = np.where(labels, 1 / labels.sum(), 1 / (~labels).sum())
        fitted = isotonic.IsotonicRegression().fit(scores, labels, sample_weight=weights).predict(scores)
        p = np.clip(fitted, 1e-15, 1 - 1e-15)
        assert min_cllr(scores, labels) == pytest.approx(cllr(np.log(p / (1 - p)), labels), abs=1e-9)

    @given(trials())
    def test_merged_eer_and_auc(self, data: tuple[np.ndarray, np.ndarray]) -> None:
        sklearn_metrics = pytest.importorskip("sklearn.metrics")
        scores, labels = data
        far, frr, _ = sklearn_metrics.det_curve(labels, scores)
        i = np.nanargmin(np.abs(frr - far))
        assert eer(scores, labels, "sklearn").value == pytest.approx((frr[i] + far[i]) / 2, abs=1e-12)
        assert auc(scores, labels) == pytest.approx(sklearn_metrics.roc_auc_score(labels, scores), abs=1e-12)


class TestInvariances:
    @given(trials(), st.sampled_from([lambda x: 3 * x + 1, np.exp, lambda x: x**3, np.arctan]))
    def test_strictly_increasing_maps(self, data: tuple[np.ndarray, np.ndarray], mapping: np.ufunc) -> None:
        scores, labels = data
        assert _all_figures(mapping(scores), labels) == _all_figures(scores, labels)

    @given(trials(), st.floats(0.1, 10), st.floats(-5, 5))
    def test_no_affine_map_costs_less_than_the_minimum(
        self, data: tuple[np.ndarray, np.ndarray], scale: float, offset: float
    ) -> None:
        scores, labels = data
        assert min_cllr(scores, labels) <= cllr(scale * scores + offset, labels) + 1e-12

    @given(trials(), st.randoms(use_true_random=False))
    def test_order_of_trials(self, data: tuple[np.ndarray, np.ndarray], random: object) -> None:
        scores, labels = data
        order = np.arange(len(scores))
        random.shuffle(order)  # type: ignore[attr-defined]
        for spec in METRICS:
            assert spec(scores[order], labels[order]) == pytest.approx(spec(scores, labels), abs=1e-12)

    @given(trials(), st.integers(2, 4))
    def test_every_trial_repeated(self, data: tuple[np.ndarray, np.ndarray], times: int) -> None:
        scores, labels = data
        many, many_labels = np.tile(scores, times), np.tile(labels, times)
        before, after = _all_figures(scores, labels), _all_figures(many, many_labels)
        assert after[1:] == pytest.approx(before[1:], abs=1e-12)
        assert cllr(many, many_labels) == pytest.approx(cllr(scores, labels), abs=1e-12)
        # The official curve moves trial by trial, so it gains points between those it had.
        assert after[0] == pytest.approx(before[0], abs=1 / min(labels.sum(), (~labels).sum()))

    @given(trials())
    def test_negated_scores_with_swapped_classes(self, data: tuple[np.ndarray, np.ndarray]) -> None:
        scores, labels = data
        for method in ("interpolated", "rocch"):
            swapped = eer(-scores, ~labels, method).value
            assert swapped == pytest.approx(eer(scores, labels, method).value, abs=1e-12)
        assert auc(-scores, ~labels) == pytest.approx(auc(scores, labels), abs=1e-12)
        assert cllr(-scores, ~labels) == pytest.approx(cllr(scores, labels), abs=1e-12)
        mirrored = DcfCost(p_spoof=0.95, c_miss=10, c_fa=1)
        assert min_dcf(-scores, ~labels, mirrored).value == pytest.approx(
            min_dcf(scores, labels).value, abs=1e-12
        )
        # Two points of the official curve may be equally near; the first is another one then.
        tolerance = 0.5 / min(labels.sum(), (~labels).sum()) + 1e-12
        assert eer(-scores, ~labels).value == pytest.approx(eer(scores, labels).value, abs=tolerance)

    @given(trials())
    def test_bounds(self, data: tuple[np.ndarray, np.ndarray]) -> None:
        figures = {method: eer(*data, method).value for method in EER_METHODS}
        assert all(0 <= value <= 1 for value in figures.values())
        assert figures["rocch"] <= min(0.5, figures["interpolated"]) + 1e-12
        assert 0 <= min_dcf(*data).value <= min(1.0, act_dcf(*data).value) + 1e-12
        assert cllr(*data) >= 0
        assert 0 <= min_cllr(*data) <= min(1.0, cllr(*data)) + 1e-12
        assert calibration_loss(*data) == pytest.approx(cllr(*data) - min_cllr(*data), abs=1e-12)
        assert 0 <= auc(*data) <= 1
        curve = det_curve(*data)
        assert (curve.frr[0], curve.far[0], curve.frr[-1], curve.far[-1]) == (0, 1, 1, 0)
        assert len(curve) == len(data[0]) + 1
        assert (np.diff(curve.frr) >= 0).all()
        assert (np.diff(curve.far) <= 0).all()


def test_perfect_separation() -> None:
    scores, labels = np.array([-2.0, -1.0, 1.0, 2.0]), np.array([False, False, True, True])
    assert [eer(scores, labels, method).value for method in EER_METHODS] == [0, 0, 0, 0]
    assert eer(scores, labels).threshold == -1.0  # the highest spoof is the last one rejected
    assert (min_dcf(scores, labels).value, auc(scores, labels), min_cllr(scores, labels)) == (0, 1, 0)


def test_constant_scores() -> None:
    scores, labels = np.zeros(10), np.arange(10) < 4
    by_method = {method: eer(scores, labels, method).value for method in EER_METHODS}
    assert by_method == {"asvspoof": 1.0, "sklearn": 0.5, "interpolated": 0.5, "rocch": 0.5}
    assert (auc(scores, labels), cllr(scores, labels), min_dcf(scores, labels).value) == (0.5, 1.0, 1.0)
    assert (min_cllr(scores, labels), calibration_loss(scores, labels)) == (1.0, 0.0)


def test_accepting_at_the_bayes_threshold_includes_it() -> None:
    threshold = DcfCost().threshold
    assert threshold == pytest.approx(-math.log(1.9))
    point = act_dcf([threshold, threshold], [True, False])
    assert (point.frr, point.far) == (0, 1)


def test_huge_scores_do_not_overflow() -> None:
    with np.errstate(all="raise", under="ignore"):
        assert cllr([1e308, -1e308], [True, False]) == 0
        assert cllr([-1e5, 1e5], [True, False]) == pytest.approx(1e5 / math.log(2))


def test_eer_percent_is_the_official_eer() -> None:
    scores, labels = np.array([0.1, 0.2, 0.3, 0.4]), np.array([False, True, False, True])
    assert eer_percent(scores, labels) == 100 * eer(scores, labels).value == 50


class TestBadInput:
    @pytest.mark.parametrize(
        ("scores", "labels", "message"),
        [
            ([0.0, math.nan, math.inf], [True, False, False], "2 of 3 scores are NaN or infinite"),
            ([0.0, 1.0], [True, True], "2 bona fide and 0 spoof"),
            ([], [], "0 bona fide and 0 spoof"),
            ([0.0, 1.0], [True], r"shape \(2,\) with labels of shape \(1,\)"),
            ([[0.0, 1.0]], [[True, False]], r"expected two arrays of shape \(trials,\)"),
            ([0.0, 1.0], [1, 2], "must be boolean"),
            ([0.0, 1.0], ["bonafide", "spoof"], "must be boolean"),
            (["a", "b"], [True, False], "not numbers"),
        ],
    )
    def test_every_metric_says_what_is_wrong(self, scores: list, labels: list, message: str) -> None:
        for spec in METRICS:
            with pytest.raises(UsageError, match=message):
                spec(scores, labels)
        with pytest.raises(UsageError, match=message):
            det_curve(scores, labels)

    def test_unknown_method_and_metric(self) -> None:
        with pytest.raises(UsageError, match="known: asvspoof, interpolated, rocch, sklearn"):
            eer([0.0, 1.0], [True, False], "median")  # type: ignore[arg-type]
        with pytest.raises(UnknownNameError, match="eer_percent"):
            METRICS["eer_pct"]

    @pytest.mark.parametrize("settings", [{"p_spoof": 0}, {"p_spoof": 1.5}, {"c_miss": 0}, {"c_fa": -1}])
    def test_costs(self, settings: dict[str, float]) -> None:
        with pytest.raises(UsageError, match="expected"):
            DcfCost(**settings)


@pytest.mark.parametrize("name", METRICS.names())
def test_every_metric_prefers_the_better_system(name: str) -> None:
    rng = np.random.default_rng(5)
    labels = rng.random(600) < 0.3
    noise = rng.normal(size=600)
    llr_scale = 2 * 2.5  # makes 2.5-sigma separated normals log likelihood ratios
    good, poor = llr_scale * (noise + np.where(labels, 2.5, -2.5)), noise
    spec = METRICS[name]
    better = spec(good, labels) - spec(poor, labels)
    assert (better < 0) == (spec.direction == "lower")
    assert spec.summary
    assert spec.unit in ("", "%", "bits")


OTHER_FIGURES = (
    "min_tdcf", "min_adcf", "concurrent_teer", "segment_eer", "range_eer", "delong_test",
    "asvspoof2019_legacy", "asvspoof2021", "asvspoof5", "asvspoof5_as_coded", *EER_METHODS, *PROTOCOLS,
)  # fmt: skip


@pytest.mark.parametrize("name", [*METRICS.names(), *OTHER_FIGURES])
def test_every_figure_is_defined_in_the_documentation(name: str) -> None:
    text = (Path(__file__).parents[1] / "docs" / "metrics.md").read_text(encoding="utf-8")
    assert f"`{name}`" in text
    if name in METRICS:
        assert any(line.startswith("**") and f"`{name}`" in line for line in text.splitlines())


def test_metrics_and_evaluation_stay_light() -> None:
    code = (
        "import sys, voxfide.metrics, voxfide.scores, voxfide.evaluation; "
        "print([m for m in ('torch', 'scipy', 'sklearn', 'pyarrow', 'pandas') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert out.stdout.strip() == "[]"
