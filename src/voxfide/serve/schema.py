"""The answers as JSON Schema, for the OpenAPI description."""

from __future__ import annotations

from typing import Any, Final

from voxfide.serve.problems import MEDIA_TYPE, TITLES, ProblemError

_NUMBER: Final = {"type": "number"}
_MAYBE_NUMBER: Final = {"type": ["number", "null"]}
_TEXT: Final = {"type": "string"}
_MAYBE_TEXT: Final = {"type": ["string", "null"]}


def _object(required: dict[str, Any], optional: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    properties = {**required, **(optional or {})}
    return {"type": "object", "required": list(required), "properties": properties, **more}


def _list(of: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": "array", "items": of, **more}


_SEGMENT: Final = _object({"start": _NUMBER, "end": _NUMBER})
_STRETCH: Final = _object({"start": _NUMBER, "end": _NUMBER, "score": _NUMBER})
_WINDOW: Final = _object({"start": _NUMBER, "end": _NUMBER, "score": _NUMBER, "speech": _NUMBER})
_REASON: Final = _object(
    {
        "code": _TEXT,
        "severity": {"enum": ["inconclusive", "reduced"]},
        "sentence": _TEXT,
        "quantity": _TEXT,
        "value": _MAYBE_NUMBER,
        "limit": _MAYBE_NUMBER,
        "unit": _TEXT,
    }
)
_DETECTOR: Final = _object(
    {
        "name": _TEXT,
        "fingerprint": _TEXT,
        "facts": {"type": "object"},
        "score_kind": _TEXT,
        "calibrated_on": {"type": ["object", "null"]},
    }
)
_REPORT: Final = _object({"file_name": _TEXT, "media_type": _TEXT, "content_base64": _TEXT})
_OVERVIEW: Final = _object(
    {
        "columns": {"type": "integer", "minimum": 0},
        "bands": {"type": "integer"},
        "seconds": _NUMBER,
        "top_hz": _NUMBER,
        "low": _TEXT,
        "high": _TEXT,
        "spectrogram": _TEXT,
    }
)

ANALYSIS: Final = _object(
    {
        "schema": {"type": "integer"},
        "path": {**_TEXT, "description": "the file name that was sent"},
        "verdict": {"enum": ["bonafide", "spoof", "inconclusive"]},
        "score": {**_MAYBE_NUMBER, "description": "higher = more bona fide; null where nothing was scored"},
        "llr": {**_MAYBE_NUMBER, "description": "the score, of a calibrated detector"},
        "probability_bonafide": {"type": ["number", "null"], "minimum": 0, "maximum": 1},
        "prior": {**_MAYBE_NUMBER, "description": "of bona fide, that the probability holds for"},
        "duration": {**_NUMBER, "description": "seconds"},
        "reasons": _list(_REASON, description="what lowers trust in the verdict, or forbids one"),
        "rule": {"type": "object", "description": "how the verdict follows from the score"},
        "detector": _DETECTOR,
        "sha256": _MAYBE_TEXT,
        "n_bytes": {"type": ["integer", "null"]},
        "info": {"type": "object", "description": "what the decoder found"},
        "conditions": {"type": "object", "description": "what was measured on the recording"},
        "why": {"type": ["object", "null"], "description": "bands, layers and members, where asked for"},
    },
    {
        "speech": _list(_SEGMENT),
        "windows": _list(_WINDOW),
        "stretches": _list(_STRETCH, description="marked as suspicious"),
        "overview": _OVERVIEW,
        "report": _REPORT,
    },
    description="The object that `voxfide detect --json` prints, with what was asked for in addition.",
)
PROBLEM: Final = _object(
    {
        "type": _TEXT,
        "title": _TEXT,
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "detail": {**_TEXT, "description": "one sentence: what was wrong, and what was expected"},
    },
    {"kind": {**_TEXT, "description": "of an audio error"}, "retry_after": {"type": "integer"}},
    description="RFC 9457.",
)
_FAILED: Final = _object({"path": _TEXT, "error": _TEXT, "problem": {"$ref": "#/components/schemas/Problem"}})
BATCH: Final = _object(
    {
        "results": _list({"anyOf": [{"$ref": "#/components/schemas/Analysis"}, _FAILED]}),
        "n_failed": {"type": "integer", "minimum": 0},
    },
    description="One entry for each file, in the order sent.",
)
DETECTORS: Final = _object(
    {
        "detectors": _list(
            _object(
                {
                    **_DETECTOR["properties"],
                    "calibrated": {"type": "boolean"},
                    "prior": _MAYBE_NUMBER,
                    "training": {"type": "object"},
                }
            )
        ),
        "limits": {"type": "object", "description": "on uploads; bytes, seconds"},
        "version": _TEXT,
    }
)
HISTORY: Final = _object(
    {
        "entries": _list(
            _object(
                {
                    "time": {**_NUMBER, "description": "seconds since 1970"},
                    "path": _TEXT,
                    "sha256": _MAYBE_TEXT,
                    "duration": _MAYBE_NUMBER,
                    "verdict": _TEXT,
                    "score": _MAYBE_NUMBER,
                    "probability_bonafide": _MAYBE_NUMBER,
                    "prior": _MAYBE_NUMBER,
                    "detector": _MAYBE_TEXT,
                }
            )
        )
    }
)
COMPONENTS: Final = {
    "Analysis": ANALYSIS,
    "Problem": PROBLEM,
    "Batch": BATCH,
    "Detectors": DETECTORS,
    "History": HISTORY,
}

EXAMPLE: Final = {
    "schema": 1,
    "path": "interview.mp3",
    "verdict": "spoof",
    "score": -2.31,
    "llr": -2.31,
    "probability_bonafide": 0.090,
    "prior": 0.5,
    "duration": 12.4,
    "reasons": [
        {
            "code": "noise",
            "severity": "reduced",
            "sentence": "The speech stands only 8.2 dB above the noise (limit 10 dB).",
            "quantity": "snr_db",
            "value": 8.2,
            "limit": 10.0,
            "unit": "dB",
        }
    ],
    "stretches": [{"start": 4.0, "end": 9.5, "score": -3.1}],
    "rule": {"kind": "bayes", "bonafide_from": 1.1, "spoof_below": -1.1, "prior": 0.5},
    "detector": {
        "name": "bundled",
        "fingerprint": "6f0c…",
        "facts": {},
        "score_kind": "natural-log likelihood ratio",
        "calibrated_on": None,
    },
    "sha256": "9b74…",
    "n_bytes": 198412,
    "info": {"container": "mp3", "codec": "mp3", "sample_rate": 44100, "channels": 2},
    "conditions": {"seconds": 12.4, "speech_seconds": 10.1, "snr_db": 8.2},
    "speech": [{"start": 0.4, "end": 10.5}],
    "windows": [{"start": 0.0, "end": 4.0, "score": 0.4, "speech": 3.6}],
    "why": None,
}
"""Of an answer, for readers of the description; shortened."""


def multipart(files: int) -> dict[str, Any]:
    """The body of an upload."""
    binary = {"type": "string", "format": "binary", "description": "any audio or video file"}
    field = binary if files == 1 else {"type": "array", "items": binary, "minItems": 1, "maxItems": files}
    schema = {
        "type": "object",
        "required": ["file"],
        "properties": {"file": field},
        "additionalProperties": False,
    }
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}


def answers(name: str, text: str, *names: str) -> dict[int | str, dict[str, Any]]:
    """The ``responses`` of a route: the good one, and the problems that it may answer with."""
    good = {"schema": {"$ref": f"#/components/schemas/{name}"}}
    return {200: {"description": text, "content": {"application/json": good}}, **problems(*names)}


def problems(*names: str) -> dict[int | str, dict[str, Any]]:
    """Problems that a route may answer with, by status; several of one status as its examples."""
    found: dict[int | str, dict[str, Any]] = {}
    for name in names:
        status, title = TITLES[name]
        content = {"schema": {"$ref": "#/components/schemas/Problem"}, "examples": {}}
        entry = found.setdefault(status, {"description": title, "content": {MEDIA_TYPE: content}})
        value = ProblemError(name, "What was wrong, and what was expected.").to_json()
        entry["content"][MEDIA_TYPE]["examples"][name] = {"summary": title, "value": value}
    return found
