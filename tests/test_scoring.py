"""Scoring a manifest: order, resuming, failures, and agreement with single files."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from command_line import run_here, start, stop_when
from small_corpus import JUNK, clip, replace_audio, write_corpus
from voxfide.backends import create_backend
from voxfide.detector import Detector
from voxfide.errors import AudioError, ManifestError, StoreError, UsageError
from voxfide.extraction import Extractor
from voxfide.files import exclusive
from voxfide.frontends import create_frontend
from voxfide.manifest import Manifest
from voxfide.scores import read_scores
from voxfide.scoring import score_manifest


def make_detector(seed: int) -> Detector:
    frontend = create_frontend("lfcc")
    random = np.random.default_rng(seed)
    features = random.standard_normal((20, 1, 60)).astype(np.float32)
    return Detector(frontend, create_backend("logistic", C=1.0).fit(features, np.arange(20) < 10))


@pytest.fixture(scope="module")
def detector():
    return make_detector(0)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return Manifest.read(write_corpus(tmp_path_factory.mktemp("corpus") / "c", 12))


@pytest.fixture
def own_corpus(tmp_path):
    return Manifest.read(write_corpus(tmp_path / "c", 12))


def run(detector, manifest, out, *, shard_rows=4, **options):
    return score_manifest(
        detector,
        manifest,
        out,
        make_extractor=lambda: Extractor(detector.frontend, detector.pool, 0, **options),
        shard_rows=shard_rows,
    )


class InterruptAfter:
    def __init__(self, n: int) -> None:
        self.left = n

    def __call__(self, utterances: int, seconds: float) -> None:
        self.left -= utterances
        if self.left < 0:
            raise KeyboardInterrupt


def interrupt(detector, manifest, out, after: int) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(detector, manifest, out, progress=InterruptAfter(after), batch_seconds=0.01)


def count_computed(detector, manifest, out) -> int:
    """How many utterances this run had to analyse."""
    told = []
    score_manifest(
        detector,
        manifest,
        out,
        make_extractor=lambda: Extractor(detector.frontend, "mean", 0),
        shard_rows=4,
        on_start=lambda missing, kept: told.append(missing),
    )
    return told[0]


def test_scores_stand_in_the_order_of_the_manifest_and_equal_detect(detector, corpus, tmp_path):
    shuffled = corpus.take(np.random.default_rng(0).permutation(12))
    result = run(detector, shuffled, tmp_path / "s.tsv")
    assert (result.n_scored, result.failures) == (12, [])
    scores = read_scores(tmp_path / "s.tsv")
    assert scores.utterance_id.tolist() == shuffled.column("utterance_id")
    alone = [detector.detect(path).score for path in shuffled.audio_paths()]
    assert np.allclose(scores.score, alone, rtol=1e-4, atol=1e-4)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["s.tsv"]


def test_the_file_is_what_the_asvspoof_5_package_reads(detector, corpus, tmp_path):
    run(detector, corpus, tmp_path / "s.tsv")
    table = pd.read_csv(tmp_path / "s.tsv", sep="\t", encoding="utf-8")
    assert list(table.columns) == ["filename", "cm-score"]
    assert table["cm-score"].dtype == np.float64


def test_an_interrupted_run_is_gone_on_with(detector, corpus, tmp_path):
    run(detector, corpus, tmp_path / "reference.tsv", batch_seconds=0.01)
    for after in (1, 3, 2, 4):
        interrupt(detector, corpus, tmp_path / "s.tsv", after)
        assert not (tmp_path / "s.tsv").exists()
    assert count_computed(detector, corpus, tmp_path / "s.tsv") == 2
    assert (tmp_path / "s.tsv").read_text() == (tmp_path / "reference.tsv").read_text()
    assert not (tmp_path / "s.tsv.parts").exists()


def test_parts_of_another_detector_or_manifest_are_dropped(detector, corpus, tmp_path):
    interrupt(detector, corpus, tmp_path / "s.tsv", 9)
    assert count_computed(make_detector(1), corpus, tmp_path / "s.tsv") == 12
    interrupt(detector, corpus, tmp_path / "s.tsv", 9)
    backwards = corpus.take(range(11, -1, -1))
    assert count_computed(detector, backwards, tmp_path / "s.tsv") == 12
    expected = [detector.detect(path).score for path in backwards.audio_paths()]
    assert np.allclose(read_scores(tmp_path / "s.tsv").score, expected, rtol=1e-4, atol=1e-4)


def test_a_file_that_changed_since_the_interruption_is_scored_again(detector, own_corpus, tmp_path):
    interrupt(detector, own_corpus, tmp_path / "s.tsv", 9)
    replace_audio(own_corpus.audio_paths()[2], clip(99, 0.8, False))
    assert count_computed(detector, own_corpus, tmp_path / "s.tsv") == 4
    expected = [detector.detect(path).score for path in own_corpus.audio_paths()]
    assert np.allclose(read_scores(tmp_path / "s.tsv").score, expected, rtol=1e-4, atol=1e-4)


def test_failures_are_listed_and_left_out(detector, own_corpus, tmp_path):
    paths, ids = own_corpus.audio_paths(), own_corpus.column("utterance_id")
    replace_audio(paths[0], JUNK)
    paths[7].unlink()
    interrupt(detector, own_corpus, tmp_path / "s.tsv", 9)
    result = run(detector, own_corpus, tmp_path / "s.tsv")
    assert [(f.utterance_id, f.kind) for f in result.failures] == [
        (ids[0], "not-audio"),
        (ids[7], "not-found"),
    ]
    assert result.n_scored == 10
    assert read_scores(tmp_path / "s.tsv").utterance_id.tolist() == [
        i for i in ids if i not in (ids[0], ids[7])
    ]
    table = pd.read_csv(tmp_path / "s.tsv.failures.csv")
    assert table.utterance_id.tolist() == [ids[0], ids[7]]
    replace_audio(paths[0], clip(50, 0.5, True))
    replace_audio(paths[1], paths[1].read_bytes())
    paths[7].write_bytes(paths[1].read_bytes())
    assert run(detector, own_corpus, tmp_path / "s.tsv").failures == []
    assert not (tmp_path / "s.tsv.failures.csv").exists()


def test_where_nothing_can_be_read_there_are_no_scores(detector, own_corpus, tmp_path):
    for path in own_corpus.audio_paths():
        path.unlink()
    result = run(detector, own_corpus, tmp_path / "s.tsv")
    assert (result.n_scored, len(result.failures)) == (0, 12)
    assert (tmp_path / "s.tsv").read_text() == "filename\tcm-score\n"


def test_strict_stops_and_keeps_what_was_finished(detector, own_corpus, tmp_path):
    replace_audio(own_corpus.audio_paths()[6], JUNK)
    with pytest.raises(AudioError, match="clip 006"):
        run(detector, own_corpus, tmp_path / "s.tsv", strict=True, batch_seconds=0.01)
    assert not (tmp_path / "s.tsv").exists()
    assert count_computed(detector, own_corpus, tmp_path / "s.tsv") == 6


def test_what_cannot_work_is_refused_before_anything_is_computed(detector, corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(Extractor, "outcomes", lambda *a: pytest.fail("computed"))
    (tmp_path / "folder").mkdir()
    with pytest.raises(UsageError, match="is a folder"):
        run(detector, corpus, tmp_path / "folder")
    with pytest.raises(ManifestError):
        run(detector, corpus.take([0, 0]), tmp_path / "s.tsv")
    lock = tmp_path / "s.tsv.parts" / ".lock"
    refused = pytest.raises(StoreError, match="another process is writing it")
    with exclusive(lock, "held by the test"), refused:
        run(detector, corpus, tmp_path / "s.tsv")


def test_a_lock_is_worth_nothing_once_its_file_is_gone(tmp_path, monkeypatch):
    """The holder deletes its folder at the end; who had opened the file by then must not lock a dead one."""
    import fcntl

    lock = tmp_path / "parts" / ".lock"
    flock = fcntl.flock
    deleted = []

    def delete_before(file, operation):
        if not deleted:
            deleted.append(lock)
            lock.unlink()
            lock.parent.rmdir()
        flock(file, operation)

    monkeypatch.setattr(fcntl, "flock", delete_before)
    refused = pytest.raises(StoreError, match="second")
    with exclusive(lock, "first"), refused, exclusive(lock, "second"):
        pass
    assert deleted


def test_a_full_disk_keeps_the_old_scores_and_the_parts(detector, corpus, tmp_path, monkeypatch):
    import errno

    (tmp_path / "s.tsv").write_text("old")
    calls = []

    def fsync(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) > 3:  # the stamp and two parts
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("voxfide.files.os.fsync", fsync)
        with pytest.raises(OSError, match="No space left"):
            run(detector, corpus, tmp_path / "s.tsv")
    assert (tmp_path / "s.tsv").read_text() == "old"
    assert not list(tmp_path.rglob("*.tmp"))
    assert count_computed(detector, corpus, tmp_path / "s.tsv") == 4
    assert len(read_scores(tmp_path / "s.tsv")) == 12


def test_the_command_survives_a_kill_and_exits_with_its_codes(detector, tmp_path, monkeypatch, capsys):
    small = Manifest.read(write_corpus(tmp_path / "c", 12))
    n = 600
    columns = {
        "utterance_id": [f"u{i:04d}" for i in range(n)],
        "path": [small.column("path")[i % 12] for i in range(n)],
        "label": ["unknown"] * n,
    }
    manifest = Manifest.from_columns(columns, tmp_path / "c").write(tmp_path / "c" / "many.csv")
    detector.save(tmp_path / "d")
    out = tmp_path / "s.tsv"
    command = ("score", tmp_path / "d", manifest, "-o", out, "--workers", "1", "--batch-seconds", "1")
    parts = tmp_path / "s.tsv.parts"
    process = start(*command)
    status, said = stop_when(process, signal.SIGKILL, lambda: len(list(parts.glob("part-*.json"))) >= 6)
    assert status == -9, said
    finished = sum(len(json.loads(p.read_text())) for p in parts.glob("part-*.json"))
    assert 48 <= finished < n
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    assert run_here(monkeypatch, *command) == 0
    score_manifest(
        detector,
        Manifest.read(manifest),
        tmp_path / "reference.tsv",
        make_extractor=lambda: Extractor(detector.frontend, "mean", 0, 1.0),
    )
    torch.set_num_threads(threads)
    printed = capsys.readouterr()
    assert f"{finished:,} of {n:,} were finished before" in printed.err
    assert f"{n:,} scores" in printed.out
    assert read_scores(out).utterance_id.tolist() == columns["utterance_id"]
    assert np.array_equal(read_scores(out).score, read_scores(tmp_path / "reference.tsv").score)
    assert not parts.exists()
    Path(small.audio_paths()[0]).write_bytes(JUNK)
    assert run_here(monkeypatch, "score", tmp_path / "d", small.source, "-o", tmp_path / "t.tsv") == 1
    assert "clip 000.wav" in capsys.readouterr().err
