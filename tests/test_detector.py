"""Detectors: saving and loading, what damage does, streaming, and batch invariance."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch
from safetensors.torch import load_file, save_file

from checkpoints import write_checkpoint
from small_corpus import JUNK, clip, write_corpus
from voxfide.audio import load_audio
from voxfide.backends import create_backend
from voxfide.detector import Detector
from voxfide.errors import (
    AudioTooShortError,
    CheckpointError,
    NotAudioError,
    SilentAudioError,
    UsageError,
    VoxfideError,
)
from voxfide.extraction import Extractor
from voxfide.frontends import create_frontend
from voxfide.frontends.checkpoint import ModelSource
from voxfide.manifest import Manifest
from voxfide.training import choose_sets, train

REVISION = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return Manifest.read(write_corpus(tmp_path_factory.mktemp("corpus") / "c", 18))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """Of the kind whose first convolution has a GroupNorm over the utterance."""
    folder = tmp_path_factory.mktemp("checkpoint") / "wavlm"
    write_checkpoint(folder, "wavlm-base")
    return folder


def trained_on(corpus, frontend, folder, pool="mean", **options) -> Detector:
    return train(
        choose_sets(corpus, "train", "dev"),
        frontend,
        create_backend("logistic", **options),
        store=folder / "features",
        pool=pool,
        make_extractor=lambda: Extractor(frontend, pool, 0),
    ).detector


@pytest.fixture(scope="module")
def lfcc_detector(corpus, tmp_path_factory):
    return trained_on(corpus, create_frontend("lfcc"), tmp_path_factory.mktemp("lfcc"), "mean_std")


@pytest.fixture(scope="module")
def ssl_detector(corpus, checkpoint, tmp_path_factory):
    return trained_on(
        corpus, create_frontend(str(checkpoint), 2), tmp_path_factory.mktemp("ssl"), layer="all", C=0.1
    )


@pytest.fixture(params=["lfcc", "ssl"])
def detector(request):
    return request.getfixturevalue(f"{request.param}_detector")


@pytest.fixture(scope="module")
def waveforms(corpus):
    return [load_audio(path).waveform for path in corpus.split("eval").audio_paths()]


@pytest.fixture
def saved(lfcc_detector, tmp_path):
    """A detector folder to be damaged."""
    return lfcc_detector.save(tmp_path / "saved")


# Saving and loading


def test_a_saved_detector_scores_the_same_bit_for_bit(detector, waveforms, tmp_path):
    detector.save(tmp_path / "d")
    scores = detector.score_waveforms(waveforms)
    shutil.move(tmp_path / "d", tmp_path / "elsewhere")
    for loaded in (Detector.load(tmp_path / "elsewhere"), Detector.from_pretrained(tmp_path / "elsewhere")):
        assert np.array_equal(loaded.score_waveforms(waveforms), scores)
        assert loaded.threshold == detector.threshold
        assert loaded.training == detector.training
        assert loaded.fingerprint() == detector.fingerprint()
    # Saved again, everything but the folder's own place is the same.
    loaded.save(tmp_path / "again")
    assert json.loads((tmp_path / "again" / "config.json").read_text()) == json.loads(
        (tmp_path / "elsewhere" / "config.json").read_text()
    )


def test_save_pretrained_is_the_hub_librarys(detector, waveforms, tmp_path):
    detector.save_pretrained(tmp_path / "d")
    assert {p.name for p in (tmp_path / "d").iterdir()} == {"config.json", "model.safetensors", "README.md"}
    loaded = Detector.from_pretrained(str(tmp_path / "d"))
    assert np.array_equal(loaded.score_waveforms(waveforms), detector.score_waveforms(waveforms))


def test_nothing_in_the_folder_is_pickled_or_local(ssl_detector, checkpoint, tmp_path):
    ssl_detector.save(tmp_path / "d")
    for path in (tmp_path / "d").iterdir():
        content = path.read_bytes()
        assert not content.startswith((b"PK", b"\x80")), path  # zip and pickle
        assert str(checkpoint.parent).encode() not in content, path
    assert json.loads((tmp_path / "d" / "config.json").read_text())["frontend"]["name"] == "wavlm"


def test_the_configuration_says_what_the_detector_is(ssl_detector, tmp_path):
    ssl_detector.save(tmp_path / "d")
    config = json.loads((tmp_path / "d" / "config.json").read_text())
    assert config["library"] == "voxfide"
    assert config["frontend"]["n_layers"] == 2
    assert config["backend"] == {
        "name": "logistic",
        "config": ssl_detector.backend.config(),
        "weights_sha256": config["backend"]["weights_sha256"],
    }
    assert config["audio"]["sample_rate"] == 16000
    tensors = load_file(tmp_path / "d" / "model.safetensors")
    layers = {k.split(".")[4] for k in tensors if k.startswith("frontend.encoder.encoder.layers.")}
    assert layers == {"0", "1"}  # of four in the checkpoint


def test_front_end_weights_may_stay_on_the_hub(corpus, checkpoint, waveforms, tmp_path, monkeypatch):
    asked = []

    def locate(name, revision=None):
        asked.append((name, revision))
        return ModelSource(checkpoint, name, REVISION)

    monkeypatch.setattr("voxfide.frontends.checkpoint.locate", locate)
    monkeypatch.setattr("voxfide.frontends.ssl.locate", locate)
    frontend = create_frontend("somebody/some-model", 2, revision="v1")
    detector = trained_on(corpus, frontend, tmp_path)
    detector.save(tmp_path / "d", embed_frontend=False)
    assert set(load_file(tmp_path / "d" / "model.safetensors")) == {
        f"backend.{name}" for name in ("mean", "scale", "coefficients", "intercept")
    }
    asked.clear()
    loaded = Detector.load(tmp_path / "d")
    assert asked == [("somebody/some-model", REVISION)]  # the commit, not the tag, which may move
    assert np.array_equal(loaded.score_waveforms(waveforms), detector.score_waveforms(waveforms))
    assert "somebody/some-model" in (tmp_path / "d" / "README.md").read_text()
    # The same id with other weights behind it is refused.
    other = tmp_path / "other"
    shutil.copytree(checkpoint, other)
    tensors = load_file(other / "model.safetensors")
    name = next(n for n in sorted(tensors) if "layers.0" in n and n.endswith("weight"))
    save_file({**tensors, name: tensors[name] + 1e-3}, other / "model.safetensors", {"format": "pt"})
    monkeypatch.setattr("voxfide.frontends.ssl.locate", lambda *a: ModelSource(other, a[0], a[1]))
    with pytest.raises(CheckpointError, match="not those that the detector was trained with"):
        Detector.load(tmp_path / "d")


def test_local_weights_cannot_be_left_on_the_hub(ssl_detector, lfcc_detector, tmp_path):
    for detector in (ssl_detector, lfcc_detector):
        with pytest.raises(UsageError, match="did not come from the hub"):
            detector.save(tmp_path / "d", embed_frontend=False)
    assert not (tmp_path / "d").exists()


def test_the_model_card_tells_data_figures_and_limits(ssl_detector, corpus, tmp_path):
    card = (ssl_detector.save(tmp_path / "d") / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: voxfide\n")
    assert "| train | manifest.csv | train | 3 | 3 | 0 | `" in card
    assert "| dev | manifest.csv | dev | 3 | 3 | 0 | `" in card
    figures = ssl_detector.training["metrics"]["dev"]
    assert f"| dev | {figures['eer_percent']:.2f} | {figures['min_dcf']:.4f} |" in card
    for said in ("## Limits", "higher score means more bona fide", "first 2 layer(s)", "C = 0.1"):
        assert said in card


def test_a_card_survives_odd_names_and_missing_facts(lfcc_detector, tmp_path):
    facts = {
        "manifest": "a|b\n.csv",
        "split": None,
        "n_bonafide": 1,
        "n_spoof": 1,
        "n_failed": 0,
        "digest": "0" * 64,
    }
    odd = Detector(
        lfcc_detector.frontend, lfcc_detector.backend, "mean_std", training={"sets": {"train": facts}}
    )
    card = (odd.save(tmp_path / "d") / "README.md").read_text()
    assert r"| train | a\|b .csv | all | 1 | 1 | 0 |" in card
    assert "Not measured" in card
    bare = Detector(lfcc_detector.frontend, lfcc_detector.backend, "mean_std")
    assert "Not recorded" in (bare.save(tmp_path / "e") / "README.md").read_text()


# Damage


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_missing_and_junk_files_are_named(saved, name):
    (saved / name).write_bytes(b"\x00junk")
    with pytest.raises(CheckpointError, match=name):
        Detector.from_pretrained(saved)
    (saved / name).unlink()
    with pytest.raises(CheckpointError, match=name):
        Detector.from_pretrained(saved)


@pytest.mark.parametrize("prefix", ["backend.coefficients", "frontend.encoder"])
@pytest.mark.parametrize("damage", ["value", "shape", "missing"])
def test_tampered_weights_are_refused(ssl_detector, tmp_path, prefix, damage):
    path = ssl_detector.save(tmp_path / "d") / "model.safetensors"
    tensors = load_file(path)
    name = next(n for n in sorted(tensors) if n.startswith(prefix))
    changed = {
        "value": {name: tensors[name] + 1e-6 * tensors[name].abs().max()},
        "shape": {name: torch.cat([tensors[name], tensors[name]])},
        "missing": {},
    }[damage]
    save_file({**{k: t for k, t in tensors.items() if k != name}, **changed}, path, {"format": "pt"})
    with pytest.raises(CheckpointError, match="not those that the detector was trained with|do not fit"):
        Detector.load(tmp_path / "d")


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c.pop("frontend"),
        lambda c: c.pop("backend"),
        lambda c: c.pop("threshold"),
        lambda c: c.update(frontend=[]),
        lambda c: c.update(backend="logistic"),
        lambda c: c.update(threshold="high"),
        lambda c: c.update(threshold=float("nan")),
        lambda c: c.update(threshold=None),
        lambda c: c.update(training=3),
        lambda c: c.update(pool="max"),
        lambda c: c.update(pool=None),
        lambda c: c.update(format=99),
        lambda c: c.update(library="other"),
        lambda c: c["frontend"].update(kind="mfcc"),
        lambda c: c["frontend"].update(settings={"n_fft": "many"}),
        lambda c: c["frontend"].update(settings={"window_m": 3}),
        lambda c: c["frontend"].update(weights=None),
        lambda c: c["frontend"].update(weights_sha256="0" * 64),
        lambda c: c["backend"].update(name="oracle"),
        lambda c: c["backend"].update(config={"C": -1}),
        lambda c: c["backend"].update(config=None),
        lambda c: c["backend"].pop("weights_sha256"),
    ],
)
def test_a_malformed_configuration_is_a_typed_error(saved, change):
    config = json.loads((saved / "config.json").read_text())
    change(config)
    (saved / "config.json").write_text(json.dumps(config))
    with pytest.raises(VoxfideError):
        Detector.load(saved)


@pytest.mark.parametrize(
    "name", ["nobody/no-such-detector", "/no/such/folder", "no-such-folder", "a/b/c", "a b"]
)
def test_what_is_not_there_is_said_at_once_without_a_network(monkeypatch, name):
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    started = time.monotonic()
    with pytest.raises(CheckpointError, match=name):
        Detector.from_pretrained(name)
    assert time.monotonic() - started < 3


def test_a_full_disk_leaves_the_detector_that_was_there(
    lfcc_detector, ssl_detector, saved, waveforms, monkeypatch
):
    import errno

    before = {p.name: p.read_bytes() for p in saved.iterdir()}
    for call in (1, 2, 3):
        calls = []

        def fsync(descriptor, calls=calls, call=call):
            calls.append(descriptor)
            if len(calls) == call:
                raise OSError(errno.ENOSPC, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr("voxfide.files.os.fsync", fsync)
            with pytest.raises(OSError, match="No space left"):
                ssl_detector.save(saved)
        if call == 1:
            assert {p.name: p.read_bytes() for p in saved.iterdir()} == before
        else:  # the weights were renamed already: what is there is no detector, rather than a mixture
            with pytest.raises(CheckpointError):
                Detector.load(saved)
        assert not [p for p in saved.iterdir() if p.suffix == ".tmp"]
    ssl_detector.save(saved)
    assert np.array_equal(
        Detector.load(saved).score_waveforms(waveforms), ssl_detector.score_waveforms(waveforms)
    )


# Scoring


def test_scores_alone_equal_scores_in_a_batch(detector, waveforms):
    mixed = [*waveforms, clip(1, 2.3, True), clip(2, 0.05, False), clip(3, 31.0, True)]
    together = detector.score_waveforms(mixed)
    alone = np.concatenate([detector.score_waveforms([w]) for w in mixed])
    scale = np.abs(alone).max()
    assert np.allclose(together, alone, rtol=1e-4, atol=1e-4 * scale)
    backwards = detector.score_waveforms(mixed[::-1])[::-1]
    assert np.allclose(backwards, alone, rtol=1e-4, atol=1e-4 * scale)


def test_detect_equals_scoring_the_waveform(detector, corpus, waveforms):
    expected = detector.score_waveforms(waveforms)
    for path, score in zip(corpus.split("eval").audio_paths(), expected, strict=True):
        found = detector.detect(path)
        assert found.score == pytest.approx(score, rel=1e-4, abs=1e-4)
        assert found.path == str(path)
        assert found.info.duration == sf.info(path).duration
        assert found.verdict(found.score) == "bonafide"
        assert found.verdict(np.nextafter(found.score, np.inf)) == "spoof"


@pytest.mark.parametrize("rest", [0.0, 0.001, 0.024, 0.026, 17.3])
def test_detect_streams_a_long_file_to_the_score_of_the_whole(detector, tmp_path, rest):
    """Windows of 30 s; a rest too short for a frame joins the last one."""
    path = tmp_path / "long.flac"
    sf.write(path, clip(5, 60 + rest, True), 16000)
    (whole,) = detector.score_waveforms([load_audio(path).waveform])
    assert detector.detect(path).score == pytest.approx(whole, rel=1e-4, abs=1e-4)


def peak_bytes() -> int:
    line = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def test_detect_needs_no_more_memory_for_a_longer_file(lfcc_detector, tmp_path):
    clear = Path("/proc/self/clear_refs")
    if not clear.exists():
        pytest.skip("needs /proc to measure the peak of resident memory")
    minute = np.tile(clip(6, 15.0, True), 4)
    growth = {}
    for minutes in (1, 1, 15):
        path = tmp_path / f"{minutes}.wav"
        with sf.SoundFile(path, "w", 16000, 1) as file:
            for _ in range(minutes):
                file.write(minute)
        clear.write_text("5")  # resets the peak
        before = resident_bytes()
        lfcc_detector.detect(path)
        growth[minutes] = peak_bytes() - before
    # The samples of 15 minutes alone are 58 MB; what the allocator keeps differs by some 20 MB.
    assert growth[15] < growth[1] + 36e6


def test_what_cannot_be_scored_is_a_typed_error(lfcc_detector, tmp_path):
    junk, silent, short = (tmp_path / f"{name}.wav" for name in ("junk", "silent", "short"))
    junk.write_bytes(JUNK)
    sf.write(silent, np.zeros(16000), 16000)
    sf.write(short, clip(1, 0.01, True), 16000)
    for path, error in ((junk, NotAudioError), (silent, SilentAudioError), (short, AudioTooShortError)):
        with pytest.raises(error, match=path.name):
            lfcc_detector.detect(path)
    fine = clip(1, 0.5, True)
    with pytest.raises(AudioTooShortError):
        lfcc_detector.score_waveforms([fine, fine[:100]])
    for bad in (np.stack([fine, fine]), fine * np.nan):
        with pytest.raises(UsageError, match="waveform 1"):
            lfcc_detector.score_waveforms([fine, bad])
    assert lfcc_detector.score_waveforms([]).shape == (0,)
    assert lfcc_detector.score_waveforms([fine.astype(np.float64)[::2]]).shape == (1,)


def test_a_pool_that_the_backend_does_not_take(lfcc_detector):
    with pytest.raises(UsageError, match="not pool 'none'"):
        Detector(lfcc_detector.frontend, lfcc_detector.backend, "none")


def test_fingerprints_tell_detectors_apart(lfcc_detector, ssl_detector, corpus, tmp_path):
    other = trained_on(corpus, lfcc_detector.frontend, tmp_path, "mean_std", C=1.0)
    prints = {d.fingerprint() for d in (lfcc_detector, ssl_detector, other)}
    assert len(prints) == 3
