"""Corpora: every registered one keeps the contract; folders and tables say what they mean or are refused."""

from __future__ import annotations

import inspect
import logging
import os
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import CORPUS, needs_shared
from voxfide.corpora import CORPORA, CorpusSpec, data_sheet, prepare
from voxfide.corpora.labels import LABEL_SYNONYMS, SPLIT_SYNONYMS, label_of, split_of
from voxfide.errors import ManifestError, UnknownNameError, UsageError
from voxfide.manifest import Manifest
from voxfide.registry import load_object
from voxfide.types import BONAFIDE, LABELS, SPOOF, UNKNOWN


def tree(root: Path, *files: str) -> Path:
    for name in files:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def rows(manifest: Manifest, *columns: str) -> list[tuple]:
    return list(zip(*(manifest.strings(c) for c in columns), strict=True))


def table(tmp_path: Path, content: str, name: str = "meta.csv") -> Path:
    (tmp_path / name).write_text(content, encoding="utf-8", newline="")
    return tmp_path / name


# The registry


@pytest.mark.parametrize("spec", CORPORA, ids=lambda s: s.name)
def test_contract(spec):
    assert isinstance(spec, CorpusSpec)
    assert CORPORA[spec.name] is spec
    assert re.fullmatch(r"[a-z0-9][a-z0-9_.-]*", spec.name)
    sheet = data_sheet(spec.name)
    for text in (spec.summary, sheet.layout, sheet.licence, sheet.citation, sheet.link):
        assert text.strip() == text
        assert text
        assert "\n" not in text
    try:
        function = load_object(spec.place)
    except (ImportError, AttributeError):
        if spec.name != "selftest":
            raise
        pytest.skip("the self-test corpus is not there yet")
    root, split, *options = inspect.signature(function).parameters.values()
    assert (root.name, split.name, split.default) == ("root", "split", None)
    # The inventory is always given, by `prepare` of the package.
    assert all(o.default is not inspect.Parameter.empty for o in options if o.name != "inventory")
    assert function.__doc__


@pytest.mark.parametrize("name", ["folder", "csv"])
def test_a_root_that_is_not_there_is_refused(tmp_path, name):
    with pytest.raises((UsageError, ManifestError), match="no such"):
        prepare(name, tmp_path / "absent")


def test_unknown_corpus():
    with pytest.raises(UnknownNameError, match="did you mean 'folder'"):
        prepare("folders", ".")


# Words


def test_synonyms():
    words = ("bona-fide", "Bona_Fide", "BONAFIDE", " real ", "Genuine", "human")
    assert {label_of(w) for w in words} == {BONAFIDE}
    assert {label_of(w) for w in ("Spoof", "FAKE", "deep-fake", "deepfake", "synthetic")} == {SPOOF}
    assert [split_of(w) for w in ("Training", "validation", "testing", "eval")] == [
        "train",
        "dev",
        "eval",
        "eval",
    ]
    for word in (
        "",
        "-",
        "0",
        "1",
        "realistic",
        "fakery",
        "for-original",
        "A01",
        "none",
        "true",
        "wav",
        "both",
    ):
        assert label_of(word) is None
        assert split_of(word) is None
    assert set(LABEL_SYNONYMS.values()) == set(LABELS)
    assert not set(LABEL_SYNONYMS) & set(SPLIT_SYNONYMS)


# Folders


def test_folder_as_in_for(tmp_path):
    """Fake-or-Real: ``for-norm/{training,validation,testing}/{real,fake}/*.wav``."""
    tree(
        tmp_path / "for-norm",
        "training/real/a.wav",
        "training/fake/b.wav",
        "validation/fake/c.wav",
        "testing/real/d.wav",
    )
    manifest = prepare("folder", tmp_path)
    assert rows(manifest, "utterance_id", "label", "split") == [
        ("for-norm/testing/real/d", BONAFIDE, "eval"),
        ("for-norm/training/fake/b", SPOOF, "train"),
        ("for-norm/training/real/a", BONAFIDE, "train"),
        ("for-norm/validation/fake/c", SPOOF, "dev"),
    ]
    assert manifest.columns == ["utterance_id", "path", "label", "split"]
    assert manifest.validate(check_files=True) == []


