"""Calibration: parity with scikit-learn, invariances, degenerate data, and the detector's folder."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from voxfide.calibration import (
    CALIBRATIONS,
    CalibrationRecord,
    bayes_threshold,
    calibrate,
    create_calibration,
    cross_validate,
    probability_bonafide,
    restore_calibration,
)
from voxfide.cli import app
from voxfide.detector import Detector
from voxfide.errors import CheckpointError, UnknownNameError, UsageError, VoxfideError
from voxfide.metrics import cllr, min_cllr
from voxfide.scores import read_scores, write_scores

NAMES = CALIBRATIONS.names()


def make_trials(
    n_bonafide: int = 150, n_spoof: int = 250, *, shift: float = 1.5, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Gaussian scores of the wrong scale and place, and classes ``(trials,)``, shuffled."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(n_bonafide + n_spoof) < n_bonafide)
    return 3 * (rng.normal(0, 1, labels.size) + shift * labels) + 7, labels


@st.composite
def trials(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Overlapping classes of any sizes, with ties."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    labels = np.arange(draw(st.integers(8, 60))) < draw(st.integers(3, 5))
    scores = np.round(rng.normal(0, 1, labels.size) + draw(st.floats(0, 2)) * labels, draw(st.integers(0, 3)))
    # Both classes at both ends: no class can be told apart for certain, so slopes are finite.
    scores[:2], scores[-2:] = (-4, 4), (-4, 4)
    scores[2] += 5 * rng.random()
    return scores, labels


# Every method


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=30)
@given(data=trials(), probes=st.lists(st.floats(-20, 20), min_size=2, max_size=20))
def test_llrs_are_finite_and_never_reverse_an_order(name, data, probes):
    made = create_calibration(name).fit(*data)
    llr = made.apply(np.sort(probes))
    assert np.isfinite(llr).all()
    assert (np.diff(llr) >= 0).all()


@pytest.mark.parametrize("name", NAMES)
def test_state_goes_through_json_and_back(name):
    scores, labels = make_trials()
    made = create_calibration(name).fit(scores, labels)
    again = restore_calibration(name, json.loads(json.dumps(made.config(), allow_nan=False)))
    probes = np.linspace(-30, 30, 101)
    np.testing.assert_array_equal(again.apply(probes), made.apply(probes))
    assert again.config() == made.config()
    assert again.describe() == made.describe() != ""
    assert not made.is_flat


@pytest.mark.parametrize("name", NAMES)
def test_class_proportions_do_not_matter(name):
    scores, labels = make_trials()
    once = create_calibration(name).fit(scores, labels)
    many = np.where(labels, 1, 3)
    thrice = create_calibration(name).fit(np.repeat(scores, many), np.repeat(labels, many))
    # The isotonic ends count one trial more of each class, which weighs less among more trials.
    inner = np.quantile(scores, np.linspace(0.25, 0.75, 41))
    np.testing.assert_allclose(thrice.apply(inner), once.apply(inner), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("name", ["affine", "isotonic"])
@settings(max_examples=40)
@given(data=trials(), scale=st.floats(1e-3, 1e3), offset=st.floats(-1e3, 1e3))
def test_a_rising_affine_map_of_the_scores_changes_no_llr(name, data, scale, offset):
    scores, labels = data
    # A map whose rounding merges or splits tied scores would be no map of the scores.
    plain = create_calibration(name).fit(scores, labels).apply(scores)
    values, place = np.unique(scores, return_inverse=True)
    mapped = (scale * values + offset)[place]
    np.testing.assert_allclose(
        create_calibration(name).fit(mapped, labels).apply(mapped), plain, rtol=1e-6, atol=1e-7
    )


@pytest.mark.parametrize("name", ["affine", "temperature", "isotonic"])
def test_the_fit_never_raises_cllr_on_its_own_trials(name):
    for seed in range(5):
        scores, labels = make_trials(40, 60, seed=seed)
        after = cllr(create_calibration(name).fit(scores, labels).apply(scores), labels)
        assert min_cllr(scores, labels) - 1e-12 <= after <= min(1, cllr(scores, labels)) + 1e-9


@pytest.mark.parametrize("name", NAMES)
def test_one_class_and_non_finite_scores_are_refused(name):
    with pytest.raises(UsageError, match="at least one of each"):
        create_calibration(name).fit([1.0, 2.0], [True, True])
    with pytest.raises(UsageError, match="NaN or infinite"):
        create_calibration(name).fit([1.0, math.nan], [True, False])
    fitted = create_calibration(name).fit([1.0, 2.0, 0.0, 1.5], [True, True, False, False])
    with pytest.raises(UsageError, match="NaN or infinite"):
        fitted.apply([math.inf])


@pytest.mark.parametrize("name", ["affine", "temperature", "isotonic"])
def test_constant_and_reversed_scores_say_nothing_and_a_warning_says_so(name):
    scores, labels = make_trials(shift=3)
    for useless in (np.full(labels.size, 3.25), -scores):
        made = create_calibration(name).fit(useless, labels)
        assert made.is_flat
        assert len(made.warnings) == 1
        assert "wrong way round" in made.warnings[0]
        assert np.ptp(made.apply(useless)) == 0
        assert np.abs(made.apply(useless)).max() < 0.02


def test_unknown_names_options_and_use_before_fit():
    with pytest.raises(UnknownNameError, match="did you mean 'affine'"):
        create_calibration("afine")
    with pytest.raises(UsageError, match="no option slope"):
        create_calibration("affine", slope=1.0)
    with pytest.raises(UsageError, match="no option regularisation"):
        create_calibration("isotonic", regularisation=1.0)
    for prior in (0, 1, "x", math.nan):
        with pytest.raises(UsageError, match="prior"):
            create_calibration("affine", prior=prior)
    with pytest.raises(UsageError, match="at least 0"):
        create_calibration("affine", regularisation=-1)
    for name in ("affine", "temperature", "isotonic"):
        for use in (lambda c: c.apply([0.0]), lambda c: c.config(), lambda c: c.describe()):
            with pytest.raises(UsageError, match="not fitted"):
                use(create_calibration(name))


# Affine


@pytest.mark.parametrize("prior", [0.05, 0.5, 0.9])
def test_affine_equals_weighted_logistic_regression(prior):
    """scikit-learn's, each class weighing its prior, less the prior's log odds."""
    from sklearn.linear_model import LogisticRegression

    scores, labels = make_trials()
    weights = np.where(labels, prior / labels.sum(), (1 - prior) / (~labels).sum()) * labels.size
    reference = LogisticRegression(C=np.inf, tol=1e-12, max_iter=10_000)
    reference.fit(scores[:, None], labels, sample_weight=weights)
    made = create_calibration("affine", prior=prior).fit(scores, labels).config()
    assert made["slope"] == pytest.approx(reference.coef_[0, 0], rel=1e-5)
    offset = reference.intercept_[0] - math.log(prior / (1 - prior))
    assert made["offset"] == pytest.approx(offset, rel=1e-5)


def test_regularisation_is_that_of_logistic_regression_on_standardised_scores():
    from sklearn.linear_model import LogisticRegression

    scores, labels = make_trials(200, 200)
    centre = (scores[labels].mean() + scores[~labels].mean()) / 2
    spread = math.sqrt(np.mean((scores - centre) ** 2))  # equal counts: both classes weigh the same
    reference = LogisticRegression(C=1 / (0.3 * labels.size), tol=1e-12, max_iter=10_000)
    reference.fit((scores[:, None] - centre) / spread, labels)
    made = create_calibration("affine", regularisation=0.3).fit(scores, labels).config()
    assert made["slope"] * spread == pytest.approx(reference.coef_[0, 0], rel=1e-5)


def test_temperature_leaves_zero_where_it_is():
    from sklearn.linear_model import LogisticRegression

    scores, labels = make_trials()
    scores -= 9
    made = create_calibration("temperature").fit(scores, labels)
    assert made.apply([0.0])[0] == 0
    reference = LogisticRegression(
        C=np.inf, fit_intercept=False, class_weight="balanced", tol=1e-12, max_iter=10_000
    ).fit(scores[:, None], labels)
    assert made.config()["slope"] == pytest.approx(reference.coef_[0, 0], rel=1e-5)
    doubled = create_calibration("temperature").fit(scores * 2, labels)
    np.testing.assert_allclose(doubled.apply(scores * 2), made.apply(scores), rtol=1e-9)


def test_true_likelihood_ratios_are_left_as_they_are():
    """Two Gaussians of unit variance, d apart: the LLR is d (x - middle)."""
    scores, labels = make_trials(100_000, 100_000, shift=2)
    made = create_calibration("affine").fit(scores, labels)
    true = 2 * ((scores - 7) / 3 - 1)
    assert np.abs(made.apply(scores) - true).max() < 0.15
    identical = create_calibration("affine").fit(true, labels).config()
    assert identical["slope"] == pytest.approx(1, abs=0.02)
    assert identical["offset"] == pytest.approx(0, abs=0.02)


@pytest.mark.parametrize("name", ["affine", "temperature"])
def test_separable_scores_are_held_back_and_a_warning_says_so(name):
    scores = np.array([-3.0, -1.0, -0.5, 0.5, 2.0, 2.5])
    labels = scores > 0
    made = create_calibration(name).fit(scores, labels)
    assert "without an error" in made.warnings[0]
    assert 0 < made.apply(scores[labels]).min() < 10
    asked = create_calibration(name, regularisation=1 / 6).fit(scores, labels)
    assert asked.warnings == ()
    np.testing.assert_allclose(asked.apply(scores), made.apply(scores))
    nearly = np.append(scores, [1.0, -1.0])
    finite = create_calibration(name).fit(nearly, np.append(labels, [False, True]))
    assert finite.warnings == ()


def test_huge_scores_are_named_rather_than_overflowing():
    scores = np.array([-1e200, 1e200, 3e200, -2e200])
    with pytest.raises(UsageError, match="too large"):
        create_calibration("affine").fit(scores, scores > 0)


# Isotonic


def test_isotonic_equals_scikit_learn_with_one_more_trial_of_each_class_at_the_ends():
    from sklearn.isotonic import IsotonicRegression

    for seed in range(4):
        scores, labels = make_trials(60, 110, seed=seed)
        scores = np.round(scores, 1)  # ties
        ends = [scores.min(), scores.min(), scores.max(), scores.max()]
        padded, truth = np.append(scores, ends), np.append(labels, [True, False, True, False])
        weights = np.where(truth, 1 / labels.sum(), 1 / (~labels).sum())
        reference = IsotonicRegression(out_of_bounds="clip").fit(padded, truth, sample_weight=weights)
        p = reference.predict(scores)
        made = create_calibration("isotonic").fit(scores, labels)
        np.testing.assert_allclose(made.apply(scores), np.log(p / (1 - p)), rtol=1e-6, atol=1e-6)


def test_isotonic_ends_are_finite_and_follow_the_stated_rule():
    scores, labels = np.arange(10.0), np.arange(10) >= 6
    made = create_calibration("isotonic").fit(scores, labels)
    # At the lower end: 6 spoofs and one of each class more; at the upper one 4 bona fide and one of each.
    low, high = math.log((1 / 4) / (7 / 6)), math.log((5 / 4) / (1 / 6))
    np.testing.assert_allclose(made.apply([-99, 0, 5, 6, 9, 99]), [low] * 3 + [high] * 3)
    assert low < made.apply([5.5])[0] < high


# Cross-validation and figures


@pytest.mark.parametrize("grouped", [False, True])
@settings(max_examples=40)
@given(seed=st.integers(0, 1000), n_folds=st.integers(2, 8), n_groups=st.integers(8, 30))
def test_no_trial_is_calibrated_by_itself_or_its_group(grouped, seed, n_folds, n_groups):
    scores, labels = make_trials(30, 40, seed=seed)
    groups = np.random.default_rng(seed).integers(n_groups, size=labels.size)
    seen: list[np.ndarray] = []

    class Recorder:
        def fit(self, values, classes):
            self.missing = np.flatnonzero(~np.isin(scores, values))
            assert classes.any()
            assert not classes.all()
            return self

        def apply(self, values):
            held = np.flatnonzero(np.isin(scores, values))
            assert set(held) == set(self.missing)
            seen.append(held)
            return np.zeros(len(values))

    found = cross_validate(
        Recorder, scores, labels, n_folds=n_folds, groups=groups if grouped else None, seed=seed
    )
    assert found.cllr == pytest.approx(1)
    assert sorted(np.concatenate(seen)) == list(range(labels.size))
    if grouped:
        assert all(not set(groups[a]) & set(groups[b]) for a in [seen[0]] for b in seen[1:])
    else:
        assert len(seen) == found.n_folds == n_folds
        assert np.ptp([labels[held].sum() for held in seen]) <= 1
        assert np.ptp([len(held) for held in seen]) <= 1


def test_cross_validation_is_honest_where_the_fit_flatters():
    scores, labels = make_trials(25, 25, shift=0.0)
    _, figures = calibrate(lambda: create_calibration("isotonic"), scores, labels)
    assert figures.cllr_cross_validated is not None
    assert figures.min_cllr <= figures.cllr_after < 1 < figures.cllr_cross_validated
    assert (figures.n_bonafide, figures.n_spoof, figures.n_folds) == (25, 25, 5)
    again = calibrate(lambda: create_calibration("isotonic"), scores, labels)[1]
    assert again == figures
    other = calibrate(lambda: create_calibration("isotonic"), scores, labels, seed=1)[1]
    assert other.cllr_cross_validated != figures.cllr_cross_validated
    none = calibrate(lambda: create_calibration("isotonic"), scores, labels, n_folds=0)[1]
    assert none.cllr_cross_validated is None


def test_fewer_trials_than_folds_and_impossible_divisions():
    scores, labels = make_trials(3, 30)
    make = lambda: create_calibration("affine")  # noqa: E731
    assert cross_validate(make, scores, labels, n_folds=10).n_folds == 3
    with pytest.raises(UsageError, match="at least 2"):
        cross_validate(make, scores, labels, n_folds=1)
    with pytest.raises(UsageError, match="no cross-validation"):
        cross_validate(make, *make_trials(1, 30))
    with pytest.raises(UsageError, match="no cross-validation"):
        cross_validate(make, scores, labels, groups=np.where(labels, "a", "b"))
    with pytest.raises(UsageError, match="groups of shape"):
        cross_validate(make, scores, labels, groups=["a"])


# Decisions


@given(st.floats(-800, 800), st.floats(0.001, 0.999))
def test_probability_is_bayes_rule(llr, prior):
    p = float(probability_bonafide(llr, prior))
    assert 0 <= p <= 1
    assert p >= 0.5 or llr < bayes_threshold(prior)
    if abs(llr) < 30:
        odds = prior / (1 - prior) * math.exp(llr)
        assert p == pytest.approx(odds / (1 + odds), rel=1e-9)


def test_bayes_threshold():
    assert bayes_threshold() == 0
    assert math.copysign(1, bayes_threshold()) == 1
    assert bayes_threshold(0.95, 1, 10) == pytest.approx(-math.log(1.9))  # ASVspoof 5
    assert float(probability_bonafide(bayes_threshold(0.2), 0.2)) == pytest.approx(0.5)
    with pytest.raises(UsageError):
        bayes_threshold(1.0)
    with pytest.raises(UsageError):
        bayes_threshold(0.5, 0, 1)


# The record


def make_record(method: str = "affine", **options: float) -> CalibrationRecord:
    made, figures = calibrate(lambda: create_calibration(method), *make_trials())
    return CalibrationRecord(made, figures=figures.to_json(), warnings=("mind",), detector="d", **options)


@pytest.mark.parametrize("name", NAMES)
def test_record_round_trip(name, tmp_path):
    record = make_record(name, prior=0.8, c_fa=10.0)
    record.write(tmp_path / "calibration.json")
    again = CalibrationRecord.read(tmp_path / "calibration.json")
    assert again.to_json() == record.to_json()
    assert again.threshold == pytest.approx(math.log(10 * 0.2 / 0.8))
    assert again.probability(0.0) == pytest.approx(0.8)
    assert [p.name for p in tmp_path.iterdir()] == ["calibration.json"]


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"method": "platt"},
        {"config": {}},
        {"config": {"prior": 0.5, "regularisation": 0, "slope": -1.0, "offset": 0}},
        {"config": {"prior": 0.5, "regularisation": 0, "slope": float("nan"), "offset": 0}},
        {"prior_bonafide": 1.5},
        {"threshold": 3.0},
        {"figures": None},
    ],
)
def test_a_damaged_record_is_refused(change, tmp_path):
    path = tmp_path / "calibration.json"
    path.write_text(json.dumps(make_record().to_json() | change))
    with pytest.raises(CheckpointError, match=re_escape(str(path))):
        CalibrationRecord.read(path)
    path.write_text("{")
    with pytest.raises(CheckpointError, match="not readable"):
        CalibrationRecord.read(path)


def test_damaged_steps_are_refused():
    for config in (
        {},
        {"scores": [], "llrs": []},
        {"scores": [0, 1], "llrs": [1, 0]},
        {"scores": [1, 1], "llrs": [0, 1]},
        {"scores": [0, 1], "llrs": [0, None]},
    ):
        with pytest.raises(CheckpointError):
            restore_calibration("isotonic", config)


def re_escape(text: str) -> str:
    import re

    return re.escape(text)


# A detector, from end to end


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Noise of two colours that overlap: manifest ``m.csv``, detector ``D``, its scores ``s.tsv``."""
    root = tmp_path_factory.mktemp("work")
    rng = np.random.default_rng(0)
    rows = ["utterance_id,path,label,split,speaker"]
    for split, n in (("train", 12), ("dev", 16), ("eval", 8)):
        for label in ("bonafide", "spoof"):
            for i in range(n):
                name = f"{split}_{label}_{i}"
                tilt = (0.35 if label == "spoof" else 0.0) + rng.normal(0, 0.25)
                noise = rng.standard_normal(8000)
                noise[1:] += tilt * noise[:-1]
                sf.write(root / f"{name}.wav", 0.1 * noise, 16000, subtype="PCM_16")
                rows.append(f"{name},{name}.wav,{label},{split},s{i % 5}")
    (root / "m.csv").write_text("\n".join(rows) + "\n")
    run("train", root / "m.csv", "--frontend", "lfcc", "--backend", "logistic", "-o", root / "D")
    run("score", root / "D", root / "m.csv", "-o", root / "s.tsv", "--workers", 0)
    return root


