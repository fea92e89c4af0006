"""Unit costs of batch jobs on one core: decoding, analysis, and what the driver does with results.

    python benchmarks/unit_costs.py [-o benchmarks/unit_costs.json] [--rounds 3]

What ``scaling.py`` reckons with. Audio is synthesised here, weights are drawn at random in the real sizes,
every figure is the least of some rounds, in seconds of processor time of one thread.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import platform
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path

import numpy as np
import soundfile as sf

from detect import write_audio
from embed import make_checkpoint, useful_flop
from scaling import Costs, Task

SECONDS = 4.0
N_FILES = 40
MODELS = (
    ("wavlm-base", 4, "score"),
    ("wavlm-large", 8, "score"),
    ("wavlm-base", 12, "embed"),
    ("wavlm-large", 24, "embed"),
)
SCORE_BYTES = 40.0
"""A line of a score file."""


def fastest(work: Callable[[], object], rounds: int) -> float:
    """Processor seconds of the fastest of some rounds."""
    times = []
    for _ in range(rounds):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times)


def decoding(folder: Path, rounds: int) -> tuple[dict[str, float], float, dict[str, float]]:
    """Seconds for a second of audio and for a file, and bytes for a second, by format.

    Long and short files tell the two apart.
    """
    from voxfide.audio import load_audio

    write_audio(folder / "long.wav", 60.0)
    signal, rate = sf.read(folder / "long.wav", dtype="float32")
    formats = {"flac": {}, "mp3": {}, "ogg": {"format": "OGG", "subtype": "OPUS"}, "wav": {}}
    decode, n_bytes, opening = {}, {}, []
    for suffix, how in formats.items():
        long, short = folder / f"l.{suffix}", folder / f"s.{suffix}"
        sf.write(long, signal, rate, **how)
        sf.write(short, signal[: 4 * rate], rate, **how)
        of_long = fastest(lambda path=long: [load_audio(path) for _ in range(5)], rounds) / 5
        of_short = fastest(lambda path=short: [load_audio(path) for _ in range(40)], rounds) / 40
        decode[suffix] = (of_long - of_short) / 56
        n_bytes[suffix] = (long.stat().st_size - short.stat().st_size) / 56
        opening.append(max(0.0, of_short - 4 * decode[suffix]))
    return decode, float(np.mean(opening)), n_bytes


def analysis(folder: Path, rounds: int) -> dict[str, Task]:
    """Tasks: scoring with the bundled detector, and time averages of SSL layers, kept or scored.

    What a small back-end adds to its front-end is left out.
    """
    import torch

    from voxfide.detectors import load_detector
    from voxfide.extraction import Extractor
    from voxfide.frontends import create_frontend
    from voxfide.jobs import Row

    torch.set_num_threads(1)
    write_audio(folder / "clip.wav", SECONDS)
    clip = sf.read(folder / "clip.wav", dtype="float32")[0]
    rows = [Row(str(i), folder / "clip.wav") for i in range(8)]
    bundled = load_detector("bundled")
    seconds = fastest(lambda: bundled.score_waveforms([clip] * 8), rounds) / 8 / SECONDS
    tasks = {"score, bundled": Task(seconds, 0.0, SCORE_BYTES)}
    for name, n_layers, what in MODELS:
        checkpoint = folder / name
        if not checkpoint.exists():
            make_checkpoint(checkpoint, name)
        frontend = create_frontend(str(checkpoint), n_layers)
        extractor = Extractor(frontend, workers=0)
        seconds = fastest(lambda run=extractor: run(rows), rounds) / 8 / SECONDS
        config = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))
        flop = useful_flop(config, [len(clip)], n_layers) / SECONDS
        result = SCORE_BYTES if what == "score" else n_layers * frontend.dim * 4.0
        tasks[f"{what}, {name}-{n_layers}"] = Task(seconds, flop, result)
        print(f"{name}, {n_layers} layers: {seconds:.4f} core s, {flop / 1e9:.1f} GFLOP a second of audio")
    return tasks


def driver(folder: Path, rounds: int) -> tuple[float, float]:
    """Seconds for a row, and bytes of results a second: unpacked as they come from a worker, and written as
    a part of a store (to the page cache: a disk may be slower)."""
    from voxfide.audio import AudioInfo
    from voxfide.extraction import Extracted
    from voxfide.jobs import FileState, Row
    from voxfide.store import StoreInfo, write_part

    path = folder / "clip.wav"
    n = round(SECONDS * 16000)
    info = AudioInfo(str(path), "wav", "pcm_s16le", 16000, 1, SECONDS, 16, n, "soundfile")
    state = FileState.of(path)

    def written(values: int) -> float:
        store = StoreInfo("", "f", "k", {}, "mean", 1, values, 0.02, "float32")
        features = np.zeros((1, values), np.float32)
        rows = [Extracted(Row(str(i), path), features, 200, info, state) for i in range(256)]
        sent = pickle.dumps(rows, protocol=5)
        return fastest(lambda: write_part(folder / "part-0.arrow", pickle.loads(sent), store), 5 * rounds)

    small, large = written(1), written(40_000)
    return small / 256, 256 * 40_000 * 4 / max(large - small, 1e-9)


@dataclass(frozen=True)
class Nothing:
    """A worker that gives its shard back."""

    def __call__(self, shard: Sequence[int]) -> Iterator[int]:
        yield shard[0]

    def close(self) -> None:
        """Nothing to end."""


def ray_shard(n: int = 1000) -> float:
    """Seconds of the clock that Ray takes for a shard in which nothing is done, on two actors."""
    from voxfide.engine_ray import RayEngine

    came = []
    for _ in RayEngine(actors=2).map(Nothing, [[i] for i in range(n)], lambda item, reason: item):
        came.append(time.perf_counter())
    return (came[-1] - came[n // 10]) / (n - n // 10)


def row_memory(folder: Path, n: int = 200_000) -> float:
    """Bytes that the driver of a scoring job holds for a row: of manifest, row, score and file state."""
    import pyarrow as pa

    from voxfide.jobs import FileState, rows_of
    from voxfide.manifest import Manifest

    lines = [f"utterance_{i:09d},speaker_{i % 977:05d}/utterance_{i:09d}.flac,spoof,eval" for i in range(n)]
    path = folder / "rows.csv"
    path.write_text("utterance_id,path,label,split\n" + "\n".join(lines) + "\n", encoding="utf-8")
    del lines
    before = pa.total_allocated_bytes()
    tracemalloc.start()
    manifest = Manifest.read(path).require_valid()
    rows = rows_of(manifest)
    scores = {row.utterance_id: float(i) for i, row in enumerate(rows)}
    states = {row.utterance_id: FileState(str(row.path), i, i) for i, row in enumerate(rows)}
    held = tracemalloc.get_traced_memory()[0] + pa.total_allocated_bytes() - before
    tracemalloc.stop()
    assert len(scores) == len(states) == n
    return held / n


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("-o", "--out", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tasks = analysis(folder, options.rounds)
        decode, open_s, n_bytes = decoding(folder, options.rounds)
        row_s, write_rate = driver(folder, options.rounds)
        row_bytes = row_memory(folder)
    costs = Costs(tasks, decode, open_s, n_bytes, 10.0, ray_shard(), row_s, write_rate)
    machine = {
        "date": date.today().isoformat(),
        "processor": processor(),
        "python": platform.python_version(),
    }
    text = json.dumps({"machine": machine, "costs": asdict(costs), "row_bytes": row_bytes}, indent=2) + "\n"
    print(text, end="")
    print(f"measured in {time.perf_counter() - start:.0f} s", file=sys.stderr)
    if options.out:
        options.out.write_text(text, encoding="utf-8")


def processor() -> str:
    """Its name, where the system tells."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


if __name__ == "__main__":
    main()
