"""Past verdicts in an SQLite file: kept only when asked for, never with audio, and not for ever."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from voxfide.errors import UsageError

_DAY: Final = 86400.0
_COLUMNS: Final = (
    "time", "path", "sha256", "duration", "verdict", "score", "probability_bonafide", "prior", "detector",
)  # fmt: skip
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS verdicts (
    id INTEGER PRIMARY KEY, owner TEXT NOT NULL, time REAL NOT NULL, path TEXT NOT NULL, sha256 TEXT,
    duration REAL, verdict TEXT NOT NULL, score REAL, probability_bonafide REAL, prior REAL, detector TEXT
);
CREATE INDEX IF NOT EXISTS by_time ON verdicts (time);
"""


class History:
    """A file of verdicts; each owner of a key sees their own alone.

    Args:
        path: made, readable by its owner alone, where it does not exist.
        days: after which a verdict is deleted.

    Raises:
        UsageError: the file cannot be used.
    """

    def __init__(self, path: Path, days: float) -> None:
        self._days = days
        self._lock = threading.Lock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch(mode=0o600)
            self._base = sqlite3.connect(path, check_same_thread=False, timeout=10.0)
            self._base.execute("PRAGMA secure_delete = ON")
            self._base.execute("PRAGMA journal_mode = WAL")
            self._base.executescript(_SCHEMA)
        except (OSError, sqlite3.Error) as error:
            raise UsageError(f"{path}: cannot be used for the history of verdicts: {error}") from error
        self.expire()

    def close(self) -> None:
        """Closes the file."""
        with self._lock:
            self._base.close()

    def add(self, owner: str, answer: Mapping[str, Any]) -> None:
        """Keeps what an answer says, less its details."""
        row = {
            **{name: answer.get(name) for name in _COLUMNS},
            "time": time.time(),
            "detector": answer["detector"]["fingerprint"],
        }
        names = ", ".join(("owner", *_COLUMNS))
        marks = ", ".join("?" * (1 + len(_COLUMNS)))
        with self._lock, self._base:
            self._base.execute(
                f"INSERT INTO verdicts ({names}) VALUES ({marks})", (owner, *(row[c] for c in _COLUMNS))
            )
        self.expire()

    def entries(self, owner: str, limit: int) -> list[dict[str, Any]]:
        """The latest verdicts of an owner, the last first; ``time`` is seconds since 1970."""
        self.expire()
        with self._lock:
            rows = self._base.execute(
                f"SELECT {', '.join(_COLUMNS)} FROM verdicts WHERE owner = ? "
                "ORDER BY time DESC, id DESC LIMIT ?",
                (owner, limit),
            ).fetchall()
        return [dict(zip(_COLUMNS, row, strict=True)) for row in rows]

    def clear(self, owner: str) -> int:
        """Deletes all verdicts of an owner; returns how many there were."""
        with self._lock, self._base:
            return self._base.execute("DELETE FROM verdicts WHERE owner = ?", (owner,)).rowcount

    def expire(self) -> None:
        """Deletes what is older than the file may keep."""
        with self._lock, self._base:
            self._base.execute("DELETE FROM verdicts WHERE time < ?", (time.time() - self._days * _DAY,))
