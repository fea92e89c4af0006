"""Heads on a stream of batches: the step itself, alone and among others, resumed, stored or computed anew."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import nn

from checkpoints import write_checkpoint
from command_line import run_here, stop_when
from small_corpus import JUNK, replace_audio, write_corpus
from voxfide.augment import Policy, parse
from voxfide.backends import create_backend
from voxfide.backends.neural import NeuralBackend
from voxfide.crops import Crop
from voxfide.detector import Detector
from voxfide.errors import CheckpointError, UsageError
from voxfide.frontends import create_frontend
from voxfide.manifest import Manifest
from voxfide.training import choose_sets, heads
from voxfide.training.checkpoint import latest_checkpoint
from voxfide.training.frames import FeatureOptions, fit_heads, frame_bytes, open_streams, train_frames
from voxfide.training.heads import HeadJob, HeadTrainer
from voxfide.training.journal import make_accelerator, read_journal
from voxfide.training.settings import TrainSettings
from voxfide.training.streams import Batch, LiveStream, StoreStream, consecutive, shuffled

HALF_SECOND = Crop(0.5)
QUICK = TrainSettings(epochs=3, batch_size=4, learning_rate=1e-2, crop=HALF_SECOND)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model") / "tiny"
    write_checkpoint(folder, "wavlm-base")
    return folder


@pytest.fixture(scope="module")
def frontend(tiny):
    return create_frontend(str(tiny), 3)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    return Manifest.read(write_corpus(tmp_path_factory.mktemp("corpus") / "c", 27))


@pytest.fixture(scope="module")
def sets(manifest):
    train, dev = choose_sets(manifest, "train", "dev")
    assert dev is not None
    return train, dev


def accelerator(folder: Path):
    return make_accelerator(folder, cpu=True)


def fit(jobs, sets, frontend, folder, settings=QUICK, options=None):
    return fit_heads(jobs, sets, frontend, settings, folder, accelerator=accelerator(folder), options=options)


def jobs(*names: str) -> list[HeadJob]:
    """Heads by name: back-end, layers and seed."""
    made = []
    for name in names:
        backend, n_layers, seed = name.split("-")
        made.append(HeadJob(name, create_backend(backend), int(n_layers), int(seed)))
    return made


def numbers(trained) -> dict[str, dict[str, np.ndarray]]:
    return {head.job.name: head.backend.tensors() for head in trained}


def assert_equal(ours, theirs) -> None:
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        np.testing.assert_array_equal(tensor, theirs[name], err_msg=name)


@dataclass(eq=False)
class LinearBackend(NeuralBackend):
    """Mean over layers and frames, then a linear map: no normalisation, no chance."""

    name: ClassVar[str] = "linear"

    def make_head(self, n_layers: int, dim: int) -> nn.Module:
        return LinearHead(dim)

    def layer_weights(self):
        return None


class LinearHead(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.map = nn.Linear(dim, 2)

    def forward(self, features, lengths):
        valid = torch.arange(features.shape[2]) < lengths[:, None]
        means = (features.mean(dim=1) * valid[..., None]).sum(dim=1) / lengths[:, None]
        return self.map(means)


class Points:
    """A stream of random features, one layer of four values and frames of unequal number."""

    def __init__(self, n: int, seed: int, shift: float = 1.0) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.is_bonafide = np.arange(n) % 3 == 0
        self.features = torch.randn(n, 1, 5, 4, generator=generator)
        self.features[torch.from_numpy(self.is_bonafide)] += shift
        self.lengths = torch.randint(1, 6, (n,), generator=generator)
        self.dim, self.n_layers = 4, 1
        self.seen: list[list[int]] = []

    def batches(self, order, epoch):
        for rows in order:
            self.seen.append(rows.tolist())
            yield Batch(rows, self.features[rows], self.lengths[rows])


def point_trainer(folder, *, train=None, dev=None, **settings):
    job = HeadJob("linear", LinearBackend(), 1, 3)
    chosen = replace(TrainSettings(epochs=2, batch_size=5, weight_decay=0.01), **settings)
    return HeadTrainer(
        [job], train or Points(23, 0), dev or Points(12, 1), chosen, folder, accelerator=accelerator(folder)
    )


def test_training_is_adam_on_the_class_weighted_cross_entropy(tmp_path):
    trainer = point_trainer(tmp_path)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        reference = LinearHead(4)
    optimizer = torch.optim.Adam(reference.parameters(), lr=1e-4, weight_decay=0.01)
    loss = nn.CrossEntropyLoss(weight=torch.tensor([0.1, 0.9]))
    points, dev = Points(23, 0), Points(12, 1)
    dev_losses = []
    for epoch in (1, 2):
        for rows in shuffled(23, 5, 0, epoch):
            optimizer.zero_grad()
            labels = torch.from_numpy(points.is_bonafide[rows].astype(int))
            loss(reference(points.features[rows], points.lengths[rows]), labels).backward()
            optimizer.step()
        logits = reference(dev.features, dev.lengths)
        dev_losses.append(loss(logits, torch.from_numpy(dev.is_bonafide.astype(int))).item())
    trained = trainer.fit()[0]
    ours = trained.backend.head.map
    torch.testing.assert_close(ours.weight, reference.map.weight, rtol=0, atol=1e-7)
    assert trained.dev_loss == pytest.approx(min(dev_losses), rel=1e-5)
    assert [entry["dev_loss"] for entry in read_journal(tmp_path)] == pytest.approx(dev_losses, rel=1e-5)


def test_accumulation_gives_the_gradient_of_the_whole_batch(tmp_path):
    whole = point_trainer(tmp_path / "a").fit()[0].backend.tensors()
    pieces = point_trainer(tmp_path / "b", accumulation=3).fit()[0].backend.tensors()
    for name, tensor in whole.items():
        np.testing.assert_allclose(pieces[name], tensor, rtol=0, atol=1e-7)


def test_patience_ends_the_training_and_the_best_epoch_stays(tmp_path):
    """The development labels are the wrong way round: what is learnt makes its loss rise at once."""
    dev = Points(12, 1)
    dev.is_bonafide = ~dev.is_bonafide
    trainer = point_trainer(tmp_path, dev=dev, epochs=30, patience=4, learning_rate=0.05)
    trained = trainer.fit()[0]
    losses = [entry["dev_loss"] for entry in read_journal(tmp_path)]
    assert trained.best_epoch == int(np.argmin(losses)) + 1
    assert len(losses) == trained.best_epoch + 4
    logits = trained.backend.head(dev.features, dev.lengths)
    weights = torch.tensor([0.1, 0.9])
    loss = nn.functional.cross_entropy(logits, torch.from_numpy(dev.is_bonafide.astype(int)), weights)
    assert loss.item() == pytest.approx(min(losses), rel=1e-5)


def test_every_epoch_has_an_order_of_its_own_that_the_seed_alone_decides(tmp_path):
    train = Points(23, 0)
    point_trainer(tmp_path / "a", train=train).fit()
    again = Points(23, 0)
    point_trainer(tmp_path / "b", train=again).fit()
    other = Points(23, 0)
    point_trainer(tmp_path / "c", train=other, seed=1).fit()
    assert train.seen == again.seen != other.seen
    first, second = train.seen[:5], train.seen[5:]
    assert first != second
    assert sorted([i for b in first for i in b]) == sorted([i for b in second for i in b]) == list(range(23))


def test_a_last_batch_of_one_is_left_out():
    assert [len(b) for b in shuffled(9, 4, 0, 1)] == [4, 4]
    assert [len(b) for b in shuffled(10, 4, 0, 1)] == [4, 4, 2]
    assert [len(b) for b in shuffled(1, 4, 0, 1)] == [1]
    assert [len(b) for b in consecutive(9, 4)] == [4, 4, 1]


def test_training_that_diverges_is_said(tmp_path):
    train = Points(23, 0)
    train.features[:] = 1e30
    with pytest.raises(UsageError, match="diverged"):
        point_trainer(tmp_path, train=train, dev=train, learning_rate=1e10).fit()


def test_a_head_is_the_same_alone_and_among_others(sets, frontend, tmp_path):
    """Also its dropout: the AASIST head draws from its own random state."""
    names = ("ffn-3-1", "aasist-2-1", "ffn-1-7", "aasist-2-7")
    among, _ = fit(jobs(*names), sets, frontend, tmp_path / "all")
    for name in names[:2]:
        alone, _ = fit(jobs(name), sets, frontend, tmp_path / name)
        assert_equal(numbers(alone)[name], numbers(among)[name])
    one, other = (numbers(among)[name] for name in names[1::2])
    assert any(np.abs(one[key] - other[key]).max() > 1e-3 for key in one)


def test_the_random_state_outside_stays_as_it_is(sets, frontend, tmp_path):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    fit(jobs("aasist-1-1"), sets, frontend, tmp_path, replace(QUICK, epochs=1))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_run_that_is_cut_off_goes_on_bit_for_bit(sets, frontend, tmp_path, monkeypatch):
    monkeypatch.setattr(heads, "CHECKPOINT_EVERY", 0.0)
    names = ("ffn-3-1", "aasist-2-1")
    whole, _ = fit(jobs(*names), sets, frontend, tmp_path / "whole")
    measure = HeadTrainer._measure

    def cut(self, runs):
        if self.epoch == 2:
            raise KeyboardInterrupt
        return measure(self, runs)

    monkeypatch.setattr(HeadTrainer, "_measure", cut)
    with pytest.raises(KeyboardInterrupt):
        fit(jobs(*names), sets, frontend, tmp_path / "cut")
    held = latest_checkpoint(tmp_path / "cut")
    assert held is not None
    assert held.step == 1
    monkeypatch.setattr(HeadTrainer, "_measure", measure)
    resumed, _ = fit(jobs(*names), sets, frontend, tmp_path / "cut")
    for name in names:
        assert_equal(numbers(resumed)[name], numbers(whole)[name])
    assert read_journal(tmp_path / "cut") == read_journal(tmp_path / "whole")


def test_another_job_does_not_go_on_in_the_same_folder(sets, frontend, tmp_path):
    fit(jobs("ffn-3-1"), sets, frontend, tmp_path, replace(QUICK, epochs=1))
    for changed in (jobs("ffn-3-2"), jobs("ffn-2-1")):
        with pytest.raises(CheckpointError, match="another training run.*heads"):
            fit(changed, sets, frontend, tmp_path, replace(QUICK, epochs=1))
    with pytest.raises(CheckpointError, match="settings"):
        fit(jobs("ffn-3-1"), sets, frontend, tmp_path, replace(QUICK, epochs=1, learning_rate=1e-3))


def test_stored_and_computed_features_train_alike(sets, frontend, tmp_path):
    _, stored = fit(jobs("ffn-3-1"), sets, frontend, tmp_path / "a")
    _, live = fit(
        jobs("ffn-3-1"), sets, frontend, tmp_path / "b", options=FeatureOptions(disk_budget=0, workers=0)
    )
    assert isinstance(stored.train, StoreStream)
    assert isinstance(live.train, LiveStream)
    a, b = (read_journal(tmp_path / run) for run in "ab")
    # Stored features are rounded to float16.
    assert [e["dev_loss"] for e in a] == pytest.approx([e["dev_loss"] for e in b], rel=1e-2)


def test_the_disk_budget_is_the_size_of_the_features(sets, frontend, tmp_path):
    streams = open_streams(sets, frontend, QUICK, tmp_path, FeatureOptions())
    held = sum(p.stat().st_size for p in (tmp_path / "frames" / "parts").iterdir())
    assert held == pytest.approx(frame_bytes(sets, frontend, HALF_SECOND), rel=0.25)
    streams.remove()
    assert not (tmp_path / "frames").exists()


def test_random_crops_and_augmentation_are_seeded_by_utterance(sets, frontend, tmp_path):
    settings = replace(QUICK, crop=Crop(0.25, "random"))
    policy = Policy(parse("noise:snr=5..10"), seed=3)
    options = FeatureOptions(workers=0, augment=policy)
    streams = open_streams(sets, frontend, settings, tmp_path, options)
    order = consecutive(9, 4)
    first, again, later = (
        torch.cat([b.features for b in streams.train.batches(order, epoch)]) for epoch in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, later)
    backwards = [rows[::-1] for rows in order[::-1]]
    found = {
        int(i): f
        for b in streams.train.batches(backwards, 1)
        for i, f in zip(b.indices, b.features, strict=True)
    }
    for i, features in enumerate(first):
        torch.testing.assert_close(found[i], features, rtol=1e-4, atol=1e-4)
    # The development set is measured as it is, from the start of each recording.
    plain, same = (torch.cat([b.features for b in streams.dev.batches(order, None)]) for _ in range(2))
    assert torch.equal(plain, same)


def test_the_front_end_stays_frozen_and_in_eval_mode(sets, tiny, tmp_path):
    model = create_frontend(str(tiny), 2)
    before = model.fingerprint()
    fit(jobs("ffn-2-1"), sets, model, tmp_path, options=FeatureOptions(disk_budget=0, workers=0))
    assert model.fingerprint() == before
    assert not any(module.training for module in model.modules())
    assert not any(p.requires_grad or p.grad is not None for p in model.parameters())


def test_files_that_cannot_be_read_are_left_out_and_told(frontend, tmp_path):
    manifest = Manifest.read(write_corpus(tmp_path / "c", 27))
    replace_audio(manifest.audio_paths()[1], JUNK)
    sets = choose_sets(manifest, "train", "dev")
    for budget in (50e9, 0.0):
        options = FeatureOptions(disk_budget=budget, workers=0)
        folder = tmp_path / f"run{budget}"
        result = train_frames(
            sets, frontend, create_backend("ffn"), replace(QUICK, epochs=1), folder,
            accelerator=accelerator(folder), options=options,
        )  # fmt: skip
        assert [f.utterance_id for f in result.failures] == [manifest.column("utterance_id")[1]]
        assert result.detector.training["sets"]["train"]["n_failed"] == 1


def test_a_trained_detector_scores_and_survives_saving(sets, manifest, frontend, tmp_path):
    result = train_frames(
        sets, frontend, create_backend("ffn"), replace(QUICK, epochs=25, batch_size=9), tmp_path / "run",
        accelerator=accelerator(tmp_path),
    )  # fmt: skip
    assert result.metrics["dev"]["eer_percent"] < 30  # the clips of small_corpus are easy to tell apart
    made = result.detector
    made.save(tmp_path / "d")
    loaded = Detector.load(tmp_path / "d")
    assert loaded.fingerprint() == made.fingerprint()
    paths = manifest.audio_paths()[:3]
    for path in paths:
        assert loaded.detect(path).score == pytest.approx(made.detect(path).score, abs=1e-6)
    assert loaded.crop == replace(HALF_SECOND, long="windows")
    assert made.training["layer_weights"] == pytest.approx(made.backend.layer_weights().tolist())


def test_a_development_set_is_needed(sets, frontend, tmp_path):
    with pytest.raises(UsageError, match="development split"):
        train_frames(
            (sets[0], None),
            frontend,
            create_backend("ffn"),
            QUICK,
            tmp_path,
            accelerator=accelerator(tmp_path),
        )


def test_settings_say_everything_that_is_wrong():
    with pytest.raises(UsageError) as caught:
        TrainSettings(epochs=0, learning_rate=-1, class_weights=(0.0, 1.0), batch_size=1)
    for word in ("epochs 0", "learning rate -1", "class weights", "batch size 1"):
        assert word in str(caught.value)
    with pytest.raises(UsageError, match="accumulation 9 exceeds"):
        TrainSettings(batch_size=8, accumulation=9)


def test_more_layers_than_there_are(sets, frontend, tmp_path):
    with pytest.raises(UsageError, match="ffn-4-1 want more layers"):
        fit(jobs("ffn-4-1"), sets, frontend, tmp_path)


KILLABLE = """
import sys
from voxfide.training import heads
heads.CHECKPOINT_EVERY = 0.0
sys.argv[0] = "voxfide"
from voxfide.cli import main
main()
"""


def test_the_command_goes_on_after_a_kill(manifest, tiny, tmp_path, monkeypatch, capsys):
    def command(out: Path) -> list[str]:
        arguments = [
            "train",
            manifest.source,
            "--frontend",
            tiny,
            "--layers",
            "2",
            "--backend",
            "aasist",
            "-o",
            out,
        ]
        arguments += [
            "--epochs",
            "6",
            "--batch-size",
            "4",
            "--crop",
            "0.5",
            "--workers",
            "0",
            "--patience",
            "50",
        ]
        return [str(a) for a in arguments]

    process = subprocess.Popen(
        [sys.executable, "-c", KILLABLE, *command(tmp_path / "d")],
        stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    journal = tmp_path / "d.run" / "metrics.jsonl"
    status, said = stop_when(
        process, signal.SIGKILL, lambda: journal.exists() and len(journal.read_text().splitlines()) >= 2
    )
    assert status == -9, said
    assert run_here(monkeypatch, *command(tmp_path / "d")) == 2
    assert "--resume" in capsys.readouterr().err
    assert run_here(monkeypatch, *command(tmp_path / "d"), "--resume") == 0
    assert "was finished before" in capsys.readouterr().err
    assert run_here(monkeypatch, *command(tmp_path / "whole")) == 0
    resumed, whole = (Detector.load(tmp_path / name) for name in ("d", "whole"))
    assert_equal(resumed.backend.tensors(), whole.backend.tensors())
    assert resumed.threshold == whole.threshold
    lines = (tmp_path / "d" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert lines == (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()
    assert not (tmp_path / "d.run").exists()


def test_two_processes_train_as_one(manifest, tmp_path, monkeypatch, capsys):
    """Each has half of every batch; sums, those of batch normalisation too, are over both."""

    def command(out: Path) -> list[str]:
        arguments = ["train", manifest.source, "--frontend", "lfcc", "--backend", "ffn", "-o", str(out)]
        arguments += ["--epochs", "3", "--batch-size", "4", "--lr", "0.001", "--crop", "0.5"]
        return [*arguments, "--workers", "0", "--device", "cpu"]

    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    done = subprocess.run(
        [*launch, "-m", "voxfide", *command(tmp_path / "two")], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("detector lfcc + ffn") == 1
    assert run_here(monkeypatch, *command(tmp_path / "one")) == 0
    two, one = (read_journal(tmp_path / name) for name in ("two", "one"))
    assert [e["dev_loss"] for e in two] == pytest.approx([e["dev_loss"] for e in one], abs=2e-6)
    assert [e["train_loss"] for e in two] == pytest.approx([e["train_loss"] for e in one], abs=2e-6)


def test_curves_for_tensorboard(manifest, tmp_path, monkeypatch, capsys):
    pytest.importorskip("tensorboard", reason="extra tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    code = run_here(
        monkeypatch, "train", manifest.source, "--frontend", "lfcc", "--backend", "ffn", "-o", tmp_path / "d",
        "--epochs", "2", "--workers", "0", "--crop", "0.5", "--tensorboard",
    )  # fmt: skip
    assert code == 0, capsys.readouterr().err
    curves = EventAccumulator(str(tmp_path / "d" / "tensorboard")).Reload()
    told = [(event.step, event.value) for event in curves.Scalars("dev_loss")]
    journal = [(e["step"], e["dev_loss"]) for e in read_journal(tmp_path / "d")]
    assert told == [(step, pytest.approx(loss, rel=1e-5)) for step, loss in journal]
