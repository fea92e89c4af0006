"""Fusion: parity with scikit-learn, invariances, honest figures, gaps named, and the commands."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from command_line import run_here
from voxfide.calibration import create_calibration, probability_bonafide
from voxfide.errors import CheckpointError, ScoreFileError, UsageError
from voxfide.evaluation import Key
from voxfide.fusion import (
    FusionOptions,
    FusionRecord,
    JointTrials,
    coefficient_intervals,
    cross_validate,
    fit_fusion,
    join_scores,
    label_scores,
    learn_fusion,
)
from voxfide.metrics import METRICS, cllr
from voxfide.scores import Scores, read_scores, write_scores
from voxfide.studies.ablation import ablate

UNPENALISED = 1e12


def make_trials(
    n: int = 600,
    separations: tuple[float, ...] = (1.0, 1.5, 0.7),
    *,
    scales: tuple[float, ...] = (1.0, 40.0, 0.02),
    share: float = 0.3,
    shared: float = 0.5,
    seed: int = 0,
) -> JointTrials:
    """Systems of very different scales and places whose errors are in part the same."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(n) < share * n)
    common = shared * rng.normal(size=n)
    columns = [
        scale * (d * labels + common + rng.normal(size=n)) + 5 * i * scale
        for i, (d, scale) in enumerate(zip(separations, scales, strict=False))
    ]
    names = np.array([f"u{i}" for i in range(n)], dtype=object)
    speakers = np.array([f"s{k}" for k in rng.integers(20, size=n)], dtype=object)
    systems = tuple("abcdefgh"[: len(columns)])
    return JointTrials(systems, np.stack(columns, 1), labels, names, {"speaker": speakers})


