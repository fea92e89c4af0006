"""The live half of :class:`voxfide.client.Client`."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from voxfide.analysis.result import Stretch, Window
from voxfide.client import RemoteAnalysis, ServiceError, StreamUpdate
from voxfide.errors import MissingDependencyError
from voxfide.types import Seconds

if TYPE_CHECKING:
    from websockets.sync.client import ClientConnection

_MOST_BYTES = 1 << 19


def updates(
    url: str,
    headers: Mapping[str, str],
    first: Mapping[str, Any],
    chunks: Iterable[bytes],
    timeout: Seconds,
) -> Iterator[StreamUpdate]:
    """See :meth:`voxfide.client.Client.stream`. Audio is sent from a thread of its own."""
    try:
        from websockets.exceptions import ConnectionClosed, WebSocketException
        from websockets.sync.client import connect
    except ImportError as error:
        raise MissingDependencyError(
            "live streams need the package websockets (expected: pip install 'voxfide[serve]')"
        ) from error
    try:
        with connect(
            url, additional_headers=dict(headers), max_size=None, compression=None, proxy=None
        ) as socket:
            with suppress(ConnectionClosed):  # refused already: what is read next says why
                socket.send(json.dumps(first))
            _read(socket, timeout)
            sender = _Sender(socket, chunks)
            sender.start()
            try:
                while True:
                    found = _update(_read(socket, timeout))
                    yield found
                    if found.final is not None:
                        return
            except ServiceError:
                if sender.failure is not None:
                    raise sender.failure from None
                raise
            finally:
                sender.stop()
    except (OSError, WebSocketException) as error:
        raise ServiceError(f"{url}: the stream broke off: {error}") from error


class _Sender(threading.Thread):
    """Sends what the caller's iterable gives, and then the end."""

    def __init__(self, socket: ClientConnection, chunks: Iterable[bytes]) -> None:
        super().__init__(name="voxfide-stream", daemon=True)
        self._socket, self._chunks = socket, chunks
        self._stopped = threading.Event()
        self.failure: BaseException | None = None

    def run(self) -> None:
        from websockets.exceptions import ConnectionClosed

        try:
            for chunk in self._chunks:
                for start in range(0, len(chunk), _MOST_BYTES):
                    self._socket.send(chunk[start : start + _MOST_BYTES])
                if self._stopped.is_set():
                    return
            self._socket.send(json.dumps({"end": True}))
        except ConnectionClosed:
            return  # the reader says why
        except BaseException as error:
            self.failure = error  # of the caller's iterable
            self._socket.close()

    def stop(self) -> None:
        """Sends no more after the chunk at hand."""
        self._stopped.set()


def _read(socket: ClientConnection, timeout: Seconds) -> dict[str, Any]:
    from websockets.exceptions import ConnectionClosed

    try:
        message = json.loads(socket.recv(timeout))
    except TimeoutError:
        raise ServiceError(f"the service said nothing for {timeout:g} s") from None
    except ConnectionClosed as error:
        raise ServiceError(f"the service closed the stream: {error}") from error
    if message["type"] == "problem":
        problem = message["problem"]
        raise ServiceError(problem["detail"], problem["status"], problem)
    return dict(message)


def _update(message: Mapping[str, Any]) -> StreamUpdate:
    if message["type"] == "final":
        final = RemoteAnalysis.of(message["analysis"])
        return StreamUpdate(
            final.duration, final.score, final.probability, final.verdict, (), final.stretches, final
        )
    return StreamUpdate(
        message["seconds"],
        message["score"],
        message["probability_bonafide"],
        message["verdict"],
        tuple(Window(**window) for window in message["windows"]),
        tuple(Stretch(**stretch) for stretch in message["stretches"]),
    )
