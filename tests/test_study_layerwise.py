"""The layer-wise study from the command line: a grid, every recipe in miniature, interrupted, refused."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import corpora_miniatures
from checkpoints import write_checkpoint
from command_line import run_here, stop_when
from small_corpus import JUNK, replace_audio, write_corpus
from voxfide.corpora.roots import root_variable
from voxfide.detector import Detector
from voxfide.errors import UsageError
from voxfide.frontends import create_frontend
from voxfide.manifest import Manifest
from voxfide.metrics import eer_percent
from voxfide.scores import read_scores
from voxfide.scoring import score_manifest
from voxfide.studies.layerwise_grid import DEPTHS, MODELS, choose_frontends
from voxfide.studies.layerwise_rows import EerRow, SpeedRow, WeightRow, read_rows
from voxfide.studies.published import TRAINED_ON
from voxfide.studies.recipe import Sources, read_recipe, recipe_names
from voxfide.studies.speed import measure_speed, parameters_of


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model") / "tiny"
    write_checkpoint(folder, "wavlm-base")
    return folder


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    return Manifest.read(write_corpus(tmp_path_factory.mktemp("corpus") / "words", 27))


def study(manifest: Manifest, frontends: str, out: Path) -> list[str]:
    return [
        *("study", "layerwise", "--manifest", manifest.source, "--frontends", frontends, "-o", str(out)),
        *("--crop", "0.4", "--workers", "0"),
    ]


def grid(manifest: Manifest, tiny: Path, out: Path, *more: str) -> list[str]:
    return [
        *study(manifest, f"tiny={tiny}", out),
        *("--n-layers", "1,3", "--backends", "ffn,aasist", "--seeds", "1,2", "--epochs", "2"),
        *("--bootstrap", "50", *more),
    ]


ONE_HEAD = ["--n-layers", "1", "--backends", "ffn", "--seeds", "1", "--epochs", "1", "--bootstrap", "0"]


@pytest.fixture(scope="module")
def finished(manifest, tiny, tmp_path_factory):
    out = tmp_path_factory.mktemp("study") / "out"
    with pytest.MonkeyPatch.context() as patch:
        assert run_here(patch, *grid(manifest, tiny, out, "--save-detectors")) == 0
    return out


def rows_of(out: Path) -> list[list[str]]:
    """The tables but for the times."""
    return [list(csv.reader((out / name).open())) for name in ("eer.csv", "layer_weights.csv")]


def test_every_cell_of_the_grid_has_its_rows(finished):
    eers = read_rows(finished / "eer.csv", EerRow)
    assert {(r.backend, r.n_layers, r.seed) for r in eers} == {
        (b, n, s) for b in ("ffn", "aasist") for n in (1, 3) for s in (1, 2)
    }
    assert {(r.train_set, r.eval_set, r.size, r.frontend) for r in eers} == {
        ("words", "words", "other", "tiny")
    }
    assert all(r.low <= r.eer_percent <= r.high for r in eers)
    weights = read_rows(finished / "layer_weights.csv", WeightRow)
    assert len(weights) == 2 * 2 * (1 + 3)
    sums = {}
    for row in weights:
        key = (row.backend, row.n_layers, row.seed)
        sums[key] = sums.get(key, 0) + row.weight
    assert list(sums.values()) == pytest.approx([1.0] * 8)
    speeds = read_rows(finished / "speed.csv", SpeedRow)
    assert {(r.n_layers, r.batch_size) for r in speeds} == {(1, 1), (1, 16), (3, 1), (3, 16)}
    page = (finished / "report.html").read_text(encoding="utf-8")
    assert "tiny" in page


def test_the_rows_say_what_the_score_files_and_the_saved_detectors_say(finished, manifest, tmp_path):
    run = finished / "runs" / "words" / "tiny-other"
    part = manifest.split("eval")
    truth = part.strings("label") == "bonafide"
    row = next(
        r
        for r in read_rows(finished / "eer.csv", EerRow)
        if (r.backend, r.n_layers, r.seed) == ("aasist", 3, 2)
    )
    table = read_scores(run / "scores" / "words" / "aasist-n3-seed2.tsv")
    assert table.utterance_id.tolist() == part.column("utterance_id")
    assert row.eer_percent == eer_percent(table.score, truth)
    detector = Detector.load(run / "detectors" / "aasist-n3-seed2")
    score_manifest(detector, part, tmp_path / "s.tsv")
    np.testing.assert_allclose(read_scores(tmp_path / "s.tsv").score, table.score, atol=1e-4)


def test_nothing_of_a_finished_study_is_left_or_done_again(finished, manifest, tiny, monkeypatch, capsys):
    run = finished / "runs" / "words" / "tiny-other"
    assert sorted(p.name for p in run.iterdir()) == ["detectors", "metrics.jsonl", "result.json", "scores"]
    before = rows_of(finished)
    monkeypatch.setattr("voxfide.studies.layerwise.create_frontend", None)
    assert run_here(monkeypatch, *grid(manifest, tiny, finished, "--save-detectors")) == 0
    assert "was finished before" in capsys.readouterr().err
    assert rows_of(finished) == before


def test_another_grid_in_the_same_folder_is_not_done(finished, manifest, tiny, monkeypatch, capsys):
    before = rows_of(finished)
    assert run_here(monkeypatch, *grid(manifest, tiny, finished, "--lr", "0.01")) == 2
    assert "holds another study" in capsys.readouterr().err
    assert rows_of(finished) == before


KILLABLE = """
from voxfide.training import heads
heads.CHECKPOINT_EVERY = 0.0
from voxfide.cli import main
main()
"""


def test_a_study_that_was_killed_gives_the_same_tables(finished, manifest, tiny, tmp_path, monkeypatch):
    out = tmp_path / "out"
    process = subprocess.Popen(
        [sys.executable, "-c", KILLABLE, *grid(manifest, tiny, out, "--save-detectors")],
        stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    checkpoints = out / "runs" / "words" / "tiny-other" / "checkpoints"
    status, said = stop_when(process, signal.SIGKILL, lambda: any(checkpoints.glob("*/state.json")))
    assert status == -9, said
    assert not (out / "eer.csv").exists()
    assert run_here(monkeypatch, *grid(manifest, tiny, out, "--save-detectors")) == 0
    for ours, theirs in zip(rows_of(out), rows_of(finished), strict=True):
        assert ours[0] == theirs[0]
        for a, b in zip(ours[1:], theirs[1:], strict=True):
            assert a[:7] == b[:7]
            assert [float(x) for x in a[7:]] == pytest.approx([float(x) for x in b[7:]], abs=1e-5)


def test_all_problems_of_a_grid_are_said_at_once(manifest, tiny, tmp_path, monkeypatch, capsys):
    one_class = Manifest.read(manifest.source)
    one_class = one_class.take(np.flatnonzero(one_class.strings("label") == "spoof"))
    one_class.write(tmp_path / "one.csv")
    code = run_here(
        monkeypatch, "study", "layerwise", "-o", tmp_path / "out", "--manifest", manifest.source,
        "--frontends", f"tiny={tiny},wavlm,wavelm", "--n-layers", "2,9,13", "--backends", "ffn,asist",
        "--recipe", "had", "--eval", f"one={tmp_path / 'one.csv'}", "--seeds", "1",
    )  # fmt: skip
    said = capsys.readouterr().err
    assert code == 2
    for expected in (
        "has 4 layers, asked for 9, 13",
        "front-end wavlm has 12 layers, asked for 13",
        "unknown front-end 'wavelm'",
        "unknown back-end 'asist'",
        "corpus had: is not known on this machine",
        "one (one, split eval): 0 bona fide and 4 spoofed",
    ):
        assert expected in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--epochs", "0"], "greater than or equal to 1"),
        (["--lr", "-1"], "learning rate -1"),
        (["--class-weights", "1"], "two numbers"),
        (["--option", "variant=paper2"], "variant"),
        (["--size", "medium"], "size 'medium'"),
        (["--n-layers", "2,x"], "whole numbers"),
    ],
)
def test_settings_that_cannot_be_are_refused(
    arguments, message, manifest, tiny, tmp_path, monkeypatch, capsys
):
    assert run_here(monkeypatch, *study(manifest, str(tiny), tmp_path / "out"), *arguments) == 2
    assert message in capsys.readouterr().err


def test_a_broken_model_does_not_stop_the_others(manifest, tiny, tmp_path, monkeypatch, capsys):
    bad = tmp_path / "bad"
    write_checkpoint(bad, "wavlm-base")
    (bad / "model.safetensors").write_bytes(JUNK)
    arguments = study(manifest, f"bad={bad},good={tiny}", tmp_path / "out")
    assert run_here(monkeypatch, *arguments, *ONE_HEAD) == 1
    assert "not done: words, bad (other)" in capsys.readouterr().err
    assert {r.frontend for r in read_rows(tmp_path / "out" / "eer.csv", EerRow)} == {"good"}


def test_a_file_that_cannot_be_read_is_told_at_the_end(tiny, tmp_path, monkeypatch, capsys):
    manifest = Manifest.read(write_corpus(tmp_path / "words", 27))
    for row in (1, 25):
        replace_audio(manifest.audio_paths()[row], JUNK)
    arguments = study(manifest, f"tiny={tiny}", tmp_path / "out")
    assert run_here(monkeypatch, *arguments, *ONE_HEAD) == 1
    assert "2 file(s) could not be used" in capsys.readouterr().err
    table = (tmp_path / "out" / "runs" / "words" / "tiny-other" / "failures.csv").read_text(encoding="utf-8")
    assert "é_001" in table
    assert "é_025" in table


def test_the_study_knows_its_own_models_and_depths():
    small = choose_frontends(["wav2vec2", "hubert", "wavlm"], "small", [])
    assert [(c.label, c.name, c.n_layers) for c in small.frontends] == [
        (label, name, (2, 4, 6, 12)) for label, name in MODELS["small"].items()
    ]
    large = choose_frontends(["wav2vec2", "hubert", "wavlm"], "large", [])
    assert {c.n_layers for c in large.frontends} == {DEPTHS["large"]}
    with pytest.raises(UsageError, match="named twice"):
        choose_frontends(["wavlm", "wavlm"], "small", [])


def test_recipes_cover_the_ten_evaluation_sets_with_what_they_were_trained_on():
    found = {}
    for name in recipe_names():
        recipe = read_recipe(name)
        assert recipe.backend == {"variant": "reference"}
        assert recipe.seeds == (1, 42, 1234)
        found |= dict.fromkeys(recipe.evaluations, recipe.train_set)
    assert found == TRAINED_ON


def test_a_malformed_recipe_says_everything_that_is_wrong(tmp_path):
    (tmp_path / "r.yaml").write_text(
        "name: x\ntrain: {corpus: had}\nevaluations: {A: {set: had}}\ncrop: {seconds: -1}\nsede: 3\n"
    )
    with pytest.raises(UsageError) as caught:
        read_recipe(tmp_path / "r.yaml")
    for word in ("no train_set", "no dev", "evaluations: A", "crop of -1", "unknown key sede"):
        assert word in str(caught.value)
    with pytest.raises(UsageError, match="unknown recipe la20 .*la19"):
        read_recipe("la20")


@pytest.fixture(scope="module")
def miniatures(tmp_path_factory):
    """Every corpus of the ten evaluation sets in its owners' layout; name to root."""
    base = tmp_path_factory.mktemp("corpora")
    names = {c for r in recipe_names() for c in read_recipe(r).corpora()}
    return {name: corpora_miniatures.make(name, base / name, seconds=0.3).root for name in sorted(names)}