def independent(n: int, separations: tuple[float, ...], seed: int) -> JointTrials:
    """Unit-variance Gaussians, d apart: true weights are the d, the intercept minus half their squares."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) < n // 2
    x = rng.normal(size=(n, len(separations))) + labels[:, None] * np.array(separations)
    return JointTrials(tuple("ab"[: len(separations)]), x, labels)


# Parity


@pytest.mark.parametrize("c", [0.01, 1.0, 1e3])
@pytest.mark.parametrize("inputs", ["scores", "probabilities"])
def test_the_plain_fit_is_scikit_learns_on_standardised_inputs(c, inputs):
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    trials = make_trials(scales=(1.0, 4.0, 0.2))
    x = probability_bonafide(trials.scores, 0.2) if inputs == "probabilities" else trials.scores
    reference = make_pipeline(StandardScaler(), LogisticRegression(C=c, tol=1e-10, solver="newton-cholesky"))
    reference.fit(x, trials.is_bonafide)
    labels = trials.is_bonafide
    expected = reference.decision_function(x) - math.log(labels.sum() / (~labels).sum())
    fitted = fit_fusion(trials, FusionOptions(inputs=inputs, input_prior=0.2, C=c))
    difference = np.abs(fitted.fusion.apply(trials.scores) - expected).max()
    print(f"C={c:g}, {inputs}: largest difference in log likelihood ratio from scikit-learn {difference:.1e}")
    assert difference < 1e-5
    slopes = reference[-1].coef_[0]
    np.testing.assert_allclose(fitted.fusion.weights * fitted.spread, slopes, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("prior", [0.05, 0.5])
def test_the_weighted_fit_is_scikit_learns_with_sample_weights(prior):
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    trials = make_trials()
    labels = trials.is_bonafide
    weight = np.where(labels, prior / labels.sum(), (1 - prior) / (~labels).sum()) * labels.size
    x = StandardScaler().fit(trials.scores, sample_weight=weight).transform(trials.scores)
    reference = LogisticRegression(C=2.0, tol=1e-12, max_iter=10_000).fit(x, labels, sample_weight=weight)
    expected = reference.decision_function(x) - math.log(prior / (1 - prior))
    found = fit_fusion(trials, FusionOptions(prior=prior, C=2.0)).fusion.apply(trials.scores)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_one_system_fused_is_affine_calibration():
    trials = make_trials(separations=(1.0,))
    fused = fit_fusion(trials, FusionOptions(prior=0.3, C=UNPENALISED)).fusion
    affine = create_calibration("affine", prior=0.3).fit(trials.scores[:, 0], trials.is_bonafide)
    np.testing.assert_allclose(
        fused.apply(trials.scores), affine.apply(trials.scores[:, 0]), rtol=1e-6, atol=1e-8
    )


def test_independent_likelihood_ratios_add_up():
    fused = fit_fusion(independent(200_000, (1.0, 2.0), 0), FusionOptions()).fusion
    np.testing.assert_allclose(fused.weights, [1, 2], atol=0.03)
    assert fused.intercept == pytest.approx(-2.5, abs=0.03)


# Invariances


@settings(max_examples=40)
@given(
    scales=st.lists(st.floats(1e-3, 1e3), min_size=3, max_size=3),
    signs=st.lists(st.sampled_from([-1, 1]), min_size=3, max_size=3),
    shifts=st.lists(st.floats(-100, 100), min_size=3, max_size=3),
    method=st.sampled_from(["logistic", "mean"]),
    prior=st.sampled_from([None, 0.1]),
)
def test_the_scale_of_a_system_changes_nothing(scales, signs, shifts, method, prior):
    """Nor its sign, for weights of any sign: the penalty means the same for all."""
    trials = make_trials(120)
    if method == "mean":
        signs = [1, 1, 1]
    options = FusionOptions(method=method, prior=prior, C=0.5)
    plain = fit_fusion(trials, options).fusion.apply(trials.scores)
    scores = trials.scores * (np.array(scales) * signs) + shifts
    moved = JointTrials(trials.systems, scores, trials.is_bonafide)
    found = fit_fusion(moved, options).fusion.apply(scores)
    np.testing.assert_allclose(found, plain, rtol=1e-5, atol=1e-6)


def test_the_order_of_systems_and_trials_changes_nothing():
    trials = make_trials()
    weights = fit_fusion(trials, FusionOptions()).fusion.weights
    rows = np.random.default_rng(1).permutation(len(trials))
    mixed = JointTrials(("c", "a", "b"), trials.scores[rows][:, [2, 0, 1]], trials.is_bonafide[rows])
    np.testing.assert_allclose(
        fit_fusion(mixed, FusionOptions()).fusion.weights, weights[[2, 0, 1]], rtol=1e-7
    )


def test_with_a_prior_the_proportions_of_the_classes_do_not_matter():
    trials = make_trials()
    many = np.where(trials.is_bonafide, 1, 4)
    more = JointTrials(
        trials.systems, np.repeat(trials.scores, many, axis=0), np.repeat(trials.is_bonafide, many)
    )
    options = FusionOptions(prior=0.5, C=UNPENALISED)
    np.testing.assert_allclose(
        fit_fusion(more, options).fusion.apply(trials.scores),
        fit_fusion(trials, options).fusion.apply(trials.scores),
        rtol=1e-6, atol=1e-7,
    )  # fmt: skip


def test_a_trial_alone_gets_what_it_gets_among_others():
    trials = make_trials(300)
    fused = fit_fusion(trials, FusionOptions(inputs="probabilities")).fusion
    together = fused.apply(trials.scores)
    assert [fused.apply(trials.scores[i : i + 1])[0] for i in range(300)] == together.tolist()


# Methods


def test_the_mean_orders_trials_as_the_mean_of_standardised_scores():
    trials = make_trials()
    z = (trials.scores - trials.scores.mean(axis=0)) / trials.scores.std(axis=0)
    fused = fit_fusion(trials, FusionOptions(method="mean")).fusion.apply(trials.scores)
    assert (np.argsort(fused) == np.argsort(z.mean(axis=1))).all()


def test_the_best_is_the_system_of_the_lowest_eer_and_keeps_its_order():
    trials = make_trials()
    eers = [METRICS["eer_percent"](c, trials.is_bonafide) for c in trials.scores.T]
    best = int(np.argmin(eers))
    fused = fit_fusion(trials, FusionOptions(method="best")).fusion
    assert np.flatnonzero(fused.weights).tolist() == [best]
    assert METRICS["eer_percent"](fused.apply(trials.scores), trials.is_bonafide) == eers[best]


# Degenerate data


def test_perfect_separation_gives_finite_weights_and_a_warning():
    trials = make_trials(60, (1.0, 30.0), scales=(1.0, 1.0))
    fitted = fit_fusion(trials, FusionOptions())
    assert np.isfinite(fitted.fusion.weights).all()
    assert any("rest on the penalty" in w for w in fitted.warnings)
    assert np.isfinite(np.diag(fitted.covariance)).all()


def test_the_same_system_twice_shares_its_weight():
    trials = make_trials(separations=(1.0,))
    twice = JointTrials(("a", "b"), np.repeat(trials.scores, 2, axis=1), trials.is_bonafide)
    single, double = (fit_fusion(t, FusionOptions()).fusion for t in (trials, twice))
    assert double.weights[0] == pytest.approx(double.weights[1], rel=1e-6)
    np.testing.assert_allclose(double.apply(twice.scores), single.apply(trials.scores), atol=1e-3)


def test_constant_and_reversed_systems_are_named():
    trials = make_trials()
    scores = np.column_stack([trials.scores[:, 0], np.full(len(trials), 3.3), -trials.scores[:, 2]])
    fitted = fit_fusion(JointTrials(trials.systems, scores, trials.is_bonafide), FusionOptions())
    assert abs(fitted.fusion.weights[1]) < 1e-12
    assert any(w.startswith("b gives every trial the same") for w in fitted.warnings)
    assert any(w.startswith("c does not score bona fide") for w in fitted.warnings)
    assert fitted.fusion.weights[2] < 0


def test_what_cannot_be_is_refused():
    for wrong in ({"method": "vote"}, {"inputs": "ranks"}, {"prior": 1.0}, {"C": 0.0}, {"input_prior": 2}):
        with pytest.raises(UsageError):
            FusionOptions(**wrong)
    with pytest.raises(UsageError, match="NaN or infinite"):
        JointTrials(("a",), np.array([[1.0], [math.nan]]), np.array([True, False]))
    with pytest.raises(UsageError, match="at least one of each"):
        JointTrials(("a",), np.array([[1.0], [2.0]]), np.array([True, True]))
    with pytest.raises(UsageError, match="expected \\(trials, systems\\)"):
        JointTrials(("a", "b"), np.array([[1.0], [2.0]]), np.array([True, False]))
    fused = fit_fusion(make_trials(), FusionOptions()).fusion
    with pytest.raises(UsageError, match="the fusion is of 3"):
        fused.apply(np.zeros((4, 2)))


# Intervals


def test_intervals_cover_the_true_weights_as_often_as_they_say():
    covered = {"bootstrap": 0, "wald": 0}
    n_runs, true = 40, (1.0, 2.0, -2.5)
    for seed in range(n_runs):
        trials = independent(1000, (1.0, 2.0), seed)
        fitted = fit_fusion(trials, FusionOptions())
        found = coefficient_intervals(fitted, trials, FusionOptions(), n_bootstrap=100, seed=seed)
        for coefficient, value in zip((*found.weights, found.intercept), true, strict=True):
            covered["bootstrap"] += coefficient.interval[0] <= value <= coefficient.interval[1]
            covered["wald"] += coefficient.wald[0] <= value <= coefficient.wald[1]
    shares = {name: count / (3 * n_runs) for name, count in covered.items()}
    print(f"coverage of 95 % intervals over {n_runs} sets of 1,000 trials: {shares}")
    assert all(0.86 <= share <= 0.995 for share in shares.values())


def test_robust_errors_and_bootstrap_agree_also_over_speakers():
    """Trials of a speaker that are copies of each other: as many facts as speakers."""
    trials = make_trials(200)
    eight = JointTrials(trials.systems, np.tile(trials.scores, (8, 1)), np.tile(trials.is_bonafide, 8))
    speakers = np.tile(np.arange(200), 8)
    options = FusionOptions()
    for groups, copies in ((speakers, eight), (None, trials)):
        fitted = fit_fusion(copies, options, groups)
        found = coefficient_intervals(fitted, copies, options, n_bootstrap=400, groups=groups)
        widths = [(c.interval[1] - c.interval[0], c.wald[1] - c.wald[0]) for c in found.weights]
        np.testing.assert_allclose(*np.array(widths).T, rtol=0.2)
        print([round(w, 3) for w, _ in widths])
    naive = fit_fusion(eight, options)
    assert np.sqrt(naive.covariance[0, 0] / fitted.covariance[0, 0]) == pytest.approx(8**-0.5, rel=0.05)


def test_intervals_follow_from_the_seed():
    trials = make_trials(200)
    fitted = fit_fusion(trials, FusionOptions())
    one, again, other = (
        coefficient_intervals(fitted, trials, FusionOptions(), n_bootstrap=50, seed=s) for s in (1, 1, 2)
    )
    assert one == again != other
    none = coefficient_intervals(fitted, trials, FusionOptions(), n_bootstrap=0)
    assert none.intercept.interval is None
    assert none.intercept.wald == one.intercept.wald


# Figures


def test_cross_validation_sees_through_systems_that_know_nothing():
    rng = np.random.default_rng(0)
    trials = JointTrials(
        tuple(map(str, range(15))), rng.normal(size=(120, 15)), np.arange(120) % 2 == 0
    )  # fmt: skip
    record = learn_fusion(trials, n_bootstrap=0)
    fitted, left_out = record.figures["fitted"], record.figures["cross_validated"]["logistic"]
    print(f"15 systems of noise: Cllr {fitted['cllr']:.3f} on the fit, {left_out['cllr']:.3f} left out")
    assert fitted["cllr"] < 0.95
    assert left_out["cllr"] > 1
    assert left_out["eer_percent"] > fitted["eer_percent"]


def test_fusion_of_complementary_systems_beats_each_and_never_raises_cllr_on_the_fit():
    trials = make_trials(800, shared=0.2)
    record = learn_fusion(trials, FusionOptions(prior=0.5), n_bootstrap=0)
    figures = record.figures
    best = min(values["eer_percent"] for values in figures["systems"].values())
    assert figures["cross_validated"]["logistic"]["eer_percent"] < best
    for column in trials.scores.T:
        alone = create_calibration("affine").fit(column, trials.is_bonafide).apply(column)
        assert figures["fitted"]["cllr"] <= cllr(alone, trials.is_bonafide) + 1e-6
    assert list(figures["cross_validated"]) == ["logistic", "mean", "best"]


def test_speakers_stay_together():
    trials = make_trials()
    groups = np.unique(trials.columns["speaker"].astype(str), return_inverse=True)[1]
    together, folds = cross_validate(trials, FusionOptions(), groups=groups)
    apart, _ = cross_validate(trials, FusionOptions())
    assert folds == 5
    assert not np.array_equal(together, apart)
    # Trials of one speaker are fused by the same weights: two equal trials get the same number.
    scores = trials.scores.copy()
    rows = np.flatnonzero(groups == 0)
    scores[rows] = scores[rows[0]]
    same = JointTrials(trials.systems, scores, trials.is_bonafide)
    assert len(set(cross_validate(same, FusionOptions(), groups=groups)[0][rows])) == 1


# Bringing scores together


def scores_of(ids: list[str], source: str, seed: int = 0) -> Scores:
    return Scores(
        np.array(ids, dtype=object), np.random.default_rng(seed).normal(size=len(ids)), source=source
    )


def test_scores_are_joined_by_name_whatever_their_order():
    a = scores_of(list("wxyz"), "a.tsv")
    rows = [2, 0, 3, 1]
    b = Scores(a.utterance_id[rows], 10 * a.score[rows], source="b.tsv")
    joint = join_scores({"a": a, "b": b})
    assert joint.utterance_id.tolist() == list("wxyz")
    np.testing.assert_array_equal(joint.scores[:, 1], 10 * joint.scores[:, 0])
    key = Key(np.array(list("zyxw")), np.array(["spoof", "unknown", "bonafide", "bonafide"]))
    trials = label_scores(joint, key)
    assert trials.utterance_id.tolist() == ["z", "x", "w"]
    np.testing.assert_array_equal(trials.scores[:, 0], a.score[[3, 1, 0]])
    assert any("'unknown'" in w for w in trials.warnings)


def test_gaps_and_repeats_are_named_with_their_files():
    ids = [f"u{i}" for i in range(20)]
    systems = {
        "a": scores_of(ids, "dev/a.tsv"),
        "b": scores_of(ids[:-7], "dev/b.tsv"),
        "c": scores_of([*ids[:-1], "u0"], "dev/c.tsv"),
        "d": scores_of([*ids, "other"], "dev/d.tsv"),
    }
    with pytest.raises(ScoreFileError) as raised:
        join_scores(systems)
    text = str(raised.value)
    assert "dev/b.tsv: no score of 8 utterance(s) ('u13', 'u14', 'u15', 'u16', 'u17', …)" in text
    assert "dev/c.tsv: 1 utterance(s) ('u0') more than once" in text
    assert "dev/c.tsv: no score of 2 utterance(s) ('u19', 'other')" in text
    assert "dev/a.tsv: no score of 1 utterance(s) ('other')" in text
    assert "dev/d.tsv:" not in text


# The record


def test_the_record_goes_through_a_file_and_back(tmp_path):
    trials = make_trials()
    options = FusionOptions(inputs="probabilities", prior=0.2)
    record = learn_fusion(trials, options, groups="speaker", n_bootstrap=20, fitted_to={"manifest": "m.csv"})
    record.write(tmp_path / "F.json")
    again = FusionRecord.read(tmp_path / "F.json")
    np.testing.assert_array_equal(again.fusion.apply(trials.scores), record.fusion.apply(trials.scores))
    assert again.to_json() == json.loads(json.dumps(record.to_json()))
    assert again.describe() == record.describe()
    assert again.threshold == record.threshold != 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 9}, "format 1"),
        ({"kind": "x"}, "not a fusion"),
        ({"systems": []}, "no systems"),
        ({"intercept": "1"}, "finite number"),
        ({"options": {"method": "vote"}}, "fusion method"),
        ({"systems": [{"name": "a"}]}, "weight"),
        ({"intercept_interval": [1]}, "malformed"),
    ],
)
def test_damaged_records_are_refused(tmp_path, change, message):
    values = learn_fusion(make_trials(), n_bootstrap=0).to_json() | change
    (tmp_path / "F.json").write_text(json.dumps(values))
    with pytest.raises(CheckpointError, match=message):
        FusionRecord.read(tmp_path / "F.json")


# Ablation


def test_an_ablation_holds_every_subset_as_if_fused_alone(tmp_path):
    trials, other = make_trials(), make_trials(400, seed=5)
    found = ablate(trials, None, {"eval": other}, n_bootstrap=30)
    assert [s.systems for s in found.subsets] == [
        ("a",), ("b",), ("c",), ("a", "b"), ("a", "c"), ("b", "c"), ("a", "b", "c")
    ]  # fmt: skip
    whole = learn_fusion(trials, n_bootstrap=0)
    for metric, value in whole.figures["cross_validated"]["logistic"].items():
        assert found.subsets[-1].figures["fit"][metric].value == value
    fused = whole.fusion.apply(other.scores)
    assert found.subsets[-1].figures["eval"]["cllr"].value == cllr(fused, other.is_bonafide)
    alone = METRICS["eer_percent"](other.scores[:, 1], other.is_bonafide)
    assert found.subsets[1].figures["eval"]["eer_percent"].value == alone
    for subset in found.subsets:
        metric = subset.figures["eval"]["eer_percent"]
        assert metric.interval[0] <= metric.value <= metric.interval[1]
    found.write(tmp_path)
    rows = list(csv.DictReader((tmp_path / "ablation.csv").open()))
    assert [(r["a"], r["b"], r["c"]) for r in rows[:4]] == [
        ("x", "", ""), ("", "x", ""), ("", "", "x"), ("x", "x", "")
    ]  # fmt: skip
    assert float(rows[-1]["eval_cllr"]) == cllr(fused, other.is_bonafide)
    assert "\\toprule" in (tmp_path / "ablation.tex").read_text()
    assert (tmp_path / "ablation.md").read_text().count("\n|") == 2 + 7


def test_ablations_that_cannot_be_are_refused():
    trials = make_trials()
    with pytest.raises(UsageError, match="in another order"):
        ablate(trials, None, {"eval": trials.of([1, 0, 2])})
    with pytest.raises(UsageError, match="two sets"):
        ablate(trials, None, {"fit": trials})
    many = JointTrials(
        tuple(map(str, range(11))), np.random.default_rng(0).normal(size=(40, 11)), np.arange(40) < 20
    )
    with pytest.raises(UsageError, match="2,047 subsets"):
        ablate(many)


# The commands


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Score files of three systems on two splits, and the key of both."""
    folder = tmp_path_factory.mktemp("scores")
    rows = ["utterance_id,path,label,split,speaker"]
    for split, seed in (("dev", 0), ("eval", 5)):
        trials = make_trials(400, seed=seed)
        ids = [f"{split}-{i}" for i in trials.utterance_id]
        for name, column in zip(trials.systems, trials.scores.T, strict=True):
            order = np.random.default_rng(ord(name)).permutation(len(ids))
            write_scores(folder / f"{split}_{name}.tsv", [ids[i] for i in order], column[order])
        for i, label, speaker in zip(ids, trials.is_bonafide, trials.columns["speaker"], strict=True):
            rows.append(f"{i},{i}.wav,{'bonafide' if label else 'spoof'},{split},{split}{speaker}")
    (folder / "m.csv").write_text("\n".join(rows) + "\n")
    return folder


