"""The published corpora: one contract over the registry, on miniatures in the official layouts."""

from __future__ import annotations

import json
import pickle
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpora_miniatures import LABELS, MAKERS, Miniature, frame_labels, make
from voxfide.corpora import CORPORA, corpus, data_sheet, prepare
from voxfide.corpora.check import check_audio
from voxfide.corpora.datasheet import to_markdown
from voxfide.corpora.inventory import Inventory
from voxfide.corpora.partialspoof import RESOLUTIONS
from voxfide.corpora.partialspoof import frame_labels as read_labels_at
from voxfide.corpora.protocol import Form, Problems, read_protocol
from voxfide.corpora.segments import read_frame_labels, regions_of_frames, regions_of_text
from voxfide.errors import ManifestError, UnknownNameError, UsageError
from voxfide.manifest import Manifest
from voxfide.manifest_checks import parse_segments

OFFICIAL = [name for name in MAKERS if name != "folder"]
DOCS = Path(__file__).resolve().parents[1] / "docs" / "corpora.md"


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Miniature]:
    root = tmp_path_factory.mktemp("originals")
    return {name: make(name, root / name) for name in MAKERS}


@pytest.fixture
def copy(originals, tmp_path):
    """A miniature of one's own, to spoil."""

    def of(name: str, to: str = "") -> Miniature:
        m = originals[name]
        root = tmp_path / (to or name)
        shutil.copytree(m.root, root)

        def moved(paths: list[Path]) -> list[Path]:
            return [root / p.relative_to(m.root) for p in paths]

        return Miniature(
            name, root, m.seconds, m.counts, m.columns, moved(m.protocols), m.bad_label, moved(m.audio)
        )

    return of


def with_protocols() -> list[str]:
    """Corpora whose rows come from protocol files, and may thus lack their audio."""
    return [n for n in OFFICIAL if n not in {"scenefake", "habla"} and not n.startswith("for-")]


def counts(manifest: Manifest) -> dict[str, list[int]]:
    splits = manifest.strings("split") if "split" in manifest.columns else np.full(len(manifest), "")
    found = Counter(zip(splits.tolist(), manifest.strings("label").tolist(), strict=True))
    return {s: [found[s, label] for label in LABELS] for s in dict.fromkeys(splits.tolist())}


# The contract ---------------------------------------------------------------------------------


def test_every_corpus_has_a_miniature_and_a_data_sheet():
    assert set(CORPORA.names()) - set(MAKERS) == {"csv", "shards", "selftest"}
    for spec in CORPORA:
        sheet = data_sheet(spec.name)
        assert sheet.name == spec.name
        assert sheet.layout != "-"
        for alias in spec.aliases:
            assert corpus(alias.upper()) is spec
    assert all(data_sheet(n).citation != "-" and data_sheet(n).link.startswith("http") for n in OFFICIAL)
    names = CORPORA.names() + [alias for spec in CORPORA for alias in spec.aliases]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("name", MAKERS)
def test_prepare_gives_a_valid_manifest(originals, name):
    m = originals[name]
    manifest = prepare(name, m.root)
    assert manifest.validate(check_files=True) == []
    assert counts(manifest) == m.counts
    assert set(m.columns) <= set(manifest.columns)
    assert {p.resolve() for p in manifest.audio_paths()} == {p.resolve() for p in m.audio}
    for split, expected in m.counts.items():
        if split:
            assert counts(prepare(name, m.root, split)) == {split: expected}


@pytest.mark.parametrize("name", OFFICIAL)
def test_bona_fide_has_no_attack(originals, name):
    manifest = prepare(name, originals[name].root)
    for column in {"attack", "system"} & set(manifest.columns):
        of = dict(zip(manifest.strings(column), manifest.strings("label"), strict=True))
        assert of["-"] == "bonafide"
        assert all(label == "spoof" for value, label in of.items() if value not in ("-", ""))


