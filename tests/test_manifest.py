"""The manifest: reading what people write, finding everything wrong with it, and moving, drawing, mixing."""

from __future__ import annotations

import contextlib
import csv
import datetime as dt
import json
import math
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import CORPUS, needs_shared
from voxfide.errors import ManifestError, UsageError
from voxfide.manifest import OPTIONAL_COLUMNS, REQUIRED_COLUMNS, Manifest, mix
from voxfide.manifest_checks import Segment, parse_segments
from voxfide.manifest_io import write_table
from voxfide.types import BONAFIDE, LABELS, SPOOF, UNKNOWN

HEADER = "utterance_id,path,label,note\n"
GOOD = HEADER + "a,a.wav,spoof,x\nb,b.wav,bonafide,\n"

NASTY = [
    *("", "NA", "null", "None", "nan", "1.0", "007", "true", " x", "x ", "#c", "'", '"', '""', 'say "hi"'),
    *("a,b", "a\tb", "a\nb", "a\r\nb", "a\rb", "\r", "\n", "\0", "\u2028", "\ufeff", "\ufeffx"),
    *("é", "e\u0301", "日本語", "🙂"),
]

TEXT = st.sampled_from(NASTY) | st.text(st.characters(exclude_categories=["Cs"]), max_size=8)


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def make(n: int = 4, root: Path | str = "/data", **columns) -> Manifest:
    """``n`` valid rows, alternately bona fide and spoof; keywords add or replace columns."""
    given_columns = {
        "utterance_id": [f"u{i}" for i in range(n)],
        "path": [f"wav/u{i}.wav" for i in range(n)],
        "label": [(BONAFIDE, SPOOF)[i % 2] for i in range(n)],
    }
    return Manifest.from_columns(given_columns | columns, root)


def problems_of(path: Path) -> list[str]:
    with pytest.raises(ManifestError) as caught:
        Manifest.read(path)
    assert caught.value.source == str(path)
    assert str(path) in str(caught.value)
    return caught.value.problems


# Reading


