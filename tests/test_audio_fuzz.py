"""Thousands of damaged files: every one gives audio or a typed error; none hangs or crashes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

PER_KIND = 60
SEED = 20


def test_every_damaged_file_gives_audio_or_a_typed_error(tmp_path: Path) -> None:
    log = tmp_path / "log"
    worker = Path(__file__).with_name("audio_fuzz.py")
    run = subprocess.run(
        [sys.executable, worker, log, str(PER_KIND), str(SEED)],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    lines = log.read_text().splitlines() if log.exists() else []
    last = lines[-1] if lines else "nothing was loaded"
    assert run.returncode == 0, f"ended with {run.returncode} at: {last}\n{run.stderr}"
    assert last == "done"
    assert run.stderr == "", "a decoder wrote on stderr"
    outcomes = json.loads(run.stdout)
    assert sum(outcomes.values()) == len(lines) - 1 >= 2000
    # The damage is real and not all of it fatal: both sides of the promise are tested.
    assert outcomes["Audio"] > 300
    assert outcomes["TruncatedAudioError"] > 300
    assert outcomes["NotAudioError"] > 100