def run(*arguments: object, error: str = "") -> str:
    """Runs the command in this process; its standard output, or with ``error`` its message."""
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    if error:
        assert isinstance(result.exception, VoxfideError), result.output
        assert error in str(result.exception)
        return str(result.exception)
    assert result.exit_code == 0, (result.output, result.exception)
    return result.stdout


def scores_of(path: Path) -> dict[str, float]:
    found = read_scores(path)
    return dict(zip(found.utterance_id.tolist(), found.score.tolist(), strict=True))


def test_calibrate_into_a_copy(work, tmp_path):
    before = {p.name: p.read_bytes() for p in (work / "D").iterdir()}
    out = tmp_path / "C"
    text = run(
        "calibrate", work / "D", work / "s.tsv", "--key", work / "m.csv", "--split", "dev",
        "--groups", "speaker", "-o", out,
    )  # fmt: skip
    assert "fitted to 16 bona fide and 16 spoof trials of m.csv, split dev" in text
    assert "cross-validated in 5 folds by speaker" in text
    assert {p.name: p.read_bytes() for p in (work / "D").iterdir()} == before
    assert {p.name for p in out.iterdir()} == {*before, "calibration.json"}
    assert (out / "config.json").read_bytes() == before["config.json"]

    raw, made = Detector.load(work / "D"), Detector.load(out)
    assert made.calibration is not None
    assert made.threshold == 0
    assert made.calibration.detector == raw.fingerprint() == made.uncalibrated().fingerprint()
    assert made.fingerprint() != raw.fingerprint()
    assert made.uncalibrated().threshold == raw.threshold
    facts = made.calibration.fitted_to
    assert (facts["manifest"], facts["split"], facts["n_bonafide"]) == ("m.csv", "dev", 16)
    assert facts["digest"] == raw.training["sets"]["dev"]["digest"]
    card = (out / "README.md").read_text()
    assert "## Calibration" in card
    assert f"{made.calibration.figures['cllr_cross_validated']:.4f}" in card

    run("score", out, work / "m.csv", "-o", tmp_path / "c.tsv", "--workers", 0)
    llr, score = scores_of(tmp_path / "c.tsv"), scores_of(work / "s.tsv")
    config = made.calibration.calibration.config()
    for name, value in score.items():
        assert llr[name] == pytest.approx(config["slope"] * value + config["offset"], rel=1e-9, abs=1e-9)
    assert json.loads((tmp_path / "c.tsv.json").read_text())["score"] == "natural-log likelihood ratio"
    run("score", out, work / "m.csv", "--uncalibrated", "-o", tmp_path / "u.tsv", "--workers", 0)
    assert scores_of(tmp_path / "u.tsv") == score
    assert json.loads((tmp_path / "u.tsv.json").read_text())["score"] == "uncalibrated"