@needs_shared("corpus/manifest.csv")
def test_the_small_corpus_is_read_as_it_is():
    manifest = Manifest.read(CORPUS / "manifest.csv")
    with (CORPUS / "manifest.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert manifest.columns == list(rows[0])
    assert manifest.table.to_pylist() == [{k: v or None for k, v in row.items()} for row in rows]
    assert manifest.validate(check_files=True) == []
    assert manifest.counts() == {"bonafide": 524, "spoof": 634, "unknown": 0}
    assert {s: len(manifest.split(s)) for s in ("train", "dev", "eval")} == {
        "train": 650,
        "dev": 164,
        "eval": 344,
    }
    assert all(p.is_file() for p in manifest.audio_paths())


@pytest.mark.parametrize(
    "content",
    [
        GOOD,
        GOOD.replace("\n", "\r\n"),
        GOOD.replace("\n", "\r"),
        "\ufeff" + GOOD,
        GOOD.removesuffix("\n"),
        "\n\r\n" + GOOD.replace("\n", "\n\n"),
        '"utterance_id","path","label","note"\n"a","a.wav","spoof","x"\n"b","b.wav","bonafide",""\n',
        '\ufeff"utterance_id",path,"label",note\na,a.wav,spoof,x\nb,b.wav,bonafide,""\n',
    ],
    ids=["plain", "crlf", "cr", "bom", "no-last-newline", "blank-lines", "all-quoted", "bom-quoted-header"],
)
def test_csv_dialects_read_alike(tmp_path, content):
    manifest = Manifest.read(write(tmp_path / "m.csv", content))
    assert manifest.table.to_pydict() == {
        "utterance_id": ["a", "b"],
        "path": ["a.wav", "b.wav"],
        "label": ["spoof", "bonafide"],
        "note": ["x", None],
    }
    assert manifest.validate() == []


def test_cells_are_kept_as_text(tmp_path):
    content = HEADER + 'a,a.wav,spoof,NA\nb,b.wav,spoof,007\nc,c.wav,spoof,5" disk\nd,d.wav,spoof, x \n'
    manifest = Manifest.read(write(tmp_path / "m.csv", content))
    assert manifest.column("note") == ["NA", "007", '5" disk', " x "]


def test_a_quoted_header_may_hold_a_line_break(tmp_path):
    manifest = Manifest.read(
        write(tmp_path / "m.csv", 'utterance_id,path,label,"two\nlines"\na,a.wav,spoof,1\n')
    )
    assert manifest.column("two\nlines") == ["1"]


@pytest.mark.parametrize("end", ["", "\n", "\r\n", "\n\n\n"])
def test_a_header_alone_is_an_empty_manifest(tmp_path, end):
    manifest = Manifest.read(write(tmp_path / "m.csv", HEADER.strip() + end))
    assert len(manifest) == 0
    assert manifest.columns == ["utterance_id", "path", "label", "note"]
    assert manifest.validate(check_files=True) == []
    assert manifest.counts() == dict.fromkeys(LABELS, 0)
    assert len(manifest.sample(0)) == len(manifest.take([])) == 0
    for suffix in (".csv", ".tsv", ".parquet"):
        assert Manifest.read(manifest.write(tmp_path / f"o{suffix}")).columns == manifest.columns


@pytest.mark.parametrize("content", ["", "\n\n", "\ufeff", "\ufeff\r\n"])
def test_an_empty_file_is_named_so(tmp_path, content):
    (problem,) = problems_of(write(tmp_path / "m.csv", content))
    assert "empty file" in problem
    assert "utterance_id, path, label" in problem


def test_ragged_rows_are_reported_all_at_once(tmp_path):
    content = HEADER + '\na,a.wav,spoof,x\n\nb,b.wav\n  \n"c\nc",c.wav,spoof,x\nd,d.wav,spoof,x,y\n'
    assert problems_of(write(tmp_path / "m.csv", content)) == [
        "row 2: 2 cells (expected 4)",
        "row 3: 1 cells (expected 4)",
        "row 5: 5 cells (expected 4)",
    ]


def test_row_numbers_stay_right_in_large_files(tmp_path):
    rows = [f"u{i},{'d/' * 150}{i}.wav,spoof,x" for i in range(40_000)]
    rows[39_998] += ",extra"
    assert problems_of(write(tmp_path / "m.csv", HEADER + "\n".join(rows))) == [
        "row 39999: 5 cells (expected 4)"
    ]


@pytest.mark.parametrize(
    ("row", "place"),
    [
        ('b,b.wav,spoof,"never closed\nc,c.wav,spoof,x\n', "row 2"),
        ('b,b.wav,spoof,"closed"twice\nc,c.wav,spoof,x\n', "row 2"),
        ('b,b.wav,"spoof,x\n' + "c,c.wav,spoof,x\n" * 20_000, "row 2"),
    ],
    ids=["open", "more-after-quote", "open-and-long"],
)
def test_quotes_that_would_swallow_rows_are_refused(tmp_path, row, place):
    (problem,) = problems_of(write(tmp_path / "m.csv", HEADER + '"a",a.wav,spoof,x\n' + row))
    assert problem.startswith(f"{place}: a quoted cell does not end")


def test_repeated_columns_are_all_named(tmp_path):
    content = "utterance_id,path,label,label,x,x,x\na,b,spoof,spoof,1,2,3\n"
    expected = ["column 'label' occurs more than once", "column 'x' occurs more than once"]
    assert problems_of(write(tmp_path / "m.csv", content)) == expected
    names = content.split("\n")[0].split(",")
    pq.write_table(pa.Table.from_arrays([pa.array(["a"])] * 7, names=names), tmp_path / "m.parquet")
    assert problems_of(tmp_path / "m.parquet") == expected


def test_missing_columns_are_all_named_with_those_found(tmp_path):
    found = problems_of(write(tmp_path / "m.csv", "utterance_id;path;label\na;b;spoof\n"))
    assert [p.split(" is missing")[0] for p in found] == [f"column {c!r}" for c in REQUIRED_COLUMNS]
    assert all("found: 'utterance_id;path;label'" in p for p in found)
    assert len(problems_of(write(tmp_path / "m.csv", "utterance_id, path,Label\na,b,spoof\n"))) == 2


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet"])
def test_what_is_no_table_is_refused(tmp_path, suffix):
    rng = np.random.default_rng(0)
    for size in (0, 1, 7, 5000):
        problems_of(write(tmp_path / f"utf8{suffix}", rng.bytes(size)))
    if suffix == ".parquet":
        assert "not readable as a table" in problems_of(tmp_path / "utf8.parquet")[0]


def test_a_damaged_parquet_file_is_refused_or_read_whole(tmp_path):
    path = make(200).write(tmp_path / "m.parquet")
    sound = path.read_bytes()
    rng = np.random.default_rng(1)
    for _ in range(60):
        damaged = bytearray(sound)
        for place in rng.integers(len(damaged), size=3):
            damaged[place] ^= 0xFF
        with contextlib.suppress(ManifestError):
            assert len(Manifest.read(write(path, bytes(damaged)))) == 200


def test_other_encodings_are_named_by_line(tmp_path):
    bad = GOOD.replace("x", "é")
    assert problems_of(write(tmp_path / "m.csv", bad.encode("latin-1")))[0].startswith("line 2: not UTF-8")
    assert problems_of(write(tmp_path / "m.csv", ('"' + bad[:12] + '"' + bad[12:]).encode("latin-1")))[
        0
    ].startswith("line 2: not UTF-8")
    assert problems_of(write(tmp_path / "m.csv", GOOD.encode("utf-16")))[0].startswith("line 1: not UTF-8")


def test_other_places_and_suffixes_are_refused(tmp_path):
    assert "no such file" in problems_of(tmp_path / "absent.csv")[0]
    assert "no such file" in problems_of(tmp_path)[0]
    assert ".csv, .tsv, .parquet" in problems_of(write(tmp_path / "m.json", "{}"))[0]
    with pytest.raises(UsageError, match=".csv, .tsv, .parquet"):
        make().write(tmp_path / "m.xlsx")
    assert not (tmp_path / "m.xlsx").exists()


# Round trips


@st.composite
def tables(draw):
    n = draw(st.integers(0, 5))
    names = draw(
        st.lists(TEXT.filter(lambda t: t not in REQUIRED_COLUMNS), min_size=1, max_size=4, unique=True)
    )
    columns = {"utterance_id": [f"u{i}" for i in range(n)], "path": [f"{i}.wav" for i in range(n)]}
    columns["label"] = draw(st.lists(st.sampled_from(LABELS), min_size=n, max_size=n))
    for name in names:
        columns[name] = draw(st.lists(st.none() | TEXT, min_size=n, max_size=n))
    order = draw(st.permutations(list(columns)))
    return {name: columns[name] for name in order}


@settings(max_examples=80)
@given(columns=tables())
def test_any_text_survives_every_format(tmp_path_factory, columns):
    folder = tmp_path_factory.mktemp("m")
    expected = {name: [v or None for v in values] for name, values in columns.items()}
    manifest = Manifest.from_columns(columns, folder)
    for number, suffix in enumerate((".csv", ".parquet", ".csv", ".tsv", ".csv")):
        manifest = Manifest.read(manifest.write(folder / f"{number}{suffix}"))
        assert manifest.table.to_pydict() == expected
        assert manifest.validate() == []


@settings(max_examples=60)
@given(columns=tables())
def test_what_is_written_is_what_the_csv_module_reads(tmp_path_factory, columns):
    path = Manifest.from_columns(columns, "/data").write(tmp_path_factory.mktemp("m") / "m.csv")
    with path.open(newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file, strict=True)
    assert header == list(columns)
    ours = [[v or "" for v in row] for row in zip(*columns.values(), strict=True)]
    for row in ours:
        row[header.index("path")] = f"/data/{row[header.index('path')]}"
    assert rows == ours


def test_quotes_stand_only_where_they_are_needed(tmp_path):
    path = Manifest.read(write(tmp_path / "m.csv", GOOD)).write(tmp_path / "n.csv")
    assert path.read_text() == GOOD


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet"])
def test_writing_leaves_nothing_else_behind(tmp_path, suffix):
    path = tmp_path / "new" / f"m{suffix}"
    make().write(path)
    make(2).write(path)
    assert list(path.parent.iterdir()) == [path]
    assert len(Manifest.read(path)) == 2


TYPED = {
    "year": pa.array([2019, None, 2021, 2024]),
    "snr": pa.array([1.0, 2.5, None, 1e-7]),
    "clean": pa.array([True, False, None, True]),
    "codec": pa.array(["mp3", "aac", None, "mp3"]).dictionary_encode(),
    "take": pa.array([3, 4, None, 3]).dictionary_encode(),
    "made": pa.array([dt.datetime(2020, 1, 2, 3, 4), None, dt.datetime(1999, 1, 1), None]),
    "day": pa.array([dt.date(2020, 1, 2), None, None, None]),
    "large": pa.array(["a", None, "b", "c"], pa.large_string()),
    "view": pa.array(["a", None, "b", "c"], pa.string_view()),
    "tags": pa.array([["a", "b"], None, [], ["é"]]),
    "meta": pa.array([{"k": 1}, None, {"k": None}, {"k": 2}]),
    "blob": pa.array([b"a", None, b"\xff", b""]),
    "length": pa.array([dt.timedelta(seconds=1), None, None, dt.timedelta(0)]),
    "nothing": pa.nulls(4),
}


def test_parquet_types_are_kept(tmp_path):
    base = make().table
    table = pa.table({name: base.column(name) for name in base.column_names} | TYPED)
    pq.write_table(table, tmp_path / "m.parquet")
    manifest = Manifest.read(tmp_path / "m.parquet").require_valid()
    for name, values in TYPED.items():
        assert manifest.column(name) == values.to_pylist()
    again = Manifest.read(manifest.write(tmp_path / "n.parquet"))
    assert again.table.schema.types == manifest.table.schema.types
    assert manifest.column("snr")[3] == 1e-7
    assert pa.types.is_dictionary(again.table.schema.field("codec").type)
    assert pa.types.is_integer(again.table.schema.field("year").type)


def test_parquet_types_are_usable_as_text_everywhere(tmp_path):
    manifest = make(**TYPED)
    for name in TYPED:
        texts = manifest.strings(name)
        assert texts.shape == (4,)
        assert texts.dtype == object
        assert list(manifest.key([name])[name]) == list(texts)
        for text in set(texts):
            assert list(manifest.filter(**{name: text}).strings(name)) == [t for t in texts if t == text]
        assert len(manifest.sample(2, by=["label", name])) == 2
    from_csv = Manifest.read(manifest.write(tmp_path / "m.csv"))
    for name in TYPED:
        assert list(from_csv.strings(name)) == list(manifest.strings(name))
    assert list(manifest.strings("year")) == ["2019", "", "2021", "2024"]
    assert list(manifest.strings("codec")) == ["mp3", "aac", "", "mp3"]
    assert json.loads(manifest.strings("tags")[3]) == ["é"]


def test_ids_paths_and_labels_become_strings(tmp_path):
    table = pa.table(
        {
            "utterance_id": pa.array([1, 2]),
            "path": pa.array([b"a", b"b"]),
            "label": pa.array(["spoof", "bonafide"]).dictionary_encode(),
        }
    )
    pq.write_table(table, tmp_path / "m.parquet")
    manifest = Manifest.read(tmp_path / "m.parquet")
    assert manifest.table.to_pylist()[0] == {"utterance_id": "1", "path": "a", "label": "spoof"}
    assert manifest.validate() == []


def test_folders_named_like_partitions_add_no_columns(tmp_path):
    (tmp_path / "language=en").mkdir()
    path = make().write(tmp_path / "language=en" / "m.parquet")
    assert Manifest.read(path).columns == list(REQUIRED_COLUMNS)


def test_columns_given_in_python():
    manifest = make(2, path=[Path("a b/x.wav"), Path("/y.wav")], label=[None, "spoof"], utterance_id=[1, 2])
    assert manifest.column("path") == ["a b/x.wav", "/y.wav"]
    assert manifest.column("label") == [None, "spoof"]
    assert manifest.column("utterance_id") == ["1", "2"]
    for wrong, message in (
        ({"note": ["x"]}, "different lengths"),
        ({"note": ["x", 1]}, "column 'note'"),
        ({"note": ["\ud800", "x"]}, "column 'note'"),
    ):
        with pytest.raises(ManifestError, match=message):
            make(2, **wrong)
    with pytest.raises(ManifestError, match="'label' is missing"):
        Manifest.from_columns({"utterance_id": [], "path": []}, "/data")


# Validation

WRONG_ROWS = [
    ("a", "a.wav", "spoof", "1.5", ""),
    ("a", "b.wav", "Bonafide", "nan", ""),
    (None, "c.wav", "fake", "-1", ""),
    ("a\tb", "../d.wav", None, "x", "not json"),
    ("a\nb", "x/../../e.wav", "spoof", "inf", "{}"),
    (" c", "..", " spoof", "0", '[[1, 0.5, "spoof"]]'),
    ("c\u00a0", "x\\..\\f.wav", "spoof", "", '[[0, 1, "fake"]]'),
    ("a", None, "unknown", "1e400", '[[0, 1]]'),
    ("d", "n\0.wav", "spoof", "1,5", '[[-1, 1, "spoof"]]'),
    ("e", "/x/../y.wav", "spoof", "1", '[[0, NaN, "spoof"]]'),
    ("f", "a.wav", "bonafide", "1", '[["a", "b", "spoof"]]'),
    ("ok", "..hidden/a..b/...wav", "bonafide", "12", '[[0, 0.5, "spoof"], [0.5, 9, "bonafide"]]'),
]  # fmt: skip
EXPECTED = [
    ("row 3:", "utterance_id is empty"),
    ("row 4:", "utterance_id 'a\\tb'"),
    ("row 5:", "utterance_id 'a\\nb'"),
    ("row 6:", "utterance_id ' c'"),
    ("row 7:", "utterance_id 'c\\xa0'"),
    ("rows 1, 2, 8:", "utterance_id 'a' occurs 3 times"),
    ("row 2:", "label 'Bonafide', which should read 'bonafide'"),
    ("row 3:", "label 'fake' (expected one of bonafide, spoof, unknown)"),
    ("row 4:", "label is empty"),
    ("row 6:", "label ' spoof', which should read 'spoof'"),
    ("row 8:", "path is empty"),
    ("row 9:", "path 'n\\x00.wav' holds a NUL"),
    ("row 4:", "path '../d.wav' climbs"),
    ("row 5:", "path 'x/../../e.wav' climbs"),
    ("row 6:", "path '..' climbs"),
    ("row 7:", "path 'x\\\\..\\\\f.wav' climbs"),
    ("row 10:", "path '/x/../y.wav' climbs"),
    ("rows 1, 11:", "path 'a.wav' is labelled bonafide and spoof"),
    ("row 2:", "duration 'nan'"),
    ("row 3:", "duration '-1'"),
    ("row 4:", "duration 'x'"),
    ("row 5:", "duration 'inf'"),
    ("row 8:", "duration '1e400'"),
    ("row 9:", "duration '1,5'"),
    ("row 4:", "segments: not JSON"),
    ("row 5:", "segments: expected a JSON list"),
    ("row 6:", "segments: [1, 0.5, 'spoof']: expected 0 <= start < end"),
    ("row 7:", "segments: [0, 1, 'fake']: label 'fake'"),
    ("row 8:", "segments: [0, 1] is not [start, end, label]"),
    ("row 9:", "segments: [-1, 1, 'spoof']: expected 0 <= start < end"),
    ("row 10:", "segments: [0, nan, 'spoof']: expected 0 <= start < end"),
    ("row 11:", "segments: ['a', 'b', 'spoof'] is not [start, end, label]"),
]


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet"])
def test_every_problem_is_found_at_once(tmp_path, suffix):
    names = [*REQUIRED_COLUMNS, "duration", "segments"]
    columns = dict(zip(names, map(list, zip(*WRONG_ROWS, strict=True)), strict=True))
    write_table(pa.table(columns), tmp_path / f"m{suffix}")
    manifest = Manifest.read(tmp_path / f"m{suffix}")
    found = manifest.validate()
    for (row, words), problem in zip(EXPECTED, found, strict=True):
        assert problem.startswith(row)
        assert words in problem
    with pytest.raises(ManifestError) as caught:
        manifest.require_valid()
    assert caught.value.problems == found


def test_a_valid_manifest_is_itself():
    manifest = make()
    assert manifest.require_valid() is manifest


def test_ids_that_validate_can_be_written_as_scores(tmp_path):
    from voxfide.scores import read_scores, write_scores

    ids = [*filter(None, NASTY), "a b", "x\x0by", "\x1fx", "x\x85", "\u3000x"]
    manifest = make(len(ids), utterance_id=ids)
    refused = {int(p.split()[1].rstrip(":")) - 1 for p in manifest.validate()}
    usable = [i for row, i in enumerate(ids) if row not in refused]
    write_scores(tmp_path / "s.tsv", usable, np.arange(len(usable), dtype=float))
    assert list(read_scores(tmp_path / "s.tsv").utterance_id) == usable
    for row in refused:
        with pytest.raises(UsageError):
            write_scores(tmp_path / "s.tsv", [ids[row]], [0.0])


@given(rows=st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(LABELS)), max_size=8))
def test_contradicting_rows_are_those_of_one_path_in_two_classes(rows):
    manifest = make(len(rows), path=[p for p, _ in rows], label=[label for _, label in rows])
    classes: dict[str, set[str]] = {}
    for path, label in rows:
        classes.setdefault(path, set()).add(label)
    wrong = {path for path, labels in classes.items() if {BONAFIDE, SPOOF} <= labels}
    assert {p.split("path ")[1].split("'")[1] for p in manifest.validate()} == wrong


