"""Files inside archives: found and read as plain files are, whatever made, cut or replaced the archive."""

from __future__ import annotations

import os
import sys
import tarfile
import tracemalloc
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archives import write_parquet, write_tar
from audio_fixtures import speechlike, write
from voxfide.audio import load_audio, members, probe_audio, stream_audio, tar_members
from voxfide.audio.members import locate, member_names
from voxfide.audio.source import source_size
from voxfide.errors import AudioError, AudioNotFoundError, NotAudioError, TruncatedAudioError
from voxfide.jobs import FileState, Row, missing_rows
from voxfide.manifest import Manifest


def clip(seed: int, kind: str = "flac-s16", seconds: float = 0.1) -> bytes:
    return write(kind, speechlike(16000, seconds, seed=seed), 16000)


CLIPS = {f"clip{i}.flac": clip(i) for i in range(4)}
OTHERS = dict(zip(reversed(CLIPS), CLIPS.values(), strict=True))
WAVEFORMS = {name: load_audio(data).waveform for name, data in CLIPS.items()}


def write_with_index(path: Path, files: dict[str, bytes]) -> Path:
    write_tar(path, files)
    index = tar_members.read_index(str(path), path.stat().st_size)
    tar_members.write_index(path, {name: index.find(name) or (0, 0) for name in index})
    return path


WRITERS = {
    "tar": lambda folder, files: write_tar(folder / "a.tar", files),
    "indexed": lambda folder, files: write_with_index(folder / "a.tar", files),
    "parquet": lambda folder, files: write_parquet(folder / "a.parquet", files, row_group_size=3),
}
every_archive = pytest.mark.parametrize("writer", WRITERS.values(), ids=WRITERS)


@every_archive
@pytest.mark.parametrize("at_once", [True, False])
def test_members_are_read_as_the_files_they_are(tmp_path, monkeypatch, writer, at_once):
    monkeypatch.setattr(members, "_READ_AT_ONCE", 4 << 20 if at_once else 0)
    archive = writer(tmp_path, CLIPS)
    assert member_names(str(archive)) == list(CLIPS)
    for name, data in reversed(CLIPS.items()):
        path = archive / name
        audio = load_audio(path)
        assert np.array_equal(audio.waveform, WAVEFORMS[name])
        assert (audio.info.path, audio.info.warnings) == (str(path), ())
        assert probe_audio(str(path)).duration == pytest.approx(0.1)
        with stream_audio(path, chunk=0.03) as stream:
            assert np.array_equal(np.concatenate(list(stream)), WAVEFORMS[name])
        assert source_size(path) == len(data)


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_tars_of_every_dialect(tmp_path, form):
    names = [
        "./plain.flac",
        "deep/er/é.flac" if form != tarfile.USTAR_FORMAT else "deep/er/e.flac",
        "/root.flac",
    ]
    if form != tarfile.USTAR_FORMAT:
        names.append("long/" * 30 + "x" * 120 + ".flac")
    archive = write_tar(tmp_path / "A.TAR", dict(zip(names, CLIPS.values(), strict=False)), form)
    for name, waveform in zip(names, WAVEFORMS.values(), strict=False):
        assert np.array_equal(load_audio(f"{archive}/{name}").waveform, waveform)


def test_only_what_is_stored_whole_is_a_member_and_the_last_of_a_name_counts(tmp_path):
    first, second = list(CLIPS.values())[:2]
    (tmp_path / "twice.flac").write_bytes(second)
    archive = write_tar(tmp_path / "a.tar", {"twice.flac": first, "a.flac": first})
    with tarfile.open(archive, "a") as more:
        more.add(tmp_path / "twice.flac", "twice.flac")
        for name, kind in (("folder", tarfile.DIRTYPE), ("link.flac", tarfile.SYMTYPE)):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "a.flac"
            more.addfile(member)
    assert sorted(member_names(str(archive))) == ["a.flac", "twice.flac"]
    assert np.array_equal(load_audio(archive / "twice.flac").waveform, WAVEFORMS["clip1.flac"])
    with pytest.raises(AudioNotFoundError, match="no such member"):
        load_audio(archive / "link.flac")


def test_sparse_members_are_refused(tmp_path):
    archive = tmp_path / "a.tar"
    member = tarfile.TarInfo("holes.wav")
    header = bytearray(member.tobuf(tarfile.GNU_FORMAT))
    header[156:157] = tarfile.GNUTYPE_SPARSE
    header[148:156] = b"%06o\0 " % sum(b if not 148 <= i < 156 else 32 for i, b in enumerate(header))
    archive.write_bytes(bytes(header) + b"\0" * 1024)
    with pytest.raises(NotAudioError, match="sparse"):
        load_audio(archive / "holes.wav")