@pytest.mark.parametrize("label", ["bona-fide", "Real", "GENUINE"])
@pytest.mark.parametrize(
    ("layout", "system"),
    [
        ("{label}/{split}/{system}/{speaker}/x.flac", True),
        ("{split}/{label}/{system}/x.flac", True),
        ("{label}/{system}/{split}/x.flac", True),
        ("audio/16k/{split}/{speaker}/{label}/{system}/more/x.flac", True),
        ("{split}/{label}/x.flac", False),
        ("{label}/{split}/x.flac", False),
    ],
)
def test_levels_in_any_order(tmp_path, layout, system, label):
    names = {"split": "Test", "speaker": "p225", "system": "hifigan"}
    tree(tmp_path, layout.format(label=label, **names), layout.format(label="Fake", **names))
    manifest = prepare("folder", tmp_path)
    assert sorted(manifest.column("label")) == [BONAFIDE, SPOOF]
    assert set(manifest.column("split")) == {"eval"}
    assert ("system" in manifest.columns) is system
    if system:
        assert set(rows(manifest, "label", "system")) == {(BONAFIDE, "-"), (SPOOF, "hifigan")}


@settings(max_examples=60)
@given(
    label=st.sampled_from(sorted(LABEL_SYNONYMS)),
    split=st.sampled_from(sorted(SPLIT_SYNONYMS)),
    others=st.lists(st.sampled_from(["p1", "wav", "16k", "reality", "fakes", "trainer", "A01"]), max_size=2),
    data=st.data(),
)
def test_any_order_of_any_synonyms(tmp_path_factory, label, split, others, data):
    style = data.draw(st.sampled_from([str.lower, str.upper, str.title]))
    folders = data.draw(st.permutations([style(label), style(split), *others]))
    root = tree(tmp_path_factory.mktemp("c"), "/".join([*folders, "real_fake_train_dev.wav"]))
    manifest = prepare("folder", root)
    assert rows(manifest, "label", "split") == [(LABEL_SYNONYMS[label], SPLIT_SYNONYMS[split])]


def test_file_names_tell_nothing(tmp_path, caplog):
    tree(tmp_path, "fake.wav", "real_01.wav", "x/spoof.flac", "x/train.flac")
    with caplog.at_level(logging.WARNING):
        manifest = prepare("folder", tmp_path)
    assert manifest.counts() == {BONAFIDE: 0, SPOOF: 0, UNKNOWN: 4}
    assert "split" not in manifest.columns
    assert "4 of 4 files have no label folder" in caplog.text


def test_the_root_and_what_stands_above_it_tell_nothing(tmp_path):
    root = tree(tmp_path / "train" / "fake", "a.wav")
    assert prepare("folder", root).columns == ["utterance_id", "path", "label"]
    assert prepare("folder", root).column("label") == [UNKNOWN]


def test_folders_that_contradict_each_other_are_refused_all_at_once(tmp_path):
    tree(tmp_path, "original/m/fake/a.wav", "train/fake/test/b.wav", "fake/generated/c.wav", "real/d.wav")
    with pytest.raises(ManifestError) as caught:
        prepare("folder", tmp_path)
    assert caught.value.problems == [
        "original/m/fake/a.wav: folders of two labels above it: original, fake",
        "train/fake/test/b.wav: folders of two splits above it: train, test",
    ]


def test_words_for_one_class_may_be_nested_and_unknown_may_be_an_attack(tmp_path):
    tree(tmp_path, "fake/generated/a.wav", "fake/unknown/b.wav", "unknown/c.wav", "fake/vits/unknown/d.wav")
    assert rows(prepare("folder", tmp_path), "utterance_id", "label", "system") == [
        ("fake/generated/a", SPOOF, ""),
        ("fake/unknown/b", SPOOF, "unknown"),
        ("fake/vits/unknown/d", SPOOF, "vits"),
        ("unknown/c", UNKNOWN, ""),
    ]


def test_ids_are_unique_whatever_the_suffixes(tmp_path):
    tree(
        tmp_path,
        "real/a.wav",
        "real/a.flac",
        "real/a.wav.flac",
        "real/b.v1.wav",
        "real/b.v2.wav",
        "real/c.WAV",
    )
    manifest = prepare("folder", tmp_path)
    assert dict(rows(manifest, "path", "utterance_id")) == {
        "real/a.flac": "real/a.flac",
        "real/a.wav": "real/a.wav",
        "real/a.wav.flac": "real/a.wav.flac",
        "real/b.v1.wav": "real/b.v1",
        "real/b.v2.wav": "real/b.v2",
        "real/c.WAV": "real/c",
    }
    assert manifest.validate(check_files=True) == []