@pytest.mark.parametrize("name", OFFICIAL)
def test_found_from_a_parent_and_in_a_folder_of_its_own(originals, name, tmp_path):
    m = originals[name]
    parent = tmp_path / "corpora"
    shutil.copytree(m.root, parent / "unpacked" / m.root.name)
    (parent / "something_else" / "deep").mkdir(parents=True)
    (parent / "something_else" / "label.txt").write_text("not this one\n")
    (parent / "something_else" / "train.txt").write_text("nor this\n")
    (parent / "something_else" / "meta.csv").write_text("id;text\n1;x\n")
    manifest = prepare(name, parent)
    assert counts(manifest) == m.counts
    assert manifest.validate(check_files=True) == []


@pytest.mark.parametrize("name", OFFICIAL)
def test_wrong_root_says_what_was_looked_for(name, tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "x.wav").touch()
    with pytest.raises(
        UsageError, match=f"{re.escape(name)} was not found here or below; looked for .{{6,}}"
    ):
        prepare(name, tmp_path)
    with pytest.raises(UsageError, match="no such folder"):
        prepare(name, tmp_path / "nowhere")
    with pytest.raises(UsageError, match=r"has no split 'validate'"):
        prepare(name, tmp_path, "validate")


@pytest.mark.parametrize("name", with_protocols())
def test_partial_copy_is_said_and_may_be_kept(copy, name):
    m = copy(name)
    gone = next(p for p in m.audio if "m-ailabs" not in p.parts)
    gone.unlink()
    (gone.parent / f"unlisted{gone.suffix}").write_bytes(m.audio[-1].read_bytes())
    inventory = Inventory()
    manifest = prepare(name, m.root, inventory=inventory)
    assert len(manifest) == len(m.audio) - 1
    assert manifest.validate(check_files=True) == []
    assert inventory.n_missing == 1
    assert [(s.files, s.example) for s in inventory.surplus] == [(1, f"unlisted{gone.suffix}")]
    text = "\n".join(inventory.lines())
    assert "1 missing, left out" in text
    assert "1 audio file(s) that no row names, such as unlisted" in text
    assert inventory.to_json()["n_missing"] == 1
    kept = prepare(name, m.root, keep_missing=True)
    assert len(kept) == len(m.audio)
    assert len(kept.validate(check_files=True)) == 1
    assert gone in [p.with_suffix(gone.suffix) for p in kept.audio_paths()]


@pytest.mark.parametrize("name", with_protocols())
def test_no_audio_at_all(copy, name):
    m = copy(name)
    for path in m.audio:
        path.unlink()
    if name == "mlaad":
        shutil.rmtree(m.root / "m-ailabs")
    with pytest.raises(UsageError, match=r"no audio was found .*looked for .*ID\."):
        prepare(name, m.root)
    assert len(prepare(name, m.root, keep_missing=True)) >= len(m.audio) - 2


@pytest.mark.parametrize("name", with_protocols())
def test_byte_order_mark_crlf_and_blank_lines_do_not_matter(copy, name):
    m = copy(name)
    before = prepare(name, m.root).digest()
    for path in m.protocols:
        lines = path.read_text().splitlines()
        if "," not in lines[0] and "|" not in lines[0]:
            lines = [f"  {line.replace(' ', '   ', 1)} " for line in lines] + ["", "   "]
        path.write_bytes(b"\xef\xbb\xbf" + "".join(f"{line}\r\n" for line in lines).encode())
    assert prepare(name, m.root).digest() == before


@pytest.mark.parametrize("name", with_protocols())
def test_malformed_lines_are_told_with_file_and_line_all_at_once(copy, name):
    m = copy(name)
    path = m.protocols[0]
    lines = path.read_text().splitlines()
    broken = lines[-1].replace("|", " ").replace(",", " ").split()[0]
    extra = [lines[-1], broken, *([m.bad_label] if m.bad_label else [])]
    path.write_bytes("".join(f"{line}\r\n" for line in [*lines, *extra]).encode())
    with pytest.raises(ManifestError) as caught:
        prepare(name, m.root)
    n = len(lines)
    where = f"{path.relative_to(m.root)}, line "
    problems = sorted(caught.value.problems)
    assert all(p.startswith(where) for p in problems)
    assert sum(f"line {n + 1}: " in p and "again (first on line" in p for p in problems) == 1
    assert sum(f"line {n + 2}: 1 columns (expected " in p for p in problems) == 1
    if m.bad_label:
        assert sum(f"line {n + 3}: label " in p and "(expected " in p for p in problems) == 1
    assert len(problems) == len(extra)


