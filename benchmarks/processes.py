"""Fine-tuning in several processes: memory of the training state against arithmetic, and seconds a step.

    python benchmarks/processes.py [--processes 1 2 4] [--blocks 4] [--width 256] [--batch 8] [--seconds 2]

A small model in the form of XLS-R with random weights takes a few steps on noise, the same global batch on
every route:

- ``one``: one process
- ``copies``: several, with a copy of the model in each (data parallel)
- ``shared out``: several, with the model shared out over them (``--fsdp``)

Reported: bytes of weights, gradients and AdamW's moments that a process holds after a step, the most of all
processes, beside what arithmetic says (16 bytes a trained parameter, 4 a frozen one, over the number of
processes where the model is shared out); seconds a step, the median after the first; the largest
difference of the loss to ``one``. Then the same arithmetic for the releases of XLS-R, and what a process
gathers beside it. Processes run on the CPU, with a thread each: more of them than cores are no faster.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

RELEASES = ("wav2vec2-xls-r-300m", "wav2vec2-xls-r-2b")
GIGA = 1e9


def worker(folder: Path, args: argparse.Namespace) -> None:
    """Steps of one process; figures of all of them as the last line of the first's stdout."""
    import torch
    import torch.nn.functional as F
    from accelerate.utils import gather_object

    from voxfide.training.finetune_model import start_model
    from voxfide.training.finetune_settings import FinetuneSettings
    from voxfide.training.journal import make_accelerator
    from voxfide.training.sharding import held_bytes, shard

    accelerator = make_accelerator(folder, cpu=True)
    rank, world = accelerator.process_index, accelerator.num_processes
    settings = FinetuneSettings(dropout=False, layerdrop=False, spec_augment=False)
    torch.manual_seed(0)
    model, _ = start_model(str(folder / "model"), None, None, settings)
    wrapped: Any = model
    if args.worker == "shared out":
        shard(model, accelerator)
    else:
        wrapped = accelerator.prepare(model)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4, fused=True)
    waves = torch.randn(args.batch, round(16000 * args.seconds), generator=torch.Generator().manual_seed(1))
    targets = torch.arange(args.batch) % 2
    mine = list(range(rank, args.batch, world))
    losses, times, held = [], [], 0
    for _ in range(args.steps):
        started = time.perf_counter()
        logits = wrapped([waves[i] for i in mine])
        loss = F.cross_entropy(logits, targets[mine], reduction="sum") / args.batch
        (loss * world).backward()
        optimizer.step()
        held = held_bytes(list(model.parameters()), optimizer)
        optimizer.zero_grad()
        losses.append(float(accelerator.reduce(loss.detach(), "sum")))
        times.append(time.perf_counter() - started)
    most = max(gather_object([held])) if world > 1 else held
    counts = [sum(p.numel() for p in trained), sum(p.numel() for p in model.parameters())]
    figures = {"losses": losses, "seconds": statistics.median(times[1:]), "held": most, "counts": counts}
    if rank == 0:
        print(json.dumps(figures))


def prepare(folder: Path, args: argparse.Namespace) -> None:
    """A model folder with random weights."""
    import torch

    from voxfide.frontends import FRONTENDS
    from voxfide.frontends.checkpoint import save_encoder
    from voxfide.frontends.ssl_config import SSLConfig
    from voxfide.frontends.ssl_model import SSLEncoder

    sizes = {
        **FRONTENDS[RELEASES[0]].architecture,
        "num_hidden_layers": args.blocks,
        "hidden_size": args.width,
        "intermediate_size": 4 * args.width,
        "conv_dim": (64,) * 7,
    }
    torch.manual_seed(0)
    save_encoder(SSLEncoder(SSLConfig(**sizes)), folder / "model")


def run(route: str, processes: int, folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """One route in processes of its own."""
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    own = [str(Path(__file__)), "--worker", route, "--folder", str(folder)]
    own += [f"--{name}={getattr(args, name)}" for name in ("batch", "seconds", "steps")]
    done = subprocess.run(
        [sys.executable, *(launch if processes > 1 else []), *own],
        capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"{route}, {processes} processes: {done.stderr[-2000:]}")
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


def arithmetic(name: str, processes: tuple[int, ...] = (1, 2, 4, 8)) -> None:
    """Of a release: bytes of the training state in each process, and of what is gathered beside it."""
    import torch

    from voxfide.frontends import FRONTENDS
    from voxfide.frontends.ssl_config import SSLConfig
    from voxfide.frontends.ssl_model import SSLEncoder
    from voxfide.training.finetune_model import FinetuneModel
    from voxfide.training.finetune_settings import FinetuneSettings, Regularisation
    from voxfide.training.sharding import GRADIENT_BYTES, WEIGHT_BYTES, state_bytes

    with torch.device("meta"):
        config = SSLConfig(**FRONTENDS[name].architecture)
        encoder = SSLEncoder(config, head_states=True)
        model = FinetuneModel(encoder, Regularisation(), torch.zeros(config.hidden_size), FinetuneSettings())
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    frozen = sum(p.numel() for p in model.parameters()) - trained
    block = sum(p.numel() for p in encoder.encoder.layers[0].parameters())
    rest = trained - config.num_hidden_layers * block
    each = ", ".join(f"{n}: {state_bytes(trained, frozen, n) / GIGA:.2f}" for n in processes)
    gathered = (WEIGHT_BYTES + GRADIENT_BYTES) * (2 * block + rest) + WEIGHT_BYTES * frozen
    print(
        f"{name}: {trained / 1e6:.1f} M trained, {frozen / 1e6:.1f} M frozen; GB in each of so many "
        f"processes: {each}; gathered beside it in a step, two blocks of {block / 1e6:.1f} M and what is in "
        f"none ({rest / 1e6:.1f} M), at most {gathered / GIGA:.2f} GB; in measuring, the weights, "
        f"{WEIGHT_BYTES * (trained + frozen) / GIGA:.2f} GB"
    )


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--blocks", type=int, default=4)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker == "prepare":
        prepare(args.folder, args)
        return 0
    if args.worker:
        worker(args.folder, args)
        return 0
    from voxfide.training.sharding import state_bytes

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder, args)
        routes = [("one", 1)]
        routes += [(route, n) for n in args.processes if n > 1 for route in ("copies", "shared out")]
        expected: list[float] = []
        print("route        processes   MB held   arithmetic   s a step   loss differs by")
        for route, n in routes:
            found = run(route, n, folder, args)
            trained, total = found["counts"]
            says = state_bytes(trained, total - trained, n if route == "shared out" else 1)
            expected = expected or found["losses"]
            worst = max(abs(a - b) for a, b in zip(found["losses"], expected, strict=True))
            print(
                f"{route:12s} {n:9d} {found['held'] / 1e6:9.2f} {says / 1e6:12.2f} "
                f"{found['seconds']:10.3f}   {worst:.1e}"
            )
    for release in RELEASES:
        arithmetic(release)
    return 0


if __name__ == "__main__":
    sys.exit(main())
