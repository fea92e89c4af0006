"""How fast a front-end is when cut to n layers."""

from __future__ import annotations

import itertools
import re
import statistics
import time
from collections.abc import Sequence

import torch
from torch import Tensor

from voxfide.crops import REFERENCE_SECONDS
from voxfide.frontends.base import Frontend
from voxfide.studies.layerwise_rows import SpeedRow
from voxfide.types import SAMPLE_RATE, Seconds

_LAYER = re.compile(r"(?:^|\.)(?:layers|blocks)\.(\d+)\.")


def parameters_of(frontend: Frontend, n_layers: int) -> int:
    """Parameters of a front-end cut to its first ``n_layers`` transformer layers."""
    total = 0
    for name, parameter in frontend.named_parameters():
        found = _LAYER.search(name)
        if "conv_layers" in name or found is None or int(found[1]) < n_layers:
            total += parameter.numel()
    return total


def forward(frontend: Frontend, waveforms: Sequence[Tensor], n_layers: int) -> None:
    """Computes the first ``n_layers`` layers and no more."""
    for _ in itertools.islice(frontend.iter_layers(waveforms), n_layers):
        pass
    if frontend.device.type == "cuda":
        torch.cuda.synchronize()


@torch.inference_mode()
def measure_speed(
    frontend: Frontend,
    label: str,
    size: str,
    depths: Sequence[int],
    *,
    batch_sizes: Sequence[int] = (1, 16),
    seconds: Seconds = REFERENCE_SECONDS,
    rounds: int = 3,
) -> list[SpeedRow]:
    """Times forward passes over noise; the median of ``rounds``, depths in turn within each round.

    Args:
        frontend: as deep as the deepest of ``depths``.
        label, size: for the rows.
        depths: numbers of layers.
        batch_sizes: utterances in a pass.
        seconds: length of an utterance.
        rounds: how often; one further pass of each comes before and does not count.
    """
    rows = []
    generator = torch.Generator().manual_seed(0)
    noise = 0.1 * torch.randn(max(batch_sizes), round(seconds * SAMPLE_RATE), generator=generator)
    for batch_size in batch_sizes:
        waveforms = list(noise[:batch_size].to(frontend.device))
        times: dict[int, list[float]] = {n: [] for n in depths}
        for number in range(rounds + 1):
            for n in depths:
                started = time.perf_counter()
                forward(frontend, waveforms, n)
                if number:
                    times[n].append(time.perf_counter() - started)
        for n in depths:
            each = statistics.median(times[n]) / batch_size
            rows.append(
                SpeedRow(label, size, n, max(1, parameters_of(frontend, n)), batch_size, each, seconds / each)
            )
    return rows
