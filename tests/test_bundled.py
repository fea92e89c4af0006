"""The detector inside the package: that it is there, small, whole, and as good as its documentation says."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from command_line import run_here
from conftest import CORPUS, needs_shared
from voxfide.analysis.recording import analyse
from voxfide.analysis.settings import AnalysisSettings
from voxfide.audio import load_audio
from voxfide.corpora.selftest.generate import synthesise_utterance
from voxfide.corpora.selftest.speaker import Speaker
from voxfide.detectors import bundled_folder, load_detector
from voxfide.manifest import Manifest
from voxfide.metrics import eer
from voxfide.types import BONAFIDE, SAMPLE_RATE

needs_corpus = needs_shared("corpus")


@pytest.fixture(scope="module")
def detector():
    return load_detector("bundled")


def voice(seconds: float, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return synthesise_utterance(Speaker.draw("s", rng), rng, seconds)


def split(name: str) -> tuple[list[np.ndarray], np.ndarray, list[str]]:
    part = Manifest.read(CORPUS / "manifest.csv").split(name)
    waveforms = [load_audio(path).waveform for path in part.audio_paths()]
    return waveforms, part.strings("label") == BONAFIDE, part.column("system")


def test_it_is_small_and_names_no_place_of_the_machine_that_made_it():
    folder = bundled_folder()
    assert folder is not None
    files = [p for p in folder.iterdir() if p.is_file()]
    assert sum(p.stat().st_size for p in files) < 12e6
    for path in files:
        if path.suffix != ".safetensors":
            assert not re.search(r'["`(]/\w', path.read_text(encoding="utf-8")), path.name


def test_it_is_calibrated_and_knows_its_domain(detector):
    assert detector.calibration is not None
    assert detector.domain is not None
    assert detector.score_kind == "natural-log likelihood ratio"


def test_level_and_batch_do_not_matter(detector):
    waveforms = [voice(2.0, seed) for seed in range(3)]
    scores = detector.score_waveforms(waveforms)
    assert np.array_equal(scores[1:2], detector.score_waveforms(waveforms[1:2]))
    assert np.allclose(detector.score_waveforms([0.05 * w for w in waveforms]), scores, atol=0.02)


def test_detect_needs_no_more_than_a_file(tmp_path: Path, monkeypatch, capsys):
    path = tmp_path / "voice.wav"
    sf.write(path, voice(6.0), SAMPLE_RATE)
    assert run_here(monkeypatch, "detect", path, "--json", "--min-speech", "0") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["detector"]["name"] == "bundled"
    assert found["verdict"] in ("bonafide", "spoof", "inconclusive")
    assert 0 < found["probability_bonafide"] < 1


@needs_corpus
@pytest.mark.parametrize(("name", "documented"), [("dev", 7.3), ("eval", 36.0)])
def test_error_rates_are_those_that_are_documented(detector, name, documented):
    waveforms, is_bonafide, _ = split(name)
    found = 100 * eer(detector.score_waveforms(waveforms), is_bonafide).value
    assert found == pytest.approx(documented, abs=1.5)


@needs_corpus
def test_a_spoofed_stretch_within_genuine_speech_is_found(detector, tmp_path):
    waveforms, is_bonafide, systems = split("dev")
    sources = Manifest.read(CORPUS / "manifest.csv").split("dev").column("source_repo")
    genuine = [w for w, b, s in zip(waveforms, is_bonafide, sources, strict=True) if b and "Resemblyzer" in s]
    spoofed = [w for w, s in zip(waveforms, systems, strict=True) if s == "griffinlim_mel80"]
    parts = [np.concatenate(genuine[:5]), np.concatenate(spoofed[:4]), np.concatenate(genuine[5:10])]
    start = len(parts[0]) / SAMPLE_RATE
    end = start + len(parts[1]) / SAMPLE_RATE
    sf.write(tmp_path / "splice.flac", np.concatenate(parts), SAMPLE_RATE)
    found = analyse(tmp_path / "splice.flac", detector, AnalysisSettings(window=3.0, hop=0.5))
    assert len(found.stretches) >= 1
    inside = sum(max(0.0, min(s.end, end) - max(s.start, start)) for s in found.stretches)
    assert inside > 0.5 * (end - start)
    assert inside > 0.7 * sum(s.end - s.start for s in found.stretches)