def files(folder: Path, split: str, names: str = "abc") -> list[Path]:
    return [folder / f"{split}_{name}.tsv" for name in names]


def test_fuse_and_fuse_scores(folder, tmp_path, monkeypatch, capsys):
    code = run_here(
        monkeypatch, "fuse", *files(folder, "dev"), "--key", folder / "m.csv", "--split", "dev",
        "--groups", "speaker", "--bootstrap", 50, "-o", tmp_path / "F.json", "--ablation", tmp_path / "T",
        "--on", "eval=" + ",".join(map(str, files(folder, "eval"))),
    )  # fmt: skip
    said = capsys.readouterr()
    assert code == 0, said.err
    assert "cross-validated in 5 folds by speaker" in said.out
    record = FusionRecord.read(tmp_path / "F.json")
    assert [s.name for s in record.systems] == ["dev_a", "dev_b", "dev_c"]
    assert record.fitted_to["split"] == "dev"
    assert all(len(s.scores_sha256) == 64 for s in record.systems)
    assert all(s.weight_interval[0] < s.weight < s.weight_interval[1] for s in record.systems)
    assert len((tmp_path / "T" / "ablation.csv").read_text().splitlines()) == 8

    out = tmp_path / "fused.tsv"
    assert run_here(monkeypatch, "fuse-scores", tmp_path / "F.json", *files(folder, "eval"), "-o", out) == 0
    fused = read_scores(out)
    joint = join_scores({f.stem: read_scores(f) for f in files(folder, "eval")})
    np.testing.assert_array_equal(fused.score, record.fusion.apply(joint.scores))
    rows = list(csv.DictReader((tmp_path / "T" / "ablation.csv").open()))
    key = {line.split(",")[0]: line.split(",")[2] for line in (folder / "m.csv").read_text().splitlines()}
    labels = np.array([key[i] == "bonafide" for i in fused.utterance_id])
    assert float(rows[-1]["eval_eer_percent"]) == METRICS["eer_percent"](fused.score, labels)
    facts = json.loads((tmp_path / "fused.tsv.json").read_text())
    assert facts["score"] == "natural-log likelihood ratio"
    assert facts["fusion"]["systems"][0]["weight"] == record.systems[0].weight


