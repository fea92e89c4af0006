"""Training in several processes: the same as in one, resumed in another number of them, ended by a death."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import shared_training
from checkpoints import write_checkpoint
from command_line import run_here
from small_corpus import JUNK, replace_audio, write_corpus
from voxfide.detector import Detector
from voxfide.errors import LostProcessError, UsageError
from voxfide.files import exclusive
from voxfide.jobs import read_failures
from voxfide.manifest import Manifest
from voxfide.studies import layerwise
from voxfide.studies.reporting import Reporter
from voxfide.training.checkpoint import latest_checkpoint
from voxfide.training.finetune import finetune
from voxfide.training.finetune_settings import FinetuneSettings
from voxfide.training.head_steps import in_step
from voxfide.training.journal import read_journal
from voxfide.training.processes import chance_key, naming_lost_processes, share_of
from voxfide.training.row_dropout import following_rows
from voxfide.training.sharding import held_bytes, state_bytes
from voxfide.training.streams import Batch

pytestmark = [pytest.mark.xdist_group("processes"), pytest.mark.usefixtures("one_thread")]

NOISE = 2e-6
"""What rounding makes of losses around 0.7: measured 1e-8 to 1e-7."""

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node"]
N = 3


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """Two corpora and a model; runs of one process in ``one``, others to be gone on with in ``three``."""
    folder = tmp_path_factory.mktemp("base")
    write_corpus(folder / "corpus", 42, seconds=(0.5, 0.9))
    # 17 rows to train on: the last of four batches is of two utterances, so that a process has none.
    paths = Manifest.read(write_corpus(folder / "heads", 51, seconds=(0.4, 0.8))).audio_paths()
    for number in (1, 6, 30):
        replace_audio(paths[number], JUNK)
    write_checkpoint(folder / "wavlm", "wavlm-base")
    return folder


ONE = [
    ("train_heads", "heads", {}),
    ("tune", "tuned", {}),
    ("learn", "learnt", {}),
    *([("tune", "low-rank", {"lora_rank": 2, "epochs": 1})] if find_spec("peft") else []),
]
STOPPED = [
    ("train_heads", "heads-stopped", {"stop": 1}),
    ("tune", "tuned-stopped", {"stop": 3}),
    ("learn", "learnt-stopped", {"stop": 3}),
]


@pytest.fixture(scope="module")
def one(base):
    """Runs of one process."""
    out = base / "one"
    for name, where, values in ONE + STOPPED:
        getattr(shared_training, name)(base, out / where, **values)
    shared_training.head_gradients(base, out / "gradients.pt")
    return out


@pytest.fixture(scope="module")
def several(base, one):
    """The same in three processes; runs that one process began and three end; runs that three begin."""
    out = base / "several"
    shutil.copytree(one / "heads-stopped", out / "heads-resumed")
    shutil.copytree(one / "tuned-stopped", out / "tuned-resumed")
    shutil.copytree(one / "tuned-stopped", out / "sharded-resumed")
    shutil.copytree(one / "learnt-stopped", out / "learnt-resumed")
    jobs = [
        ("train_heads", "heads", {}),
        ("tune", "tuned", {"accumulation": 2}),
        ("learn", "learnt", {"accumulation": 2}),
        ("tune", "sharded", {"fsdp": True, "gradient_checkpointing": True}),
        ("train_heads", "heads-resumed", {}),
        ("train_heads", "heads-stopped", {"stop": 1}),
        ("tune", "tuned-resumed", {"resume": True}),
        ("tune", "sharded-resumed", {"resume": True, "fsdp": True}),
        ("tune", "sharded-stopped", {"stop": 3, "fsdp": True}),
        ("learn", "learnt-resumed", {"resume": True}),
        ("learn", "learnt-stopped", {"stop": 4}),
        *((name, to, {**values, "fsdp": True}) for name, to, values in ONE[3:]),
        ("head_gradients", "gradients.pt", {}),
        ("steps_of_a_study", "study", {}),
    ]
    (out / "study").mkdir()
    (base / "jobs.json").write_text(json.dumps([[name, f"several/{to}", more] for name, to, more in jobs]))
    script = Path(shared_training.__file__)
    done = subprocess.run(
        [*TORCHRUN, str(N), str(script), str(base)],
        capture_output=True, text=True, timeout=600, env=environment(),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert (base / "world").read_text() == str(N)
    return out


def curves(folder: Path, *names: str) -> np.ndarray:
    return np.array([[entry[name] for name in names] for entry in read_journal(folder)])


def weights(folder: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


def assert_same_tuning(found: Path, expected: Path) -> None:
    names = ("train_loss", "dev_loss", "eer_percent")
    assert curves(found / "run", *names) == pytest.approx(curves(expected / "run", *names), abs=NOISE)
    ours, theirs = weights(found), weights(expected)
    assert ours.keys() == theirs.keys()
    worst = max(float((ours[k] - theirs[k]).abs().max()) for k in theirs)
    # Adam's step is of the size of the learning rate also where a gradient is nothing but rounding.
    assert worst < 1e-3, worst


def assert_same_heads(found: Path, expected: Path) -> None:
    """AASIST's curve is the same at first: later its rounding grows, as between one thread and two."""
    ours, theirs = read_journal(found), read_journal(expected)
    assert [(e["step"], e["head"]) for e in ours] == [(e["step"], e["head"]) for e in theirs]
    for one, other in zip(ours, theirs, strict=True):
        if one["head"] != "aasist" or one["step"] == 1:
            noise = 20 * NOISE if one["head"] == "aasist" else NOISE
            for name in ("train_loss", "dev_loss", "dev_eer_percent"):
                assert one[name] == pytest.approx(other[name], abs=noise), (one["head"], one["step"])


