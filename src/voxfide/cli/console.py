"""What goes to stderr: logs and progress."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

    from voxfide.jobs import Failure

SHOWN_FAILURES = 20
_quiet = False
_rank, _world = 0, 1


def is_first_process() -> bool:
    """Whether this is the first, or the only, process of a run under `accelerate launch` or `torchrun`."""
    return _rank == 0


def is_launched() -> bool:
    """Whether this is one of several processes of a run."""
    return _world > 1


def name() -> str:
    """Who speaks: of the processes of a run, all but the first say their number."""
    return "voxfide" if is_first_process() else f"voxfide (process {_rank})"


def configure(*, verbose: bool, quiet: bool) -> None:
    """Sets up logging to stderr; of the processes of a run, the first speaks for all."""
    global _quiet, _rank, _world
    # As the launcher set them: a study takes its processes out of the launch.
    _rank, _world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    if is_launched():
        # PyTorch would warn, in every process, that blocks which may be left out of a step were not.
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    quiet = _quiet = quiet or not is_first_process()
    verbose = verbose and is_first_process()
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("voxfide: %(message)s"))
    ours = logging.getLogger("voxfide")
    ours.handlers, ours.propagate = [handler], False
    ours.setLevel(logging.DEBUG if verbose else logging.ERROR if quiet else logging.WARNING)


def say(message: str) -> None:
    """A line of progress."""
    if not _quiet:
        print(message, file=sys.stderr, flush=True)


class Progress:
    """Utterances done, audio seconds per second, time left: a bar on a terminal, else some lines.

    Args:
        unit: of what is counted beside utterances.
    """

    LINE_EVERY = 15.0

    def __init__(self, title: str, unit: str = "s of audio") -> None:
        self.title = title
        self.unit = unit
        self.total = 0
        self.done = 0
        self.seconds = 0.0
        self.started = time.monotonic()
        self._last_line = self.started
        self._bar: RichProgress | None = None
        self._task: Any = None

    def start(self, missing: int, kept: int) -> None:
        """Told how many utterances are to be done, and how many a previous run has finished."""
        if kept:
            say(f"{self.title}: {kept:,} of {missing + kept:,} were finished before")
        self.total += missing
        self.started = self._last_line = time.monotonic()
        if self._bar is not None:
            self._bar.update(self._task, total=self.total)

    def __call__(self, utterances: int, seconds: float) -> None:
        self.done += utterances
        self.seconds += seconds
        if self._bar is not None:
            self._bar.update(self._task, completed=self.done, rate=self._rate())
        elif time.monotonic() - self._last_line > self.LINE_EVERY:
            self._last_line = time.monotonic()
            if self.done > self.total:  # nobody knows how much there is
                say(f"{self.title}: {self.done:,}, {self._rate()}")
                return
            left = (self._last_line - self.started) / max(1, self.done) * (self.total - self.done)
            say(f"{self.title}: {self.done:,} of {self.total:,}, {self._rate()}, {left:.0f} s left")

    def _rate(self) -> str:
        return f"{self.seconds / max(1e-3, time.monotonic() - self.started):.1f} {self.unit}/s"

    def __enter__(self) -> Progress:
        if sys.stderr.isatty() and not _quiet:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as RichProgress

            self._bar = RichProgress(
                TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
                TextColumn("{task.fields[rate]}"), TimeRemainingColumn(), console=Console(stderr=True),
            )  # fmt: skip
            self._bar.start()
            self._task = self._bar.add_task(self.title, total=None, rate="")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
        elif self.done and not kind:
            say(f"{self.title}: {self.done:,} done, {self._rate()}")


@contextmanager
def progress(title: str, unit: str = "s of audio") -> Iterator[Progress]:
    """A :class:`Progress` for the time of a ``with`` block."""
    with Progress(title, unit) as bar:
        yield bar


def report_failures(failures: Sequence[Failure], table: str) -> None:
    """Lists what could not be read."""
    list_failures(failures, f"could not be used (listed in {table})")


def list_failures(failures: Sequence[object], said: str) -> None:
    """Lists failures, a line each; ``said`` goes on from "3 file(s)"."""
    if not failures:
        return
    print(f"voxfide: {len(failures)} file(s) {said}:", file=sys.stderr)
    for failure in failures[:SHOWN_FAILURES]:
        print(f"  {failure}", file=sys.stderr)
    if len(failures) > SHOWN_FAILURES:
        print(f"  … and {len(failures) - SHOWN_FAILURES} more", file=sys.stderr)
