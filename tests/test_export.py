"""Exported detectors against torch: graphs in both runtimes, in 32 and 8 bits, and the command."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from command_line import run_here
from small_corpus import write_corpus
from test_export_graphs import neural, of_averages, ssl_frontend
from voxfide.calibration import CalibrationRecord, create_calibration
from voxfide.corpora.selftest.generate import synthesise_utterance
from voxfide.corpora.selftest.speaker import Speaker
from voxfide.crops import Crop
from voxfide.detector import Detector
from voxfide.detectors import load_detector
from voxfide.errors import CheckpointError, MissingDependencyError, UsageError
from voxfide.exported.detector import ExportedDetector
from voxfide.exported.sessions import Graph
from voxfide.exporting import compact, export, onnx_graph, openvino_graph
from voxfide.exporting.export import export_detector
from voxfide.frontends import create_frontend
from voxfide.scores import read_scores

LENGTHS = (960, 961, 1279, 1280, 3000, 4444, 8000, 16000, 24001, 40000)
RUNTIMES = ("onnx", "openvino")


def calibrated(detector: Detector) -> Detector:
    rng = np.random.default_rng(0)
    is_bonafide = rng.random(60) < 0.5
    method = create_calibration("affine").fit(rng.standard_normal(60) + is_bonafide, is_bonafide)
    return detector.calibrated(CalibrationRecord(method))


def wavlm_ffn() -> Detector:
    """Layer norms in the convolutions, pre-norm blocks."""
    frontend = ssl_frontend("wavlm-large", 1)
    return calibrated(Detector(frontend, neural("ffn", frontend), "none"))


def wav2vec2_aasist() -> Detector:
    """A group norm over time, post-norm blocks."""
    frontend = ssl_frontend("wav2vec2-base", 1)
    return Detector(frontend, neural("aasist", frontend), "none", crop=Crop(seconds=2.0, short="keep"))


def lfcc_logistic() -> Detector:
    frontend = create_frontend("lfcc")
    return Detector(frontend, of_averages("logistic", frontend, "mean_std"), "mean_std", threshold=0.25)


MAKERS = {
    "bundled": lambda: load_detector("bundled"),
    "wavlm + ffn": wavlm_ffn,
    "wav2vec2 + aasist": wav2vec2_aasist,
}


class Exports:
    """Detectors and their folders, each made when it is first asked for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._made: dict[str, tuple[Detector, Path]] = {}

    def __call__(self, name: str) -> tuple[Detector, Path]:
        if name not in self._made:
            detector, folder = MAKERS[name](), self._folder / name
            export_detector(detector, folder, name=name)
            self._made[name] = detector, folder
        return self._made[name]

    def graph(self, name: str, runtime: str) -> tuple[Detector, Graph]:
        detector, folder = self(name)
        if runtime == "openvino" and not (folder / "other.xml").exists():
            openvino_graph.convert(folder / "model.onnx", folder / "other.xml")
        return detector, Graph(folder / ("model.onnx" if runtime == "onnx" else "other.xml"), 1)


@pytest.fixture(scope="module")
def exports(tmp_path_factory):
    return Exports(tmp_path_factory.mktemp("exports"))


