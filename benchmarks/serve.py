"""Load on the local service over loopback: throughput, latency, memory, and whether answers are right.

``python benchmarks/serve.py [--detector D] [--clients 32] [--seconds 60]`` starts ``voxfide serve`` with
batching across requests and without, in turns, and has clients upload clips of 2 to 8 s without pause.
Every answer is checked against the score of the same clip offline. Then a service with a short queue is
asked by more clients than it takes, to see that each is answered or told to wait.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import soundfile as sf

from voxfide.analysis.recording import analyse
from voxfide.client import Client, ServiceError
from voxfide.corpora.selftest.speaker import Speaker, generator
from voxfide.corpora.selftest.synthesis import synthesise_utterance
from voxfide.detectors import load_detector
from voxfide.types import SAMPLE_RATE

TOLERANCE = 1e-5
CLIPS = 24


@dataclass
class Load:
    """What clients saw."""

    latencies: list[float] = field(default_factory=list)
    wrong: int = 0
    crossed: int = 0
    busy: int = 0
    without_advice: int = 0
    errors: list[str] = field(default_factory=list)
    audio: float = 0.0
    memory: list[float] = field(default_factory=list)


def write_clips(folder: Path) -> list[Path]:
    """Synthetic speech of 2 to 8 s."""
    rng = np.random.default_rng(0)
    paths = []
    for i in range(CLIPS):
        draw = generator(i, "load")
        signal = synthesise_utterance(Speaker.draw(f"s{i}", draw), draw, float(rng.uniform(2, 8)))
        paths.append(folder / f"clip-{i:02d}.wav")
        sf.write(paths[-1], signal, SAMPLE_RATE)
    return paths


@contextmanager
def service(detector: str, *options: str):
    """``voxfide serve`` on a free port; gives its address and process."""
    command = [
        sys.executable,
        "-m",
        "voxfide",
        "-q",
        "serve",
        "--detector",
        detector,
        "--port",
        "0",
        *options,
    ]
    began = time.monotonic()
    process = subprocess.Popen([*command, *options], stdout=subprocess.PIPE, text=True)
    try:
        found = re.search(r"http://\S+", process.stdout.readline())
        assert found, "the service did not start"
        yield found[0], process, time.monotonic() - began
    finally:
        process.terminate()
        code = process.wait(60)
        assert code == 0, f"the service ended with exit code {code}"


def resident_mb(pid: int) -> float:
    """Of a process and its children, MB; NaN where the system does not say."""
    import psutil

    try:
        whole = psutil.Process(pid)
        return sum(p.memory_info().rss for p in [whole, *whole.children(recursive=True)]) / 1e6
    except psutil.Error:
        return float("nan")


def put_under_load(
    url: str, pid: int, clips: list[Path], expected: dict[str, float | None], clients: int, seconds: float
) -> Load:
    """Clients that ask one clip after another until the time is over."""
    load, lock = Load(), threading.Lock()
    until = time.monotonic() + seconds

    def ask(number: int) -> None:
        client = Client(url)
        rng = np.random.default_rng(number)
        while time.monotonic() < until:
            clip = clips[int(rng.integers(len(clips)))]
            began = time.monotonic()
            try:
                found = client.detect(clip, segments=False)
            except ServiceError as error:
                with lock:
                    if error.status == 429:
                        load.busy += 1
                        load.without_advice += error.retry_after is None
                    else:
                        load.errors.append(str(error))
                time.sleep(0.2)
                continue
            with lock:
                load.latencies.append(time.monotonic() - began)
                load.audio += found.duration
                load.crossed += found.path != clip.name
                load.wrong += not same(found.score, expected[clip.name])

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(clients)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        load.memory.append(resident_mb(pid))
        time.sleep(1.0)
    return load


def same(score: float | None, expected: float | None) -> bool:
    """Whether two scores agree."""
    if score is None or expected is None:
        return score is expected
    return abs(score - expected) <= TOLERANCE


def report(name: str, load: Load, seconds: float) -> str:
    """One row of the table."""
    p50, p95, p99 = np.percentile(load.latencies or [float("nan")], [50, 95, 99])
    third = max(1, len(load.memory) // 3)
    early, late = np.median(load.memory[third : 2 * third] or [0]), np.median(load.memory[2 * third :] or [0])
    answers = len(load.latencies)
    return (
        f"| {name} | {answers:,} | {answers / seconds:.1f} | {load.audio / seconds:.0f} | "
        f"{1e3 * p50:.0f} | {1e3 * p95:.0f} | {1e3 * p99:.0f} | {early:.0f} | {late:.0f} | "
        f"{load.wrong} | {load.crossed} | {len(load.errors)} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--detector", default="bundled")
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=60.0, help="for each of the two ways")
    parser.add_argument("--rounds", type=int, default=2, help="in which that time is spent, in turns")
    arguments = parser.parse_args()
    detector = load_detector(arguments.detector)
    with tempfile.TemporaryDirectory() as folder:
        clips = write_clips(Path(folder))
        expected = {clip.name: analyse(clip, detector).score for clip in clips}
        print(f"{arguments.clients} clients, {CLIPS} clips of 2 to 8 s, answers checked to {TOLERANCE:g}\n")
        head = "answers | a second | audio s/s | p50 ms | p95 ms | p99 ms | MB, 2nd third | MB, 3rd third"
        print(f"| way | {head} | wrong | crossed | errors |\n|---|{'---:|' * 11}")
        seconds = arguments.seconds / arguments.rounds
        for number in range(arguments.rounds):
            for name, option in (("batching", "--batching"), ("each alone", "--no-batching")):
                with service(arguments.detector, option) as (url, process, start):
                    load = put_under_load(url, process.pid, clips, expected, arguments.clients, seconds)
                    print(report(f"{name}, round {number + 1}", load, seconds), flush=True)
        with service(arguments.detector, "--queue", "4") as (url, process, start):
            load = put_under_load(url, process.pid, clips, expected, arguments.clients, 5.0)
        print(
            f"\nqueue of 4: {len(load.latencies)} answered ({load.wrong} wrong), {load.busy} told to wait "
            f"({load.without_advice} without Retry-After), {len(load.errors)} errors; "
            f"ready after {start:.1f} s"
        )
        for error in load.errors[:5]:
            print(f"  {error}")


if __name__ == "__main__":
    main()
