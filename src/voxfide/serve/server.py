"""Runs a service until it is told to stop, and then finishes what it has accepted."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import uvicorn

from voxfide.errors import UsageError
from voxfide.serve.app import create_app
from voxfide.serve.service import Service

log = logging.getLogger(__name__)

_HEADER_BYTES = 32 << 10
_GRACE_SECONDS = 5


class _Server(uvicorn.Server):
    """uvicorn's server, which ends with exit code 0 after a signal and lets live streams say a last word."""

    def __init__(self, config: uvicorn.Config, service: Service, started: Callable[[], None]) -> None:
        super().__init__(config)
        self._service, self._on_start = service, started

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        handled = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.signal(number, self.handle_exit) for number in handled}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_start()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        self._service.admission.stop()
        streams = set(self._service.open_streams)
        if streams:
            await asyncio.wait(streams, timeout=_GRACE_SECONDS)
        await super().shutdown(sockets)


def listen(host: str, port: int) -> socket.socket:
    """A listening socket.

    Raises:
        UsageError: the address is taken, or none of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        found = socket.getaddrinfo(host.strip("[]"), port, family, socket.SOCK_STREAM)
        listener = socket.socket(found[0][0], socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(found[0][4])
    except OSError as error:
        with suppress(UnboundLocalError):
            listener.close()
        raise UsageError(f"cannot listen on {host}, port {port}: {error.strerror or error}") from error
    listener.set_inheritable(False)
    return listener


def address_of(listener: socket.socket) -> str:
    """The address to open in a browser."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def server_of(service: Service, started: Callable[[], None] = lambda: None, **options: Any) -> uvicorn.Server:
    """The server of a service; ``serve(sockets=[listen(…)])`` runs it on an event loop."""
    limits = service.limits
    config = uvicorn.Config(
        create_app(service),
        http="h11",
        ws="websockets-sansio",
        ws_max_size=limits.message_bytes,
        ws_per_message_deflate=False,  # compressed messages could be bombs, and PCM hardly shrinks
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        h11_max_incomplete_event_size=_HEADER_BYTES,
        timeout_keep_alive=10,
        timeout_graceful_shutdown=int(limits.request_seconds + limits.upload_seconds + _GRACE_SECONDS),
        **options,
    )
    return _Server(config, service, started)


def run(service: Service, listener: socket.socket, started: Callable[[], None] = lambda: None) -> None:
    """Serves until SIGTERM or SIGINT; returns once all accepted requests are answered."""
    server = server_of(service, started)
    asyncio.run(server.serve(sockets=[listener]))
