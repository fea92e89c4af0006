"""Several detectors and their fusion as one detector, which decodes a recording once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from huggingface_hub import ModelHubMixin

from voxfide.audio import stream_audio
from voxfide.calibration import CalibrationRecord
from voxfide.conditions import SpeechModel
from voxfide.detection import Detection
from voxfide.detector import Detector
from voxfide.domain import DomainModel
from voxfide.ensemble.files import OPTIONAL, REQUIRED, ensemble_config, read_ensemble, write_ensemble
from voxfide.ensemble.files import write_calibration as write_ensemble_calibration
from voxfide.ensemble.passes import Pass, passes_of, scores_of, scores_of_stream
from voxfide.ensemble.sharing import share_frontends, whole_of
from voxfide.errors import AudioError, CheckpointError, UsageError
from voxfide.extraction import Extractor
from voxfide.frontends.base import WINDOW, Frontend
from voxfide.fusion import FusionRecord
from voxfide.hub import download, is_hub_id
from voxfide.pieces import checked_waveforms
from voxfide.types import Float64Array, PathLike, Seconds


@dataclass(eq=False)
class EnsembleDetector(ModelHubMixin):
    """Detectors whose scores are fused; used like any other detector.

    Its scores are natural-log likelihood ratios, as the fusion's are. Front-ends that are
    equal, or the first layers of another, are kept and run once.

    Args:
        members: in the order of the fusion's systems.
        fusion: learnt on scores of these very members; see :meth:`of`.
        names: of the members, for people.
        threshold: score from which a recording counts as bona fide: by :meth:`of` where the error
            rates meet on the trials that the fusion was learnt on; of a calibrated ensemble, the
            Bayes threshold.
        calibration: set by :meth:`calibrated`.
        raw_threshold: of a calibrated ensemble, the threshold of its uncalibrated scores.
        domain: knows what the training audio sounded like; changes no score.

    Raises:
        UsageError: another number of members than the fusion has systems.
    """

    members: list[Detector]
    fusion: FusionRecord
    names: tuple[str, ...] = ()
    threshold: float = 0.0
    calibration: CalibrationRecord | None = None
    raw_threshold: float = 0.0
    domain: DomainModel | None = None
    speech: ClassVar[SpeechModel | None] = None
    """See :attr:`voxfide.detector.Detector.speech`."""

    def __post_init__(self) -> None:
        if len(self.members) != len(self.fusion.systems):
            raise UsageError(
                f"{len(self.members)} detectors for a fusion of {len(self.fusion.systems)} systems"
            )
        self.members = share_frontends(self.members)
        self.names = self.names or tuple(system.name for system in self.fusion.systems)

    @classmethod
    def of(
        cls,
        members: Sequence[Detector],
        fusion: FusionRecord,
        names: Sequence[str] = (),
        *,
        force: bool = False,
    ) -> EnsembleDetector:
        """An ensemble of the detectors on whose scores the fusion was learnt.

        Args:
            members: in the order of the fusion's systems, calibrated where they were then.
            fusion: the record.
            names: of the members, for people; the systems' where left out.
            force: take other detectors too, or a fusion that does not say which they were.

        Raises:
            UsageError: other detectors, another order, or not known to be these.
        """
        fusion.check_systems(["" if force else member.fingerprint() for member in members])
        unknown = [system.name for system in fusion.systems if not system.detector]
        if unknown and not force:
            raise UsageError(
                f"the fusion does not say which detector made the scores of {', '.join(unknown)}: it was "
                "learnt on score files without their SCORES.json (--force takes the detectors as given)"
            )
        return cls(list(members), fusion, tuple(names), fusion.threshold)

    @cached_property
    def passes(self) -> list[Pass]:
        """What is run for a recording."""
        return passes_of(self.members)

    @property
    def frontends(self) -> list[Frontend]:
        """Those that are kept, each once."""
        return list({id(f): f for f in (whole_of(m.frontend) for m in self.members)}.values())

    @property
    def training(self) -> dict[str, Any]:
        """The trials that the fusion was learnt on, in the form of :attr:`Detector.training`."""
        return {"sets": {"train": dict(self.fusion.fitted_to)}}

    def facts(self) -> dict[str, str]:
        """What it is made of, for people."""
        members = ", ".join(
            f"{name} ({m.frontend.name}, {m.frontend.n_layers} layer(s) + {m.backend.name})"
            for name, m in zip(self.names, self.members, strict=True)
        )
        return {"members": members, "fusion": self.fusion.describe()}

    @property
    def score_kind(self) -> str:
        """What its scores are."""
        return "natural-log likelihood ratio"

    def fuse(self, scores: Float64Array) -> Float64Array:
        """Scores ``(utterances,)`` of the members' ``(utterances, members)``."""
        llr = self.fusion.fusion.apply(scores)
        return llr if self.calibration is None else self.calibration.calibration.apply(llr)

    def score_waveforms(self, waveforms: Sequence[np.ndarray]) -> Float64Array:
        """Scores of 16 kHz mono waveforms ``(samples,)``, each as if alone.

        Raises:
            AudioTooShortError: a waveform too short for one frame of a front-end.
            UsageError: one that is not a vector of finite numbers.
        """
        return self.fuse(self.score_members(waveforms))

    def score_members(self, waveforms: Sequence[np.ndarray]) -> Float64Array:
        """The members' own scores ``(waveforms, members)``, which :meth:`fuse` takes.

        Raises:
            AudioTooShortError, UsageError: as of :meth:`score_waveforms`.
        """
        return scores_of(self.passes, checked_waveforms(waveforms, self._slowest.check_length))

    def detect(self, path: PathLike) -> Detection:
        """Scores one recording of any length in constant memory, decoding it once.

        Raises:
            AudioError: it cannot be read, or is too short or silent.
        """
        with stream_audio(path, chunk=WINDOW) as stream:
            scores = scores_of_stream(self.passes, stream, str(path))
            info = stream.info
        if not np.isfinite(scores).all():
            raise AudioError(str(path), "its features are not finite", "finite features")
        return Detection(str(path), float(self.fuse(scores[None])[0]), info)

    def extractor(self, **options: Any) -> Extractor:
        """What turns rows of a manifest into what :meth:`score_extracted` takes: the members' scores."""
        budget: Seconds | None = options.get("batch_seconds")

        def scores(waveforms: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
            return list(scores_of(self.passes, waveforms, budget))

        return Extractor(self._slowest, compute=scores, **options)

    def score_extracted(self, extracted: Sequence[np.ndarray]) -> Float64Array:
        """Scores ``(utterances,)`` of what :meth:`extractor` made of them."""
        return self.fuse(np.stack(extracted))

    @property
    def _slowest(self) -> Frontend:
        """The front-end that needs the most samples for a frame."""
        return max(self.frontends, key=lambda f: f.min_samples)

    def calibrated(self, record: CalibrationRecord) -> EnsembleDetector:
        """The same ensemble with this calibration, in place of the one it may have."""
        raw = self.uncalibrated()
        return replace(raw, calibration=record, threshold=record.threshold, raw_threshold=raw.threshold)

    def uncalibrated(self) -> EnsembleDetector:
        """The same ensemble with the fusion's scores as they are."""
        if self.calibration is None:
            return self
        return replace(self, calibration=None, threshold=self.raw_threshold, raw_threshold=0.0)

    def fingerprint(self) -> str:
        """Hex digest of everything that determines its scores."""
        fusion = self.fusion.fusion
        facts: list[Any] = [m.fingerprint() for m in self.members]
        facts += [fusion.inputs, fusion.input_prior, fusion.weights.tolist(), fusion.intercept]
        if self.calibration is not None:
            method = self.calibration.calibration
            facts += [method.name, method.config()]
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

    def config(self, embed_frontend: bool = True) -> dict[str, Any]:
        """``config.json``."""
        threshold = self.threshold if self.calibration is None else self.raw_threshold
        return ensemble_config(self.members, self.names, self.fusion, threshold, embed_frontend)

    def _save_pretrained(self, save_directory: Path) -> None:
        self.save(save_directory)

    def save(self, folder: PathLike, embed_frontend: bool = True) -> Path:
        """Writes the ensemble's folder; a full disk leaves what was there.

        Args:
            folder: made if it does not exist.
            embed_frontend: whether all weights go inside, or those of front-ends from the hub are
                left there and named by id and commit.
        """
        write_ensemble(Path(folder), self.config(embed_frontend), self.members, self.calibration, self.domain)
        return Path(folder)

    @staticmethod
    def write_calibration(folder: PathLike, record: CalibrationRecord) -> None:
        """Puts a calibration into an ensemble's folder, in place of one that is there."""
        write_ensemble_calibration(Path(folder), record)

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: PathLike,
        *,
        device: str = "cpu",
        **hub_options: Any,
    ) -> EnsembleDetector:
        """Loads an ensemble's folder, or one from the hub by id.

        Raises:
            CheckpointError: nothing there, or not an ensemble.
        """
        name = str(pretrained_model_name_or_path)
        if Path(name).expanduser().is_dir():
            return cls.load(name, device)
        if not is_hub_id(name):
            raise CheckpointError(f"{name}: no such folder, and no hub id ORGANISATION/NAME")
        return cls.load(download(name, REQUIRED, optional=OPTIONAL, **hub_options).folder, device)

    @classmethod
    def load(cls, folder: PathLike, device: str = "cpu") -> EnsembleDetector:
        """Reads an ensemble's folder.

        Raises:
            CheckpointError: missing or damaged files, or weights that have changed.
        """
        parts, record = read_ensemble(Path(folder).expanduser(), device)
        made = cls(**parts)
        return made if record is None else made.calibrated(record)
