"""A client of the service of :mod:`voxfide.serve`, for those who build on it.

Plain standard library but for live streams, which need the package ``websockets``. One client may be used
by several threads: every call has a connection of its own.
"""

from __future__ import annotations

import http.client
import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal
from urllib.parse import urlencode, urlsplit
from uuid import uuid4

from voxfide.analysis.result import Stretch, Verdict, Window
from voxfide.conditions import Reason
from voxfide.errors import UsageError, VoxfideError
from voxfide.types import PathLike, Seconds

ReportKind = Literal["html", "pdf"]
Upload = PathLike | bytes
"""A file, or the bytes of one."""

_BLOCK: Final = 1 << 18


class ServiceError(VoxfideError):
    """The service said no, or nothing.

    Attributes:
        status: of HTTP; 0 where the service does not answer.
        problem: the problem object (RFC 9457) that it sent; empty where it sent none.
    """

    def __init__(self, message: str, status: int = 0, problem: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.problem = dict(problem or {})

    @property
    def name(self) -> str:
        """Of the trouble, such as ``busy`` or ``too-large``."""
        return str(self.problem.get("type", "")).rpartition(":")[2]

    @property
    def retry_after(self) -> Seconds | None:
        """When to come again, where the service is busy."""
        seconds = self.problem.get("retry_after")
        return None if seconds is None else float(seconds)


@dataclass(frozen=True)
class RemoteAnalysis:
    """What a service said of one recording.

    Attributes:
        path: name that was sent.
        score: higher = more bona fide; ``None`` where nothing could be scored.
        probability: of bona fide at ``prior``; ``None`` without a calibration.
        verdict: ``bonafide``, ``spoof`` or ``inconclusive``.
        reasons: what lowers trust in it, or forbids a verdict.
        stretches: marked as suspicious.
        windows: that were scored.
        duration: seconds.
        json: everything, as in docs/detect.md.
    """

    path: str
    score: float | None
    probability: float | None
    prior: float | None
    verdict: Verdict
    reasons: tuple[Reason, ...]
    stretches: tuple[Stretch, ...]
    windows: tuple[Window, ...]
    duration: Seconds
    json: Mapping[str, Any]

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> RemoteAnalysis:
        """From the object that the service sends."""
        return cls(
            path=values["path"],
            score=values["score"],
            probability=values["probability_bonafide"],
            prior=values["prior"],
            verdict=values["verdict"],
            reasons=tuple(Reason(**reason) for reason in values["reasons"]),
            stretches=tuple(Stretch(**stretch) for stretch in values.get("stretches", ())),
            windows=tuple(Window(**window) for window in values.get("windows", ())),
            duration=values["duration"],
            json=dict(values),
        )


@dataclass(frozen=True)
class StreamUpdate:
    """What is known of a live stream by now.

    Attributes:
        seconds: heard so far.
        score, probability, verdict: of the windows scored so far.
        windows: new since the update before.
        stretches: the latest ones that are marked.
        final: the whole analysis, at the end alone.
    """

    seconds: Seconds
    score: float | None
    probability: float | None
    verdict: Verdict
    windows: tuple[Window, ...]
    stretches: tuple[Stretch, ...]
    final: RemoteAnalysis | None = None


class Client:
    """Talks to one service.

    Args:
        url: such as ``http://127.0.0.1:8000``.
        key: API key, where the service wants one.
        timeout: that an answer may take, s.
        patience: how long to go on trying while the service is busy, s; as often as it says.

    Raises:
        UsageError: no address of a service.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8000",
        *,
        key: str | None = None,
        timeout: Seconds = 660.0,
        patience: Seconds = 0.0,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UsageError(f"{url!r}: expected the address of a service, http://HOST:PORT")
        self._parts, self._key = parts, key
        self._timeout, self._patience = timeout, patience

    def detect(
        self,
        recording: Upload,
        *,
        name: str | None = None,
        prior: float | None = None,
        segments: bool = True,
        why: bool = False,
        report: ReportKind | None = None,
    ) -> RemoteAnalysis:
        """Has one recording analysed.

        Args:
            recording: a file, or the bytes of one.
            name: to call it by; the file's own where left out.
            prior: of bona fide; the detector's own where left out.
            segments: windows, speech and marked stretches.
            why: contributions of bands, layers and members.
            report: a document, in ``json["report"]`` as base64.

        Raises:
            ServiceError: the recording cannot be used, the service is busy, or does not answer.
            UsageError: a file that cannot be read.
        """
        options = {"prior": prior, "segments": segments, "why": why, "report": report}
        return RemoteAnalysis.of(self._upload("/v1/detect", [(recording, name)], options))

    def detect_batch(
        self, recordings: Sequence[Upload], *, prior: float | None = None, segments: bool = True
    ) -> list[RemoteAnalysis | ServiceError]:
        """Has several recordings analysed in one request; an error stands for one that cannot be used."""
        options = {"prior": prior, "segments": segments}
        answer = self._upload("/v1/detect/batch", [(r, None) for r in recordings], options)
        return [
            ServiceError(result["error"], result["problem"]["status"], result["problem"])
            if "error" in result
            else RemoteAnalysis.of(result)
            for result in answer["results"]
        ]

    def detectors(self) -> dict[str, Any]:
        """The detector in use, and limits on uploads."""
        return dict(self._answer("GET", "/v1/detectors"))

    def is_ready(self) -> bool:
        """Whether the service takes requests."""
        try:
            connection = self._connect()
            try:
                connection.request("GET", self._parts.path.rstrip("/") + "/readyz")
                return connection.getresponse().status == 200
            finally:
                connection.close()
        except OSError:
            return False

    def stream(
        self,
        chunks: Iterable[bytes],
        sample_rate: int,
        *,
        encoding: Literal["s16le", "f32le"] = "s16le",
        channels: int = 1,
        prior: float | None = None,
    ) -> Iterator[StreamUpdate]:
        """Sends live PCM, and gives what is known as it becomes known; the last update holds the analysis.

        Args:
            chunks: bytes of PCM, cut anywhere; taken no faster than the service analyses.
            sample_rate: Hz.
            encoding: of the samples; channels are interleaved.
            channels: averaged.
            prior: of bona fide.

        Raises:
            ServiceError: the service refuses the stream or breaks off.
            MissingDependencyError: the package ``websockets`` is missing.
        """
        from voxfide.client_stream import updates

        first = {"sample_rate": sample_rate, "encoding": encoding, "channels": channels}
        if prior is not None:
            first["prior"] = prior  # type: ignore[assignment]
        scheme = "wss" if self._parts.scheme == "https" else "ws"
        url = f"{scheme}://{self._parts.netloc}{self._parts.path.rstrip('/')}/v1/stream"
        return updates(url, self._headers(), first, chunks, self._timeout)

    # --- HTTP

    def _headers(self) -> dict[str, str]:
        return {} if self._key is None else {"Authorization": f"Bearer {self._key}"}

    def _connect(self) -> http.client.HTTPConnection:
        kind = http.client.HTTPSConnection if self._parts.scheme == "https" else http.client.HTTPConnection
        assert self._parts.hostname is not None
        return kind(self._parts.hostname, self._parts.port, timeout=self._timeout)

    def _upload(
        self, path: str, files: Sequence[tuple[Upload, str | None]], options: Mapping[str, Any]
    ) -> dict[str, Any]:
        chosen = {
            k: str(v).lower() if isinstance(v, bool) else v for k, v in options.items() if v is not None
        }
        return dict(self._answer("POST", f"{path}?{urlencode(chosen)}", files))

    def _answer(
        self, method: str, path: str, files: Sequence[tuple[Upload, str | None]] | None = None
    ) -> Any:
        until = time.monotonic() + self._patience
        while True:
            try:
                return self._once(method, path, files)
            except ServiceError as error:
                wait = error.retry_after
                if wait is None or time.monotonic() + wait > until:
                    raise
                time.sleep(wait)

    def _once(self, method: str, path: str, files: Sequence[tuple[Upload, str | None]] | None) -> Any:
        connection = self._connect()
        try:
            try:
                headers, body = self._headers(), None
                if files is not None:
                    form = _Form(files)
                    headers |= {"Content-Type": form.content_type, "Content-Length": str(form.n_bytes)}
                    body = form.blocks()
                connection.request(method, self._parts.path.rstrip("/") + path, body, headers)
            except (BrokenPipeError, ConnectionResetError):
                pass  # it answered before it had read everything: what it says comes below
            response = connection.getresponse()
            content = response.read()
        except (OSError, http.client.HTTPException) as error:
            where = f"{self._parts.scheme}://{self._parts.netloc}"
            raise ServiceError(f"{where}: the service does not answer: {error!r}") from error
        finally:
            connection.close()
        return _content(response.status, content)


def _content(status: int, content: bytes) -> Any:
    try:
        values = json.loads(content)
    except ValueError:
        values = None
    if status == 200 and values is not None:
        return values
    problem = values if isinstance(values, dict) else {}
    raise ServiceError(str(problem.get("detail", f"the service answered {status}")), status, problem)


class _Form:
    """A multipart body that is read from disk as it is sent."""

    def __init__(self, files: Sequence[tuple[Upload, str | None]]) -> None:
        boundary = uuid4().hex
        self.content_type = f"multipart/form-data; boundary={boundary}"
        self._parts: list[bytes | Path] = []
        for number, (upload, name) in enumerate(files):
            is_path = not isinstance(upload, bytes)
            path = Path(upload) if is_path else None  # type: ignore[arg-type]
            shown = name or (path.name if path is not None else f"recording-{number}")
            quoted = shown.replace("\\", "\\\\").replace('"', '\\"').replace("\r", " ").replace("\n", " ")
            head = f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{quoted}"\r\n\r\n'
            content = path if path is not None else upload
            assert isinstance(content, Path | bytes)
            self._parts += [head.encode(), content, b"\r\n"]
        self._parts.append(f"--{boundary}--\r\n".encode())
        self.n_bytes = sum(map(_size, self._parts))

    def blocks(self) -> Iterator[bytes]:
        """The body in pieces."""
        for part in self._parts:
            if isinstance(part, bytes):
                yield part
                continue
            with part.open("rb") as file:
                yield from _blocks(file)


def _size(part: bytes | Path) -> int:
    if isinstance(part, bytes):
        return len(part)
    try:
        with part.open("rb") as file:
            return file.seek(0, os.SEEK_END)
    except OSError as error:
        raise UsageError(f"{part}: cannot be read: {error.strerror or error}") from error


def _blocks(file: BinaryIO) -> Iterator[bytes]:
    while block := file.read(_BLOCK):
        yield block
