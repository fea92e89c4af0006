"""What a large job costs, and what bounds it: a simulation of voxfide's batch jobs, and its unit costs.

    python benchmarks/scaling.py        # the table of docs/scaling.md
    python benchmarks/scaling.py --utterances 5e6 --task "score, wavlm-base-4" --nodes 4 --cores 32 --packed

Unit costs are those of ``unit_costs.json``, which ``unit_costs.py`` measures.

A job is cut into shards of 256 rows. Workers take shards; a shard's bytes come through the storage and the
node's network card, its files are decoded on the worker's cores while earlier ones are analysed, its results
go to the driver, which writes them. Nodes fail at random, and their shards are done again. Storage, network
and driver are queues that serve in the order of asking; what was busy for the greatest share of the time
is the bottleneck.

What a graphics processor takes is computed from the operations of the model and a stated share of its peak:
it has not been measured.
"""

from __future__ import annotations

import argparse
import heapq
import json
import math
import random
from dataclasses import dataclass, field, replace
from pathlib import Path

SHARD_ROWS = 256
JOB_ROWS = 10_000_000
"""Rows of one job; more are split into jobs that run one after another (docs/scaling.md)."""

MEAN_SECONDS, SIGMA = 4.0, 0.55
"""Utterances are log-normal in length, as those of ASVspoof's sets are."""

FIRST_BATCHES = 160.0
"""Seconds of audio decoded before the first batch of a shard is analysed."""

GPU_PEAK, GPU_SHARE = 989e12, 0.3
"""Dense bfloat16 operations a second of an H100 SXM by its data sheet, and the share taken to be reached."""


@dataclass(frozen=True)
class Task:
    """What is done with an utterance.

    Attributes:
        core_s: core seconds of analysis for a second of audio.
        gpu_flop: operations for a second of audio; 0 where no graphics processor is of use.
        result_bytes: for an utterance.
    """

    core_s: float
    gpu_flop: float
    result_bytes: float


@dataclass(frozen=True)
class Costs:
    """Unit costs; times are core seconds of one core.

    Attributes:
        tasks: by name.
        decode: seconds for a second of audio, by format.
        open_s: more, for a file.
        bytes_per_s: of audio at rest, by format.
        start_s: to load a worker.
        shard_s: of the driver, for a shard that comes from Ray, whatever its results.
        row_s: more, for a row.
        write_rate: of the driver, bytes of results a second.
    """

    tasks: dict[str, Task]
    decode: dict[str, float]
    open_s: float
    bytes_per_s: dict[str, float]
    start_s: float
    shard_s: float
    row_s: float
    write_rate: float

    @classmethod
    def read(cls, path: Path) -> Costs:
        """From what ``unit_costs.py`` wrote."""
        values = json.loads(path.read_text(encoding="utf-8"))["costs"]
        return cls(**values | {"tasks": {name: Task(**task) for name, task in values["tasks"].items()}})


@dataclass(frozen=True)
class Layout:
    """Machines.

    Attributes:
        nodes, cores, gpus: of the cluster, of a node, of a node.
        network: bytes a second of a node.
        storage: bytes a second of the storage, together.
        opens: files a second that it opens.
        packed: whether audio lies in shards, which are read in order.
        mtbf_hours: mean time between failures of a node.
        restart_s: until a node that failed is back.
        drivers: jobs that run side by side, each on its share of the nodes and of the storage.
    """

    nodes: int = 1
    cores: int = 2
    gpus: int = 0
    network: float = 1.25e9
    storage: float = 0.5e9
    opens: float = 5_000
    packed: bool = False
    mtbf_hours: float = 5_000
    restart_s: float = 600
    drivers: int = 1

    @property
    def workers(self) -> int:
        """One a graphics processor, or one a core."""
        return self.nodes * (self.gpus or self.cores)


@dataclass
class Outcome:
    """What a job took.

    Attributes:
        seconds: of the clock.
        core_hours, gpu_hours: held, busy or not.
        read_bytes, written_bytes: through the network.
        busy: share of the time that each resource worked.
        redone: shards that were lost with a node.
    """

    seconds: float = 0.0
    core_hours: float = 0.0
    gpu_hours: float = 0.0
    read_bytes: float = 0.0
    written_bytes: float = 0.0
    busy: dict[str, float] = field(default_factory=dict)
    redone: int = 0

    @property
    def bottleneck(self) -> str:
        """The busiest resource."""
        return max(self.busy, key=lambda name: self.busy[name])