@pytest.fixture(scope="module")
def lfcc(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lfcc")
    return lfcc_logistic().save(folder / "torch")


def voices(lengths: tuple[int, ...] = LENGTHS) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    voice = synthesise_utterance(Speaker.draw("s", rng), rng, 4.0).astype(np.float32)
    starts = rng.integers(8000, 20000, len(lengths))
    return [voice[start : start + n] for start, n in zip(starts, lengths, strict=True)]


def inputs(waveforms: list[np.ndarray], beyond: float = 0.0, more: int = 0) -> dict[str, np.ndarray]:
    lengths = np.array([len(w) for w in waveforms])
    batch = np.full((len(waveforms), lengths.max() + more), beyond, np.float32)
    for row, waveform in zip(batch, waveforms, strict=True):
        row[: len(waveform)] = waveform
    return {"waveform": batch, "lengths": lengths}


def alone(graph: Graph, waveforms: list[np.ndarray]) -> np.ndarray:
    return np.array([graph.run(inputs([w]))["raw_score"][0] for w in waveforms])


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("name", MAKERS)
def test_scores_are_those_of_torch(exports, name, runtime):
    detector, graph = exports.graph(name, runtime)
    waveforms = voices()
    whole = detector.uncalibrated()
    if not isinstance(whole.backend, type(load_detector("bundled").backend)):
        whole = Detector(whole.frontend, whole.backend, "none")  # what the graph scores is cut before
    expected = whole.score_waveforms(waveforms)
    assert np.ptp(expected) > 1e-3
    np.testing.assert_allclose(graph.run(inputs(waveforms))["raw_score"], expected, atol=1e-4)
    np.testing.assert_allclose(alone(graph, waveforms), expected, atol=1e-4)
    for size in (2, 3, 5, 7):
        chosen = np.random.default_rng(size).permutation(len(waveforms))[:size]
        some = inputs([waveforms[i] for i in chosen], beyond=9.0, more=1234)
        np.testing.assert_allclose(graph.run(some)["raw_score"], expected[chosen], atol=1e-4)


@pytest.mark.parametrize("name", MAKERS)
def test_the_folder_is_a_detector(exports, name):
    detector, folder = exports(name)
    exported = load_detector(folder)
    assert isinstance(exported, ExportedDetector)
    waveforms = [*voices(), np.concatenate(voices((16000,) * 3) * 15)]  # the last is longer than a window
    np.testing.assert_allclose(
        exported.score_waveforms(waveforms), detector.score_waveforms(waveforms), atol=1e-4
    )
    np.testing.assert_allclose(
        exported.uncalibrated().score_waveforms(waveforms),
        detector.uncalibrated().score_waveforms(waveforms),
        atol=2e-4,
    )
    assert exported.threshold == detector.threshold
    assert exported.score_kind == detector.score_kind
    assert (exported.domain is None) == (detector.domain is None)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_the_graph_calibrates_itself(exports, runtime):
    detector, graph = exports.graph("wavlm + ffn", runtime)
    found = graph.run(inputs(voices()))
    expected = detector.calibration.calibration.apply(found["raw_score"])
    assert np.abs(expected - found["raw_score"]).max() > 0.01
    np.testing.assert_allclose(found["score"], expected, atol=1e-5)


def test_eight_bits_in_onnxruntime(exports, tmp_path, monkeypatch):
    monkeypatch.setattr(compact, "LEAST_NUMBERS", 256)  # as large matrices as this small model has
    _, graph = exports.graph("wavlm + ffn", "onnx")
    proto = onnx.load(graph.path)
    compact.quantise(proto)
    onnx_graph.write(proto, tmp_path / "small.onnx")
    eight = Graph(tmp_path / "small.onnx", 1)
    _check_eight_bits(graph, eight)
    assert any(node.op_type == "MatMulIntegerToFloat" for node in proto.graph.node)
    assert _weight_bytes(proto) < 0.6 * _weight_bytes(onnx.load(graph.path))


def test_eight_bits_in_openvino(exports, tmp_path):
    _, graph = exports.graph("wavlm + ffn", "openvino")
    onnx_path = exports("wavlm + ffn")[1] / "model.onnx"
    files = openvino_graph.convert(onnx_path, tmp_path / "small.xml", eight_bits=True)
    _check_eight_bits(graph, Graph(tmp_path / "small.xml", 1))
    assert files[1].stat().st_size < 0.5 * graph.path.with_suffix(".bin").stat().st_size


def _check_eight_bits(graph: Graph, eight: Graph) -> None:
    """Near the scores of single precision, not equal to them, and still independent of the batch."""
    waveforms = voices()
    exact = graph.run(inputs(waveforms))["raw_score"]
    together = eight.run(inputs(waveforms, beyond=9.0, more=500))["raw_score"]
    error = np.abs(together - exact).max()
    assert 0 < error < 0.05
    # A number halfway between two steps may fall to either side; a scale of the batch would change all.
    assert np.abs(alone(eight, waveforms) - together).max() < 0.1 * error


def _weight_bytes(proto: onnx.ModelProto) -> int:
    return sum(len(tensor.raw_data) for tensor in proto.graph.initializer)


def test_large_models_keep_their_weights_beside_them(exports, tmp_path):
    _, graph = exports.graph("wavlm + ffn", "onnx")
    files = onnx_graph.write(onnx.load(graph.path), tmp_path / "model.onnx", inline_bytes=1000)
    assert [file.name for file in files] == ["model.onnx", "model.onnx.data"]
    waveforms = voices()
    apart = Graph(files[0], 1).run(inputs(waveforms))["raw_score"]
    assert np.array_equal(apart, graph.run(inputs(waveforms))["raw_score"])
    openvino_graph.convert(files[0], tmp_path / "model.xml")
    np.testing.assert_allclose(
        Graph(tmp_path / "model.xml", 1).run(inputs(waveforms))["raw_score"], apart, atol=1e-4
    )


@pytest.mark.parametrize("name", MAKERS)
def test_graphs_tell_nothing_of_the_machine(exports, name):
    _, folder = exports(name)
    root = str(Path(export.__file__).parents[2]).encode()
    for file in folder.iterdir():
        assert root not in file.read_bytes()


def test_weights_of_half_precision_are_stored_so(exports):
    _, folder = exports("bundled")
    kinds = {t.name: t.data_type for t in onnx.load(folder / "head.onnx").graph.initializer}
    assert kinds["backend.landmarks_half"] == onnx.TensorProto.FLOAT16
    assert (folder / "head.onnx").stat().st_size < 3.3e6


def test_the_command_writes_what_the_others_read(lfcc, tmp_path, monkeypatch, capsys):
    manifest = write_corpus(tmp_path)
    folder = tmp_path / "exported"
    assert run_here(monkeypatch, "export", lfcc, "-o", folder, "--format", "openvino", "--int8") == 0
    assert "MB of graphs; scores differ" in capsys.readouterr().out
    assert not list(tmp_path.glob(".*.tmp"))
    for name, detector in (("a", lfcc), ("b", folder)):
        assert (
            run_here(monkeypatch, "score", detector, manifest, "-o", tmp_path / name, "--workers", "0") == 0
        )
    a, b = (read_scores(tmp_path / name) for name in "ab")
    assert a.utterance_id.tolist() == b.utterance_id.tolist()
    np.testing.assert_allclose(a.score, b.score, atol=1e-3)
    config = json.loads((folder / "config.json").read_text())
    assert (config["runtime"], config["precision"], config["threshold"]) == ("openvino", "int8", 0.25)
    assert config["verified"]["max_difference"] < 1e-3
    card = (folder / "README.md").read_text()
    assert "silero-vad (Silero Team, MIT licence)" in card
    assert "`deviations`" in card
    assert run_here(monkeypatch, "export", folder, "-o", tmp_path / "again") == 2
    assert "is exported" in capsys.readouterr().err


def test_mistakes_are_told_before_anything_is_computed(lfcc, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(onnx_graph, "trace", None)
    assert run_here(monkeypatch, "export", lfcc, "-o", tmp_path / "x", "--format", "tflite") == 2
    assert "format 'tflite' (expected onnx or openvino)" in capsys.readouterr().err
    assert run_here(monkeypatch, "export", tmp_path / "none", "-o", tmp_path / "x") == 2
    assert "no such folder" in capsys.readouterr().err
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("precious")
    for there in (mine, mine / "thesis.txt", lfcc):
        with pytest.raises(UsageError, match="is there already"):
            export_detector(Detector.load(lfcc), there)
    assert (mine / "thesis.txt").read_text() == "precious"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mine"]


@pytest.mark.parametrize(
    ("package", "runtime", "int8", "extra"),
    [("onnxscript", "onnx", False, "export"), ("onnxruntime", "onnx", False, "export"),
     ("openvino", "openvino", False, "openvino"), ("nncf", "openvino", True, "openvino")],
)  # fmt: skip
def test_missing_packages_are_told(lfcc, tmp_path, monkeypatch, package, runtime, int8, extra):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingDependencyError, match=rf"{package} \(pip install 'voxfide\[{extra}\]'"):
        export_detector(Detector.load(lfcc), tmp_path / "x", runtime, int8=int8)
    assert not list(tmp_path.iterdir())


@pytest.fixture
def copied(exports, monkeypatch):
    """Exports of one detector without tracing it again."""
    _, folder = exports("wavlm + ffn")

    def write(to: Path, *_: object) -> dict[str, object]:
        model = json.loads((folder / "config.json").read_text())["model"]
        for name in model["sha256"]:
            shutil.copy(folder / name, to / name)
        return model

    monkeypatch.setattr(export, "_write_graphs", write)


def test_a_graph_that_scores_otherwise_is_not_written(copied, tmp_path):
    other = wavlm_ffn()
    with torch.no_grad():
        other.backend.head.out.bias[1] += 0.5
    with pytest.raises(CheckpointError, match="differ from torch's by 0.*nothing was written"):
        export_detector(other, tmp_path / "x", name="other")
    assert not list(tmp_path.iterdir())


def test_an_interrupted_export_leaves_what_was_there(copied, tmp_path, monkeypatch):
    for name in ("first", "second"):  # which takes its place
        export_detector(wavlm_ffn(), tmp_path / "x", name=name)
        assert json.loads((tmp_path / "x" / "config.json").read_text())["source"]["name"] == name
    before = {p.name: p.read_bytes() for p in (tmp_path / "x").iterdir()}

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(export, "verify", interrupt)
    with pytest.raises(KeyboardInterrupt):
        export_detector(wavlm_ffn(), tmp_path / "x", name="third")
    assert {p.name: p.read_bytes() for p in (tmp_path / "x").iterdir()} == before
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


def test_half_precision_front_ends_are_exported_in_single(copied, tmp_path):
    detector = wavlm_ffn()
    detector.frontend.precision = "bf16"
    config = export_detector(detector, tmp_path / "x")
    assert config["verified"]["max_difference"] < 1e-4
    assert config["source"]["fingerprint"] == detector.fingerprint()
