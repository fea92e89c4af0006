"""One recording, from samples to verdict: windows, speech, joining, stretches, streams against wholes."""

from __future__ import annotations

import json
import tracemalloc
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import soundfile as sf
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import CORPUS, needs_shared
from voices import RATE, calibrated, dulled, small_detector, voice
from voxfide.analysis.batch import analyse_many
from voxfide.analysis.joining import cells, joined_score, stretches
from voxfide.analysis.recording import RecordingAnalyser, analyse, facts_of
from voxfide.analysis.result import Analysis, Window
from voxfide.analysis.settings import AnalysisSettings
from voxfide.analysis.windows import Listener, overlap
from voxfide.audio import AudioInfo
from voxfide.conditions import Segment, SpeechRule
from voxfide.conditions.speech import WINDOW, Hysteresis
from voxfide.errors import AudioError, UsageError


def save(path, signal):
    sf.write(path, signal, RATE, subtype="FLOAT")
    return path


def info_of(signal, path="<stream>"):
    return AudioInfo(path, "wav", "pcm_f32le", RATE, 1, len(signal) / RATE, 32, len(signal), "test")


def run_stream(signal, cuts=(), options=None):
    analyser = RecordingAnalyser(small_detector(), options)
    for piece in np.split(signal, sorted(cuts)):
        analyser.push(piece)
    return analyser.finish(info_of(signal))


class Counting:
    """A detector whose score is the mean square in dB: says what was scored."""

    calibration = domain = speech = None
    threshold = 0.0
    score_kind = "uncalibrated"

    def __init__(self):
        self.batches = []

    def score_waveforms(self, waveforms):
        self.batches.append([len(w) for w in waveforms])
        return np.array(
            [10 * np.log10(float(np.mean(np.square(w, dtype=np.float64))) + 1e-12) for w in waveforms]
        )

    def fingerprint(self):
        return "0" * 64

    def facts(self):
        return {}


# --- speech that is known while more is to come


@settings(max_examples=60)
@given(
    st.lists(st.sampled_from([0.0, 0.4, 0.9]), max_size=60),
    st.sampled_from([0.0, 0.03, 0.2]),
    st.sampled_from([0.0, 0.1]),
    st.sampled_from([0.0, 0.25]),
)
def test_what_is_known_of_speech_stays_true(probabilities, padding, min_silence, min_speech):
    rule = SpeechRule(padding=padding, min_silence=min_silence, min_speech=min_speech)
    total = len(probabilities) * WINDOW

    def judged(upto):
        hysteresis = Hysteresis(rule)
        given_out = [s for p in probabilities[:upto] for s in hysteresis.push(p)]
        return hysteresis, given_out

    hysteresis, final = judged(len(probabilities))
    final += hysteresis.finish(total)
    mask = np.zeros(total + 1, bool)
    for start, end in final:
        mask[start:end] = True
    last = 0
    for upto in range(len(probabilities) + 1):
        hysteresis, sure = judged(upto)
        more, until = hysteresis.known()
        early = np.zeros(total + 1, bool)
        for start, end in [*sure, *more]:
            early[start:end] = True
        np.testing.assert_array_equal(early[:until], mask[:until])
        assert until >= last, "what was known was forgotten"
        last = until
        lag = upto * WINDOW - until
        # After a fall, windows between the two thresholds decide nothing, as silero-vad has it.
        hovering = sum(rule.leave <= p < rule.enter for p in probabilities[:upto])
        settling = (rule.min_speech + rule.min_silence + 2 * rule.padding) * RATE
        assert lag <= settling + (2 + hovering) * WINDOW


# --- windows


@settings(max_examples=25)
@given(
    st.integers(0, 2 * RATE), st.sampled_from([0.3, 0.5, 1.0]), st.sampled_from([0.1, 0.25, 0.5]),
    st.lists(st.integers(0, 2 * RATE), max_size=4),
)  # fmt: skip
def test_windows_cover_the_recording_whatever_the_chunks(n, window, hop, cuts):
    hop = min(hop, window)
    signal = np.arange(n, dtype=np.float32) / (3 * RATE)
    listener = Listener(window, hop)
    found = [p for part in np.split(signal, sorted(c for c in cuts if c < n)) for p in listener.push(part)]
    listener.meter.finish()
    found += listener.end()
    assert bool(found) == bool(n)
    size = round(window * RATE)
    for piece in found:
        start, end = round(piece.start * RATE), round(piece.end * RATE)
        np.testing.assert_array_equal(piece.waveform, signal[start:end])
        assert len(piece.waveform) == min(size, n)
    if not found:
        return
    assert found[0].start == 0
    assert round(found[-1].end * RATE) == n
    for before, after in pairwise(found):
        assert 0 < round((after.start - before.start) * RATE) <= round(hop * RATE)


