"""Ensembles: one decode a file, the members' own scores fused, one folder, and the commands."""

from __future__ import annotations

import json
import shutil
import weakref
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch

import voxfide.audio.load
from checkpoints import write_checkpoint
from command_line import run_here
from conftest import CORPUS, needs_shared
from small_corpus import JUNK, clip, write_corpus
from voxfide.backends import create_backend
from voxfide.calibration import CalibrationRecord, create_calibration
from voxfide.crops import WHOLE, Crop
from voxfide.detector import Detector
from voxfide.detectors import load_detector
from voxfide.ensemble import EnsembleDetector
from voxfide.ensemble.passes import passes_of, scores_of_stream
from voxfide.ensemble.sharing import FirstLayers, share_frontends
from voxfide.errors import AudioError, AudioTooShortError, CheckpointError, UsageError
from voxfide.features import pooled_features
from voxfide.frontends import create_frontend
from voxfide.frontends.checkpoint import ModelSource, load_encoder
from voxfide.frontends.ssl import SSLFrontend
from voxfide.fusion import FusedSystem, FusionOptions, FusionRecord
from voxfide.manifest import Manifest
from voxfide.scores import read_scores
from voxfide.scoring import score_manifest

CLIPS = [clip(i, 0.4 + 0.05 * i, i % 2 == 0) for i in range(12)]
KINDS = ["mean", "mean_std", "deep", "shallow", "frames", "classifier"]


def pooled(frontend, pool="mean", **options) -> Detector:
    features = pooled_features(frontend, CLIPS, pool)
    backend = create_backend("logistic", C=1.0, **options).fit(features, np.arange(len(CLIPS)) % 2 == 0)
    return Detector(frontend, backend, pool, threshold=0.3)


def calibrated(detector: Detector) -> Detector:
    scores = detector.score_waveforms(CLIPS)
    calibration = create_calibration("affine", regularisation=0.1).fit(scores, np.arange(len(CLIPS)) % 2 == 0)
    return detector.calibrated(CalibrationRecord(calibration, prior=0.3))


def on_frames(frontend, crop: Crop) -> Detector:
    backend = create_backend("ffn", hidden=16)
    torch.manual_seed(1)
    backend.build(frontend.n_layers, frontend.dim)
    return Detector(frontend, backend, "none", crop=crop)


def classifier(folder: Path) -> Detector:
    """A fine-tuned public model as ``transformers`` saves it."""
    import transformers

    from checkpoints import SMALL

    torch.manual_seed(2)
    names = {"id2label": {0: "spoof", 1: "bonafide"}, "label2id": {"spoof": 0, "bonafide": 1}}
    config = transformers.HubertConfig(**SMALL, classifier_proj_size=8, **names)
    transformers.HubertForSequenceClassification(config).save_pretrained(folder)
    transformers.Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(folder)
    return Detector.load(folder)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wavlm")
    write_checkpoint(folder, "wavlm-base")
    return folder


@pytest.fixture(scope="module")
def members(checkpoint, tmp_path_factory) -> list[Detector]:
    """Of every kind; each with a front-end object of its own."""
    return [
        pooled(create_frontend("lfcc")),
        pooled(create_frontend("lfcc"), "mean_std"),
        calibrated(pooled(create_frontend(str(checkpoint)))),
        pooled(create_frontend(str(checkpoint), 2), layer="all"),
        on_frames(create_frontend(str(checkpoint), 3), Crop(0.5, short="tile")),
        classifier(tmp_path_factory.mktemp("hubert")),
    ]


def fusion_of(members: list[Detector], names: list[str] = KINDS) -> FusionRecord:
    weights = [0.7, -0.2, 0.5, 1.1, -0.3, 0.4]
    systems = tuple(
        FusedSystem(name, weight, detector=member.fingerprint())
        for name, weight, member in zip(names, weights, members, strict=False)
    )
    figures = {"eer_threshold": 0.25, "systems": {}, "fitted": {}, "cross_validated": {}}
    figures["fitted"] = dict.fromkeys(("eer_percent", "min_dcf", "act_dcf", "cllr"), 0.5)
    return FusionRecord(FusionOptions(), systems, -0.4, fitted_to={"manifest": "m.csv"}, figures=figures)


