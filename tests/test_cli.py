"""The command line from end to end, as a user types it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from conftest import CORPUS, needs_shared
from voxfide.scores import read_scores

ENVIRONMENT = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}


def voxfide(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "voxfide", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=ENVIRONMENT, timeout=300)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Noise of two colours stands for two classes: easy, so that figures are known."""
    root = tmp_path_factory.mktemp("corpus")
    rng = np.random.default_rng(0)
    for split, n in (("train", 12), ("dev", 8), ("eval", 10)):
        for label in ("real", "fake"):
            folder = root / split / label
            folder.mkdir(parents=True)
            for i in range(n):
                noise = rng.standard_normal(int(rng.integers(6000, 12000)))
                if label == "fake":
                    noise = np.convolve(noise, np.ones(4) / 4, "same")
                sf.write(folder / f"{split}_{label}_{i}.wav", 0.1 * noise, 16000, subtype="PCM_16")
    (root / "eval" / "fake" / "broken.wav").write_bytes(b"RIFF\x00\x00")
    return root


@pytest.fixture(scope="module")
def trained(corpus, tmp_path_factory):
    """Manifest, detector and scores, each made by its command."""
    out = tmp_path_factory.mktemp("run")
    steps = {
        "prepare": voxfide("prepare", "folder", corpus, "-o", out / "m.csv"),
        "train": voxfide(
            "train", out / "m.csv", "--frontend", "lfcc", "--backend", "logistic", "-o", out / "D"
        ),
        "score": voxfide("score", out / "D", out / "m.csv", "--split", "eval", "-o", out / "s.tsv"),
    }
    return out, steps


def test_prepare_train_score(trained):
    out, steps = trained
    assert [s.returncode for s in steps.values()] == [0, 0, 1], [s.stderr for s in steps.values()]
    assert "61 utterances (30 bona fide, 31 spoof, 0 unknown)" in steps["prepare"].stderr
    assert "dev: EER 0.00 %" in steps["train"].stdout
    assert "1 file(s) could not be used" in steps["score"].stderr
    assert "broken.wav" in steps["score"].stderr
    assert sorted(p.name for p in (out / "D").iterdir()) == ["README.md", "config.json", "model.safetensors"]
    assert len(read_scores(out / "s.tsv")) == 20
    assert not list(out.glob("*.parts"))
    assert not list(out.glob("*.features"))


def test_evaluate_json_and_report(trained):
    out, _ = trained
    done = voxfide(
        "evaluate", out / "s.tsv", "--key", out / "m.csv", "--json", "--by", "split", "-o", out / "r"
    )
    assert done.returncode == 0, done.stderr
    values = json.loads(done.stdout)
    for name in ("eer_percent", "min_dcf", "act_dcf", "cllr", "auc"):
        assert isinstance(values[name], float)
        low, high = values[f"{name}_interval"]
        assert low <= values[name] <= high
    assert (values["n_bonafide"], values["n_spoof"], values["eer_percent"]) == (10, 10, 0.0)
    assert values["by"]["split"][0]["value"] == "eval"
    assert {p.name for p in (out / "r").iterdir()} >= {"report.html", "metrics.json", "det.pdf", "scores.pdf"}
    page = (out / "r" / "report.html").read_text()
    assert "lfcc" in page
    assert "data:audio/" in page or "errors" in page.lower()
    assert 'src="http' not in page


def test_evaluate_as_text(trained):
    out, _ = trained
    done = voxfide("evaluate", out / "s.tsv", "--key", out / "m.csv", "--split", "eval", "--bootstrap", 100)
    assert done.returncode == 0, done.stderr
    assert "higher score = more bona fide" in done.stdout
    assert "1 trial(s) of the key" in done.stdout
    assert "have no score" in done.stdout


def test_detect(trained, corpus):
    out, _ = trained
    real = corpus / "eval" / "real" / "eval_real_0.wav"
    fake = corpus / "eval" / "fake" / "eval_fake_0.wav"
    missing = corpus / "nothing.wav"
    options = ("--detector", out / "D", "--min-speech", 0, "--json")
    done = voxfide("detect", real, missing, fake, *options)
    assert done.returncode == 1
    first, second, third = (json.loads(line) for line in done.stdout.splitlines())
    assert first["score"] >= first["rule"]["bonafide_from"]
    assert third["score"] < third["rule"]["spoof_below"]
    assert {"path", "score", "verdict", "duration"} <= set(first)
    assert set(second) == {"path", "error"}
    assert "nothing.wav" in second["error"]
    scores = read_scores(out / "s.tsv")
    by_id = dict(zip(scores.utterance_id, scores.score, strict=True))
    assert first["score"] == pytest.approx(by_id["eval/real/eval_real_0"], rel=1e-4, abs=1e-4)


