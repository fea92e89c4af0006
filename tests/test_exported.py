"""Exported detectors: scores are those of their graphs at any length, in any batch, and damage is told."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")

from command_line import run_here
from exported_folder import WEIGHTS, expected, write_exported
from serving import spoken
from test_domain import PIECES
from voxfide.analysis.bands import fast_length
from voxfide.analysis.batch import analyse_many
from voxfide.analysis.explain import explain
from voxfide.analysis.frame_refinement import frame_timeline, judges_frames
from voxfide.analysis.recording import analyse
from voxfide.analysis.settings import AnalysisSettings
from voxfide.conditions import measure_conditions
from voxfide.conditions.filters import hann, running_mean, smoothed
from voxfide.crops import Crop
from voxfide.detector_search import described
from voxfide.detectors import load_detector, load_trained
from voxfide.domain import DomainModel, features_of
from voxfide.domain_features import lfcc
from voxfide.errors import AudioTooShortError, CheckpointError, MissingDependencyError, UsageError
from voxfide.exported.detector import ExportedDetector
from voxfide.exported.format import fingerprint_of
from voxfide.exported.sessions import Graph, threads_wanted
from voxfide.manifest import Manifest
from voxfide.scores import read_scores
from voxfide.scoring import score_manifest
from voxfide.types import SAMPLE_RATE

POOLS = tuple(WEIGHTS)
RUNTIMES = ("onnx", "openvino")


def noise(n: int, seed: int = 0) -> np.ndarray:
    """``(n,)``, louder towards its end, so that it matters which part is heard."""
    rng = np.random.default_rng(seed)
    return (0.1 * rng.standard_normal(n) * np.linspace(0.5, 1.5, n) + 0.01).astype(np.float32)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A folder of a kind, made once."""
    root = tmp_path_factory.mktemp("exported")

    def folder(pool: str = "mean", runtime: str = "onnx", calibrated: bool = False) -> Path:
        if runtime == "openvino":
            pytest.importorskip("openvino")
        made = root / f"{pool}-{runtime}-{calibrated}"
        return made if made.exists() else write_exported(made, pool, runtime, calibrated=calibrated)

    return folder


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    """Speech of 3, 9 and 64 s."""
    root = tmp_path_factory.mktemp("recordings")
    for number, seconds in enumerate((3, 9, 64)):
        soundfile.write(root / f"{number}.wav", spoken(seconds, number), SAMPLE_RATE, subtype="FLOAT")
    return sorted(root.iterdir())


def save(path: Path, signal: np.ndarray) -> Path:
    soundfile.write(path, signal, SAMPLE_RATE, subtype="FLOAT")
    return path


# --- scores


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("pool", POOLS)
def test_scores_are_those_of_the_whole_recording(folders, pool, runtime):
    detector = load_detector(folders(pool, runtime))
    signals = [noise(n, n) for n in (400, 16000, 30 * 16000, 30 * 16000 + 100, 65 * 16000, 5000)]
    found = detector.score_waveforms(signals)
    np.testing.assert_allclose(found, [expected(s, pool) for s in signals], atol=2e-5)


@settings(max_examples=20)
@given(st.lists(st.integers(400, 40000), min_size=1, max_size=7), st.sampled_from(POOLS))
def test_a_score_does_not_depend_on_the_others(folders, sizes, pool):
    detector = load_detector(folders(pool))
    signals = [noise(n, seed) for seed, n in enumerate(sizes)]
    alone = [detector.score_waveforms([s])[0] for s in signals]
    np.testing.assert_allclose(detector.score_waveforms(signals), alone, atol=1e-6)


def test_a_small_budget_changes_nothing_but_memory(folders):
    for pool in POOLS:
        model = load_detector(folders(pool)).model
        signals = [noise(n, n) for n in (3000, 70 * 16000, 16000)]
        np.testing.assert_allclose(model.score(signals, 1.0), model.score(signals, 500.0), atol=1e-6)


@pytest.mark.parametrize("pool", POOLS)
def test_a_stream_is_scored_as_the_waveform(folders, tmp_path, pool):
    detector = load_detector(folders(pool, calibrated=True))
    signal = noise(62 * 16000)
    found = detector.detect(save(tmp_path / "a.wav", signal))
    assert found.score == pytest.approx(detector.score_waveforms([signal])[0], abs=1e-6)
    assert found.score == pytest.approx(0.5 * expected(signal, pool) + 1, abs=2e-5)
    assert found.info.duration == 62