def test_what_is_hidden_or_no_audio_is_left_out(tmp_path):
    tree(tmp_path, "real/a.wav", "real/g.OPUS", "real/h.m4a", "real/i.sph")
    tree(tmp_path, "real/._a.wav", ".cache/real/b.wav", "real/.git/c.wav", "__MACOSX/._d.wav")
    tree(tmp_path, "real/readme.txt", "real/e.wav.txt", "real/wav", "real/f.wavx")
    assert prepare("folder", tmp_path).column("path") == [
        "real/a.wav",
        "real/g.OPUS",
        "real/h.m4a",
        "real/i.sph",
    ]


@pytest.mark.parametrize("files", [[], ["real/a.txt"], ["real/empty/x.json"]])
def test_nothing_to_prepare(tmp_path, files):
    tree(tmp_path, *files)
    with pytest.raises(UsageError, match=r"no audio files below it \(looked for .*\.flac.*\.wav"):
        prepare("folder", tmp_path)


def test_a_split_is_chosen_by_any_of_its_names(tmp_path):
    tree(tmp_path, "training/real/a.wav", "dev/fake/b.wav", "fake/c.wav")
    for name in ("train", "training", "TRN"):
        assert prepare("folder", tmp_path, name).column("utterance_id") == ["training/real/a"]
    with pytest.raises(UsageError, match=r"of split 'eval' \(splits: dev, train\)"):
        prepare("folder", tmp_path, "eval")


def test_linked_folders_are_followed_once(tmp_path):
    tree(tmp_path / "store" / "libri", "a.wav", "sub/b.wav")
    root = tree(tmp_path / "corpus", "fake/c.wav")
    (root / "real").symlink_to(tmp_path / "store" / "libri")
    (root / "real" / "sub" / "loop").symlink_to(root)
    (root / "zz_again").symlink_to(root / "fake")
    (root / "fake" / "d.wav").symlink_to(root / "fake" / "c.wav")
    manifest = prepare("folder", root)
    assert rows(manifest, "path", "label") == [
        ("fake/c.wav", SPOOF),
        ("fake/d.wav", SPOOF),
        ("real/a.wav", BONAFIDE),
        ("real/sub/b.wav", BONAFIDE),
    ]
    assert manifest.validate(check_files=True) == []


def test_a_folder_that_cannot_be_read_stops_the_work(tmp_path, monkeypatch):
    """Left out in silence, it would be a corpus with a part missing."""
    tree(tmp_path, "real/a.wav", "fake/b.wav")
    scandir = os.scandir

    def refuse(folder):
        if str(folder).endswith("fake"):
            raise PermissionError(13, "Permission denied", str(folder))
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(UsageError, match=r"fake: folder cannot be read \(Permission denied\)"):
        prepare("folder", tmp_path)


def test_a_file_instead_of_a_folder_is_refused(tmp_path):
    tree(tmp_path, "a.wav")
    with pytest.raises(UsageError, match="no such folder"):
        prepare("folder", tmp_path / "a.wav")


def test_names_that_are_no_text_are_refused(tmp_path):
    tree(tmp_path, "real/a.wav")
    try:
        (tmp_path / "real" / os.fsdecode(b"\xff.wav")).touch()
    except OSError:
        pytest.skip("this file system takes Unicode names only")
    with pytest.raises(ManifestError, match=r"real/\\udcff\.wav': file name is not UTF-8"):
        prepare("folder", tmp_path)


def test_odd_names_survive_the_way_into_a_manifest_and_back(tmp_path):
    names = [
        "real/日本 語.wav",
        'real/a,"b".wav',
        "fake/#1.wav",
        "fake/ü.wav",
        "fake/NA.wav",
        "fake/b..c.wav",
        "real/-.wav",
    ]
    tree(tmp_path, *names)
    made = prepare("folder", tmp_path).require_valid()
    for suffix in (".csv", ".tsv", ".parquet"):
        read = Manifest.read(made.write(tmp_path / f"m{suffix}"))
        assert sorted(read.column("path")) == sorted(names)
        assert read.validate(check_files=True) == []


@needs_shared("corpus/manifest.csv")
def test_the_small_corpus_as_a_folder():
    manifest = prepare("folder", CORPUS)
    assert len(manifest) == 1158
    assert manifest.validate(check_files=True) == []


# Tables


