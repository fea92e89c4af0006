"""Which device to compute on, and how much at a time."""

from __future__ import annotations

import os

from voxfide.errors import UsageError
from voxfide.types import Seconds

DEVICES = ("auto", "cpu", "cuda", "mps")

_BATCH_SECONDS: dict[str, Seconds] = {"cpu": 40.0, "cuda": 320.0, "mps": 80.0}


def resolve_device(name: str) -> str:
    """``auto`` takes CUDA, then MPS, then the CPU; others are checked to be there.

    Under ``accelerate launch`` or ``torchrun`` each process of a machine gets a GPU of its own.

    Raises:
        UsageError: an unknown device or one that this machine does not have.
    """
    import torch

    kind = name.partition(":")[0]
    if kind not in DEVICES:
        raise UsageError(f"device {name!r} (expected {', '.join(DEVICES)} or cuda:N)")
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if kind == "auto":
        kind = name = next(d for d in ("cuda", "mps", "cpu") if there[d])
    if name == "cuda" and there["cuda"] and "LOCAL_RANK" in os.environ:
        return f"cuda:{os.environ['LOCAL_RANK']}"
    if not there[kind]:
        raise UsageError(f"device {name!r}: PyTorch sees none on this machine (use --device cpu)")
    return name


def batch_seconds_on(kind: str) -> Seconds:
    """Audio in one batch on a kind of device: more costs memory, less leaves matrix products small."""
    return _BATCH_SECONDS.get(kind, _BATCH_SECONDS["cpu"])
