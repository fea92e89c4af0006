"""Tandem metrics against the official packages' values, naive loops and invariances."""

from __future__ import annotations

import json
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import GOLDEN, needs_shared
from voxfide.errors import UsageError
from voxfide.metrics import (
    ADCF_CLASS_DEFAULT,
    ASVSPOOF5_ASV,
    AdcfCost,
    AsvRates,
    TdcfCost,
    ThreeClasses,
    concurrent_teer,
    eer,
    min_adcf,
    min_tdcf,
)

REFERENCE = GOLDEN / "asvspoof5_metrics"
SETS = ["n2000", "n2000_ties", "n20"]
EDITIONS = ("asvspoof5", "asvspoof5_as_coded", "asvspoof2021", "asvspoof2019_legacy")
KINDS = ("target", "nontarget", "spoof")


@cache
def _reference(name: str) -> dict:
    return json.loads((REFERENCE / "tandem_expected.json").read_text())["sets"][name]


@cache
def _set(name: str) -> dict[str, np.ndarray]:
    with np.load(REFERENCE / "tandem_scores.npz") as sets:
        return {key.removeprefix(f"{name}__"): sets[key] for key in sets.files if key.startswith(f"{name}__")}


@needs_shared("golden/asvspoof5_metrics")
@pytest.mark.parametrize("name", SETS)
class TestOfficialValues:
    """Every figure of the reference to 1e-9; the t-EER too, whose full search is the same."""

    def test_asv_rates(self, name: str) -> None:
        data, expected = _set(name), _reference(name)
        asv = ThreeClasses.of(data["asv_score"], data["asv_label"])
        rates = asv.rates_at_eer()
        found = {
            "n_target": len(asv.target),
            "n_nontarget": len(asv.nontarget),
            "n_spoof": len(asv.spoof),
            "Pfa_asv": rates.p_fa,
            "Pmiss_asv": rates.p_miss,
            "Pfa_spoof_asv": rates.p_fa_spoof,
            "Pmiss_spoof_asv": rates.p_miss_spoof,
        }
        assert found == pytest.approx({k: expected[k] for k in found}, rel=0, abs=1e-9)

    def test_a_dcf(self, name: str) -> None:
        data, expected = _set(name), _reference(name)["asvspoof5"]
        scores = ThreeClasses.of(data["sasv_score"], data["asv_label"])
        official, default = min_adcf(scores), min_adcf(scores, ADCF_CLASS_DEFAULT)
        found = {
            "min_a_dcf": official.value,
            "min_a_dcf_threshold": official.threshold,
            "min_a_dcf_default_cost_model": default.value,
            "min_a_dcf_default_cost_model_threshold": default.threshold,
        }
        assert found == pytest.approx({k: expected[k] for k in found}, rel=0, abs=1e-9)

    def test_t_dcf(self, name: str) -> None:
        data, expected = _set(name), _reference(name)
        cm, is_bonafide = data["cm_score"], data["asv_label"] != "spoof"
        asv = ThreeClasses.of(data["asv_score"], data["asv_label"]).rates_at_eer()
        corrected = min_tdcf(cm, is_bonafide, asv)
        found = {
            "min_tdcf_with_builtin_organiser_asv_rates": min_tdcf(cm, is_bonafide).value,
            "min_tdcf_with_given_asv_scores_as_coded": min_tdcf(
                cm, is_bonafide, asv, "asvspoof5_as_coded"
            ).value,
            "min_tdcf_with_given_asv_scores_corrected": corrected.value,
            "min_tdcf_corrected_threshold": corrected.threshold,
        }
        assert found == pytest.approx({k: expected["asvspoof5"][k] for k in found}, rel=0, abs=1e-9)
        by_edition = {
            edition: min_tdcf(cm, is_bonafide, asv, edition).value
            for edition in ("asvspoof2021", "asvspoof2019_legacy")
        }
        assert by_edition == pytest.approx({e: expected[e]["min_tdcf"] for e in by_edition}, rel=0, abs=1e-9)
        weights = dict(zip(("C0", "C1", "C2"), TdcfCost().weights(asv), strict=True))
        assert weights == pytest.approx({c: expected["asvspoof2021"][c] for c in weights}, rel=0, abs=1e-9)
        assert eer(cm, is_bonafide).value == pytest.approx(expected["asvspoof2021"]["cm_eer"], abs=1e-9)

    def test_t_eer(self, name: str) -> None:
        data = _set(name)
        asv, cm = (ThreeClasses.of(data[f"{s}_score"], data["asv_label"]) for s in ("asv", "cm"))
        expected = _reference(name)["asvspoof5"]["t_eer_percent"]
        assert concurrent_teer(asv, cm).percent == pytest.approx(expected, rel=0, abs=1e-9)


