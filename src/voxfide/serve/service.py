"""What a running service holds: one model, its batcher, decoders, queue, counts."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from voxfide.serve.admission import Admission, Ticket
from voxfide.serve.analyst import Analyst, Options, Progress
from voxfide.serve.batcher import Batcher
from voxfide.serve.decoders import DecoderPool
from voxfide.serve.history import History
from voxfide.serve.keys import KeyRing
from voxfide.serve.meters import Meters
from voxfide.serve.problems import ProblemError
from voxfide.serve.settings import ServiceSettings
from voxfide.serve.uploads import Upload
from voxfide.serve.workspace import Workspace
from voxfide.types import SAMPLE_RATE

if TYPE_CHECKING:
    from voxfide.detectors import AnyDetector

log = logging.getLogger(__name__)

Result = TypeVar("Result")

ANYONE = ""
"""Owner of what is asked without a key."""


class Service:
    """Everything behind the HTTP interface; a context manager.

    Args:
        detector: loaded.
        name: by which it was asked for.
        settings: see there.

    Raises:
        UsageError: keys, history or a temporary folder that cannot be used.
    """

    def __init__(self, detector: AnyDetector, name: str, settings: ServiceSettings) -> None:
        self.detector, self.settings = detector, settings
        self.limits = settings.limits
        self.keys = None if settings.keys is None else KeyRing.read(settings.keys)
        self.admission = Admission(self.limits.pending, settings.concurrency)
        self.open_streams: set[asyncio.Task[Any]] = set()
        self.meters = Meters(lambda: self.admission.pending, lambda: len(self.open_streams))
        self.history = None if settings.history is None else History(settings.history, settings.history_days)
        self.workspace = Workspace(settings.temporary)
        self.pool = DecoderPool(settings.concurrency, self.limits, self.meters.crashes.add)
        self.batcher = Batcher(
            detector.score_waveforms,
            wait=settings.batch_wait if settings.batching else 0.0,
            max_seconds=settings.batch_seconds if settings.batching else 0.0,
            on_batch=self.meters.batches.observe,
        )
        self.analyst = Analyst(detector, name, self.batcher, self.pool, self.workspace)
        self._threads = ThreadPoolExecutor(settings.concurrency, "analysis")
        self._stream_threads = ThreadPoolExecutor(settings.concurrency, "stream")
        self._history_thread = ThreadPoolExecutor(1, "history")
        self.ready = False

    def __enter__(self) -> Service:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def warm_up(self) -> None:
        """Starts a decoder and scores a second of noise: the first request need not wait for either.

        Raises:
            VoxfideError: no decoder process can be started.
        """
        self.pool.start()
        noise = np.random.default_rng(0).standard_normal(SAMPLE_RATE).astype(np.float32)
        self.batcher.score([0.01 * noise])
        self.ready = True

    def close(self) -> None:
        """Ends threads and processes and removes what is temporary."""
        self.ready = False
        for threads in (self._threads, self._stream_threads, self._history_thread):
            threads.shutdown(wait=True)
        self.batcher.close()
        self.pool.close()
        self.workspace.close()
        if self.history is not None:
            self.history.close()

    async def analyse(
        self, upload: Upload, options: Options, owner: str, progress: Progress = lambda seconds: None
    ) -> dict[str, Any]:
        """The answer for one upload, in a place of the queue.

        Whoever stops waiting for it makes the work stop too.

        Raises:
            AudioError, UsageError: see :meth:`~voxfide.serve.analyst.Analyst.run`.
        """
        ticket = Ticket()
        loop = asyncio.get_running_loop()
        async with self.admission.place():
            work = loop.run_in_executor(self._threads, self.analyst.run, upload, options, ticket, progress)
            try:
                answer = await asyncio.shield(work)
            finally:
                # The file may not be closed while a thread still reads it.
                ticket.cancel()
                await asyncio.wait([work])
                if not work.cancelled():
                    work.exception()
        await self._note(answer, owner)
        return answer

    async def in_time(self, work: Awaitable[Result]) -> Result:
        """``work``'s result, unless it takes longer than a request may.

        Raises:
            ProblemError: ``time-limit``.
        """
        limit = self.limits.request_seconds
        try:
            async with asyncio.timeout(limit):
                return await work
        except TimeoutError:
            raise ProblemError(
                "time-limit", f"The analysis was not finished within the {limit:g} s that a request may take."
            ) from None

    async def in_stream_thread(self, function: Callable[..., Result], *arguments: Any) -> Result:
        """Runs a step of a live stream off the event loop, to its end even where nobody waits any more."""
        loop = asyncio.get_running_loop()
        return await asyncio.shield(loop.run_in_executor(self._stream_threads, function, *arguments))

    async def _note(self, answer: dict[str, Any], owner: str) -> None:
        self.count(answer)
        if self.history is not None:
            await self.in_history(self.history.add, owner, answer)

    def count(self, answer: dict[str, Any]) -> None:
        """Counts an analysis."""
        self.meters.audio.add(answer["duration"])
        self.meters.verdicts.add(1, answer["verdict"])

    async def in_history(self, function: Callable[..., Result], *arguments: Any) -> Result:
        """Runs a method of the history off the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self._history_thread, function, *arguments)