def test_embed_then_train_from_the_store(trained):
    out, _ = trained
    first = voxfide("embed", out / "m.csv", "--frontend", "lfcc", "--split", "train", "-o", out / "store")
    assert first.returncode == 0, first.stderr
    assert "24 utterances" in first.stdout
    again = voxfide(
        "train", out / "m.csv", "--frontend", "lfcc", "--backend", "logistic", "-o", out / "D2",
        "--store", out / "store",
    )  # fmt: skip
    assert again.returncode == 0, again.stderr
    assert "24 of 24 were finished before" in again.stderr
    assert (out / "store" / "store.json").exists()
    assert (out / "D2" / "model.safetensors").read_bytes() == (out / "D" / "model.safetensors").read_bytes()


@pytest.mark.parametrize("command", ["frontends", "backends", "corpora"])
def test_listings(command):
    done = voxfide(command, "--json")
    assert done.returncode == 0
    assert all({"name", "summary"} <= set(spec) for spec in json.loads(done.stdout))
    assert voxfide(command).stdout.count("\n") > 2


LFCC = ["--frontend", "lfcc"]
LOGISTIC = ["--backend", "logistic"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["train", "none.csv", *LFCC, *LOGISTIC, "-o", "x"], "none.csv"),
        (["prepare", "folders", ".", "-o", "m.csv"], "did you mean 'folder'"),
        (["prepare", "folder", ".", "-o", "m.csv"], "no audio files"),
        (["embed", "{m}", "--frontend", "wavlm-basse", "-o", "st"], "unknown front-end 'wavlm-basse'"),
        (["embed", "{m}", "--frontend", "no/such-model", "-o", "st"], "give its path"),
        (["embed", "{m}", *LFCC, "--layers", "3", "-o", "st"], "expected 1 to 1"),
        (["embed", "{m}", *LFCC, "--pool", "max", "-o", "st"], "mean, mean_std, none"),
        (["train", "{m}", *LFCC, "--backend", "logistics", "-o", "x"], "did you mean 'logistic'"),
        (["train", "{m}", *LFCC, *LOGISTIC, "--option", "c=1", "-o", "x"], "no option c"),
        (["train", "{m}", *LFCC, *LOGISTIC, "--split", "trane", "-o", "x"], "trane"),
        (["evaluate", "{m}", "--key", "{m}"], "score"),
        (["score", "nowhere", "{m}", "-o", "s.tsv"], "nowhere: no such folder"),
        (["detect", "x.wav", "--detector", "nowhere"], "nowhere: no such folder"),
        (["detect"], "Missing argument"),
        (["--colour"], "No such option"),
    ],
)  # fmt: skip
def test_unusable_input_is_said_in_a_line(trained, tmp_path, arguments, said):
    out, _ = trained
    done = voxfide(*(a.format(m=out / "m.csv") for a in arguments), cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert not [p for p in tmp_path.rglob("*") if p.is_file() and p.name != ".lock"]


def test_closed_pipe_is_no_error():
    done = subprocess.run(
        f"{sys.executable} -m voxfide frontends --json | head -1", shell=True, capture_output=True, text=True
    )
    assert done.stderr == ""


@needs_shared("corpus/manifest.csv")
def test_lfcc_on_real_speech(tmp_path):
    """The issue's own line: an EER on real speech, whatever it is, with intervals and a breakdown."""
    key = CORPUS / "manifest.csv"
    assert (
        voxfide("train", key, "--frontend", "lfcc", "--backend", "logistic", "-o", tmp_path / "D").returncode
        == 0
    )
    assert voxfide("score", tmp_path / "D", key, "--split", "eval", "-o", tmp_path / "s.tsv").returncode == 0
    done = voxfide("evaluate", tmp_path / "s.tsv", "--key", key, "--by", "system", "--json")
    values = json.loads(done.stdout)
    print(f"LFCC + logistic regression on real speech: EER {values['eer_percent']:.1f} %")
    assert (values["n_bonafide"], values["n_spoof"]) == (167, 177)
    assert len(values["by"]["system"]) == 12
    assert 30 < values["eer_percent"] < 70