def test_typed_durations_and_segments_are_checked():
    good = make(2, duration=[1, 2], segments=[None, '[[0, 1, "spoof"]]'])
    assert good.validate() == []
    for column in ([-1.0, math.nan], [[1], [2]], [dt.timedelta(seconds=1)] * 2, [dt.date(2020, 1, 1)] * 2):
        assert [p.split(":")[0] for p in make(2, duration=column).validate()] == ["row 1", "row 2"]
    assert "expected the text of a JSON list" in make(2, segments=[[1], None]).validate()[0]


def test_segments():
    assert parse_segments('[[0.0, 1, "spoof"]]') == [Segment(0.0, 1.0, "spoof")]
    assert parse_segments("[]") == []
    huge = "1" + "0" * 400
    for wrong in ("", "[", "[" * 100_000):
        with pytest.raises(ValueError, match=r"^(not JSON|nested too deeply)"):
            parse_segments(wrong)
    for wrong in ("1", '"x"', "null", '{"start": 0}'):
        with pytest.raises(ValueError, match=r"^expected a JSON list"):
            parse_segments(wrong)
    for wrong in (
        "1",
        "[]",
        "[0, 1]",
        "null",
        f'[0, {huge}, "spoof"]',
        '{"start": 0, "end": 1, "label": "spoof"}',
    ):
        with pytest.raises(ValueError, match=r"is not \[start, end, label\]$"):
            parse_segments(f"[{wrong}]")
    for wrong in (
        '[0, Infinity, "spoof"]',
        '[0, NaN, "spoof"]',
        '[1, 1, "spoof"]',
        "[0, 1, null]",
        "[0, 1, []]",
    ):
        with pytest.raises(ValueError, match=r"(expected 0 <= start < end|label .* \(expected one of .*\))$"):
            parse_segments(f"[{wrong}]")


