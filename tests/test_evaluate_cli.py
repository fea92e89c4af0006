"""``voxfide evaluate`` with several systems, pairs of columns, named columns and protocols."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from voxfide.cli.main import app
from voxfide.errors import ScoreFileError, UsageError, VoxfideError
from voxfide.metrics import METRICS
from voxfide.scores import write_scores


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key of 300 trials, a good and a poor system that share most of their errors."""
    root = tmp_path_factory.mktemp("evaluate")
    rng = np.random.default_rng(3)
    bonafide = np.arange(300) % 3 == 0
    ids = [f"E_{i}" for i in range(300)]
    attack = np.where(bonafide, "bonafide", rng.choice(["A07", "A08"], 300))
    codec, subset = rng.choice(["none", "alaw"], 300), rng.choice(["eval", "progress"], 300)
    lines = ["utterance_id,path,label,attack,codec,speaker,subset"]
    for i, name in enumerate(ids):
        label = "bonafide" if bonafide[i] else "spoof"
        lines.append(f"{name},{name}.flac,{label},{attack[i]},{codec[i]},S{i % 20},{subset[i]}")
    (root / "key.csv").write_text("\n".join(lines) + "\n")
    shared = rng.normal(size=300) + 1.5 * bonafide
    write_scores(root / "good.tsv", ids, shared + bonafide)
    write_scores(root / "poor.tsv", ids, shared + 0.2 * rng.normal(size=300))
    write_scores(root / "part.tsv", ids[:-2], shared[:-2])
    named = "".join(f"{n},{s},{-s}\n" for n, s in zip(ids, shared, strict=True))
    (root / "named.csv").write_text("clip,llr,score\n" + named)
    kinds = rng.choice(["target", "nontarget", "spoof"], 400)
    asv = zip(np.where(kinds == "spoof", rng.choice(["A07", "A08"], 400), "-"), kinds, strict=True)
    shift = {"target": 2.0, "nontarget": -2.0, "spoof": 1.0}
    (root / "asv.txt").write_text("".join(f"{a} {k} {shift[k] + rng.normal():.4f}\n" for a, k in asv))
    return root


def run(folder: Path, *arguments: object) -> str:
    done = CliRunner().invoke(app, ["evaluate", *map(str, arguments), "--key", str(folder / "key.csv")])
    if isinstance(done.exception, VoxfideError):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.stdout


def test_several_systems_as_json(folder: Path) -> None:
    files = [folder / "good.tsv", folder / "poor.tsv"]
    found = json.loads(run(folder, *files, "--json", "--bootstrap", 60, "--by", "attack,codec"))
    assert list(found) == ["systems", "comparisons"]
    good, poor = found["systems"]
    assert (good["name"], poor["name"]) == ("good", "poor")
    alone = json.loads(run(folder, files[0], "--json", "--bootstrap", 60, "--by", "attack,codec"))
    assert {k: v for k, v in good.items() if k != "name"} == alone
    assert {tuple(g["values"]) for g in good["by"]["attack,codec"]} == {
        (a, c) for a in ("A07", "A08") for c in ("none", "alaw")
    }
    (comparison,) = found["comparisons"]
    assert (comparison["a"], comparison["b"]) == ("poor", "good")
    assert list(comparison["differences"]) == METRICS.names()
    assert comparison["differences"]["auc"]["difference"] == pytest.approx(poor["auc"] - good["auc"])


def test_several_systems_as_text(folder: Path) -> None:
    files = [folder / "poor.tsv", folder / "good.tsv"]
    text = run(folder, *files, "--bootstrap", 200, "--by", "attack", "--clusters", "speaker")
    assert "poor: EER %" in text
    assert "good makes fewer errors than poor" in text
    assert text.index("A07") > text.index("system")


def test_against_the_best(folder: Path) -> None:
    files = [folder / "poor.tsv", folder / "good.tsv"]
    found = json.loads(run(folder, *files, "--json", "--bootstrap", 0, "--against", "best"))
    assert [(c["a"], c["b"]) for c in found["comparisons"]] == [("poor", "good")]
    with pytest.raises(UsageError, match="expected one of first, best, all"):
        run(folder, *files, "--against", "worst", "--bootstrap", 0)


def test_report_of_several_systems(folder: Path, tmp_path: Path) -> None:
    files = [folder / "poor.tsv", folder / "good.tsv"]
    run(folder, *files, "--bootstrap", 30, "--by", "attack,codec", "--no-players", "-o", tmp_path)
    names = {p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file()}
    assert names >= {
        "report.html", "metrics.json", "systems.csv", "comparisons.csv", "by_attack_codec.csv", "det.pdf",
        "good/report.html", "poor/report.html", "good/metrics.json",
    }  # fmt: skip
    page = (tmp_path / "report.html").read_text()
    assert "good makes fewer errors than poor" in page
    assert (tmp_path / "systems.csv").read_text().startswith("system,eer_percent,eer_percent_low")


def test_systems_of_different_trials(folder: Path) -> None:
    with pytest.raises(ScoreFileError, match=r"part lacks 2 trial\(s\) that others scored: E_298, E_299"):
        run(folder, folder / "good.tsv", folder / "part.tsv", "--bootstrap", 0)
    with pytest.raises(UsageError, match="a score file is given twice"):
        run(folder, folder / "good.tsv", folder / "good.tsv", "--bootstrap", 0)


def test_named_columns(folder: Path) -> None:
    options = ["--id-column", "clip", "--bootstrap", 0, "--json"]
    by_name = json.loads(run(folder, folder / "named.csv", "--score-column", "llr", *options))
    default = json.loads(run(folder, folder / "named.csv", *options))
    assert by_name["auc"] == pytest.approx(1 - default["auc"])


def test_protocol_2021(folder: Path) -> None:
    text = run(
        folder, folder / "good.tsv", "--protocol", "asvspoof2021la", "--asv-scores", folder / "asv.txt"
    )
    assert text.startswith("\n===============\nTable for min tDCFs\n===============\n\n")
    assert "Table for EERs" in text
    options = ["--protocol", "asvspoof2021la", "--subset", "progress", "--json"]
    found = json.loads(run(folder, folder / "good.tsv", *options))
    assert found["subset"] == "progress"
    assert found["tables"]["eer_percent"]["columns"][-1] == "Pooled"


def test_protocol_of_several_systems(folder: Path) -> None:
    files = [folder / "poor.tsv", folder / "good.tsv"]
    text = run(folder, *files, "--protocol", "asvspoof5")
    assert text.startswith("== poor\n# Track 1 Result: \n\n-eval_mindcf: ")
    found = json.loads(run(folder, *files, "--protocol", "asvspoof2019la", "--json"))
    assert [s["name"] for s in found["systems"]] == ["poor", "good"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--protocol", "asvspoof5", "--by", "attack"], "goes without --by"),
        (["--subset", "eval"], "go with --protocol"),
        (["--protocol", "asvspoof9"], "unknown protocol 'asvspoof9'"),
        (["--by", "attack,vocoder"], "no column 'vocoder'"),
    ],
)
def test_unusable_options(folder: Path, options: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        run(folder, folder / "good.tsv", *options)