class Queue:
    """A resource that serves one after another."""

    def __init__(self) -> None:
        self.free = self.worked = 0.0

    def serve(self, now: float, seconds: float) -> float:
        """When what is asked for now is done."""
        self.free = max(self.free, now) + seconds
        self.worked += seconds
        return self.free


def simulate(
    n: float, task: Task, costs: Costs, layout: Layout, audio: str = "flac", seed: int = 0
) -> Outcome:
    """One pass over ``n`` utterances; jobs beyond the first are taken to be like it."""
    share = layout.drivers
    n_jobs = share * max(1, math.ceil(n / JOB_ROWS / share))
    rows = math.ceil(n / n_jobs)
    part = replace(
        layout, nodes=layout.nodes // share, storage=layout.storage / share, opens=layout.opens / share
    )
    one = _simulate_job(rows, task, costs, part, audio, random.Random(seed))
    seconds = n_jobs // share * one.seconds
    hours = seconds / 3600
    return replace(
        one,
        seconds=seconds,
        core_hours=hours * layout.nodes * layout.cores,
        gpu_hours=hours * layout.nodes * layout.gpus,
        read_bytes=n_jobs * one.read_bytes,
        written_bytes=n_jobs * one.written_bytes,
        redone=n_jobs * one.redone,
    )


def _simulate_job(
    rows: int, task: Task, costs: Costs, layout: Layout, audio: str, draw: random.Random
) -> Outcome:
    out = Outcome()
    storage, driver = Queue(), Queue()
    cards = [Queue() for _ in range(layout.nodes)]
    failure = [_next_failure(0.0, layout, draw) for _ in range(layout.nodes)]
    decoding_cores = layout.cores / layout.gpus if layout.gpus else 1.0
    spread = MEAN_SECONDS * math.sqrt(math.exp(SIGMA**2) - 1)
    waiting = [min(SHARD_ROWS, rows - start) for start in range(0, rows, SHARD_ROWS)]
    waiting.reverse()
    ready = [(costs.start_s, w) for w in range(layout.workers)]
    heapq.heapify(ready)
    analysed = decoded = end = 0.0
    while waiting:
        now, worker = heapq.heappop(ready)
        node = worker % layout.nodes
        if failure[node] <= now:
            failure[node] = _next_failure(now, layout, draw)
        size = waiting.pop()
        seconds = max(size * 0.5, draw.gauss(size * MEAN_SECONDS, math.sqrt(size) * spread))
        n_bytes = seconds * costs.bytes_per_s[audio]
        asked = (1 if layout.packed else size) / layout.opens
        arrived = cards[node].serve(
            storage.serve(now, max(n_bytes / layout.storage, asked)), n_bytes / layout.network
        )
        decode = seconds * costs.decode[audio] + size * costs.open_s
        if layout.gpus:
            analyse = seconds * task.gpu_flop / (GPU_PEAK * GPU_SHARE)
            first = min(1.0, FIRST_BATCHES / seconds) * decode / decoding_cores
            done = max(arrived, now + decode / decoding_cores, now + first + analyse)
        else:
            analyse = seconds * task.core_s
            done = max(arrived, now + decode + analyse)  # on the same core
        out.read_bytes += n_bytes
        if done > failure[node]:
            out.redone += 1
            waiting.append(size)
            heapq.heappush(ready, (failure[node] + layout.restart_s + costs.start_s, worker))
            continue
        analysed, decoded = analysed + analyse, decoded + decode
        result = size * task.result_bytes
        out.written_bytes += result
        end = max(end, driver.serve(done, costs.shard_s + size * costs.row_s + result / costs.write_rate))
        heapq.heappush(ready, (done, worker))
    out.seconds = end
    cores = layout.nodes * layout.cores
    out.busy = {
        "storage": storage.worked / end,
        "network": max(card.worked for card in cards) / end,
        "driver": driver.worked / end,
    }
    if layout.gpus:
        out.busy |= {"GPUs": analysed / end / layout.workers, "cores": decoded / end / cores}
    else:
        out.busy["cores"] = (analysed + decoded) / end / cores
    return out


def _next_failure(now: float, layout: Layout, draw: random.Random) -> float:
    return now + draw.expovariate(1 / (layout.mtbf_hours * 3600))


# --- tables


def table(rows: list[tuple[str, ...]]) -> str:
    """Markdown; the first row is the heading."""
    head, *rest = rows
    rule = tuple("---" if i < 2 else "---:" for i in range(len(head)))
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, rule, *rest])


