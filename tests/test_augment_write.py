"""``voxfide augment``: what is written, that it can be interrupted, and that nothing but the seed decides."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from command_line import run_here, stop_when
from small_corpus import JUNK, replace_audio, write_corpus
from voxfide.audio import load_audio
from voxfide.augment import Plan, Policy, parse, utterance_rng, write
from voxfide.augment.copies import write_copy
from voxfide.augment.write import Augmented
from voxfide.errors import UsageError
from voxfide.manifest import Manifest
from voxfide.types import SAMPLE_RATE

SOME = "noise:snr=10..20 | reverb"
augment_manifest = partial(write.augment_manifest, workers=0)
"""In this process, which saves the start of others; some tests ask for workers."""


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return Manifest.read(write_corpus(tmp_path_factory.mktemp("corpus"), 24, seconds=(0.1, 0.3)))


def rows_of(made: Augmented) -> list[dict[str, object]]:
    return Manifest.read(made.path).require_valid(check_files=True).table.to_pylist()


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in (folder / "audio").rglob("*.*")}


def test_copies_are_the_samples_that_training_on_the_fly_gets(corpus: Manifest, tmp_path: Path):
    policy = Policy(parse(SOME), "bonafide", 0.5, seed=3)
    made = augment_manifest(corpus, policy, tmp_path, form="wav")
    rows = rows_of(made)
    assert [r["utterance_id"] for r in rows] == corpus.column("utterance_id")
    n_changed = 0
    for row, before in zip(rows, corpus.audio_paths(), strict=True):
        waveform = load_audio(before).waveform
        expected = policy(waveform, SAMPLE_RATE, str(row["utterance_id"]), str(row["label"]))
        path = made.path.parent / str(row["path"])
        assert np.array_equal(load_audio(path).waveform, expected)
        is_changed = not np.array_equal(waveform, expected)
        n_changed += is_changed
        assert (row["augmentation"] in ("noise", "reverb")) is is_changed
        assert (row["augmented_from"] == str(before)) is is_changed
    assert 0 < n_changed < 12
    assert sum(made.applied.values()) == n_changed


def test_the_record_suffices_to_do_it_again(corpus: Manifest, tmp_path: Path):
    made = augment_manifest(corpus, Policy(parse(SOME)), tmp_path, form="wav")
    for row in rows_of(made):
        (done,) = json.loads(str(row["augmentation_parameters"]))
        source = load_audio(str(row["augmented_from"])).waveform
        again = parse(done["augmentation"]).apply(source, SAMPLE_RATE, done["drawn"])
        assert np.array_equal(load_audio(tmp_path / str(row["path"])).waveform, again)


def test_neither_workers_nor_order_nor_other_rows_change_anything(corpus: Manifest, tmp_path: Path):
    policy = Policy(parse(f"{SOME} | codec:format=mp3"), "bonafide", 0.7, seed=1)
    one = augment_manifest(corpus, policy, tmp_path / "one")
    many = augment_manifest(corpus, policy, tmp_path / "many", workers=2)
    backwards = corpus.take(np.arange(len(corpus))[::-1])
    other = augment_manifest(backwards, policy, tmp_path / "other")
    assert contents(tmp_path / "one") == contents(tmp_path / "many") == contents(tmp_path / "other")
    assert one.path.read_bytes() == many.path.read_bytes()
    assert sorted(one.path.read_text().splitlines()) == sorted(other.path.read_text().splitlines())
    few = augment_manifest(corpus.take([0, 2, 4, 6, 8]), policy, tmp_path / "few")
    assert contents(tmp_path / "few").items() <= contents(tmp_path / "one").items()
    assert few.applied


def test_originals_can_be_kept(corpus: Manifest, tmp_path: Path):
    rows = rows_of(augment_manifest(corpus, Policy(parse("noise"), "spoof"), tmp_path, keep_original=True))
    assert [r["utterance_id"] for r in rows[:24]] == corpus.column("utterance_id")
    assert not any(r["augmentation"] for r in rows[:24])
    assert [r["utterance_id"] for r in rows[24:]] == [
        f"{i}+augmented" for i in corpus.filter(label="spoof").column("utterance_id")
    ]
    twice = Manifest.read(tmp_path / "manifest.csv")
    again = rows_of(
        augment_manifest(twice, Policy(parse("gain"), "spoof"), tmp_path / "again", keep_original=True)
    )
    ids = [r["utterance_id"] for r in again]
    assert len(set(ids)) == len(ids) == 24 + 12 + 24
    assert sum(str(i).endswith("+augmented2") for i in ids) == 24


def test_copy_synthesis_is_labelled_spoof_and_names_its_system(corpus: Manifest, tmp_path: Path):
    policy = Policy(parse("copy-synthesis"), "bonafide", seed=1)
    rows = rows_of(augment_manifest(corpus, policy, tmp_path, keep_original=True))
    copies = rows[24:]
    assert len(copies) == 12
    assert {r["label"] for r in copies} == {"spoof"}
    routes = {str(r["system"]).removeprefix("copy-synthesis ") for r in copies}
    assert len(routes) > 2
    assert {r["label"] for r in rows[:24]} == {"bonafide", "spoof"}
    for row in copies:
        assert row["augmentation"] == f"resynthesis {str(row['system']).removeprefix('copy-synthesis ')}"


def test_one_split_only_and_the_rest_as_it_was(corpus: Manifest, tmp_path: Path):
    rows = rows_of(augment_manifest(corpus, Policy(parse("noise")), tmp_path, split="train"))
    assert {r["split"] for r in rows if r["augmentation"]} == {"train"}
    assert {r["split"] for r in rows if not r["augmentation"]} == {"dev", "eval"}


def test_augmenting_twice_keeps_both_records(corpus: Manifest, tmp_path: Path):
    first = augment_manifest(corpus, Policy(parse("noise")), tmp_path / "1")
    rows = rows_of(augment_manifest(Manifest.read(first.path), Policy(parse("gain")), tmp_path / "2"))
    for row, original in zip(rows, corpus.audio_paths(), strict=True):
        assert row["augmentation"] == "noise + gain"
        assert row["augmented_from"] == str(original)
        assert [d["augmentation"]["name"] for d in json.loads(str(row["augmentation_parameters"]))] == [
            "noise", "gain",
        ]  # fmt: skip


def test_durations_and_segments_follow_the_speed(tmp_path: Path):
    corpus = Manifest.read(write_corpus(tmp_path, 2, seconds=(1.0, 1.0)))
    segments = '[[0.25, 0.5, "spoof"]]'
    table = corpus.table.append_column("duration", [["1.0", "1.0"]]).append_column(
        "segments", [[segments] * 2]
    )
    made = augment_manifest(
        Manifest(table, corpus.root), Policy(parse("speed:factor=1.25"), "spoof"), tmp_path / "out"
    )
    before, after = rows_of(made)
    assert (before["duration"], before["segments"]) == ("1.0", segments)
    assert float(str(after["duration"])) == pytest.approx(0.8, abs=1e-4)
    assert json.loads(str(after["segments"])) == [
        [pytest.approx(0.2, abs=1e-4), pytest.approx(0.4, abs=1e-4), "spoof"]
    ]


def test_what_would_clip_is_scaled_down_as_a_whole(tmp_path: Path):
    waveform = (2.5 * np.sin(np.arange(4000) / 20)).astype(np.float32)
    gain_db = write_copy(tmp_path / "a.flac", waveform)
    written, _ = sf.read(tmp_path / "a.flac", dtype="float32")
    assert gain_db == pytest.approx(-20 * np.log10(2.5), abs=0.01)
    assert np.abs(written).max() == pytest.approx(32767 / 32768, abs=1e-6)
    assert np.allclose(written, waveform * 10 ** (gain_db / 20), atol=1 / 32768)
    assert write_copy(tmp_path / "b.flac", 0.5 * waveform / 2.5) == 0
    assert write_copy(tmp_path / "c.flac", np.zeros(10, np.float32)) == 0


def test_files_that_cannot_be_read_are_listed_and_left_out(tmp_path: Path):
    corpus = Manifest.read(write_corpus(tmp_path, 6, seconds=(0.1, 0.2)))
    replace_audio(corpus.audio_paths()[2], JUNK)
    made = augment_manifest(corpus, Policy(parse("noise")), tmp_path / "out", workers=1)
    assert [f.utterance_id for f in made.failures] == [corpus.column("utterance_id")[2]]
    assert len(rows_of(made)) == 5
    (row,) = csv.DictReader((tmp_path / "out" / "failures.csv").open(encoding="utf-8"))
    assert row["kind"] == "not-audio"
    sf.write(
        corpus.audio_paths()[2], 0.1 * np.ones(1600) * np.sin(np.arange(1600)), SAMPLE_RATE, format="WAV"
    )
    again = augment_manifest(corpus, Policy(parse("noise")), tmp_path / "out")
    assert not again.failures
    assert len(again.manifest) == 6
    assert not (tmp_path / "out" / "failures.csv").exists()


def test_a_broken_noise_file_is_named_in_the_failure(tmp_path: Path):
    corpus = Manifest.read(write_corpus(tmp_path, 2, seconds=(0.1, 0.2)))
    (tmp_path / "hum.wav").write_bytes(JUNK)
    made = augment_manifest(corpus, Policy(parse(f"background:files={tmp_path}/hum.wav")), tmp_path / "out")
    assert len(made.failures) == 2
    assert "hum.wav" in made.failures[0].reason


def test_only_what_has_changed_is_made_again(tmp_path: Path):
    corpus = Manifest.read(write_corpus(tmp_path, 8, seconds=(0.1, 0.2)))
    todo: list[tuple[int, int]] = []

    def run() -> dict[str, bytes]:
        policy = Policy(parse("noise"))
        augment_manifest(corpus, policy, tmp_path / "out", on_start=lambda *n: todo.append(n))
        return contents(tmp_path / "out")

    first = run()
    assert run() == first
    replace_audio(corpus.audio_paths()[0], 0.1 * np.random.default_rng(9).standard_normal(2000))
    assert run() != first
    next((tmp_path / "out" / "audio").rglob("*.flac")).unlink()
    run()
    with (tmp_path / "out" / "journal.jsonl").open("a") as journal:
        journal.write('{"utterance_id": "half a li')  # as a killed writer leaves it
    run()
    assert todo == [(8, 0), (0, 8), (1, 7), (1, 7), (0, 8)]


def test_another_job_is_not_mixed_in(corpus: Manifest, tmp_path: Path):
    augment_manifest(corpus, Policy(parse("noise")), tmp_path)
    for other in (
        Policy(parse("noise:snr=3")),
        Policy(parse("noise"), seed=1),
        Policy(parse("noise"), "spoof"),
    ):
        with pytest.raises(UsageError, match="augmented in another way"):
            augment_manifest(corpus, other, tmp_path)
    with pytest.raises(UsageError, match="augmented in another way"):
        augment_manifest(corpus, Policy(parse("noise")), tmp_path, form="wav")
    with pytest.raises(UsageError, match="no utterance is chosen"):
        augment_manifest(corpus, Policy(parse("noise"), fraction=0.0), tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_a_plan_in_the_manifest_is_carried_out(corpus: Manifest, tmp_path: Path):
    planned = Policy(parse(SOME), "bonafide", 0.5, seed=2).planned(corpus)
    made = augment_manifest(planned, Plan.of(planned, 2), tmp_path / "a")
    assert "augment" not in made.manifest.columns
    direct = augment_manifest(corpus, Policy(parse(SOME), "bonafide", 0.5, seed=2), tmp_path / "b")
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert made.applied == direct.applied


def test_a_full_disk_ends_the_job_and_keeps_what_is_done(
    corpus: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from voxfide.augment import copies

    written = []

    def write(path: Path, waveform: np.ndarray) -> float:
        if len(written) == 10:
            raise OSError(28, "No space left on device")
        written.append(path)
        return write_copy(path, waveform)

    monkeypatch.setattr(copies, "write_copy", write)
    with pytest.raises(OSError, match="No space left"):
        augment_manifest(corpus, Policy(parse("noise")), tmp_path)
    assert not (tmp_path / "manifest.csv").exists()
    monkeypatch.undo()
    todo: list[tuple[int, int]] = []
    augment_manifest(corpus, Policy(parse("noise")), tmp_path, on_start=lambda *n: todo.append(n))
    assert todo == [(14, 10)]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_an_interrupted_job_goes_on_and_ends_the_same(tmp_path: Path, number: signal.Signals):
    manifest = write_corpus(tmp_path, 120, seconds=(0.1, 0.2))
    arguments = ["augment", str(manifest), "--apply", "combei2024", "--workers", "1", "-o"]
    code = "import voxfide.augment.write as w; w._SHARD = 8; from voxfide.cli import main; main()"
    out = tmp_path / "out"
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments, str(out)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"}, start_new_session=True,
    )  # fmt: skip
    journal = out / "journal.jsonl"
    status, said = stop_when(process, number, lambda: journal.exists() and journal.stat().st_size > 4000)
    assert status == (-9 if number == signal.SIGKILL else 130), said
    assert not (out / "manifest.csv").exists()
    todo: list[tuple[int, int]] = []
    rows = Manifest.read(manifest)
    made = augment_manifest(rows, Policy(parse("combei2024")), out, on_start=lambda *n: todo.append(n))
    assert todo[0][1] > 0
    whole = augment_manifest(rows, Policy(parse("combei2024")), tmp_path / "whole")
    assert contents(out) == contents(tmp_path / "whole")
    assert made.path.read_bytes() == whole.path.read_bytes()


def test_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    manifest = write_corpus(tmp_path, 12, seconds=(0.1, 0.2))
    options = ("--label", "bonafide", "--fraction", "0.5", "--seed", "4", "--workers", "0")
    out = tmp_path / "out"
    assert run_here(monkeypatch, "augment", manifest, "-o", out, "--apply", "noise:snr=25", *options) == 0
    said = capsys.readouterr().out
    rows = Manifest.read(out / "manifest.csv").table.to_pylist()
    n = sum(bool(r["augmentation"]) for r in rows)
    assert f"12 utterances, {n} augmented (noise {n})" in said
    drawn = utterance_rng(4, next(r["utterance_id"] for r in rows if r["augmentation"]))
    assert parse("noise:snr=25").draw(drawn)["snr"] == 25
    replace_audio(tmp_path / "audio" / "clip 000.wav", JUNK)
    assert (
        run_here(monkeypatch, "augment", manifest, "-o", tmp_path / "2", "--apply", "gain", "--workers", "0")
        == 1
    )
    assert "1 file(s) could not be used" in capsys.readouterr().err
    for wrong in (["--apply", "noize"], ["--label", "bonafide"], [], ["--apply", "gain", "--format", "mp3"]):
        assert run_here(monkeypatch, "augment", manifest, "-o", tmp_path / "3", *wrong) == 2
        assert capsys.readouterr().err
    assert not (tmp_path / "3").exists()
    assert run_here(monkeypatch, "augmentations", "--json") == 0
    assert {"noise", "rawboost", "combei2024"} <= {s["name"] for s in json.loads(capsys.readouterr().out)}