def test_every_recipe_runs_on_a_miniature_of_its_corpora(miniatures, tiny, tmp_path, monkeypatch, capsys):
    for name, root in miniatures.items():
        monkeypatch.setenv(root_variable(name), str(root))
    code = run_here(
        monkeypatch, "study", "layerwise", "--recipe", "all", "-o", tmp_path / "out", "--published",
        "--frontends", f"wavlm={tiny}", "--size", "small", "--n-layers", "2", "--seeds", "1", "--epochs", "1",
        "--workers", "0", "--bootstrap", "0", "--backends", "ffn",
    )  # fmt: skip
    assert code == 0, capsys.readouterr().err
    rows = read_rows(tmp_path / "out" / "eer.csv", EerRow)
    assert {r.eval_set: r.train_set for r in rows} == TRAINED_ON
    for run in (tmp_path / "out" / "runs").glob("*/wavlm-small"):
        held = json.loads((run / "result.json").read_text())
        assert held["failures"] == []


def test_a_recipe_takes_the_crop_of_its_corpus(miniatures):
    sources = Sources({}, miniatures)
    task = sources.task(read_recipe("partialspoof"))
    assert sources.problems == []
    assert task is not None
    assert task.recipe.crop.seconds is None
    assert read_recipe("habla").training["class_weights"] == [0.3, 0.7]


def test_a_depth_is_computed_and_counted_alone(tiny):
    whole, cut = create_frontend(str(tiny)), create_frontend(str(tiny), 2)
    assert parameters_of(whole, 2) == sum(p.numel() for p in cut.parameters())
    assert parameters_of(whole, 4) == sum(p.numel() for p in whole.parameters())
    rows = measure_speed(whole, "tiny", "other", [1, 4], batch_sizes=[2], seconds=0.5, rounds=1)
    assert [(r.n_layers, r.batch_size) for r in rows] == [(1, 2), (4, 2)]
    assert rows[0].x_realtime == pytest.approx(0.5 / rows[0].seconds_per_utterance)