def told(layout: str, task: str, n: float, outcome: Outcome) -> tuple[str, ...]:
    """A row of the table."""
    shares = sorted(outcome.busy.items(), key=lambda pair: -pair[1])
    load = ", ".join(f"{name} {share:.0%}" for name, share in shares if share >= 0.05)
    return (
        layout,
        task,
        amount(n),
        duration(outcome.seconds),
        f"{outcome.core_hours:,.0f}",
        f"{outcome.gpu_hours:,.0f}" if outcome.gpu_hours else "–",
        size(outcome.read_bytes),
        size(outcome.written_bytes),
        load,
    )


def amount(n: float) -> str:
    """A number of utterances."""
    for unit, word in ((1e9, " B"), (1e6, " M"), (1e3, " k")):
        if n >= unit:
            return f"{n / unit:g}{word}"
    return f"{n:g}"


def duration(seconds: float) -> str:
    """For people: minutes, hours or days."""
    for unit, word in ((86400.0, "d"), (3600.0, "h"), (60.0, "min")):
        if seconds >= 2 * unit:
            return f"{seconds / unit:,.1f} {word}"
    return f"{seconds:.0f} s"


def size(n_bytes: float) -> str:
    """For people, in powers of ten."""
    for unit, word in ((1e15, "PB"), (1e12, "TB"), (1e9, "GB")):
        if n_bytes >= unit:
            return f"{n_bytes / unit:,.1f} {word}"
    return f"{n_bytes / 1e6:,.0f} MB"


LAYOUTS = {
    "laptop: 2 cores, files": Layout(cores=2),
    "server: 64 cores, files": Layout(cores=64),
    "server: 64 cores, packed": Layout(cores=64, packed=True),
    "server: 64 cores, 8 GPUs, packed": Layout(cores=64, gpus=8, packed=True, storage=2e9),
    "32 nodes of 64 cores, packed": Layout(32, 64, packed=True, storage=5e9),
    "8 nodes of 128 cores, 8 GPUs, packed": Layout(8, 128, 8, 12.5e9, 10e9, packed=True),
    "the same, 8 drivers": Layout(8, 128, 8, 12.5e9, 10e9, packed=True, drivers=8),
    "256 nodes of 64 cores, packed, 8 drivers": Layout(256, 64, storage=20e9, packed=True, drivers=8),
    "64 nodes of 128 cores, 8 GPUs, packed, 64 drivers": Layout(
        64, 128, 8, 12.5e9, 40e9, packed=True, drivers=64
    ),
}

PLANS = (
    (1e6, tuple(LAYOUTS)[:3]),
    (1e8, tuple(LAYOUTS)[3:7]),
    (1e10, tuple(LAYOUTS)[7:]),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--costs", type=Path, default=Path(__file__).with_name("unit_costs.json"))
    parser.add_argument("--utterances", type=float, help="one job, in place of the tables")
    parser.add_argument("--task", default="score, bundled")
    parser.add_argument("--audio", default="flac")
    for name in ("nodes", "cores", "gpus", "drivers"):
        parser.add_argument(f"--{name}", type=int, default=getattr(Layout(), name))
    for name in ("network", "storage", "opens", "mtbf_hours"):
        parser.add_argument(f"--{name.replace('_', '-')}", type=float, default=getattr(Layout(), name))
    parser.add_argument("--packed", action="store_true", help="audio lies in shards (voxfide pack)")
    options = parser.parse_args()
    costs = Costs.read(options.costs)
    rows = [("layout", "task", "utterances", "time", "core-h", "GPU-h", "read", "written", "busy")]
    if options.utterances:
        names = ("nodes", "cores", "gpus", "network", "storage", "opens", "packed", "mtbf_hours", "drivers")
        layout = Layout(**{name: getattr(options, name) for name in names})
        outcome = simulate(options.utterances, costs.tasks[options.task], costs, layout, options.audio)
        rows.append(told("as asked", options.task, options.utterances, outcome))
    else:
        for n, layouts in PLANS:
            for name in layouts:
                layout = LAYOUTS[name]
                tasks = [t for t, task in costs.tasks.items() if task.gpu_flop or not layout.gpus]
                found = [(t, simulate(n, costs.tasks[t], costs, layout, options.audio)) for t in tasks]
                rows += [told(name, t, n, outcome) for t, outcome in found]
    print(table(rows))


if __name__ == "__main__":
    main()
