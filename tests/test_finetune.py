"""Fine-tuning from a manifest to a detector, a transformers model and a front-end."""

from __future__ import annotations

import json
import signal

import numpy as np
import pytest
import torch

from checkpoints import write_checkpoint
from command_line import run_here, start, stop_when
from small_corpus import JUNK, clip, replace_audio, write_corpus
from voxfide.crops import Crop
from voxfide.detectors import load_detector
from voxfide.errors import CheckpointError, UsageError
from voxfide.frontends import create_frontend
from voxfide.manifest import Manifest
from voxfide.metrics import eer
from voxfide.scores import read_scores
from voxfide.training import choose_sets
from voxfide.training.finetune import FinetuneOptions, finetune
from voxfide.training.finetune_settings import FinetuneSettings
from voxfide.training.journal import read_journal

STILL = {"dropout": False, "layerdrop": False, "spec_augment": False}
FAST = {"learning_rate": 1e-3, "batch_size": 4}


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("base")
    write_checkpoint(folder / "xls-r", "xls-r")
    write_checkpoint(folder / "wavlm", "wavlm-base")
    return folder


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("corpus"), 36, seconds=(0.3, 0.7))


@pytest.fixture(scope="module")
def tuned(tmp_path_factory, base, corpus):
    """A run that learns: tones against noise, first two layers, without noise in training."""
    out = tmp_path_factory.mktemp("tuned") / "d"
    settings = FinetuneSettings(epochs=6, select_by="loss", **FAST, **STILL)
    return out, run(corpus, base / "xls-r", out, settings, n_layers=2)


def run(corpus, frontend, out, settings, **more):
    options = FinetuneOptions(workers=0, cpu=True, **more.pop("options", {}))
    sets = choose_sets(Manifest.read(corpus), "train", "dev")
    return finetune(sets, str(frontend), out, settings=settings, options=options, **more)


def weights(folder):
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


def test_the_development_loss_falls(tuned):
    out, result = tuned
    losses = [entry["dev_loss"] for entry in read_journal(out / "run")]
    print("development loss by epoch: " + ", ".join(f"{loss:.3f}" for loss in losses))
    assert len(losses) == 6
    assert min(losses) < 0.8 * losses[0]
    assert result.best["dev_loss"] == min(losses)
    assert result.best["eer_percent"] < 20


def test_what_is_left_behind(tuned):
    out, result = tuned
    assert sorted(p.name for p in out.iterdir()) == [
        "README.md", "config.json", "model.safetensors", "preprocessor_config.json", "run",
    ]  # fmt: skip
    assert sorted(p.name for p in (out / "run").iterdir()) == [".lock", "last", "metrics.jsonl"]
    training = json.loads((out / "config.json").read_text())["training"]
    assert training["finetuning"]["epoch"] == result.best["epoch"]
    assert training["metrics"]["dev"]["eer_percent"] == result.best["eer_percent"]
    assert load_detector(out / "run" / "last").training["finetuning"]["epoch"] == 6
    card = (out / "README.md").read_text()
    assert "first 2 layer(s)" in card
    assert "AutoModelForAudioClassification" in card


def test_a_finished_run_that_is_resumed_gives_its_result(tuned, base, corpus):
    out, result = tuned
    before = {p: p.stat().st_mtime_ns for p in out.rglob("*") if p.is_file() and p.name != ".lock"}
    settings = FinetuneSettings(epochs=6, select_by="loss", **FAST, **STILL)
    again = run(corpus, base / "xls-r", out, settings, n_layers=2, resume=True)
    assert again.best == result.best
    assert again.detector.threshold == result.detector.threshold
    assert before == {p: p.stat().st_mtime_ns for p in out.rglob("*") if p.is_file() and p.name != ".lock"}


def test_transformers_gives_the_same_probabilities(tuned, corpus, tmp_path, monkeypatch):
    import transformers

    out, result = tuned
    assert run_here(monkeypatch, "score", out, corpus, "-o", tmp_path / "s.tsv", "--workers", "0") == 0
    scores = read_scores(tmp_path / "s.tsv").score
    pipe = transformers.pipeline("audio-classification", model=str(out), device="cpu")
    model = transformers.AutoModelForAudioClassification.from_pretrained(out)
    assert model.config.id2label == {0: "spoof", 1: "bonafide"}
    assert model.config.num_hidden_layers == 2
    import soundfile as sf

    found = []
    for path in Manifest.read(corpus).audio_paths():
        answer = {a["label"]: a["score"] for a in pipe(sf.read(path, dtype="float32")[0])}
        found.append(answer["bonafide"])
    probabilities = 1 / (1 + np.exp(-scores))
    worst = float(np.abs(probabilities - np.array(found)).max())
    print(f"{len(found)} files: largest difference between the pipeline and voxfide score {worst:.1e}")
    assert worst < 1e-5
    assert probabilities.max() - probabilities.min() > 0.1
    dev = np.arange(12, 24)
    threshold = eer(scores[dev], dev % 2 == 0).threshold
    assert result.detector.threshold == pytest.approx(threshold, abs=1e-4)


