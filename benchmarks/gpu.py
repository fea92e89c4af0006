"""Extraction on a GPU in bfloat16: share of the matrix peak, and speed against ``transformers``.

    python benchmarks/gpu.py [--models wavlm-base wavlm-large wav2vec2-xls-r-2b] [--utterances 256]
    python benchmarks/gpu.py --device cpu --precision fp32 --models wavlm-base --blocks 2  # rehearsal

Random weights in the real sizes, noise with log-normal durations (median 3.5 s, 1 to 16 s), decoded already.
Every route runs in this process, warmed up once, the best of some rounds:

- ``padded``: ``transformers`` as a user would write it: batches of 8 in file order under autocast, mask,
  all layers averaged over time
- ``sorted``: the same in batches sorted by length under voxfide's budget
- ``voxfide``: ``pooled_features``, packed, in batches sorted by length under its budget
- ``compiled``: the same with convolutions and feed-forward blocks through ``torch.compile``

The share is useful work, of unpadded audio, over the rate of a large product of bfloat16 matrices measured in
the same run. Fine-tuning: ``python benchmarks/finetune.py --device cuda --precision bf16``.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import nn

from embed import useful_flop
from voxfide.devices import batch_seconds_on
from voxfide.features import pooled_features
from voxfide.frontends import FRONTENDS
from voxfide.frontends.ssl import SSLFrontend
from voxfide.frontends.ssl_config import SSLConfig
from voxfide.frontends.ssl_layers import ConvLayer, FeedForward
from voxfide.frontends.ssl_model import SSLEncoder
from voxfide.types import SAMPLE_RATE, Float32Array

BATCH = 8
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
ROUTES = ("padded", "sorted", "voxfide", "compiled")


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def fastest(work: Callable[[], object], device: torch.device, rounds: int) -> float:
    """Seconds of the fastest of some rounds, after one to warm up."""
    times = []
    for number in range(rounds + 1):
        synchronise(device)
        start = time.perf_counter()
        work()
        synchronise(device)
        if number:
            times.append(time.perf_counter() - start)
    return min(times)


def matrix_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Operations a second of a large matrix product."""
    size = 8192 if device.type == "cuda" else 1024
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    return 2 * size**3 / fastest(lambda: a @ b, device, 10)


def waveforms(n: int) -> list[Float32Array]:
    rng = np.random.default_rng(0)
    seconds = np.clip(rng.lognormal(np.log(3.5), 0.55, n), 1, 16)
    return [(0.1 * rng.standard_normal(round(s * SAMPLE_RATE))).astype(np.float32) for s in seconds]


def in_budget(waves: Sequence[Float32Array], device: torch.device) -> Iterator[list[Float32Array]]:
    """Sorted by length, cut where a batch padded to its longest would pass the device's budget."""
    limit = round(batch_seconds_on(device.type) * SAMPLE_RATE)
    batch: list[Float32Array] = []
    for wave in sorted(waves, key=len):
        if batch and len(wave) * (len(batch) + 1) > limit:
            yield batch
            batch = []
        batch.append(wave)
    yield batch


def by_transformers(
    model: nn.Module, batches: Sequence[Sequence[Float32Array]], device: torch.device, dtype: torch.dtype
) -> None:
    """Time averages of all hidden states."""
    for batch in batches:
        size = max(map(len, batch))
        padded = torch.from_numpy(np.stack([np.pad(w, (0, size - len(w))) for w in batch])).to(device)
        lengths = torch.tensor([len(w) for w in batch], device=device)
        mask = (torch.arange(size, device=device) < lengths[:, None]).long()
        with torch.inference_mode(), torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            states = model(padded, attention_mask=mask, output_hidden_states=True).hidden_states
            frames = model._get_feat_extract_output_lengths(lengths)
            valid = torch.arange(states[0].shape[1], device=device) < frames[:, None]
            for state in states[1:]:
                ((state * valid[..., None]).sum(1) / frames[:, None]).float().cpu()


def compiled(frontend: SSLFrontend) -> None:
    """Puts the parts that pay through the compiler."""
    for module in frontend.modules():
        if isinstance(module, ConvLayer | FeedForward):
            module.compile(dynamic=True)


def measure(name: str, options: argparse.Namespace, rate: float) -> None:
    """Prints the rows of one model."""
    from transformers import AutoConfig, AutoModel

    device, dtype = torch.device(options.device), DTYPES[options.precision]
    architecture = dict(FRONTENDS[name].architecture)
    if options.blocks:
        architecture["num_hidden_layers"] = options.blocks
    config = SSLConfig(**architecture)
    torch.manual_seed(0)
    waves = waveforms(options.utterances)
    audio = sum(map(len, waves)) / SAMPLE_RATE
    batches = list(in_budget(waves, device))
    shape = {"conv_dim": config.conv_dim, "conv_kernel": config.conv_kernel} | {
        k: getattr(config, k)
        for k in (
            "hidden_size", "intermediate_size", "conv_stride", "num_conv_pos_embeddings",
            "num_conv_pos_embedding_groups",
        )
    }  # fmt: skip
    work = useful_flop(shape, [len(w) for w in waves], config.num_hidden_layers)
    best: dict[str, float] = {}
    if {"padded", "sorted"} & set(options.routes):
        theirs = AutoModel.from_config(AutoConfig.for_model(**architecture)).eval().to(device)
        in_order = [waves[i : i + BATCH] for i in range(0, len(waves), BATCH)]
        for route, cut in (("padded", in_order), ("sorted", batches)):
            if route in options.routes:
                best[route] = fastest(
                    lambda cut=cut: by_transformers(theirs, cut, device, dtype), device, options.rounds
                )
        del theirs
    frontend = SSLFrontend(SSLEncoder(config), name, precision=options.precision).to(device).eval()
    for route in ("voxfide", "compiled"):
        if route not in options.routes:
            continue
        if route == "compiled":
            compiled(frontend)
        best[route] = fastest(
            lambda: [pooled_features(frontend, batch, "mean") for batch in batches], device, options.rounds
        )
    for route, seconds in best.items():
        print(
            f"| {name} | {route} | {len(waves) / seconds:,.1f} | {audio / seconds:,.0f} | "
            f"{work / seconds / rate:.1%} | {best.get('padded', np.nan) / seconds:.2f} |",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--precision", default="bf16", choices=tuple(DTYPES))
    parser.add_argument("--models", nargs="+", default=["wavlm-base", "wavlm-large", "wav2vec2-xls-r-2b"])
    parser.add_argument("--blocks", type=int, default=0, help="fewer than the model has, to try things out")
    parser.add_argument("--utterances", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--routes", nargs="+", default=ROUTES, choices=ROUTES)
    options = parser.parse_args()
    device = torch.device(options.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        print("no GPU here: nothing measured (--device cpu rehearses)")
        return
    rate = matrix_rate(device, DTYPES[options.precision])
    what = torch.cuda.get_device_name(device) if device.type == "cuda" else "processor"
    print(f"{what}, {options.precision}: {rate / 1e12:,.1f} TFLOP/s in a large matrix product\n")
    print("| model | route | utterances/s | audio s/s | of matrix rate | speed |")
    print("|---|---|---:|---:|---:|---:|")
    for name in options.models:
        measure(name, options, rate)


if __name__ == "__main__":
    main()
