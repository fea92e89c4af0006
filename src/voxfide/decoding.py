"""Decoding many files in worker processes, which may crash without taking the job along.

Workers are plain Python processes that import this module and nothing of the caller's:
scripts need no ``if __name__ == "__main__"``, notebooks work, and no worker loads torch.
A worker takes a pickled request on its standard input and answers on its standard
output; it ends when its input does, so none outlives a parent that was killed.
"""

from __future__ import annotations

import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import cast

from voxfide.audio import Audio, load_audio
from voxfide.cores import usable_cores
from voxfide.errors import AudioError, DecoderCrashError, UsageError

READ_AHEAD = 4
"""Files in flight per worker: enough to keep it busy, few enough to bound memory."""

MAX_HELD_BYTES = 1 << 28
"""No more files are sent off while this much decoded audio waits to be used."""

START_WORKER = "from voxfide.decoding import serve; serve()"

Decoded = Audio | AudioError
Decode = Callable[[Path, float | None], Decoded]


def default_workers() -> int:
    """Half of the cores this process may use: decoding costs far less than analysis."""
    return max(1, min(16, usable_cores() // 2))


def decode_one(path: Path, max_duration: float | None) -> Decoded:
    """:func:`load_audio` with its error returned in place of raised."""
    try:
        return load_audio(path, max_duration=max_duration)
    except AudioError as error:
        return error


class DecodePool:
    """Decodes files in order, ahead of their use.

    Args:
        workers: processes, started when first needed; 0 decodes in this process.
        max_duration: seconds that a file may last; see :func:`load_audio`.
        decode: a function of a module, which workers import.
    """

    def __init__(
        self, workers: int = 0, max_duration: float | None = 3600.0, decode: Decode = decode_one
    ) -> None:
        self.workers = workers
        self.max_duration = max_duration
        self._decode = decode
        self._threads: ThreadPoolExecutor | None = None
        self._idle: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
        self._all: list[_Worker] = []

    def __enter__(self) -> DecodePool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the workers at once; files in flight are dropped."""
        if self._threads is None:
            return
        self._threads.shutdown(wait=False, cancel_futures=True)
        for worker in self._all:
            worker.kill()
        self._threads.shutdown(wait=True)
        for worker in self._all:
            worker.clean_up()
        self._threads = None

    def decode(self, paths: Sequence[Path]) -> Iterator[Decoded]:
        """Audio, or the error that stands for it, for each path, in order.

        A file that kills its worker gives a :class:`DecoderCrashError`; others are not touched by it.

        Raises:
            UsageError: worker processes cannot be started.
        """
        if not self.workers:
            for path in paths:
                yield self._decode(path, self.max_duration)
            return
        waiting = deque(paths)
        flying: deque[Future[Decoded]] = deque()
        try:
            while waiting or flying:
                while waiting and len(flying) < self.workers * READ_AHEAD and _held(flying) < MAX_HELD_BYTES:
                    flying.append(self._submit(waiting.popleft()))
                yield flying.popleft().result()
        finally:
            for future in flying:
                future.cancel()

    def _submit(self, path: Path) -> Future[Decoded]:
        if self._threads is None:
            # A thread a worker: each waits for its own process, outside the interpreter lock.
            self._threads = ThreadPoolExecutor(self.workers, "decode")
            self._all = [_Worker() for _ in range(self.workers)]
            self._idle = queue.SimpleQueue()
            for worker in self._all:
                self._idle.put(worker)
        return self._threads.submit(self._ask, path)

    def _ask(self, path: Path) -> Decoded:
        worker = self._idle.get()
        try:
            return worker.ask(self._decode, path, self.max_duration)
        finally:
            self._idle.put(worker)


def _held(flying: Sequence[Future[Decoded]]) -> int:
    """Bytes of decoded audio that nobody has taken yet."""
    results = (f.result() for f in flying if f.done() and not f.exception())
    return sum(r.waveform.nbytes for r in results if isinstance(r, Audio))


class _Worker:
    """One process, started when first asked, and again after it has died."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._closed = False
        self._lock = threading.Lock()

    def ask(self, decode: Decode, path: Path, max_duration: float | None) -> Decoded:
        request = pickle.dumps((decode, path, max_duration))
        process = self._running()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(request)
            process.stdin.flush()
            return cast(Decoded, pickle.load(process.stdout))
        except (EOFError, BrokenPipeError, pickle.UnpicklingError):
            how = _how_it_ended(self._reap(process))
            return DecoderCrashError(
                str(path), f"the decoder process died while reading it ({how})", "intact audio"
            )

    def kill(self) -> None:
        """Kills the process, whatever it is doing; a thread that waits for it sees it die."""
        with self._lock:
            self._closed = True
            if self._process is not None:
                self._process.kill()

    def clean_up(self) -> None:
        """Leaves neither a zombie nor open pipes; for when no thread waits any more."""
        if self._process is not None:
            self._reap(self._process)

    def _running(self) -> subprocess.Popen[bytes]:
        with self._lock:
            if self._closed:
                raise UsageError("the decoding pool is closed")
            if self._process is not None:
                return self._process
            search_path = os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path)
            process = subprocess.Popen(
                [sys.executable, "-P", "-c", START_WORKER],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env={**os.environ, "PYTHONPATH": search_path},
                start_new_session=True,  # Ctrl-C at the terminal is the parent's affair
            )
            self._process = process
        assert process.stdout is not None
        if process.stdout.read(1) != b"+":
            how = _how_it_ended(self._reap(process))
            raise UsageError(
                f"a decoding process could not be started ({how}); decode in this one: workers 0"
            )
        return process

    def _reap(self, process: subprocess.Popen[bytes]) -> int:
        """Its exit status; the next question starts another process."""
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            with suppress(BrokenPipeError):  # a request that was not sent off entirely
                pipe.close()
        status = process.wait()
        with self._lock:
            self._process = None
        return status


def _how_it_ended(status: int) -> str:
    if status >= 0:
        return f"exit code {status}"
    try:
        return signal.Signals(-status).name
    except ValueError:
        return f"signal {-status}"


def serve() -> None:
    """What a worker process does: answers requests until its input ends.

    An exception that is not an :class:`AudioError` ends it, as a crash would.
    """
    # Decoders that print must not do so into the answers.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    requests: queue.SimpleQueue[tuple[Decode, Path, float | None]] = queue.SimpleQueue()

    def read() -> None:
        # In a thread of its own, to end the process in the middle of a file if the parent dies.
        with os.fdopen(os.dup(0), "rb") as source:
            while True:
                try:
                    requests.put(pickle.load(source))
                except EOFError:
                    os._exit(0)

    def die(error: threading.ExceptHookArgs) -> None:
        print(f"decoding process: {error.exc_type.__name__}: {error.exc_value}", file=sys.stderr, flush=True)
        os._exit(1)

    threading.excepthook = die
    threading.Thread(target=read, daemon=True).start()
    answers.write(b"+")
    answers.flush()
    while True:
        decode, path, max_duration = requests.get()
        result = decode(path, max_duration)
        try:
            pickle.dump(result, answers, protocol=5)
            answers.flush()
        except BrokenPipeError:
            os._exit(0)
