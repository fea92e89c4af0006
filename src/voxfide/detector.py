"""A detector: front-end, back-end and all that is needed to score, saved and loaded as one folder.

``config.json`` says what it is, ``model.safetensors`` holds the back-end's numbers and
(unless left on the hub) the front-end's weights, ``README.md`` is the model card.
``from_pretrained``, ``save_pretrained`` and ``push_to_hub`` are ``huggingface_hub``'s.
Nothing is pickled.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from huggingface_hub import ModelHubMixin

from voxfide import __version__
from voxfide.audio import AUDIO_SETTINGS, AudioInfo, stream_audio
from voxfide.backends import restore_backend
from voxfide.backends.base import Backend
from voxfide.detector_card import model_card
from voxfide.errors import AudioError, CheckpointError, UsageError
from voxfide.files import write_atomic
from voxfide.frontends import create_frontend, restore_frontend
from voxfide.frontends.base import WINDOW, FrameStatistics, Frontend, tensors_digest
from voxfide.frontends.ssl_config import read_json
from voxfide.types import SAMPLE_RATE, Float64Array, PathLike

FORMAT = 1
FRONTEND_PREFIX = "frontend."
BACKEND_PREFIX = "backend."


@dataclass(frozen=True)
class Detection:
    """What a detector says of one recording.

    Attributes:
        score: natural-log likelihood ratio, higher = more bona fide.
        info: what the decoder found.
    """

    path: str
    score: float
    info: AudioInfo

    def verdict(self, threshold: float) -> str:
        """``bonafide`` at or above the threshold, else ``spoof``."""
        return "bonafide" if self.score >= threshold else "spoof"


@dataclass
class Detector(ModelHubMixin):
    """Scores recordings.

    Args:
        frontend: with its weights.
        backend: trained.
        pool: how the back-end's features are averaged over time.
        threshold: score from which a recording counts as bona fide. Chosen where the two
            error rates meet on the development set if there was one, else 0 (equal odds).
        training: what it was trained on and how it fared, for the model card.
    """

    frontend: Frontend
    backend: Backend
    pool: str = "mean"
    threshold: float = 0.0
    training: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.pool not in self.backend.pools:
            raise UsageError(
                f"back-end {self.backend.name} takes {' or '.join(self.backend.pools)} features, "
                f"not pool {self.pool!r}"
            )

    def score_features(self, features: np.ndarray) -> Float64Array:
        """Scores ``(utterances,)`` of ``(utterances, layers, dim)``."""
        return self.backend.score(features)

    def score_waveforms(self, waveforms: Sequence[np.ndarray]) -> Float64Array:
        """Scores of 16 kHz mono waveforms ``(samples,)``, each as if alone.

        Raises:
            AudioTooShortError: a waveform too short for one frame.
        """
        for waveform in waveforms:
            self.frontend.check_length(len(waveform))
        tensors = [torch.as_tensor(w, dtype=torch.float32, device=self.frontend.device) for w in waveforms]
        return self.score_features(self.frontend.pooled(tensors, self.pool).cpu().numpy())

    def detect(self, path: PathLike) -> Detection:
        """Scores one recording of any length in constant memory.

        Raises:
            AudioError: it cannot be read, or is too short or silent.
        """
        statistics = FrameStatistics(self.pool)
        with stream_audio(path, chunk=WINDOW) as stream:
            for window in self._windows(stream):
                self.frontend.check_length(len(window), str(path))
                piece = torch.from_numpy(window).to(self.frontend.device)
                self.frontend.accumulate([piece], [statistics])
            info = stream.info
        features = statistics.result().cpu().numpy()[None]
        if not np.isfinite(features).all():
            raise AudioError(str(path), "its features are not finite", "finite features")
        return Detection(str(path), float(self.score_features(features)[0]), info)

    def _windows(self, chunks: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
        """Chunks as they come; a last one too short for a frame joins the one before it."""
        held: np.ndarray | None = None
        for chunk in chunks:
            if held is not None and len(chunk) < self.frontend.min_samples:
                held = np.concatenate([held, chunk])
                continue
            if held is not None:
                yield held
            held = chunk
        if held is not None:
            yield held

    def fingerprint(self) -> str:
        """Hex digest of everything that determines its scores."""
        tensors = {k: torch.from_numpy(np.asarray(v)) for k, v in self.backend.tensors().items()}
        facts = json.dumps([self.backend.name, self.backend.config(), self.pool], sort_keys=True)
        parts = self.frontend.fingerprint() + facts + tensors_digest(tensors)
        return hashlib.sha256(parts.encode()).hexdigest()

    def config(self, embed_frontend: bool = True) -> dict[str, Any]:
        """``config.json``."""
        source = getattr(self.frontend, "source", None)
        weights: dict[str, Any] = {"in": "model.safetensors"}
        if not embed_frontend:
            if source is None or source.hub_id is None:
                raise UsageError(
                    f"front-end {self.frontend.name} did not come from the hub: its weights can only be saved "
                    "inside the detector"
                )
            weights = {"in": "hub", "hub_id": source.hub_id, "revision": source.revision}
        return {
            "format": FORMAT,
            "library": "voxfide",
            "voxfide_version": __version__,
            "frontend": {
                "name": self.frontend.name,
                "kind": self.frontend.kind,
                "n_layers": self.frontend.n_layers,
                "settings": self.frontend.settings(),
                "weights": weights,
                "weights_sha256": tensors_digest(self.frontend.state_dict()),
            },
            "pool": self.pool,
            "backend": {"name": self.backend.name, "config": self.backend.config()},
            "threshold": self.threshold,
            "score": "natural-log likelihood ratio; higher means more bona fide",
            "audio": {**AUDIO_SETTINGS, "sample_rate": SAMPLE_RATE, "window_s": WINDOW},
            "training": self.training,
        }

    def _save_pretrained(self, save_directory: Path) -> None:
        self.save(save_directory)

    def save(self, folder: PathLike, embed_frontend: bool = True) -> Path:
        """Writes the detector folder; each file appears whole.

        Args:
            folder: made if it does not exist.
            embed_frontend: whether the front-end's weights go inside, or are left on the
                hub and named by id and commit.
        """
        from safetensors.numpy import save as to_bytes

        folder = Path(folder)
        config = self.config(embed_frontend)
        tensors = {BACKEND_PREFIX + k: np.ascontiguousarray(v) for k, v in self.backend.tensors().items()}
        if embed_frontend:
            for name, tensor in self.frontend.state_dict().items():
                tensors[FRONTEND_PREFIX + name] = tensor.detach().cpu().contiguous().numpy()
        write_atomic(folder / "model.safetensors", to_bytes(tensors, metadata={"format": "pt"}))
        write_atomic(folder / "README.md", model_card(config))
        # Written last: a folder with config.json is complete.
        write_atomic(folder / "config.json", json.dumps(config, indent=2, ensure_ascii=False) + "\n")
        return folder

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: PathLike, *, device: str = "cpu", **hub_options: Any
    ) -> Detector:
        """Loads a detector folder, or one from the hub by id.

        Args:
            pretrained_model_name_or_path: a folder, or ``ORGANISATION/NAME``.
            device: a torch device.
            hub_options: ``revision``, ``cache_dir``, ``token``, ``local_files_only``, ``force_download``.

        Raises:
            CheckpointError: nothing there, or not a detector.
        """
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

        name = str(pretrained_model_name_or_path)
        if Path(name).expanduser().is_dir():
            return cls.load(name, device)
        try:
            found = super().from_pretrained(name, **hub_options, device=device)
        except HFValidationError:
            raise CheckpointError(f"{name}: no such folder, and no hub id ORGANISATION/NAME") from None
        except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
            raise CheckpointError(
                f"{name}: no such folder, and the hub gave no detector ({type(error).__name__}); "
                "without a network, give the path of a detector folder"
            ) from error
        return found

    @classmethod
    def _from_pretrained(cls, *, model_id: str, device: str = "cpu", **options: Any) -> Detector:
        from huggingface_hub import snapshot_download

        kept = ("revision", "cache_dir", "force_download", "local_files_only", "token")
        files = ["config.json", "model.safetensors", "README.md"]
        hub_options = {k: options[k] for k in kept if k in options}
        return cls.load(snapshot_download(model_id, allow_patterns=files, **hub_options), device)

    @classmethod
    def load(cls, folder: PathLike, device: str = "cpu") -> Detector:
        """Reads a detector folder.

        Raises:
            CheckpointError: missing or damaged files, or front-end weights that have changed.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        folder = Path(folder).expanduser()
        config = read_json(folder / "config.json")
        if config.get("library") != "voxfide" or config.get("format") != FORMAT:
            raise CheckpointError(f"{folder}: not a voxfide detector of format {FORMAT} (see config.json)")
        try:
            tensors = load_file(folder / "model.safetensors")
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{folder / 'model.safetensors'}: not readable ({error})") from error
        try:
            backend = config["backend"]
            numbers = _subset(tensors, BACKEND_PREFIX)
            return cls(
                frontend=_load_frontend(folder, config["frontend"], _subset(tensors, FRONTEND_PREFIX)).to(
                    device
                ),
                backend=restore_backend(
                    backend["name"], backend["config"], {k: t.numpy() for k, t in numbers.items()}
                ),
                pool=config["pool"],
                threshold=float(config["threshold"]),
                training=config.get("training", {}),
            )
        except (KeyError, TypeError) as error:
            raise CheckpointError(
                f"{folder / 'config.json'}: entry {error} is missing or malformed"
            ) from error


def _subset(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {k.removeprefix(prefix): t for k, t in tensors.items() if k.startswith(prefix)}


def _load_frontend(folder: Path, config: dict[str, Any], tensors: dict[str, torch.Tensor]) -> Frontend:
    weights = config["weights"]
    if weights["in"] == "hub":
        precision = config["settings"].get("precision", "fp32")
        frontend = create_frontend(
            weights["hub_id"], config["n_layers"], revision=weights["revision"], precision=precision
        )
        frontend.name = config["name"]
    else:
        frontend = restore_frontend(config["name"], config["kind"], config["settings"])
        missing, surplus = frontend.load_state_dict(
            {k: t.float() if t.is_floating_point() else t for k, t in tensors.items()}, strict=False
        )
        if missing or surplus:
            raise CheckpointError(
                f"{folder}: front-end weights do not fit config.json (missing {missing[:3]}, surplus {surplus[:3]})"
            )
    found = tensors_digest(frontend.state_dict())
    if found != config["weights_sha256"]:
        raise CheckpointError(
            f"{folder}: the front-end's weights are not those that the detector was trained with "
            f"(digest {found[:12]}, expected {config['weights_sha256'][:12]})"
        )
    return frontend
