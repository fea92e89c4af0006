"""What a report on one recording costs: processor time, memory and size, over the length of the recording.

    python benchmarks/recording_report.py [--minutes 10 120]

Every length runs in a process of its own, on a FLAC file of noise bursts with a window every 2 s and a marked
stretch every 200 s. Memory is the largest resident size of the process.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile as sf

from voxfide.analysis.result import Analysis, DetectorFacts, Stretch, Window
from voxfide.audio import probe_audio
from voxfide.conditions import Conditions, Segment
from voxfide.report.recording import write_recording_report
from voxfide.types import SAMPLE_RATE

BLOCK_SECONDS = 30


def write_audio(path: Path, minutes: int) -> None:
    time_s = np.arange(BLOCK_SECONDS * SAMPLE_RATE) / SAMPLE_RATE
    noise = np.random.default_rng(0).standard_normal(len(time_s))
    block = (0.05 * noise * (np.sin(2 * np.pi * 1.5 * time_s) > 0)).astype(np.float32)
    with sf.SoundFile(path, "w", SAMPLE_RATE, 1) as file:
        for _ in range(60 * minutes // BLOCK_SECONDS):
            file.write(block)


def analysis_of(path: Path, seconds: float) -> Analysis:
    """Windows and stretches without a detector."""
    windows = tuple(Window(t, t + 4.0, 3 * np.sin(t / 100), 2.0) for t in np.arange(0.0, seconds - 4, 2.0))
    stretches = tuple(Stretch(t, t + 9.0, -2 - t / 1e5) for t in np.arange(20.0, seconds - 20, 200.0))
    facts = DetectorFacts("none", "0" * 64, {}, "uncalibrated")
    return Analysis(
        str(path), None, path.stat().st_size, probe_audio(path), Conditions(seconds, seconds), facts,
        0.1, None, None, "bonafide", {}, (), windows, (Segment(0.0, seconds),), stretches,
    )  # fmt: skip


def measure(path: Path, minutes: int) -> None:
    analysis = analysis_of(path, 60.0 * minutes)
    for kind in ("html", "pdf"):
        start = time.process_time()
        out = write_recording_report(path.with_suffix(f".{kind}"), analysis)
        cost = time.process_time() - start
        megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"| {minutes} | {kind} | {cost:.2f} | {megabytes:.0f} | {out.stat().st_size / 1000:.0f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--minutes", type=int, nargs="+", default=[10, 120])
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure is not None:
        measure(options.measure, options.minutes[0])
        return
    print("| minutes | report | processor, s | memory, MB | size, kB |\n|---|---|---|---|---|", flush=True)
    for minutes in options.minutes:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "noise.flac"
            write_audio(path, minutes)
            command = [sys.executable, __file__, "--minutes", str(minutes), "--measure", str(path)]
            subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