def test_results_do_not_depend_on_the_chunks():
    signal = np.concatenate([voice(5, 0), np.zeros(2 * RATE, np.float32), voice(3.3, 1)])
    whole = run_stream(signal)
    assert len(whole.windows) > 2
    rng = np.random.default_rng(0)
    for cuts in (range(0, len(signal), 4001), rng.integers(0, len(signal), 7).tolist()):
        assert run_stream(signal, cuts) == whole


def test_windows_without_speech_are_left_out_and_batches_are_full():
    signal = np.concatenate([voice(8), np.zeros(8 * RATE, np.float32), voice(8)])
    detector = Counting()
    analyser = RecordingAnalyser(detector, AnalysisSettings(batch=3))
    analyser.push(signal)
    found = analyser.finish(info_of(signal))
    assert all(w.speech >= 0.5 for w in found.windows)
    assert not any(w.start > 8.5 and w.end < 15.5 for w in found.windows)
    assert [len(b) for b in detector.batches[:-1]] == [3] * (len(detector.batches) - 1)
    assert sum(map(len, detector.batches)) == len(found.windows)


def test_a_stream_can_be_watched_while_it_runs():
    analyser = RecordingAnalyser(small_detector(), AnalysisSettings(batch=1))
    scores = []
    for second in range(11):
        analyser.push(voice(11)[second * RATE : (second + 1) * RATE])
        scores.append(analyser.score)
        if analyser.windows:
            assert analyser.windows[-1].end >= analyser.seconds - 4.5 - 2.0
    assert scores[0] is None
    assert scores[-1] is not None
    assert analyser.seconds == 11
    final = analyser.finish(info_of(voice(11)))
    assert final.windows[: len(analyser.windows) - 1] == tuple(analyser.windows[:-1])
    assert final.sha256 is None


def test_memory_does_not_grow_with_length():
    chunk = voice(6)
    analyser = RecordingAnalyser(Counting())
    held = []
    tracemalloc.start()
    for _ in range(16):
        analyser.push(chunk)
        held.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    # What waits for its speech or its batch comes and goes; 36 s of audio would be 2.3 MB.
    assert max(held[10:]) - max(held[4:10]) < 500_000


# --- scores


@pytest.mark.parametrize("seconds", [0.9, 3.1, 4.0])
def test_one_window_scores_as_detect_does(tmp_path, seconds):
    path = save(tmp_path / "a.wav", voice(seconds, 1))
    found = analyse(path, small_detector())
    assert len(found.windows) == 1
    assert found.score == pytest.approx(small_detector().detect(path).score, rel=1e-6)
    assert found.n_bytes == path.stat().st_size


@needs_shared("corpus")
def test_one_window_scores_as_detect_does_on_real_files():
    for path in sorted((CORPUS / "bonafide_dev").glob("*.flac"))[:6]:
        found = analyse(path, small_detector())
        if found.score is not None:
            assert found.score == pytest.approx(small_detector().detect(path).score, rel=1e-6)


def test_the_score_is_the_mean_weighted_by_speech():
    windows = [Window(0, 4, 2.0, 3.0), Window(2, 6, -1.0, 1.0)]
    assert joined_score(windows) == pytest.approx(1.25)
    assert joined_score(windows[:1]) == 2.0
    assert joined_score([]) is None
    assert joined_score([w._replace(speech=0.0) for w in windows]) == pytest.approx(0.5)


def test_a_score_that_is_not_finite_is_an_error(tmp_path):
    class Broken(Counting):
        def score_waveforms(self, waveforms):
            return np.full(len(waveforms), np.nan)

    path = save(tmp_path / "odd.wav", voice(5))
    with pytest.raises(AudioError, match=r"odd\.wav: its score at 0\.00 s is not finite"):
        analyse(path, Broken())
    ((_, found),) = analyse_many([path], Broken())
    assert isinstance(found, AudioError)


# --- stretches

WINDOWS = st.lists(st.floats(-5, 5), min_size=1, max_size=12).map(
    lambda scores: [Window(2.0 * i, 2.0 * i + 4.0, s, 4.0) for i, s in enumerate(scores)]
)


@given(WINDOWS, st.floats(-3, 3))
def test_cells_are_means_of_the_windows_that_cover_them(windows, below):
    found = cells(windows)
    assert found[0].start == 0
    assert found[-1].end == windows[-1].end
    for cell in found:
        middle = (cell.start + cell.end) / 2
        assert cell.score == pytest.approx(np.mean([w.score for w in windows if w.start < middle < w.end]))
        assert any(s.start <= middle <= s.end for s in stretches(windows, below)) == (cell.score < below)


@given(WINDOWS, st.floats(-3, 3), st.sampled_from([0.0, 2.0, 4.0]))
def test_stretches_are_apart_by_more_than_the_gap(windows, below, gap):
    found = stretches(windows, below, gap)
    for before, after in pairwise(found):
        assert after.start - before.end > gap
    assert (
        sum(s.end - s.start for s in found)
        >= sum(c.end - c.start for c in cells(windows) if c.score < below) - 1e-9
    )