@pytest.mark.parametrize("name", with_protocols())
def test_text_that_is_not_utf8(copy, name):
    m = copy(name)
    n = len(m.protocols[0].read_text().splitlines())
    m.protocols[0].write_bytes(m.protocols[0].read_bytes() + b"\xff\xfe x\n")
    with pytest.raises(ManifestError, match=f"line {n + 1}: not UTF-8"):
        prepare(name, m.root)


def test_problems_are_capped(copy):
    m = copy("asvspoof2019la")
    m.protocols[0].write_text(m.protocols[0].read_text() + "too short\n" * 5000)
    with pytest.raises(ManifestError) as caught:
        prepare(m.name, m.root)
    assert len(caught.value.problems) == 1001
    assert "more than 1000 problems" in caught.value.problems[-1]


def test_unknown_names_and_options(tmp_path):
    with pytest.raises(UnknownNameError, match="did you mean 'asvspoof5'"):
        prepare("asvspoof6", tmp_path)
    with pytest.raises(UsageError, match=r"no option resolution \(options: keep_missing\)"):
        prepare("had", tmp_path, resolution=0.1)
    with pytest.raises(UsageError, match="no option keep_missing"):
        prepare("scenefake", tmp_path, keep_missing=True)


def test_only_the_asked_corpus_is_imported(originals):
    code = (
        "import sys; from voxfide.corpora import prepare; prepare('had', sys.argv[1]);"
        "print(*(m for m in sys.modules if m.startswith('voxfide.corpora.')))"
    )
    root = str(originals["had"].root)
    out = subprocess.run(
        [sys.executable, "-c", code, root], capture_output=True, text=True, check=True
    ).stdout
    others = {spec.place.split(":")[0] for spec in CORPORA} - {
        "voxfide.corpora.half_truth",
        "voxfide.corpora.folder",
    }
    assert not others & set(out.split())


def test_documentation_holds_the_data_sheets():
    text = DOCS.read_text(encoding="utf-8")
    assert text[text.index("| name |") :] == to_markdown(data_sheet(spec.name) for spec in CORPORA)


# Single corpora -------------------------------------------------------------------------------


def test_asvspoof5_forms(copy):
    m = copy("asvspoof5")
    ten = prepare(m.name, m.root, "train")
    path = m.protocols[0]
    rows = [line.split() for line in path.read_text().splitlines()]
    header = (
        "SPEAKER_ID FLAC_FILE_NAME SPEAKER_GENDER CODEC CODEC_Q CODEC_SEED ATTACK_TAG ATTACK_LABEL KEY TMP\n"
    )
    path.write_text(header + path.read_text())
    inventory = Inventory()
    assert prepare(m.name, m.root, "train", inventory=inventory).digest() == ten.digest()
    assert "with header line" in "\n".join(inventory.notes)
    path.unlink()
    six = m.root / "ASVspoof5.train.metadata.txt"
    six.write_text("".join(f"{r[0]} {r[1]} {r[2]} - {r[7]} {r[8]}\n" for r in rows))
    manifest = prepare(m.name, m.root, "train")
    assert manifest.digest() == ten.digest()
    assert manifest.column("attack") == ten.column("attack") == ["-", "A14", "A14", "A14"]


def test_asvspoof5_columns(originals):
    manifest = prepare("asvspoof5", originals["asvspoof5"].root, "eval")
    coded = manifest.filter(codec="C05")
    assert coded.column("codec_quality") == ["2"]
    assert coded.column("codec_seed") == ["E_0000000009"]
    assert set(manifest.column("attack_tag")) == {"-", "AC1"}


def test_counts_are_compared_with_the_data_sheet(copy):
    m = copy("asvspoof2019la")
    inventory = Inventory()
    prepare(m.name, m.root, "train", inventory=inventory)
    assert "train: 4 utterances (1 bona fide, 3 spoof), 25,380 expected (25,376 fewer)" in list(
        inventory.lines()
    )


