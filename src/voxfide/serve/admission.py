"""How many requests are taken on, in what order, and for how long."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Final

from voxfide.errors import VoxfideError
from voxfide.serve.problems import ProblemError
from voxfide.types import Seconds

_FIRST_GUESS: Final[Seconds] = 1.0
_LONGEST_ADVICE: Final = 60
_MEMORY: Final = 0.9


class CancelledError(VoxfideError):
    """Nobody waits for the answer any more."""


class Ticket:
    """One request's right to be worked on; may be withdrawn from another thread."""

    def __init__(self) -> None:
        self._cancelled = threading.Event()
        self._lock = threading.Lock()
        self._undo: list[Callable[[], None]] = []

    def check(self) -> None:
        """Raises :class:`CancelledError` once the ticket is withdrawn; to be called now and then."""
        if self._cancelled.is_set():
            raise CancelledError("the request was given up")

    def cancel(self) -> None:
        """Withdraws the ticket: what waits for something is woken."""
        self._cancelled.set()
        with self._lock:
            undo, self._undo = self._undo, []
        for action in undo:
            action()

    def on_cancel(self, action: Callable[[], None]) -> None:
        """``action`` is called when the ticket is withdrawn, or at once if it is already."""
        with self._lock:
            if not self._cancelled.is_set():
                self._undo.append(action)
                return
        action()


class Admission:
    """A bounded queue of requests, and the places in which they are worked on.

    Used on one event loop.

    Args:
        capacity: requests accepted and not answered.
        places: of these, worked on at a time.
    """

    def __init__(self, capacity: int, places: int) -> None:
        self.capacity, self.places = capacity, places
        self.pending = 0
        self._stop = asyncio.Event()
        self._place = asyncio.Semaphore(places)
        self._usual: Seconds = _FIRST_GUESS

    @property
    def stopping(self) -> bool:
        """Whether no new requests are accepted."""
        return self._stop.is_set()

    def stop(self) -> None:
        """Accepts no more requests; those accepted go on."""
        self._stop.set()

    async def stop_asked(self) -> None:
        """Waits for :meth:`stop`."""
        await self._stop.wait()

    @contextmanager
    def enter(self) -> Iterator[None]:
        """Accepts a request for the time of a ``with`` block.

        Raises:
            ProblemError: ``busy``, with advice when to come again; or the service is stopping.
        """
        if self.stopping:
            raise ProblemError("stopping", "The service is stopping and takes no new requests.")
        if self.pending >= self.capacity:
            wait = self.advice()
            raise ProblemError(
                "busy",
                f"{self.pending} requests are at work or waiting, as many as this service takes; "
                f"try again in {wait} s.",
                headers={"Retry-After": str(wait)},
                retry_after=wait,
            )
        self.pending += 1
        try:
            yield
        finally:
            self.pending -= 1

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Waits for a place, in order of arrival, and keeps it for the time of a block."""
        async with self._place:
            began = time.monotonic()
            try:
                yield
            finally:
                self._usual = _MEMORY * self._usual + (1 - _MEMORY) * (time.monotonic() - began)

    def advice(self) -> int:
        """Seconds after which a place in the queue is likely: as recent requests went, 1 to 60."""
        return max(1, min(_LONGEST_ADVICE, math.ceil(self._usual * self.pending / self.places / 2)))