def test_fusing_is_repeatable_and_prints_json(folder, tmp_path, monkeypatch, capsys):
    found = []
    for name in ("1.json", "2.json"):
        assert run_here(
            monkeypatch, "fuse", *files(folder, "dev"), "--key", folder / "m.csv", "--json",
            "--bootstrap", 20, "--prior", 0.5, "-o", tmp_path / name,
        ) == 0  # fmt: skip
        found.append(json.loads(capsys.readouterr().out))
    assert found[0] == found[1] == json.loads((tmp_path / "1.json").read_text())
    assert found[0]["options"]["prior"] == 0.5


def test_an_utterance_that_a_file_lacks_is_named(folder, tmp_path, monkeypatch, capsys):
    lines = (folder / "dev_b.tsv").read_text().splitlines(keepends=True)
    (tmp_path / "short.tsv").write_text("".join(lines[:-2]))
    (tmp_path / "double.tsv").write_text("".join([*lines, lines[7]]))
    gone = [line.split("\t")[0] for line in lines[-2:]]
    code = run_here(
        monkeypatch, "fuse", folder / "dev_a.tsv", tmp_path / "short.tsv", "--key", folder / "m.csv",
        "-o", tmp_path / "F.json",
    )  # fmt: skip
    said = capsys.readouterr().err
    assert code == 2
    assert "short.tsv: no score of 2 utterance(s)" in said
    assert all(name in said for name in gone)
    assert not (tmp_path / "F.json").exists()
    code = run_here(
        monkeypatch, "fuse", folder / "dev_a.tsv", tmp_path / "double.tsv", "--key", folder / "m.csv",
        "-o", tmp_path / "F.json",
    )  # fmt: skip
    assert code == 2
    said = capsys.readouterr().err
    assert "double.tsv" in said
    assert f"'{lines[7].split(chr(9))[0]}' occurs again" in said