def test_detect_with_a_calibrated_detector(work, tmp_path):
    out = tmp_path / "C"
    key = ("--key", work / "m.csv", "--split", "dev")
    run("calibrate", work / "D", work / "s.tsv", *key, "--prior", 0.2, "--cost-fa", 3, "-o", out)
    file = work / "eval_bonafide_0.wav"
    detect = ("detect", file, "--min-speech", 0)  # noise is no speech
    plain = json.loads(run(*detect, "--detector", work / "D", "--json"))
    assert plain["llr"] is plain["probability_bonafide"] is plain["prior"] is None
    assert "uncalibrated" in {reason["code"] for reason in plain["reasons"]}
    found = json.loads(run(*detect, "--detector", out, "--json"))
    assert found["score"] == found["llr"] != plain["score"]
    assert found["prior"] == 0.2
    odds = 0.25 * math.exp(found["llr"])
    assert found["probability_bonafide"] == pytest.approx(odds / (1 + odds))
    assert found["verdict"] == "inconclusive"
    assert found["rule"]["kind"] == "bayes"
    assert found["rule"]["spoof_below"] < math.log(3 * 4) < found["rule"]["bonafide_from"]
    other = json.loads(run(*detect, "--detector", out, "--json", "--prior", 0.999))
    assert other["llr"] == found["llr"]
    assert other["probability_bonafide"] > found["probability_bonafide"]
    text = run(*detect, "--detector", out)
    assert "log likelihood ratio" in text
    assert "at prior 0.2" in text
    run(*detect, "--detector", work / "D", "--prior", 0.5, error="calibrated detector")
    run(*detect, "--detector", out, "--prior", 1.0, error="between 0 and 1")


