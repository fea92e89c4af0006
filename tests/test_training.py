"""Training: which rows are used, the threshold, and what is refused before anything is computed."""

from __future__ import annotations

import json

import numpy as np
import pytest

from command_line import run_here
from small_corpus import JUNK, replace_audio, write_corpus
from voxfide.backends import create_backend
from voxfide.embeddings import EmbeddingStore
from voxfide.errors import UsageError
from voxfide.extraction import Extractor
from voxfide.frontends import create_frontend
from voxfide.manifest import Manifest
from voxfide.metrics import METRICS, eer
from voxfide.scores import read_scores
from voxfide.training import TrainingSet, choose_sets, train
from voxfide.training.cross_validation import out_of_fold
from voxfide.training.pooled import Balance


@pytest.fixture(scope="module")
def lfcc():
    return create_frontend("lfcc")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return Manifest.read(write_corpus(tmp_path_factory.mktemp("corpus") / "c", 24))


def table(**columns: list[str]) -> Manifest:
    """A manifest without audio."""
    n = len(columns["label"])
    ids = {"utterance_id": [f"u{i}" for i in range(n)], "path": [f"{i}.wav" for i in range(n)]}
    return Manifest.from_columns({**ids, **columns}, "/nowhere", "m.csv")


def run(sets, frontend, store, *, pool="mean", **options):
    return train(
        sets,
        frontend,
        create_backend("logistic", **options),
        store=store,
        pool=pool,
        make_extractor=lambda: Extractor(frontend, pool, 0),
    )


def test_splits_are_chosen_by_name_and_unknown_labels_left_out():
    manifest = table(
        label=["bonafide", "spoof", "unknown", "spoof", "bonafide", "unknown", "spoof"],
        split=["train", "train", "train", "dev", "dev", "dev", "eval"],
    )
    train_set, dev_set = choose_sets(manifest, "train", "dev")
    assert train_set.manifest.column("utterance_id") == ["u0", "u1"]
    assert dev_set.manifest.column("utterance_id") == ["u3", "u4"]
    assert (train_set.name, dev_set.name) == ("train", "dev")


def test_without_a_split_column_all_rows_train(caplog):
    train_set, dev_set = choose_sets(table(label=["bonafide", "spoof", "spoof"]), "train", "dev")
    assert len(train_set.manifest) == 3
    assert dev_set is None
    assert "no split column" in caplog.text


def test_without_a_development_split_nothing_is_measured(caplog):
    manifest = table(label=["bonafide", "spoof"], split=["train", "train"])
    for dev in ("dev", None):
        train_set, dev_set = choose_sets(manifest, "train", dev)
        assert (len(train_set.manifest), dev_set) == (2, None)
    assert "not measured" in caplog.text


@pytest.mark.parametrize(
    ("labels", "splits", "names", "message"),
    [
        (["bonafide", "spoof"], ["a", "a"], ("train", "dev"), "no row has split = 'train' .values: a."),
        (["spoof", "spoof"], ["train", "train"], ("train", "dev"), "0 bona fide and 2 spoofed"),
        (["bonafide", "unknown"], ["train", "train"], ("train", "dev"), "1 bona fide and 0 spoofed"),
        (
            ["bonafide", "spoof", "spoof"],
            ["train", "train", "dev"],
            ("train", "dev"),
            "split dev: 0 bona fide",
        ),
        (["bonafide", "spoof"], ["train", "train"], ("train", "train"), "figures would flatter"),
    ],
)
def test_sets_that_cannot_be_used(labels, splits, names, message):
    with pytest.raises(UsageError, match=message):
        choose_sets(table(label=labels, split=splits), *names)


