"""The domain of a detector: distances, their quantiles, reasons, and the file in the detector's folder."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import soundfile as sf

from command_line import run_here
from conftest import CORPUS, needs_shared
from voices import RATE, dulled, small_detector, voice
from voxfide.analysis.recording import analyse
from voxfide.audio import load_audio
from voxfide.detector import Detector
from voxfide.domain import FAR, FILE_NAME, DomainMeter, DomainModel, domain_features, features_of
from voxfide.errors import AudioTooShortError, CheckpointError, UsageError
from voxfide.manifest import Manifest

PIECES = [voice(6.0, seed)[i : i + 2 * RATE] for seed in range(3) for i in range(0, 4 * RATE, RATE // 5)]


@pytest.fixture(scope="module")
def model() -> DomainModel:
    return DomainModel.fit([features_of(piece) for piece in PIECES], fitted_to={"manifest": "voices"})


def test_features_do_not_know_the_gain_nor_silence_around():
    signal = voice(3.0)
    plain = domain_features(signal)
    np.testing.assert_allclose(domain_features(0.1 * signal), plain, atol=2e-3)
    padded = np.concatenate([np.zeros(RATE, np.float32), signal, np.zeros(RATE, np.float32)])
    np.testing.assert_allclose(domain_features(padded), plain, atol=0.05)
    assert np.abs(domain_features(dulled(signal)) - plain).max() > 0.5


@pytest.mark.parametrize(("seconds", "n"), [(0.5, 1), (4.0, 1), (5.9, 1), (6.1, 2), (12.0, 3)])
def test_long_recordings_are_taken_in_windows(seconds, n):
    found = features_of(voice(seconds))
    assert found.shape == (n, 39)
    if n == 1:
        np.testing.assert_array_equal(found[0], domain_features(voice(seconds)))


def test_too_short_to_be_known():
    with pytest.raises(AudioTooShortError):
        domain_features(np.zeros(100, np.float32))


def test_distance_is_mahalanobis_and_read_by_quantiles(model):
    rng = np.random.default_rng(0)
    mixing = np.eye(39) + 0.1 * rng.standard_normal((39, 39))
    sample = rng.standard_normal((4000, 39)) @ mixing + 5
    fitted = DomainModel.fit(list(sample))
    others = rng.standard_normal((2000, 39)) @ mixing + 5
    distances = np.array([fitted.distance(x) for x in others])
    assert np.median(distances) == pytest.approx(1, abs=0.1)
    for percent in (10, 50, 90):
        assert np.mean([fitted.percent(d) <= percent for d in distances]) == pytest.approx(
            percent / 100, abs=0.04
        )
    exact = np.sqrt(np.einsum("nd,de,ne->n", others - 5, np.linalg.inv(mixing.T @ mixing), others - 5) / 39)
    assert np.corrcoef(distances, exact)[0, 1] > 0.99
    assert fitted.percent(0.0) == 0
    assert fitted.percent(1e9) == 100


def test_groups_are_left_out_together():
    rng = np.random.default_rng(1)
    speakers = np.repeat(np.arange(12), 10)
    centres = 4 * rng.standard_normal((12, 39))
    sample = list(centres[speakers] + 0.1 * rng.standard_normal((120, 39)))
    together = DomainModel.fit(sample, [str(s) for s in speakers])
    apart = DomainModel.fit(sample)
    assert together.quantiles[50] > 1.3 * apart.quantiles[50], "a speaker was measured against itself"
    assert together.centre.tolist() == apart.centre.tolist()


def test_reasons_by_limits(model):
    reduced, far = model.limits
    assert far == pytest.approx(FAR * reduced)
    assert model.reason(reduced) is None
    near = model.reason(1.01 * reduced)
    assert (near.code, near.severity, near.limit) == ("unfamiliar", "reduced", reduced)
    assert "99 %" in near.sentence
    assert model.reason(1.01 * far).severity == "inconclusive"


def test_familiar_and_foreign_recordings(model, tmp_path):
    detector = replace(small_detector(), domain=model)
    found = {}
    for name, signal in {"own": voice(4.0, 1), "dull": dulled(voice(4.0, 1))}.items():
        sf.write(tmp_path / f"{name}.wav", signal, RATE)
        found[name] = {r.code for r in analyse(tmp_path / f"{name}.wav", detector).reasons}
    assert "unfamiliar" not in found["own"]
    assert "unfamiliar" in found["dull"]


def test_a_meter_weighs_windows_by_their_speech(model):
    meter = DomainMeter(model)
    assert meter.distance is None
    assert meter.reason() is None
    meter.add(voice(2.0), 3.0)
    meter.add(dulled(voice(2.0)), 1.0)
    near, far = (model.distance(domain_features(s)) for s in (voice(2.0), dulled(voice(2.0))))
    assert meter.distance == pytest.approx((3 * near + far) / 4)
    empty = DomainMeter(None)
    empty.add(voice(2.0), 1.0)
    assert empty.distance is None


@pytest.mark.parametrize(
    ("recordings", "groups", "said"),
    [([np.zeros(39)] * 49, None, "too few"), ([np.zeros(39)] * 50, ["a"], "1 groups for 50")],
)
def test_what_cannot_be_fitted(recordings, groups, said):
    with pytest.raises(UsageError, match=said):
        DomainModel.fit(recordings, groups)


# --- files


def test_it_travels_with_the_detector(model, tmp_path):
    detector = small_detector()
    folder = replace(detector, domain=model).save(tmp_path / "D")
    again = Detector.load(folder)
    assert again.domain.fitted_to == {"manifest": "voices"}
    for name in ("centre", "scale", "precision", "quantiles"):
        np.testing.assert_array_equal(getattr(again.domain, name), getattr(model, name))
    assert again.fingerprint() == detector.fingerprint()
    assert Detector.load(again.save(tmp_path / "E")).domain is not None
    detector.save(folder)
    assert not (folder / FILE_NAME).exists(), "another detector's domain was left there"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format": 7}, "format 7"),
        ({"centre": [0.0]}, "shapes"),
        ({"scale": [0.0] * 39}, "not above 0"),
        ({"quantiles": list(range(101, 0, -1))}, "out of order"),
        ({"precision": None}, "malformed"),
        ({"fitted_to": 3}, "malformed"),
    ],
)
def test_damaged_files_are_told(model, tmp_path, change, said):
    path = tmp_path / FILE_NAME
    path.write_text(json.dumps(json.loads(model.to_text()) | change))
    with pytest.raises(CheckpointError, match=said):
        DomainModel.read(path)


@needs_shared("corpus")
def test_the_command_on_real_speech(tmp_path, monkeypatch, capsys):
    folder = small_detector().save(tmp_path / "D")
    full = Manifest.read(CORPUS / "manifest.csv")
    part = tmp_path / "m.csv"
    chosen = [row for row in range(len(full)) if full.strings("split")[row] == "train"][::6]
    lines = ["utterance_id,path,label,speaker"]
    for row in chosen:
        path, speaker = full.audio_paths()[row], full.strings("speaker")[row]
        lines.append(f"u{row},{path},bonafide,{speaker}")
    lines.append(f"gone,{tmp_path / 'gone.wav'},bonafide,x")
    part.write_text("\n".join(lines) + "\n")
    assert run_here(monkeypatch, "domain", folder, part, "--groups", "speaker", "--workers", "0") == 1
    shown = capsys.readouterr()
    assert f"{len(chosen)} recordings" in shown.out
    assert "gone.wav" in shown.err
    found = Detector.load(folder).domain
    clips = [load_audio(p).waveform for p in sorted((CORPUS / "bonafide_dev").glob("*.flac"))[:20]]
    reduced = found.limits[0]
    assert np.mean([found.distance(features_of(c)) > reduced for c in clips]) <= 0.1
    assert np.mean([found.distance(features_of(dulled(c))) > reduced for c in clips]) >= 0.9
    assert run_here(monkeypatch, "domain", tmp_path, part) == 2
    assert "no detector there" in capsys.readouterr().err
    assert run_here(monkeypatch, "domain", folder, part, "--groups", "nobody") == 2
    assert "no column nobody" in capsys.readouterr().err