def test_a_fine_tuned_model_is_a_front_end_again(tuned, base, corpus, tmp_path, monkeypatch, capsys):
    out, _ = tuned
    frontend = create_frontend(str(out))
    assert frontend.n_layers == 2
    before = create_frontend(str(base / "xls-r"), 2)
    wave = [torch.from_numpy(clip(0, 0.5, True))]
    assert not torch.allclose(frontend.pooled(wave), before.pooled(wave), atol=1e-3)
    expected = load_detector(out).frontend.pooled(wave)[:, 1:3]
    assert torch.allclose(frontend.pooled(wave), expected, atol=1e-6)
    arguments = ("--frontend", out, "--backend", "logistic", "--workers", "0", "--device", "cpu")
    assert run_here(monkeypatch, "train", corpus, *arguments, "-o", tmp_path / "d") == 0
    assert "EER" in capsys.readouterr().out
    assert load_detector(tmp_path / "d").backend.config()["C"] == 1e3


def test_a_killed_run_that_is_resumed_ends_with_the_same_bits(base, corpus, tmp_path, monkeypatch, capsys):
    common = [
        corpus, "--frontend", base / "wavlm", "--epochs", "2", "--batch-size", "3", "--accumulation", "2",
        "--learning-rate", "1e-3", "--checkpoint-steps", "1", "--workers", "0", "--device", "cpu", "--crop",
        "0.3", "--layer-decay", "0.9", "--weight-decay", "0.01", "--augment", "noise:snr=20",
    ]  # fmt: skip
    assert run_here(monkeypatch, "finetune", *common, "-o", tmp_path / "whole") == 0
    out = tmp_path / "killed"
    process = start("finetune", *common, "-o", out)
    checkpoints = out / "run" / "checkpoints"
    reached = [f"step-{n:08d}/state.json" for n in (2, 3, 5, 6)]
    status, said = stop_when(
        process, signal.SIGKILL, lambda: any((checkpoints / name).exists() for name in reached)
    )
    assert status == -9, said
    assert not (out / "config.json").exists()
    capsys.readouterr()
    assert run_here(monkeypatch, "finetune", *common, "-o", out) == 2
    assert "unfinished run" in capsys.readouterr().err
    other = [c if c != "1e-3" else "2e-3" for c in common]
    assert run_here(monkeypatch, "finetune", *other, "-o", out, "--resume") == 2
    assert "holds another training run" in capsys.readouterr().err
    assert run_here(monkeypatch, "finetune", *common, "-o", out, "--resume") == 0
    for part in (".", "run/last"):
        ours, theirs = weights(out / part), weights(tmp_path / "whole" / part)
        assert all(torch.equal(ours[k], theirs[k]) for k in theirs)
    drop_times = [
        [{k: v for k, v in e.items() if k != "seconds"} for e in read_journal(folder / "run")]
        for folder in (out, tmp_path / "whole")
    ]
    assert drop_times[0] == drop_times[1]
    assert not checkpoints.exists()


def test_pieces_do_not_change_the_outcome(base, corpus, tmp_path):
    found = []
    for accumulation in (1, 3):
        settings = FinetuneSettings(
            epochs=1,
            batch_size=5,
            accumulation=accumulation,
            learning_rate=1e-4,
            class_weights=(1.0, 3.0),
            **STILL,
        )
        run(corpus, base / "wavlm", tmp_path / str(accumulation), settings)
        found.append(read_journal(tmp_path / str(accumulation) / "run")[0])
    assert found[0]["train_loss"] == pytest.approx(found[1]["train_loss"], abs=1e-5)
    assert found[0]["dev_loss"] == pytest.approx(found[1]["dev_loss"], abs=1e-4)