def test_parquet_rows_without_a_name_of_their_own_have_their_number(tmp_path):
    data = next(iter(CLIPS.values()))
    cells = [("x.flac", data), ("x.flac", data), (None, data), ("elsewhere.flac", None)]
    table = pa.table({"audio": [{"path": path, "bytes": content} for path, content in cells]})
    pq.write_table(table, tmp_path / "hf.parquet")
    archive = tmp_path / "hf.parquet"
    assert member_names(str(archive)) == ["x.flac", "000001.flac", "000002", "elsewhere.flac"]
    for name in ("x.flac", "000001.flac", "000002"):
        assert np.array_equal(load_audio(archive / name).waveform, WAVEFORMS["clip0.flac"])
    with pytest.raises(AudioNotFoundError, match="holds no bytes"):
        load_audio(archive / "elsewhere.flac")


def test_folders_may_be_named_like_archives(tmp_path):
    inner = tmp_path / "looks.tar" / "like.parquet"
    inner.mkdir(parents=True)
    archive = write_tar(inner / "real.tar", CLIPS)
    (inner / "plain.flac").write_bytes(CLIPS["clip0.flac"])
    assert locate(str(inner / "plain.flac")) is None
    assert locate(str(archive / "clip1.flac")) == (str(archive), "clip1.flac")
    for path, name in ((inner / "plain.flac", "clip0.flac"), (archive / "clip1.flac", "clip1.flac")):
        assert np.array_equal(load_audio(path).waveform, WAVEFORMS[name])
    with pytest.raises(AudioNotFoundError, match="no such file"):
        load_audio(tmp_path / "absent.tar" / "clip0.flac")