@given(
    st.text(max_size=30)
    | st.recursive(st.none() | st.floats() | st.text(max_size=3), st.lists).map(json.dumps)
)
def test_any_segments_cell_is_parsed_or_refused(text):
    with contextlib.suppress(ValueError):
        assert all(0 <= s.start < s.end and s.label in LABELS for s in parse_segments(text))


def test_missing_files_are_found(tmp_path):
    (tmp_path / "wav").mkdir()
    (tmp_path / "folder.wav").mkdir()
    (tmp_path / "wav" / "u0.wav").touch()
    (tmp_path / "link.wav").symlink_to(tmp_path / "wav" / "u0.wav")
    (tmp_path / "broken.wav").symlink_to(tmp_path / "nowhere.wav")
    (tmp_path / "linked").symlink_to(tmp_path / "wav")
    there = ["wav/u0.wav", "wav//./u0.wav", "linked/u0.wav", "link.wav", str(tmp_path / "wav" / "u0.wav")]
    absent = ["wav/u1.wav", "folder.wav", "broken.wav", "none/x.wav", "wav/u0.wav/x", "wav/U0.wav"]
    names = there + absent
    manifest = make(len(names), tmp_path, path=names, label=["spoof"] * len(names))
    assert manifest.validate() == []
    problems = manifest.validate(check_files=True)
    assert [p.split(":")[0] for p in problems] == [f"row {n}" for n in range(6, 12)]
    assert "No such file" in problems[3]
    assert "Not a directory" in problems[4]