@pytest.fixture(scope="module")
def ensemble(members) -> EnsembleDetector:
    return EnsembleDetector.of(members, fusion_of(members))


def separately(members: list[Detector], path: Path) -> float:
    """What fusing the members' own detections gives."""
    scores = [member.detect(path).score for member in members]
    return float(fusion_of(members).fusion.apply([scores])[0])


@pytest.fixture
def decodes(monkeypatch) -> Counter:
    """How often each file was opened by a decoder."""
    counts: Counter = Counter()
    plain = voxfide.audio.load.open_decoder

    def counting(file, label, *rest):
        counts[Path(label).name] += 1
        return plain(file, label, *rest)

    monkeypatch.setattr(voxfide.audio.load, "open_decoder", counting)
    return counts


# Scores


@pytest.mark.parametrize("seconds", [0.31, 0.5, 1.7, 30.001, 76.3])
def test_detection_is_the_fusion_of_the_members_with_one_decode(
    members, ensemble, decodes, tmp_path, seconds
):
    path = tmp_path / "a.wav"
    sf.write(path, clip(7, seconds, True), 16000)
    found = ensemble.detect(path)
    assert decodes == {"a.wav": 1}
    expected = separately(members, path)
    assert decodes == {"a.wav": 1 + len(members)}
    print(f"{seconds} s: fused {found.score:+.6f}, difference {abs(found.score - expected):.1e}")
    assert abs(found.score - expected) <= 1e-6
    assert found.info.duration == pytest.approx(seconds, abs=1e-4)


def test_every_front_end_runs_once_for_those_that_hear_the_same(ensemble, monkeypatch, tmp_path):
    assert [type(m.frontend).__name__ for m in ensemble.members] == [
        "Lfcc", "Lfcc", "SSLFrontend", "FirstLayers", "FirstLayers", "SSLFrontend"
    ]  # fmt: skip
    assert len(ensemble.frontends) == 3
    runs: Counter = Counter()
    for number, frontend in enumerate(ensemble.frontends):
        plain = frontend.iter_layers

        def counting(waveforms, number=number, plain=plain):
            runs[number] += 1
            return plain(waveforms)

        monkeypatch.setattr(frontend, "iter_layers", counting)
    sf.write(tmp_path / "a.wav", CLIPS[0], 16000)
    ensemble.detect(tmp_path / "a.wav")
    # Front-end 1 once for time averages of 2 and 4 layers, once for the crop.
    assert runs == {0: 1, 1: 2, 2: 1}


def test_waveforms_get_what_the_members_give_them_alone_and_together(members, ensemble):
    scores = np.stack([m.score_waveforms(CLIPS) for m in members], axis=1)
    expected = fusion_of(members).fusion.apply(scores)
    np.testing.assert_allclose(ensemble.score_waveforms(CLIPS), expected, atol=1e-6)
    alone = [ensemble.score_waveforms([w])[0] for w in CLIPS]
    np.testing.assert_allclose(alone, expected, rtol=1e-4, atol=1e-4)
    assert ensemble.score_waveforms([]).shape == (0,)


def test_a_manifest_is_scored_with_one_decode_a_file(members, ensemble, decodes, tmp_path):
    corpus = Manifest.read(write_corpus(tmp_path / "c", 12))
    out = tmp_path / "s.tsv"
    result = score_manifest(
        ensemble, corpus, out, make_extractor=lambda: ensemble.extractor(workers=0), shard_rows=5
    )
    assert (result.n_scored, result.failures) == (12, [])
    assert set(decodes.values()) == {1}
    assert len(decodes) == 12
    columns = []
    for number, member in enumerate(members):
        own = tmp_path / f"{number}.tsv"
        score_manifest(
            member, corpus, own, make_extractor=lambda m=member: m.extractor(workers=0), shard_rows=5
        )
        columns.append(read_scores(own).score)
    expected = fusion_of(members).fusion.apply(np.stack(columns, axis=1))
    difference = np.abs(read_scores(out).score - expected).max()
    print(f"12 files of a manifest: largest difference from fusing the members' score files {difference:.1e}")
    assert difference <= 1e-6


