"""Submissions to the ASVspoof 5 evaluation page: complete, in order, the same bytes; or nothing."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from command_line import run_here
from voxfide.errors import ScoreFileError, UsageError
from voxfide.evaluation.submission import complete_scores, write_submission
from voxfide.scores import Scores, read_scores, write_scores

TRIALS = [f"E_{i:010d}" for i in range(40)]


def scores_of(ids: list[str], source: str = "s.tsv") -> Scores:
    values = np.random.default_rng(0).normal(size=len(ids)) * 10.0 ** np.arange(len(ids) // -2, len(ids) // 2)
    return Scores(np.array(ids, dtype=object), values, source=source)


def protocol(folder: Path, columns: int = 10) -> Path:
    """An official file: ten columns with labels, or the bare list of the challenge."""
    lines = [f"E_1 {i} F C01 1 - AC1 A17 spoof -" if columns == 10 else i for i in TRIALS]
    path = folder / "ASVspoof5.eval.track_1.tsv"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_the_zip_holds_score_tsv_in_the_order_of_the_trials(tmp_path):
    mixed = scores_of(TRIALS[::-1])
    write_submission(tmp_path / "s.zip", mixed, TRIALS)
    with zipfile.ZipFile(tmp_path / "s.zip") as file:
        assert file.testzip() is None
        assert file.namelist() == ["score.tsv"]
        table = pd.read_csv(io.BytesIO(file.read("score.tsv")), sep="\t")
    assert list(table.columns) == ["filename", "cm-score"]
    assert table["filename"].tolist() == TRIALS
    assert table["cm-score"].tolist() == mixed.score[::-1].tolist()


def test_the_same_scores_give_the_same_bytes_at_any_time(tmp_path, monkeypatch):
    write_submission(tmp_path / "1.zip", scores_of(TRIALS), TRIALS)
    monkeypatch.setattr("time.time", lambda: 2e9)
    monkeypatch.setattr("time.localtime", lambda *_: (2033, 5, 18, 3, 33, 20, 2, 138, 0))
    write_submission(tmp_path / "2.zip", scores_of(TRIALS), TRIALS)
    assert (tmp_path / "1.zip").read_bytes() == (tmp_path / "2.zip").read_bytes()


def test_every_problem_is_named_and_nothing_is_written(tmp_path):
    ids = [*TRIALS[:-8], "other", TRIALS[3]]
    scores = scores_of(ids)
    scores.score[5] = np.nan
    with pytest.raises(ScoreFileError) as raised:
        write_submission(tmp_path / "s.zip", scores, TRIALS)
    text = str(raised.value)
    assert "s.tsv: no complete submission of 40 trials: 4 problem(s)" in text
    assert f"8 trial(s) ({', '.join(map(repr, TRIALS[-8:-3]))}, …) have no score" in text
    assert f"1 trial(s) ('{TRIALS[3]}') are scored more than once" in text
    assert f"1 trial(s) ('{TRIALS[5]}') are scored NaN or infinite" in text
    assert "1 trial(s) ('other') are scored but not in the trial list" in text
    assert list(tmp_path.iterdir()) == []


def test_trial_lists_and_names_that_cannot_be(tmp_path):
    with pytest.raises(UsageError, match="repeats 1 trial"):
        complete_scores(scores_of(TRIALS), [*TRIALS, TRIALS[0]])
    with pytest.raises(UsageError, match="is empty"):
        complete_scores(scores_of(TRIALS), [])
    with pytest.raises(UsageError, match="ends in .zip"):
        write_submission(tmp_path / "score.tsv", scores_of(TRIALS), TRIALS)


@pytest.mark.parametrize("columns", [1, 10])
def test_the_command_takes_an_official_list(tmp_path, monkeypatch, capsys, columns):
    write_scores(tmp_path / "s.tsv", TRIALS[::-1], scores_of(TRIALS).score)
    submit = ["submit", tmp_path / "s.tsv", "-o", tmp_path / "s.zip"]
    assert run_here(monkeypatch, *submit, "--protocol", protocol(tmp_path, columns)) == 0
    assert "40 scores, one for every trial" in capsys.readouterr().out
    with zipfile.ZipFile(tmp_path / "s.zip") as file:
        (tmp_path / "score.tsv").write_bytes(file.read("score.tsv"))
    assert read_scores(tmp_path / "score.tsv").utterance_id.tolist() == TRIALS


def test_the_command_takes_a_manifest_and_says_what_is_missing(tmp_path, monkeypatch, capsys):
    rows = [f"{i},{i}.flac,unknown,{'eval' if n < 30 else 'progress'}" for n, i in enumerate(TRIALS)]
    (tmp_path / "m.csv").write_text("utterance_id,path,label,split\n" + "\n".join(rows) + "\n")
    write_scores(tmp_path / "s.tsv", TRIALS[:30], scores_of(TRIALS[:30]).score)
    submit = ["submit", tmp_path / "s.tsv", "-o", tmp_path / "s.zip", "--manifest", tmp_path / "m.csv"]
    assert run_here(monkeypatch, *submit) == 2
    assert f"10 trial(s) ('{TRIALS[30]}'" in capsys.readouterr().err
    assert not (tmp_path / "s.zip").exists()
    assert run_here(monkeypatch, *submit, "--split", "eval") == 0
    assert (tmp_path / "s.zip").exists()
    capsys.readouterr()
    assert run_here(monkeypatch, *submit, "--protocol", tmp_path / "m.csv") == 2
    assert "either --manifest" in capsys.readouterr().err
    assert run_here(monkeypatch, *submit[:4], "--protocol", tmp_path / "none.tsv") == 2
    assert "none.tsv" in capsys.readouterr().err