def test_folders_that_cannot_be_listed_say_why(tmp_path, monkeypatch):
    def refuse(folder):
        raise PermissionError(13, "Permission denied", folder)

    monkeypatch.setattr(os, "scandir", refuse)
    assert "Permission denied" in make(1, tmp_path).validate(check_files=True)[0]


# Paths


def test_paths_start_from_the_manifests_folder(tmp_path, monkeypatch):
    (tmp_path / "wav").mkdir()
    (tmp_path / "wav" / "a.wav").touch()
    write(tmp_path / "m.csv", "utterance_id,path,label\na,wav/a.wav,spoof\nb,/abs/b.wav,spoof\n")
    expected = [tmp_path / "wav" / "a.wav", Path("/abs/b.wav")]
    assert Manifest.read(tmp_path / "m.csv").audio_paths() == expected
    monkeypatch.chdir(tmp_path)
    manifest = Manifest.read("m.csv")
    monkeypatch.chdir("/")
    assert manifest.audio_paths() == expected


def test_a_linked_manifest_belongs_to_the_folder_it_is_seen_in(tmp_path):
    """As in a hub cache or an annex, where the file itself lies among blobs without names."""
    for folder in ("blobs", "snapshot/wav"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "snapshot" / "wav" / "a.wav").touch()
    write(tmp_path / "blobs" / "0af3", "utterance_id,path,label\na,wav/a.wav,spoof\n")
    (tmp_path / "snapshot" / "m.csv").symlink_to(tmp_path / "blobs" / "0af3")
    manifest = Manifest.read(tmp_path / "snapshot" / "m.csv")
    assert manifest.validate(check_files=True) == []
    manifest.write(tmp_path / "snapshot" / "m.csv")
    assert Manifest.read(tmp_path / "snapshot" / "m.csv").validate(check_files=True) == []