def test_what_cannot_be_read_is_said_and_listed(ensemble, tmp_path):
    path = write_corpus(tmp_path / "c", 6)
    corpus = Manifest.read(path)
    broken, short = corpus.audio_paths()[1], corpus.audio_paths()[3]
    broken.write_bytes(JUNK)
    sf.write(short, CLIPS[0][:300], 16000)
    result = score_manifest(
        ensemble, corpus, tmp_path / "s.tsv", make_extractor=lambda: ensemble.extractor(workers=0)
    )
    assert result.n_scored == 4
    assert {f.path for f in result.failures} == {str(broken), str(short)}
    with pytest.raises(AudioError):
        ensemble.detect(broken)
    with pytest.raises(AudioTooShortError, match=short.name):
        ensemble.detect(short)
    with pytest.raises(AudioTooShortError):
        ensemble.score_waveforms([CLIPS[0], CLIPS[0][:300]])
    with pytest.raises(UsageError, match="waveform 1"):
        ensemble.score_waveforms([CLIPS[0], np.full(9000, np.nan, np.float32)])


def test_a_long_recording_is_never_held_whole():
    """Passes that cut differently, one that hears the start only: chunks are let go of all the same."""
    lfcc = create_frontend("lfcc")
    crops = (WHOLE, Crop(1.0), Crop(7.0), Crop(2.0, long="windows"))
    passes = passes_of(
        share_frontends([pooled(lfcc), *(on_frames(create_frontend("lfcc"), crop) for crop in crops)])
    )
    assert len(passes) == 5
    most = {}
    for seconds in (100, 200):
        alive: list[weakref.ref] = []
        held = []

        def stream(n=seconds, alive=alive, held=held):
            for number in range(n):
                chunk = np.ascontiguousarray(clip(number, 1.0, True))
                alive.append(weakref.ref(chunk))
                held.append(sum(ref() is not None for ref in alive))
                yield chunk
                del chunk

        scores = scores_of_stream(passes, stream(), "a.wav")
        assert scores.shape == (5,)
        assert np.isfinite(scores).all()
        assert len(alive) == seconds
        most[seconds] = max(held)
    print(f"seconds held at once, of so many: {most}")
    assert most[200] == most[100] < 80  # two windows of 30 s and what is on the way


# Sharing


def test_only_equal_weights_are_shared(checkpoint, members):
    other = create_frontend(str(checkpoint), 2)
    with torch.no_grad():
        next(p for n, p in other.named_parameters() if "attention" in n).add_(1e-3)
    lfcc = create_frontend("lfcc", n_filters=30)
    shared = share_frontends([*members, pooled(other), pooled(lfcc)])
    kept = {id(m.frontend.whole if isinstance(m.frontend, FirstLayers) else m.frontend) for m in shared}
    assert len(kept) == 5
    np.testing.assert_array_equal(shared[-2].score_waveforms(CLIPS), pooled(other).score_waveforms(CLIPS))
    again = share_frontends(shared)
    assert all(
        a.frontend is b.frontend or isinstance(b.frontend, FirstLayers)
        for a, b in zip(again, shared, strict=True)
    )


def test_layers_that_only_look_like_the_first_ones_are_not_shared(tmp_path):
    """A pre-norm model ends in a norm: the last state of a short one is no state of a long one."""
    write_checkpoint(tmp_path, "wavlm-large")
    long, short = (
        SSLFrontend(load_encoder(tmp_path, n, head_states=True), "w", None, "fp32").eval() for n in (4, 2)
    )
    shared = share_frontends([pooled(long), pooled(short)])
    assert not any(isinstance(m.frontend, FirstLayers) for m in shared)
    assert shared[1].frontend is short


