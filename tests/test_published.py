"""The papers' numbers as shipped: complete, in range, consistent, and equal to their source."""

from __future__ import annotations

import csv
from collections import defaultdict
from importlib.resources import files
from statistics import fmean

import pytest

from conftest import SHARED, needs_shared
from voxfide.studies.published import (
    EVAL_SETS,
    FRONTENDS,
    TRAIN_SETS,
    TRAINED_ON,
    fine_tuned,
    fusions,
    layerwise_averages,
    layerwise_eers,
    layerwise_weights,
    published_eval_set,
    published_family,
    published_train_set,
    representations,
)

SEEDS = {1, 42, 1234, None}
DEPTHS = {"small": {2, 4, 6, 12}, "large": {4, 6, 8, 10, 12, 24}}


def test_every_head_seed_and_evaluation_set_is_there_once():
    eers = layerwise_eers()
    assert len(eers) == len({(e.key, e.seed) for e in eers}) == 4 * (24 + 36) * 10
    assert {e.seed for e in eers} == SEEDS
    assert {e.key.eval_set for e in eers} == set(EVAL_SETS) == set(TRAINED_ON)
    assert {e.key.frontend for e in eers} == set(FRONTENDS.values())
    assert {e.key.backend for e in eers} == {"ffn", "aasist"}
    for size, depths in DEPTHS.items():
        assert {e.key.n_layers for e in eers if e.key.size == size} == depths
    assert all(0 < e.eer_percent < 80 for e in eers)


def test_averages_are_means_of_the_ten_sets():
    by_row = defaultdict(list)
    for e in layerwise_eers():
        by_row[e.key[:4], e.seed].append(e.eer_percent)
    gaps = [abs(a.eer_percent - fmean(by_row[a.key[:4], a.seed])) for a in layerwise_averages()]
    print(f"largest gap of AVG: {max(gaps):.4f}")
    assert len(gaps) == 240
    assert max(gaps) < 0.01


def test_printed_means_are_means_of_the_three_seeds():
    by_key = defaultdict(list)
    for e in layerwise_eers():
        if e.seed is not None:
            by_key[e.key].append(e.eer_percent)
    printed = {e.key: e.eer_percent for e in layerwise_eers() if e.seed is None}
    assert printed.keys() == by_key.keys()
    gaps = [abs(printed[key] - fmean(values)) for key, values in by_key.items()]
    print(f"largest gap of the mean over seeds: {max(gaps):.4f}")
    assert max(gaps) < 0.006


def test_layer_weights_are_scaled_from_zero_to_one():
    weights = layerwise_weights()
    assert len(weights) == len({(w.train_set, w.size, w.frontend, w.backend) for w in weights}) == 84
    assert {w.train_set for w in weights} == set(TRAIN_SETS.values()) == set(TRAINED_ON.values())
    for w in weights:
        assert len(w.weights) == {"small": 12, "large": 24}[w.size]
        assert min(w.weights) == 0
        assert max(w.weights) == 1


def test_tables_of_the_ensemble_study():
    assert [r.eer_dev for r in representations()] == sorted(
        (r.eer_dev for r in representations()), reverse=True
    )
    assert len(representations()) == 12
    assert {r.model for r in representations() if not r.open_condition} == {
        "wavLM-large",
        "wav2vec2-xls-r-2b",
    }
    assert len(fine_tuned()) == 6
    assert len(fusions()) == 6
    best = fusions()[-1]
    assert best.members == ("pretrained", "medium-27k", "augm-31k", "augm-114k")
    assert (best.eer_progress, best.eer_eval) == (6.56, 17.08)
    # One model appears in tables 1, 2 and 3.
    assert {r.model.lower(): r.eer_dev for r in representations()}["wavlm-base"] == fine_tuned()[0].eer_dev
    alone = next(f for f in fusions() if f.members == ("augm-114k",))
    assert alone.eer_dev == next(f for f in fine_tuned() if f.training_set == "augm-114k").eer_dev


def test_each_file_names_its_source():
    folder = files("voxfide.studies.published")
    names = sorted(f.name for f in folder.iterdir() if f.name.endswith(".csv"))
    assert len(names) == 5
    for name in names:
        comment = "".join(
            line for line in folder.joinpath(name).read_text(encoding="utf-8").splitlines() if line[:1] == "#"
        )
        assert "2502.03559" in comment or "ASVspoof 5 Workshop 2024" in comment
        assert name.startswith("combei") or "495843f3dd2e7fe16ea6b0af2e8ddfedd4053934" in comment


@needs_shared("golden/elkheir2025_results")
def test_layerwise_numbers_equal_the_source():
    folder = SHARED / "golden/elkheir2025_results"
    shipped = {(e.key, e.seed): e.eer_percent for e in (*layerwise_eers(), *layerwise_averages())}
    n = 0
    with (folder / "eer.csv").open() as file:
        for row in csv.DictReader(file):
            seed = None if row["seed"] == "avg" else int(row["seed"])
            key = (
                row["size"],
                FRONTENDS[row["ssl"]],
                row["backend"].lower(),
                int(row["n_layers"]),
                row["dataset"],
            )
            assert shipped[key, seed] == float(row["eer_percent"])
            n += 1
    assert n == len(shipped) == 2640
    weights = {(w.train_set, w.size, w.frontend, w.backend): w.weights for w in layerwise_weights()}
    with (folder / "layer_weights.csv").open() as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        key = (TRAIN_SETS[row["train_dataset"]], row["size"], FRONTENDS[row["ssl"]], row["backend"].lower())
        assert weights[key][int(row["layer"]) - 1] == pytest.approx(float(row["weight"]), abs=5e-7)
    assert len(rows) == sum(map(len, weights.values()))


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("wav2vec2", "wav2vec2"),
        ("facebook/wav2vec2-xls-r-300m", "wav2vec2"),
        ("hubert-large-ll60k", "hubert"),
        ("microsoft/wavlm-base-plus", "wavlm"),
        ("distilhubert", None),
        ("lfcc", None),
    ],
)
def test_front_end_families(name, family):
    assert published_family(name) == family


def test_names_of_sets_whatever_their_spelling():
    assert published_eval_set("la19") == published_eval_set("asvspoof2019la") == "LA19"
    assert published_eval_set("ADD23-1") == "ADD23.1"
    assert published_eval_set("inthewild") is None
    assert published_train_set("asvspoof2019la") == "LA19"
    assert published_train_set("partialspoof") == "PartialSpoof"
    assert published_train_set("asvspoof5") is None
    for name in EVAL_SETS:
        assert published_eval_set(name.lower()) == name
