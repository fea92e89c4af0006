"""Score files: every form, exact round trips, and errors that name file and line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxfide.errors import ScoreFileError, UsageError
from voxfide.scores import Scores, read_scores, write_scores


def _file(folder: Path, content: str | bytes) -> Path:
    path = folder / "scores.tsv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize(
    ("content", "form"),
    [
        ("filename\tcm-score\nE_1\t0.5\nE_2\t-1e-3\n", "asvspoof5"),
        ("E_1 0.5\nE_2 -1e-3\n", "asvspoof2021"),
        ("E_1\t0.5\nE_2\t-1e-3", "asvspoof2021"),
        ("E_1 A07 spoof 0.5\nE_2 - bonafide -1e-3\n", "asvspoof2019"),
        ("utterance_id,score\nE_1,0.5\nE_2,-1e-3\n", "csv"),
        ('split,score,filename\neval, 0.5,"E_1"\neval,-1e-3,E_2\n', "csv"),
        ("Filename,CM-Score\nE_1,0.5\nE_2,-1e-3\n", "csv"),
        ('split;score;filename\neval; 0.5;"E_1"\neval;-1e-3;E_2\n', "csv"),
        ("filename cm-score\nE_1 0.5\nE_2  -1e-3\n", "text"),
        ("spk\tfilename\tcm-score\tasv-score\nS1\tE_1\t0.5\t-\nS1\tE_2\t-1e-3\t-\n", "tsv"),
    ],
)
@pytest.mark.parametrize("disguise", ["plain", "bom", "crlf", "blank lines"])
def test_every_form_is_told_and_read(tmp_path: Path, content: str, form: str, disguise: str) -> None:
    if disguise == "crlf":
        content = content.replace("\n", "\r\n")
    if disguise == "blank lines":
        content = "\n" + content.replace("\n", "\n\n") + "  \n"
    data = content.encode()
    scores = read_scores(_file(tmp_path, b"\xef\xbb\xbf" + data if disguise == "bom" else data))
    assert scores.form == form
    assert scores.utterance_id.tolist() == ["E_1", "E_2"]
    assert scores.score.tolist() == [0.5, -0.001]
    assert scores.score.dtype == np.float64
    assert scores.source.endswith("scores.tsv")
    assert len(scores) == 2


def test_utterance_id_wins_over_the_path_column(tmp_path: Path) -> None:
    scores = read_scores(_file(tmp_path, "path,score,utterance_id\na/b.wav,1,E_1\n"))
    assert scores.utterance_id.tolist() == ["E_1"]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", " "])
def test_columns_of_any_name(tmp_path: Path, delimiter: str) -> None:
    rows = [["clip", "score", "Bona_Fide_LLR"], ["E_1", "9", "0.5"], ["E_2", "8", "-1e-3"]]
    path = _file(tmp_path, "".join(delimiter.join(row) + "\n" for row in rows))
    scores = read_scores(path, id_column="clip", score_column="bona_fide_llr")
    assert (scores.utterance_id.tolist(), scores.score.tolist()) == (["E_1", "E_2"], [0.5, -0.001])
    assert read_scores(path, id_column="clip").score.tolist() == [9, 8]
    with pytest.raises(ScoreFileError, match=r"line 1: .* is no header with .* \(clip\) .* \(llr\)"):
        read_scores(path, id_column="clip", score_column="llr")
    with pytest.raises(ScoreFileError, match="is no header"):
        read_scores(path, id_column="score", score_column="score")


def test_the_spelling_of_a_named_column_counts_where_two_differ_in_case(tmp_path: Path) -> None:
    path = _file(tmp_path, "filename,LLR,llr\nE_1,1,2\n")
    assert read_scores(path, score_column="llr").score.tolist() == [2]
    assert read_scores(path, score_column="LLR").score.tolist() == [1]


ids = st.text(st.characters(codec="utf-8", exclude_characters="\t\n\r\0"), min_size=1, max_size=12).filter(
    lambda s: s == s.strip()
)


@given(
    st.dictionaries(ids, st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=20),
)
def test_round_trip_is_exact(tmp_path_factory: pytest.TempPathFactory, table: dict[str, float]) -> None:
    path = tmp_path_factory.getbasetemp() / "round_trip.tsv"
    write_scores(path, table, list(table.values()))
    back = read_scores(path)
    assert back.form == "asvspoof5"
    assert back.utterance_id.tolist() == list(table)
    assert back.score.tobytes() == np.array(list(table.values())).tobytes()


def test_what_is_written_is_the_asvspoof5_form(tmp_path: Path) -> None:
    write_scores(tmp_path / "s.tsv", ["E_1", "E_2"], np.array([0.1, -3], dtype=np.float32))
    assert (tmp_path / "s.tsv").read_bytes() == b"filename\tcm-score\nE_1\t0.10000000149011612\nE_2\t-3.0\n"


class TestMalformed:
    def test_every_problem_is_listed_with_its_line(self, tmp_path: Path) -> None:
        path = _file(
            tmp_path,
            "filename\tcm-score\nE_1\t0.5\nE_2\n\nE_3\tnan\nE_1\t0.7\nE_4\t1_0\nE_5\t0,5\n\t2\nE_6\t-inf\n",
        )
        with pytest.raises(ScoreFileError) as caught:
            read_scores(path)
        lines = str(caught.value).splitlines()
        assert lines[0] == f"{path}: 7 problem(s)"
        assert [line.strip() for line in lines[1:]] == [
            "line 3: 1 column(s), expected 2",
            "line 5: score 'nan' is not finite",
            "line 6: utterance 'E_1' occurs again (first on line 2)",
            "line 7: score '1_0' is not a number",
            "line 8: score '0,5' is not a number",
            "line 9: the utterance id is empty",
            "line 10: score '-inf' is not finite",
        ]

    @pytest.mark.parametrize(
        ("row", "message"),
        [("E_2\t1_0", "'1_0' is not a number"), ("E_1\t2", "occurs again"), ("E_2\tinf", "not finite")],
    )
    def test_each_problem_alone_is_found(self, tmp_path: Path, row: str, message: str) -> None:
        with pytest.raises(ScoreFileError, match=message):
            read_scores(_file(tmp_path, f"filename\tcm-score\nE_1\t0.5\n{row}\n"))

    def test_long_lists_are_cut_but_counted(self, tmp_path: Path) -> None:
        rows = "".join(f"E_{i} x\n" for i in range(1000))
        with pytest.raises(ScoreFileError) as caught:
            read_scores(_file(tmp_path, "E 1\n" + rows))
        assert "1,000 problem(s)" in str(caught.value)
        assert "and 980 more" in str(caught.value)
        assert len(str(caught.value).splitlines()) == 22

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"", "empty"),
            (b"\xef\xbb\xbf\r\n \r\n", "empty"),
            (b"filename\tcm-score\n", "a header but no scores"),
            (b"\xff\xfe\x00\x01", "not UTF-8"),
            (b"\n\npath;prob\n", "line 3: 'path;prob' begins no known form"),
            (b"E_1 spoof\n", "begins no known form"),
            (b"E_1 A07 0.5\n", "begins no known form"),
            (b"name,score\nE_1,0.5\n", "begins no known form"),
            (b'filename,score\n"E_1,0.5\nE_2,1\n', r"line 2: 1 column\(s\), expected 2"),
            (b"filename,score\n" + b"x" * 140_000 + b",1\n", "line 2: 1 column"),
        ],
    )
    def test_unusable_files(self, tmp_path: Path, content: bytes, message: str) -> None:
        path = _file(tmp_path, content)
        with pytest.raises(ScoreFileError, match=message) as caught:
            read_scores(path)
        assert str(path) in str(caught.value)

    def test_missing_file_and_folder(self, tmp_path: Path) -> None:
        with pytest.raises(ScoreFileError, match="no such file"):
            read_scores(tmp_path / "absent.tsv")
        with pytest.raises(ScoreFileError, match="cannot be read"):
            read_scores(tmp_path)


class TestWriting:
    @pytest.mark.parametrize(
        ("names", "values", "message"),
        [
            (["a", "b"], [1.0], "expected one each"),
            (["a", "a"], [1.0, 2.0], "1 utterance ids occur more than once"),
            (["a", "b\tc"], [1.0, 2.0], r"'b\\tc'"),
            (["a", " b"], [1.0, 2.0], "white space"),
            (["a", ""], [1.0, 2.0], "empty"),
            (["a", "b"], [1.0, np.nan], "1 of 2 scores are NaN or infinite"),
            (["a", "\udcff"], [1.0, 2.0], "cannot be written as UTF-8"),
        ],
    )
    def test_unwritable_content_leaves_the_old_file(
        self, tmp_path: Path, names: list[str], values: list[float], message: str
    ) -> None:
        path = _file(tmp_path, "old")
        with pytest.raises(UsageError, match=message):
            write_scores(path, names, values)
        assert path.read_text() == "old"
        assert list(tmp_path.iterdir()) == [path]

    def test_a_folder_that_does_not_exist(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="there is no folder"):
            write_scores(tmp_path / "no" / "s.tsv", ["a"], [1.0])

    def test_an_interrupted_write_leaves_the_old_file(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = _file(tmp_path, "old")

        def fail(*_: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(Path, "replace", fail)
        with pytest.raises(KeyboardInterrupt):
            write_scores(path, ["a"], [1.0])
        assert path.read_text() == "old"
        assert list(tmp_path.iterdir()) == [path]


def test_scores_hold_str_objects(tmp_path: Path) -> None:
    scores = read_scores(_file(tmp_path, "E_1 0.5\n"))
    assert isinstance(scores, Scores)
    assert isinstance(scores.utterance_id[0], str)
    assert scores.utterance_id.dtype == object
