"""How a model in fine-tuning does on the development set: as the detector of that moment would."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from voxfide.backends.classifier import ClassifierBackend
from voxfide.errors import UsageError
from voxfide.extraction import Extractor
from voxfide.jobs import Failure, rows_of
from voxfide.training.pooled import TrainingSet
from voxfide.types import BONAFIDE, BoolArray, Float64Array

if TYPE_CHECKING:
    from accelerate import Accelerator


def measure(
    extractor: Extractor,
    backend: ClassifierBackend,
    part: TrainingSet,
    accelerator: Accelerator,
    failures: dict[str, Failure],
) -> tuple[Float64Array, BoolArray]:
    """Scores ``(utterances,)`` and classes of what can be read of a set, each process doing its share.

    Args:
        failures: gets what cannot be read by this process, by utterance id.

    Raises:
        UsageError: nothing of one class can be read.
    """
    from accelerate.utils import gather_object

    rank, n = accelerator.process_index, accelerator.num_processes
    scores: dict[str, float] = {}
    for extracted, failed in extractor.outcomes(rows_of(part.manifest)[rank::n]):
        failures |= {failure.utterance_id: failure for failure in failed}
        if extracted:
            found = backend.score(np.stack([e.features for e in extracted]))
            names = (e.row.utterance_id for e in extracted)
            scores |= dict(zip(names, found.tolist(), strict=True))
    if n > 1:
        scores = dict(gather_object(list(scores.items())))
    ids = part.manifest.column("utterance_id")
    kept = [i for i, name in enumerate(ids) if name in scores]
    is_bonafide = (part.manifest.strings("label") == BONAFIDE)[kept]
    if len(set(is_bonafide.tolist())) < 2:
        raise UsageError(f"{part.manifest.source}, split {part.split}: of one class nothing can be read")
    return np.array([scores[ids[i]] for i in kept]), is_bonafide


def cross_entropy(scores: np.ndarray, is_bonafide: np.ndarray, weights: tuple[float, float]) -> float:
    """Mean loss of log posterior odds ``(utterances,)``: what the logits they are the difference of give."""
    each = np.logaddexp(0.0, np.where(is_bonafide, -scores, scores))
    weight = np.where(is_bonafide, weights[1], weights[0])
    return float((each * weight).sum() / weight.sum())
