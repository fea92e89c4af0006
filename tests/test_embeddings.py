"""Embedding stores: the format, resuming, staleness, and what goes wrong."""

from __future__ import annotations

import dataclasses
import errno
import os
import re
import signal
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.feather as feather
import pytest
import soundfile as sf
import torch

import voxfide.embeddings
from checkpoints import write_checkpoint
from command_line import run_here, start, stop_when
from small_corpus import JUNK, clip, replace_audio, write_corpus
from voxfide.audio import load_audio
from voxfide.embeddings import EmbeddingStore, embed
from voxfide.errors import AudioError, ManifestError, StoreError, UsageError
from voxfide.extraction import Extractor
from voxfide.features import frame_features, pooled_features
from voxfide.files import exclusive
from voxfide.frontends import create_frontend
from voxfide.jobs import FileState, Row, missing_rows, shards_of
from voxfide.manifest import Manifest

SHARD = 4


@pytest.fixture(scope="module")
def lfcc():
    return create_frontend("lfcc")


@pytest.fixture(scope="module")
def wavlm(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoint") / "wavlm"
    write_checkpoint(folder, "wavlm-base")
    return create_frontend(str(folder), 3)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Read by many tests, changed by none."""
    return Manifest.read(write_corpus(tmp_path_factory.mktemp("corpus") / "c", 12))


@pytest.fixture
def own_corpus(tmp_path):
    return Manifest.read(write_corpus(tmp_path / "c", 12))


def run(manifest, frontend, out, pool="mean", *, workers=0, shard_rows=SHARD, **options):
    """:func:`embed` in this process with small shards."""
    return embed(
        manifest,
        frontend,
        out,
        pool=pool,
        make_extractor=lambda: Extractor(frontend, pool, workers, **options),
        shard_rows=shard_rows,
    )


def part_paths(folder: Path) -> list[Path]:
    return sorted((folder / "parts").glob("part-*.arrow"))


def with_pandas(folder: Path) -> pd.DataFrame:
    """A store as someone without voxfide would read it."""
    return pd.concat([pd.read_feather(path) for path in part_paths(folder)], ignore_index=True)


def contents(store: EmbeddingStore) -> dict[str, bytes]:
    return {i: store.features(i).tobytes() for i in store.ids}


def waveforms(manifest: Manifest) -> list[np.ndarray]:
    return [load_audio(path).waveform for path in manifest.audio_paths()]


# The format


@pytest.mark.parametrize("pool", ["mean", "mean_std", "none"])
@pytest.mark.parametrize("which", ["lfcc", "wavlm"])
def test_features_are_the_frontends_own(request, corpus, tmp_path, which, pool):
    frontend = request.getfixturevalue(which)
    result = run(corpus, frontend, tmp_path / "s", pool)
    assert result.n_new == len(corpus)
    assert result.failures == []
    store = EmbeddingStore(tmp_path / "s")
    assert store.ids == corpus.column("utterance_id")
    for utterance_id, waveform in zip(store.ids, waveforms(corpus), strict=True):
        tensor = torch.from_numpy(waveform)
        features = store.features(utterance_id)
        n_frames = store.metadata(utterance_id)["n_frames"]
        if pool == "none":
            (expected,) = frontend.hidden_states([tensor])
            assert features.dtype == np.float16
            assert features.shape == (frontend.n_layers, n_frames, frontend.dim) == tuple(expected.shape)
            assert np.allclose(features, expected.numpy(), rtol=2e-3, atol=2e-3)
        else:
            expected = frontend.pooled([tensor], pool)[0]
            assert features.dtype == np.float32
            assert features.shape == (frontend.n_layers, frontend.pooled_dim(pool))
            assert np.allclose(features, expected.numpy(), rtol=1e-5, atol=1e-5)
        assert n_frames == frontend.n_frames(len(waveform))


@pytest.mark.parametrize("pool", ["mean", "none"])
def test_pandas_alone_reads_a_store(corpus, wavlm, tmp_path, pool):
    store = run(corpus, wavlm, tmp_path / "s", pool).store
    assert len(part_paths(tmp_path / "s")) == 3
    table = with_pandas(tmp_path / "s")
    documented = "utterance_id path file_size mtime_ns duration sample_rate codec n_frames features"
    assert list(table.columns) == documented.split()
    assert table.utterance_id.tolist() == corpus.column("utterance_id")
    shape = (3, -1, 48) if pool == "none" else (3, 48)
    for row in table.itertuples():
        assert np.array_equal(row.features.reshape(shape), store.features(row.utterance_id))
        path = Path(row.path)
        assert (row.file_size, row.mtime_ns) == (path.stat().st_size, path.stat().st_mtime_ns)
        assert row.duration == sf.info(path).duration
        assert (row.sample_rate, row.codec) == (16000, "pcm_s16le")


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs /proc to see what is mapped")
@pytest.mark.parametrize("pool", ["mean", "none"])
def test_features_are_views_of_the_mapped_files(corpus, lfcc, tmp_path, pool):
    store = run(corpus, lfcc, tmp_path / "s", pool).store
    maps = [line.split() for line in Path("/proc/self/maps").read_text().splitlines()]
    ours = [m[0] for m in maps if len(m) > 5 and m[5].startswith(str(tmp_path))]
    ranges = [tuple(int(end, 16) for end in span.split("-")) for span in ours]
    assert len(ranges) == len(part_paths(tmp_path / "s"))
    for utterance_id in store.ids:
        features = store.features(utterance_id)
        start = features.ctypes.data
        assert any(low <= start and start + features.nbytes <= high for low, high in ranges)
        assert not features.flags.writeable


def test_matrix_is_in_the_asked_for_order(corpus, wavlm, tmp_path):
    store = run(corpus, wavlm, tmp_path / "s").store
    ids = store.ids[::-2]
    matrix = store.matrix(ids)
    assert matrix.shape == (6, 3, 48)
    assert all(np.array_equal(m, store.features(i)) for m, i in zip(matrix, ids, strict=True))
    assert store.matrix([]).shape == (0, 3, 48)
    with pytest.raises(StoreError, match="no features of utterance 'nobody'"):
        store.matrix(["nobody"])
    assert "nobody" not in store
    full = run(corpus, wavlm, tmp_path / "full", "none").store
    with pytest.raises(StoreError, match="holds full frames"):
        full.matrix(ids)


def test_values_beyond_float16_become_its_largest_and_nan_stays(lfcc, monkeypatch):
    huge = torch.tensor([[[1e6, -1e6, 1.5, float("nan")]]])
    monkeypatch.setattr(lfcc, "hidden_states", lambda pieces: [huge for _ in pieces])
    (features,) = frame_features(lfcc, [np.zeros(16000, np.float32)])
    assert features.dtype == np.float16
    assert np.array_equal(features[0, 0], np.float16([65504, -65504, 1.5, np.nan]), equal_nan=True)


# Batches


@pytest.mark.parametrize("which", ["lfcc", "wavlm"])
def test_workers_and_batch_budgets_change_neither_features_nor_order(request, corpus, tmp_path, which):
    frontend = request.getfixturevalue(which)
    reference = run(corpus, frontend, tmp_path / "reference", batch_seconds=0.001).store
    for n, (workers, budget) in enumerate([(0, 2.0), (1, 5.0), (2, None)]):
        store = run(corpus, frontend, tmp_path / str(n), workers=workers, batch_seconds=budget).store
        assert store.ids == reference.ids == corpus.column("utterance_id")
        ours, theirs = store.matrix(store.ids), reference.matrix(store.ids)
        assert np.allclose(ours, theirs, rtol=1e-5, atol=1e-5 * np.abs(theirs).max())


@pytest.mark.parametrize("pool", ["mean", "mean_std", "none"])
def test_long_waveforms_are_analysed_in_groups_within_the_budget(lfcc, monkeypatch, pool):
    long = [clip(1, seconds, True) for seconds in (95.01, 2.0, 61.0)]
    tensors = [torch.from_numpy(w) for w in long]
    expected = lfcc.hidden_states(tensors) if pool == "none" else lfcc.pooled(tensors, pool)
    sizes = []
    layers = lfcc.iter_layers
    monkeypatch.setattr(lfcc, "iter_layers", lambda p: sizes.append(sum(map(len, p)) / 16000) or layers(p))
    full = pool == "none"
    found = frame_features(lfcc, long, 40.0) if full else pooled_features(lfcc, long, pool, 40.0)
    assert max(sizes) <= 40
    assert sum(sizes) == pytest.approx(158.01)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.shape == tuple(theirs.shape)
        assert np.allclose(ours, theirs.numpy(), rtol=2e-3 if full else 1e-5, atol=2e-3)


def test_a_batch_budget_must_be_positive(lfcc):
    for budget in (0.0, -1.0, float("nan")):
        with pytest.raises(UsageError, match="batch of"):
            Extractor(lfcc, batch_seconds=budget)
    with pytest.raises(UsageError, match="pool 'max'"):
        Extractor(lfcc, "max")


# Resuming


def test_a_second_run_computes_nothing(corpus, lfcc, tmp_path):
    run(corpus, lfcc, tmp_path / "s")
    told = []
    again = embed(
        corpus, lfcc, tmp_path / "s", make_extractor=lambda: pytest.fail("made an extractor"),
        on_start=lambda *n: told.append(n),
    )  # fmt: skip
    assert (again.n_new, again.n_kept) == (0, 12)
    assert told == [(0, 12)]


def test_a_store_grows_by_other_splits(corpus, lfcc, tmp_path):
    run(corpus.split("train"), lfcc, tmp_path / "s")
    result = run(corpus, lfcc, tmp_path / "s")
    assert (result.n_new, result.n_kept) == (8, 4)
    assert sorted(result.store.ids) == sorted(corpus.column("utterance_id"))


class InterruptAfter:
    """Ctrl-C at the n-th utterance, as progress reports it."""

    def __init__(self, n: int) -> None:
        self.left = n

    def __call__(self, utterances: int, seconds: float) -> None:
        self.left -= utterances
        if self.left < 0:
            raise KeyboardInterrupt


@pytest.mark.parametrize("with_failures", [False, True])
def test_whatever_interrupts_come_the_end_is_that_of_an_uninterrupted_run(
    lfcc, tmp_path, monkeypatch, with_failures
):
    """Bit for bit, because a resumed run computes the same batches: here features depend on the batch."""
    accumulate = lfcc.accumulate

    def accumulate_telling(pieces, owners):
        accumulate(pieces, owners)
        for owner in owners:
            owner.mean = owner.mean + sum(map(len, pieces))

    monkeypatch.setattr(lfcc, "accumulate", accumulate_telling)
    corpus = Manifest.read(write_corpus(tmp_path / "c", 48, seconds=(0.2, 0.4)))
    paths = corpus.audio_paths()
    if with_failures:
        for path in (paths[2], paths[6], paths[40]):
            replace_audio(path, JUNK)
    small = {"batch_seconds": 0.8, "shard_rows": 32}  # three windows a shard
    reference = run(corpus, lfcc, tmp_path / "reference", **small)
    assert len(reference.failures) == 3 * with_failures
    held = [0]
    for stop in (1, 14, 15, 15, 15, 50):
        try:
            result = run(corpus, lfcc, tmp_path / "s", progress=InterruptAfter(stop), **small)
        except KeyboardInterrupt:
            held.append(len(with_pandas(tmp_path / "s")) if part_paths(tmp_path / "s") else 0)
        else:
            break
    assert held == sorted(held)
    assert len(set(held)) >= 3, "interrupted at too few places"
    assert result.n_kept == held[-1]
    assert contents(result.store) == contents(reference.store)
    assert with_pandas(tmp_path / "s").utterance_id.is_unique
    assert result.failures == reference.failures == result.store.failures()


def test_an_interrupt_keeps_every_finished_window(corpus, lfcc, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(corpus, lfcc, tmp_path / "s", progress=InterruptAfter(9), batch_seconds=0.01, shard_rows=100)
    # With this budget every utterance is a window of its own; the tenth was being reported.
    assert len(EmbeddingStore(tmp_path / "s")) == 9


def test_shards_are_fixed_blocks_whatever_is_missing():
    rows = [Row(str(i), Path(str(i))) for i in range(10)]
    assert [[r.utterance_id for r in s] for s in shards_of(rows, [True] * 10, 4)] == [
        list("0123"), list("4567"), list("89"),
    ]  # fmt: skip
    missing = [i in (2, 3, 8, 9) for i in range(10)]
    assert [[r.utterance_id for r in s] for s in shards_of(rows, missing, 4)] == [list("23"), list("89")]
    assert shards_of([], [], 4) == []
    with pytest.raises(UsageError, match="shards of 0 rows"):
        shards_of(rows, missing, 0)


def test_small_leftovers_are_gathered_into_one_part(own_corpus, lfcc, tmp_path):
    """Healing one file in every shard must not make a part of one row for each."""
    broken = own_corpus.audio_paths()[::SHARD]
    for path in broken:
        replace_audio(path, JUNK)
    assert len(run(own_corpus, lfcc, tmp_path / "s").failures) == 3
    n_parts = len(part_paths(tmp_path / "s"))
    for n, path in enumerate(broken):
        replace_audio(path, clip(100 + n, 0.4, True))
    assert run(own_corpus, lfcc, tmp_path / "s").n_new == 3
    assert len(part_paths(tmp_path / "s")) == n_parts + 1


def test_large_features_make_smaller_parts(corpus, lfcc, tmp_path, monkeypatch):
    monkeypatch.setattr(voxfide.embeddings, "PART_BYTES", 20_000)
    run(corpus, lfcc, tmp_path / "s", "none", batch_seconds=0.01, shard_rows=100)
    sizes = [len(pd.read_feather(p)) for p in part_paths(tmp_path / "s")]
    assert len(sizes) > 3
    assert len(EmbeddingStore(tmp_path / "s")) == 12


# Staleness


def test_a_changed_file_is_computed_again_and_no_other(own_corpus, lfcc, tmp_path):
    first = run(own_corpus, lfcc, tmp_path / "s").store
    before = contents(first)
    changed = own_corpus.column("utterance_id")[5]
    new = clip(99, 0.8, True)
    replace_audio(own_corpus.audio_paths()[5], new)
    result = run(own_corpus, lfcc, tmp_path / "s")
    assert (result.n_new, result.n_kept) == (1, 11)
    after = contents(result.store)
    assert {i for i in after if after[i] != before[i]} == {changed}
    read = load_audio(own_corpus.audio_paths()[5]).waveform
    assert np.allclose(result.store.features(changed), lfcc.pooled([torch.from_numpy(read)])[0], atol=1e-5)
    assert len(result.store) == 12
    assert with_pandas(tmp_path / "s").utterance_id.tolist().count(changed) == 2


def test_parts_count_by_number_not_by_name(own_corpus, lfcc, tmp_path):
    run(own_corpus, lfcc, tmp_path / "s")
    last = part_paths(tmp_path / "s")[-1]
    last.rename(last.with_name("part-99999.arrow"))
    changed = own_corpus.column("utterance_id")[-1]
    for n, number in enumerate(("part-100000.arrow", "part-100001.arrow")):
        replace_audio(own_corpus.audio_paths()[-1], clip(200 + n, 0.5, True))
        store = run(own_corpus, lfcc, tmp_path / "s").store
        assert (tmp_path / "s" / "parts" / number).exists()
        read = load_audio(own_corpus.audio_paths()[-1]).waveform
        assert np.allclose(store.features(changed), lfcc.pooled([torch.from_numpy(read)])[0], atol=1e-5)
    (tmp_path / "s" / "parts" / "part-old.arrow").write_bytes(b"not ours")
    assert len(EmbeddingStore(tmp_path / "s")) == 12


def test_a_file_that_changed_into_junk_has_no_features_any_more(own_corpus, lfcc, tmp_path):
    run(own_corpus, lfcc, tmp_path / "s")
    path = own_corpus.audio_paths()[3]
    gone = own_corpus.column("utterance_id")[3]
    replace_audio(path, JUNK)
    result = run(own_corpus, lfcc, tmp_path / "s")
    assert [f.utterance_id for f in result.failures] == [gone]
    assert gone not in result.store
    assert len(result.store) == 11
    path.unlink()  # what is still in a part is of neither the file that was nor the one before it
    assert gone not in run(own_corpus, lfcc, tmp_path / "s").store


def test_a_file_that_changes_while_it_is_read_counts_as_changed(own_corpus, lfcc, tmp_path):
    path = own_corpus.audio_paths()[0]
    once = [path]

    def touch(utterances: int, seconds: float) -> None:
        if once:
            replace_audio(once.pop(), clip(77, 0.5, True))

    run(own_corpus, lfcc, tmp_path / "s", progress=touch)
    assert run(own_corpus, lfcc, tmp_path / "s").n_new == 1
    assert run(own_corpus, lfcc, tmp_path / "s").n_new == 0


def test_audio_may_be_deleted_once_it_is_embedded(own_corpus, lfcc, tmp_path):
    first = run(own_corpus, lfcc, tmp_path / "s").store
    for path in own_corpus.audio_paths():
        path.unlink()
    again = run(own_corpus, lfcc, tmp_path / "s")
    assert (again.n_new, again.n_kept, again.failures) == (0, 12, [])
    assert contents(again.store) == contents(first)


def test_the_same_id_for_another_file_is_another_utterance(own_corpus, lfcc, tmp_path):
    run(own_corpus, lfcc, tmp_path / "s")
    rows = [
        Row(i, p) for i, p in zip(own_corpus.column("utterance_id"), own_corpus.audio_paths(), strict=True)
    ]
    states = EmbeddingStore(tmp_path / "s").file_states()
    assert not any(missing_rows(rows, states))
    moved = [row._replace(path=row.path.with_name("gone " + row.path.name)) for row in rows]
    assert all(missing_rows(moved, states))
    assert FileState.of(moved[0].path) == (str(moved[0].path), -1, -1)


def test_other_features_are_refused(corpus, lfcc, wavlm, tmp_path):
    run(corpus, wavlm, tmp_path / "s")
    before = contents(EmbeddingStore(tmp_path / "s"))
    other_layers = create_frontend(wavlm.name, 2)
    other_weights = create_frontend(wavlm.name, 3)
    with torch.no_grad():
        next(other_weights.parameters()).add_(1e-6)
    for frontend, pool in ((lfcc, "mean"), (other_layers, "mean"), (other_weights, "mean"), (wavlm, "none")):
        with pytest.raises(StoreError, match="holds other features.*Choose another folder"):
            run(corpus, frontend, tmp_path / "s", pool)
    assert contents(EmbeddingStore(tmp_path / "s")) == before
    assert run(corpus, wavlm, tmp_path / "s").n_new == 0


def test_manifests_with_doubled_ids_are_refused(corpus, lfcc, tmp_path):
    doubled = corpus.take([0, 1, 0])
    with pytest.raises(ManifestError):
        run(doubled, lfcc, tmp_path / "s")
    assert not (tmp_path / "s").exists()


# What goes wrong


def test_failures_are_listed_and_tried_again(own_corpus, lfcc, tmp_path):
    paths, ids = own_corpus.audio_paths(), own_corpus.column("utterance_id")
    replace_audio(paths[1], JUNK)
    sf.write(paths[4], np.zeros(16000), 16000)
    sf.write(paths[5], clip(0, 0.01, True), 16000)
    paths[9].unlink()
    result = run(own_corpus, lfcc, tmp_path / "s", workers=1)
    kinds = {f.utterance_id: f.kind for f in result.failures}
    assert kinds == {ids[1]: "not-audio", ids[4]: "silent", ids[5]: "too-short", ids[9]: "not-found"}
    assert result.n_new == 8
    table = pd.read_csv(tmp_path / "s" / "failures.csv")
    assert list(table.columns) == ["utterance_id", "path", "kind", "reason", "expected"]
    assert dict(zip(table.utterance_id, table.kind, strict=True)) == kinds
    assert table.path.tolist() == [str(paths[i]) for i in (1, 4, 5, 9)]
    assert EmbeddingStore(tmp_path / "s").failures() == result.failures
    for i in (1, 4, 9):
        sf.write(paths[i], clip(50 + i, 0.5, True), 16000)
    again = run(own_corpus, lfcc, tmp_path / "s")
    assert (again.n_new, again.n_kept) == (3, 8)
    assert [f.utterance_id for f in again.store.failures()] == [ids[5]]


def test_failures_of_other_splits_stay_in_the_table(own_corpus, lfcc, tmp_path):
    replace_audio(own_corpus.audio_paths()[0], JUNK)
    replace_audio(own_corpus.audio_paths()[11], JUNK)
    run(own_corpus.split("train"), lfcc, tmp_path / "s")
    result = run(own_corpus.split("eval"), lfcc, tmp_path / "s")
    ids = own_corpus.column("utterance_id")
    assert [f.utterance_id for f in result.failures] == [ids[11]]
    assert [f.utterance_id for f in result.store.failures()] == [ids[0], ids[11]]


def test_many_failures_do_not_rewrite_the_table_over_and_over(lfcc, tmp_path, monkeypatch):
    n = 600
    columns = {
        "utterance_id": [f"u{i}" for i in range(n)],
        "path": [f"{i}.wav" for i in range(n)],
        "label": ["unknown"] * n,
    }
    written = []
    write = voxfide.embeddings.write_atomic
    monkeypatch.setattr(
        voxfide.embeddings, "write_atomic", lambda path, text: (written.append(text), write(path, text))
    )
    result = run(Manifest.from_columns(columns, tmp_path), lfcc, tmp_path / "s", shard_rows=2)
    assert len(result.failures) == len(result.store.failures()) == n
    assert sum(map(len, written)) < 15 * len(written[-1])  # 300 shards


def test_strict_stops_at_the_first_bad_file_and_keeps_what_was_done(own_corpus, lfcc, tmp_path):
    replace_audio(own_corpus.audio_paths()[7], JUNK)
    with pytest.raises(AudioError, match="clip 007"):
        run(own_corpus, lfcc, tmp_path / "s", strict=True, batch_seconds=0.01, shard_rows=100)
    assert len(EmbeddingStore(tmp_path / "s")) == 7


def test_features_that_are_not_finite_are_a_failure(corpus, lfcc, tmp_path, monkeypatch):
    accumulate = lfcc.accumulate

    def poison(pieces, owners):
        accumulate(pieces, owners)
        owners[0].mean = owners[0].mean * float("nan")

    monkeypatch.setattr(lfcc, "accumulate", poison)
    result = run(corpus, lfcc, tmp_path / "s", shard_rows=100)
    assert [f.reason for f in result.failures] == ["its features are not finite"]
    assert len(result.store) == 11


def test_two_writers_at_once_are_refused(corpus, lfcc, tmp_path):
    store = tmp_path / "s"
    refused = pytest.raises(StoreError, match="another process is writing to this store")
    with exclusive(store / ".lock", "held by the test"), refused:
        run(corpus, lfcc, store)
    assert run(corpus, lfcc, store).n_new == 12


@pytest.mark.parametrize("damage", ["cut", "empty", "garbage", "columns", "width"])
def test_a_damaged_part_is_named(corpus, lfcc, tmp_path, damage):
    run(corpus, lfcc, tmp_path / "s")
    part = part_paths(tmp_path / "s")[1]
    table, content = (
        pa.Table.from_batches(feather.read_table(part, memory_map=False).to_batches()),
        part.read_bytes(),
    )
    if damage == "columns":
        feather.write_feather(table.drop_columns(["path"]), part, compression="uncompressed")
    elif damage == "width":
        narrow = pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(4 * 7, np.float32)), 7)
        feather.write_feather(table.set_column(8, "features", narrow), part, compression="uncompressed")
    else:
        part.write_bytes({"cut": content[: len(content) // 2], "empty": b"", "garbage": bytes(5000)}[damage])
    for use in (lambda: EmbeddingStore(tmp_path / "s"), lambda: run(corpus, lfcc, tmp_path / "s")):
        with pytest.raises(StoreError, match=rf"{part.name}: .*delete it and run again"):
            use()
    part.unlink()
    result = run(corpus, lfcc, tmp_path / "s")
    assert (result.n_new, result.n_kept) == (4, 8)


def test_what_is_no_store_is_said(corpus, lfcc, tmp_path):
    with pytest.raises(StoreError, match="no embedding store"):
        EmbeddingStore(tmp_path)
    run(corpus, lfcc, tmp_path / "s")
    about = tmp_path / "s" / "store.json"
    text = about.read_text()
    for damaged, message in (
        ("{", "damaged"),
        ("[]", "damaged"),
        (text.replace('"format": 1', '"format": 99'), "format 99"),
        (text.replace('"pool"', '"pond"'), "damaged"),
    ):
        about.write_text(damaged)
        with pytest.raises(StoreError, match=message):
            EmbeddingStore(tmp_path / "s")
    about.unlink()
    with pytest.raises(StoreError, match=r"parts but no store.json"):
        run(corpus, lfcc, tmp_path / "s")
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(StoreError, match="is a file"):
        run(corpus, lfcc, file)
    with pytest.raises(StoreError, match="no embedding store"):
        EmbeddingStore(file)
    about.write_text(text)
    (tmp_path / "s" / "failures.csv").write_text("a,b\n1,2\n")
    with pytest.raises(StoreError, match="not a failures table"):
        EmbeddingStore(tmp_path / "s")


def fsync_that_fails_from(call: int):
    calls = [0]

    def fsync(descriptor: int) -> None:
        calls[0] += 1
        if calls[0] >= call:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    return fsync


@pytest.mark.parametrize("call", range(1, 6))
def test_a_full_disk_leaves_a_valid_store_and_no_litter(corpus, lfcc, tmp_path, monkeypatch, call):
    with monkeypatch.context() as patch:
        patch.setattr("voxfide.files.os.fsync", fsync_that_fails_from(call))
        with pytest.raises(OSError, match="No space left"):
            run(corpus, lfcc, tmp_path / "s")
    assert not list((tmp_path / "s").rglob("*.tmp"))
    if call > 1:  # else not even store.json could be written
        held = len(EmbeddingStore(tmp_path / "s"))
        assert held == len(part_paths(tmp_path / "s")) * SHARD
    result = run(corpus, lfcc, tmp_path / "s")
    assert len(result.store) == 12
    assert with_pandas(tmp_path / "s").utterance_id.is_unique


def test_a_write_that_breaks_off_leaves_a_valid_store(corpus, lfcc, tmp_path):
    """The operating system refuses to let a file grow beyond 4 KiB, in the middle of a part."""
    resource = pytest.importorskip("resource")
    run(corpus.split("train"), lfcc, tmp_path / "s", "none", batch_seconds=0.01, shard_rows=1)
    before = contents(EmbeddingStore(tmp_path / "s"))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            run(corpus, lfcc, tmp_path / "s", "none")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list((tmp_path / "s").rglob("*.tmp"))
    assert contents(EmbeddingStore(tmp_path / "s")) == before
    assert len(run(corpus, lfcc, tmp_path / "s", "none").store) == 12


def test_what_a_killed_writer_left_is_cleared_away(corpus, lfcc, tmp_path):
    run(corpus.split("train"), lfcc, tmp_path / "s")
    litter = [tmp_path / "s" / ".store.json.123.tmp", tmp_path / "s" / "parts" / ".part-00001.arrow.123.tmp"]
    for path in litter:
        path.write_bytes(b"half a file")
    run(corpus, lfcc, tmp_path / "s")
    assert not any(path.exists() for path in litter)


def test_names_may_be_as_long_as_the_file_system_allows(tmp_path, lfcc):
    deep = tmp_path
    for _ in range(6):
        deep = deep / ("d" * 200)
    deep.mkdir(parents=True)
    write_corpus(tmp_path / "c", 3).parent.rename(deep / ("c" * 250))
    manifest = Manifest.read(deep / ("c" * 250) / "manifest.csv")
    result = run(manifest, lfcc, deep / ("s" * 250))
    assert len(result.store) == 3
    assert Counter(re.sub(r"\d+", "N", p.name) for p in (deep / ("s" * 250)).rglob("*")) == {
        ".lock": 1, "store.json": 1, "failures.csv": 1, "parts": 1, "part-N.arrow": 1,
    }  # fmt: skip


def test_store_json_says_what_it_holds(corpus, wavlm, tmp_path):
    info = run(corpus, wavlm, tmp_path / "s", "mean_std").store.info
    facts = dataclasses.asdict(info)
    assert facts["fingerprint"] == wavlm.fingerprint()
    assert (facts["n_layers"], facts["dim"], facts["pool"], facts["dtype"]) == (3, 96, "mean_std", "float32")
    assert facts["frame_shift"] == 0.02
    assert facts["settings"] == wavlm.settings()


# The command


def test_kills_and_ctrl_c_lose_and_double_nothing(lfcc, tmp_path, one_thread):
    small = Manifest.read(write_corpus(tmp_path / "c", 24))
    n = 800
    columns = {
        "utterance_id": [f"u{i:04d}" for i in range(n)],
        "path": [small.column("path")[i % 24] for i in range(n)],
        "label": ["unknown"] * n,
    }
    manifest = Manifest.from_columns(columns, tmp_path / "c").write(tmp_path / "c" / "many.csv")
    command = ("embed", manifest, "--frontend", "lfcc", "--workers", "1", "--batch-seconds", "1", "-o")
    random = np.random.default_rng()
    held = 0
    for number in (signal.SIGKILL, signal.SIGINT, signal.SIGKILL):
        target = len(part_paths(tmp_path / "s")) + int(random.integers(3, 20))
        process = start(*command, tmp_path / "s")
        status, said = stop_when(process, number, lambda n=target: len(part_paths(tmp_path / "s")) >= n)
        assert status == (-9 if number == signal.SIGKILL else 130), said
        assert "Traceback" not in said
        assert not held or f"{held:,} of {n:,} were finished before" in said
        if number == signal.SIGINT:
            assert "what was finished is kept" in said
        now = len(EmbeddingStore(tmp_path / "s"))
        assert held < now < n
        held = now
    result = run(Manifest.read(manifest), lfcc, tmp_path / "s", batch_seconds=1.0, shard_rows=8)
    assert (result.n_kept, result.n_new) == (held, n - held)
    reference = run(Manifest.read(manifest), lfcc, tmp_path / "r", batch_seconds=1.0, shard_rows=8).store
    assert contents(result.store) == contents(reference)
    assert with_pandas(tmp_path / "s").utterance_id.is_unique
    assert not list((tmp_path / "s").rglob("*.tmp"))


def test_exit_codes_of_the_command(own_corpus, tmp_path, monkeypatch, capsys):
    manifest = own_corpus.source
    command = ("embed", manifest, "--frontend", "lfcc", "--workers", "0", "-o", tmp_path / "s")
    replace_audio(own_corpus.audio_paths()[3], JUNK)
    assert run_here(monkeypatch, *command) == 1
    said = capsys.readouterr()
    assert "1 file(s) could not be used" in said.err
    assert "clip 003.wav" in said.err
    assert "11 utterances" in said.out
    assert len(pd.read_csv(tmp_path / "s" / "failures.csv")) == 1
    assert run_here(monkeypatch, *command, "--strict") == 2
    assert "clip 003.wav" in capsys.readouterr().err
    replace_audio(own_corpus.audio_paths()[3], clip(3, 0.5, True))
    assert run_here(monkeypatch, *command) == 0
    assert "12 utterances" in capsys.readouterr().out
    assert run_here(monkeypatch, *command, "--pool", "none") == 2
    assert "holds other features" in capsys.readouterr().err
