"""A request being worked on, while its client may go away or want to hear of progress."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack
from typing import Any, Final, TypeVar

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from voxfide.serve.problems import ProblemError, problem_of

log = logging.getLogger(__name__)

Result = TypeVar("Result")

PROGRESS_TYPE: Final = "application/x-ndjson"
_PROGRESS_SECONDS: Final = 0.2


class ClientGoneError(Exception):
    """Nobody is there any more to answer."""


async def attended(work: Coroutine[Any, Any, Result], receive: Callable[[], Awaitable[Any]]) -> Result:
    """The result of ``work``, which is cancelled when the client hangs up.

    Args:
        work: begins at once.
        receive: of the request, whose body has been read.

    Raises:
        ClientGoneError: it did.
    """
    task = asyncio.create_task(work)
    gone = asyncio.create_task(_hang_up(receive))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientGoneError
        return task.result()
    finally:
        gone.cancel()
        if not task.done():
            task.cancel()
            await asyncio.wait({task})


async def _hang_up(receive: Callable[[], Awaitable[Any]]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def described(error: Exception) -> ProblemError:
    """The answer to an error, which is logged if it is the service's own."""
    problem = problem_of(error)
    if problem.status >= 500:
        log.error("%s", problem.detail, exc_info=error if problem.name == "internal" else None)
    return problem


class ProgressResponse(Response):
    """One JSON object a line: progress while the work goes on, then the result or the problem.

    Args:
        work: given a function that is told of seconds done, from any thread.
        closing: what the request holds, freed once the work is done or nobody wants it.
    """

    media_type = PROGRESS_TYPE

    def __init__(
        self, work: Callable[[Callable[[float], None]], Coroutine[Any, Any, Any]], closing: AsyncExitStack
    ) -> None:
        super().__init__(headers={"X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._work, self._closing = work, closing
        self._seconds = 0.0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._closing:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            try:
                line = await attended(self._worked(send), receive)
            except ClientGoneError:
                return
        # A client that reads slowly holds no place in the queue meanwhile.
        await _send_line(send, line, last=True)

    async def _worked(self, send: Send) -> dict[str, Any]:
        ticking = asyncio.create_task(self._tick(send))
        try:
            return {"result": await self._work(self._tell)}
        except Exception as error:
            return {"problem": described(error).to_json()}
        finally:
            ticking.cancel()
            await asyncio.wait({ticking})

    def _tell(self, seconds: float) -> None:
        self._seconds = seconds

    async def _tick(self, send: Send) -> None:
        shown = -1.0
        while True:
            if self._seconds != shown:
                shown = self._seconds
                await _send_line(send, {"progress": {"seconds": shown}})
            await asyncio.sleep(_PROGRESS_SECONDS)


async def _send_line(send: Send, line: dict[str, Any], last: bool = False) -> None:
    body = json.dumps(line, ensure_ascii=False, allow_nan=False).encode() + b"\n"
    await send({"type": "http.response.body", "body": body, "more_body": not last})