def test_what_cannot_be_read_is_reported_at_the_end(base, tmp_path, monkeypatch, capsys):
    own = write_corpus(tmp_path / "c", 24, seconds=(0.3, 0.5))
    rows = Manifest.read(own)
    replace_audio(rows.audio_paths()[2], JUNK)
    rows.audio_paths()[9].unlink()
    replace_audio(rows.audio_paths()[3], clip(3, 0.01, False))
    out = tmp_path / "d"
    arguments = (
        "--frontend",
        base / "xls-r",
        "--layers",
        "1",
        "--epochs",
        "1",
        "--workers",
        "0",
        "--device",
        "cpu",
    )
    assert run_here(monkeypatch, "finetune", own, *arguments, "-o", out) == 1
    printed = capsys.readouterr()
    ids = rows.column("utterance_id")
    listed = [line.split(",")[0] for line in (out / "failures.csv").read_text().splitlines()[1:]]
    assert sorted(listed) == sorted([ids[2], ids[3], ids[9]])
    assert "3 file(s) could not be used" in printed.err
    assert load_detector(out).training["sets"]["train"]["n_failed"] == 2
    assert run_here(monkeypatch, "finetune", own, *arguments, "-o", tmp_path / "e", "--strict") == 2


def test_without_a_development_set_the_last_epoch_counts(base, corpus, tmp_path):
    train_set, _ = choose_sets(Manifest.read(corpus), "train", "dev")
    settings = FinetuneSettings(epochs=2, crop=Crop(None), **FAST)
    options = FinetuneOptions(workers=0, cpu=True)
    out = tmp_path / "d"
    result = finetune(
        (train_set, None), str(base / "xls-r"), out, n_layers=1, settings=settings, options=options
    )
    assert result.best == {"epoch": 2}
    assert result.detector.threshold == 0.0
    assert all(torch.equal(v, weights(out / "run" / "last")[k]) for k, v in weights(out).items())


def test_the_best_epoch_is_kept_by_what_was_asked_for(base, corpus, tmp_path):
    out = tmp_path / "d"
    settings = FinetuneSettings(epochs=3, select_by="eer", learning_rate=5e-2, batch_size=4)
    result = run(corpus, base / "xls-r", out, settings, n_layers=1)
    entries = read_journal(out / "run")
    ranked = min(entries, key=lambda e: (e["eer_percent"], e["dev_loss"]))
    assert result.best["epoch"] == ranked["epoch"] == entries[-1]["best_epoch"]


def test_what_cannot_work_is_said_before_training(base, corpus, tmp_path):
    sets = choose_sets(Manifest.read(corpus), "train", "dev")
    with pytest.raises(UsageError, match="cannot be fine-tuned"):
        finetune(sets, "lfcc", tmp_path / "d")
    with pytest.raises(UsageError, match="9 layers asked for"):
        finetune(sets, str(base / "xls-r"), tmp_path / "d", n_layers=9)
    with pytest.raises(CheckpointError, match="no such model folder"):
        finetune(sets, "./nowhere/at/all", tmp_path / "d")
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="is a file"):
        finetune(sets, str(base / "xls-r"), tmp_path / "file")


def test_a_diverging_run_stops(base, corpus, tmp_path):
    settings = FinetuneSettings(
        epochs=3, learning_rate=1e25, max_grad_norm=0, warmup=0.0, batch_size=4, **STILL
    )
    with pytest.raises(UsageError, match="training has diverged"):
        run(corpus, base / "xls-r", tmp_path / "d", settings, n_layers=1)


def test_help_states_every_default(monkeypatch, capsys):
    assert run_here(monkeypatch, "finetune", "--help") == 0
    shown = " ".join(capsys.readouterr().out.split())
    values = FinetuneSettings()
    for name, value in (
        ("--epochs", values.epochs),
        ("--batch-size", values.batch_size),
        ("--accumulation", values.accumulation),
        ("--learning-rate", values.learning_rate),
        ("--warmup", values.warmup),
        ("--layer-decay", values.layer_decay),
        ("--weight-decay", values.weight_decay),
        ("--max-grad-norm", values.max_grad_norm),
        ("--class-weights", values.class_weights),
        ("--lora", values.lora_rank),
        ("--lora-alpha", values.lora_alpha),
        ("--precision", values.precision),
        ("--crop", values.crop.seconds),
        ("--crop-at", values.crop.position),
        ("--select-by", values.select_by),
        ("--checkpoint-steps", values.checkpoint_steps),
        ("--seed", values.seed),
    ):
        section = shown.split(f" {name} ", 1)[1].split("--", 1)[0]
        assert f"[default: {value}" in section, (name, section)
