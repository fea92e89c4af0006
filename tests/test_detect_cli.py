"""``voxfide detect`` and ``voxfide detectors`` as users call them: kinds of files, outputs, exit codes."""

from __future__ import annotations

import io
import json
import os
import sys

import numpy as np
import pytest
import soundfile as sf

from audio_fixtures import write, write_ffmpeg
from command_line import run_here
from test_domain import PIECES
from voices import RATE, calibrated, dulled, small_detector, voice
from voxfide.cli.inputs import recordings
from voxfide.cli.reading import clock
from voxfide.detectors import bundled_folder, load_detector
from voxfide.domain import DomainModel, features_of
from voxfide.errors import CheckpointError, UsageError


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A calibrated detector that knows its domain."""
    made = calibrated(small_detector())
    made.domain = DomainModel.fit([features_of(piece) for piece in PIECES])
    return made.save(tmp_path_factory.mktemp("detectors") / "D")


@pytest.fixture
def detect(folder, monkeypatch, capsys):
    """Runs the command: exit code, what it printed, what it said on stderr."""

    def run(*arguments, detector=folder):
        code = run_here(monkeypatch, "detect", *arguments, "--detector", detector)
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return run


def save(path, signal, rate=RATE):
    sf.write(path, signal, rate, subtype="FLOAT")  # rounding would be noise that the voices never had
    return path


def codes(line):
    return {reason["code"]: reason["severity"] for reason in json.loads(line)["reasons"]}


# --- recordings as people have them


@pytest.mark.parametrize("kind", ["mp3", "m4a", "webm", "mp4", "opus", "wav-mulaw"])
def test_every_kind_of_file_gets_an_answer(detect, tmp_path, kind):
    signal = np.repeat(voice(5.0), 3)[:, None]  # 48 kHz
    if kind == "mp4":
        content = write_ffmpeg(signal, 3 * RATE, "mp4", "aac", video=True)
    else:
        content = write(kind, signal, 3 * RATE)
    path = tmp_path / f"memo.{kind}"
    path.write_bytes(content)
    code, out, _ = detect(path, "--json")
    found = json.loads(out)
    assert code == 0
    assert found["conditions"]["speech_seconds"] > 4
    assert found["duration"] == pytest.approx(5.0, abs=0.15)
    assert np.isfinite(found["score"])
    assert found["info"]["sample_rate"] == 3 * RATE


def test_silence_and_clicks_and_music_are_inconclusive_in_words(detect, tmp_path):
    click = np.zeros(round(0.3 * RATE))
    click[2000:2010] = 0.5
    time = np.arange(8 * RATE) / RATE
    notes = 220 * 2 ** (np.floor(2 * time) % 12 / 12)
    music = sum(0.1 * np.exp(-4 * (time % 0.5)) * np.sin(2 * np.pi * k * notes * time) / k for k in (1, 2, 3))
    for name, signal in {"silent": np.zeros(3 * RATE), "click": click, "music": music}.items():
        code, out, _ = detect(save(tmp_path / f"{name}.wav", signal), "--json")
        found = json.loads(out)
        assert (code, found["verdict"], found["score"], found["llr"]) == (0, "inconclusive", None, None)
        assert codes(out)["little-speech"] == "inconclusive"
        assert found["probability_bonafide"] is None
        _, text, _ = detect(tmp_path / f"{name}.wav")
        assert "inconclusive" in text
        assert "no verdict: Only 0 s of speech were found" in text


def test_what_is_no_audio_is_an_error_in_a_line(detect, tmp_path):
    (tmp_path / "paper.wav").write_bytes(b"%PDF-1.7\n" + b"0 obj <<>>\n" * 100)
    (tmp_path / "empty.wav").write_bytes(b"")
    good = save(tmp_path / "good.wav", voice(2.0))
    code, out, err = detect(
        tmp_path / "paper.wav", tmp_path / "empty.wav", good, tmp_path / "none.wav", "--json"
    )
    lines = [json.loads(line) for line in out.splitlines()]
    assert code == 1
    assert "a PDF document" in lines[0]["error"]
    assert "holds no bytes" in lines[1]["error"]
    assert lines[2]["path"] == str(good)
    assert set(lines[3]) == {"path", "error"}
    assert "3 file(s) could not be analysed" in err
    assert "Traceback" not in err


def test_a_file_that_breaks_off_is_judged_as_far_as_it_goes(detect, tmp_path):
    content = write("wav-s16", voice(9.0)[:, None], RATE)
    path = tmp_path / "cut.wav"
    path.write_bytes(content[: len(content) // 2])
    code, out, _ = detect(path, "--json")
    assert code == 0
    assert codes(out)["broken-off"] == "reduced"
    assert json.loads(out)["duration"] == pytest.approx(4.5, abs=0.01)
    assert "The file breaks off" in detect(path)[1]


def test_unfamiliar_sound_is_told(detect, tmp_path):
    path = save(tmp_path / "dull.wav", dulled(voice(4.0)))
    assert "unfamiliar" in codes(detect(path, "--json")[1])
    assert "unlike the audio that the detector was trained on" in detect(path)[1]


# --- what is said and written


def test_the_text_tells_sign_limits_probability_and_trust(detect, tmp_path):
    signal = voice(22.0)
    signal[10 * RATE : 16 * RATE] = dulled(signal)[10 * RATE : 16 * RATE]
    path = save(tmp_path / "spliced.wav", signal)
    code, text, _ = detect(path, "--prior", 0.9)
    assert code == 0
    assert text.startswith(f"{path}: inconclusive\n")
    assert "+ speaks for bona fide" in text
    assert "at prior 0.9" in text
    assert "no verdict: As a whole it scores as bona fide, but a stretch" in text
    assert "marked as spoofed: 0:10.00 to 0:16.00" in text

    out = tmp_path / "labels.txt"
    assert detect(path, "--segments", out, "--json")[0] == 0
    start, end, label = out.read_text().rstrip("\n").split("\t")
    assert (float(start), float(end), label[:5]) == (10, 16, "spoof")


def test_verdicts_as_exit_codes_for_scripts(detect, tmp_path):
    fake, real = save(tmp_path / "fake.wav", dulled(voice(5))), save(tmp_path / "real.wav", voice(5))
    plain = ("--threshold", "0", "--detector", small_detector().save(tmp_path / "D"))
    options = (*plain, "--fail-on", "spoof")
    # The band of the dulled voice is too narrow for a verdict.
    assert detect(fake, real, "--json", *options)[0] == 0
    assert detect(fake, real, "--json", *options, "--fail-on", "inconclusive")[0] == 3
    assert detect(real, *options)[0] == 0
    assert detect(real, tmp_path / "none.wav", *options)[0] == 1
    assert detect(real, "--threshold", "1e6", "--fail-on", "spoof")[0] == 3


def test_costs_and_threshold_decide(detect, tmp_path):
    path = save(tmp_path / "a.wav", voice(5))
    score = json.loads(detect(path, "--json")[1])["score"]
    assert score > 5
    for options, verdict in (
        (("--threshold", score - 4), "bonafide"),
        (("--threshold", score + 4), "spoof"),
        (("--cost-fa", np.exp(score + 1)), "inconclusive"),
        (("--cost-fa", np.exp(score + 1), "--cost-inconclusive", "1e6"), "spoof"),
    ):
        found = json.loads(detect(path, "--json", *options)[1])
        assert (found["verdict"], found["score"]) == (verdict, score)


def test_a_summary_of_many(detect, tmp_path):
    for i in range(3):
        save(tmp_path / f"{i}.wav", voice(2.0, i))
    code, out, _ = detect(tmp_path, "--summary")
    assert code == 0
    assert out.startswith("3 recordings: ")
    assert [line.split()[0] for line in out.splitlines()[3:]] == [
        str(tmp_path / f"{i}.wav") for i in range(3)
    ]
    table = tmp_path / "all.csv"
    assert detect(tmp_path, "--summary", "--segments", table)[0] == 0
    assert table.read_text().splitlines()[0] == "path,kind,start,end,score,speech"


def test_why_is_asked_and_answered(detect, tmp_path):
    path = save(tmp_path / "a.wav", voice(3.0))
    assert json.loads(detect(path, "--json")[1])["why"] is None
    why = json.loads(detect(path, "--json", "--why")[1])["why"]
    assert len(why["bands"]) > 1
    assert "why: " in detect(path, "--why")[1]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--fail-on", "fake"), "expected spoof or inconclusive"),
        (("--json", "--summary"), "expected one of them"),
        (("--segments-format", "csv"), "needs --segments"),
        (("--segments", "x.doc"), "no format of segments"),
        (("--window", "2", "--hop", "3"), "expected 0 < hop <= window"),
        (("--report", "x.doc"), "expected a name in .html or .pdf"),
        (("--threshold", "0", "--cost-fa", "2"), "beside --threshold"),
        (("--prior", "2"), "between 0 and 1"),
    ],
)
def test_calls_that_cannot_work_are_refused_before_any_work(detect, tmp_path, arguments, said):
    code, out, err = detect(tmp_path / "none.wav", *arguments)
    assert (code, out) == (2, "")
    assert said in err


@pytest.mark.parametrize("option", [("--report", "one.html"), ("--segments", "one.txt")])
def test_one_file_for_several_recordings_is_refused(detect, tmp_path, option):
    code, _, err = detect(tmp_path / "a.wav", tmp_path / "b.wav", *option)
    assert code == 2
    assert "2" in err
    assert list(tmp_path.iterdir()) == []


# --- which recordings


def test_folders_patterns_and_lists(tmp_path, monkeypatch):
    for name in ("b.WAV", "a.m4a", "notes.txt", "sub/c.webm", ".hidden.wav"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"")
    names = lambda found: [os.path.relpath(p, tmp_path) for p in found]  # noqa: E731
    assert names(recordings([str(tmp_path)])) == ["a.m4a", "b.WAV", "sub/c.webm"]
    assert names(recordings([str(tmp_path / "*.m4a"), str(tmp_path / "a.m4a")])) == ["a.m4a"]
    assert names(recordings([str(tmp_path / "**" / "*.webm")])) == ["sub/c.webm"]
    assert recordings(["no/such.wav"]) == ["no/such.wav"]
    monkeypatch.setattr(sys, "stdin", io.StringIO("one.wav\n\ntwo words.mp3\n"))
    assert recordings(["-", "one.wav"]) == ["one.wav", "two words.mp3"]
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    for argument, said in (
        ("-", "empty"),
        (str(tmp_path / "*.flac"), "no file matches"),
    ):
        with pytest.raises(UsageError, match=said):
            recordings([argument])
    (tmp_path / "none").mkdir()
    with pytest.raises(UsageError, match="no audio or video"):
        recordings([str(tmp_path / "none")])


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00.00"), (59.999, "1:00.00"), (3725.5, "1:02:05.50")])
def test_times_are_told_as_on_a_clock(seconds, text):
    assert clock(seconds) == text


# --- voxfide detectors


def test_detectors_are_found_and_described(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "nothing"))
    small_detector().save(tmp_path / "here")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.json").write_text('{"library": "voxfide", ')
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.json").write_text('{"architectures": ["BertModel"]}')
    monkeypatch.setenv("VOXFIDE_DETECTORS", str(folder.parent))
    assert run_here(monkeypatch, "detectors", "--json") == 0
    found = {one["name"]: one for one in json.loads(capsys.readouterr().out)}
    assert set(found) - {"bundled"} == {str(folder), "here", "broken"}
    assert found["here"]["made_of"] == "lfcc + logistic"
    assert found["here"]["n_bytes"] == sum(p.stat().st_size for p in (tmp_path / "here").iterdir())
    assert (found["here"]["calibrated_on"], found["here"]["domain"]) == (None, False)
    assert (found[str(folder)]["calibrated_on"], found[str(folder)]["domain"]) == (
        {"manifest": "none.csv"},
        True,
    )
    assert "not readable" in found["broken"]["problem"]
    assert run_here(monkeypatch, "detectors") == 0
    text = capsys.readouterr().out
    assert "lfcc + logistic" in text
    assert "broken: cannot be used" in text


def test_the_bundled_detector_or_a_plain_word_that_there_is_none(detect, tmp_path, monkeypatch):
    monkeypatch.setattr("voxfide.detectors.bundled_folder", lambda: None)
    with pytest.raises(CheckpointError, match="came without a detector"):
        load_detector("bundled")
    code, _, err = detect(tmp_path / "a.wav", detector="bundled")
    assert code == 2
    assert "give --detector FOLDER" in err
    monkeypatch.undo()
    if bundled_folder() is not None:
        assert load_detector("bundled").score_waveforms([voice(3.0)]).shape == (1,)


def test_it_is_loaded_by_its_name(folder, monkeypatch):
    monkeypatch.setattr("voxfide.detectors.bundled_folder", lambda: folder)
    assert load_detector("bundled").fingerprint() == load_detector(folder).fingerprint()
