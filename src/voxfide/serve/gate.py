"""Who is let in, and what every answer says to browsers; counts requests on the way.

Plain ASGI, outside the framework: nothing that a request holds is parsed before it has passed.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Final
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from voxfide.serve.problems import MEDIA_TYPE, ProblemError
from voxfide.serve.service import ANYONE, Service

log = logging.getLogger(__name__)

OWNER: Final = "owner"
"""Key of the request's state: the name of the API key; of a live stream without one yet, ``None``."""

OPEN_PATHS: Final = ("/healthz", "/readyz", "/v1/openapi.json")
SAFE_METHODS: Final = ("GET", "HEAD", "OPTIONS")

CONTENT_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "media-src 'self' blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS: Final = {
    "content-security-policy": CONTENT_POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "microphone=(self), camera=(), geolocation=()",
    "cache-control": "no-store",
}
_BEARER: Final = re.compile(r"[Bb]earer +(\S+) *")
_DRAIN_BYTES: Final = 8 << 20
_DRAIN_SECONDS: Final = 2.0


class Gate:
    """Checks host, origin and key; adds security headers; counts.

    Args:
        app: that is guarded.
        service: whose keys, names and counts are used.
    """

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app, self._service = app, service
        self._names = service.settings.host_names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        try:
            self._check_host(headers)
            check_origin(scope, headers)
            scope.setdefault("state", {})[OWNER] = self._owner(scope, headers)
        except ProblemError as problem:
            log.info("%s %s refused: %s", scope.get("method", "WEBSOCKET"), scope["path"], problem)
            await self._refuse(problem, scope, receive, send)
            return
        await self._pass(scope, receive, send)

    async def _pass(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await self._app(scope, receive, send)
            return
        began, status = time.monotonic(), 500

        async def guarded(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {**message, "headers": _with_headers(message["headers"])}
            await send(message)

        try:
            await self._app(scope, receive, guarded)
        finally:
            self._count(scope, status, time.monotonic() - began)

    def _count(self, scope: Scope, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "other")
        method = scope["method"] if scope["method"] in ("GET", "POST", "DELETE", "HEAD") else "other"
        self._service.meters.requests.add(1, method, route, str(status))
        self._service.meters.latency.observe(seconds, route)

    async def _refuse(self, problem: ProblemError, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008, "reason": problem.detail[:120]})
            return
        await _take_some(receive)
        body = json.dumps(problem.to_json()).encode()
        headers = [
            (b"content-type", MEDIA_TYPE.encode()),
            (b"content-length", str(len(body)).encode()),
            *((name.lower().encode(), value.encode()) for name, value in problem.headers.items()),
        ]
        await send(
            {"type": "http.response.start", "status": problem.status, "headers": _with_headers(headers)}
        )
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})
        self._count(scope, problem.status, 0.0)

    def _check_host(self, headers: Mapping[str, str]) -> None:
        name = host_name(headers.get("host", ""))
        if self._names is not None and name not in self._names:
            raise ProblemError(
                "wrong-host",
                f"The request is addressed to {name[:100]!r}, which is no name of this service "
                "(--allow-host adds one).",
            )

    def _owner(self, scope: Scope, headers: Mapping[str, str]) -> str | None:
        keys = self._service.keys
        path = scope["path"]
        if keys is None or path in OPEN_PATHS or not (path.startswith("/v1/") or path == "/metrics"):
            return ANYONE
        key = key_of(headers)
        if key is None and scope["type"] == "websocket":
            return None  # a browser cannot send the header there; the first message must hold it
        owner = keys.owner(key or "")
        if owner is None:
            detail = "The API key is not known." if key else "Send an API key: Authorization: Bearer KEY."
            raise ProblemError("key-needed", detail, headers={"WWW-Authenticate": "Bearer"})
        return owner


def host_name(host: str) -> str:
    """A Host header's name without its port, in lower case."""
    match = re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[^:\[\]]*)(:\d*)?", host)
    return match[1].lower() if match else host.lower()


def key_of(headers: Mapping[str, str]) -> str | None:
    """The key that a request brings, in either of two headers."""
    match = _BEARER.fullmatch(headers.get("authorization", ""))
    return match[1] if match else headers.get("x-api-key")


def check_origin(scope: Scope, headers: Mapping[str, str]) -> None:
    """Other web pages may neither send anything nor open a stream; programs send no ``Origin``.

    Raises:
        ProblemError: ``foreign-origin``.
    """
    if scope["type"] == "http" and scope["method"] in SAFE_METHODS:
        return
    origin = headers.get("origin")
    foreign = origin is not None and urlsplit(origin).netloc.lower() != headers.get("host", "").lower()
    if foreign or headers.get("sec-fetch-site") in ("cross-site", "same-site"):
        raise ProblemError("foreign-origin", "Only this service's own page and programs may use it.")


def _with_headers(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    present = {name.lower() for name, _ in headers}
    added = [(n.encode(), v.encode()) for n, v in HEADERS.items() if n.encode() not in present]
    return [*headers, *added]


async def _take_some(receive: Receive) -> None:
    """Some of a body that nobody wants, so that the client comes to read the answer."""
    taken = 0
    with suppress(TimeoutError):
        async with asyncio.timeout(_DRAIN_SECONDS):
            while taken < _DRAIN_BYTES:
                message = await receive()
                taken += len(message.get("body", b""))
                if message["type"] != "http.request" or not message.get("more_body"):
                    return
