"""Decoder processes: uploads of strangers are opened in them, and in nothing else."""

from __future__ import annotations

import json
import logging
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, Final

import numpy as np

from voxfide import errors
from voxfide.audio import AudioInfo
from voxfide.errors import AudioError, DecoderCrashError, VoxfideError
from voxfide.serve.frames import DONE, ERROR, BrokenChannelError, receive_frame, send_request
from voxfide.serve.settings import Limits
from voxfide.types import SAMPLE_RATE, Float32Array

log = logging.getLogger(__name__)

FILES_PER_PROCESS: Final = 500
"""After so many a process is replaced: what a decoder leaks goes with it."""

_CPU_SECONDS: Final = 30.0
_CPU_SHARE: Final = 0.05
"""A file may take a process this long, and this share of the longest allowed duration on top."""

_ENVIRONMENT: Final = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "LANG", "LC_ALL", "TMPDIR")
_ERRORS: Final = {
    name: kind
    for name, kind in vars(errors).items()
    if isinstance(kind, type) and issubclass(kind, AudioError)
}


class DecoderPool:
    """A fixed number of decoder processes, each started when first needed.

    Args:
        size: processes.
        limits: on what they decode.
        on_crash: called for each that dies at work.
    """

    def __init__(self, size: int, limits: Limits, on_crash: Callable[[], None] = lambda: None) -> None:
        self._limits = limits
        self._on_crash = on_crash
        self._all = [_Process(limits.decoder_bytes) for _ in range(size)]
        self._idle: queue.LifoQueue[_Process] = queue.LifoQueue()
        for process in self._all:
            self._idle.put(process)

    def start(self) -> None:
        """Starts one process ahead of the first request.

        Raises:
            VoxfideError: none can be started.
        """
        self._all[-1].start()

    def close(self) -> None:
        """Ends the processes at once."""
        for process in self._all:
            process.kill()

    @property
    def pids(self) -> list[int]:
        """Of the processes that run."""
        return [pid for process in self._all if (pid := process.pid) is not None]

    def open(self, file: IO[bytes], name: str) -> DecodedFile:
        """Waits for a process and has it decode an open file from its start.

        Args:
            file: seekable; its position is undefined afterwards.
            name: for messages.
        """
        process = self._idle.get()
        return DecodedFile(file, name, process, self._limits, self._idle.put, self._on_crash)


class DecodedFile:
    """The samples of one file as they come; made by :meth:`DecoderPool.open`, a context manager.

    Iterates over ``(samples,)`` float32 at 16 kHz, once. At most a socket's buffer is decoded ahead.

    Attributes:
        info: what was found; known once the iteration has ended.

    Raises:
        AudioError: by the iteration; :class:`~voxfide.errors.DecoderCrashError` where the process died.
    """

    info: AudioInfo

    def __init__(
        self,
        file: IO[bytes],
        name: str,
        process: _Process,
        limits: Limits,
        give_back: Callable[[_Process], None],
        on_crash: Callable[[], None],
    ) -> None:
        self._file, self._name, self._process, self._limits = file, name, process, limits
        self._give_back, self._on_crash = give_back, on_crash
        self._ended = self._aborted = self._left = False
        self._lock = threading.Lock()

    def __enter__(self) -> DecodedFile:
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._left = True
            if not self._ended:  # left in the middle of a file: what it still says is of no use
                self._process.kill()
                self._process.reap()
        self._give_back(self._process)

    def abort(self) -> None:
        """Ends the decoding from another thread: the iteration then raises."""
        with self._lock:
            self._aborted = True
            if not self._ended and not self._left:  # after that the process is somebody else's
                self._process.kill()

    def __iter__(self) -> Iterator[Float32Array]:
        n_left = round(self._limits.duration * SAMPLE_RATE) + SAMPLE_RATE
        try:
            channel, (kind, payload) = self._begin()
            while True:
                if kind == DONE:
                    self.info = _info(payload, self._name)
                    self._ended = True
                    return
                if kind == ERROR:
                    self._ended = True
                    raise _error(payload, self._name)
                samples = np.frombuffer(payload, "<f4")
                n_left -= len(samples)
                if n_left < 0 or not np.isfinite(samples).all():
                    raise BrokenChannelError("more samples than allowed, or not finite")
                yield samples
                kind, payload = receive_frame(channel)
        except (BrokenChannelError, OSError, ValueError, KeyError, TypeError) as error:
            raise self._crash(error) from None

    def _begin(self) -> tuple[socket.socket, tuple[bytes, bytes]]:
        """The socket and the first frame; a process that died while it was idle shows it only here."""
        try:
            channel = self._process.ask(self._file, self._request())
            return channel, receive_frame(channel)
        except (BrokenChannelError, OSError):
            if self._aborted:
                raise
            self._process.reap()
        channel = self._process.ask(self._file, self._request())
        return channel, receive_frame(channel)

    def _crash(self, error: Exception) -> AudioError:
        how = self._process.reap()
        if not self._aborted:
            log.warning("a decoder process died (%s; %s)", how, error)
            self._on_crash()
        return DecoderCrashError(self._name, f"the decoder died while reading it ({how})", "intact audio")

    def _request(self) -> dict[str, Any]:
        return {
            "name": self._name,
            "duration": self._limits.duration,
            "channels": self._limits.channels,
            "cpu_seconds": _CPU_SECONDS + _CPU_SHARE * self._limits.duration,
        }