@pytest.mark.parametrize("place", ["same.csv", "deep/er/m.csv", "wav/m.tsv", "../m.parquet", "linked/m.csv"])
def test_a_moved_manifest_keeps_pointing_at_the_same_audio(tmp_path, place):
    root = tmp_path / "corpus"
    for name in ("wav/a.wav", "wav/sub/b.wav", "c.wav"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    outside = tmp_path / "corpus-2.wav"
    outside.touch()
    (root / "linked").symlink_to(root / "wav")
    names = ["wav/a.wav", "./wav//sub/b.wav", "c.wav", str(outside), str(root / "wav" / "a.wav")]
    manifest = make(5, root, path=names, label=["spoof"] * 5)
    moved = Manifest.read(manifest.write(root / place))
    assert [p.resolve() for p in moved.audio_paths()] == [p.resolve() for p in manifest.audio_paths()]
    assert moved.validate(check_files=True) == []
    below = [p for p in moved.audio_paths() if p.is_relative_to(moved.root)]
    names_of = zip(moved.audio_paths(), map(Path, moved.column("path")), strict=True)
    assert not any(name.is_absolute() for path, name in names_of if path in below)
    if place == "same.csv":
        assert moved.column("path")[:4] == names[:4]


def test_rows_without_a_path_are_kept_in_writing_and_named_in_use(tmp_path):
    manifest = make(2, path=["a.wav", None])
    assert Manifest.read(manifest.write(tmp_path / "m.csv")).column("path") == ["/data/a.wav", None]
    with pytest.raises(ManifestError, match="row 2: path is empty"):
        manifest.audio_paths()


# Selection


def test_filter():
    manifest = make(6, split=["train", "dev", "eval", "train", None, "dev"])
    assert manifest.filter(split="train").column("utterance_id") == ["u0", "u3"]
    assert manifest.filter(split=["train", "dev"], label=SPOOF).column("utterance_id") == ["u1", "u3", "u5"]
    assert manifest.filter(split="").column("utterance_id") == ["u4"]
    assert len(manifest.filter(split=[])) == 0
    assert len(manifest.filter()) == 6
    assert manifest.split(None) is manifest
    assert manifest.split("dev").column("utterance_id") == ["u1", "u5"]
    assert make(3, year=[2019, 2020, 2020]).filter(year=2020).column("utterance_id") == ["u1", "u2"]


def test_filter_says_what_there_is():
    manifest = make(4, split=["train", "dev", "eval", "train"])
    with pytest.raises(UsageError, match=r"no row has split = 'test' \(values: dev, eval, train\)"):
        manifest.filter(split=["train", "test"])
    with pytest.raises(UsageError, match=r"no column 'attack' \(columns: utterance_id, path, label, split\)"):
        manifest.filter(attack="A01")
    for use in (
        lambda: manifest.column("x"),
        lambda: manifest.key(["x"]),
        lambda: manifest.sample(1, by=["x"]),
    ):
        with pytest.raises(UsageError, match="no column 'x'"):
            use()


def test_take():
    manifest = make(4)
    assert manifest.take([2, 0, 2]).column("utterance_id") == ["u2", "u0", "u2"]
    assert manifest.take(np.flatnonzero(manifest.strings("label") == SPOOF)).counts()[SPOOF] == 2
    for wrong in ([-1], [4], np.array([True, False, True, False]), [0.5]):
        with pytest.raises(UsageError):
            manifest.take(wrong)


strata = st.lists(st.tuples(st.sampled_from(LABELS), st.sampled_from("xyz")), min_size=1, max_size=40)


@settings(max_examples=80)
@given(rows=strata, data=st.data())
def test_sample_keeps_proportions_and_grows(rows, data):
    manifest = make(len(rows), label=[r[0] for r in rows], system=[r[1] for r in rows])
    seed = data.draw(st.integers(0, 3))
    sizes = Counter(rows)
    smaller: set[str] = set()
    for n in range(len(rows) + 1):
        drawn = manifest.sample(n, by=["label", "system"], seed=seed)
        assert len(drawn) == n
        found = Counter(zip(drawn.column("label"), drawn.column("system"), strict=True))
        for stratum, size in sizes.items():
            assert abs(found[stratum] * len(rows) - n * size) < len(rows)
        ids = set(drawn.column("utterance_id"))
        assert smaller <= ids
        assert len(ids) == n
        smaller = ids
    shuffled = manifest.take(data.draw(st.permutations(range(len(rows)))))
    n = data.draw(st.integers(0, len(rows)))
    by = ["label", "system"]
    assert sorted(manifest.sample(n, by, seed).column("utterance_id")) == sorted(
        shuffled.sample(n, by, seed).column("utterance_id")
    )


def test_sample_keeps_row_order_and_depends_on_the_seed():
    manifest = make(200)
    one = manifest.sample(50, seed=1)
    assert one.table.equals(manifest.sample(50, seed=1).table)
    assert one.column("utterance_id") == sorted(one.column("utterance_id"), key=lambda u: int(u[1:]))
    assert one.column("utterance_id") != manifest.sample(50, seed=2).column("utterance_id")
    assert one.counts() == {BONAFIDE: 25, SPOOF: 25, UNKNOWN: 0}
    assert manifest.sample(200).table.equals(manifest.table)
    assert manifest.sample(20, by="label").table.equals(manifest.sample(20).table)
    assert len(manifest.sample(7, by=[])) == 7


def test_sample_draws_every_row_alike():
    """1,000 seeds: each of 20 rows is in half of the samples, to within five standard deviations."""
    manifest = make(20)
    times = Counter(u for seed in range(1000) for u in manifest.sample(10, seed=seed).column("utterance_id"))
    assert len(times) == 20
    assert all(abs(n - 500) < 5 * math.sqrt(250) for n in times.values())


@pytest.mark.parametrize("n", [-1, 5])
def test_sample_of_more_than_there_is(n):
    with pytest.raises(UsageError, match=f"{n} rows asked for, 4 are there"):
        make(4).sample(n)


def test_sample_is_the_same_in_every_process():
    code = "from test_manifest import make; print(make(50).sample(9, seed=3).column('utterance_id'))"
    outputs = set()
    for hash_seed in ("1", "2"):
        env = os.environ | {"PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(Path(__file__).parent)}
        outputs.add(
            subprocess.run(
                [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True
            ).stdout
        )
    assert outputs == {f"{make(50).sample(9, seed=3).column('utterance_id')}\n"}


def test_digest_changes_with_ids_paths_labels_and_order_only(tmp_path):
    base = make(3, note=["x", "y", "z"])
    same = [
        make(3),
        make(3, note=[1, 2, 3]),
        make(3, root="/elsewhere"),
        Manifest.read(base.write(tmp_path / "m.csv")),
    ]
    assert [m.digest() == base.digest() for m in same] == [
        True,
        True,
        True,
        False,
    ]  # the last one's paths moved
    at_home = Manifest.from_columns(base.table.to_pydict(), tmp_path)
    for suffix in (".csv", ".parquet"):
        assert Manifest.read(at_home.write(tmp_path / f"h{suffix}")).digest() == base.digest()
    others = [
        base.take([1, 0, 2]),
        base.take([0, 1]),
        make(3, utterance_id=["u0", "u1", "u3"]),
        make(3, path=["wav/u0.wav", "wav/u1.wav", "wav/u2.flac"]),
        make(3, label=["bonafide", "spoof", "unknown"]),
        make(3, label=["bonafide", "spoof", None]),
        make(3, label=["bonafide", "spoof", "None"]),
        make(3, utterance_id=["u0\0u1", "", "u2"]),
    ]
    assert len({m.digest() for m in [base, *others]}) == len(others) + 1


# Mixing


def test_mix_names_the_part_and_keeps_the_audio(tmp_path):
    one = make(2, tmp_path / "one", split=["train", "dev"], corpus=["old", "old"])
    two = make(
        2, tmp_path / "two", utterance_id=["v0", "v1"], path=["a.wav", "/abs.wav"], codec=["mp3", None]
    )
    mixed = mix({"A": one, "B": two})
    assert mixed.column("corpus") == ["A", "A", "B", "B"]
    assert mixed.column("split") == ["train", "dev", None, None]
    assert mixed.column("codec") == [None, None, "mp3", None]
    assert mixed.audio_paths() == one.audio_paths() + two.audio_paths()
    assert all(Path(p).is_absolute() for p in mixed.column("path"))
    for place in ("one/m.csv", "elsewhere/m.parquet"):
        again = Manifest.read(mixed.write(tmp_path / place))
        assert again.audio_paths() == mixed.audio_paths()
        assert again.strings("codec").tolist() == mixed.strings("codec").tolist()
    assert Manifest.read(tmp_path / "one/m.csv").column("path")[:2] == ["wav/u0.wav", "wav/u1.wav"]
    assert mix({"x": mixed}).column("corpus") == ["x"] * 4


def test_mix_with_colliding_ids():
    one, two = make(3, "/one"), make(2, "/two")
    with pytest.raises(ManifestError) as caught:
        mix({"A": one, "B": two})
    assert [p[:24] for p in caught.value.problems] == ["utterance_id 'u0' is in ", "utterance_id 'u1' is in "]
    mixed = mix({"A": one, "B": two}, prefix_ids=True)
    assert mixed.column("utterance_id") == ["A/u0", "A/u1", "A/u2", "B/u0", "B/u1"]
    with pytest.raises(ManifestError, match="'a/b/c' is in a and in a/b"):
        mix({"a": make(1, utterance_id=["b/c"]), "a/b": make(1, utterance_id=["c"])}, prefix_ids=True)


def test_mix_refuses_parts_that_are_not_valid():
    with pytest.raises(ManifestError) as caught:
        mix({"A": make(2, label=["x", "spoof"]), "B": make(1, path=[None])}, prefix_ids=True)
    assert [p.split(" (")[0] for p in caught.value.problems] == [
        "A: row 1: label 'x'",
        "B: row 1: path is empty",
    ]
    with pytest.raises(UsageError, match="nothing to mix"):
        mix({})
    with pytest.raises(ManifestError):
        mix({"two\nlines": make(1)}, prefix_ids=True)


@pytest.mark.parametrize(
    ("one", "two", "expected"),
    [
        (["s"], [1.5], ["s", "1.5"]),
        ([1], [1.5], [1.0, 1.5]),
        ([None], ["x"], [None, "x"]),
        ([True], [2], ["true", "2"]),
        ([dt.date(2020, 1, 1)], ["x"], ["2020-01-01", "x"]),
        ([["a"]], ["x"], ['["a"]', "x"]),
        ([[1]], [[1.5]], [[1.0], [1.5]]),
        (pa.array(["a"]).dictionary_encode(), ["x"], ["a", "x"]),
        (pa.array(["a"]).dictionary_encode(), pa.array(["b"]).dictionary_encode(), ["a", "b"]),
    ],
)
def test_mix_of_columns_of_different_types(tmp_path, one, two, expected):
    mixed = mix({"A": make(1, "/a", x=one), "B": make(1, "/b", x=two)}, prefix_ids=True)
    assert mixed.column("x") == expected
    Manifest.read(mixed.write(tmp_path / "m.csv")).require_valid()


def test_mix_with_an_empty_part():
    assert len(mix({"A": make(3), "B": make(3, "/b").sample(0)})) == 3


def test_well_known_columns_do_not_overlap_with_required_ones():
    assert not set(OPTIONAL_COLUMNS) & set(REQUIRED_COLUMNS)
