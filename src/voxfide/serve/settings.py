"""What a service is told at its start: where it listens, and how much it takes on."""

from __future__ import annotations

import ipaddress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from voxfide.errors import UsageError
from voxfide.types import Seconds

LOOPBACK_NAMES: Final = ("localhost", "127.0.0.1", "[::1]")
"""Names of this machine that a browser may have asked for."""


@dataclass(frozen=True)
class Limits:
    """How much one request, and all together, may use. Every value is positive.

    Attributes:
        upload_bytes: of one file.
        batch_files: in one batch; together at most twice ``upload_bytes``.
        duration: seconds of decoded audio of one file.
        channels: of one file.
        upload_seconds: from the first byte of a request to its last.
        idle_seconds: between two pieces of an upload, or two messages of a stream.
        request_seconds: from the last byte of a request to its answer, waiting included.
        pending: requests that are uploaded, waited for or worked on; one more is answered 429.
        streams: live streams at a time.
        stream_seconds: of audio in one live stream.
        message_bytes: of one message of a live stream.
        decoder_bytes: address space of a decoder process.
    """

    upload_bytes: int = 500_000_000
    batch_files: int = 32
    duration: Seconds = 2 * 3600.0
    channels: int = 8
    upload_seconds: Seconds = 300.0
    idle_seconds: Seconds = 20.0
    request_seconds: Seconds = 600.0
    pending: int = 64
    streams: int = 16
    stream_seconds: Seconds = 12 * 3600.0
    message_bytes: int = 1 << 20
    decoder_bytes: int = 2 << 30

    def __post_init__(self) -> None:
        wrong = [name for name, value in asdict(self).items() if not value > 0]
        if wrong:
            raise UsageError(f"limits {', '.join(wrong)}: expected numbers above 0")

    def to_json(self) -> dict[str, Any]:
        """What a client may want to know before it sends anything."""
        shown = ("upload_bytes", "batch_files", "duration", "channels", "request_seconds", "stream_seconds")
        return {name: getattr(self, name) for name in shown}


@dataclass(frozen=True)
class ServiceSettings:
    """Where and how a service runs.

    Attributes:
        host, port: to listen on; port 0 takes a free one.
        allow_hosts: further names that requests may be addressed to, as behind a reverse proxy.
        keys: file of API keys; needed for any address but loopback, and with ``allow_hosts``.
        history: SQLite file of past verdicts; none is kept where it is ``None``.
        history_days: after which an entry is deleted.
        temporary: folder for what is held during a request; the system's by default.
        concurrency: recordings analysed at a time, each with a decoder process of its own.
        batching: whether windows of several requests are scored together.
        batch_wait: how long the first window of a batch waits for others.
        batch_seconds: audio in one batch, about.
        limits: see there.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    allow_hosts: tuple[str, ...] = ()
    keys: Path | None = None
    history: Path | None = None
    history_days: float = 30.0
    temporary: Path | None = None
    concurrency: int = 8
    batching: bool = True
    batch_wait: Seconds = 0.004
    batch_seconds: Seconds = 64.0
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise UsageError(f"port {self.port}: expected 0…65535")
        for name in ("concurrency", "history_days", "batch_seconds"):
            if not getattr(self, name) > 0:
                raise UsageError(f"{name} {getattr(self, name)}: expected a number above 0")
        if self.keys is None and not self.is_loopback:
            raise UsageError(
                f"--host {self.host} can be reached from other machines: give --keys FILE "
                "(`voxfide serve-key FILE NAME` makes a key)"
            )
        if self.keys is None and self.allow_hosts:
            raise UsageError(
                f"--allow-host {self.allow_hosts[0]} lets requests of other machines in: give --keys FILE "
                "(`voxfide serve-key FILE NAME` makes a key)"
            )

    @property
    def is_loopback(self) -> bool:
        """Whether nobody but this machine can connect."""
        if self.host.lower() == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host.strip("[]")).is_loopback
        except ValueError:
            return False

    @property
    def host_names(self) -> frozenset[str] | None:
        """Names that a request may be addressed to, in lower case; ``None``: any.

        On loopback this keeps out web pages whose own name was pointed at this machine (DNS
        rebinding); elsewhere the API key does, which such a page does not have.
        """
        named = {name.lower() for name in self.allow_hosts}
        if self.is_loopback:
            bare = self.host.strip("[]").lower()
            return frozenset({*LOOPBACK_NAMES, f"[{bare}]" if ":" in bare else bare, *named})
        return frozenset({self.host.lower(), *LOOPBACK_NAMES, *named}) if named else None
