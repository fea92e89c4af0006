"""What is said of one recording: typed objects with one JSON form, for shell, report and service."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NamedTuple

from voxfide.audio import AudioInfo
from voxfide.conditions import Conditions, Reason, Segment
from voxfide.types import Seconds

Verdict = Literal["bonafide", "spoof", "inconclusive"]
INCONCLUSIVE: Final = "inconclusive"

SCHEMA: Final = 1
"""Version of the JSON form; goes up when a key changes its meaning or goes away."""


class Window(NamedTuple):
    """A stretch that was scored by itself.

    Attributes:
        start, end: seconds from the start of the recording.
        score: higher = more bona fide; of a calibrated detector a natural-log likelihood ratio.
        speech: seconds of speech in it.
    """

    start: Seconds
    end: Seconds
    score: float
    speech: Seconds


class Stretch(NamedTuple):
    """A marked stretch: where windows speak for spoofing; ``score`` is their mean."""

    start: Seconds
    end: Seconds
    score: float


class BandContribution(NamedTuple):
    """What a frequency band adds to the score: the score less that with the band taken out.

    Attributes:
        low_hz, high_hz: edges.
        contribution: above 0: the band speaks for bona fide; below: for spoofing.
    """

    low_hz: float
    high_hz: float
    contribution: float


class LayerWeight(NamedTuple):
    """Learnt softmax weight of a layer of the front-end; of an ensemble, of one of its members."""

    member: str | None
    layer: int
    weight: float


class MemberScore(NamedTuple):
    """What a member of an ensemble says by itself, and what it adds to the fused score.

    Attributes:
        score: its own, on its own scale.
        contribution: weight times input of the fusion, before a calibration of the ensemble.
        threshold: from which on its own score counts as bona fide.
    """

    name: str
    score: float
    contribution: float
    threshold: float = 0.0


@dataclass(frozen=True)
class Explanation:
    """Why the score is what it is. Empty tuples are what the detector does not have.

    Attributes:
        bands: by occlusion, lowest first.
        layers: learnt weights; the same for every recording.
        members: of an ensemble.
        agreement: share of the members that fall on the same side of their own threshold as the fused
            score of the ensemble's.
        baseline: score of the excerpt that the bands were taken out of.
        excerpt: that excerpt, seconds.
    """

    bands: tuple[BandContribution, ...] = ()
    layers: tuple[LayerWeight, ...] = ()
    members: tuple[MemberScore, ...] = ()
    agreement: float | None = None
    baseline: float | None = None
    excerpt: Segment | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain lists, numbers and strings."""
        return {
            "bands": [b._asdict() for b in self.bands],
            "layers": [layer._asdict() for layer in self.layers],
            "members": [m._asdict() for m in self.members],
            "agreement": self.agreement,
            "baseline": self.baseline,
            "excerpt": None if self.excerpt is None else self.excerpt._asdict(),
        }


@dataclass(frozen=True)
class DetectorFacts:
    """Which detector spoke.

    Attributes:
        name: ``bundled`` or what was asked for, without folders.
        fingerprint: of everything that determines its scores.
        facts: what it is made of, for people.
        score_kind: what a score is.
        calibrated_on: the calibration set; ``None`` without a calibration.
    """

    name: str
    fingerprint: str
    facts: Mapping[str, str]
    score_kind: str
    calibrated_on: Mapping[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "name": self.name,
            "fingerprint": self.fingerprint,
            "facts": dict(self.facts),
            "score_kind": self.score_kind,
            "calibrated_on": None if self.calibrated_on is None else dict(self.calibrated_on),
        }


@dataclass(frozen=True)
class Analysis:
    """All that is said of one recording.

    Attributes:
        path: as it was given.
        sha256, n_bytes: of the file; ``None`` of a stream that is no file.
        info: what the decoder found and did.
        conditions: what was measured on the recording.
        detector: who speaks.
        score: of the whole recording; ``None`` where nothing could be scored (no speech at all).
        probability: of bona fide at ``prior``; ``None`` without a calibration.
        prior: of bona fide; ``None`` without a calibration.
        verdict: by ``rule``, held back by ``reasons``.
        rule: how verdict follows from score, in numbers (thresholds, prior, costs).
        reasons: what lowers trust in it, or forbids a verdict; the latter first.
        windows: scored windows in order.
        speech: speech segments in order.
        stretches: marked stretches in order.
        why: explanation, where asked for.
    """

    path: str
    sha256: str | None
    n_bytes: int | None
    info: AudioInfo
    conditions: Conditions
    detector: DetectorFacts
    score: float | None
    probability: float | None
    prior: float | None
    verdict: Verdict
    rule: Mapping[str, Any]
    reasons: tuple[Reason, ...] = ()
    windows: tuple[Window, ...] = ()
    speech: tuple[Segment, ...] = ()
    stretches: tuple[Stretch, ...] = ()
    why: Explanation | None = field(default=None)

    @property
    def calibrated(self) -> bool:
        """Whether the score is a log likelihood ratio."""
        return self.probability is not None or self.detector.calibrated_on is not None

    def to_json(self) -> dict[str, Any]:
        """Plain values under the keys that docs/detect.md describes; no number is NaN or infinite."""
        from voxfide.analysis.json_form import to_json

        return to_json(self)