def _info(payload: bytes, name: str) -> AudioInfo:
    """What a decoder says it found. Fields of another type than declared are nonsense."""
    found = json.loads(payload)
    warnings = tuple(str(text)[:500] for text in found.pop("warnings"))
    depth = found.pop("bit_depth")
    return AudioInfo(
        path=name,
        container=str(found["container"]),
        codec=str(found["codec"]),
        sample_rate=int(found["sample_rate"]),
        channels=int(found["channels"]),
        duration=float(found["duration"]),
        bit_depth=None if depth is None else int(depth),
        n_samples=int(found["n_samples"]),
        decoder=str(found["decoder"]),
        warnings=warnings,
    )


def _error(payload: bytes, name: str) -> AudioError:
    found = json.loads(payload)
    kind = _ERRORS.get(str(found["error"]), AudioError)
    return kind(name, str(found["reason"])[:1000], str(found["expected"])[:1000])


class _Process:
    """One decoder process, started when first asked, and again after it has died."""

    def __init__(self, memory_bytes: int) -> None:
        self._memory_bytes = memory_bytes
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: socket.socket | None = None
        self._files = 0
        self._lock = threading.Lock()

    @property
    def pid(self) -> int | None:
        process = self._process
        return None if process is None or process.poll() is not None else process.pid

    def start(self) -> socket.socket:
        """Starts it where it does not run; gives the socket to it."""
        with self._lock:
            if self._channel is not None and self._process is not None and self._process.poll() is None:
                return self._channel
        self.reap()
        ours, theirs = socket.socketpair()
        with theirs:
            search_path = os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path)
            process = subprocess.Popen(
                [
                    sys.executable,
                    "-P",
                    "-m",
                    "voxfide.serve.decoder_worker",
                    str(theirs.fileno()),
                    str(self._memory_bytes),
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                env=_environment(search_path),
                start_new_session=True,  # Ctrl-C at the terminal is the service's affair
            )
        with self._lock:
            self._process, self._channel, self._files = process, ours, 0
        if ours.recv(1) != b"+":
            raise VoxfideError(f"a decoder process cannot be started ({self.reap()})")
        return ours

    def ask(self, file: IO[bytes], request: dict[str, Any]) -> socket.socket:
        """Sends a request; the answer is to be read from the socket."""
        if self._files >= FILES_PER_PROCESS:
            self.reap()
        channel = self.start()
        self._files += 1
        file.seek(0)
        send_request(channel, request, file.fileno())
        return channel

    def kill(self) -> None:
        """Kills it, whatever it is doing; who reads from it sees it die."""
        with self._lock:
            if self._process is not None:
                self._process.kill()

    def reap(self) -> str:
        """Leaves neither a zombie nor an open socket; says how it ended."""
        with self._lock:
            process, channel = self._process, self._channel
            self._process = self._channel = None
        if channel is not None:
            channel.close()
        if process is None:
            return "not running"
        try:
            status = process.wait(timeout=1.0)
        except subprocess.TimeoutExpired:
            process.kill()
            status = process.wait()
        return f"exit code {status}" if status >= 0 else signal.Signals(-status).name


def _environment(search_path: str) -> dict[str, str]:
    """No more of ours than it needs: no keys, no tokens."""
    kept = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    single = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    return {**kept, **single, "PYTHONPATH": search_path, "PYTHONDONTWRITEBYTECODE": "1"}