def test_what_cannot_work_is_refused_before_anything_is_computed(lfcc, corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(Extractor, "outcomes", lambda *a: pytest.fail("computed"))
    with pytest.raises(UsageError, match="takes mean or mean_std features, not 'none'"):
        run(choose_sets(corpus, "train", "dev"), lfcc, tmp_path / "s", pool="none")
    with pytest.raises(UsageError, match="split train: 4 bona fide and 0 spoofed"):
        run((TrainingSet.of("train", corpus.filter(label="bonafide"), "train"), None), lfcc, tmp_path / "s")
    assert not (tmp_path / "s").exists()


def test_the_detector_is_measured_on_the_development_set(lfcc, corpus, tmp_path):
    result = run(choose_sets(corpus, "train", "dev"), lfcc, tmp_path / "s")
    dev = corpus.split("dev")
    is_bonafide = dev.strings("label") == "bonafide"
    scores = result.detector.score_features(EmbeddingStore(tmp_path / "s").matrix(dev.column("utterance_id")))
    assert result.metrics["dev"] == {spec.name: float(spec(scores, is_bonafide)) for spec in METRICS}
    assert result.metrics["dev"]["eer_percent"] < 50
    facts = result.detector.training["sets"]
    assert (facts["train"]["n_bonafide"], facts["train"]["n_spoof"], facts["train"]["split"]) == (
        4,
        4,
        "train",
    )
    assert facts["dev"]["digest"] == dev.digest()
    json.dumps(result.detector.training, allow_nan=False)


@pytest.mark.parametrize("seed", range(20))
def test_the_threshold_accepts_where_the_error_rates_meet(lfcc, corpus, tmp_path, monkeypatch, seed):
    """With scores of any overlap: at the threshold, error rates on the dev set are those of the EER."""
    sets = choose_sets(corpus, "train", "dev")
    random = np.random.default_rng(seed)
    is_bonafide = sets[1].manifest.strings("label") == "bonafide"
    scores = random.standard_normal(len(is_bonafide)) + random.uniform(-1, 4) * is_bonafide
    backend = create_backend("logistic")
    monkeypatch.setattr(backend, "score", lambda features: scores)
    detector = train(
        sets,
        lfcc,
        backend,
        store=tmp_path / "s",
        pool="mean",
        make_extractor=lambda: Extractor(lfcc, "mean", 0),
    ).detector
    accepted = scores >= detector.threshold
    point = eer(scores, is_bonafide)
    assert np.mean(~accepted[is_bonafide]) == pytest.approx(point.frr)
    assert np.mean(accepted[~is_bonafide]) == pytest.approx(point.far)


def test_without_a_development_set_the_threshold_is_even_odds(lfcc, corpus, tmp_path):
    result = run(choose_sets(corpus, "train", None), lfcc, tmp_path / "s")
    assert (result.detector.threshold, result.metrics) == (0.0, {})


def test_features_in_the_store_are_used_again(lfcc, corpus, tmp_path, monkeypatch):
    sets = choose_sets(corpus, "train", "dev")
    first = run(sets, lfcc, tmp_path / "s")
    with monkeypatch.context() as patch:
        patch.setattr(Extractor, "outcomes", lambda *a: pytest.fail("computed again"))
        again = run(sets, lfcc, tmp_path / "s")
        other = run(sets, lfcc, tmp_path / "s", C=0.01)
    assert again.detector.fingerprint() == first.detector.fingerprint()
    assert other.detector.fingerprint() != first.detector.fingerprint()
    assert len(EmbeddingStore(tmp_path / "s")) == 16


def test_the_order_of_the_parts_does_not_matter(lfcc, corpus, tmp_path):
    """Features are looked up by id: an interrupted or shared store gives the same detector."""
    sets = choose_sets(corpus, "train", "dev")
    first = run(sets, lfcc, tmp_path / "a")
    swapped = (sets[0], TrainingSet.of("dev", corpus.take(range(23, -1, -1)), None))
    run((TrainingSet.of("train", corpus.split("eval"), "eval"), swapped[1]), lfcc, tmp_path / "b")
    second = run(sets, lfcc, tmp_path / "b")
    waveform = [np.sin(np.arange(16000, dtype=np.float32))]
    assert second.detector.score_waveforms(waveform) == pytest.approx(
        first.detector.score_waveforms(waveform), rel=1e-2
    )
    assert second.metrics["dev"]["eer_percent"] == first.metrics["dev"]["eer_percent"]


def test_files_that_cannot_be_read_are_left_out_and_counted(lfcc, tmp_path):
    corpus = Manifest.read(write_corpus(tmp_path / "c", 24))
    sets = choose_sets(corpus, "train", "dev")
    run(sets, lfcc, tmp_path / "s")
    replace_audio(corpus.audio_paths()[0], JUNK)  # of which the store still holds what it was
    corpus.audio_paths()[9].unlink()  # features of deleted audio stay good
    result = run(sets, lfcc, tmp_path / "s")
    assert [f.utterance_id for f in result.failures] == [corpus.column("utterance_id")[0]]
    facts = result.detector.training["sets"]
    assert (facts["train"]["n_failed"], facts["dev"]["n_failed"]) == (1, 0)
    clean = Manifest(corpus.table.slice(1), corpus.root, corpus.source)
    reference = run(choose_sets(clean, "train", "dev"), lfcc, tmp_path / "s").detector
    for name, tensor in reference.backend.tensors().items():
        assert np.array_equal(tensor, result.detector.backend.tensors()[name])


def test_a_class_of_which_nothing_can_be_read_is_said(lfcc, tmp_path):
    corpus = Manifest.read(write_corpus(tmp_path / "c", 12))
    for path, label in zip(corpus.audio_paths(), corpus.column("label"), strict=True):
        if label == "spoof":
            path.unlink()
    with pytest.raises(UsageError, match="readable part of the train set: 2 bona fide and 0 spoofed"):
        run(choose_sets(corpus, "train", "dev"), lfcc, tmp_path / "s")


def test_balance_gives_classes_the_same_weight_and_groups_the_root_of_their_size():
    label = ["bonafide"] * 3 + ["spoof"] * 10
    system = ["-"] * 3 + ["a"] * 9 + ["b"]
    part = TrainingSet("train", table(label=label, system=system), None)
    weights = Balance("system").weights(part, lambda _: True)
    assert weights.sum() == pytest.approx(13)
    assert weights[:3].sum() == pytest.approx(weights[3:].sum())
    assert weights[3:12].sum() / weights[12] == pytest.approx(3)
    assert len(Balance("system").weights(part, lambda i: i != "u0")) == 12
    with pytest.raises(UsageError, match="no column 'attack'"):
        Balance("attack").weights(part, lambda _: True)


def test_values_of_a_coarser_column_get_their_shares_of_the_class():
    label = ["bonafide"] * 2 + ["spoof"] * 10
    family = ["human"] * 2 + ["vocoder"] * 5 + ["classical"] * 5
    system = ["-"] * 2 + ["a"] * 4 + ["b"] + ["c"] * 5
    part = TrainingSet("train", table(label=label, system=system, family=family), None)
    weights = Balance("system", "family", {"vocoder": 3.0}).weights(part, lambda _: True)
    assert weights[:2].sum() == pytest.approx(6)
    assert weights[2:7].sum() / weights[7:].sum() == pytest.approx(3)
    assert weights[2:6].sum() / weights[6] == pytest.approx(2)
    with pytest.raises(UsageError, match="no row has family song"):
        Balance("system", "family", {"song": 1.0}).weights(part, lambda _: True)
    with pytest.raises(UsageError, match="positive"):
        Balance("system", "family", {"vocoder": 0.0})


def test_out_of_fold_scores_are_by_back_ends_that_never_saw_the_group():
    rng = np.random.default_rng(0)
    groups = np.repeat([f"g{i}" for i in range(8)], 10)
    is_bonafide = np.tile([True, False], 40)
    features = rng.standard_normal((80, 1, 4)).astype(np.float32) + is_bonafide[:, None, None]
    backend = create_backend("logistic", C=1.0)
    scores, n_folds = out_of_fold(backend, features, is_bonafide, groups, None, 4)
    assert n_folds == 4
    with pytest.raises(UsageError, match="not trained"):
        backend.tensors()
    # Changing a group's labels changes others' scores, and not its own.
    flipped = is_bonafide ^ (groups == "g0")
    changed, _ = out_of_fold(backend, features, flipped, groups, None, 4)
    assert np.allclose(changed[groups == "g0"], scores[groups == "g0"])
    assert not np.allclose(changed, scores)


def test_the_command_writes_out_of_fold_scores(tmp_path, monkeypatch):
    manifest = write_corpus(tmp_path / "c", 36)
    lines = manifest.read_text(encoding="utf-8").splitlines()
    sources = ["source", *(f"s{(i // 2) % 4}" for i in range(36))]
    manifest.write_text("".join(f"{a},{b}\n" for a, b in zip(lines, sources, strict=True)), encoding="utf-8")
    out = tmp_path / "d"
    run_here(
        monkeypatch, "train", manifest, "--frontend", "lfcc", "--backend", "logistic", "-o", out,
        "--cross-validate", "source", "--folds", "3", "--balance", "label", "--workers", "0",
    )  # fmt: skip
    found = read_scores(out / "cross_validated.tsv")
    assert list(found.utterance_id) == Manifest.read(manifest).split("train").column("utterance_id")
    metrics = json.loads((out / "config.json").read_text(encoding="utf-8"))["training"]["metrics"]
    assert set(metrics) == {"dev", "cross-validated"}