# The folder


def test_saved_and_loaded_it_is_the_same(ensemble, members, tmp_path):
    from safetensors import safe_open

    ensemble.save(tmp_path / "E")
    assert sorted(p.name for p in (tmp_path / "E").iterdir()) == [
        "README.md", "config.json", "model.safetensors"
    ]  # fmt: skip
    again = load_detector(tmp_path / "E")
    assert isinstance(again, EnsembleDetector)
    np.testing.assert_array_equal(again.score_waveforms(CLIPS), ensemble.score_waveforms(CLIPS))
    assert again.fingerprint() == ensemble.fingerprint()
    assert again.threshold == ensemble.threshold == 0.25
    assert len(again.frontends) == 3
    assert [m.threshold for m in again.members] == [m.threshold for m in members]
    # LFCC, number 0, has no weights.
    with safe_open(tmp_path / "E" / "model.safetensors", "pt") as file:
        numbers = {tuple(name.split(".")[:2]) for name in file.keys()}  # noqa: SIM118
    assert numbers == {("frontend", str(i)) for i in (1, 2)} | {("backend", str(i)) for i in range(6)}
    again.save(tmp_path / "F")
    for name in ("config.json", "model.safetensors", "README.md"):
        assert (tmp_path / "F" / name).read_bytes() == (tmp_path / "E" / name).read_bytes()
    card = (tmp_path / "E" / "README.md").read_text()
    assert all(f"| {kind} |" in card for kind in KINDS)
    assert "library_name: voxfide" in card


def test_weights_from_the_hub_may_stay_there(checkpoint, tmp_path, monkeypatch):
    """Those of a local folder or of no hub go inside."""
    at = "0" * 40
    for module in ("checkpoint", "ssl"):
        monkeypatch.setattr(
            f"voxfide.frontends.{module}.locate", lambda name, *_, **__: ModelSource(checkpoint, name, at)
        )
    hub, cut = (create_frontend("acme/tiny", n) for n in (4, 2))
    four = [pooled(create_frontend("lfcc")), pooled(hub), pooled(cut), on_frames(hub, Crop(0.5))]
    made = EnsembleDetector.of(four, fusion_of(four))
    made.save(tmp_path / "E", embed_frontend=False)
    config = json.loads((tmp_path / "E" / "config.json").read_text())
    assert [f["weights"] for f in config["frontends"]] == [
        {"in": "model.safetensors"}, {"in": "hub", "hub_id": "acme/tiny", "revision": at}
    ]  # fmt: skip
    assert (tmp_path / "E" / "model.safetensors").stat().st_size < 200_000
    again = load_detector(tmp_path / "E")
    np.testing.assert_array_equal(again.score_waveforms(CLIPS), made.score_waveforms(CLIPS))
    assert again.fingerprint() == made.fingerprint()


def test_through_the_hub_mixin(ensemble, tmp_path):
    ensemble.save_pretrained(tmp_path / "E")
    again = EnsembleDetector.from_pretrained(tmp_path / "E")
    np.testing.assert_array_equal(again.score_waveforms(CLIPS[:2]), ensemble.score_waveforms(CLIPS[:2]))
    with pytest.raises(CheckpointError, match="no such folder"):
        EnsembleDetector.from_pretrained(tmp_path / "nothing" / "there")