def test_calibrate_in_place_again_and_what_is_refused(work, tmp_path):
    here = tmp_path / "D"
    shutil.copytree(work / "D", here)
    key = ("--key", work / "m.csv", "--split", "dev")
    run("calibrate", here, work / "s.tsv", *key)
    first = (here / "calibration.json").read_bytes()
    weights = (here / "model.safetensors").stat().st_mtime_ns
    run("score", here, work / "m.csv", "-o", tmp_path / "llr.tsv", "--workers", 0)
    run("calibrate", here, tmp_path / "llr.tsv", *key, error="calibrated already")
    run("calibrate", work / "D", tmp_path / "llr.tsv", *key, error="another detector")
    loose = tmp_path / "loose.tsv"
    shutil.copy(work / "s.tsv", loose)
    run("calibrate", here, loose, *key, error="loose.tsv.json")
    run("calibrate", here, work / "s.tsv", *key, "--groups", "speakr", error="no column 'speakr'")
    run("calibrate", here, work / "s.tsv", *key, "--method", "platt", error="unknown calibration 'platt'")
    flipped = tmp_path / "flipped.tsv"
    found = read_scores(work / "s.tsv")
    write_scores(flipped, found.utterance_id, -found.score)
    shutil.copy(work / "s.tsv.json", f"{flipped}.json")
    run("calibrate", here, flipped, *key, error="wrong way round")
    run("calibrate", "no/detector", work / "s.tsv", *key, error="-o NEW_DETECTOR")
    assert (here / "calibration.json").read_bytes() == first

    values = json.loads(
        run("calibrate", here, loose, *key, "--method", "isotonic", "--folds", 0, "--force", "--json")
    )
    assert values["method"] == "isotonic"
    assert json.loads((here / "calibration.json").read_text())["config"] == values["config"]
    assert Detector.load(here).calibration.calibration.name == "isotonic"
    assert (here / "model.safetensors").stat().st_mtime_ns == weights


