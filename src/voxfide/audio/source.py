"""Where bytes come from: a path, bytes or a file object, made one seekable, bounded reader."""

from __future__ import annotations

import io
import os
import stat
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO, Final, cast

from voxfide.audio.members import locate, open_member
from voxfide.errors import AudioNotFoundError, AudioTooLongError, NotAudioError, UsageError
from voxfide.types import PathLike

AudioSource = PathLike | bytes | BinaryIO
"""A path, which may go through an archive (see :mod:`voxfide.audio.members`), the bytes of a file, or a
binary file object (read from its position on)."""

MAX_SPOOLED_BYTES: Final = 2 << 30
"""A file object that cannot seek is copied to a temporary file, 2 GiB at most."""

_SPOOL_IN_MEMORY: Final = 16 << 20
_COPY_BLOCK: Final = 1 << 20
_FREE_READS: Final = 100_000
_BYTES_PER_READ: Final = 64


class Window(io.RawIOBase):
    """The ``size`` bytes of ``file`` from ``start`` on, as decoders read them.

    Decoders call back into it from C, where an exception is lost or printed. So a failure
    is kept in ``failure``, the decoder sees an end of file, and :meth:`check` raises it
    afterwards. Reads are counted, so that a demuxer that circles in a damaged file ends.
    ``descriptor`` is the open file itself where there is one: libsndfile reads that without
    coming back to Python, where a callback would swallow the user's Ctrl-C.
    """

    def __init__(
        self, file: BinaryIO, label: str, start: int, size: int, descriptor: int | None = None
    ) -> None:
        super().__init__()
        self.descriptor = descriptor
        self._file = file
        self.label = label
        self._start = start
        self._position = 0
        self._reads_left = _FREE_READS + size // _BYTES_PER_READ
        self.size = size
        self.failure: BaseException | None = None

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        origin = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.size}[whence]
        self._position = max(0, origin + offset)
        return self._position

    def readinto(self, buffer) -> int:  # type: ignore[no-untyped-def]
        """Reads like a raw file, and at most ``size`` bytes in all."""
        self._reads_left -= 1
        if self._reads_left < 0 and self.failure is None:
            reason = "its decoder reads the same bytes over and over"
            self.failure = NotAudioError(self.label, reason, "an intact audio file")
        if self.failure is not None or self._position >= self.size:
            return 0
        view = memoryview(buffer).cast("B")[: self.size - self._position]
        try:
            self._file.seek(self._start + self._position)
            data = self._file.read(len(view)) or b""
        except (OSError, ValueError) as error:
            self.failure = AudioNotFoundError(self.label, f"cannot be read: {error}", "a readable file")
            return 0
        except KeyboardInterrupt as interrupt:
            self.failure = interrupt
            return 0
        view[: len(data)] = data
        self._position += len(data)
        return len(data)

    def at(self, offset: int, n: int) -> bytes:
        """Up to ``n`` bytes at ``offset``; fewer at the end."""
        self.seek(offset)
        pieces = []
        while n > 0 and (piece := self.read(n)):
            pieces.append(piece)
            n -= len(piece)
        return b"".join(pieces)

    def check(self) -> None:
        """Raises what went wrong inside a callback, if anything did."""
        if self.failure is not None:
            raise self.failure


def open_source(source: AudioSource, closing: ExitStack) -> tuple[str, Window]:
    """Names ``source`` and opens it; what has to be closed is left to ``closing``.

    Raises:
        AudioNotFoundError: no such file or member of an archive, not a regular file, or not readable.
        NotAudioError, TruncatedAudioError: the archive that a path goes through is none, or is damaged.
        AudioTooLongError: a file object that cannot seek and holds more than 2 GiB.
        UsageError: not a path, bytes or a binary file object.
    """
    if isinstance(source, str | Path):
        return _open_path(str(source), closing)
    if isinstance(source, bytes | bytearray | memoryview):
        data = bytes(source)
        return "<bytes>", Window(io.BytesIO(data), "<bytes>", 0, len(data))
    if hasattr(source, "read") and not isinstance(source, io.TextIOBase):
        return _open_file_object(source, closing)
    raise UsageError(f"expected a path, bytes or a binary file object, got {type(source).__name__}")


def source_size(path: PathLike) -> int:
    """Size in bytes of a file, or of a member of an archive.

    Raises:
        AudioError: it cannot be opened; see :func:`open_source`.
    """
    with ExitStack() as closing:
        return open_source(path, closing)[1].size


def _open_path(path: str, closing: ExitStack) -> tuple[str, Window]:
    expected = "the path of a readable audio file"
    try:
        # Asked before opening: opening a pipe would wait for a writer.
        if not stat.S_ISREG(Path(path).stat().st_mode):
            kind = "a directory" if Path(path).is_dir() else "not a regular file"
            raise AudioNotFoundError(path, f"is {kind}", expected)
        file = closing.enter_context(io.FileIO(path))
    except FileNotFoundError:
        raise AudioNotFoundError(path, "no such file", expected) from None
    except (OSError, ValueError) as error:
        member = locate(path) if isinstance(error, OSError) else None
        if member is not None:
            inside, start, size = open_member(path, member, closing)
            return path, Window(inside, path, start, size)
        reason = getattr(error, "strerror", None) or str(error)
        raise AudioNotFoundError(path, f"cannot be opened: {reason}", expected) from None
    descriptor = file.fileno()
    return path, Window(cast(BinaryIO, file), path, 0, os.fstat(descriptor).st_size, descriptor)


def _open_file_object(file: BinaryIO, closing: ExitStack) -> tuple[str, Window]:
    name = getattr(file, "name", None)
    label = name if isinstance(name, str) and name else "<file object>"
    try:
        if isinstance(file.read(0), str):
            raise UsageError(f"{label}: expected a file object opened in binary mode")
        if getattr(file, "seekable", lambda: False)():
            start = file.tell()
            size = file.seek(0, os.SEEK_END) - start
            file.seek(start)
            return label, Window(file, label, start, max(0, size))
        spool = closing.enter_context(tempfile.SpooledTemporaryFile(_SPOOL_IN_MEMORY))  # noqa: SIM115
        size = 0
        while block := file.read(_COPY_BLOCK):
            size += len(block)
            if size > MAX_SPOOLED_BYTES:
                limit = f"at most {MAX_SPOOLED_BYTES >> 30} GiB, or a file that can seek"
                raise AudioTooLongError(label, "is too large to buffer", limit)
            spool.write(block)
    except (OSError, ValueError) as error:
        raise AudioNotFoundError(label, f"cannot be read: {error}", "a readable file object") from None
    return label, Window(cast(BinaryIO, spool), label, 0, size)
