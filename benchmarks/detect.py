"""What ``voxfide detect`` costs: real-time factor on one core, cold start, and peak memory over the length.

    python benchmarks/detect.py [--detector bundled] [--seconds 10 600 7200] [--options --why]

Every length runs as a process of its own, as a user would start it, bound to one core and one thread, on a
FLAC file of voices that voxfide synthesised. Every window is scored (``--min-speech 0``), so that the figures
hold for speech without a pause. The real-time factor is the processor time that a second of audio adds,
between the shortest length and the others; the time of the shortest is the cold start.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile as sf

from voxfide.corpora.selftest.generate import synthesise_utterance
from voxfide.corpora.selftest.speaker import Speaker
from voxfide.types import SAMPLE_RATE

BLOCK_SECONDS = 30.0


def write_audio(path: Path, seconds: float) -> None:
    """Voices, the same 30 s again and again."""
    rng = np.random.default_rng(0)
    block = synthesise_utterance(Speaker.draw("speaker", rng), rng, BLOCK_SECONDS)
    left = round(seconds * SAMPLE_RATE)
    with sf.SoundFile(path, "w", SAMPLE_RATE, 1) as file:
        while left > 0:
            file.write(block[:left])
            left -= len(block)


def measure(path: Path, detector: str, options: list[str]) -> tuple[float, float, float]:
    """Wall-clock seconds, processor seconds and peak memory in MB of one call."""
    command = [sys.executable, "-m", "voxfide", "-q", "detect", str(path), "--detector", detector]
    command += ["--min-speech", "0", "--json", *options]
    if sys.platform == "linux":
        command = ["taskset", "-c", str(max(os.sched_getaffinity(0))), *command]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    started = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment)
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.monotonic() - started
    if os.waitstatus_to_exitcode(status):
        raise SystemExit(f"{' '.join(command)} failed")
    scale = 1024 if sys.platform == "linux" else 1024**2
    return wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / scale


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--detector", default="bundled")
    parser.add_argument("--seconds", type=float, nargs="+", default=[10.0, 600.0, 7200.0])
    parser.add_argument("--options", nargs=argparse.REMAINDER, default=[], help="of voxfide detect")
    arguments = parser.parse_args()
    print("| audio, s | wall clock, s | processor, s | real-time factor | peak memory, MB |")
    print("|---:|---:|---:|---:|---:|")
    first: tuple[float, float] | None = None
    with tempfile.TemporaryDirectory() as folder:
        for seconds in sorted(arguments.seconds):
            path = Path(folder) / f"{seconds:g}.flac"
            write_audio(path, seconds)
            wall, processor, memory = measure(path, arguments.detector, arguments.options)
            factor = "" if first is None else f"{(processor - first[1]) / (seconds - first[0]):.4f}"
            first = first or (seconds, processor)
            print(f"| {seconds:g} | {wall:.2f} | {processor:.2f} | {factor} | {memory:.0f} |", flush=True)


if __name__ == "__main__":
    main()