def test_calibrating_on_the_training_set_is_said(work, tmp_path):
    run(
        "calibrate",
        work / "D",
        work / "s.tsv",
        "--key",
        work / "m.csv",
        "--split",
        "train",
        "-o",
        tmp_path / "C",
    )
    record = json.loads((tmp_path / "C" / "calibration.json").read_text())
    assert any("trained on" in warning for warning in record["warnings"])


def test_a_calibration_stays_with_its_detector(work, tmp_path):
    here = tmp_path / "D"
    run("calibrate", work / "D", work / "s.tsv", "--key", work / "m.csv", "--split", "dev", "-o", here)
    made = Detector.load(here)
    made.save(tmp_path / "again")
    assert (tmp_path / "again" / "calibration.json").read_bytes() == (here / "calibration.json").read_bytes()
    # Another detector saved over it takes the calibration away …
    shutil.copytree(here, tmp_path / "over")
    made.uncalibrated().save(tmp_path / "over")
    assert Detector.load(tmp_path / "over").calibration is None
    # … and one put beside other weights is refused.
    other = Detector.load(work / "D")
    other.backend._intercept += 1
    other.save(tmp_path / "other")
    shutil.copy(here / "calibration.json", tmp_path / "other")
    with pytest.raises(CheckpointError, match="belongs to another detector"):
        Detector.load(tmp_path / "other")


