"""The decision rule against brute-force least expected cost, reasons that hold a verdict back, writers."""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from voices import calibrated, small_detector
from voxfide.analysis.decision import DecisionRule
from voxfide.analysis.result import Analysis, DetectorFacts, Stretch, Window
from voxfide.analysis.trust import gathered
from voxfide.analysis.writers import WRITERS, format_of, written
from voxfide.audio import AudioInfo
from voxfide.conditions import Conditions, Reason, Segment
from voxfide.domain import DomainModel
from voxfide.errors import UnknownNameError, UsageError

GOOD = Conditions(
    seconds=60.0, speech_seconds=45.0, speech_share=0.75, speech_level_db=-25.0, noise_db=-60.0, snr_db=35.0,
    peak_db=-3.0, dc_offset=1e-4, flat_share=0.0, flat_top=0.7, bandwidth_hz=7500.0, holes_share=0.01,
    zero_share=0.0,
)  # fmt: skip
INFO = AudioInfo("talk, one.wav", "wav", "pcm_s16le", 16000, 1, 60.0, 16, 960_000, "soundfile")
COST = st.floats(0.01, 100)


@given(st.floats(-12, 12), st.floats(0.001, 0.999), COST, COST, COST)
def test_the_verdict_has_the_least_expected_cost(llr, prior, c_miss, c_fa, c_inconclusive):
    rule = DecisionRule.bayes(prior, c_miss, c_fa, c_inconclusive)
    odds = math.exp(llr) * prior / (1 - prior)
    p = odds / (1 + odds)
    costs = {"bonafide": (1 - p) * c_fa, "spoof": p * c_miss, "inconclusive": c_inconclusive}
    ordered = sorted(costs.values())
    assume(ordered[1] - ordered[0] > 1e-9)  # at a tie either is right
    assert rule.verdict(llr) == min(costs, key=costs.__getitem__)
    assert rule.probability(llr) == pytest.approx(p, abs=1e-9)


@given(st.floats(0.01, 0.99), COST, COST)
def test_a_dear_inconclusive_leaves_the_plain_bayes_threshold(prior, c_miss, c_fa):
    rule = DecisionRule.bayes(prior, c_miss, c_fa, c_miss + c_fa)
    assert rule.bonafide_from == rule.spoof_below
    assert rule.bonafide_from == pytest.approx(math.log(c_fa / c_miss * (1 - prior) / prior), abs=1e-9)


def test_the_default_asks_for_three_to_one():
    rule = DecisionRule.bayes()
    assert rule.bonafide_from == pytest.approx(math.log(3))
    assert rule.spoof_below == pytest.approx(-math.log(3))
    assert DecisionRule.bayes(c_miss=20, c_fa=20).bonafide_from == pytest.approx(math.log(3))


def test_whose_rule_it_is():
    plain = small_detector()
    made = calibrated(plain, prior=0.2, c_fa=4.0)
    assert DecisionRule.of(plain) == DecisionRule(plain.threshold, plain.threshold, "detector-threshold")
    assert DecisionRule.of(plain, threshold=1.5).verdict(1.5) == "bonafide"
    assert DecisionRule.of(made) == DecisionRule.bayes(0.2, 1.0, 4.0)
    assert DecisionRule.of(made, prior=0.6, c_miss=2.0, c_inconclusive=9.0) == DecisionRule.bayes(
        0.6, 2.0, 4.0, 9
    )
    stated = DecisionRule.of(made, threshold=-1.0)
    assert (stated.verdict(-0.9), stated.verdict(-1.1), stated.prior) == ("bonafide", "spoof", 0.2)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"prior": 0.5}, "--prior needs a calibrated detector"),
        ({"c_inconclusive": 0.1}, "--cost-inconclusive needs a calibrated detector"),
        ({"c_fa": 1.0, "threshold": 0.0}, "--cost-fa beside --threshold"),
        ({"threshold": math.nan}, "finite"),
    ],
)
def test_what_an_uncalibrated_detector_cannot_do(options, said):
    with pytest.raises(UsageError, match=said):
        DecisionRule.of(small_detector(), **options)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"prior": 1.0}, "between 0 and 1"),
        ({"c_inconclusive": 0.0}, "above 0"),
        ({"c_miss": -1.0}, "cost"),
        ({"prior": 0.0, "threshold": 1.0}, "between 0 and 1"),
    ],
)
def test_numbers_that_cannot_be(options, said):
    with pytest.raises(UsageError, match=said):
        DecisionRule.of(calibrated(small_detector()), **options)


# --- reasons


def judged(score=3.0, conditions=GOOD, info=INFO, rule=None, marked=(), unfamiliar=None):
    verdict, found = gathered(conditions, info, rule or DecisionRule.bayes(), score, marked, unfamiliar, 0.5)
    return verdict, [(r.code, r.severity) for r in found]


def test_a_good_recording_has_no_reasons():
    assert judged() == ("bonafide", [])
    assert judged(-3.0) == ("spoof", [])
    assert judged(0.5) == ("inconclusive", [])