def test_a_calibration_belongs_to_its_ensemble(ensemble, members, tmp_path):
    calibration = create_calibration("affine").fit(
        ensemble.score_waveforms(CLIPS) + np.random.default_rng(0).normal(size=12) * 9, np.arange(12) % 2 == 0
    )
    record = CalibrationRecord(calibration, prior=0.2)
    made = ensemble.calibrated(record)
    np.testing.assert_array_equal(
        made.score_waveforms(CLIPS), calibration.apply(ensemble.score_waveforms(CLIPS))
    )
    assert made.threshold == record.threshold
    assert made.fingerprint() != ensemble.fingerprint() == made.uncalibrated().fingerprint()
    assert made.uncalibrated().threshold == ensemble.threshold
    made.save(tmp_path / "C")
    again = load_detector(tmp_path / "C")
    assert again.fingerprint() == made.fingerprint()
    assert again.uncalibrated().threshold == ensemble.threshold
    assert "## Calibration" in (tmp_path / "C" / "README.md").read_text()
    fewer = EnsembleDetector.of(members[:2], fusion_of(members[:2]))
    fewer.save(tmp_path / "D")
    shutil.copy(tmp_path / "C" / "calibration.json", tmp_path / "D" / "calibration.json")
    with pytest.raises(CheckpointError, match="belongs to another ensemble"):
        load_detector(tmp_path / "D")
    fewer.save(tmp_path / "C")
    assert not (tmp_path / "C" / "calibration.json").exists()


def test_damaged_folders_are_refused(members, tmp_path):
    ensemble = EnsembleDetector.of(members[:2], fusion_of(members[:2]))
    folder = ensemble.save(tmp_path / "E")
    config = json.loads((folder / "config.json").read_text())

    def load(change) -> None:
        values = json.loads(json.dumps(config))
        change(values)
        (folder / "config.json").write_text(json.dumps(values))
        EnsembleDetector.load(folder)

    for change, message in (
        (lambda c: c.update(kind="other"), "not a voxfide ensemble"),
        (lambda c: c.update(format=7), "not a voxfide ensemble of format 1"),
        (lambda c: c.pop("fusion"), "malformed"),
        (lambda c: c["members"][0].update(frontend=4), "malformed"),
        (lambda c: c["members"][0].update(n_layers=3), "3 layers of 1"),
        (lambda c: c["members"].pop(), "weights_sha256 does not fit"),
        (lambda c: c["fusion"]["systems"][0].update(weight=9.0), "weights_sha256 does not fit"),
        (lambda c: c["frontends"][0].update(weights_sha256="x"), "not those that the detector"),
        (lambda c: c.update(threshold=float("nan")), "not finite"),
    ):
        with pytest.raises(CheckpointError, match=message):
            load(change)
    load(lambda c: None)
    (folder / "model.safetensors").write_bytes(b"x")
    with pytest.raises(CheckpointError, match="not readable"):
        EnsembleDetector.load(folder)


def test_other_detectors_than_the_fusion_was_learnt_on_are_refused(members):
    record = fusion_of(members[:3])
    with pytest.raises(UsageError, match="in another order"):
        EnsembleDetector.of([members[1], members[0], members[2]], record)
    with pytest.raises(UsageError, match="number 3: of other detectors"):
        EnsembleDetector.of([members[0], members[1], members[2].uncalibrated()], record)
    with pytest.raises(UsageError, match="2 systems; the fusion is of 3"):
        EnsembleDetector.of(members[:2], record)
    unknown = FusionRecord(FusionOptions(), (FusedSystem("a", 1.0), FusedSystem("b", 1.0)), 0.0)
    with pytest.raises(UsageError, match="does not say which detector made the scores of a, b"):
        EnsembleDetector.of(members[:2], unknown)
    assert len(EnsembleDetector.of(members[:2], unknown, force=True).members) == 2


# The commands


def run_line(monkeypatch, capsys, *arguments) -> str:
    assert run_here(monkeypatch, *arguments) == 0, capsys.readouterr().err
    return capsys.readouterr().out


