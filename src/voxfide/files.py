"""Files that appear whole or not at all, and folders that one process writes to at a time."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from voxfide.errors import CheckpointError, StoreError, UsageError

log = logging.getLogger(__name__)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Gives a temporary name to write to; flushed and renamed to ``path`` where the block ends well.

    Where it does not, as on a full disk, ``path`` stays as it was and the temporary file goes.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name[:100]}.{os.getpid()}.tmp")
    try:
        temporary.touch()
        mode = temporary.stat().st_mode
        yield temporary
        # Some libraries make their files readable by the owner alone.
        temporary.chmod(stat.S_IMODE(mode))
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_atomic(path: Path, content: str | bytes | Any) -> None:
    """Writes text (UTF-8) or a buffer of bytes by way of :func:`replacing`."""
    data = content.encode("utf-8") if isinstance(content, str) else content
    with replacing(path) as temporary, temporary.open("wb") as file:
        file.write(data)


def read_yaml(path: Path | Traversable) -> Any:
    """The content of a YAML file.

    Raises:
        UsageError: it cannot be read.
    """
    import yaml

    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"{path}: not readable as YAML: {error}") from error


def read_json_object(path: Path) -> dict[str, Any]:
    """The content of a JSON file that holds an object.

    Raises:
        CheckpointError: it cannot be read, or holds something else.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: not readable ({error})") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{path}: expected a JSON object")
    return values


def file_sha256(path: Path) -> str:
    """SHA-256 of a file in hex, read in pieces.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def claim(stamp: Path, job: Mapping[str, Any], refusal: str) -> None:
    """Writes down beside a job's output what it is of; refuses a folder that holds the output of another.

    Raises:
        UsageError: with ``refusal``, and both jobs.
    """
    content = json.dumps(job, indent=2, ensure_ascii=False) + "\n"
    if not stamp.exists():
        write_atomic(stamp, content)
    elif (found := stamp.read_text(encoding="utf-8")) != content:
        raise UsageError(
            f"{refusal} (expected another folder, or none)\n"
            f"there: {' '.join(found.split())}\nhere:  {' '.join(content.split())}"
        )


def remove_temporaries(folder: Path) -> None:
    """Removes what killed writers left behind; for a folder that this process alone writes to."""
    for left in folder.glob(".*.tmp"):
        left.unlink(missing_ok=True)


@contextmanager
def exclusive(lock: Path, message: str) -> Iterator[None]:
    """Holds an advisory lock that ends with the process, however it ends.

    The holder may delete the lock file, or the folder that it is in.

    Raises:
        StoreError: with ``message``, where another process holds it.
    """
    try:
        import fcntl
    except ImportError:  # Windows: no advisory locks; files are replaced whole all the same
        yield
        return
    while True:
        lock.parent.mkdir(parents=True, exist_ok=True)
        try:
            file = lock.open("a")
        except FileNotFoundError:  # its folder was deleted just now
            continue
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise StoreError(message) from None
            except OSError as error:
                log.warning("%s: this file system has no locks (%s): start no second writer", lock, error)
            if _is_same_file(lock, file.fileno()):
                yield
                return
            # It was deleted before we got hold of it, and holds nobody off any more.


def _is_same_file(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
