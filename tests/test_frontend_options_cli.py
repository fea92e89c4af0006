"""``--frontend-option``: front-ends whose weights are a file, from the command line to a detector."""

from __future__ import annotations

import pytest
import torch

from checkpoints_beats import write_beats
from command_line import run_here
from small_corpus import write_corpus
from voxfide.cli.commands import plain_value
from voxfide.detector import Detector
from voxfide.frontends import create_frontend
from voxfide.store import EmbeddingStore


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("corpus"), 24)


def test_embed_with_a_setting(manifest, tmp_path, monkeypatch):
    setting = ("--frontend-option", "definition=original")
    code = run_here(
        monkeypatch, "embed", manifest, "--frontend", "leaf", *setting, "-o", tmp_path / "S", "--workers", "0"
    )
    assert code == 0
    expected = create_frontend("leaf", definition="original").fingerprint()
    assert EmbeddingStore(tmp_path / "S").info.fingerprint.startswith(expected[:12])


def test_a_detector_needs_the_weights_file_no_more(manifest, tmp_path, monkeypatch):
    weights = tmp_path / "beats.pt"
    write_beats(weights)
    code = run_here(
        monkeypatch, "train", manifest, "--frontend", "beats", "--frontend-option", f"weights={weights}",
        "--layers", "2", "--backend", "logistic", "-o", tmp_path / "D", "--workers", "0",
    )  # fmt: skip
    assert code == 0
    waveforms = [0.1 * torch.randn(8000, generator=torch.Generator().manual_seed(0)).numpy()]
    expected = create_frontend("beats", 2, weights=weights)
    weights.unlink()
    detector = Detector.load(tmp_path / "D")
    assert detector.frontend.fingerprint() == expected.fingerprint()
    features = expected.pooled([torch.from_numpy(w) for w in waveforms])
    assert detector.score_waveforms(waveforms) == pytest.approx(detector.score_features(features.numpy()))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("weights", "expected NAME=VALUE"),
        ("precision=bf16", "precision: has an option of its own"),
        ("colour=red", "takes no option colour"),
    ],
)
def test_unusable_settings(manifest, tmp_path, monkeypatch, capsys, setting, message):
    arguments = ("--frontend", "leaf", "--frontend-option", setting, "-o", tmp_path / "S")
    assert run_here(monkeypatch, "embed", manifest, *arguments) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "S").exists()


def test_values_are_numbers_booleans_or_text():
    assert [plain_value(v) for v in ("512", "0.97", "true", "false")] == [512, 0.97, True, False]
    for text in ("a/b.pt", "port", "NaN", "null", "[1]", '"x"'):
        assert plain_value(text) == text
