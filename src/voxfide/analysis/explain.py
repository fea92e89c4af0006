"""Why a recording scores as it does: frequency bands, learnt layer weights, members of an ensemble.

Contribution over time needs nothing of its own: it is the timeline of windows in the analysis.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import numpy as np

from voxfide.analysis.bands import check_edges, mel_edges, without_bands
from voxfide.analysis.excerpt import choose_excerpt, read_excerpt
from voxfide.analysis.result import BandContribution, Explanation, LayerWeight, MemberScore
from voxfide.errors import UsageError
from voxfide.types import Float32Array, Float64Array, Seconds

if TYPE_CHECKING:
    from typing_extensions import TypeIs

    from voxfide.analysis.result import Analysis
    from voxfide.audio import AudioSource
    from voxfide.detector import Detector
    from voxfide.detectors import AnyDetector
    from voxfide.ensemble import EnsembleDetector
    from voxfide.exported.detector import ExportedDetector

N_BANDS: Final = 10
EXCERPT_SECONDS: Final[Seconds] = 8.0


def explain(
    path: AudioSource,
    detector: AnyDetector,
    analysis: Analysis,
    *,
    bands: int | Sequence[float] = N_BANDS,
    excerpt_seconds: Seconds = EXCERPT_SECONDS,
) -> Explanation:
    """Takes a verdict apart, on the excerpt of the recording that matters.

    **Bands**: by occlusion (M. D. Zeiler and R. Fergus, "Visualizing and understanding convolutional
    networks", ECCV 2014), along frequency: one band at a time is taken out by a linear filter without
    phase, and its contribution is the score of the excerpt less the score without the band. All
    variants are scored in one batch. Contributions do not add up to the score, since bands interact,
    and a missing band may itself be unfamiliar to the detector.

    **Members**: the score of each on the same excerpt, and what it adds to the fused score (weight
    times input) before a calibration of the ensemble, if there is one.

    The result depends on its arguments alone: nothing is drawn at random.

    Args:
        path: the recording; read as far as the excerpt, in constant memory.
        detector: that ``analysis`` is by.
        bands: how many, equally wide on the mel scale from 0 to 8 kHz, or their edges in Hz.
        excerpt_seconds: length of the excerpt at most; see
            :func:`voxfide.analysis.excerpt.choose_excerpt`.

    Returns:
        Layer weights alone where nothing of the recording could be scored.

    Raises:
        AudioError: the excerpt cannot be read, or is too short for the detector.
        UsageError: bands or a length that cannot be.
    """
    edges = mel_edges(bands) if isinstance(bands, int) else check_edges(bands)
    if not 0 < excerpt_seconds < np.inf:
        raise UsageError(f"an excerpt of {excerpt_seconds} s (expected a length above 0)")
    layers = _layer_weights(detector)
    excerpt = choose_excerpt(analysis, excerpt_seconds)
    if excerpt is None:
        return Explanation(layers=layers)
    waveform = read_excerpt(path, excerpt)
    variants = without_bands(waveform, edges)
    scores, of_members = _scores(detector, [waveform, *(v for v in variants if v is not None)])
    baseline = float(scores[0])
    members, agreement = _members(detector, baseline, of_members)
    return Explanation(_contributions(edges, variants, scores), layers, members, agreement, baseline, excerpt)


def _contributions(
    edges: Sequence[float], variants: Sequence[Float32Array | None], scores: Float64Array
) -> tuple[BandContribution, ...]:
    """Of each band; ``scores`` are of the excerpt and of the variants that there are."""
    occluded = iter(scores[1:])
    return tuple(
        BandContribution(low, high, 0.0 if variant is None else float(scores[0] - next(occluded)))
        for low, high, variant in zip(edges, edges[1:], variants, strict=False)
    )


def _scores(detector: AnyDetector, waveforms: list[Float32Array]) -> tuple[Float64Array, Float64Array | None]:
    """Scores ``(waveforms,)``, and those of an ensemble's members for the first, ``(members,)``."""
    if not _is_ensemble(detector):
        return detector.score_waveforms(waveforms), None
    of_members = detector.score_members(waveforms)
    return detector.fuse(of_members), of_members[0]


def _members(
    detector: AnyDetector, fused: float, scores: Float64Array | None
) -> tuple[tuple[MemberScore, ...], float | None]:
    """What each member says and adds, and the share of them on the side of the fused score."""
    from voxfide.fusion.linear import input_values

    if scores is None or not _is_ensemble(detector):
        return (), None
    fusion = detector.fusion.fusion
    added = fusion.weights * input_values(scores[None], fusion.inputs, fusion.input_prior)[0]
    members = tuple(
        MemberScore(name, float(score), float(contribution), member.threshold)
        for name, member, score, contribution in zip(
            detector.names, detector.members, scores, added, strict=True
        )
    )
    side = fused >= detector.threshold
    return members, sum((m.score >= m.threshold) == side for m in members) / len(members)


def _layer_weights(detector: AnyDetector) -> tuple[LayerWeight, ...]:
    """Learnt weights of every head that has them, layers counted from 1."""
    if not _is_ensemble(detector):
        return _weights_of(None, detector)
    pairs = zip(detector.names, detector.members, strict=True)
    return tuple(weight for name, member in pairs for weight in _weights_of(name, member))


def _weights_of(name: str | None, detector: Detector | ExportedDetector) -> tuple[LayerWeight, ...]:
    weights = detector.layer_weights()
    if weights is None:
        return ()
    return tuple(LayerWeight(name, layer, float(weight)) for layer, weight in enumerate(weights, 1))


def _is_ensemble(detector: AnyDetector) -> TypeIs[EnsembleDetector]:
    """Without importing what ensembles need, which exported detectors do without."""
    return hasattr(detector, "members")
