"""What Ray costs, and what a second actor gains: the same shards in process, on one actor, on two.

Random weights and noise. Everything computes on one thread; an actor decodes in its own process, so
that it uses one core and no more. For each way:

- start: seconds until the first shard is begun, with the cluster started and the model loaded;
- audio s/s: from when all workers have begun until the first of them has nothing left to do,
  pauses between shards included;
- CPU s/audio s: processor time within shards, which other work on the machine lengthens little.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from embed import make_checkpoint, make_files
from voxfide.engine import Engine, LocalEngine
from voxfide.engine_ray import RayEngine
from voxfide.extraction import Extractor
from voxfide.frontends import create_frontend
from voxfide.jobs import Row, rows_of, shards_of
from voxfide.manifest import Manifest
from voxfide.named import FrontendExtractor


class Run(NamedTuple):
    """One way, measured once."""

    start: float
    rate: float
    cpu: float


class Shard(NamedTuple):
    """What one shard took; times are of this machine's clock."""

    pid: int
    begun: float
    ended: float
    cpu: float
    audio: float
    features: list[np.ndarray]


@dataclass(frozen=True)
class Timed:
    """A factory of workers that say when they worked."""

    make: FrontendExtractor

    def __call__(self) -> TimedWorker:
        return TimedWorker(self.make())


@dataclass(frozen=True)
class TimedWorker:
    extractor: Extractor

    def __call__(self, rows: Sequence[Row]) -> Iterator[Shard]:
        begun, cpu = time.time(), time.process_time()
        extracted, failures = self.extractor(rows)
        assert not failures
        audio = sum(one.info.duration for one in extracted)
        cpu = time.process_time() - cpu
        yield Shard(os.getpid(), begun, time.time(), cpu, audio, [one.features for one in extracted])

    def close(self) -> None:
        self.extractor.close()


def measured(engine: Engine, make: FrontendExtractor, shards: list[list[Row]]) -> Run:
    """Maps over the shards, and works out what it took."""
    called = time.time()
    done: list[Shard] = list(engine.map(Timed(make), shards, lambda row, reason: None))
    first = [min(s.begun for s in done if s.pid == pid) for pid in {s.pid for s in done}]
    last = [max(s.ended for s in done if s.pid == pid) for pid in {s.pid for s in done}]
    start, end = max(first), min(last)
    inside = sum(
        s.audio * max(0.0, min(s.ended, end) - max(s.begun, start)) / (s.ended - s.begun) for s in done
    )
    cpu = sum(s.cpu for s in done) / sum(s.audio for s in done)
    return Run(min(first) - called, inside / (end - start), cpu)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--utterances", type=int, default=96)
    parser.add_argument("--shard-rows", type=int, default=4)
    parser.add_argument("--model", default="wavlm-base")
    parser.add_argument("--layers", type=int)
    parser.add_argument("--rounds", type=int, default=2, help="the best of so many, ways interleaved")
    options = parser.parse_args()
    torch.set_num_threads(1)
    ways: dict[str, Engine] = {
        "in process": LocalEngine(),
        "1 actor": RayEngine(actors=1),
        "2 actors": RayEngine(actors=2),
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_files(folder, options.utterances)
        make_checkpoint(folder / "model", options.model)
        frontend = create_frontend(str(folder / "model"), options.layers)
        make = FrontendExtractor(
            str(folder / "model"),
            frontend.fingerprint(),
            options.layers,
            device="cpu",
            options={"workers": 0},
        )
        rows = rows_of(Manifest.read(folder / "m.csv"))
        shards = shards_of(rows, [True] * len(rows), options.shard_rows)
        found: dict[str, list[Run]] = {way: [] for way in ways}
        for _ in range(options.rounds):
            for way, engine in ways.items():
                found[way].append(measured(engine, make, shards))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    print(
        f"{options.model}, {frontend.n_layers} layers, random weights, one thread a worker, {cores} cores: "
        f"{len(rows)} files in {len(shards)} shards\n"
    )
    print(f"{'':12} {'start s':>8} {'audio s/s':>10} {'CPU s/audio s':>14}")
    rate = {way: max(run.rate for run in runs) for way, runs in found.items()}
    for way, runs in found.items():
        start, cpu = min(run.start for run in runs), min(run.cpu for run in runs)
        print(f"{way:12} {start:8.1f} {rate[way]:10.2f} {cpu:14.4f}")
    print(f"\n1 actor to 2: {rate['2 actors'] / rate['1 actor']:.2f} x")
    print(f"1 actor against in process: {rate['1 actor'] / rate['in process']:.2f} x")


if __name__ == "__main__":
    main()
