"""A detector's folder of graphs: made, checked against torch, and put in place whole."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from voxfide import __version__
from voxfide.audio import AUDIO_SETTINGS
from voxfide.backends.kernel import KernelBackend
from voxfide.calibration.record import FILE_NAME as CALIBRATION_FILE
from voxfide.detector import Detector
from voxfide.domain import FILE_NAME as DOMAIN_FILE
from voxfide.errors import CheckpointError, UsageError
from voxfide.exported.detector import ExportedDetector
from voxfide.exported.format import (
    CONFIG_FILE,
    FORMAT,
    KIND,
    RUNTIMES,
    fingerprint_of,
    is_exported,
    weights_key,
)
from voxfide.exporting import compact, graphs, onnx_graph, openvino_graph, speech
from voxfide.exporting.card import export_card
from voxfide.files import file_sha256
from voxfide.frontends import restore_frontend
from voxfide.frontends.windowing import WINDOW
from voxfide.types import SAMPLE_RATE, Float32Array, PathLike

TOLERANCE: Final = 1e-3
"""Difference of a score to torch from which an export in single precision is not believed."""

SECONDS: Final = (0.5, 1.0, 2.3, 4.0)
"""Lengths of the signals on which an export is checked, beside the shortest that the detector takes."""


def export_detector(
    detector: object, folder: PathLike, runtime: str = "onnx", *, int8: bool = False, name: str = ""
) -> dict[str, Any]:
    """Writes an exported detector, which is scored with like any other, without torch.

    The whole chain is in it, from the waveform to the calibrated score. Before the folder appears, whole or
    not at all, it is loaded and its scores are compared with the detector's.

    Args:
        detector: a :class:`~voxfide.detector.Detector` on the CPU.
        folder: to make; an exported detector that is there is replaced.
        runtime: ``onnx`` or ``openvino``.
        int8: weights of 8 bits.
        name: of the detector, for people.

    Returns:
        ``config.json``.

    Raises:
        UsageError: a detector that cannot be exported, another runtime, or a folder of something else.
        CheckpointError: scores that differ by more than :data:`TOLERANCE` in single precision.
        MissingDependencyError: a package that is needed is not installed.
    """
    found = graphs.check_exportable(detector)
    if runtime not in RUNTIMES:
        raise UsageError(f"format {runtime!r} (expected {' or '.join(RUNTIMES)})")
    if runtime == "onnx":
        onnx_graph.require((*onnx_graph.PACKAGES, "onnxruntime"), "export")
    else:
        onnx_graph.require((*onnx_graph.PACKAGES, "openvino", *(("nncf",) if int8 else ())), "openvino")
    folder = Path(folder).expanduser()
    _check_free(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name[:100]}.", suffix=".tmp", dir=folder.parent))
    try:
        config = _write(temporary, found, runtime, int8, name)
        temporary.chmod(0o777 & ~_umask())
        _put_in_place(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return config


def _write(folder: Path, detector: Detector, runtime: str, int8: bool, name: str) -> dict[str, Any]:
    reference = in_single_precision(detector)
    files = _write_graphs(folder, reference, runtime, int8)
    config = _config(folder, detector, runtime, int8, name, files)
    if detector.calibration is not None:
        bound = detector.calibration.to_json() | {"weights_sha256": weights_key(config)}
        _write_json(folder / CALIBRATION_FILE, bound)
    if detector.domain is not None:
        (folder / DOMAIN_FILE).write_text(detector.domain.to_text(), encoding="utf-8")
    _write_json(folder / CONFIG_FILE, config)
    config["verified"] = verify(folder, reference)
    difference = config["verified"]["max_difference"]
    if not int8 and not difference <= TOLERANCE:
        raise CheckpointError(
            f"{name or detector.frontend.name}: exported scores differ from torch's by {difference:.2g} "
            f"(expected at most {TOLERANCE:g}): nothing was written"
        )
    _write_json(folder / CONFIG_FILE, config)
    (folder / "README.md").write_text(export_card(config, detector.calibration), encoding="utf-8")
    return config


def in_single_precision(detector: Detector) -> Detector:
    """The detector whose front-end computes in float32, as its graph does."""
    frontend = detector.frontend
    if getattr(frontend, "precision", "fp32") == "fp32":
        return detector
    made = restore_frontend(frontend.name, frontend.kind, frontend.settings() | {"precision": "fp32"})
    made.load_state_dict(frontend.state_dict())
    return replace(detector, frontend=made)


def _write_graphs(folder: Path, detector: Detector, runtime: str, int8: bool) -> dict[str, Any]:
    """Writes all graphs; ``model`` of the configuration."""
    if int8 and isinstance(detector.backend, KernelBackend):
        detector = replace(detector, backend=compact.rounded_landmarks(detector.backend))
    whole = graphs.chain(detector)
    head = graphs.head(detector, whole)
    protos = {"model": onnx_graph.trace(whole), "speech": speech.speech()}
    if head is not None:
        protos["head"] = onnx_graph.trace(head)
    # Spectra span many powers of ten, and the weights of a linear back-end cancel out: neither bears 8 bits.
    analysed, averaged = detector.frontend.kind in ("lfcc", "lfcc-moments"), detector.pool != "none"
    untouched = (*(("frontend.",) if analysed else ()), *(("backend.",) if averaged else ()))
    written: list[Path] = []
    for stem, proto in protos.items():
        eight_bits = int8 and stem != "speech"
        if runtime == "onnx":
            compact.quantise(proto, untouched) if eight_bits else compact.halve(proto)
            written += onnx_graph.write(proto, folder / f"{stem}.onnx")
            continue
        compact.store_landmarks(proto) if eight_bits else compact.halve(proto)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            onnx_path, *_ = onnx_graph.write(proto, Path(scratch) / f"{stem}.onnx")
            compressed = eight_bits and stem != "head" and not analysed
            kept = compact.products(proto, untouched) if untouched else []
            written += openvino_graph.convert(onnx_path, folder / f"{stem}.xml", compressed, kept)
    suffix = "onnx" if runtime == "onnx" else "xml"
    return {
        "graph": f"model.{suffix}",
        "head": None if head is None else f"head.{suffix}",
        "speech": f"speech.{suffix}",
        "sha256": {path.name: file_sha256(path) for path in written},
    }


def _config(
    folder: Path, detector: Detector, runtime: str, int8: bool, name: str, files: dict[str, Any]
) -> dict[str, Any]:
    frontend, backend = detector.frontend, detector.backend
    was = detector.config()
    weights = detector.layer_weights()
    config = {
        "format": FORMAT,
        "library": "voxfide",
        "kind": KIND,
        "voxfide_version": __version__,
        "runtime": runtime,
        "precision": "int8" if int8 else "fp32",
        "source": {"fingerprint": detector.fingerprint(), "name": name or frontend.name},
        "model": files,
        "frontend": {
            **{key: was["frontend"][key] for key in ("name", "kind", "n_layers", "settings")},
            "min_samples": frontend.min_samples,
            "hop_samples": frontend.hop_samples,
        },
        "backend": {
            "name": backend.name,
            "config": backend.config(),
            "layer_weights": None if weights is None else weights.tolist(),
        },
        "pool": detector.pool,
        "crop": detector.crop.to_json(),
        "window_s": WINDOW,
        **{key: was[key] for key in ("threshold", "score", "score_kind", "training")},
        "audio": AUDIO_SETTINGS,
        "facts": detector.facts(),
    }
    return config | {"fingerprint": fingerprint_of(json.loads(json.dumps(config)))}


def verify(folder: Path, reference: Detector) -> dict[str, Any]:
    """How far an exported detector's scores are from those in torch, on synthesised signals.

    Returns:
        ``max_difference`` of a score, ``n_waveforms``, and ``shortest_s`` and ``longest_s``.
    """
    exported = ExportedDetector.load(folder)
    signals = check_signals(reference.frontend.min_samples)
    expected = reference.score_waveforms(signals)
    together = exported.score_waveforms(signals)
    alone = np.concatenate([exported.score_waveforms([signal]) for signal in signals])
    lengths = [len(signal) / SAMPLE_RATE for signal in signals]
    return {
        "max_difference": float(np.abs(np.stack([together, alone]) - expected).max()),
        "n_waveforms": len(signals),
        "shortest_s": min(lengths),
        "longest_s": max(lengths),
    }


def check_signals(min_samples: int) -> Sequence[Float32Array]:
    """Voices, and noise of the shortest length; the same ones always."""
    from voxfide.corpora.selftest.generate import synthesise_utterance
    from voxfide.corpora.selftest.speaker import Speaker

    rng = np.random.default_rng(0)
    shortest = 0.1 * rng.standard_normal(min_samples)
    voices = [synthesise_utterance(Speaker.draw("check", rng), rng, seconds) for seconds in SECONDS]
    signals = [np.asarray(signal, np.float32) for signal in (shortest, *voices)]
    return [signal for signal in signals if len(signal) >= min_samples]


def _check_free(folder: Path) -> None:
    """Raises :class:`UsageError` where something else is there."""
    if folder.is_dir() and (not any(folder.iterdir()) or is_exported(folder)):
        return
    if folder.exists():
        raise UsageError(f"{folder}: is there already (expected a new folder, or an exported detector's)")


def _put_in_place(temporary: Path, folder: Path) -> None:
    if not folder.exists():
        temporary.rename(folder)
        return
    with tempfile.TemporaryDirectory(
        prefix=f".{folder.name[:100]}.", suffix=".tmp", dir=folder.parent
    ) as old:
        folder.rename(Path(old) / folder.name)
        temporary.rename(folder)


def _write_json(path: Path, values: dict[str, Any]) -> None:
    text = json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
