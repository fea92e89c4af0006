"""Files that appear whole or not at all, and folders that one process writes to at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from voxfide.errors import StoreError


def write_atomic(path: Path, content: str | bytes | Any) -> None:
    """Writes to a temporary name, flushes to disk, renames. A full disk leaves the old file as it was."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    data = content.encode("utf-8") if isinstance(content, str) else content
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def exclusive(lock: Path, message: str) -> Iterator[None]:
    """Holds an advisory lock that ends with the process, however it ends.

    Raises:
        StoreError: with ``message``, where another process holds it.
    """
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("a") as file:
        try:
            import fcntl
        except ImportError:  # Windows: no advisory locks; parts are atomic all the same
            yield
            return
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StoreError(message) from None
        yield