def test_surplus_of_enrolment_files_is_explained(copy):
    m = copy("asvspoof2019la")
    (m.root / "LA/ASVspoof2019_LA_dev/flac/LA_D_A000001.flac").touch()
    inventory = Inventory()
    prepare(m.name, m.root, inventory=inventory)
    assert "enrolment" in "\n".join(inventory.lines())


def test_asvspoof2021_tracks_lie_side_by_side(copy, originals, tmp_path):
    both = tmp_path / "both"
    for track in ("la", "df"):
        shutil.copytree(originals[f"asvspoof2021{track}"].root, both, dirs_exist_ok=True)
    for track in ("la", "df"):
        assert counts(prepare(f"asvspoof2021{track}", both)) == originals[f"asvspoof2021{track}"].counts


def test_asvspoof2021_audio_in_several_archives(copy):
    m = copy("asvspoof2021df")
    for part, path in enumerate(m.audio):
        target = m.root / f"ASVspoof2021_DF_eval_part0{part % 4}" / path.relative_to(m.root)
        target.parent.mkdir(parents=True, exist_ok=True)
        path.rename(target)
    shutil.rmtree(m.root / "ASVspoof2021_DF_eval")
    assert counts(prepare(m.name, m.root)) == m.counts


def test_audio_in_an_unusual_folder_is_found_and_said(copy):
    m = copy("asvspoof5")
    (m.root / "flac_T").rename(m.root / "training_audio")
    inventory = Inventory()
    assert counts(prepare(m.name, m.root, inventory=inventory)) == m.counts
    assert "audio found in training_audio" in "\n".join(inventory.notes)


def test_two_protocols_of_one_name_are_ambiguous(copy):
    m = copy("asvspoof2019la")
    shutil.copytree(m.root / "LA", m.root / "LA_copy")
    with pytest.raises(UsageError, match="several files could be the train protocol"):
        prepare(m.name, m.root)


def test_for_variants_are_told_apart(originals, tmp_path):
    for variant in ("norm", "original"):
        shutil.copytree(originals[f"for-{variant}"].root, tmp_path, dirs_exist_ok=True)
    norm = prepare("for", tmp_path)
    assert all("for-norm" in str(p) for p in norm.audio_paths())
    with pytest.raises(UsageError, match="for-2sec was not found"):
        prepare("for-2sec", tmp_path)
    with pytest.raises(UsageError, match="for-2sec was not found"):
        prepare("for-2sec", tmp_path / "for-norm")
    (tmp_path / "for-norm").rename(tmp_path / "download")
    inventory = Inventory()
    assert len(prepare("for-2sec", tmp_path / "download", inventory=inventory)) == len(norm)
    assert "whether it is this variant is not known" in "\n".join(inventory.notes)


def test_habla_protocol_is_tried_and_said(copy):
    m = copy("habla")
    protocol = m.root / "FinalDataset_16khz" / "protocol.txt"
    manifest = prepare(m.name, m.root)
    assert set(manifest.filter(label="bonafide").column("accent")) == {"Argentina", "Chile"}
    assert "arf_00295" in manifest.column("speaker")
    protocol.write_text("\n".join(f"row {i} whatever" for i in range(30)))
    inventory = Inventory()
    unsplit = prepare(m.name, m.root, inventory=inventory)
    assert "split" not in unsplit.columns
    assert len(unsplit) == len(manifest)
    assert "protocol.txt was not understood" in "\n".join(inventory.notes)
    with pytest.raises(UsageError, match="split 'train' cannot be told"):
        prepare(m.name, m.root, "train")


def test_mlaad_takes_bona_fide_from_elsewhere(copy, tmp_path):
    m = copy("mlaad")
    elsewhere = tmp_path / "books"
    (m.root / "m-ailabs").rename(elsewhere)
    inventory = Inventory()
    alone = prepare(m.name, m.root, inventory=inventory)
    assert alone.counts()["bonafide"] == 0
    assert "spoof only" in "\n".join(inventory.notes)
    both = prepare(m.name, m.root, mailabs=str(elsewhere))
    assert both.counts() == {"bonafide": 2, "spoof": 6, "unknown": 0}
    assert both.validate(check_files=True) == []
    real = both.filter(label="bonafide")
    assert (real.column("language")[0], real.column("speaker")[0]) == ("de", "eva")
    # A fake names the recording that it says again.
    fakes = both.filter(language="de", label="spoof")
    assert set(fakes.column("original_file")) == set(real.column("original_file"))
    with pytest.raises(UsageError, match="no M-AILABS here"):
        prepare(m.name, m.root, mailabs=tmp_path / "mlaad" / "fake")