@pytest.mark.parametrize(
    ("crop", "part"),
    [
        (Crop(1.0), lambda x: x[:16000]),
        (Crop(6.0), lambda x: np.resize(x, 96000)),
        (Crop(6.0, short="keep"), lambda x: x),
        (Crop(2.0, long="windows"), lambda x: None),
    ],
)
def test_crops_are_heard_as_by_the_detector(tmp_path, crop, part):
    detector = load_detector(write_exported(tmp_path / "D", "none", crop=crop.to_json()))
    signal = noise(5 * 16000)
    wanted = part(signal)
    if wanted is None:  # windows of 2 s, the last ends where the recording does
        cuts = [signal[:32000], signal[32000:64000], signal[-32000:]]
        expected_score = np.mean([expected(c) for c in cuts])
    else:
        expected_score = expected(wanted)
    assert detector.score_waveforms([signal])[0] == pytest.approx(expected_score, abs=1e-5)
    assert detector.detect(save(tmp_path / "a.wav", signal)).score == pytest.approx(expected_score, abs=1e-5)


@pytest.mark.parametrize("pool", POOLS)
def test_calibrated_scores_are_those_of_the_graph(folders, pool):
    """What other programs read off the graph is what voxfide says."""
    detector = load_detector(folders(pool, calibrated=True))
    signal = noise(16000)
    inputs = {"waveform": signal[None], "lengths": np.array([16000])}
    found = detector.model.graph.run(inputs)
    assert detector.score_waveforms([signal])[0] == pytest.approx(float(found["score"][0]), abs=1e-5)
    raw = detector.uncalibrated()
    assert raw.score_waveforms([signal])[0] == pytest.approx(float(found["raw_score"][0]), abs=1e-6)
    assert (raw.threshold, raw.score_kind) == (0.25, "uncalibrated")
    assert (detector.threshold, detector.score_kind) == (0.0, "natural-log likelihood ratio")
    assert raw.fingerprint() != detector.fingerprint()
    assert detector.fingerprint() == load_detector(folders(pool, "onnx", True)).fingerprint()


