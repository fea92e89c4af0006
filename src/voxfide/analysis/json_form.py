"""The JSON form of an analysis: one object, the same keys for every recording."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from voxfide.analysis.result import SCHEMA, Analysis


def to_json(analysis: Analysis) -> dict[str, Any]:
    """Plain values; keys in the order of docs/detect.md.

    ``llr``, ``probability_bonafide`` and ``prior`` are ``null`` of an uncalibrated detector, ``why`` where it
    was not asked for.
    """
    return {
        "schema": SCHEMA,
        "path": analysis.path,
        "verdict": analysis.verdict,
        "score": analysis.score,
        "llr": analysis.score if analysis.calibrated else None,
        "probability_bonafide": analysis.probability,
        "prior": analysis.prior,
        "duration": analysis.info.duration,
        "reasons": [reason.to_json() for reason in analysis.reasons],
        "stretches": [stretch._asdict() for stretch in analysis.stretches],
        "rule": dict(analysis.rule),
        "detector": analysis.detector.to_json(),
        "sha256": analysis.sha256,
        "n_bytes": analysis.n_bytes,
        "info": {k: v for k, v in asdict(analysis.info).items() if k != "path"}
        | {"warnings": list(analysis.info.warnings)},
        "conditions": analysis.conditions.to_json(),
        "speech": [segment._asdict() for segment in analysis.speech],
        "windows": [window._asdict() for window in analysis.windows],
        "why": None if analysis.why is None else analysis.why.to_json(),
    }