def test_ctrsvdd_evaluation_list_without_labels(copy):
    m = copy("ctrsvdd")
    path = m.protocols[2]
    path.write_text("".join(line.split()[2] + "\n" for line in path.read_text().splitlines()))
    assert counts(prepare(m.name, m.root, "eval")) == {"eval": [0, 0, 5]}


# Segments -------------------------------------------------------------------------------------


def test_had_segments(originals):
    manifest = prepare("had", originals["had"].root, "train")
    cells = dict(zip(manifest.column("label"), manifest.column("segments"), strict=True))
    assert parse_segments(cells["bonafide"]) == [(0.0, 4.72, "bonafide")]
    assert [s.label for s in parse_segments(cells["spoof"])] == ["bonafide", "spoof", "bonafide"]
    assert parse_segments(cells["spoof"])[1][:2] == (1.25, 1.8)


def test_had_contradictions_are_said_and_bad_regions_are_errors(copy):
    m = copy("had")
    path = m.protocols[0]
    path.write_text(path.read_text().replace("4.53-T 0", "4.53-T 1", 1))
    inventory = Inventory()
    prepare(m.name, m.root, inventory=inventory)
    assert "regions contradict the label of 1 utterances" in "\n".join(inventory.notes)
    path.write_text(path.read_text().replace("1.25-1.80-F", "1.25-1.80-X").replace("0.00-4.72", "5.00-4.72"))
    with pytest.raises(ManifestError) as caught:
        prepare(m.name, m.root)
    assert len(caught.value.problems) == 4
    assert "line 1: region '5.00-4.72-T' ends before it starts" in str(caught.value)
    assert "line 2: region '1.25-1.80-X' (expected START-END-T" in str(caught.value)


@pytest.mark.parametrize("resolution", RESOLUTIONS)
def test_partialspoof_segments_at_every_resolution(originals, resolution):
    root = originals["partialspoof"].root
    manifest = prepare("partialspoof", root, "dev", resolution=resolution)
    labels = read_labels_at(root, "dev", float(resolution))
    for name, cell in zip(manifest.column("utterance_id"), manifest.column("segments"), strict=True):
        expected = frame_labels(name, float(resolution)) == "1"
        assert np.array_equal(labels[name], expected)
        # Frame by frame, the cell says what the labels say.
        middles = (np.arange(len(expected)) + 0.5) * float(resolution)
        found = [next(s.label for s in parse_segments(cell) if s.start < t < s.end) for t in middles]
        assert found == ["bonafide" if e else "spoof" for e in expected]


def test_partialspoof_takes_the_finest_there_is(copy):
    m = copy("partialspoof")
    finest = prepare(m.name, m.root, "train", resolution=0.01)
    assert prepare(m.name, m.root, "train").column("segments") == finest.column("segments")
    (m.root / "database/segment_labels/train_seglab_0.01.npy").unlink()
    second = prepare(m.name, m.root, "train", resolution="0.02")
    assert prepare(m.name, m.root, "train").column("segments") == second.column("segments")
    with pytest.raises(UsageError, match="no segment labels train_seglab_0.01"):
        prepare(m.name, m.root, "train", resolution="0.01")
    with pytest.raises(UsageError, match="resolution '0.03'"):
        prepare(m.name, m.root, resolution="0.03")
    assert "segments" not in prepare(m.name, m.root, "train", resolution="none").columns