def test_threads_are_those_that_are_stated(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert threads_wanted() == 3
    monkeypatch.setenv("OMP_NUM_THREADS", "none")
    monkeypatch.setenv("VOXFIDE_CORES", "5")
    assert threads_wanted() == 5
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.delenv("VOXFIDE_CORES")
    assert 1 <= threads_wanted() <= os.cpu_count()


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_detector_can_be_sent_to_another_process(folders, runtime):
    detector = load_detector(folders("mean", runtime))
    before = detector.score_waveforms([noise(16000)])
    again = pickle.loads(pickle.dumps(detector))
    np.testing.assert_array_equal(again.score_waveforms([noise(16000)]), before)
    assert again.fingerprint() == detector.fingerprint()


# --- used like any other


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_recordings_are_analysed(folders, recordings, runtime):
    detector = load_detector(folders("mean_std", runtime, calibrated=True))
    found = [analyse(path, detector) for path in recordings]
    for path, one, (_, together) in zip(recordings, found, analyse_many(recordings, detector), strict=True):
        assert [w.score for w in one.windows] == pytest.approx([w.score for w in together.windows], abs=1e-6)
        assert one.conditions.speech_seconds > 1
        assert one.detector.facts["exported"] == f"{'ONNX' if runtime == 'onnx' else 'OpenVINO'}, fp32"
        signal = soundfile.read(path, dtype="float32")[0]
        for window in one.windows:
            part = signal[round(window.start * 16000) : round(window.end * 16000)]
            assert window.score == pytest.approx(0.5 * expected(part, "mean_std") + 1, abs=2e-5)


def test_what_a_score_rests_on_is_told(folders, recordings):
    detector = load_detector(folders("mean", calibrated=True))
    why = explain(recordings[1], detector, analyse(recordings[1], detector))
    assert [(w.layer, w.weight) for w in why.layers] == [(1, 0.25), (2, 0.75)]
    assert len(why.bands) == 10
    assert any(b.contribution for b in why.bands)
    assert not why.members


def test_unfamiliar_audio_is_told(tmp_path):
    domain = DomainModel.fit([features_of(piece) for piece in PIECES])
    detector = load_detector(write_exported(tmp_path / "D", domain=domain))
    speech = np.concatenate(PIECES[:4])
    familiar = analyse(save(tmp_path / "a.wav", speech), detector)
    hissing = analyse(save(tmp_path / "b.wav", speech + noise(len(speech))), detector)
    assert "unfamiliar" not in [r.code for r in familiar.reasons]
    assert "unfamiliar" in [r.code for r in hissing.reasons]


def test_a_manifest_is_scored_as_the_files_are(folders, recordings, tmp_path):
    rows = [f"u{i},{path},{'bonafide' if i else 'spoof'}" for i, path in enumerate(recordings)]
    rows.append(f"gone,{tmp_path / 'gone.wav'},spoof")
    (tmp_path / "m.csv").write_text("\n".join(["utterance_id,path,label", *rows]) + "\n")
    for pool in POOLS:
        detector = load_detector(folders(pool, calibrated=True))
        result = score_manifest(detector, Manifest.read(tmp_path / "m.csv"), tmp_path / f"{pool}.tsv")
        assert (result.n_scored, [f.utterance_id for f in result.failures]) == (3, ["gone"])
        scores = read_scores(tmp_path / f"{pool}.tsv").score
        assert scores == pytest.approx([detector.detect(p).score for p in recordings], abs=1e-6)


def test_frames_are_judged_only_where_the_graph_tells_them(folders):
    detector = load_detector(folders("none"))
    assert not judges_frames(detector)
    with pytest.raises(UsageError, match="back-end sum does not judge frames"):
        frame_timeline(detector, noise(16000))


def test_frames_refine_the_ends_of_stretches(tmp_path):
    detector = load_detector(write_exported(tmp_path / "D", "none", frames=True))
    assert judges_frames(detector)
    signal = noise(31 * 16000)
    times, scores = frame_timeline(detector, signal)
    np.testing.assert_array_equal(scores, signal)
    np.testing.assert_allclose(times, np.arange(len(signal)) / 16000)
    # Negative from 5 to 7.5 s: windows mark it roughly, frames to the sample.
    signal = np.abs(spoken(12.0)) + 0.05
    signal[5 * 16000 : 15 * 8000] *= -1
    found = analyse(save(tmp_path / "a.wav", signal), detector, AnalysisSettings(min_speech=0.0))
    assert [(s.start, s.end) for s in found.stretches] == [(5.0, 7.5)]


def test_an_exported_detector_is_listed(folders):
    found = described(folders("mean", calibrated=True), "D", "folder")
    assert (found.kind, found.made_of) == ("exported", "samples + sum, exported (onnx, fp32)")
    assert (found.calibrated_on, found.problem) == ({"manifest": "dev.csv"}, "")
    assert found.trained_on["train"]["n_spoof"] == 2


# --- what cannot be


def test_waveforms_that_cannot_be_are_refused(folders):
    detector = load_detector(folders())
    with pytest.raises(AudioTooShortError, match="at least 400 samples"):
        detector.score_waveforms([noise(399)])
    for bad in (np.full(16000, np.nan, np.float32), np.zeros((2, 16000), np.float32)):
        with pytest.raises(UsageError, match="expected \\(samples,\\), finite"):
            detector.score_waveforms([bad])
    assert detector.score_waveforms([]).shape == (0,)


def test_devices_and_labels_are_refused(folders):
    with pytest.raises(UsageError, match="runs on the CPU, not on 'cuda'"):
        load_detector(folders(), device="cuda")
    with pytest.raises(UsageError, match="settled by the export"):
        load_detector(folders(), labels={"bonafide": "real"})
    assert isinstance(load_detector(folders(), device="auto"), ExportedDetector)
    with pytest.raises(UsageError, match="is exported .*shrink the one that it was exported from"):
        load_trained(folders(), "shrink")


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("part", ["model", "head", "speech"])
def test_damaged_graphs_are_told(folders, tmp_path, part, runtime):
    folder = shutil.copytree(folders("mean", runtime), tmp_path / "D")
    path = next(folder.glob(f"{part}.bin" if runtime == "openvino" and part == "head" else f"{part}.*"))
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(CheckpointError, match=f"{path.name}: damaged, or not what was exported"):
        load_detector(folder)
    path.unlink()
    with pytest.raises(CheckpointError, match=f"{path.name}: not readable"):
        load_detector(folder)


def test_a_changed_configuration_is_told(tmp_path):
    folder = write_exported(tmp_path / "D")
    config = json.loads((folder / "config.json").read_text())

    def rewritten(**changes):
        (folder / "config.json").write_text(json.dumps(config | changes))
        return folder

    with pytest.raises(CheckpointError, match="was changed after the export"):
        load_detector(rewritten(pool="mean_std"))
    with pytest.raises(CheckpointError, match="not an exported detector of format 1"):
        load_detector(rewritten(format=2))
    with pytest.raises(CheckpointError, match="missing or malformed entry"):
        load_detector(rewritten(model={}))
    with pytest.raises(CheckpointError, match="missing or malformed entry"):
        load_detector(rewritten(threshold="high"))
    files = config["model"]["sha256"]
    elsewhere = {"model": config["model"] | {"sha256": {"../model.onnx": "0"} | files}}
    with pytest.raises(CheckpointError, match=r"names the file '../model.onnx' \(expected one of the folder"):
        load_detector(rewritten(**elsewhere, fingerprint=fingerprint_of(config | elsewhere)))
    odd = {"frontend": config["frontend"] | {"hop_samples": None}}
    with pytest.raises(CheckpointError, match="missing or malformed entry"):
        load_detector(rewritten(**odd, fingerprint=fingerprint_of(config | odd)))


def test_a_calibration_of_another_detector_is_refused(folders, tmp_path):
    folder = write_exported(tmp_path / "D", "mean_std")
    shutil.copy(folders("mean", calibrated=True) / "calibration.json", folder)
    with pytest.raises(CheckpointError, match="belongs to another detector"):
        load_detector(folder)


def test_what_is_no_graph_is_told(tmp_path):
    for name in ("a.onnx", "a.xml"):
        if name.endswith("xml"):
            pytest.importorskip("openvino")
        (tmp_path / name).write_bytes(b"no graph")
        with pytest.raises(CheckpointError, match="cannot be opened as a graph"):
            Graph(tmp_path / name).run({})


@pytest.mark.parametrize(("runtime", "package"), [("onnx", "onnxruntime"), ("openvino", "openvino")])
def test_a_missing_runtime_is_told(folders, monkeypatch, runtime, package):
    detector = load_detector(folders("mean", runtime))
    monkeypatch.setitem(__import__("sys").modules, package, None)
    with pytest.raises(MissingDependencyError, match="pip install 'voxfide\\[runtime"):
        detector.score_waveforms([noise(16000)])


def test_calibrating_and_shrinking_are_refused(folders, tmp_path, capsys, monkeypatch):
    rows = [f"u{i},u{i}.wav,{('spoof', 'bonafide')[i % 2]}" for i in range(20)]
    (tmp_path / "m.csv").write_text("\n".join(["utterance_id,path,label", *rows]) + "\n")
    scores = "filename\tcm-score\n" + "".join(f"u{i}\t{i % 2 + i / 9}\n" for i in range(20))
    (tmp_path / "s.tsv").write_text(scores)
    assert run_here(monkeypatch, "calibrate", folders(), tmp_path / "s.tsv", "--key", tmp_path / "m.csv") == 2
    assert "calibrate the one that it was exported from" in capsys.readouterr().err
    assert run_here(monkeypatch, "shrink", folders(), "-o", tmp_path / "small") == 2
    assert "shrink the one that it was exported from" in capsys.readouterr().err


# --- parts written anew without torch


def test_domain_features_are_those_of_the_front_end():
    torch = pytest.importorskip("torch")
    from voxfide.frontends.lfcc import Lfcc

    front = Lfcc(deltas=False)
    for n in (320, 321, 479, 480, 481, 16000, 64001):
        signal = noise(n, n)
        with torch.inference_mode():
            theirs = next(front.iter_layers([torch.from_numpy(signal)])).numpy()
        np.testing.assert_allclose(lfcc(signal), theirs, atol=2e-4)


@settings(max_examples=30)
@given(st.integers(1, 3000), st.integers(0, 2**32 - 1), st.floats(-2, 2))
def test_smoothing_is_that_of_a_recursive_filter(n, seed, last):
    signal = pytest.importorskip("scipy.signal")
    x, pole = np.random.default_rng(seed).standard_normal(n), float(np.exp(-1 / 480))
    theirs, _ = signal.lfilter([1 - pole], [1, -pole], x, zi=[pole * last])
    np.testing.assert_allclose(smoothed(x, pole, last), theirs, atol=1e-13)


def test_windows_means_and_lengths_are_those_of_scipy():
    scipy = pytest.importorskip("scipy")
    for n in (512, 1024):
        np.testing.assert_allclose(hann(n), scipy.signal.get_window("hann", n), atol=1e-15)
    rows = np.random.default_rng(0).standard_normal((5, 250))
    theirs = scipy.ndimage.uniform_filter1d(rows, 15, axis=1)
    np.testing.assert_allclose(running_mean(rows, 15), theirs, atol=1e-14)
    for n in (*range(1, 2000), 131_999, 132_001):
        assert fast_length(n) == scipy.fft.next_fast_len(n, real=True)


def test_speech_is_that_of_silero_vad(recordings, tmp_path):
    """The graph that the exporter writes, against the network of the installed package."""
    onnx_graph = pytest.importorskip("voxfide.exporting.onnx_graph")
    from voxfide.exported.speech import GraphSpeech
    from voxfide.exporting.speech import speech

    onnx_graph.write(speech(), tmp_path / "speech.onnx")
    graph = GraphSpeech(Graph(tmp_path / "speech.onnx"))
    silero = pytest.importorskip("voxfide.conditions.silero")
    for path in recordings[:2]:
        signal = soundfile.read(path, dtype="float32")[0]
        signal = signal[: len(signal) // 512 * 512]
        ours, theirs = graph.listen(), silero.SileroStream()
        for start in range(0, len(signal), 512 * 24):
            part = signal[start : start + 512 * 24]
            np.testing.assert_allclose(ours.push(part), theirs.push(part), atol=1e-5)
        assert measure_conditions(path).speech_seconds > 1
