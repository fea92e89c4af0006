"""Many heads of one front-end as one scorer: a forward pass, a score of every head."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from voxfide.backends.neural import NeuralBackend
from voxfide.crops import Crop
from voxfide.extraction import Extractor
from voxfide.frontends.base import Frontend, tensors_digest
from voxfide.head_scores import frame_extractor
from voxfide.types import Float64Array


class HeadsScorer:
    """A :class:`~voxfide.scoring.Scorer` with a column for every head.

    Args:
        frontend: as deep as the deepest head needs.
        heads: trained; one on fewer layers reads the first of them.
        crop: what is scored of a recording.
    """

    def __init__(self, frontend: Frontend, heads: Sequence[NeuralBackend], crop: Crop) -> None:
        self.frontend, self.heads, self.crop = frontend, list(heads), crop

    def fingerprint(self) -> str:
        """Hex digest of everything that determines the scores."""
        parts = [self.frontend.fingerprint(), json.dumps(self.crop.to_json())]
        for head in self.heads:
            numbers = {k: torch.from_numpy(np.array(v)) for k, v in head.tensors().items()}
            parts += [head.name, json.dumps(head.config(), sort_keys=True), tensors_digest(numbers)]
        return hashlib.sha256(" ".join(parts).encode()).hexdigest()

    def extractor(self, **options: Any) -> Extractor:
        """What turns rows into scores; options as of :class:`~voxfide.extraction.Extractor`."""
        return frame_extractor(self.frontend, self.heads, self.crop, **options)

    def score_extracted(self, extracted: Sequence[np.ndarray]) -> Float64Array:
        """Scores ``(utterances, heads)``."""
        return np.stack([np.asarray(e, dtype=np.float64) for e in extracted])
