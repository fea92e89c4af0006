"""Files of a multipart request, written to unnamed files as they arrive, never above the limits.

Names that clients give are for messages only: nothing is ever opened by them.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import IO, Final

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from voxfide.serve.problems import ProblemError
from voxfide.serve.settings import Limits
from voxfide.serve.workspace import Workspace

FIELD: Final = "file"
_WRITE_BYTES: Final = 1 << 20
_NAME_CHARACTERS: Final = 200
_OVERHEAD_BYTES: Final = 1 << 16
_DRAIN_BYTES: Final = 8 << 20
_DRAIN_SECONDS: Final = 2.0


@dataclass
class Upload:
    """One file that has arrived.

    Attributes:
        name: that the client gave it, made harmless.
        file: open, without a name on disk.
        n_bytes, sha256: of the content.
    """

    name: str
    file: IO[bytes]
    n_bytes: int = 0
    sha256: str = ""

    def close(self) -> None:
        """Frees the disk space."""
        self.file.close()


def harmless_name(name: str) -> str:
    """A client's file name as it may be shown: its last part, without control or direction characters."""
    last = re.split(r"[/\\]", name)[-1]
    kept = "".join(c for c in last if c.isprintable())
    return kept.strip()[:_NAME_CHARACTERS] or "upload"


class UploadReader:
    """Reads one request's files.

    Args:
        workspace: where they go to.
        limits: see there.
        max_files: that the request may hold.
    """

    def __init__(self, workspace: Workspace, limits: Limits, max_files: int) -> None:
        self._workspace, self._limits, self._max_files = workspace, limits, max_files
        self._max_bytes = limits.upload_bytes * (1 if max_files == 1 else 2)
        self.uploads: list[Upload] = []
        self._digests: list[hashlib._Hash] = []
        self._buffer = bytearray()
        self._field = self._value = b""
        self._headers: dict[bytes, bytes] = {}
        self._complete = False

    def close(self) -> None:
        """Closes the files that have arrived."""
        for upload in self.uploads:
            upload.close()

    async def read(self, body: AsyncIterator[bytes], content_type: str, length: str | None) -> list[Upload]:
        """The files of a request body.

        Args:
            body: pieces as they arrive.
            content_type, length: the headers.

        Raises:
            ProblemError: too large, too slow, no form, no file in it, or more than ``max_files``.
        """
        boundary = _boundary(content_type)
        deadline = time.monotonic() + self._limits.upload_seconds
        try:
            if length is not None and length.isdigit() and int(length) > self._max_bytes + _OVERHEAD_BYTES:
                raise self._too_large()
            parser = self._parser(boundary)
            while (piece := await self._next(body, deadline)) is not None:
                parser.write(piece)
                if len(self._buffer) >= _WRITE_BYTES:
                    await self._flush()
            await self._flush()
        except FormParserError as error:
            await _drain(body)
            raise ProblemError(
                "bad-request", f"The body is not a well-formed multipart form: {error}"
            ) from error
        except ProblemError:
            await _drain(body)
            raise
        if not self._complete:
            raise ProblemError("bad-request", "The multipart form breaks off before its end.")
        if not self.uploads:
            raise ProblemError("bad-request", f"The form holds no part named {FIELD!r} with a file.")
        for upload, digest in zip(self.uploads, self._digests, strict=True):
            upload.sha256 = digest.hexdigest()
        return self.uploads

    async def _next(self, body: AsyncIterator[bytes], deadline: float) -> bytes | None:
        left = deadline - time.monotonic()
        patience = min(self._limits.idle_seconds, left)
        try:
            return await asyncio.wait_for(anext(body, None), max(0.0, patience))
        except TimeoutError:
            if patience < left:
                reason = f"Nothing arrived for {self._limits.idle_seconds:g} s"
            else:
                reason = f"The upload was not complete after {self._limits.upload_seconds:g} s"
            raise ProblemError("upload-too-slow", f"{reason}.", headers={"Connection": "close"}) from None

    async def _flush(self) -> None:
        """Writes what is held to the file that is arriving, off the event loop."""
        if not self._buffer:
            return
        data, self._buffer = bytes(self._buffer), bytearray()
        upload, digest = self.uploads[-1], self._digests[-1]
        upload.n_bytes += len(data)
        self._check_size()

        def write() -> None:
            digest.update(data)
            view = memoryview(data)
            while view:
                view = view[upload.file.write(view) :]

        await asyncio.to_thread(write)

    def _check_size(self) -> None:
        sizes = [upload.n_bytes for upload in self.uploads]
        if max(sizes) > self._limits.upload_bytes or sum(sizes) > self._max_bytes:
            raise self._too_large()

    def _too_large(self) -> ProblemError:
        limit = f"{self._limits.upload_bytes / 1e6:,.3g} MB a file"
        if self._max_files > 1:
            limit += f" and {self._max_bytes / 1e6:,.3g} MB together"
        return ProblemError(
            "too-large",
            f"The upload is larger than this service takes ({limit}).",
            headers={"Connection": "close"},
            limit_bytes=self._limits.upload_bytes,
        )

    # --- what the parser calls

    def _parser(self, boundary: bytes) -> MultipartParser:
        return MultipartParser(
            boundary,
            {
                "on_part_begin": self._part_begins,
                "on_header_field": self._header_field,
                "on_header_value": self._header_value,
                "on_header_end": self._header_ends,
                "on_headers_finished": self._headers_finished,
                "on_part_data": self._part_data,
                "on_part_end": self._part_ends,
                "on_end": self._form_ends,
            },
        )

    def _part_begins(self) -> None:
        self._headers = {}

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_ends(self) -> None:
        self._headers[self._field.lower()] = self._value
        self._field = self._value = b""

    def _headers_finished(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        field = _text(options.get(b"name", b""))
        if field != FIELD or b"filename" not in options:
            shown = field[:50]
            raise ProblemError(
                "bad-request",
                f"The form holds a part named {shown!r}; expected files in parts named {FIELD!r} "
                "(options belong into the address).",
            )
        if len(self.uploads) == self._max_files:
            raise ProblemError("too-large", f"The form holds more than {self._max_files} file(s).")
        name = harmless_name(_text(options[b"filename"]))
        self.uploads.append(Upload(name, self._workspace.unnamed_file()))
        self._digests.append(hashlib.sha256())

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        self._buffer += data[start:end]

    def _part_ends(self) -> None:
        # The next part's data must not be taken for this one's: rare and small, so written here.
        if self._buffer:
            upload = self.uploads[-1]
            upload.n_bytes += len(self._buffer)
            self._check_size()
            self._digests[-1].update(self._buffer)
            view = memoryview(bytes(self._buffer))
            while view:
                view = view[upload.file.write(view) :]
            self._buffer = bytearray()

    def _form_ends(self) -> None:
        self._complete = True


def _boundary(content_type: str) -> bytes:
    kind, options = parse_options_header(content_type)
    if kind != b"multipart/form-data" or not options.get(b"boundary"):
        raise ProblemError(
            "not-multipart", f"Expected multipart/form-data with a file in a part named {FIELD!r}."
        )
    return options[b"boundary"]


def _text(raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("latin-1")


async def _drain(body: AsyncIterator[bytes]) -> None:
    """Takes some more of a refused upload, so that the client comes to read the answer."""
    left = _DRAIN_BYTES
    try:
        async with asyncio.timeout(_DRAIN_SECONDS):
            async for piece in body:
                left -= len(piece)
                if left < 0:
                    return
    except TimeoutError:
        return
