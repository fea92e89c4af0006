"""Workers for tests of engines, which misbehave on demand; importable where Ray unpickles them."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from voxfide.errors import UsageError


@dataclass(frozen=True)
class Squares:
    """A factory of workers that square numbers and leave a trace of it.

    Attributes:
        folder: where each begun number leaves ``NUMBER.PID.TIME``.
        seconds: that a number takes.
        deadly: numbers that kill the process.
        wrong: numbers that raise an error of ours.
        broken: numbers that raise another.
        opens: whether a worker can be made; its process is killed where not.
        tells: name of an environment variable that is given in place of squares.
    """

    folder: Path
    seconds: float = 0.0
    deadly: frozenset[int] = frozenset()
    wrong: frozenset[int] = frozenset()
    broken: frozenset[int] = frozenset()
    opens: bool = True
    tells: str | None = None

    def __call__(self) -> Squarer:
        if not self.opens:
            os.kill(os.getpid(), signal.SIGKILL)
        (self.folder / f"opened.{os.getpid()}").touch()
        return Squarer(self)


@dataclass(frozen=True)
class Squarer:
    of: Squares

    def __call__(self, shard: Sequence[int]) -> Iterator[tuple[int, object]]:
        for number in shard:
            (self.of.folder / f"{number}.{os.getpid()}.{time.monotonic_ns()}").touch()
            if number in self.of.deadly:
                os.kill(os.getpid(), signal.SIGKILL)
            if number in self.of.wrong:
                raise UsageError(f"{number} is not wanted")
            if number in self.of.broken:
                raise ZeroDivisionError(f"{number} is broken")
            time.sleep(self.of.seconds)
            yield number, os.environ.get(self.of.tells) if self.of.tells else number * number

    def close(self) -> None:
        (self.of.folder / f"closed.{os.getpid()}").touch()


def lost(number: int, reason: str) -> tuple[int, str]:
    return number, reason
