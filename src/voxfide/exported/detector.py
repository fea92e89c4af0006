"""An exported detector, used like any other, without torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from voxfide.audio import stream_audio
from voxfide.calibration import CalibrationRecord
from voxfide.calibration.record import FILE_NAME as CALIBRATION_FILE
from voxfide.conditions import SpeechModel
from voxfide.crops import Crop
from voxfide.detection import Detection
from voxfide.domain import FILE_NAME as DOMAIN_FILE
from voxfide.domain import DomainModel
from voxfide.errors import CheckpointError, UsageError
from voxfide.exported.format import read_config, weights_key
from voxfide.exported.model import ExportedFrontend, ExportedModel
from voxfide.exported.sessions import Graph
from voxfide.exported.speech import GraphSpeech
from voxfide.frontends.windowing import POOLS, WINDOW
from voxfide.pieces import checked_waveforms, chunk_seconds
from voxfide.types import Float64Array, PathLike, Seconds

if TYPE_CHECKING:
    from voxfide.extraction import Extractor

DEVICES: Final = ("auto", "cpu")
_RUNTIMES: Final = {"onnx": "ONNX", "openvino": "OpenVINO"}


@dataclass(eq=False)
class ExportedDetector:
    """Scores recordings with the graphs of a folder that ``voxfide export`` wrote.

    It can be scored with, not trained further: to calibrate or shrink it, do so with the detector that it
    was made from and export that again.

    Args:
        model: its graphs.
        config: ``config.json``.
        threshold: score from which a recording counts as bona fide; of a calibrated detector the Bayes
            threshold of the stated prior and costs.
        calibration: makes its scores likelihood ratios; set by :meth:`calibrated`.
        raw_threshold: of a calibrated detector, the threshold of its uncalibrated scores.
        domain: knows what the training audio sounded like; changes no score.
        speech: the network that tells speech; None for the one of the installed silero-vad.
    """

    model: ExportedModel
    config: dict[str, Any]
    threshold: float = 0.0
    calibration: CalibrationRecord | None = None
    raw_threshold: float = 0.0
    domain: DomainModel | None = None
    speech: SpeechModel | None = field(default=None, repr=False)

    @classmethod
    def load(
        cls, folder: PathLike, device: str = "cpu", labels: Any = None, *, threads: int | None = None
    ) -> ExportedDetector:
        """Reads the folder of an exported detector.

        Args:
            folder: written by ``voxfide export``.
            device: ``cpu`` or ``auto``, which is the same here.
            labels: none: of a public classifier they are settled by the export.
            threads: that compute a batch; None: as many as ``OMP_NUM_THREADS`` states, else one a core.

        Raises:
            CheckpointError: missing, damaged or changed files.
            UsageError: another device, or labels.
        """
        folder = Path(folder).expanduser()
        if device not in DEVICES:
            raise UsageError(
                f"{folder}: an exported detector runs on the CPU, not on {device!r} (expected auto or cpu)"
            )
        if labels:
            raise UsageError(f"{folder}: its labels were settled by the export (expected no --labels)")
        config = read_config(folder)
        try:
            made = cls(
                _model(folder, config, threads),
                config,
                _finite(config["threshold"]),
                domain=DomainModel.read(folder / DOMAIN_FILE) if (folder / DOMAIN_FILE).exists() else None,
                speech=_speech(folder, config, threads),
            )
            _ = made.facts(), made.training
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise CheckpointError(
                f"{folder / 'config.json'}: missing or malformed entry ({type(error).__name__}: {error})"
            ) from error
        record = _calibration(folder, config)
        return made if record is None else made.calibrated(record)

    @property
    def frontend(self) -> ExportedFrontend:
        """Geometry of frames."""
        return self.model.frontend

    @cached_property
    def training(self) -> dict[str, Any]:
        """What the detector that was exported was trained on."""
        return dict(self.config.get("training", {}))

    def facts(self) -> dict[str, str]:
        """What it is made of, for people."""
        facts = {str(key): str(value) for key, value in self.config["facts"].items()}
        return facts | {"exported": f"{_RUNTIMES[self.config['runtime']]}, {self.config['precision']}"}

    @property
    def score_kind(self) -> str:
        """What its scores are, as ``SCORES.json`` says it."""
        return "uncalibrated" if self.calibration is None else "natural-log likelihood ratio"

    def layer_weights(self) -> Float64Array | None:
        """Weights ``(layers,)`` that the back-end has learnt for the layers; None if it has learnt none."""
        weights = self.config["backend"].get("layer_weights")
        return None if weights is None else np.asarray(weights, np.float64)

    @property
    def frame_threshold(self) -> float | None:
        """Frame score from which a frame counts as bona fide; None where frames cannot be relied on.

        See :attr:`voxfide.backends.frames.FramesBackend.frame_threshold`.
        """
        threshold = self.config["backend"]["config"].get("frame_threshold")
        return float(threshold) if threshold is not None and self.model.gives_frames else None

    def fingerprint(self) -> str:
        """Hex digest of everything that determines its scores."""
        parts: str = self.config["fingerprint"]
        if self.calibration is not None:
            method = self.calibration.calibration
            parts += json.dumps([method.name, method.config()], sort_keys=True)
        return hashlib.sha256(parts.encode()).hexdigest()

    def score_waveforms(self, waveforms: Sequence[np.ndarray]) -> Float64Array:
        """Scores of 16 kHz mono waveforms ``(samples,)``, each as if alone.

        Raises:
            AudioTooShortError: a waveform too short for one frame.
            UsageError: one that is not a vector of finite numbers.
        """
        return self._calibrate(self.model.score(checked_waveforms(waveforms, self.frontend.check_length)))

    def detect(self, path: PathLike) -> Detection:
        """Scores one recording of any length in constant memory.

        Raises:
            AudioError: it cannot be read, or is too short or silent.
        """
        with stream_audio(path, chunk=chunk_seconds(self.model.crop)) as stream:
            raw = self.model.score_stream(stream, str(path))
            info = stream.info
        return Detection(str(path), float(self._calibrate(np.array([raw]))[0]), info)

    def extractor(self, **options: Any) -> Extractor:
        """What turns rows of a manifest into what :meth:`score_extracted` takes: uncalibrated scores.

        Args:
            options: settings of :class:`~voxfide.extraction.Extractor`.
        """
        from voxfide.extraction import Extractor  # which needs pyarrow, as manifests do

        budget: Seconds | None = options.get("batch_seconds")

        def scores(waveforms: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
            return list(self.model.score(waveforms, budget)[:, None])

        return Extractor(self.frontend, "none", compute=scores, **options)

    def score_extracted(self, extracted: Sequence[np.ndarray]) -> Float64Array:
        """Scores ``(utterances,)`` of what :meth:`extractor` made of them."""
        return self._calibrate(np.array(extracted, dtype=np.float64).reshape(-1))

    def calibrated(self, record: CalibrationRecord) -> ExportedDetector:
        """The same detector with this calibration, in place of the one it may have."""
        raw = self.uncalibrated()
        return replace(raw, calibration=record, threshold=record.threshold, raw_threshold=raw.threshold)

    def uncalibrated(self) -> ExportedDetector:
        """The same detector with the scores of its back-end as they are."""
        if self.calibration is None:
            return self
        return replace(self, calibration=None, threshold=self.raw_threshold, raw_threshold=0.0)

    def _calibrate(self, scores: Float64Array) -> Float64Array:
        return scores if self.calibration is None else self.calibration.calibration.apply(scores)


def _model(folder: Path, config: dict[str, Any], threads: int | None) -> ExportedModel:
    about, files = config["frontend"], config["model"]
    pool, window = config["pool"], config["window_s"]
    if pool not in POOLS or (pool == "none") != (files["head"] is None):
        raise ValueError(f"pool {pool!r} with head {files['head']!r}")
    if window != WINDOW:
        raise ValueError(f"windows of {window!r} s, here of {WINDOW} s")
    frontend = ExportedFrontend(
        str(about["name"]),
        str(about["kind"]),
        int(about["n_layers"]),
        hop_samples=int(about["hop_samples"]),
        min_samples=int(about["min_samples"]),
        settings=dict(about["settings"]),
    )
    head = None if files["head"] is None else Graph(folder / files["head"], threads)
    return ExportedModel(
        frontend, Graph(folder / files["graph"], threads), head, pool, Crop(**config["crop"])
    )


def _speech(folder: Path, config: dict[str, Any], threads: int | None) -> SpeechModel | None:
    name = config["model"].get("speech")
    return None if name is None else GraphSpeech(Graph(folder / name, threads))


def _calibration(folder: Path, config: dict[str, Any]) -> CalibrationRecord | None:
    path = folder / CALIBRATION_FILE
    if not path.exists():
        return None
    record = CalibrationRecord.read(path)
    if record.weights != weights_key(config):
        raise CheckpointError(
            f"{path}: belongs to another detector (calibrate the detector that this one was exported from, "
            "and export it again)"
        )
    return record


def _finite(value: Any) -> float:
    if not np.isfinite(value):
        raise ValueError(f"{value} is not finite")
    return float(value)