def test_heads_learn_in_three_processes_what_they_do_in_one(one, several):
    """Also from batches that are smaller than the processes are many, and of which files cannot be read."""
    assert_same_heads(several / "heads", one / "heads")
    losses = [e["train_loss"] for e in read_journal(one / "heads") if e["head"] == "ffn"]
    assert losses[-1] < losses[0]
    found, wanted = (read_failures(folder / "heads" / "failures.csv") for folder in (several, one))
    assert {f.utterance_id for f in found} == {f.utterance_id for f in wanted}
    assert len(found) == 3


def test_gradients_of_heads_are_exact_with_batch_normalisation_and_dropout(one, several):
    """In double precision, so that a term that is left out cannot hide behind rounding."""
    found, expected = (torch.load(folder / "gradients.pt") for folder in (several, one))
    assert found.keys() == expected.keys()
    assert any(name.startswith("aasist.") and "norm" in name for name in expected)
    for name, tensor in expected.items():
        assert torch.allclose(found[name], tensor, rtol=1e-9, atol=1e-10), name


def test_fine_tuning_in_pieces_by_three_processes_is_that_in_one(one, several):
    assert_same_tuning(several / "tuned", one / "tuned")


def test_a_sharded_model_learns_the_same_and_leaves_a_plain_detector(one, several):
    assert_same_tuning(several / "sharded", one / "tuned")
    wave = [np.random.default_rng(0).standard_normal(8000).astype(np.float32)]
    scores = [Detector.load(folder).score_waveforms(wave) for folder in (several / "sharded", one / "tuned")]
    assert scores[0] == pytest.approx(scores[1], abs=1e-3)


def test_low_rank_updates_of_a_sharded_model_are_those_of_a_whole_one(one, several):
    pytest.importorskip("peft", reason="extra lora is not installed")
    assert_same_tuning(several / "low-rank", one / "low-rank")


def test_pre_training_in_pieces_by_three_processes_is_that_in_one(one, several):
    names = ("loss_masked", "loss_unmasked", "feature_penalty", "gradient_norm", "masked_share")
    expected = curves(one / "learnt" / "run", *names)
    assert len(expected) == 3
    assert curves(several / "learnt" / "run", *names) == pytest.approx(expected, rel=1e-5)
    facts = [json.loads((folder / "learnt" / "pretraining.json").read_text()) for folder in (one, several)]
    assert facts[0]["data"] == facts[1]["data"]
    assert facts[0]["passes"] == facts[1]["passes"]


def test_a_run_goes_on_in_another_number_of_processes(base, one, several):
    assert_same_heads(several / "heads-resumed", one / "heads")
    assert latest_checkpoint(several / "heads-stopped").step == 1
    shared_training.train_heads(base, several / "heads-stopped")
    assert_same_heads(several / "heads-stopped", one / "heads")
    for run in ("tuned-resumed", "sharded-resumed"):
        assert_same_tuning(several / run, one / "tuned")
    assert latest_checkpoint(several / "sharded-stopped" / "run").step == 2
    shared_training.tune(base, several / "sharded-stopped", resume=True)
    assert_same_tuning(several / "sharded-stopped", one / "tuned")
    names = ("loss_masked", "loss_unmasked", "accuracy_masked", "perplexity_targets", "masked_share")
    expected = curves(one / "learnt" / "run", *names)
    assert curves(several / "learnt-resumed" / "run", *names) == pytest.approx(expected, rel=1e-5)
    shared_training.learn(base, several / "learnt-stopped", resume=True)
    assert curves(several / "learnt-stopped" / "run", *names) == pytest.approx(expected, rel=1e-5)