def test_scores_of_the_wrong_detectors_or_order_are_refused(folder, tmp_path, monkeypatch, capsys):
    for file in files(folder, "dev") + files(folder, "eval"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
        facts = {"detector": {"fingerprint": "detector " + file.stem[-1]}, "score": "uncalibrated"}
        (tmp_path / f"{file.name}.json").write_text(json.dumps(facts))
    fit = ["fuse", *files(tmp_path, "dev"), "--key", folder / "m.csv", "--bootstrap", 0, "--folds", 0]
    assert run_here(monkeypatch, *fit, "--inputs", "probabilities", "-o", tmp_path / "F.json") == 0
    assert "not known to be calibrated log likelihood ratios" in capsys.readouterr().err
    apply = ["fuse-scores", tmp_path / "F.json", "-o", tmp_path / "out.tsv"]
    assert run_here(monkeypatch, *apply, *files(tmp_path, "eval")) == 0
    capsys.readouterr()
    for names, message in (("acb", "number 2, 3: in another order"), ("ab", "2 systems; the fusion is of 3")):
        assert run_here(monkeypatch, *apply, *files(tmp_path, "eval", names)) == 2
        assert message in capsys.readouterr().err
    assert run_here(monkeypatch, *apply, *files(tmp_path, "eval", "acb"), "--force") == 0
    assert run_here(monkeypatch, *apply, *files(tmp_path, "dev")) == 0
    assert "learnt on these very scores" in capsys.readouterr().err


def test_sets_of_an_ablation_are_checked_before_anything_is_learnt(folder, tmp_path, monkeypatch, capsys):
    fit = ["fuse", *files(folder, "dev"), "--key", folder / "m.csv", "-o", tmp_path / "F.json"]
    for extra, message in (
        (["--on", "e=x.tsv"], "belong to --ablation"),
        (["--ablation", "T", "--on", f"e={folder / 'eval_a.tsv'}"], "3 score files expected"),
        (["--ablation", "T", "--on-key", "e=m.csv"], "no such set"),
        (["--ablation", "T", "--on", "e"], "NAME=VALUE"),
        (["--method", "vote"], "fusion method 'vote'"),
        (["--groups", "nobody"], "no column 'nobody'"),
    ):
        assert run_here(monkeypatch, *fit, *extra) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "F.json").exists()