def test_four_detectors_from_score_files_to_one_ensemble(members, decodes, tmp_path, monkeypatch, capsys):
    """score, fuse, ensemble, detect, score, calibrate, detect with a probability."""

    def run(*arguments) -> str:
        return run_line(monkeypatch, capsys, *arguments)

    key = write_corpus(tmp_path / "c", 60)
    chosen = {name: members[KINDS.index(name)] for name in ("mean", "deep", "shallow", "frames")}
    for name, member in chosen.items():
        member.save(tmp_path / name)
        run("score", tmp_path / name, key, "--split", "dev", "-o", tmp_path / f"{name}.tsv", "--workers", 0)
    files = [tmp_path / f"{name}.tsv" for name in chosen]
    fusion = tmp_path / "F.json"
    run("fuse", *files, "--key", key, "--split", "dev", "--C", 1, "--bootstrap", 20, "-o", fusion)
    assert [s.name for s in FusionRecord.read(fusion).systems] == list(chosen)
    made = tmp_path / "E"
    said = run("ensemble", *(tmp_path / name for name in chosen), "--fusion", fusion, "-o", made)
    assert "ensemble of 4 detectors, 2 front-end(s), 3 pass(es)" in said

    fused = tmp_path / "fused.tsv"
    run("fuse-scores", fusion, *files, "-o", fused)
    decodes.clear()
    run("score", made, key, "--split", "dev", "-o", tmp_path / "dev.tsv", "--workers", 0)
    assert set(decodes.values()) == {1}
    np.testing.assert_allclose(read_scores(tmp_path / "dev.tsv").score, read_scores(fused).score, atol=1e-6)
    facts = json.loads((tmp_path / "dev.tsv.json").read_text())
    assert facts["score"] == "natural-log likelihood ratio"
    assert "frames" in facts["detector"]["members"]

    audio = Manifest.read(key).audio_paths()[20:24]
    decodes.clear()
    lines = run("detect", *audio, "--detector", made, "--min-speech", 0, "--json").splitlines()
    assert set(decodes.values()) == {1}
    found = [json.loads(line)["score"] for line in lines]
    np.testing.assert_allclose(found, read_scores(fused).score[:4], rtol=1e-4, atol=1e-4)

    calibrate = ("calibrate", made, tmp_path / "dev.tsv", "--key", key, "--regularisation", 0.1)
    run(*calibrate, "-o", tmp_path / "C")
    assert not (made / "calibration.json").exists()
    line = json.loads(
        run("detect", audio[0], "--detector", tmp_path / "C", "--prior", 0.1, "--min-speech", 0, "--json")
    )
    assert 0 < line["probability_bonafide"] < 1
    run(*calibrate)
    assert load_detector(made).fingerprint() == load_detector(tmp_path / "C").fingerprint()


def test_the_command_refuses_what_is_no_ensemble(members, tmp_path, monkeypatch, capsys):
    fusion_of(members[:2]).write(tmp_path / "F.json")
    for number in (0, 1):
        members[number].save(tmp_path / str(number))
    made = ["ensemble", "--fusion", tmp_path / "F.json", "-o", tmp_path / "E"]
    for names, extra, message in (
        ("10", [], "in another order"),
        ("0", [], "1 detectors; the fusion is of 2 systems: mean, mean_std"),
        ("01", ["--weights", "cloud"], "expected embed or hub"),
    ):
        assert run_here(monkeypatch, *made, *(tmp_path / n for n in names), *extra) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "E").exists()
    assert run_here(monkeypatch, *made, tmp_path / "0", tmp_path / "1") == 0
    assert run_here(monkeypatch, *made, tmp_path / "E", tmp_path / "1", "--force") == 2
    assert "is an ensemble (expected a detector: name its members)" in capsys.readouterr().err


@needs_shared("corpus")
def test_real_files_through_detect_with_one_decode_each(members, decodes, tmp_path, monkeypatch, capsys):
    four = [members[i] for i in (0, 2, 3, 4)]
    made = EnsembleDetector.of(four, fusion_of(four)).save(tmp_path / "E")
    manifest = Manifest.read(CORPUS / "manifest.csv")
    audio = manifest.audio_paths()[:: len(manifest) // 4][:4]
    assert run_here(monkeypatch, "detect", *audio, "--detector", made, "--json") == 0
    found = [json.loads(line)["score"] for line in capsys.readouterr().out.splitlines()]
    assert decodes == {path.name: 1 for path in audio}
    differences = [abs(score - separately(four, path)) for score, path in zip(found, audio, strict=True)]
    print(f"four real files: largest difference from the members' scores fused {max(differences):.1e}")
    assert max(differences) <= 1e-6