@every_archive
def test_errors_say_what_was_expected(tmp_path, writer):
    archive = writer(tmp_path, CLIPS | {"text.flac": b"no audio at all, " * 50, "empty.flac": b""})
    with pytest.raises(AudioNotFoundError, match=r"no such member in .*it has 6, such as 'clip0\.flac'"):
        load_audio(archive / "clip9.flac")
    with pytest.raises(NotAudioError, match="is not audio"):
        load_audio(archive / "text.flac")
    with pytest.raises(AudioError, match="holds no bytes"):
        load_audio(archive / "empty.flac")
    with pytest.raises(NotAudioError, match="whose members have paths such as"):
        load_audio(archive)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.tar", b"", r"is no tar \(empty file\)"),
        ("a.tar", b"junk" * 1000, "is no tar"),
        ("a.tar", b"\x1f\x8b" + b"junk" * 1000, "is gzip-compressed"),
        ("a.parquet", b"PAR1" * 50, "is not readable as Parquet"),
        ("a.parquet", b"", "is not readable as Parquet"),
        ("a.zip", b"PK\x03\x04", "lies in a compressed archive"),
        ("a.tar.gz", b"\x1f\x8b", "lies in a compressed archive"),
    ],
)
def test_what_is_no_archive_is_told_so(tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(NotAudioError, match=said) as error:
        load_audio(tmp_path / name / "x.wav")
    assert str(tmp_path / name / "x.wav") in str(error.value)


def test_parquet_without_audio_and_without_pyarrow(tmp_path, monkeypatch):
    pq.write_table(pa.table({"audio": [b"bytes"]}), tmp_path / "flat.parquet")
    with pytest.raises(NotAudioError, match="has no column of audio"):
        load_audio(tmp_path / "flat.parquet" / "x.wav")
    archive = write_parquet(tmp_path / "a.parquet", CLIPS)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(NotAudioError, match="pyarrow, which is not installed"):
        load_audio(archive / "clip0.flac")


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_of_a_tar_that_breaks_off_whole_members_are_read_and_others_are_errors(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("cut")
    whole = write_tar(folder / "whole.tar", CLIPS)
    content = whole.read_bytes()
    index = tar_members.read_index(str(whole), len(content))
    boundaries = [offset - 512 for offset, _ in filter(None, map(index.find, CLIPS))]
    cut = data.draw(st.one_of(st.integers(1, len(content) - 1), st.sampled_from(boundaries[1:])))
    archive = folder / "a.tar"
    archive.write_bytes(content[:cut])
    if data.draw(st.booleans()):  # an index of a member that is not there any more
        places = {name: index.find(name) or (0, 0) for name in index}
        tar_members.write_index(archive, places)
    for name in CLIPS:
        offset, size = index.find(name) or (0, 0)
        if offset + size <= cut:
            assert np.array_equal(load_audio(archive / name).waveform, WAVEFORMS[name])
        else:
            with pytest.raises((TruncatedAudioError, NotAudioError)):
                load_audio(archive / name)


@pytest.mark.parametrize("writer", [WRITERS["tar"], WRITERS["parquet"]], ids=["tar", "parquet"])
@given(st.data())
@settings(max_examples=60, deadline=None)
def test_damage_gives_audio_or_an_audio_error(tmp_path_factory, writer, data):
    folder = tmp_path_factory.mktemp("damaged")
    archive = writer(folder, {name: CLIPS[name] for name in list(CLIPS)[:2]})
    content = bytearray(archive.read_bytes())
    headers = st.integers(0, 511) if archive.suffix == ".tar" else st.integers(1, 700).map(lambda i: -i)
    for position in data.draw(st.lists(st.one_of(headers, st.integers(0, len(content) - 1)), max_size=6)):
        content[position] = data.draw(st.integers(0, 255))
    archive.write_bytes(bytes(content))
    for name in ("clip0.flac", "clip1.flac", "clip2.flac"):
        try:
            load_audio(archive / name)
        except AudioError as error:
            assert error.path == str(archive / name)  # noqa: PT017  (either is fine)


def test_an_index_is_never_believed_against_the_archive(tmp_path):
    archive = write_with_index(tmp_path / "a.tar", CLIPS)
    index = tar_members.index_path(str(archive))
    good = index.read_text()
    n_bytes = archive.stat().st_size
    shifted = "\n".join([good.splitlines()[0], *(f"512\t{len(d)}\t{n}" for n, d in CLIPS.items())]) + "\n"
    beyond = "\n".join([good.splitlines()[0], *(f"{n_bytes * 9}\t10\t{n}" for n in CLIPS)]) + "\n"
    shorter = good.replace(f"{len(CLIPS['clip0.flac'])}\t", f"{len(CLIPS['clip0.flac']) - 9}\t")
    for content in (
        good,
        shifted,
        beyond,
        shorter,
        good.replace("1", "2", 1),
        "",
        "\x00\xff",
        good[:-9],
        None,
    ):
        index.unlink(missing_ok=True)
        if content is not None:
            index.write_text(content)
        members._indices.clear()
        for name, waveform in WAVEFORMS.items():
            assert np.array_equal(load_audio(archive / name).waveform, waveform)


@every_archive
def test_an_archive_that_was_replaced_is_read_anew(tmp_path, writer):
    archive = writer(tmp_path, CLIPS)
    name = "clip0.flac"
    row = Row("id", archive / name)
    assert np.array_equal(load_audio(archive / name).waveform, WAVEFORMS["clip0.flac"])
    before = FileState.of(row.path)
    assert before == FileState.of(row.path)
    assert not any(missing_rows([row], {"id": before}))
    stat = archive.stat()
    os.utime(writer(tmp_path, OTHERS), ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    assert np.array_equal(load_audio(archive / name).waveform, WAVEFORMS["clip3.flac"])
    assert all(missing_rows([row], {"id": before}))
    archive.unlink()
    assert FileState.of(row.path) == FileState(str(row.path), -1, -1)
    assert not any(missing_rows([row], {"id": before}))


@every_archive
def test_manifests_know_whether_members_exist(tmp_path, writer):
    archive = writer(tmp_path, CLIPS)
    names = [f"{archive.name}/{name}" for name in (*CLIPS, "clip9.flac")]
    names += [f"{archive.name}", "absent.tar/x.flac", "broken.tar/x.flac"]
    (tmp_path / "broken.tar").write_bytes(b"junk" * 200)
    columns = {"utterance_id": range(len(names)), "path": names, "label": ["unknown"] * len(names)}
    problems = Manifest.from_columns(columns, tmp_path).validate(check_files=True)
    assert [p.partition(":")[0] for p in problems] == ["row 5", "row 7", "row 8"]
    assert "is no tar" in problems[-1]


def test_many_archives_do_not_pile_up_in_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(members, "_MAX_KNOWN_MEMBERS", 9)
    members._indices.clear()
    for i in range(6):
        archive = write_tar(tmp_path / f"{i}.tar", CLIPS)
        assert np.array_equal(load_audio(archive / "clip2.flac").waveform, WAVEFORMS["clip2.flac"])
    assert sum(map(len, members._indices.values())) <= 9


def test_reading_a_member_does_not_read_the_archive(tmp_path):
    big = {"big.bin": b"\1" * (24 << 20)}
    archive = write_tar(tmp_path / "a.tar", big | CLIPS)
    load_audio(archive / "clip1.flac")  # what is imported at first use
    members._indices.clear()
    tracemalloc.start()
    try:
        load_audio(archive / "clip0.flac")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 << 20


@given(
    st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12),
        st.tuples(st.integers(0, 2**40), st.integers(0, 2**40)),
        max_size=20,
    )
)
def test_index_finds_what_it_holds_and_nothing_else(places):  # fmt: skip
    index = members.MemberIndex(places)
    assert len(index) == len(places)
    assert {name: index.find(name) for name in index} == places
    assert [places[name] for name in index] == sorted(places.values())
    for name in places:
        for other in (name[:-1], name + "x", "x" + name):
            assert index.find(other) == places.get(other)