@given(st.lists(st.booleans(), min_size=1, max_size=60), st.sampled_from([0.01, 0.16, 0.64]))
def test_regions_of_frames_tile_the_utterance(frames, resolution):
    regions = parse_segments(regions_of_frames(np.array(frames), resolution))
    assert regions[0].start == 0
    assert regions[-1].end == pytest.approx(len(frames) * resolution)
    assert all(a.end == b.start and a.label != b.label for a, b in zip(regions, regions[1:], strict=False))
    spoofed = sum(r.end - r.start for r in regions if r.label == "spoof")
    assert spoofed == pytest.approx(frames.count(False) * resolution, abs=1e-5)


@given(st.lists(st.tuples(st.integers(1, 900), st.booleans()), min_size=1, max_size=20))
def test_regions_of_text_round_trip(pieces):
    end, items, expected = 0, [], []
    for length, is_fake in pieces:
        items.append(f"{end / 100:.2f}-{(end + length) / 100:.2f}-{'F' if is_fake else 'T'}")
        expected.append((end / 100, (end + length) / 100, "spoof" if is_fake else "bonafide"))
        end += length
    assert [tuple(s) for s in parse_segments(regions_of_text("/".join(items)))] == expected


@given(st.text(max_size=30))
def test_regions_of_any_text_are_read_or_refused(text):
    try:
        segments = regions_of_text(text)
    except ValueError:
        return
    assert parse_segments(segments) is not None


class Malicious:
    def __reduce__(self):
        return (print, ("executed",))


def _saved(path: Path, content: object) -> Path:
    array = np.empty((), dtype=object)
    array[()] = content
    np.save(path, array, allow_pickle=True)
    return path


REFUSED = [
    {"a": Malicious()}, Malicious(), {"a": np.zeros(3)}, {"a": np.array([1, 0], dtype=object)},
    {"a": ["2"]}, {"a": [["0"]]}, {"a": np.array([["0"]])}, {"a": None}, ["0", "1"], {1: ["0"]},
    {"a": np.array("0")}, {"a": np.zeros(2, dtype=[("x", "U1")])}, {"a": np.ma.masked_array(["0"])},
    {"a": Path("x")}, {"a": {"0"}},
]  # fmt: skip


@pytest.mark.parametrize("content", REFUSED, ids=range(len(REFUSED)))
def test_anything_but_labels_is_refused(tmp_path, content, capfd):
    with pytest.raises(ManifestError):
        read_frame_labels(_saved(tmp_path / "x.npy", content))
    assert "executed" not in capfd.readouterr().out


KINDS = {
    "list": list,
    "text": np.array,
    "objects": lambda v: np.array(v, dtype=object),
    "bytes": lambda v: np.array(v, "S1"),
    "big-endian": lambda v: np.array(v, ">U3"),
}


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("protocol", [3, 4])
def test_label_files_of_any_numpy(tmp_path, kind, protocol):
    """Whatever text arrays were pickled with: NumPy 1 and 2 name their modules differently."""
    values = ["0", "1", "1"]
    array = np.empty((), dtype=object)
    array[()] = {"a": kind(values)}
    content = pickle.dumps(array, protocol=protocol)
    for old in (False, True):
        path = tmp_path / f"{old}.npy"
        with path.open("wb") as file:
            np.lib.format.write_array_header_1_0(file, {"descr": "|O", "fortran_order": False, "shape": ()})
            file.write(content.replace(b"numpy._core", b"numpy.core") if old and protocol < 4 else content)
        assert read_frame_labels(path)["a"].tolist() == [False, True, True]


PIECES = [
    b"cos\nsystem\n", b"cbuiltins\neval\n", b"cnumpy\nload\n", b"cnumpy\nndarray\n", b"cnumpy\ndtype\n",
    b"cnumpy._core.multiarray\n_reconstruct\n", b"cnumpy.core.multiarray\nscalar\n", b"csubprocess\nPopen\n",
    b"(", b")", b"R", b"b", b"t", b"l", b"d", b"s", b"u", b"}", b"]", b"N", b"K\x01", b"K\x00", b"e", b"\x93",
    b"X\x02\x00\x00\x00U1", b"C\x01b", b"\x85", b"\x86", b"\x87", b"\x81", b"0", b"2", b"a", b"o", b"i",
    b"S'echo executed'\n", b"\x8c\x01a", b"P1\n", b"Q",
]  # fmt: skip


