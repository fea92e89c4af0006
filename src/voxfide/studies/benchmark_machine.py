"""What a measurement was made on, how much memory it took, and how fast a front-end is."""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from voxfide.audio import load_audio
from voxfide.devices import batch_seconds_on
from voxfide.errors import AudioError
from voxfide.features import pooled_features
from voxfide.frontends.base import Frontend
from voxfide.manifest import Manifest
from voxfide.types import SAMPLE_RATE, Float32Array, Seconds

ROUNDS = 3
"""Passes over the sample whose median is the speed."""

LONGEST: Seconds = 60.0
"""No further pass is begun after this time."""

WARM_UP = 4
"""Utterances that are computed before time is taken."""


def describe_machine(device: str) -> dict[str, Any]:
    """Processor, cores, threads, memory, device and versions."""
    facts: dict[str, Any] = {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_gib": _memory_gib(),
        "device": device,
        "torch": torch.__version__,
        "system": f"{platform.system()} {platform.machine()}",
    }
    if device.startswith("cuda"):
        facts["device"] = f"{device}: {torch.cuda.get_device_name(device)}"
    return facts


def in_words(machine: dict[str, Any]) -> str:
    """One line: where a speed was measured."""
    if str(machine["device"]) != "cpu":
        return f"{machine['device']} (torch {machine['torch']})"
    threads = f"{machine['threads']} of {machine['cores']} cores"
    return f"{machine['processor']}, {threads} (torch {machine['torch']})"


def peak_memory() -> int | None:
    """Greatest resident memory of this process so far, in bytes; None where the system does not say."""
    try:
        # Not getrusage: on Linux its figure may be that of the process that started this one.
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    except (OSError, StopIteration, ValueError, IndexError):
        pass
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def peak_device_memory(device: str) -> int | None:
    """Greatest memory that tensors took on a GPU so far, in bytes; None on other devices."""
    return torch.cuda.max_memory_allocated(device) if device.startswith("cuda") else None


def sample_audio(manifest: Manifest, frontend: Frontend, seed: int = 0) -> list[Float32Array]:
    """Waveforms ``(samples,)`` of some utterances, in all about a batch of the device or less."""
    wanted = batch_seconds_on(frontend.device_kind)
    order = np.random.default_rng(seed).permutation(len(manifest))
    paths = manifest.audio_paths()
    found: list[Float32Array] = []
    held = 0.0
    for row in order.tolist():
        try:
            waveform = load_audio(paths[row]).waveform
            frontend.check_length(len(waveform))
        except AudioError:
            continue
        found.append(waveform)
        held += len(waveform) / SAMPLE_RATE
        if held >= wanted:
            break
    return found


def measure_extraction(frontend: Frontend, waveforms: Sequence[Float32Array]) -> float | None:
    """Audio seconds per second of computing time averages of decoded audio; the median of some passes.

    A few utterances come before and do not count. Passes take batches as an embedding job does:
    sorted by length, under the device's budget.
    """
    if not waveforms:
        return None
    ordered = sorted(waveforms, key=len)
    seconds = sum(map(len, ordered)) / SAMPLE_RATE
    times: list[float] = []
    pooled_features(frontend, ordered[:WARM_UP], "mean")
    while len(times) < ROUNDS and sum(times) < LONGEST:
        started = time.perf_counter()
        pooled_features(frontend, ordered, "mean")
        times.append(time.perf_counter() - started)
    return seconds / float(np.median(times))


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
        names = [
            line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name")
        ]
        return names[0]
    except (OSError, IndexError):
        return platform.processor() or platform.machine()


def _memory_gib() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (AttributeError, ValueError, OSError):
        return None
