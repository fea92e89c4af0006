"""Official evaluations: tables against figures computed cell by cell, layout, subsets, ASV scores."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from voxfide.errors import ScoreFileError, UsageError
from voxfide.evaluation import Key
from voxfide.evaluation.asv_scores import AsvTrials, read_asv_scores
from voxfide.evaluation.grid import ProtocolTable
from voxfide.evaluation.protocols import PROTOCOLS, run_protocol
from voxfide.metrics import ASVSPOOF5_ASV, act_dcf, cllr, eer, min_dcf, min_tdcf
from voxfide.scores import Scores

ATTACKS = ["A07", "A08", "A19"]
CODECS_LA = ["none", "alaw", "pstn", "g722", "ulaw", "gsm", "opus"]
VOCODERS = [
    "traditional_vocoder", "waveform_concatenation", "neural_vocoder_autoregressive",
    "neural_vocoder_nonautoregressive", "unknown",
]  # fmt: skip


def _objects(values: object) -> np.ndarray:
    return np.array(values, dtype=object)


def _corpus(seed: int = 0, n: int = 2400) -> tuple[Scores, Key]:
    """Trials of every attack, codec, vocoder and subset; some without a label."""
    rng = np.random.default_rng(seed)
    label = _objects(rng.choice(["bonafide", "spoof", "spoof"], n))
    is_spoof = label == "spoof"
    columns = {
        "attack": np.where(is_spoof, rng.choice(ATTACKS, n), "bonafide").astype(object),
        "codec": _objects(rng.choice(["none", "alaw", "opus"], n)),
        "vocoder": np.where(is_spoof, rng.choice(VOCODERS, n), "bonafide").astype(object),
        "subset": _objects(rng.choice(["progress", "eval", "hidden_track"], n)),
    }
    score = rng.normal(size=n) + np.where(is_spoof, -1.0, 1.0)
    ids = _objects([f"LA_E_{i}" for i in range(n)])
    return Scores(ids, score, source="s.txt"), Key(ids, label, columns)


def _asv(seed: int = 1, n: int = 3000) -> AsvTrials:
    rng = np.random.default_rng(seed)
    kind = _objects(rng.choice(["target", "nontarget", "spoof"], n))
    columns = {
        "attack": np.where(kind == "spoof", rng.choice(ATTACKS, n), "bonafide").astype(object),
        "codec": _objects(rng.choice(["none", "alaw", "opus"], n)),
        "subset": _objects(rng.choice(["progress", "eval"], n)),
    }
    shift = np.select([kind == "target", kind == "spoof"], [2.5, 1.0], -2.5)
    return AsvTrials(rng.normal(size=n) + shift, kind, columns)


def _cell(scores: Scores, key: Key, subset: str, **conditions: str) -> tuple[np.ndarray, np.ndarray]:
    """Scores and classes of one cell: attack and vocoder restrict spoofs, everything else both."""
    bonafide = key.label == "bonafide"
    rows = key.columns["subset"] == subset if subset else np.ones(len(bonafide), dtype=bool)
    for column, value in conditions.items():
        members = key.columns[column] == value
        rows = rows & (members | bonafide if column in ("attack", "vocoder") else members)
    return scores.score[rows], bonafide[rows].astype(bool)


class TestAsvspoof2021:
    def test_la_tables(self) -> None:
        scores, key = _corpus()
        asv = _asv()
        result = run_protocol("asvspoof2021la", scores, key, asv=asv)
        assert [t.name for t in result.tables] == ["min_tdcf", "eer_percent"]
        tdcf, eers = result.tables
        assert eers.column_tags == ("C1", "C2", "C3", "C4", "C5", "C6", "C7", "Pooled")
        assert eers.row_tags == (*(f"A{i:02d}" for i in range(7, 20)), "Pooled")
        in_subset = asv.columns["subset"] == "eval"
        for i, attack in ((0, "A07"), (12, "A19"), (13, None)):
            for j, codec in ((0, "none"), (6, "opus"), (7, None)):
                wanted = {n: v for n, v in (("attack", attack), ("codec", codec)) if v}
                own, labels = _cell(scores, key, "eval", **wanted)
                assert eers.values[i, j] == pytest.approx(100 * eer(own, labels).value, abs=1e-12)
                chosen = in_subset.copy()
                if codec:
                    chosen &= asv.columns["codec"] == codec
                if attack:
                    chosen &= (asv.columns["attack"] == attack) | (asv.kind != "spoof")
                rates = asv.select(chosen).classes().rates_at_eer()
                expected = min_tdcf(own, labels, rates, "asvspoof2021").value
                assert tdcf.values[i, j] == pytest.approx(expected, abs=1e-12)
        assert np.isnan(eers.values[3, 0])  # A10 does not occur
        assert np.isnan(eers.values[0, 3])  # g722 does not occur
        assert result.figures["eer_percent"] == eers.values[-1, -1]
        assert result.subset == "eval"

    def test_df_table_by_vocoder_and_codec(self) -> None:
        scores, key = _corpus()
        codec = np.where(key.columns["codec"] == "none", "nocodec", "low_mp3").astype(object)
        key = replace(key, columns={**key.columns, "codec": codec})
        (table,) = run_protocol("asvspoof2021df", scores, key).tables
        assert table.row_tags == (
            "Traditional", "Wav.Concat.", "Neural AR", "Neural non-AR", "Unknown", "Pooled",
        )  # fmt: skip
        own, labels = _cell(scores, key, "eval", vocoder="neural_vocoder_autoregressive", codec="low_mp3")
        assert table.values[2, 1] == pytest.approx(100 * eer(own, labels).value, abs=1e-12)
        own, labels = _cell(scores, key, "eval", codec="nocodec")
        assert table.values[-1, 0] == pytest.approx(100 * eer(own, labels).value, abs=1e-12)

    @pytest.mark.parametrize(
        ("asked", "found"),
        [("progress", "progress"), ("hidden_track", "hidden_track"), ("hidden", "hidden_track")],
    )
    def test_subsets(self, asked: str, found: str) -> None:
        scores, key = _corpus()
        result = run_protocol("asvspoof2021la", scores, key, asked)
        own, labels = _cell(scores, key, found)
        assert result.subset == found
        assert result.figures["eer_percent"] == pytest.approx(100 * eer(own, labels).value, abs=1e-12)
        assert result.notes == ("no min t-DCF: it needs the organisers' ASV scores",)

    def test_a_key_without_subsets_is_evaluated_whole(self) -> None:
        scores, key = _corpus()
        columns = {n: v for n, v in key.columns.items() if n != "subset"}
        result = run_protocol("asvspoof2021la", scores, replace(key, columns=columns))
        own, labels = _cell(scores, key, "")
        assert result.figures["eer_percent"] == pytest.approx(100 * eer(own, labels).value, abs=1e-12)
        with pytest.raises(UsageError, match="no column 'subset'"):
            run_protocol("asvspoof2021la", scores, replace(key, columns=columns), "eval")

    def test_every_trial_of_the_subset_must_be_scored_others_need_not(self) -> None:
        scores, key = _corpus()
        in_eval = np.flatnonzero(key.columns["subset"] == "eval")
        part = Scores(scores.utterance_id[in_eval], scores.score[in_eval], source="s.txt")
        whole = run_protocol("asvspoof2021la", scores, key)
        assert run_protocol("asvspoof2021la", part, key).figures == whole.figures
        less = Scores(part.utterance_id[1:], part.score[1:], source="s.txt")
        with pytest.raises(
            ScoreFileError, match=rf"1 trial\(s\) of subset eval have no score: {part.utterance_id[0]}"
        ):
            run_protocol("asvspoof2021la", less, key)


class TestAsvspoof5:
    def test_track_1(self) -> None:
        scores, key = _corpus()
        result = run_protocol("asvspoof5", scores, key)
        own, labels = _cell(scores, key, "")
        dcf, rate, bits = min_dcf(own, labels).value, 100 * eer(own, labels).value, cllr(own, labels)
        assert result.lines == (
            f"# Track 1 Result: \n\n-eval_mindcf: {dcf:.5f}\n-eval_eer (%): {rate:.3f}\n"
            f"-eval_cllr (bits): {bits:.5f}\n-eval_actDCF: {act_dcf(own, labels).value:.5f}\n"
        )
        table = {t.name: t for t in result.tables}["cllr"]
        assert table.row_tags == ("pooled", *ATTACKS)
        assert table.column_tags == ("pooled", "alaw", "none", "opus")
        own_cell, labels_cell = _cell(scores, key, "", attack="A08", codec="opus")
        assert table.values[2, 3] == pytest.approx(cllr(own_cell, labels_cell), abs=1e-12)
        assert table.values[0, 0] == pytest.approx(bits, abs=1e-12)
        assert result.figures["min_tdcf"] == min_tdcf(own, labels, ASVSPOOF5_ASV).value
        asv = _asv()
        with_asv = run_protocol("asvspoof5", scores, key, asv=asv).figures["min_tdcf"]
        assert with_asv == min_tdcf(own, labels, asv.classes().rates_at_eer()).value

    def test_a_key_of_the_challenge_time_has_no_codecs(self) -> None:
        scores, key = _corpus()
        result = run_protocol("asvspoof5", scores, replace(key, columns={}))
        assert result.tables == ()
        assert "no columns attack and codec" in result.to_text()


class TestAsvspoof2019:
    def test_breakdown_by_attack(self) -> None:
        scores, key = _corpus()
        asv = replace(_asv(), columns={"attack": _asv().columns["attack"]})
        result = run_protocol("asvspoof2019la", scores, key, asv=asv)
        (table,) = result.tables
        assert table.row_tags == (*ATTACKS, "Pooled")
        assert table.column_tags == ("EER (%)", "min-tDCF", "min-tDCF (legacy)")
        for i, attack in ((1, "A08"), (3, None)):
            own, labels = _cell(scores, key, "", **({"attack": attack} if attack else {}))
            chosen = (asv.columns["attack"] == attack) | (asv.kind != "spoof") | (attack is None)
            rates = asv.select(np.asarray(chosen, dtype=bool)).classes().rates_at_eer()
            expected = [
                100 * eer(own, labels).value,
                min_tdcf(own, labels, rates, "asvspoof2021").value,
                min_tdcf(own, labels, rates, "asvspoof2019_legacy").value,
            ]
            assert table.values[i].tolist() == pytest.approx(expected, abs=1e-12)
        text = result.to_text()
        assert text.startswith("ASV SYSTEM\n   EER            = ")
        assert f"   min-tDCF       = {result.figures['min_tdcf_legacy']:8.5f} (legacy" in text
        assert f"   min-tDCF       = {result.figures['min_tdcf']:8.5f}\n" in text

    def test_without_asv_scores(self) -> None:
        result = run_protocol("asvspoof2019la", *_corpus())
        assert list(result.figures) == ["eer_percent"]
        assert "TANDEM" not in result.to_text()
        assert "no min t-DCF" in result.to_text()


def test_text_layout_is_that_of_the_packages() -> None:
    values = np.array([[1.5, np.nan], [12.25, 0.004]])
    table = ProtocolTable("x", "Table", ("A07", "Pooled"), ("C1", "Pooled"), values, "1.2f")
    assert table.to_text() == (
        "         C1   Pooled\n"
        " A07    1.50        \n"
        "Pooled 12.25   0.00 \n"
    )  # fmt: skip


@pytest.mark.parametrize("name", PROTOCOLS)
def test_json_of_every_protocol(name: str) -> None:
    scores, key = _corpus()
    report = json.loads(json.dumps(run_protocol(name, scores, key).to_json(), allow_nan=False))
    assert report["protocol"] == name
    assert report["n_bonafide"] + report["n_spoof"] > 0
    assert all(len(t["values"]) == len(t["rows"]) for t in report["tables"].values())
    assert report["figures"]["eer_percent"] > 0


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("asvspoof2020", {}, "unknown protocol 'asvspoof2020'"),
        ("asvspoof2021la", {"subset": "dev"}, "no row of the key is of subset 'dev'"),
        ("asvspoof5", {"subset": "eval"}, "has no subsets"),
        ("asvspoof2021df", {"asv": _asv()}, "uses no ASV scores"),
    ],
)
def test_unusable_requests(name: str, options: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        run_protocol(name, *_corpus(n=60), **options)


def test_a_key_without_the_columns_of_the_protocol() -> None:
    scores, key = _corpus(n=60)
    with pytest.raises(UsageError, match=r"needs column\(s\) attack, codec .*columns: none"):
        run_protocol("asvspoof2021la", scores, replace(key, columns={}))


class TestReadAsvScores:
    def test_2019(self, tmp_path: Path) -> None:
        path = tmp_path / "asv.txt"
        path.write_text("- target 1.5\n- nontarget -2\nA07 spoof 0.5\n")
        asv = read_asv_scores(path)
        assert asv.kind.tolist() == ["target", "nontarget", "spoof"]
        assert asv.columns["attack"].tolist() == ["-", "-", "A07"]
        assert asv.score.tolist() == [1.5, -2, 0.5]
        path.write_text("- a b c target 1.5\nA07 a b c spoof 0.5\n")
        assert read_asv_scores(path).kind.tolist() == ["target", "spoof"]

    def test_2021_finds_its_key(self, tmp_path: Path) -> None:
        folder = tmp_path / "ASV" / "ASVTorch_Kaldi"
        folder.mkdir(parents=True)
        (folder / "score.txt").write_text("LA_1 E_1 1.5\nLA_2 E_2 -0.5\n")
        with pytest.raises(ScoreFileError, match=r"need their key, trial_metadata.txt"):
            read_asv_scores(folder / "score.txt")
        lines = [
            "LA_1 E_1 alaw ita_tx bonafide target notrim eval",
            "LA_2 E_2 none - A07 spoof notrim progress",
        ]
        (tmp_path / "ASV" / "trial_metadata.txt").write_text("\n".join(lines))
        asv = read_asv_scores(folder / "score.txt")
        assert {n: v.tolist() for n, v in asv.columns.items()} == {
            "codec": ["alaw", "none"],
            "transmission": ["ita_tx", "-"],
            "attack": ["bonafide", "A07"],
            "subset": ["eval", "progress"],
        }
        assert asv.kind.tolist() == ["target", "spoof"]
        joined = tmp_path / "joined.txt"
        joined.write_text("".join(f"{line} {s}\n" for line, s in zip(lines, (1.5, -0.5), strict=True)))
        assert read_asv_scores(joined).score.tolist() == [1.5, -0.5]
        (tmp_path / "ASV" / "trial_metadata.txt").write_text("\n".join(reversed(lines)))
        with pytest.raises(ScoreFileError, match="line 1: trial 'E_1', the key has 'E_2'"):
            read_asv_scores(folder / "score.txt")

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ("", "the file is empty"),
            ("- target 1\n- target\n", r"line 2: 2 column\(s\), expected 3"),
            ("a b c d\n", "lines of 4 columns"),
            ("- target 1\n- impostor 2\n", "kinds other than target, nontarget, spoof: impostor"),
            ("- target x\n", "could not convert"),
        ],
    )
    def test_malformed(self, tmp_path: Path, content: str, message: str) -> None:
        path = tmp_path / "asv.txt"
        path.write_text(content)
        with pytest.raises(ScoreFileError, match=message):
            read_asv_scores(path)
