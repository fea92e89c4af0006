"""The ensemble study, end to end on corpora in miniature with tiny random models."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import corpora_miniatures
from checkpoints import write_checkpoint
from command_line import run_here
from conftest import GOLDEN, needs_shared
from voxfide.corpora.roots import root_variable
from voxfide.ensemble import EnsembleDetector
from voxfide.errors import UnknownNameError, UsageError
from voxfide.manifest import Manifest
from voxfide.metrics import eer_percent
from voxfide.scores import read_scores
from voxfide.scoring import score_manifest
from voxfide.studies import ensemble_systems
from voxfide.studies.ensemble import run_ensemble
from voxfide.studies.ensemble_data import find_data
from voxfide.studies.ensemble_recipe import read_ensemble_recipe
from voxfide.studies.ensemble_report import write_ensemble_report
from voxfide.studies.ensemble_systems import EnsembleOptions, settings_of

CORPORA = ("asvspoof5", "asvspoof2019la", "asvspoof2021df", "inthewild", "for-norm")
SIZES = {"train": 150, "dev": 30, "eval": 30, "progress": 4, "hidden_track": 2}
FUSED = ("wavlm-pretrained", "wavlm-medium-27k", "wavlm-augm-31k", "wavlm-augm-114k")

SMALL_RECIPE = """
name: small
systems:
  plain: {frontend: wavlm-base}
  tuned: {frontend: wavlm-base, mix: train.yaml, batch_size: 4}
  other: {frontend: wavlm-base, mix: other.yaml, batch_size: 4}
finetuning: {epochs: 2, learning_rate: 1.0e-3, checkpoint_steps: 1}
classifier: {mix: train.yaml, C: 1000}
sets:
  dev: {mix: dev.yaml}
  eval: {corpus: asvspoof5, split: eval}
  gone: {corpus: asvspoof5, split: gone, optional: true}