def test_reasons_that_forbid_a_verdict_hold_it_back_and_come_first():
    noisy = replace(GOOD, snr_db=-2.0, dc_offset=0.5)
    assert judged(conditions=noisy) == ("inconclusive", [("noise", "inconclusive"), ("offset", "reduced")])
    assert judged(conditions=replace(GOOD, snr_db=5.0)) == ("bonafide", [("noise", "reduced")])
    far = Reason("unfamiliar", "inconclusive", "Far.", "domain_distance", 9.0, 2.0, "distance")
    noisy = replace(GOOD, snr_db=5.0)
    assert judged(-9.0, noisy, unfamiliar=far) == (
        "inconclusive",
        [("unfamiliar", "inconclusive"), ("noise", "reduced")],
    )


def test_stretches_forbid_only_the_verdict_that_they_contradict():
    marked = [Stretch(1.0, 3.0, -4.0)]
    assert judged(marked=marked) == ("inconclusive", [("stretches", "inconclusive")])
    assert judged(-3.0, marked=marked) == ("spoof", [])


def test_without_a_score_there_is_always_a_reason():
    scattered = replace(GOOD, speech_seconds=2.0)
    assert judged(None, scattered) == ("inconclusive", [("little-speech", "inconclusive")])
    silent = replace(GOOD, speech_seconds=0.0, speech_share=0.0)
    assert judged(None, silent)[1][0] == ("little-speech", "inconclusive")


def test_broken_files_and_uncalibrated_detectors_are_told():
    broken = replace(INFO, warnings=("truncated: the data ends early",))
    rule = DecisionRule(0.0, 0.0, "detector-threshold")
    verdict, codes = judged(info=broken, rule=rule)
    assert (verdict, codes) == ("bonafide", [("uncalibrated", "reduced"), ("broken-off", "reduced")])


# --- writers


def an_analysis(path="talk, one.wav", n=2):
    return Analysis(
        path=path, sha256=None, n_bytes=None, info=replace(INFO, path=path), conditions=GOOD,
        detector=DetectorFacts("d", "0" * 64, {}, "uncalibrated"), score=0.25, probability=None, prior=None,
        verdict="inconclusive", rule=DecisionRule(0.0, 0.0).to_json(),
        windows=(Window(0, 4, 1.5, 3.0), Window(2, 6, -1.0, 2.0)), speech=(Segment(0.5, 5.5),),
        stretches=tuple(Stretch(10.0 * i + 1.25, 10.0 * i + 3.5, -2.0 - i) for i in range(n)),
    )  # fmt: skip


@pytest.mark.parametrize("spec", WRITERS, ids=lambda spec: spec.name)
@pytest.mark.parametrize("n", [0, 1, 3])
def test_every_format_holds_every_stretch(spec, n):
    text = written([an_analysis(n=n)], spec)
    assert format_of(f"x{spec.suffix}") is spec
    read = READERS[spec.name](text)
    assert read == [pytest.approx((10.0 * i + 1.25, 10.0 * i + 3.5, -2.0 - i)) for i in range(n)]
    assert text == "" or text.endswith("\n")


def _read_csv(text):
    rows = list(csv.DictReader(io.StringIO(text)))
    assert {row["path"] for row in rows} == {"talk, one.wav"}
    assert [row["speech"] for row in rows if row["kind"] == "window"] == ["3.000", "2.000"]
    return [tuple(float(r[k]) for k in ("start", "end", "score")) for r in rows if r["kind"] == "stretch"]


def _read_rttm(text):
    fields = [line.split(" ") for line in text.splitlines()]
    assert all(len(f) == 10 and f[:3] == ["SPEAKER", "talk,_one", "1"] and f[7] == "spoof" for f in fields)
    return [(float(f[3]), float(f[3]) + float(f[4]), float(f[8])) for f in fields]


def _read_audacity(text):
    fields = [line.split("\t") for line in text.splitlines()]
    return [(float(f[0]), float(f[1]), float(f[2].removeprefix("spoof "))) for f in fields]


def _read_json(text):
    return [tuple(s.values()) for s in json.loads(text)["stretches"]]


READERS = {"csv": _read_csv, "rttm": _read_rttm, "audacity": _read_audacity, "json": _read_json}


def test_several_recordings_in_one_file():
    two = [an_analysis("a.wav"), an_analysis("b.wav")]
    assert written(two, WRITERS["csv"]).count("path,kind") == 1
    assert [json.loads(line)["path"] for line in written(two, WRITERS["json"]).splitlines()] == [
        "a.wav",
        "b.wav",
    ]
    assert {line.split()[1] for line in written(two, WRITERS["rttm"]).splitlines()} == {"a", "b"}
    with pytest.raises(UsageError, match="label track"):
        written(two, WRITERS["audacity"])


def test_formats_by_name_and_suffix():
    assert format_of("x.txt", "rttm").name == "rttm"
    with pytest.raises(UnknownNameError, match="did you mean 'audacity'"):
        format_of("x.txt", "audacty")
    with pytest.raises(UsageError, match=r"\.rttm \(rttm\)"):
        format_of("x.xml")


def test_a_domain_is_no_part_of_the_scores():
    detector = small_detector()
    known = replace(detector, domain=DomainModel(*[None] * 4))
    assert known.fingerprint() == detector.fingerprint()