def test_calibrate_score_files_of_any_system(work, tmp_path):
    found = read_scores(work / "s.tsv")
    parts = {}
    for split in ("dev", "eval"):
        rows = [i for i, name in enumerate(found.utterance_id) if name.startswith(split)]
        parts[split] = tmp_path / f"{split}.txt"
        lines = (f"{found.utterance_id[i]} {float(100 * found.score[i] + 5)!r}\n" for i in rows)
        parts[split].write_text("".join(lines))  # the ASVspoof 2021 form
    out = tmp_path / "llr.tsv"
    run("calibrate-scores", parts["dev"], "--key", work / "m.csv", "--apply", parts["eval"], "-o", out)
    facts = json.loads((tmp_path / "llr.tsv.json").read_text())
    assert facts["calibration"]["method"] == "affine"
    assert facts["score"] == "natural-log likelihood ratio"
    config = facts["calibration"]["config"]
    expected = config["slope"] * read_scores(parts["eval"]).score + config["offset"]
    np.testing.assert_allclose(read_scores(out).score, expected, rtol=1e-12)
    text = run(
        "calibrate-scores", parts["dev"], "--key", work / "m.csv", "--apply", parts["dev"],
        "-o", tmp_path / "own.tsv", "--json",
    )  # fmt: skip
    assert any("figures on them flatter" in w for w in json.loads(text)["warnings"])
