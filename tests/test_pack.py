"""``voxfide pack``: shards hold what the files held, whatever interrupts it, and every command reads them."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import tracemalloc
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile as sf
from hypothesis import given, settings
from hypothesis import strategies as st

from audio_fixtures import speechlike, write
from command_line import run_here
from small_corpus import replace_audio, write_corpus
from voxfide import packing
from voxfide.audio import load_audio
from voxfide.corpora.check import check_audio
from voxfide.errors import StoreError, UsageError
from voxfide.files import exclusive
from voxfide.manifest import Manifest
from voxfide.packing import FORMS, lossless, shards
from voxfide.packing.names import member_key

pack = partial(packing.pack, workers=0)
"""In this process, which saves the start of others; one test asks for workers."""

both_forms = pytest.mark.parametrize("form", FORMS)

KINDS = {  # suffix: kind, rate, channels
    "wav": ("wav-s16", 22050, 1),
    "WAV": ("wav-s24", 44100, 2),
    "f32.wav": ("wav-f32", 48000, 1),
    "flac": ("flac-s24", 11025, 1),
    "mp3": ("mp3", 44100, 2),
    "m4a": ("m4a", 44100, 1),
    "ogg": ("vorbis", 16000, 1),
    "opus": ("opus", 48000, 1),
    "aiff": ("aiff", 8000, 1),
    "amr": ("amr", 8000, 1),
    "mkv": ("mkv-aac", 32000, 1),
    "": ("wav-s16", 16000, 1),
}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return Manifest.read(write_corpus(tmp_path_factory.mktemp("corpus") / "c", 24, seconds=(0.1, 0.3)))


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """A file of every kind."""
    folder = tmp_path_factory.mktemp("zoo")
    for number, (suffix, (kind, rate, channels)) in enumerate(KINDS.items()):
        data = write(kind, speechlike(rate, 0.2, channels, seed=number), rate)
        (folder / f"{number}{'.' * bool(suffix)}{suffix}").write_bytes(data)
    names = sorted(path.name for path in folder.iterdir())
    return manifest_of(folder, names)


def manifest_of(folder: Path, names: list[str], ids: list[str] | None = None, **columns: list) -> Manifest:
    labels = ["bonafide" if i % 2 else "spoof" for i in range(len(names))]
    required = {"utterance_id": ids or names, "path": names, "label": labels}
    return Manifest.from_columns(required | columns, folder)


def files_of(folder: Path) -> dict[str, bytes]:
    """All that is in the shards, and what belongs to them; not the records, which hold times."""
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()}


def read_back(manifest: Manifest) -> dict[str, bytes]:
    """The bytes of the members, by another reader."""
    found = {}
    for row, path in zip(manifest.column("utterance_id"), manifest.audio_paths(), strict=True):
        if path.parent.suffix == ".tar":
            with tarfile.open(path.parent) as archive:
                member = archive.extractfile(path.name)
                assert member is not None
                found[row] = member.read()
        else:
            cells = pq.read_table(path.parent).column("audio").to_pylist()
            found[row] = next(cell["bytes"] for cell in cells if cell["path"] == path.name)
    return found


# What is in the shards


@both_forms
@pytest.mark.parametrize("codec", packing.CODECS)
def test_audio_of_every_kind_is_the_same_through_a_shard(zoo, tmp_path, form, codec):
    made = pack(zoo, tmp_path / "packed", form=form, codec=codec, shard_bytes=50_000)
    assert made.n_shards > 1
    assert made.failures == []
    packed = Manifest.read(made.path).require_valid(check_files=True)
    assert packed.column("utterance_id") == zoo.column("utterance_id")
    n_recoded = 0
    for before, after in zip(zoo.audio_paths(), packed.audio_paths(), strict=True):
        old, new = load_audio(before), load_audio(after)
        assert np.array_equal(old.waveform, new.waveform)
        assert (old.info.sample_rate, old.info.channels) == (new.info.sample_rate, new.info.channels)
        n_recoded += old.info.container != new.info.container
        if codec == "keep":
            assert old.info.codec == new.info.codec
    assert made.n_recoded == n_recoded == (4 if codec == "flac" else 0)
    if codec == "keep":
        assert list(read_back(packed).values()) == [path.read_bytes() for path in zoo.audio_paths()]


@both_forms
@given(st.data())
@settings(max_examples=15, deadline=None)
def test_any_bytes_under_any_id_come_back(tmp_path_factory, form, data):
    folder = tmp_path_factory.mktemp("any")
    text = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zs", "Zl", "Zp"]), min_size=1, max_size=40)
    contents = data.draw(st.dictionaries(text, st.binary(min_size=1, max_size=3000), min_size=1, max_size=9))
    names = [f"{i}.wav" for i in range(len(contents))]
    for name, content in zip(names, contents.values(), strict=True):
        (folder / name).write_bytes(content)
    manifest = manifest_of(folder, names, list(contents))
    shard_bytes = data.draw(st.integers(1, 8000))
    made = pack(manifest, folder / "packed", form=form, shard_bytes=shard_bytes)
    assert read_back(Manifest.read(made.path)) == contents
    assert Manifest.read(made.path).column("utterance_id") == list(contents)
    for path in (folder / "packed").glob(f"audio-*.{form}"):
        n_files = sum(p.parent.name == path.name for p in made.manifest.audio_paths())
        overhead = 20_480 + 4096 * n_files
        assert n_files == 1 or path.stat().st_size <= shard_bytes + overhead


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), st.text(min_size=1, max_size=3))
def test_keys_are_safe_and_as_different_as_ids(one, other):
    try:
        key, key2 = member_key(one), member_key(other)
    except UnicodeEncodeError:  # what no table holds
        return
    assert re.fullmatch(r"[A-Za-z0-9_%~-]{1,88}", key)
    assert (key == key2) is (one == other)
    assert member_key(one * 99 + "1") != member_key(one * 99 + "2")


def test_webdataset_reads_the_shards(tmp_path):
    webdataset = pytest.importorskip("webdataset")
    ids = ["plain", "a/b/c.d", "é ü 中文", "100%", "..", "__x__", "long " * 50 + "id", "KEY.json", "-", "~"]
    names = [f"{i}.flac" for i in range(len(ids))]
    for i, name in enumerate(names):
        (tmp_path / name).write_bytes(write("flac-s16", speechlike(16000, 0.05, seed=i), 16000))
    made = pack(manifest_of(tmp_path, names, ids, seconds=[0.05] * 10), tmp_path / "out", shard_bytes=10_000)
    urls = sorted(str(path) for path in (tmp_path / "out").glob("*.tar"))
    assert len(urls) == made.n_shards > 1
    samples = list(webdataset.WebDataset(urls, shardshuffle=False))
    assert [json.loads(s["json"])["utterance_id"] for s in samples] == ids
    assert [json.loads(s["json"])["seconds"] for s in samples] == [0.05] * 10
    assert [s["flac"] for s in samples] == [(tmp_path / name).read_bytes() for name in names]


@both_forms
def test_shards_hold_the_manifest_but_for_its_paths(corpus, tmp_path, form):
    rows = corpus.table.to_pylist()
    made = pack(corpus, tmp_path, form=form, suffix=".parquet")
    assert made.path.suffix == ".parquet"
    assert made.n_shards == 1
    if form == "parquet":
        table = pq.read_table(tmp_path / "audio-000000.parquet")
        assert table.drop_columns("audio").to_pylist() == corpus.table.drop_columns("path").to_pylist()
    else:
        with tarfile.open(tmp_path / "audio-000000.tar") as archive:
            members = archive.getmembers()
            texts = [archive.extractfile(m).read() for m in members if m.name.endswith(".json")]
        assert [json.loads(t) for t in texts] == [{k: v for k, v in r.items() if k != "path"} for r in rows]
        assert {(m.mtime, m.uid, m.gid, m.uname, m.mode) for m in members} == {(0, 0, 0, "", 0o644)}


@pytest.mark.parametrize("codec", packing.CODECS)
@both_forms
def test_the_same_input_gives_the_same_bytes_with_any_number_of_workers(corpus, tmp_path, form, codec):
    options = {"form": form, "codec": codec, "shard_bytes": 40_000}
    pack(corpus, tmp_path / "one", **options)
    pack(corpus, tmp_path / "two", workers=2, **options)
    assert files_of(tmp_path / "one") == files_of(tmp_path / "two")


def test_flac_is_made_only_where_it_is_exact_and_smaller(tmp_path):
    random = np.random.default_rng(0)
    tone = speechlike(16000, 0.5)
    noise = random.uniform(-1, 1, 8000)
    wanted = {
        "s16.wav": (write("wav-s16", tone, 16000), True),
        "s24.wav": (write("wav-s24", tone, 16000), True),
        "stereo.wav": (write("wav-s16", np.hstack([tone, tone]), 16000), True),
        "f32.wav": (write("wav-f32", tone, 16000), False),
        "u8.wav": (write("wav-u8", tone, 16000), False),
        "mulaw.wav": (write("wav-mulaw", tone, 16000), False),
        "noise.wav": (write("wav-s16", noise[:200, None], 16000), False),
        "named.wav": (write("flac-s16", tone, 16000), False),
        "cut.wav": (write("wav-s16", tone, 16000)[:-100], False),
        "junk.wav": (b"RIFF\xff\xff\0\0WAVEfmt junk", False),
    }
    for name, (data, is_recoded) in wanted.items():
        (tmp_path / name).write_bytes(data)
        made = lossless.as_flac(tmp_path / name)
        assert (made is not None) is is_recoded, name
        if made is not None:
            assert len(made) < len(data)
            old, rate = sf.read(io.BytesIO(data), dtype="int32")
            new, new_rate = sf.read(io.BytesIO(made), dtype="int32")
            assert rate == new_rate
            assert np.array_equal(old, new)


def test_a_shard_can_be_packed_again_in_another_form(corpus, tmp_path):
    first = pack(corpus, tmp_path / "tar", shard_bytes=30_000)
    second = pack(Manifest.read(first.path), tmp_path / "parquet", form="parquet")
    third = pack(Manifest.read(second.path), tmp_path / "again", shard_bytes=30_000)
    assert files_of(tmp_path / "tar").items() - files_of(tmp_path / "again").items() == {
        ("pack.json", (tmp_path / "tar" / "pack.json").read_bytes())
    }
    assert read_back(third.manifest) == read_back(second.manifest)


# What reads them


@both_forms
@pytest.mark.parametrize("workers", [0, 2])
def test_features_and_scores_are_those_of_the_files_bit_for_bit(corpus, tmp_path, form, workers):
    from voxfide.detectors import load_detector
    from voxfide.embeddings import embed
    from voxfide.extraction import Extractor
    from voxfide.frontends import create_frontend
    from voxfide.scoring import score_manifest

    frontend = create_frontend("lfcc")
    detector = load_detector("bundled")
    packed = pack(corpus, tmp_path / "packed", form=form, shard_bytes=40_000).manifest
    features = []
    for name, rows in (("files", corpus), ("shards", packed)):
        make = partial(Extractor, frontend, "mean_std", workers)
        store = embed(rows, frontend, tmp_path / name, pool="mean_std", make_extractor=make).store
        features.append(store.matrix(corpus.column("utterance_id")))
        again = embed(rows, frontend, tmp_path / name, pool="mean_std", make_extractor=make)
        assert again.n_new == 0
        make = partial(detector.extractor, workers=workers)
        score_manifest(detector, rows, tmp_path / f"{name}.tsv", make_extractor=make)
    assert np.array_equal(*features)
    assert (tmp_path / "files.tsv").read_bytes() == (tmp_path / "shards.tsv").read_bytes()
    assert len((tmp_path / "files.tsv").read_text().splitlines()) == 25


@both_forms
def test_detect_tells_of_a_member_what_it_tells_of_the_file(tmp_path, monkeypatch, capsys, form):
    (tmp_path / "audio").mkdir()
    for name in ("one.wav", "two.wav"):
        signal = speechlike(16000, 2.5, seed=len(name))
        (tmp_path / "audio" / name).write_bytes(write("wav-s16", signal, 16000))
    made = pack(manifest_of(tmp_path / "audio", ["one.wav", "two.wav"]), tmp_path / "packed", form=form)
    told = []
    members = made.manifest.audio_paths()
    pattern = str(tmp_path / "packed" / f"audio-*.{form}")
    for arguments in ([tmp_path / "audio"], members, [members[0].parent], [pattern], [tmp_path / "packed"]):
        assert run_here(monkeypatch, "detect", "--json", *arguments) == 0
        told.append([json.loads(line) for line in capsys.readouterr().out.splitlines()])
    assert len(told[0]) == 2
    for found in told:
        for analysis in found:
            del analysis["path"]
    assert all(found == told[0] for found in told)


@both_forms
def test_audio_can_be_checked_in_shards(corpus, tmp_path, form):
    packed = pack(corpus, tmp_path, form=form, shard_bytes=40_000).manifest
    summary = check_audio(packed, tmp_path / "audio.csv", workers=0)
    assert (summary.n_files, summary.n_unreadable) == (24, 0)
    checked: list[int] = []
    check_audio(packed, tmp_path / "audio.csv", workers=0, on_start=lambda new, old: checked.append(new))
    assert checked == [0]


# What can go wrong


class StopHereError(Exception):
    """From a callback, as Ctrl-C would be."""


def stop_after(n: int):
    def progress(*_: int) -> None:
        nonlocal n
        n -= 1
        if n == 0:
            raise StopHereError

    return progress


@both_forms
@pytest.mark.parametrize("codec", packing.CODECS)
@pytest.mark.parametrize("rows", [1, 11, 24])
def test_an_interrupted_job_goes_on_and_ends_in_the_same_bytes(corpus, tmp_path, form, codec, rows):
    options = {"form": form, "codec": codec, "shard_bytes": 40_000}
    pack(corpus, tmp_path / "whole", **options)
    with pytest.raises(StopHereError):
        pack(corpus, tmp_path / "broken", progress=stop_after(rows), **options)
    left = sorted(path.name for path in (tmp_path / "broken").iterdir() if path.suffix != ".index")
    finished = sorted((tmp_path / "whole").glob(f"audio-*.{form}"))[: len(left) - 3 + (rows < 11)]
    assert not [name for name in left if "tmp" in name or name.startswith("manifest")]
    for path in finished:
        assert (tmp_path / "broken" / path.name).read_bytes() == path.read_bytes()
    kept = {path.name: path.stat().st_ino for path in (tmp_path / "broken").glob(f"audio-*.{form}")}
    started: list[tuple[int, int]] = []
    pack(corpus, tmp_path / "broken", on_start=lambda *counts: started.append(counts), **options)
    assert sum(started[0]) == 24
    assert (started[0][1] > 0) is (rows >= 11)
    assert files_of(tmp_path / "broken") == files_of(tmp_path / "whole")
    assert all((tmp_path / "broken" / name).stat().st_ino == inode for name, inode in kept.items())


KILLED = """
import os, signal, sys
from voxfide.manifest import Manifest
from voxfide.packing import pack
left = int(sys.argv[4])
def progress(*_):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
rows = Manifest.read(sys.argv[1])
pack(rows, sys.argv[2], form=sys.argv[3], shard_bytes=40_000, workers=0, progress=progress)
"""


@both_forms
def test_a_killed_job_goes_on_and_ends_in_the_same_bytes(tmp_path, form):
    corpus = Manifest.read(write_corpus(tmp_path / "c", 16, seconds=(0.1, 0.3)))
    command = [sys.executable, "-c", KILLED, tmp_path / "c" / "manifest.csv", tmp_path / "killed", form]
    for rows in ("9", "7"):
        assert subprocess.run([*command, rows], check=False).returncode == -signal.SIGKILL
        assert list((tmp_path / "killed").glob(".*.tmp"))
        assert not list((tmp_path / "killed").glob("manifest*"))
    made = pack(corpus, tmp_path / "killed", form=form, shard_bytes=40_000)
    pack(corpus, tmp_path / "whole", form=form, shard_bytes=40_000)
    assert files_of(tmp_path / "killed") == files_of(tmp_path / "whole")
    assert len(made.manifest) == 16


@both_forms
def test_a_full_disk_leaves_whole_shards_only(corpus, tmp_path, form, monkeypatch):
    calls = iter(range(1000))
    kind = shards.TarShard if form == "tar" else shards.ParquetShard
    add = kind.add

    def add_until_full(self, *arguments):
        if next(calls) == 13:
            raise OSError(28, "No space left on device")
        add(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(kind, "add", add_until_full)
        with pytest.raises(OSError, match=r"No space left on device: '.*/audio-00000\d"):
            pack(corpus, tmp_path / "full", form=form, shard_bytes=40_000)
    pack(corpus, tmp_path / "whole", form=form, shard_bytes=40_000)
    whole, full = files_of(tmp_path / "whole"), files_of(tmp_path / "full")
    assert full.items() < whole.items()
    assert any(name.startswith("audio-") for name in full)
    pack(corpus, tmp_path / "full", form=form, shard_bytes=40_000)
    assert files_of(tmp_path / "full") == whole


@both_forms
def test_changed_sources_are_packed_anew_and_deleted_ones_stay(tmp_path, form):
    folder = tmp_path / "c"
    corpus = Manifest.read(write_corpus(folder, 16, seconds=(0.1, 0.3)))
    again = partial(pack, corpus, tmp_path / "out", form=form, shard_bytes=40_000)
    again()
    before = files_of(tmp_path / "out")
    started: list[tuple[int, int]] = []
    again(on_start=lambda *counts: started.append(counts))
    assert started.pop() == (0, 16)
    replace_audio(corpus.audio_paths()[9], speechlike(16000, 0.25))
    made = again(on_start=lambda *counts: started.append(counts))
    assert 0 < started.pop()[1] <= 9
    after = files_of(tmp_path / "out")
    assert after["audio-000000." + form] == before["audio-000000." + form]
    assert len(load_audio(made.manifest.audio_paths()[9]).waveform) == 4000
    shutil.rmtree(folder / "audio")
    again(on_start=lambda *counts: started.append(counts))
    assert started.pop() == (0, 16)
    assert files_of(tmp_path / "out") == after
    os.truncate(tmp_path / "out" / f"audio-000001.{form}", 500)
    with pytest.raises(UsageError, match=r"audio-000001 and later ones.*is gone"):
        again()
    assert files_of(tmp_path / "out").keys() == after.keys()


def test_no_manifest_of_shards_that_were_made_anew_stays(tmp_path):
    corpus = Manifest.read(write_corpus(tmp_path / "c", 6, seconds=(0.1, 0.2)))
    out = tmp_path / "out"
    pack(corpus, out)
    first = files_of(out)
    pack(corpus, out, suffix=".parquet")
    assert first.items() < files_of(out).items()
    replace_audio(corpus.audio_paths()[0], speechlike(16000, 0.4))
    with pytest.raises(StopHereError):
        pack(corpus, out, progress=stop_after(1))
    assert not list(out.glob("manifest.*"))


@both_forms
def test_what_cannot_be_read_is_listed_and_the_rest_packed(tmp_path, monkeypatch, capsys, form):
    path = write_corpus(tmp_path / "c", 12, seconds=(0.1, 0.2))
    corpus = Manifest.read(path)
    gone, folder, empty, last = (corpus.audio_paths()[i] for i in (0, 5, 6, 11))
    for source in (gone, folder, empty, last):
        source.unlink()
    folder.mkdir()
    empty.touch()
    out = tmp_path / "out"
    command = ["pack", path, "-o", out, "--format", form, "--shard-mb", "0.02", "--workers", "0"]
    assert run_here(monkeypatch, *command) == 1
    told = capsys.readouterr()
    assert "8 utterances in" in told.out
    assert "4 file(s) could not be used" in told.err
    with (out / "failures.csv").open() as file:
        failures = list(csv.DictReader(file))
    assert [f["kind"] for f in failures] == ["not-found", "not-found", "empty", "not-found"]
    assert [f["path"] for f in failures] == [str(p) for p in (gone, folder, empty, last)]
    made = Manifest.read(out / "manifest.csv").require_valid(check_files=True)
    assert len(made) == 8
    assert read_back(made).keys() == set(corpus.column("utterance_id")) - {
        f["utterance_id"] for f in failures
    }
    assert run_here(monkeypatch, *command) == 1
    last.write_bytes(corpus.audio_paths()[1].read_bytes())
    empty.write_bytes(corpus.audio_paths()[1].read_bytes())
    folder.rmdir()
    folder.write_bytes(corpus.audio_paths()[1].read_bytes())
    gone.write_bytes(corpus.audio_paths()[1].read_bytes())
    assert run_here(monkeypatch, *command) == 0
    assert not (out / "failures.csv").exists()
    assert len(Manifest.read(out / "manifest.csv")) == 12


@both_forms
def test_nothing_readable_makes_no_shard(tmp_path, form):
    made = pack(manifest_of(tmp_path, ["a.wav", "b.wav"]), tmp_path / "out", form=form)
    assert (made.n_shards, len(made.manifest), len(made.failures)) == (0, 0, 2)
    assert not list((tmp_path / "out").glob("audio-*"))
    assert pack(manifest_of(tmp_path, ["a.wav", "b.wav"]), tmp_path / "out", form=form).n_shards == 0


def test_a_file_that_shrinks_while_it_is_read_leaves_no_trace(tmp_path, monkeypatch):
    corpus = Manifest.read(write_corpus(tmp_path / "c", 6, seconds=(0.1, 0.2)))
    copy = shards._copy
    calls = iter(range(100))

    def copy_shrunk(file, out):
        if next(calls) == 2:
            file.size += 100
        copy(file, out)

    monkeypatch.setattr(shards, "_copy", copy_shrunk)
    made = pack(corpus, tmp_path / "out")
    assert [f.reason.partition(":")[0] for f in made.failures] == ["became shorter while it was read"]
    wanted = [path.read_bytes() for i, path in enumerate(corpus.audio_paths()) if i != 2]
    assert list(read_back(made.manifest).values()) == wanted
    for path, data in zip(made.manifest.audio_paths(), wanted, strict=True):
        assert np.array_equal(load_audio(path).waveform, load_audio(data).waveform)


def test_large_files_are_not_held_in_memory(tmp_path):
    with (tmp_path / "big.wav").open("wb") as file:
        file.truncate(32 << 20)
    manifest = manifest_of(tmp_path, ["big.wav"])
    pack(manifest, tmp_path / "first")
    tracemalloc.start()
    try:
        pack(manifest, tmp_path / "out")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 6 << 20


def test_parquet_refuses_what_a_cell_cannot_hold(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "MAX_CELL_BYTES", 5000)
    corpus = Manifest.read(write_corpus(tmp_path / "c", 2, seconds=(0.2, 0.3)))
    made = pack(corpus, tmp_path / "out", form="parquet")
    assert [f.kind for f in made.failures] == ["too-long"] * 2


def test_wrong_requests_are_told(corpus, tmp_path, monkeypatch, capsys):
    for options in ({"form": "zip"}, {"codec": "mp3"}, {"suffix": ".json"}, {"shard_bytes": 0}):
        with pytest.raises(UsageError, match="expected"):
            pack(corpus, tmp_path / "x", **options)
    named = manifest_of(tmp_path, ["a.wav"], audio=["x"])
    with pytest.raises(UsageError, match="column 'audio'"):
        pack(named, tmp_path / "x", form="parquet")
    with pytest.raises(UsageError, match="is a file"):
        pack(corpus, corpus.root / "manifest.csv")
    assert not (tmp_path / "x").exists()
    pack(corpus, tmp_path / "out")
    for other in ({"form": "parquet"}, {"shard_bytes": 99}, {"codec": "flac"}):
        with pytest.raises(UsageError, match="made in another way"):
            pack(corpus, tmp_path / "out", **other)
    with pytest.raises(UsageError, match="of another manifest"):
        pack(corpus.split("train"), tmp_path / "out")
    with pytest.raises(UsageError, match=r"has a manifest\.csv of its own"):
        pack(corpus, corpus.root)
    assert Manifest.read(corpus.root / "manifest.csv").table.equals(corpus.table)
    with exclusive(tmp_path / "out" / ".lock", "held"), pytest.raises(StoreError, match="another process"):
        pack(corpus, tmp_path / "out")
    assert (
        run_here(monkeypatch, "pack", corpus.root / "manifest.csv", "-o", tmp_path / "n", "--split", "no")
        == 2
    )
    assert "no row has split = 'no'" in capsys.readouterr().err


def test_one_split(corpus, tmp_path, monkeypatch, capsys):
    command = ["pack", corpus.root / "manifest.csv", "-o", tmp_path / "out", "--split", "dev"]
    assert run_here(monkeypatch, *command) == 0
    assert "8 utterances in 1 shard," in capsys.readouterr().out
    made = Manifest.read(tmp_path / "out" / "manifest.csv")
    assert made.column("utterance_id") == corpus.split("dev").column("utterance_id")
