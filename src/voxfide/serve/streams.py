"""``WebSocket /v1/stream``: live PCM in, running score, verdict and stretches out.

The client's first message is a JSON object: ``sample_rate``, ``encoding``, and where wanted ``channels``,
``prior``, ``threshold``, costs and ``key``. Then come binary messages of PCM, cut anywhere, and at the end
``{"end": true}``. The service sends ``{"type": "ready"}``, an update whenever windows were scored, and the
final analysis; or ``{"type": "problem"}`` and closes. It reads no faster than it analyses.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import fields
from typing import Any, Final

from fastapi import APIRouter, WebSocket, WebSocketDisconnect

from voxfide.errors import VoxfideError
from voxfide.serve.analyst import RuleOptions
from voxfide.serve.gate import OWNER
from voxfide.serve.live import LiveStream
from voxfide.serve.problems import ProblemError
from voxfide.serve.service import Service
from voxfide.serve.work import described

_RULE_KEYS: Final = tuple(field.name for field in fields(RuleOptions))
_KEYS: Final = frozenset({"sample_rate", "encoding", "channels", "key", *_RULE_KEYS})
_NORMAL, _GOING_AWAY, _POLICY, _FAILED, _LATER = 1000, 1001, 1008, 1011, 1013
_CLOSE_CODES: Final = {"busy": _LATER, "stopping": _LATER, "internal": _FAILED}


def stream_router(service: Service) -> APIRouter:
    """The route of live streams."""
    routes = APIRouter()

    @routes.websocket("/v1/stream")
    async def stream(socket: WebSocket) -> None:
        await socket.accept()
        task = asyncio.current_task()
        assert task is not None
        try:
            _admit(service)
            service.open_streams.add(task)
            await _Session(service, socket).run()
        except WebSocketDisconnect:
            return
        except (VoxfideError, ValueError) as error:
            await _close_with(socket, described(error))
        except Exception as error:
            await _close_with(socket, described(error))
        finally:
            service.open_streams.discard(task)

    return routes


def _admit(service: Service) -> None:
    if service.admission.stopping:
        raise ProblemError("stopping", "The service is stopping and takes no new streams.")
    if len(service.open_streams) >= service.limits.streams:
        raise ProblemError(
            "busy", f"{service.limits.streams} live streams are open, as many as this service takes."
        )


async def _close_with(socket: WebSocket, problem: ProblemError) -> None:
    try:
        await socket.send_json({"type": "problem", "problem": problem.to_json()})
        await socket.close(_CLOSE_CODES.get(problem.name, _POLICY), problem.title[:120])
    except (WebSocketDisconnect, RuntimeError):
        return


class _Session:
    """One client's stream."""

    def __init__(self, service: Service, socket: WebSocket) -> None:
        self._service, self._socket = service, socket

    async def run(self) -> None:
        first = await self._receive()
        live = await self._service.in_stream_thread(self._begin, first)
        await self._socket.send_json({"type": "ready"})
        reason, code = await self._listen(live)
        final = await self._service.in_stream_thread(live.finish)
        self._service.count(final["analysis"])
        if self._service.history is not None:
            owner = self._owner
            await self._service.in_history(self._service.history.add, owner, final["analysis"])
        await self._socket.send_json({**final, "ended_by": reason})
        await self._socket.close(code)

    async def _listen(self, live: LiveStream) -> tuple[str, int]:
        """Takes audio until an end; says whose, and the code to close with."""
        while True:
            message = await self._receive()
            if message is None:
                return "service", _GOING_AWAY
            if "bytes" in message and message["bytes"] is not None:
                windows = await self._service.in_stream_thread(live.push, message["bytes"])
                if windows:
                    await self._socket.send_json(await self._service.in_stream_thread(live.update, windows))
                continue
            if _object(message).get("end") is not True:
                raise ProblemError("bad-request", 'Expected PCM in binary messages, or {"end": true}.')
            return "client", _NORMAL

    async def _receive(self) -> dict[str, Any] | None:
        """The next message; ``None`` where the service is stopping meanwhile."""
        stopping = asyncio.create_task(self._service.admission.stop_asked())
        receiving = asyncio.create_task(self._socket.receive())
        limit = self._service.limits.idle_seconds
        try:
            await asyncio.wait({receiving, stopping}, timeout=limit, return_when=asyncio.FIRST_COMPLETED)
            if receiving.done():
                message = receiving.result()
                if message["type"] == "websocket.disconnect":
                    raise WebSocketDisconnect(message.get("code", _GOING_AWAY))
                return dict(message)
            if stopping.done():
                return None
            raise ProblemError("upload-too-slow", f"Nothing arrived for {limit:g} s.")
        finally:
            for task in (receiving, stopping):
                task.cancel()

    def _begin(self, message: dict[str, Any] | None) -> LiveStream:
        if message is None:
            raise ProblemError("stopping", "The service is stopping and takes no new streams.")
        request = _object(message)
        unknown = sorted(set(request) - _KEYS)
        if unknown:
            raise ProblemError(
                "invalid-option", f"Unknown keys {', '.join(unknown)[:200]} in the first message."
            )
        self._owner = self._authorised(request.get("key"))
        numbers = {name: _number(request, name) for name in _RULE_KEYS}
        rate, channels = request.get("sample_rate"), request.get("channels", 1)
        for name, value in (("sample_rate", rate), ("channels", channels)):
            if not isinstance(value, int) or isinstance(value, bool):
                raise ProblemError("invalid-option", f"{name}: expected a whole number.")
        return LiveStream(
            self._service.analyst.detector,
            self._service.analyst.facts,
            sample_rate=rate,  # type: ignore[arg-type]
            encoding=str(request.get("encoding")),
            channels=channels,
            rule=RuleOptions(**numbers),
            max_seconds=self._service.limits.stream_seconds,
        )

    def _authorised(self, key: object) -> str:
        owner = self._socket.scope["state"][OWNER]
        if owner is None and self._service.keys is not None:
            owner = self._service.keys.owner(key if isinstance(key, str) else "")
        if owner is None:
            raise ProblemError("key-needed", 'The first message must hold an API key: {"key": …}.')
        return str(owner)


def _object(message: dict[str, Any]) -> dict[str, Any]:
    """The JSON object of a text message."""
    try:
        found = json.loads(message.get("text") or "")
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise ProblemError("bad-request", "Expected a JSON object as a text message.")
    return found


def _number(request: dict[str, Any], name: str) -> float | None:
    value = request.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ProblemError("invalid-option", f"{name}: expected a number.")
    return float(value)