def test_the_first_process_does_the_steps_of_a_study_and_tells_the_others(several):
    told = [json.loads((several / "study" / f"told-{rank}.json").read_text()) for rank in range(N)]
    assert told[0] == told[1] == told[2]
    assert told[0]["facts"] == {"first": {"by": 0}, "all": {"by": 0}}
    assert told[0]["broken"] == {"broken": "process 0 cannot", "after": "needs broken"}


def test_a_killed_process_ends_the_run_which_another_number_goes_on_with(base, one, tmp_path, monkeypatch):
    out = tmp_path / "d"
    command = [
        "finetune", str(base / "corpus" / "manifest.csv"), "--frontend", str(base / "wavlm"), "-o", str(out),
        "--epochs", "2", "--batch-size", "4", "--learning-rate", "1e-3", "--checkpoint-steps", "1",
        "--no-dropout", "--crop", "0.4", "--workers", "0", "--device", "cpu",
    ]  # fmt: skip
    process = subprocess.Popen(
        [*TORCHRUN, "2", "-m", "voxfide", *command],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment(),
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while not list(out.glob("run/checkpoints/step-*/state.json")):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.01)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    if not children.exists():
        process.kill()
        pytest.skip("this system does not say which processes are whose children")
    os.kill(int(children.read_text().split()[-1]), signal.SIGKILL)
    said, _ = process.communicate(timeout=120)
    assert process.returncode not in (0, 2), said
    assert not (out / "config.json").exists()
    assert run_here(monkeypatch, *command, "--resume") == 0
    assert_same_tuning(out, one / "tuned")


def test_a_back_end_that_is_fitted_at_once_is_the_first_processs(base, tmp_path, monkeypatch, capsys):
    arguments = ["train", base / "corpus" / "manifest.csv", "--frontend", "lfcc", "--backend", "logistic"]
    arguments += ["--balance", "label", "-o", tmp_path / "d", "--workers", "0", "--device", "cpu"]
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("TORCH_CPP_LOG_LEVEL", "ERROR")
    monkeypatch.setenv("RANK", "1")
    assert run_here(monkeypatch, *arguments) == 0
    assert capsys.readouterr() == ("", "")
    assert not (tmp_path / "d").exists()
    monkeypatch.setenv("RANK", "0")
    assert run_here(monkeypatch, *arguments) == 0
    assert Detector.load(tmp_path / "d").backend.name == "logistic"


