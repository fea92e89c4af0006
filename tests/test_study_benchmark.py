"""The benchmark of representations: its figures, its processes, what is recorded, tables and figure."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

import voxfide.studies.benchmark as benchmark_module
from checkpoints import write_checkpoint
from command_line import run_here
from small_corpus import write_corpus
from voxfide.errors import UsageError
from voxfide.frontends import FRONTENDS, create_frontend
from voxfide.frontends.random_weights import create_with_random_weights, has_random_weights
from voxfide.manifest import Manifest
from voxfide.metrics import eer_percent
from voxfide.studies.benchmark import BenchmarkOptions, run_benchmark
from voxfide.studies.benchmark_choice import PUBLISHED, BenchmarkFrontend, check_layer, choose
from voxfide.studies.benchmark_figures import spread, trade_off_figure
from voxfide.studies.benchmark_rows import BenchmarkRow, ranked
from voxfide.studies.benchmark_tables import main_table, published_table
from voxfide.studies.benchmark_worker import Job, examples
from voxfide.studies.published import representations
from voxfide.training import TrainingSet

ROW = BenchmarkRow(
    "wavlm-base", "wavlm-base", "released", "0" * 64, 94_381_040, 12, "last", 768, 9.9, 9.0, 11.0, 300, 2400,
    0, 40.0, 2**30, None, {"device": "cpu", "processor": "P", "cores": 2, "threads": 1, "torch": "2"}, True,
    "LibriSpeech 960 h",
)  # fmt: skip


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("benchmark")
    write_corpus(folder / "corpus", 36, seconds=(0.3, 0.6))
    write_checkpoint(folder / "tiny", "wavlm-base")
    (folder / "junk.ckpt").write_bytes(b"no weights at all")
    return folder


def arguments(base: Path, out: Path) -> list[str | Path]:
    return [
        "study", "benchmark", base / "corpus" / "manifest.csv", "-o", out,
        "--frontends", f"wavlm-base={base / 'tiny'},lfcc,ge2e,ecapa-tdnn",
        "--frontend-option", f"ecapa-tdnn:weights={base / 'junk.ckpt'}",
        "--random-weights", "--published", "--device", "cpu", "--workers", "0", "--bootstrap", "50",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def study(base: Path) -> Path:
    """A folder of weights of its own, no weights needed, random weights, and a file that is none."""
    out = base / "study"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        assert run_here(patch, *arguments(base, out)) == 1
    return out


def rows_of(out: Path) -> dict[str, dict[str, str]]:
    with (out / "benchmark.csv").open(encoding="utf-8", newline="") as file:
        return {row["label"]: row for row in csv.DictReader(file)}


def sets_of(base: Path) -> tuple[TrainingSet, TrainingSet]:
    manifest = Manifest.read(base / "corpus" / "manifest.csv")
    return TrainingSet.of("train", manifest, "train"), TrainingSet.of("dev", manifest, "dev")


# The command.


@pytest.mark.parametrize(("label", "source"), [("lfcc", "lfcc"), ("wavlm-base", "tiny")])
def test_the_eer_is_that_of_scikit_learn_on_the_last_layers_means(
    study: Path, base: Path, label: str, source: str
):
    from voxfide.audio import load_audio

    frontend = create_frontend(str(base / source) if source == "tiny" else source)
    found = []
    for part in sets_of(base):
        waveforms = [torch.from_numpy(load_audio(p).waveform) for p in part.manifest.audio_paths()]
        features = frontend.pooled(waveforms)[:, -1].numpy()
        found.append((features, part.manifest.strings("label") == "bonafide"))
    (x, y), (x_dev, y_dev) = found
    scaler = StandardScaler().fit(x)
    model = LogisticRegression(C=1e3, max_iter=5000).fit(scaler.transform(x), y)
    expected = eer_percent(model.decision_function(scaler.transform(x_dev)), y_dev)
    row = rows_of(study)[label]
    assert float(row["eer_percent"]) == pytest.approx(expected)
    assert int(row["n_bonafide"]) + int(row["n_spoof"]) == len(y_dev)


def test_rows_say_what_was_measured(study: Path, base: Path):
    rows = rows_of(study)
    assert list(rows)[-1] == "ge2e", "random weights stand behind all others"
    assert {label: row["weights"] for label, row in rows.items()} == {
        "wavlm-base": "released", "lfcc": "none", "ge2e": "random",
    }  # fmt: skip
    parameters = sum(p.numel() for p in create_frontend(str(base / "tiny")).parameters())
    assert int(rows["wavlm-base"]["n_parameters"]) == parameters
    assert int(rows["ge2e"]["n_parameters"]) == FRONTENDS["ge2e"].n_parameters
    assert rows["wavlm-base"]["open_condition"] == "True", "known by its label"
    for row in rows.values():
        assert float(row["x_realtime"]) > 0
        assert 5e7 < int(row["memory_bytes"]) < 1e10
        assert json.loads(row["machine"])["device"] == "cpu"


def test_tables_and_page_say_what_is_random_and_what_failed(study: Path):
    for suffix in ("md", "csv", "tex"):
        text = (study / "tables" / f"table1.{suffix}").read_text()
        assert "ge2e (random weights)" in text
        assert "ecapa-tdnn" in text
        assert "not measured: " in text
    assert "means nothing" in (study / "tables" / "table1.md").read_text()
    page = (study / "report.html").read_text()
    assert "junk.ckpt: not a readable PyTorch file" in page
    assert page.count("means nothing about the model") >= 2
    assert not re.search(r"(src|href)=\"(https?:)?//", page)
    with (study / "tables" / "published.csv").open(newline="") as file:
        beside = {row["model"]: row for row in csv.DictReader(file)}
    assert len(beside) == 12
    difference = float(beside["wavLM-base"]["eer_percent"]) - 9.93
    assert float(beside["wavLM-base"]["difference"]) == pytest.approx(difference)
    assert beside["ECAPA-TDNN"]["difference"] == ""


def test_what_is_finished_stays_finished(
    study: Path, base: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    tried = []

    def measured(job: Job, reporter: object) -> object:
        tried.append(job.choice.label)
        return benchmark_module._Outcome(error="still no weights")

    monkeypatch.setattr(benchmark_module, "_measured", measured)
    before = rows_of(study)
    assert run_here(monkeypatch, *arguments(base, study)) == 1
    said = capsys.readouterr().err
    assert tried == ["ecapa-tdnn"], "what failed is tried again"
    assert said.count("was finished before") == 3
    assert "not measured: ecapa-tdnn: still no weights" in said
    assert rows_of(study) == before
    without = [a for a in arguments(base, study) if a != "--random-weights"]
    assert run_here(monkeypatch, *without) == 1
    assert tried[1:] == ["ge2e", "ecapa-tdnn"], "random weights count only where they are asked for"


def test_another_classifier_uses_the_features_that_are_there(study: Path, base: Path, tmp_path: Path):
    choice = BenchmarkFrontend("lfcc", "lfcc")
    parts = {p: p.stat().st_mtime_ns for p in (study / "runs" / "lfcc").rglob("*.arrow")}
    result = run_benchmark([choice], sets_of(base), study, BenchmarkOptions(C=1e-3, workers=0, n_bootstrap=0))
    assert result.rows[0].low is None
    assert {p: p.stat().st_mtime_ns for p in (study / "runs" / "lfcc").rglob("*.arrow")} == parts


def test_killed_with_its_child_it_goes_on_to_the_same_row(study: Path, base: Path, tmp_path: Path):
    out = tmp_path / "killed"
    command = [
        sys.executable, "-m", "voxfide", "study", "benchmark", base / "corpus" / "manifest.csv", "-o", out,
        "--frontends", f"tiny={base / 'tiny'}", "--device", "cpu", "--workers", "0", "--bootstrap", "50",
    ]  # fmt: skip
    process = subprocess.Popen(
        list(map(str, command)), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while not list((out / "runs" / "tiny").glob("store-*/store.json")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.kill()  # the parent alone: its child must see to itself
    process.wait()
    time.sleep(1.0)
    assert not (out / "runs" / "tiny" / "result.json").exists()
    choice = BenchmarkFrontend("tiny", str(base / "tiny"))
    resumed = run_benchmark([choice], sets_of(base), out, BenchmarkOptions(workers=0, n_bootstrap=50))
    assert not resumed.broken, "the orphan has let go of the store"
    row, whole = resumed.rows[0], rows_of(study)["wavlm-base"]
    assert (row.fingerprint, row.dim, row.n_failed) == (whole["fingerprint"], int(whole["dim"]), 0)
    assert [row.eer_percent, row.low, row.high] == [float(whole[k]) for k in ("eer_percent", "low", "high")]


def _dies(job: Job, pipe: Connection) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_process_that_is_killed_ends_only_its_front_end(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(benchmark_module, "run", _dies)
    result = run_benchmark([BenchmarkFrontend("lfcc", "lfcc")], sets_of(base), tmp_path)
    assert not result.rows
    assert "signal 9" in result.broken["lfcc"]
    assert "out of memory?" in result.broken["lfcc"]


# What is chosen.


def test_all_that_is_wrong_is_said_at_once(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    code = run_here(
        monkeypatch, "study", "benchmark", base / "corpus" / "manifest.csv", "-o", tmp_path / "o",
        "--frontends", "lfcc,wavlm-bass,a=lfcc,a=leaf", "--frontend-option", "beats:weights=x",
        "--frontend-option", "lfcc:weights=nowhere.pt", "--dev-split", "train", "--layer", "first",
    )  # fmt: skip
    said = capsys.readouterr().err
    assert code == 2
    for part in (
        "did you mean 'wavlm-base'", "a is named twice", "beats is not among", "no weights file nowhere.pt",
        "named for training and for development", "layer 'first'",
    ):  # fmt: skip
        assert part in said, part
    assert not (tmp_path / "o").exists()


def test_groups_and_files_of_front_ends(base: Path, tmp_path: Path):
    assert [c.name for c in choose(["all"])] == [n for n in FRONTENDS.names() if n != "waveform"]
    assert [c.name for c in choose(["table1"])] == list(PUBLISHED.values())
    assert set(PUBLISHED) == {r.model for r in representations()}
    listed = f"- lfcc\n- {{frontend: {base / 'tiny'}, label: mine}}\n"
    (tmp_path / "beats.pt").write_bytes(b"x")
    listed += "- {frontend: beats, options: {weights: beats.pt}}\n"
    (tmp_path / "f.yaml").write_text(listed)
    lfcc, mine, beats = choose([str(tmp_path / "f.yaml")])
    assert (lfcc.label, mine.label, mine.folder) == ("lfcc", "mine", base / "tiny")
    assert beats.options["weights"] == str(tmp_path / "beats.pt"), "relative to the file"
    (tmp_path / "f.yaml").write_text("- {front: lfcc}\n- 3\n")
    with pytest.raises(UsageError, match=r"entry 1.*entry 2"):
        choose([str(tmp_path / "f.yaml")])


def test_layers_that_front_ends_do_not_have(base: Path):
    choices = choose(["lfcc", f"tiny={base / 'tiny'}", "wavlm-base"])
    assert check_layer(choices, None, "last") == []
    assert [p.split()[0] for p in check_layer(choices, None, 5)] == ["lfcc", "tiny"]
    assert [p.split()[0] for p in check_layer(choices, 2, 3)] == ["lfcc", "tiny", "wavlm-base"]


def test_layers_are_chosen_without_loading_the_others(study: Path, base: Path):
    from voxfide.store import EmbeddingStore

    store = EmbeddingStore(next((study / "runs" / "wavlm-base").glob("store-*")))
    train, _ = sets_of(base)
    every, is_bonafide, ids = examples(train, store, "all")
    assert every.shape == (12, 4, 48)
    assert (is_bonafide.sum(), len(ids)) == (6, 12)
    for layer, expected in (("last", every[:, 3]), (2, every[:, 1]), ("mean", every.mean(axis=1))):
        found, _, _ = examples(train, store, layer)
        np.testing.assert_allclose(found[:, 0], expected, rtol=1e-5, atol=1e-6)


# Random weights.


@pytest.mark.parametrize("name", ["ecapa-tdnn", "titanet-large", "yamnet", "ge2e", "distilhubert"])
def test_random_weights_build_the_release_at_its_size(name: str):
    made = create_with_random_weights(name)
    spec = FRONTENDS[name]
    assert sum(p.numel() for p in made.parameters()) == spec.n_parameters
    assert (made.n_layers, made.dim) == (spec.n_layers, spec.dim)
    noise = 0.1 * torch.randn(20_000, generator=torch.Generator().manual_seed(0))
    one, other = made.pooled([noise, noise.cumsum(0) / 30])[:, -1]
    assert float((one - other).norm() / one.norm()) > 1e-3


def test_random_weights_leave_the_callers_random_state_alone_and_have_limits():
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    create_with_random_weights("ge2e")
    assert torch.equal(torch.rand(3), expected)
    one, again, other = (create_with_random_weights("ge2e", seed=s).fingerprint() for s in (3, 3, 4))
    assert one == again != other
    assert create_with_random_weights("distilhubert", 1).n_layers == 1
    assert [s.name for s in FRONTENDS if not has_random_weights(s)] == [
        "lfcc", "leaf", "waveform", "lfcc-moments",
    ]  # fmt: skip
    with pytest.raises(UsageError, match="works without weights"):
        create_with_random_weights("lfcc")
    with pytest.raises(UsageError, match="expected 1 to 2"):
        create_with_random_weights("distilhubert", 3)


# Tables and figure.


def test_order_and_what_the_printed_table_is_compared_with():
    other = replace(ROW, label="wav2vec2-base", name="wav2vec2-base", eer_percent=3.0, low=None, high=None)
    random = replace(
        ROW, label="hubert-base-ls960", name="hubert-base-ls960", weights="random", eer_percent=1.0
    )
    rows = ranked([ROW, random, other])
    assert [row.label for row in rows] == ["wav2vec2-base", "wavlm-base", "hubert-base-ls960"]
    table = main_table(rows, {"beats": "no weights"})
    assert [row[0] for row in table.rows] == [
        "wav2vec2-base", "wavlm-base", "hubert-base-ls960 (random weights)", "beats",
    ]  # fmt: skip
    assert "means nothing" in table.caption
    assert "means nothing" not in main_table([ROW], {}).caption
    beside = {row[0]: row for row in published_table(rows).rows}
    assert list(beside)[:2] == ["wav2vec2-xls-r-2b", "wavLM-large"]
    assert beside["wavLM-base"][-1] == pytest.approx(9.9 - 9.93)
    assert beside["HuBERT"][-2:] == [None, None]
    assert beside["LEAF"][-2:] == [None, None]


def test_the_figure_shows_every_front_end_once_a_panel():
    rows = [replace(ROW, label=f"f{i}", eer_percent=float(i), n_parameters=10 ** (i % 8)) for i in range(12)]
    rows.append(replace(ROW, label="none", n_parameters=0, weights="none"))
    left, right = trade_off_figure(rows).axes
    assert sorted(t.get_text() for t in left.texts) == sorted(r.label for r in rows if r.n_parameters)
    assert sorted(t.get_text() for t in right.texts) == sorted(r.label for r in rows)
    with pytest.raises(UsageError):
        trade_off_figure([])


@given(st.lists(st.floats(0, 50), max_size=15), st.floats(0.1, 3))
def test_labels_keep_their_order_and_distance(values: list[float], step: float):
    values = sorted(values)
    places = spread(values, step, 60.0)
    assert len(places) == len(values)
    assert all(b - a >= step - 1e-9 for a, b in zip(places, places[1:], strict=False))
    apart = all(b - a >= step for a, b in zip(values, values[1:], strict=False))
    if values and apart and values[0] >= step / 2 and values[-1] <= 60 - step:
        np.testing.assert_allclose(places, values, atol=1e-9)
