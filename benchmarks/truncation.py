"""Latency and throughput of front-ends cut to n layers, and what bounds them.

    python benchmarks/truncation.py [--models wavlm-base-plus,wavlm-large] [--rounds 3]

Random weights of the registered architectures, utterances of 4.0375 s, batches of 1 and 16; depths take
turns within each round. ``of full`` is how many times faster than the whole model, as the layer-wise
study's reduced models against its full ones; ``convolutions`` is the share of the time that the
convolutional encoder takes, which no cut of the transformer saves.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch

from voxfide.crops import REFERENCE_SECONDS
from voxfide.frontends import FRONTENDS
from voxfide.frontends.ssl import SSLFrontend
from voxfide.frontends.ssl_config import SSLConfig
from voxfide.frontends.ssl_model import SSLEncoder
from voxfide.studies.layerwise_grid import DEPTHS
from voxfide.studies.layerwise_rows import with_relative_speed
from voxfide.studies.speed import measure_speed
from voxfide.types import SAMPLE_RATE


def random_frontend(name: str) -> SSLFrontend:
    """The architecture of a registered model with random weights."""
    torch.manual_seed(0)
    encoder = SSLEncoder(SSLConfig(**FRONTENDS[name].architecture))
    return SSLFrontend(encoder.requires_grad_(False), name).eval()


@torch.inference_mode()
def convolution_seconds(frontend: SSLFrontend, batch_size: int, rounds: int) -> float:
    """Median time of the convolutional encoder alone, per utterance."""
    waveforms = [0.1 * torch.randn(round(REFERENCE_SECONDS * SAMPLE_RATE)) for _ in range(batch_size)]
    times = []
    for _ in range(rounds + 1):
        started = time.perf_counter()
        for waveform in waveforms:
            frontend.encoder.feature_extractor(waveform)
        times.append(time.perf_counter() - started)
    return statistics.median(times[1:]) / batch_size


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", default="wavlm-base-plus,wavlm-large")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    print(
        "| model | layers | parameters (M) | batch | ms an utterance | x real time | of full | convolutions |"
    )
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    for name in options.models.split(","):
        frontend = random_frontend(name)
        size = "large" if frontend.n_layers > 12 else "small"
        depths = [n for n in DEPTHS[size] if n <= frontend.n_layers]
        for batch_size in (1, 16):
            alone = convolution_seconds(frontend, batch_size, options.rounds)
            rows = measure_speed(
                frontend, name, size, depths, batch_sizes=[batch_size], rounds=options.rounds
            )  # fmt: skip
            for row in with_relative_speed(rows):
                print(
                    f"| {name} | {row.n_layers} | {row.n_parameters / 1e6:.0f} | {batch_size} "
                    f"| {1000 * row.seconds_per_utterance:.0f} | {row.x_realtime:.1f} | {row.relative:.2f} "
                    f"| {100 * alone / row.seconds_per_utterance:.0f} % |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