def test_a_study_whose_cells_are_dealt_out_is_that_of_one_process(base, tmp_path, monkeypatch):
    manifest = base / "corpus" / "manifest.csv"
    second = Path(shutil.copy(manifest, manifest.with_name("again.csv")))

    def study(out: Path) -> list[str]:
        return [
            "study", "layerwise", "--manifest", str(manifest), "--manifest", str(second), "--frontends",
            f"tiny={base / 'wavlm'}", "-o", str(out), "--crop", "0.4", "--workers", "0",
            "--n-layers", "1", "--backends", "ffn,aasist", "--seeds", "1", "--epochs", "1",
            "--bootstrap", "0", "--device", "cpu",
        ]  # fmt: skip

    done = subprocess.run(
        [*TORCHRUN, "2", "-m", "voxfide", *study(tmp_path / "two")],
        capture_output=True, text=True, timeout=300, env=environment(),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert run_here(monkeypatch, *study(tmp_path / "one")) == 0
    for table in ("eer.csv", "layer_weights.csv"):
        assert (tmp_path / "two" / table).read_bytes() == (tmp_path / "one" / table).read_bytes()
    assert (tmp_path / "two" / "report.html").exists()


def test_a_process_takes_cells_at_which_no_other_is(tmp_path):
    """From a place of its own on; the first waits for what others are at, and takes over what they leave."""
    done: list[tuple[int, int]] = []

    def cell(number: int, process: int) -> SimpleNamespace:
        task, choice = (
            SimpleNamespace(name="task"),
            SimpleNamespace(label="tiny", size="other", n_layers=(1,)),
        )
        finished = ([], [], [])
        return SimpleNamespace(
            folder=tmp_path / str(number), task=task, choice=choice,
            finished=lambda: done.append((process, number)) or finished,
        )  # fmt: skip

    def work_off(process: int) -> set[int]:
        return set(layerwise._work_off([cell(n, process) for n in range(4)], Reporter(), process, 2))

    with ExitStack() as other:
        other.enter_context(exclusive(tmp_path / "0" / ".lock", "held"))
        assert work_off(1) == {1, 2, 3}
        assert [number for _, number in done] == [2, 3, 1]
        first = threading.Thread(target=lambda: done.append((-1, len(work_off(0)))))
        first.start()
        first.join(timeout=0.5)
        assert first.is_alive()
    first.join(timeout=30)
    assert done[-1] == (-1, 4)
    assert not list(tmp_path.glob("*/.lock"))


def test_what_cannot_be_shared_out_is_said(base, tmp_path):
    sets = shared_training.choose_sets(Manifest.read(base / "corpus" / "manifest.csv"), "train", "dev")
    options = shared_training.FinetuneOptions(workers=0, cpu=True, fsdp=True)
    with pytest.raises(UsageError, match="FSDP shares a model out over several processes: there is one"):
        finetune(sets, str(base / "wavlm"), tmp_path / "d", options=options, settings=FinetuneSettings())


def test_a_lost_process_is_named_and_other_errors_are_let_through():
    gloo = (
        "[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:1"
    )
    for said in (gloo, "NCCL communicator was aborted on rank 0"):
        with pytest.raises(LostProcessError, match="another process of this run"), naming_lost_processes():
            raise RuntimeError(said)
    with pytest.raises(RuntimeError, match="shape mismatch"), naming_lost_processes():
        raise RuntimeError("shape mismatch")


@given(st.integers(1, 40), st.integers(1, 8), st.integers(1, 6), st.integers(0, 3))
def test_the_pieces_of_all_processes_are_those_of_one(n, n_processes, n_pieces, seed):
    rows = np.random.default_rng(seed).permutation(100)[:n]
    whole = np.array_split(rows, n_pieces)
    shares = [rows[rank::n_processes] for rank in range(n_processes)]
    pieces = [[mine[p.numpy()] for p in share_of(rows, mine, n_pieces)] for mine in shares]
    for number, expected in enumerate(whole):
        found = np.concatenate([of_process[number] for of_process in pieces])
        assert sorted(found.tolist()) == sorted(expected.tolist())


@given(st.lists(st.lists(st.booleans(), max_size=4), max_size=8))
def test_a_process_keeps_in_step_whatever_it_cannot_read(readable):
    edges = np.cumsum([0, *map(len, readable)])
    shares = [np.arange(a, b) for a, b in zip(edges, edges[1:], strict=False)]
    kept = [rows[np.array(flags, bool)] for rows, flags in zip(shares, readable, strict=True)]
    nothing = torch.zeros(0)
    found = list(in_step(iter([Batch(rows, nothing, nothing) for rows in kept if len(rows)]), shares))
    assert [[] if b is None else b.indices.tolist() for b in found] == [rows.tolist() for rows in kept]


@given(st.integers(1, 5), st.integers(1, 6), st.integers(0, 9))
def test_dropout_follows_the_row_whatever_stands_beside_it(n_rows, more, seed):
    layer = torch.nn.Sequential(torch.nn.Dropout(0.3), torch.nn.Dropout(0.3)).train()
    keys = [chance_key(seed, row) for row in range(n_rows + more)]
    x = torch.rand(n_rows + more, 7, 5) + 1
    device = torch.device("cpu")
    with following_rows(layer, keys, device):
        together = layer(x)
    with following_rows(layer, keys[more:], device):
        apart = layer(x[more:])
    assert torch.equal(together[more:], apart)
    # Padded with more places, a row keeps the draws of its own.
    with following_rows(layer, keys[:1], device):
        longer = layer(torch.cat([x[:1], x[:1]], dim=1))
    assert torch.equal(longer[:, :7], together[:1])
    assert type(layer[0]) is torch.nn.Dropout
    assert torch.equal(layer.eval()(x), x)


def test_what_is_dropped_is_random():
    """Shares and correlations of a million draws, over rows, places and successive dropouts."""
    layer = torch.nn.Dropout(0.3).train()
    ones = torch.ones(100, 100, 100)
    with following_rows(layer, list(range(100)), torch.device("cpu")):
        first, second = (layer(ones) == 0 for _ in range(2))
        assert layer(ones).unique().tolist() == pytest.approx([0.0, 1 / 0.7])
    assert float(first.float().mean()) == pytest.approx(0.3, abs=5 * (0.21 / 1e6) ** 0.5)
    centred = first.double() - first.double().mean()
    for other in (second, first.roll(1, 0), first.roll(1, 1), first.roll(1, 2)):
        correlation = (centred * (other.double() - 0.3)).mean() / 0.21
        assert abs(float(correlation)) < 5e-3


def test_keys_differ_and_stay():
    keys = {chance_key(*numbers) for numbers in [(0, 1), (1, 0), (0, 1, 0), (11,), (1, 1)]}
    assert len(keys) == 5
    assert chance_key(0, 1) == chance_key(0, 1)
    assert all(0 <= key < 2**63 for key in keys)


def test_bytes_of_a_training_state_are_weights_gradients_and_two_moments():
    model = torch.nn.Linear(30, 20)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 30)).sum().backward()
    optimizer.step()
    assert held_bytes(list(model.parameters()), optimizer) == state_bytes(620)
    assert state_bytes(1000, frozen=100, processes=4) == (16 * 1000 + 4 * 100) / 4
