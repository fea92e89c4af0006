"""Decoding many files in worker processes, which may crash without taking the job along."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path
from types import TracebackType

from voxfide.audio import Audio, load_audio
from voxfide.errors import AudioError, DecoderCrashError

READ_AHEAD = 4
"""Files in flight per worker: enough to keep it busy, few enough to bound memory."""


def default_workers() -> int:
    """Half of the cores this process may use: decoding costs far less than analysis."""
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    return max(1, min(16, cores // 2))


class DecodePool:
    """Decodes files in order, ahead of their use.

    Args:
        workers: processes; 0 decodes in this process.
        max_duration: seconds that a file may last; see :func:`load_audio`.
    """

    def __init__(self, workers: int = 0, max_duration: float | None = 3600.0) -> None:
        self.workers = workers
        self.max_duration = max_duration
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> DecodePool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the workers; files in flight are dropped."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None

    def decode(self, paths: Sequence[Path]) -> Iterator[Audio | AudioError]:
        """Audio, or the error that stands for it, for each path, in order."""
        if not self.workers:
            for path in paths:
                yield decode_one(path, self.max_duration)
            return
        waiting = deque(paths)
        flying: deque[tuple[Path, Future[Audio | AudioError]]] = deque()
        while waiting or flying:
            try:
                while waiting and len(flying) < self.workers * READ_AHEAD:
                    flying.append((waiting[0], self._submit(waiting[0])))
                    waiting.popleft()
                result = flying[0][1].result()
                flying.popleft()
                yield result
            except BrokenProcessPool:
                # Some file killed its worker, and with it all that were in flight: one at a time tells which.
                suspects = [path for path, _ in flying]
                flying.clear()
                self._drop()
                yield from (self._alone(path) for path in suspects)

    def _submit(self, path: Path) -> Future[Audio | AudioError]:
        if self._pool is None:
            self._pool = ProcessPoolExecutor(
                self.workers, mp_context=get_context("spawn"), initializer=_prepare_worker, initargs=(os.getpid(),)
            )  # fmt: skip
        return self._pool.submit(decode_one, path, self.max_duration)

    def _alone(self, path: Path) -> Audio | AudioError:
        try:
            return self._submit(path).result()
        except BrokenProcessPool:
            self._drop()
            return DecoderCrashError(str(path), "the decoder process died while reading it", "intact audio")

    def _drop(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None


def decode_one(path: Path, max_duration: float | None) -> Audio | AudioError:
    """:func:`load_audio` with its error returned in place of raised."""
    try:
        return load_audio(path, max_duration=max_duration)
    except AudioError as error:
        return error


def _prepare_worker(parent: int) -> None:
    """Ctrl-C is the parent's affair, and a worker must not outlive a killed parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
