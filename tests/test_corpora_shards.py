"""The generic corpus of shards: ours, WebDataset's and Hugging Face's, read by their fields."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from archives import write_tar
from audio_fixtures import speechlike, write
from command_line import run_here
from small_corpus import write_corpus
from voxfide.audio import load_audio
from voxfide.corpora import prepare
from voxfide.errors import ManifestError, UsageError
from voxfide.manifest import Manifest
from voxfide.packing import FORMS, pack

FLAC = write("flac-s16", speechlike(16000, 0.05), 16000)


def rows(manifest: Manifest, *columns: str) -> list[tuple]:
    return list(zip(*(manifest.strings(c).tolist() for c in columns), strict=True))


@pytest.mark.parametrize("form", FORMS)
def test_what_was_packed_can_be_prepared_from_its_shards_alone(tmp_path, form):
    corpus = Manifest.read(write_corpus(tmp_path / "c", 12, seconds=(0.1, 0.2)))
    made = pack(corpus, tmp_path / "out", form=form, shard_bytes=30_000, workers=0, suffix=".parquet")
    assert made.n_shards > 1
    found = prepare("webdataset", tmp_path / "out")
    wanted = ("utterance_id", "path", "label", "split")
    assert rows(found, *wanted) == rows(made.manifest, *wanted)
    assert sorted(found.columns) == sorted(wanted)
    assert found.validate(check_files=True) == []
    one = prepare("shards", tmp_path / "out" / f"audio-000001.{form}")
    assert 0 < len(one) < 12
    assert set(rows(one, "utterance_id")) < set(rows(found, "utterance_id"))


def webdataset(folder: Path) -> Path:
    for split in ("train", "valid"):
        files: dict[str, bytes] = {}
        for i in range(3):
            key = f"./{split}_dir/{i:03d}"
            more = {"lang": "en", "nested": {"a": [1]}, "empty": None}
            files |= {
                f"{key}.wav": FLAC,
                f"{key}.cls": str(i % 2).encode(),
                f"{key}.txt": f"word {i}\n".encode(),
                f"{key}.json": json.dumps(more).encode(),
                f"{key}.png": b"\x89PNG\0",
                f"{key}.seg.npy": b"\0" * 9000,
            }
        files |= {"README": b"no sample", ".hidden.wav": b"x"}
        write_tar(folder / f"{split}-{0:06d}.tar", files)
    return folder


def test_shards_of_others(tmp_path):
    found = prepare("shards", webdataset(tmp_path), bonafide="0", spoof="1")
    assert found.validate(check_files=True) == []
    assert rows(found, "utterance_id", "label", "split", "lang", "txt", "nested")[:2] == [
        ("train_dir/000", "bonafide", "train", "en", "word 0", '{"a": [1]}'),
        ("train_dir/001", "spoof", "train", "en", "word 1", '{"a": [1]}'),
    ]
    assert found.column("path")[5] == "valid-000000.tar/valid_dir/002.wav"
    assert len(load_audio(found.audio_paths()[5]).waveform) == 800
    assert set(found.strings("split")) == {"train", "dev"}
    assert len(prepare("shards", tmp_path, "validation", bonafide="0", spoof="1")) == 3


def test_keys_that_occur_twice_have_the_shard_in_front(tmp_path):
    for name in ("a.tar", "b.tar"):
        write_tar(tmp_path / name, {"x.flac": FLAC, "y.clean.flac": FLAC, "y.noisy.flac": FLAC})
    found = prepare("shards", tmp_path)
    assert rows(found, "utterance_id", "label")[:3] == [
        ("a.tar/x", "unknown"), ("a.tar/y.clean", "unknown"), ("a.tar/y.noisy", "unknown")
    ]  # fmt: skip
    assert found.validate() == []


def test_parquet_with_numbered_classes(tmp_path):
    features = {"label": {"_type": "ClassLabel", "names": ["bona-fide", "fake"]}, "audio": {"_type": "Audio"}}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    cells = [{"bytes": FLAC, "path": f"{i}.flac"} for i in range(4)]
    table = pa.table({"audio": cells, "label": [0, 1, 1, None], "speaker_id": [7, 7, 8, 9]})
    pq.write_table(table.replace_schema_metadata(metadata), tmp_path / "test-00000-of-00001.parquet")
    pq.write_table(pa.table({"a": [1]}), tmp_path / "no_audio.parquet")
    found = prepare("shards", tmp_path)
    assert rows(found, "utterance_id", "label", "speaker", "split") == [
        ("0", "bonafide", "7", "eval"),
        ("1", "spoof", "7", "eval"),
        ("2", "spoof", "8", "eval"),
        ("3", "unknown", "9", "eval"),
    ]
    assert found.validate(check_files=True) == []


def test_wrong_shards_are_told(tmp_path, monkeypatch, capsys, caplog):
    with pytest.raises(UsageError, match="no such folder or file"):
        prepare("shards", tmp_path / "absent")
    with pytest.raises(UsageError, match="no shards with audio"):
        prepare("shards", tmp_path)
    (tmp_path / "wds").mkdir()
    webdataset(tmp_path / "wds")
    with pytest.raises(ManifestError, match="'0' means neither class"):
        prepare("shards", tmp_path / "wds")
    with pytest.raises(UsageError, match="no recording has cls = 7"):
        prepare("shards", tmp_path / "wds", spoof="7")
    with pytest.raises(UsageError, match="mapped columns are not there: label=emotion"):
        prepare("shards", tmp_path / "wds", columns={"label": "emotion"})
    with pytest.raises(UsageError, match="no field of labels"):
        prepare("shards", tmp_path / "wds", spoof="1", columns={"label": "emotion"})
    (tmp_path / "wds" / "bad.tar").write_bytes(b"junk" * 500)
    write_tar(tmp_path / "wds" / "worse.tar", {"a.wav": FLAC, "a.json": b"{not json"})
    with pytest.raises(ManifestError) as error:
        prepare("shards", tmp_path / "wds")
    assert [p.partition(":")[0] for p in error.value.problems] == ["bad.tar", "worse.tar"]
    cut = (tmp_path / "wds" / "train-000000.tar").read_bytes()[:-20_000]
    (tmp_path / "cut.tar").write_bytes(cut)
    with caplog.at_level(logging.WARNING, "voxfide"):
        prepare("shards", tmp_path / "cut.tar", bonafide="0", spoof="1")
    assert "broken off" in caplog.text
    out = tmp_path / "m.csv"
    command = ["prepare", "webdataset", tmp_path / "wds", "-o", out]
    assert run_here(monkeypatch, *command) == 2
    assert "bad.tar: is no tar" in capsys.readouterr().err


def test_on_the_command_line(tmp_path, monkeypatch, capsys):
    webdataset(tmp_path)
    out = tmp_path / "m.csv"
    command = ["prepare", "webdataset", tmp_path, "-o", out, "--map", "label=cls", "--check-audio"]
    command += ["--option", "bonafide=0", "--option", "spoof=1", "--workers", "0"]
    assert run_here(monkeypatch, *command) == 0
    told = capsys.readouterr().err
    assert "6 utterances (4 bona fide, 2 spoof, 0 unknown)" in told
    assert "0 unreadable" in told
    assert Manifest.read(out).counts() == {"bonafide": 4, "spoof": 2, "unknown": 0}
