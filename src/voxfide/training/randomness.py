"""The global random states of the processes of a run, to go on with after an interruption."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from voxfide.training.processes import chance_key

if TYPE_CHECKING:
    from accelerate import Accelerator

PREFIX = "random."
"""Of the tensors' names in a checkpoint."""


def random_of_all(accelerator: Accelerator) -> tuple[dict[str, Tensor], list[dict[str, Any]]]:
    """States of all processes: tensors ``random.PROCESS.DEVICE``, and the JSON-safe rest by process."""
    from accelerate.utils import gather_object

    own = {f"{PREFIX}{accelerator.process_index}.{name}": t for name, t in random_tensors().items()}
    parts = [(own, random_values())]
    if accelerator.num_processes > 1:
        parts = gather_object(parts)
    return {name: t for tensors, _ in parts for name, t in tensors.items()}, [v for _, v in parts]


def restore_random_of(
    accelerator: Accelerator, tensors: Mapping[str, Tensor], values: list[dict[str, Any]], *key: int
) -> None:
    """Puts a process's own states back.

    Args:
        tensors, values: what :func:`random_of_all` gave.
        key: seed and step: where the run had another number of processes, what each draws from here on
            follows from these and its own number.
    """
    rank = accelerator.process_index
    prefix = f"{PREFIX}{rank}."
    if len(values) == accelerator.num_processes:
        own = {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
        restore_random(own, values[rank])
    else:
        seed_everything(chance_key(*key, accelerator.num_processes, rank))


def seed_everything(seed: int) -> None:
    """Seeds the generators of PyTorch, NumPy and Python."""
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - the global one, whoever uses it
    random.seed(seed)


def random_tensors() -> dict[str, Tensor]:
    """States of torch's generators, by device."""
    found = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        found["cuda"] = torch.cuda.get_rng_state()
    return found


def random_values() -> dict[str, Any]:
    """States of the generators of Python and NumPy, JSON-safe."""
    name, keys, *rest = np.random.get_state(legacy=True)  # noqa: NPY002 - the global one, whoever uses it
    version, numbers, gauss = random.getstate()
    return {"numpy": [name, np.asarray(keys).tolist(), *rest], "python": [version, list(numbers), gauss]}


def restore_random(tensors: Mapping[str, Tensor], values: dict[str, Any]) -> None:
    """Puts both back."""
    torch.set_rng_state(tensors["cpu"])
    if "cuda" in tensors and torch.cuda.is_available():
        torch.cuda.set_rng_state(tensors["cuda"])
    name, keys, *rest = values["numpy"]
    np.random.set_state((name, np.array(keys, np.uint32), *rest))  # noqa: NPY002
    version, numbers, gauss = values["python"]
    random.setstate((version, tuple(numbers), gauss))