select_on: dev
fusion: {systems: [plain, tuned], fit: dev, inputs: scores}
submissions: {submission.zip: eval}
"""


@pytest.fixture(autouse=True)
def no_roots_of_the_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for name in CORPORA:
        monkeypatch.delenv(root_variable(name), raising=False)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ensemble")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(corpora_miniatures, "SIZE", SIZES)
        for name in CORPORA:
            corpora_miniatures.make(name, folder / name, 0.2)
    write_checkpoint(folder / "wavlm", "wavlm-base")
    write_checkpoint(folder / "w2v", "wav2vec2-base")
    (folder / "small.yaml").write_text(SMALL_RECIPE)
    for name, split, count in (("train", "train", 24), ("other", "train", 12), ("dev", "dev", 20)):
        part = f"parts: [{{corpus: asvspoof5, split: {split}, count: {count}}}]\n"
        (folder / f"{name}.yaml").write_text(part)
    return folder


def arguments(base: Path, out: Path) -> list[str | Path]:
    roots = [f"{name}={base / name}" for name in CORPORA]
    return [
        "study", "ensemble", "-o", out, "--scale", "0.001", *(a for r in roots for a in ("--root", r)),
        "--frontend", f"wavlm-base={base / 'wavlm'}", "--frontend", f"wav2vec2-base={base / 'w2v'}",
        "--published", "--device", "cpu", "--workers", "0", "--bootstrap", "50",
        "--finetune-option", "epochs=1",
    ]  # fmt: skip


def small_arguments(base: Path, out: Path) -> list[str]:
    return [
        "study", "ensemble", "-o", str(out), "--recipe", str(base / "small.yaml"),
        "--root", f"asvspoof5={base / 'asvspoof5'}", "--frontend", f"wavlm-base={base / 'wavlm'}",
        "--device", "cpu", "--workers", "0", "--bootstrap", "50",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def study(base: Path) -> Path:
    """The shipped recipe, run from the command line."""
    out = base / "study"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setenv("XDG_CONFIG_HOME", str(base / "config"))
        assert run_here(patch, *arguments(base, out)) == 0
    return out


def table(folder: Path, name: str) -> list[dict[str, str]]:
    with (folder / "tables" / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def labels_of(path: Path) -> dict[str, str]:
    part = Manifest.read(path)
    return dict(zip(part.strings("utterance_id"), part.strings("label"), strict=True))


def measured(scores: Path, manifest: Path) -> float:
    found, label = read_scores(scores), labels_of(manifest)
    assert set(found.utterance_id) == set(label)
    return eer_percent(found.score, np.array([label[i] == "bonafide" for i in found.utterance_id]))


def content_of(folder: Path) -> dict[str, bytes]:
    files = [p for p in folder.rglob("*") if p.is_file() and p.name not in ("report.html", ".lock")]
    return {str(p.relative_to(folder)): p.read_bytes() for p in files}


# The shipped recipe.


def test_table_2_has_the_papers_rows_with_what_the_scores_give(study: Path):
    rows = table(study, "table2")
    assert [(r["model"], r["training_set"]) for r in rows] == [
        ("wavlm-base", "–"), ("wavlm-base", "medium-27k"), ("wavlm-base", "augm-31k"),
        ("wavlm-base", "augm-114k"), ("wav2vec2-base", "–"), ("wav2vec2-base", "medium-27k"),
    ]  # fmt: skip
    for row in rows:
        scores = study / "scores" / "dev" / f"{row['system']}.tsv"
        assert float(row["dev_eer_percent"]) == measured(scores, study / "data" / "set-dev.parquet")
    assert [row["published_dev"] for row in rows] == ["9.93", "4.16", "0.61", "2.97", "13.33", "5.85"]
    assert [row["published_progress"] for row in rows] == ["15.82", "", "9.02", "7.26", "", "11.91"]
    assert "progress_eer_percent" not in rows[0], "the progress set has no labels"


def test_table_3_has_all_subsets_beside_the_papers(study: Path):
    rows = table(study, "table3")
    assert len(rows) == 15
    whole = rows[-1]
    assert all(whole[name] == "x" for name in FUSED)
    assert (whole["published_dev"], whole["published_progress"], whole["published_eval"]) == (
        "0.72", "6.56", "17.08",
    )  # fmt: skip
    for of in ("dev", "eval"):
        fused = measured(study / "scores" / of / "fused.tsv", study / "data" / f"set-{of}.parquet")
        assert float(whole[f"{of}_eer_percent"]) == fused
    printed = {tuple(row[n] for n in FUSED): row["published_dev"] for row in rows if row["published_dev"]}
    assert len(printed) == 6
    assert printed["", "", "x", "x"] == "0.56"
    assert printed["", "x", "x", "x"] == "0.6"


def test_fine_tuning_was_on_the_mixes_with_their_augmented_copies(study: Path):
    digests = set()
    for mix in ("augm-31k", "augm-114k"):
        model = json.loads((study / "models" / f"wavlm-{mix}" / "config.json").read_text())
        copies = Manifest.read(study / "data" / f"{mix}-augmented" / "manifest.parquet")
        assert model["training"]["sets"]["train"]["digest"] == copies.digest()
        applied = [a for a in copies.strings("augmentation") if a]
        assert 0 < len(applied) < len(copies)
        assert model["training"]["finetuning"]["settings"]["batch_size"] == (16 if mix == "augm-31k" else 8)
        digests.add(model["frontend"]["weights_sha256"])
    plain = json.loads((study / "models" / "wavlm-medium-27k" / "config.json").read_text())
    mix = Manifest.read(study / "data" / "mix-medium-27k.parquet")
    assert plain["training"]["sets"]["train"]["digest"] == mix.digest()
    digests.add(plain["frontend"]["weights_sha256"])
    pretrained = json.loads((study / "detectors" / "wavlm-pretrained" / "config.json").read_text())
    digests.add(pretrained["frontend"]["weights_sha256"])
    assert len(digests) == 4, "each fine-tuning changed the model"


def test_the_ensemble_gives_the_fused_scores_of_the_audio(study: Path, tmp_path: Path):
    detector = EnsembleDetector.load(study / "ensemble")
    part = Manifest.read(study / "data" / "set-eval.parquet")
    score_manifest(detector, part, tmp_path / "s.tsv", make_extractor=lambda: detector.extractor(workers=0))
    once, steps = read_scores(tmp_path / "s.tsv"), read_scores(study / "scores" / "eval" / "fused.tsv")
    assert list(once.utterance_id) == list(steps.utterance_id)
    difference = np.abs(once.score - steps.score).max()
    print(f"largest difference of the ensemble's scores to the study's: {difference:.1e}")
    assert difference < 1e-3 * np.abs(steps.score).max()


@pytest.mark.parametrize(
    ("file", "of"), [("submission.zip", "eval"), ("submission-progress.zip", "progress")]
)
def test_submissions_are_complete(study: Path, file: str, of: str):
    trials = list(labels_of(study / "data" / f"set-{of}.parquet"))
    with zipfile.ZipFile(study / file) as archive:
        assert archive.namelist() == ["score.tsv"]
        lines = archive.read("score.tsv").decode().splitlines()
    assert lines[0] == "filename\tcm-score"
    assert [line.split("\t")[0] for line in lines[1:]] == trials
    fused = read_scores(study / "scores" / of / "fused.tsv")
    values = dict(zip(fused.utterance_id, fused.score, strict=True))
    assert [float(line.split("\t")[1]) for line in lines[1:]] == [values[i] for i in trials]


def test_the_page_says_what_it_is_of(study: Path):
    page = (study / "report.html").read_text()
    assert "at scale 0.001" in page
    assert "In place of wavlm-base: wavlm" in page
    assert "scored but not measured: progress" in page
    assert not re.search(r"(src|href)=\"(https?:)?//", page)
    for name in ("table2", "table3", "finetuning", "fusion", "data"):
        assert {p.suffix for p in (study / "tables").glob(f"{name}.*")} == {".csv", ".md", ".tex"}
    assert (study / "figure2" / "tsne.html").exists()


def test_a_finished_study_is_not_done_again(study: Path, base: Path, monkeypatch: pytest.MonkeyPatch):
    before = content_of(study)
    times = {p: p.stat().st_mtime_ns for p in (study / "models").rglob("*") if p.is_file()}
    assert run_here(monkeypatch, *arguments(base, study)) == 0
    assert content_of(study) == before
    assert times == {p: p.stat().st_mtime_ns for p in times}


def test_a_folder_of_another_study_is_refused(
    study: Path, base: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    assert run_here(monkeypatch, *arguments(base, study), "--seed", "1") == 2
    assert "holds another study (it differs in data, seed)" in capsys.readouterr().err


# Interruption and failure, on a small recipe.


@pytest.fixture(scope="module")
def alone(base: Path) -> Path:
    """The small recipe, never interrupted."""
    out = base / "alone"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(base / "config"))
        assert run_here(patch, *small_arguments(base, out)) == 0
    return out


def test_killed_in_the_middle_of_a_fine_tuning_it_ends_as_if_never_interrupted(
    base: Path, alone: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    out = tmp_path / "killed"
    process = subprocess.Popen(
        [sys.executable, "-m", "voxfide", *small_arguments(base, out)],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    run = out / "models" / "tuned" / "run"
    deadline = time.monotonic() + 120
    while not list(run.glob("checkpoint*")):
        assert process.poll() is None, process.stderr and process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert not (out / "report.html").exists()
    assert run_here(monkeypatch, *small_arguments(base, out)) == 0
    for name in ("table2.csv", "table3.csv", "fusion.csv"):
        assert (out / "tables" / name).read_bytes() == (alone / "tables" / name).read_bytes()
    assert (out / "submission.zip").read_bytes() == (alone / "submission.zip").read_bytes()


def test_a_step_that_fails_ends_only_what_needs_it(
    base: Path, alone: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    recipe = read_ensemble_recipe(base / "small.yaml")
    options = EnsembleOptions({"wavlm-base": str(base / "wavlm")}, workers=0, n_bootstrap=50)
    data = find_data(recipe, roots={"asvspoof5": base / "asvspoof5"})
    real = ensemble_systems.finetune

    def fails(sets: Any, name: str, out: Path, **rest: Any) -> Any:
        if out.name == "tuned":
            raise UsageError("the disk caught fire")
        return real(sets, name, out, **rest)

    monkeypatch.setattr(ensemble_systems, "finetune", fails)
    result = run_ensemble(recipe, data, tmp_path / "s", options)
    assert result.broken["finetune tuned"] == "the disk caught fire"
    assert result.broken["classify tuned"] == "needs finetune tuned"
    assert "classify tuned" not in result.broken["fuse"]
    assert {"score dev, plain", "score eval, other", "finetune other"} <= set(result.facts)
    page = write_ensemble_report(tmp_path / "s", result).read_text()
    assert "Not done: finetune tuned: the disk caught fire" in page
    rows = {row["system"]: row for row in table(tmp_path / "s", "table2")}
    assert rows["tuned"]["dev_eer_percent"] == ""
    assert rows["plain"] == {row["system"]: row for row in table(alone, "table2")}["plain"]
    monkeypatch.setattr(ensemble_systems, "finetune", real)
    again = run_ensemble(recipe, data, tmp_path / "s", options)
    assert not again.broken
    write_ensemble_report(tmp_path / "s", again)
    assert table(tmp_path / "s", "table3") == table(alone, "table3")


# Before anything is computed.


def test_all_that_is_missing_is_said_at_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    out = tmp_path / "s"
    code = run_here(
        monkeypatch, "study", "ensemble", "-o", out, "--finetune-option", "epochs=0", "--root",
        f"itw={tmp_path / 'none'}", "--frontend", "hubert=x", "--manifest", f"asvspoof5={tmp_path / 'm.csv'}",
    )  # fmt: skip
    said = capsys.readouterr().err
    assert code == 2
    for part in (
        "front-end hubert: given, but no system here uses it", "front-end wavlm-base: microsoft/wavlm-base",
        "front-end wav2vec2-base:", "epochs 0", "m.csv", "corpus asvspoof2019la: not found",
        "corpus asvspoof2021df: not found", "corpus for-norm: not found", "none: no such folder",
    ):  # fmt: skip
        assert part in said, part
    assert not out.exists()


def test_sets_that_a_corpus_does_not_have_are_left_out_where_they_may_be(base: Path, tmp_path: Path):
    whole = Manifest.read(corpus_csv(base, tmp_path))
    recipe = read_ensemble_recipe("combei2024")
    others = {name: base / name for name in CORPORA[1:]}
    some = whole.filter(split=["train", "dev", "eval"])
    data = find_data(recipe, manifests={"asvspoof5": some}, roots=others, scale="0.001")
    assert list(data.sets) == ["dev", "eval"]
    assert [note.split(":")[0] for note in data.notes] == ["set progress"]
    with pytest.raises(UsageError, match="scale -1"):
        find_data(recipe, scale="-1")
    with pytest.raises(UsageError, match=r"(?s)medium-27k.*27,000 utterances asked for, 150 are there"):
        find_data(recipe, manifests={"asvspoof5": whole}, roots=others)


def corpus_csv(base: Path, folder: Path) -> Path:
    from voxfide.corpora import prepare

    return prepare("asvspoof5", base / "asvspoof5").write(folder / "asvspoof5.csv")


def test_wrong_recipes_say_everything(tmp_path: Path):
    text = SMALL_RECIPE.replace("select_on: dev", "select_on: nothing").replace(
        "[plain, tuned]", "[plain, x]"
    )
    (tmp_path / "r.yaml").write_text(text.replace("submission.zip: eval", "a/b: eval"))
    with pytest.raises(UsageError, match=r"(?s)3 problem.*no system x.*no set nothing.*a/b"):
        read_ensemble_recipe(tmp_path / "r.yaml")
    (tmp_path / "r.yaml").write_text("name: x\ncolour: red\nsystems: {a: {frontent: y}}\nsets: {a: 3}\n")
    with pytest.raises(
        UsageError, match=r"(?s)unknown key colour.*no classifier.*no fusion.*systems: a.*frontent.*sets: a"
    ):
        read_ensemble_recipe(tmp_path / "r.yaml")
    with pytest.raises(UnknownNameError, match="combei2024"):
        read_ensemble_recipe("combei2023")


@needs_shared("golden/combei2024_results")
def test_the_recipe_has_the_papers_settings():
    published = json.loads((GOLDEN / "combei2024_results" / "data_mixes.json").read_text())
    recipe = read_ensemble_recipe("combei2024")
    paper = published["finetuning"]
    for name, system in recipe.fine_tuned().items():
        settings = settings_of(recipe, system, EnsembleOptions())
        assert settings.batch_size == paper["batch_size"][str(system.mix)], name
        assert (settings.learning_rate, settings.warmup, settings.epochs) == (
            paper["learning_rate"], paper["warmup_ratio"], paper["epochs"],
        )  # fmt: skip
    assert published["benchmark_classifier"]["sklearn_C"] == recipe.classifier.C
    assert recipe.fusion.fit == recipe.classifier.mix == "medium-27k"
    assert recipe.sets["eval"].count == published["asvspoof5"]["eval_full"]["total"]
    assert recipe.sets["progress"].count == published["asvspoof5"]["eval_progress"]["total"]