@st.composite
def tandem(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores of two systems on a coarse grid, hence with ties, and the kind of each trial."""
    kinds = draw(st.lists(st.sampled_from(KINDS), min_size=3, max_size=30).filter(lambda k: len(set(k)) == 3))
    span = draw(st.sampled_from([3, 50]))
    grid = st.lists(st.integers(-span, span), min_size=len(kinds), max_size=len(kinds))
    return np.array(draw(grid)) / 8, np.array(draw(grid)) / 8, np.array(kinds)


def _curve(scores: np.ndarray, kinds: np.ndarray, order: tuple[str, ...]) -> list[dict[str, float]]:
    """After each rejection, the share of the first kind missed and of the others accepted, by a loop.

    ``order`` breaks ties.
    """
    rejected = dict.fromkeys(order, 0)
    total = {k: int((kinds == k).sum()) for k in order}
    ranked = sorted(zip(scores, kinds, strict=True), key=lambda t: (t[0], order.index(t[1])))
    points = []
    for kind in (None, *(kind for _, kind in ranked)):
        if kind is not None:
            rejected[kind] += 1
        accepted = {k: (total[k] - rejected[k]) / total[k] for k in order[1:]}
        points.append({"missed": rejected[order[0]] / total[order[0]], **accepted})
    return points


class TestNaiveDefinitions:
    @given(tandem())
    def test_a_dcf_tries_every_threshold(self, data: tuple[np.ndarray, ...]) -> None:
        scores, _, kinds = data
        cost = AdcfCost(0.6, 0.3, 0.1, 1, 2, 7)
        costs = [
            (0.6 * p["missed"] + 2 * 0.3 * p["nontarget"] + 7 * 0.1 * p["spoof"])
            / min(0.6, 2 * 0.3 + 7 * 0.1)
            for p in _curve(scores, kinds, KINDS)
        ]
        point = min_adcf(ThreeClasses.of(scores, kinds), cost)
        assert point.value == pytest.approx(min(costs), abs=1e-12)
        assert point.value <= 1 + 1e-12

    @given(tandem(), st.floats(0, 0.4), st.floats(0, 1), st.floats(0.01, 1))
    def test_t_dcf_tries_every_threshold(
        self, data: tuple[np.ndarray, ...], miss: float, fa: float, fa_spoof: float
    ) -> None:
        _, scores, kinds = data
        is_bonafide = kinds != "spoof"
        if len(np.unique(scores)) < 3:
            return
        c0 = 0.95 * 0.99 * miss + 10 * 0.95 * 0.01 * fa
        c1, c2 = 0.95 * 0.99 - c0, 0.5 * fa_spoof
        curve = _curve(scores, np.where(is_bonafide, "bonafide", "spoof"), ("bonafide", "spoof"))
        costs = [c1 * p["missed"] + c2 * p["spoof"] for p in curve]
        asv = AsvRates(miss, fa, fa_spoof)
        expected = (c0 + min(costs)) / (c0 + min(c1, c2))
        assert min_tdcf(scores, is_bonafide, asv).value == pytest.approx(expected, abs=1e-12)
        assert min_tdcf(scores, is_bonafide, asv, "asvspoof2021").value == pytest.approx(expected, abs=1e-12)
        legacy = min_tdcf(scores, is_bonafide, asv, "asvspoof2019_legacy").value
        assert legacy == pytest.approx(min(costs) / min(c1, c2), abs=1e-12)

    @given(tandem())
    def test_t_eer_searches_every_pair_of_thresholds(self, data: tuple[np.ndarray, ...]) -> None:
        asv_scores, cm_scores, kinds = data
        cm_kinds = np.where(kinds == "spoof", "spoof", "bonafide")
        cm_curve = _curve(cm_scores, cm_kinds, ("bonafide", "spoof"))
        miss_cm = np.array([c["missed"] for c in cm_curve])
        far_cm = np.array([c["spoof"] for c in cm_curve])
        best, expected = np.inf, None
        for a in _curve(asv_scores, kinds, KINDS):
            if a["spoof"] == 0 or not a["missed"] < 0.5 * a["nontarget"] + 0.5 * a["spoof"]:
                continue
            missed = miss_cm + (1 - miss_cm) * a["missed"]
            accepted = 0.5 * (1 - miss_cm) * a["nontarget"] + 0.5 * far_cm * a["spoof"]
            gaps = np.abs(missed - accepted)
            j = int(np.argmin(gaps))
            if miss_cm[j] < 1:
                mismatch = abs(a["nontarget"] / a["spoof"] - far_cm[j] / (1 - miss_cm[j]))
                if mismatch < best:
                    best, expected = mismatch, 100 * a["spoof"] * far_cm[j]
        asv, cm = ThreeClasses.of(asv_scores, kinds), ThreeClasses.of(cm_scores, kinds)
        if expected is None:
            with pytest.raises(UsageError, match="no t-EER exists"):
                concurrent_teer(asv, cm)
        else:
            assert concurrent_teer(asv, cm).percent == pytest.approx(expected, abs=1e-9)


class TestInvariances:
    @given(tandem(), st.sampled_from([lambda x: 3 * x + 1, np.exp, np.arctan]), st.integers(1, 3))
    def test_increasing_maps_order_and_repetition(
        self, data: tuple[np.ndarray, ...], mapping: np.ufunc, times: int
    ) -> None:
        asv_scores, cm_scores, kinds = data
        order = np.random.default_rng(0).permutation(len(kinds) * times)
        many = [np.tile(v, times)[order] for v in data]
        for costs in (AdcfCost(), ADCF_CLASS_DEFAULT):
            before = min_adcf(ThreeClasses.of(asv_scores, kinds), costs).value
            after = min_adcf(ThreeClasses.of(mapping(many[0]), many[2]), costs).value
            assert after == pytest.approx(before, abs=1e-12)
        if len(np.unique(cm_scores)) >= 3:
            for edition in EDITIONS:
                before = min_tdcf(cm_scores, kinds != "spoof", edition=edition).value
                after = min_tdcf(mapping(many[1]), many[2] != "spoof", edition=edition).value
                assert after == pytest.approx(before, abs=1e-12)

    def test_a_perfect_and_a_useless_countermeasure(self) -> None:
        labels = np.arange(12) < 5
        perfect = np.where(labels, 1.0, -1.0) + np.arange(12) / 100
        useless = np.where(labels, -1.0, 1.0) * (1 + np.arange(12) / 100)
        c0, c1, c2 = TdcfCost().weights(ASVSPOOF5_ASV)
        assert min_tdcf(perfect, labels).value == pytest.approx(c0 / (c0 + min(c1, c2)))
        assert min_tdcf(perfect, labels, edition="asvspoof2019_legacy").value == 0
        assert min_tdcf(useless, labels).value == pytest.approx(1)

    def test_a_perfect_asv_and_cm_have_no_t_eer_but_zero(self) -> None:
        kinds = np.repeat(KINDS, 4)
        asv = np.where(kinds == "target", 2.0, -2.0) + np.arange(12) / 10
        asv[kinds == "spoof"] += 4  # spoofs fool the ASV
        cm = np.where(kinds == "spoof", -1.0, 1.0) + np.arange(12) / 100
        assert concurrent_teer(ThreeClasses.of(asv, kinds), ThreeClasses.of(cm, kinds)).percent == 0


class TestBadInput:
    def test_three_classes(self) -> None:
        with pytest.raises(UsageError, match="spoof scores of shape"):
            ThreeClasses.of([1.0, 2.0], ["target", "nontarget"])
        with pytest.raises(UsageError, match="1 of 1 target scores are NaN or infinite"):
            ThreeClasses(np.array([np.nan]), np.array([1.0]), np.array([1.0]))
        with pytest.raises(UsageError, match="other than target, nontarget, spoof: 'impostor'"):
            ThreeClasses.of([1.0], ["impostor"])
        with pytest.raises(UsageError, match="with kinds of shape"):
            ThreeClasses.of([1.0, 2.0], ["target"])

    def test_t_dcf(self) -> None:
        labels = [True, False, True]
        with pytest.raises(UsageError, match="needs scores, not decisions"):
            min_tdcf([0.0, 1.0, 1.0], labels)
        with pytest.raises(UsageError, match="unknown t-DCF edition '2020'"):
            min_tdcf([0.0, 1.0, 2.0], labels, edition="2020")  # type: ignore[arg-type]
        with pytest.raises(UsageError, match="no t-DCF exists"):
            min_tdcf([0.0, 1.0, 2.0], labels, AsvRates(1, 1, 0.5))
        with pytest.raises(UsageError, match="no t-DCF of 2019 exists"):
            min_tdcf([0.0, 1.0, 2.0], labels, AsvRates(0.1, 0.1, 0), "asvspoof2019_legacy")
        with pytest.raises(UsageError, match="p_fa is 1.5"):
            AsvRates(0.1, 1.5, 0.1)

    @pytest.mark.parametrize("costs", [{"p_target": 0.5}, {"c_miss": 0}, {"c_fa_cm": -1}])
    def test_costs(self, costs: dict[str, float]) -> None:
        with pytest.raises(UsageError):
            AdcfCost(**costs)
        with pytest.raises(UsageError):
            TdcfCost(p_spoof=0)
