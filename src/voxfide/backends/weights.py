"""State dicts that other code saved: read without running anything that is in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from voxfide.errors import CheckpointError
from voxfide.frontends.released import read_pickled
from voxfide.types import PathLike

HOLDERS = ("state_dict", "model_state_dict", "model")
"""Keys under which training code keeps the state dict in a larger checkpoint."""


def read_state(path: PathLike) -> dict[str, Tensor]:
    """Tensors by name, of a ``.safetensors`` file or of one that ``torch.save`` wrote.

    The prefix ``module.`` that data-parallel training leaves is taken off.

    Raises:
        CheckpointError: no such file, not readable, or no tensors in it.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file (expected .safetensors or .pth weights)")
    content: dict[Any, Any] = _safetensors(path) if path.suffix == ".safetensors" else read_pickled(path)
    held = next((content[key] for key in HOLDERS if isinstance(content.get(key), dict)), content)
    state = {str(k).removeprefix("module."): t for k, t in held.items() if isinstance(t, Tensor)}
    if not state:
        raise CheckpointError(f"{path}: holds no tensors (expected a state dict)")
    return state


def _safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: not a readable safetensors file ({error})") from error