def test_csv_as_in_in_the_wild(tmp_path):
    """In-the-Wild: ``meta.csv`` beside the audio, ``file,speaker,label``; ``bona-fide`` or ``spoof``."""
    path = table(tmp_path, "file,speaker,label\n0.wav,Alec Guinness,spoof\n1.wav,Barack Obama,bona-fide\n")
    tree(tmp_path, "0.wav", "1.wav")
    manifest = prepare("csv", path)
    assert manifest.table.to_pydict() == {
        "path": ["0.wav", "1.wav"],
        "label": ["spoof", "bonafide"],
        "speaker": ["Alec Guinness", "Barack Obama"],
        "utterance_id": ["0", "1"],
    }
    assert manifest.validate(check_files=True) == []


@needs_shared("corpus/manifest.csv")
def test_a_manifest_is_a_table_too():
    made, read = prepare("csv", CORPUS / "manifest.csv"), Manifest.read(CORPUS / "manifest.csv")
    assert made.digest() == read.digest()
    assert set(made.columns) == set(read.columns)
    for name in read.columns:
        assert made.column(name) == read.column(name)
    assert prepare("csv", CORPUS / "manifest.csv", "dev").digest() == read.split("dev").digest()


@pytest.mark.parametrize(
    "header",
    ["filename,key,subset,utt_id,spk,attack_id", "FILE,Label,Partition,ID,Speaker,Attack",
     "audio_path,class,set,trial,speaker_id,attack_label", " path , label,split ,utterance,speaker,attack"],
)  # fmt: skip
def test_columns_are_found_by_synonyms(tmp_path, header):
    path = table(
        tmp_path, f"{header},Extra\na.wav,Genuine,Validation,u1,s1,-,x\nb.wav,Fake,progress,u2,s2,A07,\n"
    )
    manifest = prepare("csv", path)
    names = ("utterance_id", "path", "label", "split", "speaker", "attack", "Extra")
    assert set(manifest.columns) == set(names)
    assert rows(manifest, *names) == [
        ("u1", "a.wav", BONAFIDE, "dev", "s1", "-", "x"),
        ("u2", "b.wav", SPOOF, "progress", "s2", "A07", ""),
    ]
    assert len(prepare("csv", path, "val")) == len(prepare("csv", path, "progress")) == 1
    with pytest.raises(UsageError, match=r"no row has split = 'train' \(values: dev, progress\)"):
        prepare("csv", path, "train")


def test_columns_may_be_mapped(tmp_path, caplog):
    path = table(tmp_path, "clip,verdict,file,label,who\na.wav,real,x,7,p1\nb.wav,fake,y,8,p2\n")
    with caplog.at_level(logging.WARNING):
        manifest = prepare("csv", path, columns={"path": "clip", "label": "verdict", "speaker": "who"})
    assert rows(manifest, "utterance_id", "path", "label", "speaker", "file") == [
        ("a", "a.wav", BONAFIDE, "p1", "x"),
        ("b", "b.wav", SPOOF, "p2", "y"),
    ]
    assert "'label' is left out" in caplog.text
    both = prepare("csv", path, columns={"path": "clip", "label": "verdict", "utterance_id": "clip"})
    assert both.column("utterance_id") == ["a.wav", "b.wav"]
    with pytest.raises(
        UsageError, match=r"label=mark, speaker=name \(columns: clip, verdict, file, label, who\)"
    ):
        prepare("csv", path, columns={"label": "mark", "speaker": "name"})


def test_exact_names_go_before_other_cases(tmp_path):
    path = table(tmp_path, "File,path,LABEL,label,Label\nx,a.wav,1,fake,2\n")
    manifest = prepare("csv", path)
    assert rows(manifest, "path", "label", "File", "LABEL", "Label") == [("a.wav", SPOOF, "x", "1", "2")]


def test_labels_that_mean_neither_class_are_refused_once_each(tmp_path):
    path = table(tmp_path, "file,label\n" + "a,0\nb,1\nc,fake\nd,-\n" * 3)
    with pytest.raises(ManifestError) as caught:
        prepare("csv", path)
    assert [p.split(" means")[0] for p in caught.value.problems] == [
        "row 1: label '0'",
        "row 2: label '1'",
        "row 4: label '-'",
    ]
    assert "numbers are ambiguous" in caught.value.problems[0]


def test_a_column_of_ids_taken_for_labels_is_refused_in_time(tmp_path):
    path = table(tmp_path, "file,label\n" + "".join(f"{i}.wav,{i}\n" for i in range(30_000)))
    with pytest.raises(ManifestError) as caught:
        prepare("csv", path)
    assert len(caught.value.problems) == 30_000


