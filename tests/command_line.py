"""The ``voxfide`` command in a process of its own, to be interrupted; and in this one, for its exit code."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from voxfide.cli import main

SMALL_SHARDS = """
from voxfide.embeddings import embed
from voxfide.scoring import score_manifest
for job in (embed, score_manifest):
    job.__kwdefaults__["shard_rows"] = 8
from voxfide.cli import main
main()
"""


def start(*arguments: str | Path) -> subprocess.Popen[str]:
    """The command with shards of 8 rows and one thread, as the leader of a process group of its own."""
    return subprocess.Popen(
        [sys.executable, "-c", SMALL_SHARDS, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        start_new_session=True,
    )


def stop_when(
    process: subprocess.Popen[str], number: signal.Signals, ready: Callable[[], bool]
) -> tuple[int, str]:
    """Sends a signal to the whole group, as a terminal does; the exit status and what stderr said."""
    deadline = time.monotonic() + 120
    while not ready():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    time.sleep(random.uniform(0, 0.02))
    os.killpg(process.pid, number)
    _, said = process.communicate(timeout=60)
    return process.returncode, said


def run_here(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> int:
    """Runs the command in this process and returns its exit code."""
    monkeypatch.setattr(sys, "argv", ["voxfide", *map(str, arguments)])
    with pytest.raises(SystemExit) as exit_:
        main()
    return int(exit_.value.code)
