"""Labels of frames, from the ``segments`` of a manifest: cut, repeated and stretched as the audio is.

Labels are laid out sample by sample and go the way of the waveform, through the same crop with the
same chance; only then are they gathered into the front-end's frames.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from voxfide.crops import Crop
from voxfide.errors import ManifestError
from voxfide.frontends.base import Frontend, windows
from voxfide.manifest import Manifest
from voxfide.manifest_checks import Segment, parse_segments
from voxfide.types import BONAFIDE, SAMPLE_RATE, SPOOF

SPOOFED: Final = 0
GENUINE: Final = 1
UNLABELLED: Final = -100
"""Frames of this label do not count; ``torch.nn.functional.cross_entropy`` leaves them out."""


@dataclass(frozen=True)
class FrameLabels:
    """Labels of the frames of a set's utterances.

    Args:
        frontend: says where frames lie.
        crop: what is used of each utterance.
        spans: labelled parts by utterance id; those that are not in it are what their label says, throughout.
    """

    frontend: Frontend
    crop: Crop
    spans: Mapping[str, tuple[Segment, ...]]

    @classmethod
    def of(cls, manifest: Manifest, frontend: Frontend, crop: Crop) -> FrameLabels | None:
        """From the ``segments`` column; ``None`` where there is none.

        Raises:
            ManifestError: cells that are not segments, all at once.
        """
        if "segments" not in manifest.columns:
            return None
        spans, problems = {}, []
        cells = zip(manifest.column("utterance_id"), manifest.column("segments"), strict=True)
        for row, (utterance_id, cell) in enumerate(cells, start=1):
            try:
                if found := parse_segments(cell) if cell else []:
                    spans[utterance_id] = tuple(found)
            except ValueError as error:
                problems.append(f"row {row}: segments: {error}")
        if problems:
            raise ManifestError(manifest.source, problems)
        return cls(frontend, crop, spans)

    def of_samples(self, utterance_id: str, is_bonafide: bool, n_samples: int) -> NDArray[np.int8]:
        """A label a sample of the whole recording, ``(n_samples,)``.

        Of an utterance with segments, what lies in none or in one labelled ``unknown`` is
        :data:`UNLABELLED`; where segments overlap, spoofed goes before bona fide.
        """
        spans = self.spans.get(utterance_id)
        if spans is None:
            return np.full(n_samples, GENUINE if is_bonafide else SPOOFED, np.int8)
        labels = np.full(n_samples, UNLABELLED, np.int8)
        for kind, value in ((BONAFIDE, GENUINE), (SPOOF, SPOOFED)):
            for start, end, label in spans:
                if label == kind:
                    labels[round(start * SAMPLE_RATE) : round(end * SAMPLE_RATE)] = value
        return labels

    def heard(
        self,
        utterance_id: str,
        is_bonafide: bool,
        n_samples: int,
        *,
        n_augmented: int | None = None,
        key: tuple[int, int, int] | None = None,
    ) -> NDArray[np.int64]:
        """A label a frame of what the front-end sees of an utterance, ``(frames,)``.

        Args:
            n_samples: of the recording.
            n_augmented: of it after augmentation; another number stretches the labels evenly, as a change
                of speed does.
            key: of the chance of a random crop; cut at the start where left out.
        """
        labels = self.of_samples(utterance_id, is_bonafide, n_samples)
        if n_augmented is not None and n_augmented != n_samples:
            labels = labels[np.arange(n_augmented, dtype=np.int64) * n_samples // n_augmented]
        # A crop only picks samples, whatever they are.
        crop: Any = self.crop.at_start() if key is None else self.crop
        return self.of_frames(crop(labels, None if key is None else np.random.default_rng(key)))

    def of_frames(self, samples: NDArray[np.int8]) -> NDArray[np.int64]:
        """Labels of samples ``(samples,)`` to those of the front-end's frames ``(frames,)``.

        A frame stands for the ``hop_samples`` from its start; it has the label of more than half of
        these, and else is :data:`UNLABELLED`.
        """
        n, hop = len(samples), self.frontend.hop_samples
        start = frame_starts(self.frontend, n)
        end = np.minimum(start + hop, n)
        start = np.minimum(start, n)
        labels = np.full(len(start), UNLABELLED, np.int64)
        for value in (GENUINE, SPOOFED):
            count = np.concatenate([[0], np.cumsum(samples == value, dtype=np.int32)])
            labels[2 * (count[end] - count[start]) > end - start] = value
        return labels


def segments_digest(manifest: Manifest) -> str | None:
    """Hex digest of the ``segments`` of a manifest, in order; ``None`` where there is no such column."""
    if "segments" not in manifest.columns:
        return None
    return hashlib.sha256(json.dumps(manifest.column("segments")).encode()).hexdigest()


def frame_starts(frontend: Frontend, n_samples: int) -> NDArray[np.int64]:
    """First samples ``(frames,)`` of the frames of an utterance, which is windowed if long."""
    parts = [
        start + frontend.hop_samples * np.arange(frontend.n_frames(stop - start), dtype=np.int64)
        for start, stop in windows(n_samples, frontend.min_samples)
    ]
    return np.concatenate(parts)