def test_labels_that_are_not_there(tmp_path, caplog):
    path = table(tmp_path, "file,label\na.wav,\nb.wav,spoof\nc.wav,Unlabelled\n")
    assert prepare("csv", path).column("label") == [UNKNOWN, SPOOF, UNKNOWN]
    with caplog.at_level(logging.WARNING):
        assert prepare("csv", table(tmp_path, "file\na.wav\n")).column("label") == [UNKNOWN]
    assert "no column of labels" in caplog.text


def test_tables_that_cannot_be_used(tmp_path):
    with pytest.raises(UsageError, match=r"no column of files .*--map path=COLUMN; columns: clip, label"):
        prepare("csv", table(tmp_path, "clip,label\na,fake\n"))
    with pytest.raises(UsageError, match="no column 'split'"):
        prepare("csv", table(tmp_path, "file,label\na,fake\n"), "train")
    with pytest.raises(UsageError, match="no utterances found"):
        prepare("csv", table(tmp_path, "file,label\n"))
    with pytest.raises(ManifestError, match="row 1: 1 cells"):
        prepare("csv", table(tmp_path, "file,label\na\n"))
    with pytest.raises(ManifestError, match="occurs more than once"):
        prepare("csv", table(tmp_path, "file,label,file\na,fake,b\n"))
    with pytest.raises(ManifestError, match="no such file"):
        prepare("csv", tmp_path)
    (tmp_path / "junk.csv").write_bytes(os.urandom(2000))
    with pytest.raises(ManifestError):
        prepare("csv", tmp_path / "junk.csv")


@pytest.mark.parametrize(
    ("delimiter", "name"),
    [("\t", "m.tsv"), ("\t", "m.txt"), (";", "m.csv"), ("|", "meta.csv"), (",", "m.dat")],
)
def test_the_delimiter_is_seen_from_the_header(tmp_path, delimiter, name):
    content = "\ufeffpath,label,note\r\na.wav,fake,x\r\n".replace(",", delimiter)
    assert rows(prepare("csv", table(tmp_path, content, name)), "path", "label", "note") == [
        ("a.wav", SPOOF, "x")
    ]


def test_ids_made_from_paths(tmp_path):
    path = table(tmp_path, 'file\nx/utt_1.0\n./x/b.wav\nd\\e\\f.FLAC\n""\ny/utt.002\n.wav\n')
    manifest = prepare("csv", path)
    assert rows(manifest, "path", "utterance_id") == [
        ("x/utt_1.0", "x/utt_1.0"),
        ("./x/b.wav", "x/b"),
        ("d/e/f.FLAC", "d/e/f"),
        ("", ""),
        ("y/utt.002", "y/utt.002"),
        (".wav", ".wav"),
    ]
    assert manifest.validate() == ["row 4: utterance_id is empty", "row 4: path is empty"]
    twins = prepare("csv", table(tmp_path, "file\na.wav\na.flac\nb.wav\n"))
    assert twins.column("utterance_id") == ["a.wav", "a.flac", "b.wav"]
    assert twins.validate() == []


def test_parquet_tables_keep_their_types(tmp_path):
    pq.write_table(
        pa.table(
            {
                "file": ["a.wav", "b.wav"],
                "label": pa.array(["real", "fake"]).dictionary_encode(),
                "split": pa.array(["test", "train"]).dictionary_encode(),
                "duration": [1.5, None],
                "year": [2019, 2020],
            }
        ),
        tmp_path / "t.parquet",
    )
    manifest = prepare("csv", tmp_path / "t.parquet")
    assert manifest.column("label") == [BONAFIDE, SPOOF]
    assert manifest.column("split") == ["eval", "train"]
    assert manifest.column("duration") == [1.5, None]
    assert manifest.column("year") == [2019, 2020]


def test_paths_start_from_the_tables_folder(tmp_path, monkeypatch):
    tree(tmp_path, "data/a.wav")
    table(tmp_path / "data", "file,label\na.wav,fake\n")
    monkeypatch.chdir(tmp_path)
    assert prepare("csv", "data/meta.csv").audio_paths() == [tmp_path / "data" / "a.wav"]
    made = prepare("csv", "data/meta.csv").write("m.csv")
    assert Manifest.read(made).column("path") == ["data/a.wav"]