@settings(max_examples=300)
@given(st.lists(st.sampled_from(PIECES), max_size=25))
def test_made_up_pickles_end_in_an_error(pieces):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "x.npy")
        with path.open("wb") as file:
            np.lib.format.write_array_header_1_0(file, {"descr": "|O", "fortran_order": False, "shape": ()})
            file.write(b"\x80\x04" + b"".join(pieces) + b".")
        with pytest.raises(ManifestError):
            read_frame_labels(path)


@settings(max_examples=150)
@given(st.data())
def test_damaged_label_files_are_read_or_refused(originals, data):
    path = originals["partialspoof"].root / "database/segment_labels/dev_seglab_0.16.npy"
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    with tempfile.TemporaryDirectory() as folder:
        damaged = Path(folder, "x.npy")
        damaged.write_bytes(content[: data.draw(st.integers(0, len(content)))])
        try:
            labels = read_frame_labels(damaged)
        except ManifestError:
            return
        assert all(isinstance(k, str) and v.dtype == bool for k, v in labels.items())


# The line parser ------------------------------------------------------------------------------

FORM = Form(("speaker", "file", "_", "attack", "label"), {"bonafide": "bonafide", "spoof": "spoof"})
WORD = st.text(
    st.characters(exclude_categories=("Cs", "Cc", "Z"), exclude_characters="/\\\x85"), min_size=1, max_size=6
)
BLANKS = st.sampled_from([" ", "  ", "\t", " \t ", "\x0b"])


ROW = st.tuples(WORD, WORD, st.sampled_from(["bonafide", "spoof"]), st.lists(BLANKS, min_size=6, max_size=6))


@given(
    st.lists(ROW, min_size=1, max_size=12, unique_by=lambda row: row[1]),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.booleans(),
    st.booleans(),
    st.lists(st.integers(0, 12), max_size=3),
)  # fmt: skip
def test_lines_are_read_whatever_their_blanks(rows, ending, has_bom, is_regular, blank_lines):
    """The fast way for regular lines and the other one give the same, and line numbers hold."""
    header_words = {"file", "filename", "utterance", "trial", "key", "label"}
    rows = [r for r in rows if not {r[0].lower(), r[1].lower()} & header_words]
    ids = [re.sub(r"(?i)\.(wav|flac)$", "", r[1]) for r in rows]
    if not rows or len(set(ids)) < len(ids):
        return
    lines, at = [], []
    for number, (speaker, name, label, gaps) in enumerate(rows):
        if not is_regular:
            lines += [" "] * blank_lines.count(number)
        cells = [speaker, f"{name}.flac", "-", "A07", label]
        gap = [" "] * 5 + [""] if is_regular else gaps
        lines.append(
            " ".join(cells)
            if is_regular
            else gap[0] + "".join(c + g for c, g in zip(cells, gap[1:], strict=True))
        )
        at.append(len(lines))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "p.txt")
        path.write_bytes(b"\xef\xbb\xbf" * has_bom + ending.join(lines).encode())
        problems = Problems(path.parent)
        protocol = read_protocol(path, [FORM], problems)
    assert problems.found == []
    assert protocol.columns["utterance_id"].to_pylist() == [r[1] for r in rows]
    assert protocol.columns["speaker"].to_pylist() == [r[0] for r in rows]
    assert protocol.columns["label"].to_pylist() == [r[2] for r in rows]
    assert protocol.lines.tolist() == at


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_told(content):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "p.txt")
        path.write_bytes(content)
        problems = Problems(path.parent)
        protocol = read_protocol(path, [FORM], problems)
    assert protocol is not None or problems.found
    assert all(re.match(r"p\.txt, line [1-9]\d*: .", p, re.DOTALL) for p in problems.found)
    if protocol is not None and not problems.found:
        ids = protocol.columns["utterance_id"].to_pylist()
        assert ids
        assert len(set(ids)) == len(ids)


