"""Mixes: recipes, where corpora are found, and what is drawn, on corpora in miniature."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import corpora_miniatures
from command_line import run_here
from conftest import GOLDEN, needs_shared
from voxfide.augment import parse
from voxfide.corpora import prepare
from voxfide.corpora.drawing import draw_mix
from voxfide.corpora.mixes import Mix, MixPart, mix_names, read_mix
from voxfide.corpora.roots import find_root, root_variable, roots_file
from voxfide.errors import UnknownNameError, UsageError
from voxfide.manifest import Manifest

NAMES = ("asvspoof5", "asvspoof2019la", "asvspoof2021df", "inthewild", "for-norm")
SIZES = {"train": 150, "dev": 30, "eval": 30, "progress": 2, "hidden_track": 2}


@pytest.fixture(autouse=True)
def no_roots_of_the_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    for name in NAMES:
        monkeypatch.delenv(root_variable(name), raising=False)


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    base = tmp_path_factory.mktemp("corpora")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(corpora_miniatures, "SIZE", SIZES)
        return {name: corpora_miniatures.make(name, base / name).root for name in NAMES}


def labels(manifest: Manifest, **conditions: str) -> dict[str, int]:
    counts = manifest.filter(**conditions).counts()
    return {label: counts[label] for label in ("bonafide", "spoof")}


# Recipes.


@needs_shared("golden/combei2024_results")
def test_recipes_have_the_papers_counts_and_setting():
    published = json.loads((GOLDEN / "combei2024_results" / "data_mixes.json").read_text())
    corpora = {
        "ASV5": ("asvspoof5", "train"),
        "ASV19": ("asvspoof2019la", None),
        "ASV21": ("asvspoof2021df", "eval"),
        "ITW": ("inthewild", None),
        "FoR": ("for-norm", None),
    }
    for name, counts in published["mixes_samples"].items():
        mix = read_mix(name)
        expected = {(*corpora[short], count) for short, count in counts.items()}
        assert {(part.corpus, part.split, part.count) for part in mix.parts} == expected
        if name.startswith("augm"):
            assert mix.augmentation is not None
            assert mix.augmentation.augmentation == parse("noise:snr=25 | reverb")
            assert (mix.augmentation.label, mix.augmentation.corpora) == ("bonafide", ("asvspoof5",))
            assert mix.augmentation.fraction == published["augmentation"]["fraction_of_bonafide"]
        else:
            assert mix.augmentation is None
    assert read_mix("dev-27k").count == published["benchmark_subsets"]["dev"]


def test_scaled_counts_have_the_right_sum_and_are_off_by_less_than_one():
    for name in mix_names():
        mix = read_mix(name)
        for scale in ("0.001", "0.0021", "0.1", "0.3333", "2"):
            scaled = mix.scaled(scale)
            exact = [part.count * float(scale) for part in mix.parts]
            assert scaled.count == pytest.approx(sum(exact), abs=0.501)
            assert all(abs(p.count - e) < 1 for p, e in zip(scaled.parts, exact, strict=True))
    assert [p.count for p in read_mix("augm-31k").scaled("0.001").parts] == [13, 6, 9, 1, 2]
    for wrong in ("0", "-1", "many", "nan", "1/0"):
        with pytest.raises(UsageError, match="positive number"):
            mix.scaled(wrong)
    with pytest.raises(UsageError, match="nothing left of .*for-norm"):
        read_mix("augm-114k").scaled("0.0001")


@pytest.mark.parametrize(
    ("text", "messages"),
    [
        ("parts: []", ["expected a list of"]),
        ("- 1", ["expected a recipe with parts"]),
        ("parts: [", ["not readable as YAML"]),
        (
            "colour: red\nrole: 3\nparts: [{corpus: asvspoof6, count: 3}, {corpus: itw, count: 0}, 5,"
            " {corpus: itw, count: 1, split: [a]}]\naugmentation: {augmentation: noize}",
            [
                "7 problem", "unknown entry 'colour'", "role: 3", "did you mean 'asvspoof5'", "count 0",
                "part 3: 5", "split \\['a'\\]", "did you mean 'noise'",
            ],
        ),
        ("parts: [{corpus: itw, count: 1}, {corpus: inthewild, count: 1, split: x}]", ["is in two parts"]),
    ],
)  # fmt: skip
def test_recipes_that_are_wrong_say_everything(tmp_path: Path, text: str, messages: list[str]):
    (tmp_path / "m.yaml").write_text(text)
    for message in messages:
        with pytest.raises(UsageError, match=message):
            read_mix(tmp_path / "m.yaml")


def test_unknown_recipes_name_those_there_are():
    with pytest.raises(UnknownNameError, match="augm-114k, augm-31k, dev-27k, medium-27k"):
        read_mix("augm-32k")


# Where corpora are.


def test_a_root_is_what_was_given_or_the_environment_or_the_users_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    a, b, c = (tmp_path / name for name in "abc")
    for folder in (a, b, c):
        folder.mkdir()
    assert find_root("for-norm") is None
    roots_file().parent.mkdir(parents=True)
    roots_file().write_text(f"for: {c}\nitw: ../../a\n")
    assert find_root("for-norm") == c
    assert find_root("inthewild").resolve() == a, "relative to the file"
    monkeypatch.setenv("VOXFIDE_FOR_NORM_ROOT", str(b))
    assert find_root("FoR") == b
    assert find_root("for-norm", a) == a
    assert find_root("add2023-1.2") is None
    assert root_variable("add2023-1.2") == "VOXFIDE_ADD2023_1_2_ROOT"
    monkeypatch.setenv("VOXFIDE_FOR_NORM_ROOT", str(tmp_path / "none"))
    with pytest.raises(UsageError, match="named by VOXFIDE_FOR_NORM_ROOT"):
        find_root("for-norm")
    with pytest.raises(UnknownNameError):
        find_root("nothing")


def test_a_wrong_file_of_roots_says_everything(tmp_path: Path):
    roots_file().parent.mkdir(parents=True)
    roots_file().write_text("itwild: /data\nfor: 3\nitw: /a\ninthewild: /b\n")
    with pytest.raises(UsageError, match=r"(?s)3 problem.*did you mean 'inthewild'.*for: 3.*named twice"):
        find_root("for-norm")
    roots_file().write_text("[a")
    with pytest.raises(UsageError, match="not readable as YAML"):
        find_root("for-norm")
    roots_file().write_text("")
    assert find_root("for-norm") is None


# Drawing.


@pytest.mark.parametrize("name", mix_names())
def test_every_mix_end_to_end_in_miniature(
    name: str,
    roots: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    """From roots to a manifest, to augmented audio: counts, class ratios, who is augmented."""
    recipe = read_mix(name).scaled("0.001")
    out = tmp_path / "mix.parquet"
    for corpus in {part.corpus for part in recipe.parts}:
        monkeypatch.setenv(root_variable(corpus), str(roots[corpus]))
    assert run_here(monkeypatch, "mix", name, "-o", out, "--scale", "0.001", "--seed", "3") == 0
    made = Manifest.read(out).require_valid(check_files=True)
    assert len(made) == recipe.count
    assert set(made.strings("split")) == {recipe.role}
    for part in recipe.parts:
        source = prepare(part.corpus, roots[part.corpus], part.split)
        drawn = made.filter(corpus=part.corpus) if len(recipe.parts) > 1 else made
        share = source.counts()["bonafide"] / len(source)
        assert len(drawn) == part.count
        assert abs(drawn.counts()["bonafide"] - share * part.count) < 1
        if part.split:
            assert set(drawn.strings("original_split")) == {part.split}
    facts = json.loads((tmp_path / "mix.parquet.mix.json").read_text())
    assert facts["mix"]["name"] == name
    assert sum(sum(p["drawn"].values()) for p in facts["parts"]) == recipe.count
    if recipe.augmentation is None:
        assert "augment" not in made.columns
        return
    planned = made.strings("augment") != ""
    assert set(made.strings("label")[planned]) <= {"bonafide"}
    assert set(made.strings("corpus")[planned]) <= {"asvspoof5"}
    assert facts["n_to_be_augmented"] == planned.sum()
    assert run_here(monkeypatch, "augment", out, "-o", tmp_path / "a", "--seed", "3", "--workers", "0") == 0
    augmented = Manifest.read(tmp_path / "a" / "manifest.parquet").require_valid(check_files=True)
    assert augmented.column("utterance_id") == made.column("utterance_id")
    assert np.array_equal(augmented.strings("augmentation") != "", planned)
    assert set(augmented.strings("augmentation")[planned]) <= {"noise", "reverb"}


def test_half_of_the_bona_fide_speech_of_asvspoof5_is_planned(roots: dict[str, Path]):
    recipe = read_mix("augm-114k").scaled("0.0014")
    counts = [draw_mix(recipe, roots=roots, seed=s) for s in range(12)]
    bonafide = sum(labels(d.manifest, corpus="asvspoof5")["bonafide"] for d in counts)
    assert sum(d.n_planned for d in counts) / bonafide == pytest.approx(0.5, abs=0.06)


def test_a_seed_decides_and_smaller_mixes_are_parts_of_larger_ones(roots: dict[str, Path]):
    def ids(scale: str, seed: int) -> set[str]:
        return set(
            draw_mix(read_mix("augm-31k").scaled(scale), roots=roots, seed=seed).manifest.column(
                "utterance_id"
            )
        )

    assert ids("0.001", 1) == ids("0.001", 1)
    assert ids("0.001", 1) != ids("0.001", 2)
    assert ids("0.001", 1) < ids("0.002", 1)


def test_manifests_serve_as_well_as_roots(roots: dict[str, Path], tmp_path: Path):
    recipe = read_mix("medium-27k").scaled("0.001")
    by_root = draw_mix(recipe, roots={"asvspoof-5": roots["asvspoof5"]})
    prepared = prepare("asvspoof5", roots["asvspoof5"])
    by_manifest = draw_mix(
        recipe, manifests={"asvspoof5": Manifest.read(prepared.write(tmp_path / "a5.csv"))}
    )
    assert by_root.manifest.column("utterance_id") == by_manifest.manifest.column("utterance_id")
    assert by_root.manifest.audio_paths() == by_manifest.manifest.audio_paths()


def test_several_splits_of_one_corpus(roots: dict[str, Path]):
    recipe = Mix("both", (MixPart("asvspoof5", 20, "train"), MixPart("asvspoof5", 10, "dev")), role="dev")
    made = draw_mix(recipe, roots={"asvspoof5": roots["asvspoof5"]}).manifest
    assert labels(made, original_split="train") == {"bonafide": 7, "spoof": 13}
    assert sum(labels(made, original_split="dev").values()) == 10
    assert set(made.strings("split")) == {"dev"}


def test_rows_without_a_label_are_never_drawn(tmp_path: Path):
    rows = {"utterance_id": list("abcd"), "path": [f"{i}.wav" for i in "abcd"]}
    manifest = Manifest.from_columns(rows | {"label": ["bonafide", "unknown", "spoof", "spoof"]}, tmp_path)
    made = draw_mix(Mix("m", (MixPart("inthewild", 3),)), manifests={"itw": manifest}).manifest
    assert made.column("utterance_id") == ["a", "c", "d"]
    with pytest.raises(UsageError, match="4 utterances asked for, 3 are there"):
        draw_mix(Mix("m", (MixPart("inthewild", 4),)), manifests={"itw": manifest})


def test_everything_that_is_missing_is_said_at_once(
    roots: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    (tmp_path / "empty").mkdir()
    out = tmp_path / "mix.csv"
    assert (
        run_here(
            monkeypatch, "mix", "augm-31k", "-o", out, "--root", f"asvspoof5={roots['asvspoof5']}",
            "--root", f"asvspoof2019la={tmp_path / 'empty'}", "--root", f"habla={tmp_path}",
            "--root", f"inthewild={tmp_path / 'nowhere'}",
        )
        == 2
    )  # fmt: skip
    said = capsys.readouterr().err
    for expected in (
        "6 problem(s)",
        "habla: given, but no part of this mix",
        "asvspoof5 train: 13,000 utterances asked for, 150 are there",
        "asvspoof2019la: ",
        "asvspoof2021df: not found (expected --root asvspoof2021df=FOLDER, $VOXFIDE_ASVSPOOF2021DF_ROOT",
        "no such folder (corpus inthewild",
        "for-norm: not found",
    ):
        assert expected in said
    assert not list(tmp_path.glob("mix.csv*"))


def test_list_of_mixes(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    assert run_here(monkeypatch, "mixes") == 0
    assert "114,900" in capsys.readouterr().out
    assert run_here(monkeypatch, "mixes", "--json") == 0
    assert [m["name"] for m in json.loads(capsys.readouterr().out)] == mix_names()
