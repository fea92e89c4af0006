"""The private folder of a running service: nothing in it outlives a request, or a crash for long.

Uploads are files without a name, which the system frees when they are closed or the process dies.
Only what other parts of voxfide must find by path is named: decoded audio and reports. The folder
belongs to its owner alone, holds a lock for as long as the service lives, and is removed at its end;
one that a killed service left behind is removed by the next that starts.
"""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Final

from voxfide.errors import UsageError

log = logging.getLogger(__name__)

PREFIX: Final = "voxfide-serve-"
_LOCK: Final = "lock"
_SETTLED_SECONDS: Final = 60.0
"""A folder without a lock file is left alone for so long: its service may just be starting."""


class Workspace:
    """Made at the start of a service; a context manager that removes it.

    Args:
        parent: where to; the system's folder for temporary files by default.

    Attributes:
        folder: its path.

    Raises:
        UsageError: it cannot be made.
    """

    def __init__(self, parent: Path | None = None) -> None:
        base = Path(tempfile.gettempdir()) if parent is None else parent
        try:
            remove_leftovers(base)
            self.folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir=base))
            self._lock = (self.folder / _LOCK).open("w")
            _try_lock(self._lock)
        except OSError as error:
            raise UsageError(f"{base}: no folder for temporary files can be made there: {error}") from error

    def __enter__(self) -> Workspace:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Removes the folder and all in it. May be called again."""
        self._lock.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def unnamed_file(self) -> IO[bytes]:
        """A file that is open for reading and writing and has no name."""
        return tempfile.TemporaryFile(dir=self.folder, buffering=0)

    @contextmanager
    def subfolder(self) -> Iterator[Path]:
        """A folder for the time of a ``with`` block."""
        path = Path(tempfile.mkdtemp(dir=self.folder))
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)

    def leftovers(self) -> list[str]:
        """What is in the folder beside its lock; empty where no request is at work."""
        return sorted(p.name for p in self.folder.iterdir() if p.name != _LOCK)


def remove_leftovers(base: Path) -> list[Path]:
    """Removes the folders that killed services left in ``base``; returns those removed."""
    removed = []
    for folder in base.glob(f"{PREFIX}*"):
        with suppress(OSError):
            if not folder.is_symlink() and folder.is_dir() and _is_ours(folder) and _is_abandoned(folder):
                shutil.rmtree(folder, ignore_errors=True)
                removed.append(folder)
    if removed:
        log.warning("%s: removed %d folder(s) of services that were killed", base, len(removed))
    return removed


def _is_ours(folder: Path) -> bool:
    return folder.stat().st_uid == os.getuid()


def _is_abandoned(folder: Path) -> bool:
    """Whether nobody holds its lock: the number in its name may be another process's by now."""
    lock = folder / _LOCK
    if not lock.exists():
        return time.time() - folder.stat().st_mtime > _SETTLED_SECONDS
    with lock.open("r+") as file:
        return _try_lock(file)


def _try_lock(file: IO[str]) -> bool:
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
