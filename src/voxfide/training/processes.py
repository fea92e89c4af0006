"""What the processes of a training run tell each other, and what one says whose fellow is gone."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from voxfide.backends.masking import MaskedBatchNorm
from voxfide.errors import LostProcessError
from voxfide.jobs import Failure

if TYPE_CHECKING:
    from accelerate import Accelerator, PartialState

Value = TypeVar("Value")

PATIENCE = timedelta(minutes=30)
"""That a process waits for the others within a step, an epoch's measurement or a checkpoint."""

LONGEST_WAIT = timedelta(days=7)
"""That processes wait for work of the first alone, as while it stores the features of a large corpus."""

LOST = ("gloo", "NCCL", "Connection closed by peer", "Connection reset by peer", "Broken pipe")
"""Parts of what PyTorch says where a process of the run has ended or does not answer."""


def gather_failures(accelerator: Accelerator, failures: dict[str, Failure]) -> list[Failure]:
    """Failures of all processes, each utterance once."""
    from accelerate.utils import gather_object

    found = list(failures.values())
    if accelerator.num_processes > 1:
        found = gather_object(found)
    return list({failure.utterance_id: failure for failure in found}.values())


def as_the_first_says(accelerator: Accelerator | PartialState | None, value: Value) -> Value:
    """The value that the first process has, in all of them; it may take its time."""
    if accelerator is None or accelerator.num_processes == 1:
        return value
    values: list[Any] = [value]
    wait_for_the_first(accelerator)
    dist.broadcast_object_list(values, group=_patient_group(), device=torch.device("cpu"))
    return values[0]


def wait_for_the_first(accelerator: Accelerator | PartialState | None) -> None:
    """Until all processes are here, of which the first may have had to work for days."""
    if accelerator is not None and accelerator.num_processes > 1:
        dist.barrier(group=_patient_group())


def processes_of_launch(cpu: bool) -> PartialState | None:
    """The processes that were launched together; None where this is the only one."""
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        return None
    from accelerate import PartialState

    return PartialState(cpu=cpu, timeout=PATIENCE)


def work_alone() -> tuple[int, int]:
    """Takes this process out of its launch, on the GPU that is its own; its number there, and that of all.

    For work that the processes of a launch share out among them, each training by itself.
    """
    rank, world = (
        int(os.environ.pop(name, default)) for name, default in (("RANK", "0"), ("WORLD_SIZE", "1"))
    )
    local = os.environ.pop("LOCAL_RANK", None)
    if local is not None and torch.cuda.is_available():
        torch.cuda.set_device(int(local))
    return rank, world


def leave() -> None:
    """Takes leave of the other processes, which ends what connects them."""
    if dist.is_available() and dist.is_initialized():
        _patient_group.cache_clear()
        dist.destroy_process_group()


@lru_cache(maxsize=1)
def _patient_group() -> dist.ProcessGroup:
    """All processes, over TCP: the collectives of GPUs end the process that waits too long for them."""
    return dist.new_group(backend="gloo", timeout=LONGEST_WAIT)


@contextmanager
def naming_lost_processes() -> Iterator[None]:
    """Where a process of the run has ended or does not answer, says so in place of what PyTorch says.

    Raises:
        LostProcessError: in that case.
    """
    try:
        yield
    except RuntimeError as error:
        if not any(sign in str(error) for sign in LOST) and not isinstance(error, dist.DistError):
            raise
        raise LostProcessError(
            "another process of this run has ended or does not answer: what it said stands above, or in its "
            "own log (the same command with --resume goes on)"
        ) from error


def chance_key(*numbers: int) -> int:
    """A seed of 63 bits that follows from whole numbers, such as seed, epoch and number of the process."""
    digest = hashlib.sha256(" ".join(map(str, numbers)).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def share_of(rows: np.ndarray, mine: np.ndarray, n_pieces: int) -> list[Tensor]:
    """Places in ``mine`` of what each of ``n_pieces`` consecutive pieces of a batch ``rows`` holds of it.

    The pieces of all processes together are those in which one process works a batch off.
    """
    place = {row: i for i, row in enumerate(mine.tolist())}
    parts = np.array_split(rows, n_pieces)
    return [torch.tensor([place[row] for row in part.tolist() if row in place]).long() for part in parts]


class _SumOfAll(torch.autograd.Function):
    """The sum over all processes; so is its gradient, for each of them has made use of the sum."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        total = value.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        total = grads[0].clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total


class BatchTotals:
    """Sums of a batch of which every process has a share: what batch normalisation is computed from.

    Attributes:
        is_empty: whether this process has nothing of the batch; what it computes for the others'
            sake then counts nowhere.
    """

    def __init__(self) -> None:
        self.is_empty = False

    def __call__(self, value: Tensor) -> Tensor:
        """The sum over all processes, through which gradients flow."""
        # Times 0, not 0: the others wait for this process in the backward pass too.
        total: Tensor = _SumOfAll.apply(value * 0 if self.is_empty else value)
        return total

    @contextmanager
    def of(self, *modules: nn.Module) -> Iterator[None]:
        """Batch normalisation in these modules is over the batch of all processes, in this block."""
        found = [m for module in modules for m in module.modules() if isinstance(m, MaskedBatchNorm)]
        for norm in found:
            norm.total = self
        try:
            yield
        finally:
            for norm in found:
                norm.total = None


def add_up_gradients(parameters: Sequence[nn.Parameter]) -> None:
    """Puts the sum over all processes in place of each gradient, in one message.

    A parameter without gradient has none in any process: they compute the same network.
    """
    gradients = [p.grad for p in parameters if p.grad is not None]
    if not gradients:
        return
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    parts = flat.split([gradient.numel() for gradient in gradients])
    for gradient, part in zip(gradients, parts, strict=True):
        gradient.copy_(part.view_as(gradient))
