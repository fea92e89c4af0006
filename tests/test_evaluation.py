"""Alignment of scores and key, breakdowns, intervals and the JSON form."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from voxfide.errors import ScoreFileError, UsageError
from voxfide.evaluation import Key, Trials, align, evaluate, worst_errors
from voxfide.metrics import METRICS, bootstrap_intervals, eer
from voxfide.scores import Scores

ATTACK_NOTE = "all bona fide trials are used: the column describes spoofs only"


def _text(*values: object) -> np.ndarray:
    return np.array(values, dtype=object)


def _scores(**table: float) -> Scores:
    return Scores(_text(*table), np.array(list(table.values())), source="s.tsv")


def _key(*rows: tuple[str, str], **columns: list[object]) -> Key:
    return Key(
        _text(*(r[0] for r in rows)), _text(*(r[1] for r in rows)), {n: _text(*c) for n, c in columns.items()}
    )


@pytest.fixture
def trials() -> Trials:
    """400 trials: attacks A01 (hard) to A03 (easy), codecs in both classes, 20 speakers."""
    rng = np.random.default_rng(7)
    n = 400
    labels = np.arange(n) % 4 == 0
    attack = np.array(["A01", "A02", "A03"], dtype=object)[rng.integers(0, 3, n)]
    attack[labels] = "bonafide"
    hardness = {"A01": -0.5, "A02": -2.0, "A03": -4.0, "bonafide": 1.0}
    codec = np.array(["-", "C01", "C02"], dtype=object)[rng.integers(0, 3, n)]
    return Trials(
        utterance_id=_text(*(f"E_{i}" for i in range(n))),
        score=rng.normal(size=n) + [hardness[a] for a in attack],
        is_bonafide=labels,
        columns={
            "attack": attack,
            "codec": codec,
            "speaker": _text(*(f"S{i // 20}" for i in range(n))),
            "empty": _text(*[None] * n),
        },
    )


class TestAlign:
    def test_rows_come_in_the_keys_order_with_their_columns(self) -> None:
        key = _key(("a", "bonafide"), ("b", "spoof"), ("c", "spoof"), attack=["-", "A01", "A02"])
        aligned = align(_scores(c=3, a=1, b=2), key)
        assert aligned.utterance_id.tolist() == ["a", "b", "c"]
        assert aligned.score.tolist() == [1, 2, 3]
        assert aligned.is_bonafide.tolist() == [True, False, False]
        assert aligned.columns["attack"].tolist() == ["-", "A01", "A02"]
        assert aligned.warnings == ()

    def test_numpy_strings_do_as_well(self) -> None:
        key = Key(np.array(["a", "b"]), np.array(["bonafide", "spoof"]))
        assert align(_scores(b=2, a=1), key).is_bonafide.tolist() == [True, False]

    def test_unknown_labels_are_left_out(self) -> None:
        key = _key(("a", "bonafide"), ("b", "spoof"), ("c", "unknown"), ("d", "unknown"))
        aligned = align(_scores(a=1, b=2, c=3), key, strict=True)
        assert aligned.utterance_id.tolist() == ["a", "b"]
        assert aligned.warnings == ("1 scored trial(s) labelled 'unknown' are left out",)

    def test_missing_scores_warn_or_fail(self) -> None:
        key = _key(("a", "bonafide"), ("b", "spoof"), ("c", "spoof"), ("d", "spoof"))
        scores = _scores(a=1, b=2)
        assert align(scores, key).warnings == ("2 trial(s) of the key have no score: c, d",)
        with pytest.raises(ScoreFileError, match=r"2 trial\(s\) of the key have no score: c, d"):
            align(scores, key, strict=True)

    def test_only_scored_splits_must_be_covered(self) -> None:
        rows = [("a", "bonafide"), ("b", "spoof"), ("c", "spoof"), ("t", "spoof")]
        key = _key(*rows, split=["eval", "eval", "eval", "train"])
        assert align(_scores(a=1, b=2, c=0), key, strict=True).warnings == ()
        assert align(_scores(a=1, b=2), key).warnings == (
            "1 trial(s) of the key (split eval) have no score: c",
        )

    def test_all_problems_at_once(self) -> None:
        key = _key(("a", "bonafide"), ("a", "spoof"), ("b", "fake"), ("c", "spoof"))
        scores = Scores(_text("a", "x", "y", "x"), np.arange(4.0), source="s.tsv")
        with pytest.raises(ScoreFileError) as caught:
            align(scores, key, strict=True)
        message = str(caught.value)
        assert message.startswith("s.tsv: 5 problem(s)")
        for part in (
            "1 utterance(s) occur more than once in the key: a",
            "1 utterance(s) occur more than once in the scores: x",
            "'fake' (1)",
            "3 scored utterance(s) not in the key: x, y, x",
            "have no score",
        ):
            assert part in message

    def test_nothing_to_evaluate(self) -> None:
        with pytest.raises(ScoreFileError, match="no scored utterance has a row labelled"):
            align(_scores(c=1), _key(("c", "unknown")))

    def test_long_lists_of_ids_are_cut(self) -> None:
        scores = _scores(a=0, b=0, **{f"x{i}": 0 for i in range(1500)})
        with pytest.raises(ScoreFileError, match=r"1,500 scored utterance\(s\) .*: x0, x1, x2, x3, x4, …$"):
            align(scores, _key(("a", "bonafide"), ("b", "spoof")))

    def test_columns_of_another_length(self) -> None:
        with pytest.raises(UsageError, match="the key has 2 utterance ids, but attack 1"):
            _key(("a", "bonafide"), ("b", "spoof"), attack=["A01"])


class TestEvaluate:
    def test_pooled_figures_and_intervals_are_those_of_the_metrics(self, trials: Trials) -> None:
        found = evaluate(trials, n_bootstrap=100, seed=5, confidence=0.9)
        intervals = bootstrap_intervals(
            trials.score, trials.is_bonafide, n_bootstrap=100, seed=5, confidence=0.9
        )
        assert (found.n_bonafide, found.n_spoof) == (100, 300)
        for spec in METRICS:
            assert found.metrics[spec.name].value == spec(trials.score, trials.is_bonafide)
            assert found.metrics[spec.name].interval == intervals[spec.name]
        assert found.thresholds["eer"] == eer(trials.score, trials.is_bonafide).threshold
        assert set(found.thresholds) == {"eer", "min_dcf", "act_dcf"}

    def test_breaking_down_does_not_change_the_pooled_intervals(self, trials: Trials) -> None:
        plain = evaluate(trials, n_bootstrap=50)
        assert evaluate(trials, ["attack", "codec"], n_bootstrap=50).metrics == plain.metrics

    def test_attacks_are_measured_against_all_bona_fide_trials(self, trials: Trials) -> None:
        groups = evaluate(trials, ["attack"], n_bootstrap=20).by["attack"]
        assert [g.value for g in groups] == ["A01", "A02", "A03"]  # the hardest first
        for group in groups:
            rows = trials.is_bonafide | (trials.columns["attack"] == group.value)
            assert group.note == ATTACK_NOTE
            assert group.n_bonafide == 100
            assert group.n_spoof == (trials.columns["attack"] == group.value).sum()
            assert group.metrics is not None
            for spec in METRICS:
                expected = spec(trials.score[rows], trials.is_bonafide[rows])
                assert group.metrics[spec.name].value == pytest.approx(expected, abs=1e-12)
                low, high = group.metrics[spec.name].interval or (np.inf, -np.inf)
                assert low <= high

    @pytest.mark.parametrize("nothing", ["", "-", "bonafide", "Bona-Fide", "none", "NULL", None, np.nan])
    def test_whatever_says_no_value(self, trials: Trials, nothing: object) -> None:
        attack = trials.columns["attack"].copy()
        attack[trials.is_bonafide] = nothing
        groups = evaluate(replace(trials, columns={"attack": attack}), ["attack"], n_bootstrap=0).by["attack"]
        assert [g.value for g in groups] == ["A01", "A02", "A03"]
        assert {g.n_bonafide for g in groups} == {100}

    def test_spoofs_without_an_attack_are_a_group_of_their_own(self, trials: Trials) -> None:
        attack = trials.columns["attack"].copy()
        attack[attack == "A02"] = ""
        groups = evaluate(replace(trials, columns={"attack": attack}), ["attack"], n_bootstrap=0).by["attack"]
        assert [g.value for g in groups] == ["A01", "(no value)", "A03"]

    def test_columns_of_both_classes_use_their_own_bona_fide_trials(self, trials: Trials) -> None:
        groups = evaluate(trials, ["codec"], n_bootstrap=20).by["codec"]
        assert {g.value for g in groups} == {"-", "C01", "C02"}
        assert sum(g.n_bonafide for g in groups) == 100
        eers = [g.metrics["eer_percent"].value for g in groups if g.metrics]
        assert eers == sorted(eers, reverse=True)
        for group in groups:
            rows = trials.columns["codec"] == group.value
            assert group.metrics is not None
            assert group.note == ""
            for spec in METRICS:
                expected = spec(trials.score[rows], trials.is_bonafide[rows])
                assert group.metrics[spec.name].value == pytest.approx(expected, abs=1e-12)

    def test_pairs_of_columns(self, trials: Trials) -> None:
        found = evaluate(trials, ["attack,codec", "codec"], n_bootstrap=20)
        groups = found.by["attack,codec"]
        assert {g.values for g in groups} == {
            (a, c) for a in ("A01", "A02", "A03") for c in ("-", "C01", "C02")
        }
        eers = [g.metrics["eer_percent"].value for g in groups if g.metrics]
        assert eers == sorted(eers, reverse=True)
        for group in groups:
            attack, codec = group.values
            assert group.value == f"{attack} / {codec}"
            of_codec = trials.columns["codec"] == codec
            rows = of_codec & (trials.is_bonafide | (trials.columns["attack"] == attack))
            assert group.n_bonafide == (of_codec & trials.is_bonafide).sum()
            assert group.metrics is not None
            for spec in METRICS:
                expected = spec(trials.score[rows], trials.is_bonafide[rows])
                assert group.metrics[spec.name].value == pytest.approx(expected, abs=1e-12)
        macro = found.by_macro["attack,codec"]["eer_percent"].value
        assert macro == pytest.approx(np.mean(eers))
        assert found.by["codec"] == evaluate(trials, ["codec"], n_bootstrap=20).by["codec"]
        assert found.to_json()["by"]["attack,codec"][0]["values"] == list(groups[0].values)

    def test_a_column_of_both_classes_twice_over(self, trials: Trials) -> None:
        half = np.where(np.arange(400) < 200, "first", "second").astype(object)
        table = replace(trials, columns={**trials.columns, "half": half})
        groups = evaluate(table, ["codec, half"], n_bootstrap=0).by["codec, half"]
        assert sum(g.n_bonafide for g in groups) == 100
        assert sum(g.n_spoof for g in groups) == 300
        with pytest.raises(UsageError, match="no column 'vocoder'"):
            evaluate(trials, ["codec,vocoder"])

    def test_a_column_whose_name_holds_a_comma(self, trials: Trials) -> None:
        table = replace(trials, columns={"a,b": trials.columns["codec"]})
        assert len(evaluate(table, ["a,b"], n_bootstrap=0).by["a,b"]) == 3

    def test_group_names_that_are_no_text_of_their_own(self, trials: Trials) -> None:
        attack = trials.columns["attack"].copy()
        attack[attack == "A02"] = "A\udcff"  # what an undecodable byte becomes
        groups = evaluate(replace(trials, columns={"attack": attack}), ["attack"], n_bootstrap=10).by[
            "attack"
        ]
        assert "A\udcff" in {g.value for g in groups}

    def test_groups_of_one_class_have_no_metrics_and_come_last(self, trials: Trials) -> None:
        codec = trials.columns["codec"].copy()
        codec[trials.is_bonafide & (codec == "C01")] = "C09"
        found = evaluate(replace(trials, columns={"codec": codec}), ["codec"], n_bootstrap=10)
        last = found.by["codec"][-2:]
        assert [(g.value, g.metrics) for g in last] == [("C01", None), ("C09", None)]
        assert "no bona fide trials" in last[0].note
        assert "no spoof trials" in last[1].note
        others = [g.metrics["auc"].value for g in found.by["codec"][:-2] if g.metrics]
        assert found.by_macro["codec"]["auc"].value == pytest.approx(np.mean(others))

    def test_macro_average_and_its_interval(self, trials: Trials) -> None:
        found = evaluate(trials, ["attack"], n_bootstrap=200)
        macro = found.by_macro["attack"]["eer_percent"]
        values = [g.metrics["eer_percent"] for g in found.by["attack"] if g.metrics]
        assert macro.value == pytest.approx(np.mean([v.value for v in values]))
        assert macro.interval is not None
        widths = [v.interval[1] - v.interval[0] for v in values if v.interval]
        assert 0 < macro.interval[1] - macro.interval[0] < max(widths)

    def test_column_without_any_value(self, trials: Trials) -> None:
        found = evaluate(trials, ["empty"], n_bootstrap=0)
        assert (found.by["empty"], found.by_macro["empty"]) == ([], {})
        assert found.warnings == ("column 'empty' holds no value for any trial",)

    def test_speakers_as_clusters(self, trials: Trials) -> None:
        found = evaluate(trials, ["attack", "codec"], n_bootstrap=60, clusters="speaker")
        direct = bootstrap_intervals(
            trials.score, trials.is_bonafide, n_bootstrap=60, clusters=trials.columns["speaker"]
        )
        # The clusters are numbered in another order there, so only the rough size can agree.
        low, high = found.metrics["auc"].interval or (0, 0)
        expected_low, expected_high = direct["auc"] or (0, 0)
        assert high - low == pytest.approx(expected_high - expected_low, rel=0.5)
        assert all(g.metrics and g.metrics["auc"].interval for g in found.by["attack"])

    def test_groups_seen_in_few_clusters_say_so(self, trials: Trials) -> None:
        codec = np.where(np.arange(400) < 8, "rare", "common").astype(object)
        found = evaluate(
            replace(trials, columns={**trials.columns, "codec": codec}),
            ["codec"],
            n_bootstrap=100,
            clusters="speaker",
        )
        rare = next(g for g in found.by["codec"] if g.value == "rare")
        assert "of 100 bootstrap samples lacked a class" in rare.note

    def test_unusable_requests(self, trials: Trials) -> None:
        with pytest.raises(
            UsageError, match=r"no column 'vocoder' \(columns: attack, codec, speaker, empty\)"
        ):
            evaluate(trials, ["vocoder"])
        with pytest.raises(UsageError, match="no column 'spk'"):
            evaluate(trials, clusters="spk")
        with pytest.raises(UsageError, match="400 trials have no value in column 'empty'"):
            evaluate(trials, clusters="empty")
        with pytest.raises(UsageError, match="confidence is 95"):
            evaluate(trials, confidence=95)
        with pytest.raises(UsageError, match="400 bona fide and 0 spoof"):
            evaluate(replace(trials, is_bonafide=np.ones(400, dtype=bool)))

    def test_a_clusters_column_of_one_value(self, trials: Trials) -> None:
        one = replace(trials, columns={"speaker": _text(*["S1"] * 400)})
        with pytest.raises(UsageError, match="needs at least two"):
            evaluate(one, clusters="speaker")

    def test_warnings_about_the_scores(self, trials: Trials) -> None:
        assert evaluate(trials, n_bootstrap=0).warnings == ()
        (wrong_way,) = evaluate(replace(trials, score=-trials.score), n_bootstrap=0).warnings
        assert "worse than chance" in wrong_way
        (ties,) = evaluate(replace(trials, score=np.sign(trials.score)), n_bootstrap=0).warnings
        assert "only 2 distinct scores in 400 trials" in ties
        carried = replace(trials, warnings=("3 trials have no score",))
        assert evaluate(carried, n_bootstrap=0).warnings == ("3 trials have no score",)


class TestJson:
    def test_stable_form(self, trials: Trials) -> None:
        codec = trials.columns["codec"].copy()
        codec[trials.is_bonafide & (codec == "C01")] = "C02"
        table = replace(trials, columns={**trials.columns, "codec": codec})
        report = json.loads(
            json.dumps(evaluate(table, ["attack", "codec"], n_bootstrap=30).to_json(), allow_nan=False)
        )
        figures = ["eer_percent", "min_dcf", "act_dcf", "cllr", "auc", "min_cllr", "calibration_loss"]
        with_intervals = [key for name in figures for key in (name, f"{name}_interval")]
        assert list(report) == [
            "n_bonafide", "n_spoof", *with_intervals, "eer_threshold",
            "by", "by_macro", "confidence", "n_bootstrap", "seed", "warnings",
        ]  # fmt: skip
        low, high = report["eer_percent_interval"]
        assert low < report["eer_percent"] < high
        group = report["by"]["attack"][0]
        assert list(group) == ["value", "n_bonafide", "n_spoof", *with_intervals, "note"]
        assert list(report["by_macro"]["attack"]) == with_intervals
        without = report["by"]["codec"][-1]
        assert (without["value"], without["eer_percent"], without["auc_interval"]) == ("C01", None, None)

    def test_no_bootstrap_means_null_intervals(self, trials: Trials) -> None:
        report = evaluate(trials, ["attack"], n_bootstrap=0).to_json()
        assert report["n_bootstrap"] == 0
        assert report["auc_interval"] is None
        assert report["by"]["attack"][0]["auc_interval"] is None
        assert report["by_macro"]["attack"]["auc_interval"] is None

    def test_figures_that_are_not_finite_become_null(self, trials: Trials) -> None:
        found = evaluate(trials, n_bootstrap=0)
        broken = replace(found, thresholds={"eer": np.inf, "min_dcf": 0.0, "act_dcf": 0.0})
        assert broken.to_json()["eer_threshold"] is None


class TestWorstErrors:
    def test_most_confident_mistakes_first(self) -> None:
        score = np.array([5.0, -3.0, 0.5, 4.0, -9.0, -1.0, 2.0])
        bonafide = np.array([False, True, True, False, False, True, True])
        table = Trials(_text(*"abcdefg"), score, bonafide)
        worst = worst_errors(table, threshold=0.5)
        assert table.utterance_id[worst.bonafide].tolist() == ["b", "f", "c"]
        assert table.utterance_id[worst.spoof].tolist() == ["a", "d"]
        assert worst_errors(table, 0.5, n=1).bonafide.tolist() == [1]

    def test_counts_match_the_error_rates_at_the_eer_threshold(self, trials: Trials) -> None:
        point = eer(trials.score, trials.is_bonafide)
        worst = worst_errors(trials, point.threshold, n=len(trials))
        assert len(worst.bonafide) == round(point.frr * 100)
        assert len(worst.spoof) == round(point.far * 300)
