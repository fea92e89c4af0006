"""What a model is pre-trained to predict: a cluster for every frame, computed once.

HuBERT (Hsu et al. 2021), section III: k-means on 39-dimensional MFCC in the first iteration, on the
hidden states of an earlier model in the next. Frames are those of the model: number i covers samples
``320 i ... 320 i + 399``. MFCC frame ``2 i`` (25 ms every 10 ms) covers the same samples, so that
every second one is taken.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from voxfide.errors import CheckpointError, UsageError
from voxfide.files import replacing
from voxfide.frontends import create_frontend
from voxfide.frontends.base import tensors_digest
from voxfide.frontends.kaldi_fbank import HOP_SAMPLES as FINE_HOP
from voxfide.frontends.kaldi_fbank import KaldiFbank
from voxfide.frontends.lfcc import dct_matrix
from voxfide.frontends.ssl_model import normalise
from voxfide.jobs import Failure
from voxfide.training.pretrain_settings import FIELD_SAMPLES, HOP_SAMPLES, PretrainSettings
from voxfide.types import Float32Array, FloatArray, IntArray

N_FILTERS, N_CEPSTRA, LIFTER = 23, 13, 22.0
MAX_FIT_FRAMES = 500_000
"""Frames that the cluster centres are fitted to: a random choice of 2.8 h out of more."""

TEACHER_FRAMES = 1000
"""Frames (20 s) that an earlier model sees at a time."""

FILE_NAME = "targets.safetensors"


def n_frames(n_samples: int) -> int:
    """Frames of the model in ``n_samples`` samples."""
    return max(0, (n_samples - FIELD_SAMPLES) // HOP_SAMPLES + 1)


class Features(Protocol):
    """What is clustered."""

    def __call__(self, waveform: Float32Array) -> Float32Array:
        """``(samples,)`` to ``(frames, dim)``, one for each frame of the model."""

    def describe(self) -> dict[str, Any]:
        """What determines it, JSON-safe."""


class Mfcc:
    """13 Kaldi MFCC with deltas and deltas of these, 39 in all, every 20 ms.

    23 mel bands, Povey window, orthonormal DCT-II, lifter 22, the 0th cepstrum in place of the energy:
    ``compute-mfcc-feats --use-energy=false`` without dither. The waveform is scaled to unit variance
    first, as the model sees it: clusters of level alone could not be predicted from it.
    """

    def __init__(self) -> None:
        self._bank = KaldiFbank(N_FILTERS, "povey")
        lifter = 1 + 0.5 * LIFTER * torch.sin(math.pi * torch.arange(N_CEPSTRA, dtype=torch.float64) / LIFTER)
        self._dct = (dct_matrix(N_FILTERS, N_CEPSTRA) * lifter).float()

    def __call__(self, waveform: Float32Array) -> Float32Array:
        cepstra = self._bank(normalise(torch.from_numpy(waveform))) @ self._dct
        velocity = deltas(cepstra)
        features = torch.cat([cepstra, velocity, deltas(velocity)], dim=1)
        return features[:: HOP_SAMPLES // FINE_HOP].numpy()

    def describe(self) -> dict[str, Any]:
        return {"targets": "mfcc", "filters": N_FILTERS, "cepstra": N_CEPSTRA, "lifter": LIFTER}


def deltas(features: Tensor) -> Tensor:
    """Slope of the regression line over five frames ``(frames, dim)``, the ends repeated (Kaldi, HTK)."""
    padded = F.pad(features.T[None], (2, 2), mode="replicate")[0].T
    size = len(features)
    nearer = padded[3 : 3 + size] - padded[1 : 1 + size]
    farther = padded[4 : 4 + size] - padded[:size]
    return (nearer + 2 * farther) / 10


class HiddenStates:
    """The output of one block of an earlier model.

    Args:
        name: ``MODEL:LAYER``; blocks count from 1.
        device: where it is computed.

    Raises:
        UsageError: no such layer, or a model whose frames are not 25 ms every 20 ms.
        CheckpointError: weights that cannot be found or do not fit.
    """

    def __init__(self, name: str, device: str = "cpu") -> None:
        model, _, layer = name.rpartition(":")
        self._frontend = create_frontend(model, int(layer), device=device)
        self._device = device
        grid = (self._frontend.hop_samples, self._frontend.min_samples)
        if grid != (HOP_SAMPLES, FIELD_SAMPLES):
            raise UsageError(
                f"targets {name}: a model with frames of {grid[1]} samples every {grid[0]} "
                f"(expected {FIELD_SAMPLES} every {HOP_SAMPLES})"
            )
        self._name = name

    def __call__(self, waveform: Float32Array) -> Float32Array:
        parts, total = [], n_frames(len(waveform))
        for first in range(0, total, TEACHER_FRAMES):
            last = first + TEACHER_FRAMES - 1
            # A short waveform is seen with the samples after its last frame, as front-ends see it.
            end = last * HOP_SAMPLES + FIELD_SAMPLES if last < total - 1 else None
            piece = torch.from_numpy(waveform[first * HOP_SAMPLES : end])
            states = self._frontend.hidden_states([piece.to(self._device)])[0]
            parts.append(states[-1].float().cpu().numpy())
        return np.concatenate(parts)

    def describe(self) -> dict[str, Any]:
        """By layer and weights: the same model in another folder is the same."""
        layer = int(self._name.rpartition(":")[2])
        return {"targets": "hidden states", "layer": layer, "weights": tensors_digest(self._weights())}

    def _weights(self) -> dict[str, Tensor]:
        return dict(self._frontend.state_dict())


def target_features(settings: PretrainSettings, device: str = "cpu") -> Features:
    """What the settings say is clustered."""
    return Mfcc() if settings.targets == "mfcc" else HiddenStates(settings.targets, device)


@dataclass(frozen=True)
class Targets:
    """Clusters of all frames.

    Attributes:
        centroids: ``(clusters, dim)`` float32.
        labels: of each row ``(frames,)`` int16; of no frames where it could not be used.
        failures: rows that could not be used.
    """

    centroids: Float32Array
    labels: list[np.ndarray]
    failures: list[Failure]

    @property
    def frames(self) -> IntArray:
        """Frames of each row."""
        return np.array([len(part) for part in self.labels], dtype=np.int64)

    @property
    def shares(self) -> np.ndarray:
        """Of the frames, in each cluster, ``(clusters,)``."""
        counts = np.bincount(np.concatenate(self.labels), minlength=len(self.centroids))
        return counts / counts.sum()

    def save(self, path: Path, job: dict[str, Any]) -> None:
        """Writes them; ``job`` is what determines them."""
        from safetensors.numpy import save_file

        tensors: dict[str, np.ndarray] = {
            "centroids": self.centroids,
            "labels": np.concatenate(self.labels).astype(np.int16),
            "frames": self.frames,
        }
        failures = [failure.to_dict() for failure in self.failures]
        metadata = {"job": json.dumps(job, sort_keys=True), "failures": json.dumps(failures)}
        with replacing(path) as temporary:
            save_file(tensors, temporary, metadata)

    @classmethod
    def load(cls, path: Path, job: dict[str, Any]) -> Targets | None:
        """Reads them; None where there are none, or those of another job.

        Raises:
            CheckpointError: the file is damaged.
        """
        from safetensors import SafetensorError, safe_open

        if not path.exists():
            return None
        try:
            with safe_open(path, framework="numpy") as file:
                metadata = file.metadata() or {}
                if metadata.get("job") != json.dumps(job, sort_keys=True):
                    return None
                tensors = {name: file.get_tensor(name) for name in ("centroids", "labels", "frames")}
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{path}: damaged ({error}): delete it and run again") from None
        failures = [Failure(**values) for values in json.loads(metadata["failures"])]
        labels = np.split(tensors["labels"], np.cumsum(tensors["frames"])[:-1])
        return cls(tensors["centroids"], labels, failures)


def fit_centroids(features: Sequence[FloatArray], clusters: int, seed: int) -> Float32Array:
    """Cluster centres ``(clusters, dim)`` of all frames, or of a random choice of :data:`MAX_FIT_FRAMES`.

    Mini-batch k-means with HuBERT's settings, but 5 starts in place of 20.

    Raises:
        UsageError: fewer frames than clusters.
    """
    from sklearn.cluster import MiniBatchKMeans

    frames = np.concatenate(features)
    if len(frames) < clusters:
        raise UsageError(
            f"{len(frames)} frames of audio (expected at least one for each of {clusters} clusters)"
        )
    if len(frames) > MAX_FIT_FRAMES:
        chosen = np.random.default_rng(seed).choice(len(frames), MAX_FIT_FRAMES, replace=False)
        frames = frames[np.sort(chosen)]
    # Of half precision where they come from storage: made float32 only once there are few enough.
    frames = frames.astype(np.float32)
    model = MiniBatchKMeans(
        clusters, init="k-means++", max_iter=100, batch_size=10_000, n_init=5, max_no_improvement=100,
        reassignment_ratio=0.0, random_state=seed % 2**32,
    )  # fmt: skip
    return np.asarray(model.fit(frames).cluster_centers_, dtype=np.float32)


def assign(features: Float32Array, centroids: Float32Array) -> np.ndarray:
    """The nearest centre of each frame ``(frames, dim)``, ``(frames,)`` int16."""
    distance = np.square(centroids).sum(axis=1) - 2 * features @ centroids.T
    return distance.argmin(axis=1).astype(np.int16)


def compute_targets(
    waveforms: Iterator[Float32Array | None], compute: Features, settings: PretrainSettings
) -> tuple[Float32Array, list[np.ndarray]]:
    """Centres, and the clusters of each row; None stands for a row that cannot be used.

    Features are kept as float16 between fitting and assigning.
    """
    kept: list[np.ndarray | None] = [
        None if waveform is None else compute(waveform).astype(np.float16) for waveform in waveforms
    ]
    usable = [part for part in kept if part is not None]
    if not usable:
        raise UsageError("pre-training: not one utterance can be used")
    centroids = fit_centroids(usable, settings.clusters, settings.seed)
    nothing = np.zeros(0, np.int16)
    labels = [nothing if part is None else assign(part.astype(np.float32), centroids) for part in kept]
    return centroids, labels
