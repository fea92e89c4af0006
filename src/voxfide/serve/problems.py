"""Errors as HTTP answers: problem objects of RFC 9457, each with a plain sentence.

``type`` is a stable short name of the trouble, ``title`` the same for every case of it, ``detail``
says what was wrong this time and what was expected.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from voxfide.errors import (
    AudioError,
    AudioTooLongError,
    DecoderCrashError,
    MissingDependencyError,
    UsageError,
    VoxfideError,
)

MEDIA_TYPE: Final = "application/problem+json"
_PREFIX: Final = "urn:voxfide:problem:"

TITLES: Final[dict[str, tuple[int, str]]] = {
    "bad-request": (400, "The request cannot be understood"),
    "key-needed": (401, "An API key is needed"),
    "foreign-origin": (403, "Requests from other web pages are refused"),
    "not-found": (404, "There is nothing at this address"),
    "method-not-allowed": (405, "This address does not take this method"),
    "upload-too-slow": (408, "The upload took too long"),
    "too-large": (413, "The upload is too large"),
    "not-multipart": (415, "The request is no file upload"),
    "wrong-host": (421, "The request is addressed to another host"),
    "audio": (422, "The recording cannot be used"),
    "invalid-option": (422, "An option cannot be used"),
    "busy": (429, "The service is busy"),
    "internal": (500, "The service failed"),
    "stopping": (503, "The service is stopping"),
    "time-limit": (504, "The analysis took too long"),
}
"""Every ``type``, its status and title."""


class ProblemError(VoxfideError):
    """An error that becomes an HTTP answer.

    Args:
        name: key of :data:`TITLES`.
        detail: one sentence for people.
        headers: of the answer.
        extra: further members of the object, such as the kind of an audio error.
    """

    def __init__(
        self,
        name: str,
        detail: str,
        *,
        headers: Mapping[str, str] | None = None,
        **extra: Any,
    ) -> None:
        super().__init__(detail)
        self.name = name
        self.detail = detail
        self.status, self.title = TITLES[name]
        self.headers = dict(headers or {})
        self.extra = extra

    def to_json(self) -> dict[str, Any]:
        """The problem object."""
        return {
            "type": _PREFIX + self.name,
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            **self.extra,
        }


def problem_of(error: Exception) -> ProblemError:
    """The answer to an error of any kind; of one that is not ours it tells the client nothing."""
    if isinstance(error, ProblemError):
        return error
    if isinstance(error, AudioTooLongError):
        return ProblemError("too-large", str(error), kind=error.kind)
    if isinstance(error, DecoderCrashError):
        return ProblemError("audio", str(error), kind=error.kind)
    if isinstance(error, AudioError):
        return ProblemError("audio", str(error), kind=error.kind)
    if isinstance(error, UsageError | MissingDependencyError):
        return ProblemError("invalid-option", str(error))
    return ProblemError("internal", "An error inside the service; its log says more.")


def problem_of_status(status: int, detail: str) -> ProblemError:
    """The answer for a bare HTTP status, as the framework raises it."""
    for name, (known, _) in TITLES.items():
        if known == status:
            return ProblemError(name, detail)
    problem = ProblemError("bad-request", detail)
    problem.status, problem.title = status, HTTPStatus(status).phrase
    return problem