def test_a_spoofed_stretch_inside_a_clip_is_found(tmp_path):
    signal = voice(22, 0)
    signal[10 * RATE : 16 * RATE] = dulled(signal)[10 * RATE : 16 * RATE]
    path = save(tmp_path / "spliced.wav", signal)
    coarse = analyse(path, small_detector())
    (stretch,) = coarse.stretches
    assert abs(stretch.start - 10) <= 2
    assert abs(stretch.end - 16) <= 2
    assert coarse.score > 0 > stretch.score
    assert coarse.verdict == "inconclusive"
    assert [r.code for r in coarse.reasons if r.severity == "inconclusive"] == ["stretches"]

    fine = analyse(path, small_detector(), AnalysisSettings(fine_window=1.0, fine_hop=0.25))
    assert (fine.score, fine.windows) == (coarse.score, coarse.windows)
    (closer,) = fine.stretches
    assert abs(closer.start - 10) <= 0.5
    assert abs(closer.end - 16) <= 0.5
    assert analyse(save(tmp_path / "clean.wav", voice(9, 0)), small_detector()).stretches == ()


def test_a_spoofed_recording_is_one_stretch(tmp_path):
    found = analyse(save(tmp_path / "s.wav", dulled(voice(9, 1))), small_detector())
    assert [(s.start, s.end) for s in found.stretches] == [(0, 9)]
    assert "stretches" not in {r.code for r in found.reasons}


# --- many recordings


def test_many_recordings_are_as_each_alone(tmp_path, monkeypatch):
    monkeypatch.setattr("voxfide.analysis.batch.LONG", 6.0)
    lengths = [0.8, 5.3, 3.0, 0.2, 9.0, 2.0, 1.1, 4.0, 3.3]
    paths = [save(tmp_path / f"{i}.wav", voice(s, i)) for i, s in enumerate(lengths)]
    paths.insert(3, tmp_path / "missing.wav")
    (tmp_path / "text.wav").write_text("no sound at all " * 50)
    paths.insert(6, tmp_path / "text.wav")
    together = list(analyse_many(paths, small_detector(), workers=0))
    assert [path for path, _ in together] == paths
    for path, found in together:
        if path.name in ("missing.wav", "text.wav"):
            assert isinstance(found, AudioError)
            continue
        assert_same(found, analyse(path, small_detector()))


def test_worker_processes_change_nothing(tmp_path):
    paths = [save(tmp_path / f"{i}.wav", voice(1.5 + i / 4, i)) for i in range(4)]
    there = dict(analyse_many(paths, small_detector(), workers=1))
    here = dict(analyse_many(paths, small_detector(), workers=0))
    assert there == here


def assert_same(found: Analysis, expected: Analysis) -> None:
    """Equal but for rounding in the scores."""
    assert [w._replace(score=0) for w in found.windows] == [w._replace(score=0) for w in expected.windows]
    scores = [w.score for w in expected.windows]
    np.testing.assert_allclose([w.score for w in found.windows], scores, atol=1e-5, rtol=0)
    assert replace(found, score=None, windows=(), stretches=()) == replace(
        expected, score=None, windows=(), stretches=()
    )
    assert len(found.stretches) == len(expected.stretches)
    for ours, theirs in zip(found.stretches, expected.stretches, strict=True):
        assert ours == pytest.approx(theirs, abs=1e-5)


# --- form


def test_json_is_plain_and_whole(tmp_path):
    detector = calibrated(small_detector(), prior=0.3)
    path = save(tmp_path / "a.wav", voice(9))
    found = analyse(path, detector, facts=facts_of(detector, str(tmp_path)))
    values = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert values["llr"] == values["score"] == found.score
    assert values["prior"] == 0.3
    assert values["probability_bonafide"] == pytest.approx(1 / (1 + np.exp(-found.score) * 0.7 / 0.3))
    assert len(values["windows"]) == len(found.windows)
    assert values["detector"]["name"] == tmp_path.name
    assert values["detector"]["calibrated_on"] == {"manifest": "none.csv"}
    assert len(values["sha256"]) == 64
    plain = analyse(path, small_detector()).to_json()
    assert plain["llr"] is plain["probability_bonafide"] is plain["prior"] is None
    assert plain.keys() == values.keys()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"window": 0.0}, "window"),
        ({"window": 2.0, "hop": 3.0}, "hop"),
        ({"min_speech": 5.0}, "speech"),
        ({"batch": 0}, "batch"),
        ({"fine_hop": 0.5}, "second pass"),
        ({"fine_window": 1.0, "fine_hop": 2.0}, "fine window"),
        ({"window": float("nan")}, "window"),
    ],
)
def test_settings_that_cannot_be(options, said):
    with pytest.raises(UsageError, match=said):
        AnalysisSettings(**options)


def test_overlap_with_segments():
    segments = [Segment(0, 1), Segment(2, 3), Segment(5, 9)]
    assert overlap(segments, 0.5, 6) == pytest.approx(0.5 + 1 + 1)
    assert overlap(segments, 3, 5) == 0
