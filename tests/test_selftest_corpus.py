"""The self-test corpus: layout, repeatability, and no class told by anything trivial."""

from __future__ import annotations

import csv
import hashlib
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from voxfide.corpora.selftest import (
    ATTACKS,
    SPLIT_ATTACKS,
    Speaker,
    generate_selftest,
    synthesise_utterance,
)
from voxfide.corpora.selftest.generate import COLUMNS, plan, render
from voxfide.corpora.selftest.glottis import lf_pulse
from voxfide.corpora.selftest.speaker import generator
from voxfide.corpora.selftest.vocal_tract import resonate
from voxfide.errors import UsageError
from voxfide.resynthesis import ROUTES
from voxfide.resynthesis.pitch import track_pitch
from voxfide.types import SAMPLE_RATE

SIZE = {"n_train": 8, "n_dev": 6, "n_eval": 10}
Signal = NDArray[np.floating]


def read_manifest(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def digests(root: Path) -> dict[str, str]:
    files = sorted(p for p in root.rglob("*") if p.is_file())
    return {p.relative_to(root).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("selftest")
    generate_selftest(root, **SIZE, workers=1)
    return root


def test_layout(corpus: Path) -> None:
    rows = read_manifest(corpus / "manifest.csv")
    assert tuple(rows[0]) == COLUMNS
    assert len(rows) == 24
    assert len({r["utterance_id"] for r in rows}) == 24
    assert {p for p in digests(corpus) if p.endswith(".flac")} == {r["path"] for r in rows}
    for row in rows:
        info = sf.info(corpus / row["path"])
        assert (info.samplerate, info.channels, info.subtype) == (SAMPLE_RATE, 1, "PCM_16")
        assert info.duration == pytest.approx(float(row["duration"]), abs=1e-4)
        assert (row["label"] == "bonafide") == (row["attack"] == "-") == (row["system"] == "-")
        if row["attack"] != "-":
            assert row["system"] == ATTACKS[row["attack"]]
            assert row["attack"] in SPLIT_ATTACKS[row["split"]]
        assert row["language"] == "zxx"


def test_same_bits_in_processes_as_in_one(corpus: Path, tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    generate_selftest(tmp_path, **SIZE, workers=2, progress=lambda done, total: calls.append((done, total)))
    assert digests(tmp_path) == digests(corpus)
    assert calls == [(i, 24) for i in range(1, 25)]


def test_another_seed_gives_other_audio() -> None:
    first, second = (next(iter(plan("train", 1, seed))) for seed in (0, 1))
    assert first.utterance_id == second.utterance_id
    a, b = render(first, 0), render(second, 1)
    assert len(a) != len(b) or not np.array_equal(a, b)


def test_resumes_and_grows_without_touching_what_is_there(corpus: Path, tmp_path: Path) -> None:
    small = {"n_train": 4, "n_dev": 2, "n_eval": 2}
    generate_selftest(tmp_path, **small, workers=1)
    files = sorted(tmp_path.rglob("*.flac"))
    kept, lost, broken = files[0], files[1], files[2]
    lost.unlink()
    broken.write_bytes(broken.read_bytes()[:40])
    before = kept.stat().st_mtime_ns
    generate_selftest(tmp_path, **SIZE, workers=1)
    assert kept.stat().st_mtime_ns == before
    assert digests(tmp_path) == digests(corpus)


def test_refuses_a_folder_of_another_seed(corpus: Path) -> None:
    before = digests(corpus)
    with pytest.raises(UsageError, match="expected"):
        generate_selftest(corpus, **SIZE, seed=1, workers=1)
    assert digests(corpus) == before


def test_an_interrupt_leaves_finished_files_and_no_manifest(tmp_path: Path) -> None:
    def stop(done: int, _: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate_selftest(tmp_path, n_train=6, n_dev=0, n_eval=0, workers=1, progress=stop)
    assert len(list(tmp_path.rglob("*.flac"))) == 3
    assert not (tmp_path / "manifest.csv").exists()
    assert not list(tmp_path.rglob("*.tmp"))


@pytest.mark.parametrize("options", [{"n_train": -1}, {"seed": -1}, {"workers": 0}])
def test_unusable_options(options: dict[str, int], tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        generate_selftest(tmp_path / "new", **options)
    assert not (tmp_path / "new").exists()


def test_splits_share_no_speaker_and_eval_has_unseen_attacks() -> None:
    utterances = [u for split, n in (("train", 240), ("dev", 120), ("eval", 200)) for u in plan(split, n, 0)]
    speakers, attacks, labels = defaultdict(set), defaultdict(set), defaultdict(list)
    for u in utterances:
        speakers[u.split].add(u.speaker)
        attacks[u.split].add(u.attack)
        labels[u.split].append(u.attack == "-")
    assert not speakers["train"] & speakers["dev"]
    assert not speakers["train"] & speakers["eval"]
    assert not speakers["dev"] & speakers["eval"]
    assert len(attacks["eval"] - attacks["train"] - attacks["dev"]) >= 2
    assert (attacks["eval"] & attacks["train"]) - {"-"}
    assert all(np.mean(label) == 0.5 for label in labels.values())
    assert set(ATTACKS) == set().union(*SPLIT_ATTACKS.values())
    assert all(system in ROUTES for system in ATTACKS.values())


def test_a_speaker_is_a_function_of_name_and_seed() -> None:
    first, again, other = (Speaker.draw("s", generator(*key)) for key in ((0, "s"), (0, "s"), (0, "t")))
    assert first.f0_hz == again.f0_hz
    assert first.f0_hz != other.f0_hz


@pytest.mark.parametrize("duration", [0.2, 0.5, 1.7, 4.003])
def test_utterance_length_and_level(duration: float) -> None:
    speech = synthesise_utterance(Speaker.draw("s", generator(0, "s")), generator(0, "u"), duration)
    assert speech.dtype == np.float32
    assert len(speech) == round(duration * SAMPLE_RATE)
    assert np.isfinite(speech).all()
    assert np.sqrt(np.mean(speech.astype(float) ** 2)) == pytest.approx(0.05, rel=1e-3)


def test_utterances_sound_like_their_speakers() -> None:
    for i in range(4):
        speaker = Speaker.draw(f"s{i}", generator(0, f"s{i}"))
        track = track_pitch(synthesise_utterance(speaker, generator(0, f"u{i}"), 3.0), SAMPLE_RATE, 80)
        assert 0.2 < track.voiced.mean() < 0.9
        median = np.median(track.f0[track.voiced])
        assert abs(12 * np.log2(median / speaker.f0_hz)) < 4
        assert np.std(12 * np.log2(track.f0[track.voiced] / median)) > 0.5


@pytest.mark.parametrize("rd", [0.5, 1.0, 1.8, 2.7])
def test_glottal_pulse_closes(rd: float) -> None:
    """The flow returns to zero at the period's end, and its steepest fall is the closure."""
    pulse = lf_pulse(rd, 8192)
    flow = np.cumsum(pulse) / 8192
    assert abs(flow[-1]) < 0.01 * flow.max()
    assert flow.min() > -0.01 * flow.max()
    assert -pulse.min() > pulse.max()


def test_resonator_has_its_peak_and_width_where_asked() -> None:
    impulse = np.zeros(8192)
    impulse[0] = 1.0
    frames = np.full(200, 1.0)
    response = np.abs(np.fft.rfft(resonate(impulse, 1500.0 * frames, 90.0 * frames, SAMPLE_RATE)))
    frequency = np.fft.rfftfreq(8192, 1 / SAMPLE_RATE)
    assert response[0] == pytest.approx(1.0, rel=1e-6)
    assert frequency[response.argmax()] == pytest.approx(1500.0, abs=5)
    wide = frequency[response > response.max() / np.sqrt(2)]
    assert np.ptp(wide) == pytest.approx(90.0, abs=6)


def trivial_features(audio: Signal) -> list[float]:
    """Duration, level, peak, leading silence and spectral roll-off."""
    envelope = np.convolve(audio**2, np.full(160, 1 / 160), "same")
    power = np.cumsum(np.abs(np.fft.rfft(audio)) ** 2)
    return [
        float(len(audio)),
        float(np.log(np.mean(audio**2))),
        float(np.log(np.abs(audio).max())),
        float(np.argmax(envelope > 0.003 * envelope.max())),
        float(np.searchsorted(power / power[-1], 0.95) / len(power)),
    ]


def test_trivial_cues_do_not_tell_the_classes() -> None:
    """Cross-validated logistic regression on what must not matter stays near chance."""
    utterances = list(plan("train", 80, 0)) + list(plan("eval", 80, 0))
    features = np.array([trivial_features(render(u, 0) / 32768) for u in utterances])
    spoof = np.array([u.attack != "-" for u in utterances])
    model = make_pipeline(StandardScaler(), LogisticRegression())
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    scores = cross_val_predict(model, features, spoof, cv=folds, method="decision_function")
    assert abs(roc_auc_score(spoof, scores) - 0.5) < 0.12
