"""The global random states of a process, to go on with after an interruption."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from torch import Tensor


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


def restore_random(tensors: dict[str, Tensor], values: dict[str, Any]) -> None:
    """Puts both back."""
    torch.set_rng_state(tensors["cpu"])
    if "cuda" in tensors and torch.cuda.is_available():
        torch.cuda.set_rng_state(tensors["cuda"])
    name, keys, *rest = values["numpy"]
    np.random.set_state((name, np.array(keys, np.uint32), *rest))  # noqa: NPY002
    version, numbers, gauss = values["python"]
    random.setstate((version, tuple(numbers), gauss))