# Checking the audio ---------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 1])
def test_check_audio_lists_every_file(copy, tmp_path, workers):
    m = copy("asvspoof5")
    m.audio[3].write_bytes(m.audio[3].read_bytes()[:60])
    m.audio[4].unlink()
    manifest = prepare(m.name, m.root, keep_missing=True)
    table = tmp_path / "m.parquet.audio.csv"
    summary = check_audio(manifest, table, workers=workers)
    assert (summary.n_files, summary.n_unreadable) == (14, 2)
    assert summary.sample_rates == {"16000": 12}
    assert summary.codecs == {"flac": 12}
    assert summary.durations["median"] == pytest.approx(0.05)
    rows = [line.split(",") for line in table.read_text().splitlines()]
    assert rows[0][:7] == ["utterance_id", "path", "duration", "sample_rate", "channels", "codec", "error"]
    assert [r[0] for r in rows[1:]] == manifest.column("utterance_id")
    assert rows[4][6].startswith("truncated")
    assert rows[5][6].startswith("not-found")
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([m.root.name, table.name])


def test_check_audio_goes_on_where_it_was(copy, tmp_path):
    m = copy("had")
    manifest = prepare(m.name, m.root)
    table = tmp_path / "audio.csv"
    started: list[tuple[int, int]] = []

    def on_start(todo: int, known: int) -> None:
        started.append((todo, known))

    check_audio(manifest, table, workers=0, on_start=on_start)
    whole = table.read_text()
    # Killed in the middle of its fifth line.
    lines = whole.splitlines(keepends=True)
    (tmp_path / "audio.csv.part").write_text("".join(lines[1:5]) + lines[5][:9])
    table.unlink()
    check_audio(manifest, table, workers=0, on_start=on_start)
    assert table.read_text() == whole
    check_audio(manifest, table, workers=0, on_start=on_start)
    # A file that has changed, and one that could not be read, are opened again.
    shutil.copy(m.audio[0], tmp_path / "kept.wav")
    m.audio[0].write_bytes(b"RIFF\0\0")
    assert check_audio(manifest, table, workers=0, on_start=on_start).n_unreadable == 1
    shutil.copy(tmp_path / "kept.wav", m.audio[0])
    assert check_audio(manifest, table, workers=0, on_start=on_start).n_unreadable == 0
    assert table.read_text() == whole
    assert started == [(12, 0), (8, 4), (0, 12), (1, 11), (1, 11)]


# The command line -----------------------------------------------------------------------------


def voxfide(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "voxfide", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_prepare_prints_and_records_what_was_found(copy, tmp_path):
    m = copy("asvspoof5")
    m.audio[0].unlink()
    out = tmp_path / "m.parquet"
    done = voxfide("prepare", "ASVspoof5", m.root, "--split", "train", "-o", out)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert "train: audio of 3 of 4 utterances found, 1 missing, left out" in done.stderr
    assert "182,357 expected" in done.stderr
    assert f"{out}: 3 utterances (0 bona fide, 3 spoof, 0 unknown)" in done.stderr
    facts = json.loads((tmp_path / "m.parquet.found.json").read_text())
    assert (facts["corpus"], facts["n_missing"], facts["splits"][0]["rows"]) == ("asvspoof5", 1, 4)
    assert Manifest.read(out).validate(check_files=True) == []
    m.audio[1].write_bytes(b"fLaC")
    done = voxfide(
        "prepare", "asvspoof5", m.root, "--split", "train", "--check-audio", "--workers", 0, "-o", out
    )
    assert done.returncode == 1
    assert "1 file(s) cannot be read" in done.stderr
    assert (tmp_path / "m.parquet.audio.csv").exists()


def test_options_and_data_sheets_on_the_command_line(originals, tmp_path):
    m = originals["partialspoof"]
    done = voxfide("prepare", m.name, m.root, "--option", "resolution=0.64", "-o", tmp_path / "m.csv")
    assert done.returncode == 0, done.stderr
    assert "segments of 0.64 s frames" in done.stderr
    sheet = voxfide("corpora", "partialspoof").stdout
    assert "PartialSpoof" in sheet
    assert "71,237" in sheet
    listed = json.loads(voxfide("corpora", "--json").stdout)
    assert [s["name"] for s in listed] == CORPORA.names()
    assert all(
        {"summary", "citation", "licence", "link", "layout", "counts", "traps"} <= set(s) for s in listed
    )
