"""A detector: front-end, back-end and all that is needed to score, saved and loaded as one folder.

``config.json`` says what it is, ``model.safetensors`` holds the back-end's numbers and
(unless left on the hub) the front-end's weights, ``calibration.json``, where there is one, makes
its scores likelihood ratios, ``README.md`` is the model card.
``from_pretrained``, ``save_pretrained`` and ``push_to_hub`` are ``huggingface_hub``'s.
Nothing is pickled.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from huggingface_hub import ModelHubMixin

from voxfide import __version__
from voxfide.audio import AUDIO_SETTINGS, AudioStream, stream_audio
from voxfide.backends.base import Backend
from voxfide.backends.classifier import ClassifierBackend
from voxfide.backends.neural import NeuralBackend
from voxfide.calibration import CalibrationRecord
from voxfide.conditions import SpeechModel
from voxfide.crops import WHOLE, Crop
from voxfide.detection import Detection
from voxfide.detector_files import FORMAT, read_detector, write_calibration, write_detector
from voxfide.detector_transformers import FORM as TRANSFORMERS_FORM
from voxfide.domain import FILE_NAME as DOMAIN_FILE
from voxfide.domain import DomainModel
from voxfide.errors import AudioError, CheckpointError, UsageError
from voxfide.extraction import Extractor
from voxfide.features import pooled_features
from voxfide.frontends.base import WINDOW, FrameStatistics, Frontend, tensors_digest
from voxfide.head_scores import frame_extractor, frame_scores, piece_scorer
from voxfide.hub import download, is_hub_id
from voxfide.pieces import checked_waveforms, chunk_seconds, pieces
from voxfide.types import SAMPLE_RATE, Float64Array, PathLike


@dataclass(eq=False)
class Detector(ModelHubMixin):
    """Scores recordings.

    Args:
        frontend: with its weights.
        backend: trained.
        pool: how the back-end's features are averaged over time; ``none`` for full frames.
        threshold: score from which a recording counts as bona fide. Chosen where the two
            error rates meet on the development set if there was one, else 0 (equal odds). Of a
            calibrated detector the Bayes threshold of the stated prior and costs.
        training: what it was trained on and how it fared, for the model card.
        calibration: makes its scores likelihood ratios; set by :meth:`calibrated`.
        raw_threshold: of a calibrated detector, the threshold of its uncalibrated scores.
        crop: the part of a recording that a back-end on full frames scores.
        domain: knows what its training audio sounded like; changes no score.
    """

    frontend: Frontend
    backend: Backend
    pool: str = "mean"
    threshold: float = 0.0
    training: dict[str, Any] = field(default_factory=dict)
    calibration: CalibrationRecord | None = None
    raw_threshold: float = 0.0
    crop: Crop = WHOLE
    domain: DomainModel | None = None
    speech: ClassVar[SpeechModel | None] = None
    """The network that tells speech: that of silero-vad as it is installed."""

    def __post_init__(self) -> None:
        if self.pool not in self.backend.pools:
            raise UsageError(
                f"back-end {self.backend.name} takes {' or '.join(self.backend.pools)} features, "
                f"not pool {self.pool!r}"
            )
        if self.crop != WHOLE and not isinstance(self.backend, NeuralBackend):
            raise UsageError(f"back-end {self.backend.name} averages whole recordings: it takes no crop")

    def score_features(self, features: np.ndarray | Sequence[np.ndarray]) -> Float64Array:
        """Scores ``(utterances,)`` of the back-end's features; calibrated if the detector is.

        Args:
            features: ``(utterances, layers, dim)``; of a back-end on full frames, a sequence of
                ``(layers, frames, dim)``.
        """
        return self._calibrate(self.backend.score(features))  # type: ignore[arg-type]

    def _calibrate(self, scores: Float64Array) -> Float64Array:
        return scores if self.calibration is None else self.calibration.calibration.apply(scores)

    def extractor(self, **options: Any) -> Extractor:
        """What turns rows of a manifest into what :meth:`score_extracted` takes.

        Args:
            options: settings of :class:`~voxfide.extraction.Extractor`.
        """
        if isinstance(self.backend, NeuralBackend):
            return frame_extractor(self.frontend, [self.backend], self.crop, **options)
        return Extractor(self.frontend, self.pool, **options)

    def score_extracted(self, extracted: Sequence[np.ndarray]) -> Float64Array:
        """Scores ``(utterances,)`` of what :meth:`extractor` made of them."""
        if isinstance(self.backend, NeuralBackend):
            return self._calibrate(np.array(extracted, dtype=np.float64).reshape(-1))
        return self.score_features(np.stack(extracted))

    def calibrated(self, record: CalibrationRecord) -> Detector:
        """The same detector with this calibration, in place of the one it may have."""
        raw = self.uncalibrated()
        return replace(raw, calibration=record, threshold=record.threshold, raw_threshold=raw.threshold)

    def uncalibrated(self) -> Detector:
        """The same detector with the scores of its back-end as they are."""
        if self.calibration is None:
            return self
        return replace(self, calibration=None, threshold=self.raw_threshold, raw_threshold=0.0)

    def score_waveforms(self, waveforms: Sequence[np.ndarray]) -> Float64Array:
        """Scores of 16 kHz mono waveforms ``(samples,)``, each as if alone.

        Raises:
            AudioTooShortError: a waveform too short for one frame.
            UsageError: one that is not a vector of finite numbers.
        """
        vectors = checked_waveforms(waveforms, self.frontend.check_length)
        if isinstance(self.backend, NeuralBackend):
            return self._calibrate(frame_scores(self.frontend, [self.backend], vectors, self.crop)[:, 0])
        return self.score_features(pooled_features(self.frontend, vectors, self.pool))

    def detect(self, path: PathLike) -> Detection:
        """Scores one recording of any length in constant memory.

        Raises:
            AudioError: it cannot be read, or is too short or silent.
        """
        with stream_audio(path, chunk=chunk_seconds(self.crop)) as stream:
            score = self._score_stream(stream, str(path))
            info = stream.info
        return Detection(str(path), score, info)

    def _score_stream(self, stream: AudioStream, path: str) -> float:
        """The score of a stream, in constant memory."""
        if isinstance(self.backend, NeuralBackend):
            return float(self._calibrate(self._score_frames(stream, self.backend, path))[0])
        statistics = FrameStatistics(self.pool)
        for window in pieces(stream, WHOLE, self.frontend.min_samples):
            self.frontend.check_length(len(window), path)
            piece = torch.from_numpy(window).to(self.frontend.device)
            self.frontend.accumulate([piece], [statistics])
        features = statistics.result().cpu().numpy()[None]
        if not np.isfinite(features).all():
            raise AudioError(path, "its features are not finite", "finite features")
        return float(self.score_features(features)[0])

    def _score_frames(self, stream: AudioStream, backend: NeuralBackend, path: str) -> Float64Array:
        scorer = piece_scorer(self.frontend, [backend], self.crop)
        for piece in pieces(stream, self.crop, self.frontend.min_samples):
            self.frontend.check_length(len(piece), path)
            scorer.hear(piece)
        scores = scorer.result()
        if not np.isfinite(scores).all():
            raise AudioError(path, "its features are not finite", "finite features")
        return scores

    def layer_weights(self) -> Float64Array | None:
        """Weights ``(layers,)`` that the back-end has learnt for the layers; None if it has learnt none."""
        return self.backend.layer_weights() if isinstance(self.backend, NeuralBackend) else None

    @property
    def frame_threshold(self) -> float | None:
        """Frame score from which a frame counts as bona fide; None where frames cannot be relied on."""
        return getattr(self.backend, "frame_threshold", None)

    def facts(self) -> dict[str, str]:
        """What it is made of, for people."""
        layers = f"{self.frontend.name}, {self.frontend.n_layers} layer(s)"
        return {"front-end": layers, "back-end": self.backend.name}

    @property
    def score_kind(self) -> str:
        """What its scores are, as ``SCORES.json`` says it."""
        return "uncalibrated" if self.calibration is None else "natural-log likelihood ratio"

    def fingerprint(self) -> str:
        """Hex digest of everything that determines its scores."""
        facts = json.dumps(
            [self.backend.name, self.backend.config(), self.pool, self.crop.to_json()], sort_keys=True
        )
        parts = self.frontend.fingerprint() + facts + tensors_digest(self._numbers())
        if self.calibration is not None:
            method = self.calibration.calibration
            parts += json.dumps([method.name, method.config()], sort_keys=True)
        return hashlib.sha256(parts.encode()).hexdigest()

    def _numbers(self) -> dict[str, torch.Tensor]:
        return {k: torch.from_numpy(np.array(v)) for k, v in self.backend.tensors().items()}

    def config(self, embed_frontend: bool = True) -> dict[str, Any]:
        """``config.json``."""
        source = getattr(self.frontend, "source", None)
        whole = isinstance(self.backend, ClassifierBackend)
        weights: dict[str, Any] = {"in": TRANSFORMERS_FORM if whole else "model.safetensors"}
        if not embed_frontend:
            if whole or source is None or source.hub_id is None:
                raise UsageError(
                    f"front-end {self.frontend.name} did not come from the hub: its weights can only "
                    "be saved inside the detector"
                )
            weights = {"in": "hub", "hub_id": source.hub_id, "revision": source.revision}
        return {
            "format": FORMAT,
            "library": "voxfide",
            "voxfide_version": __version__,
            "frontend": {
                "name": _public_name(self.frontend.name),
                "kind": self.frontend.kind,
                "n_layers": self.frontend.n_layers,
                "settings": self.frontend.settings(),
                "weights": weights,
                "weights_sha256": tensors_digest(self.frontend.state_dict()),
            },
            "pool": self.pool,
            "crop": self.crop.to_json(),
            "backend": {
                "name": self.backend.name,
                "config": self.backend.config(),
                "weights_sha256": tensors_digest(self._numbers()),
            },
            "threshold": self.threshold if self.calibration is None else self.raw_threshold,
            "score": f"{self.backend.score_kind}; higher means more bona fide",
            "score_kind": self.backend.score_kind,
            "audio": {**AUDIO_SETTINGS, "sample_rate": SAMPLE_RATE, "window_s": WINDOW},
            "training": self.training,
        }

    def _save_pretrained(self, save_directory: Path) -> None:
        self.save(save_directory)

    def save(self, folder: PathLike, embed_frontend: bool = True) -> Path:
        """Writes the detector folder; a full disk leaves the one that was there.

        Args:
            folder: made if it does not exist.
            embed_frontend: whether the front-end's weights go inside, or are left on the
                hub and named by id and commit.
        """
        folder = Path(folder)
        frontend_tensors = self.frontend.state_dict() if embed_frontend else {}
        config = self.config(embed_frontend)
        write_detector(folder, config, self._numbers(), frontend_tensors, self.calibration, self.domain)
        return folder

    @staticmethod
    def write_calibration(folder: PathLike, record: CalibrationRecord) -> None:
        """Puts a calibration into a detector's folder, in place of one that is there."""
        write_calibration(Path(folder), record)

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: PathLike,
        *,
        device: str = "cpu",
        labels: Mapping[str, str] | None = None,
        **hub_options: Any,
    ) -> Detector:
        """Loads a detector folder, or one from the hub by id.

        Args:
            pretrained_model_name_or_path: a folder, or ``ORGANISATION/NAME``.
            device: a torch device.
            labels: of a public classifier, which label means what: ``{"bonafide": LABEL}``.
            hub_options: ``revision``, ``cache_dir``, ``token``, ``local_files_only``, ``force_download``.

        Raises:
            CheckpointError: nothing there, or not a detector.
        """
        name = str(pretrained_model_name_or_path)
        if Path(name).expanduser().is_dir():
            return cls.load(name, device, labels)
        if not is_hub_id(name):
            raise CheckpointError(f"{name}: no such folder, and no hub id ORGANISATION/NAME")
        files = ["config.json", "model.safetensors"]
        optional = ["README.md", "calibration.json", DOMAIN_FILE, "preprocessor_config.json"]
        found = download(name, files, optional=optional, **hub_options)
        return cls.load(found.folder, device, labels)

    @classmethod
    def load(cls, folder: PathLike, device: str = "cpu", labels: Mapping[str, str] | None = None) -> Detector:
        """Reads the folder of a detector, or of a public audio classifier as ``transformers`` saves it.

        Raises:
            CheckpointError: missing or damaged files, or front-end weights that have changed.
            UsageError: labels of a public classifier that do not say what they mean.
        """
        parts, record = read_detector(Path(folder).expanduser(), device, labels)
        made = cls(**parts)
        return made if record is None else made.calibrated(record)


def _public_name(name: str) -> str:
    """Without the folders of a local model, which mean nothing elsewhere."""
    return Path(name).name if Path(name).expanduser().is_dir() else name
