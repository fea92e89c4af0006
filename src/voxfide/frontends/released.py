"""Weights of official releases that are no Hugging Face model folder: found, read safely, checked.

Such a release is one file that ``torch.save`` wrote. Nothing in it is ever executed: it is
read with ``weights_only=True`` and, where that refuses it because training left objects of
some other library beside the weights, by an unpickler that knows tensors and puts an inert
stand-in for everything else.
"""

from __future__ import annotations

import collections
import pickle
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor, nn

from voxfide.errors import CheckpointError, UsageError, first_few
from voxfide.frontends.checkpoint import ModelSource, is_zip, misfits
from voxfide.frontends.specs import FRONTENDS
from voxfide.hub import download
from voxfide.types import PathLike

TENSOR_MAKERS = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("torch", "Size"): torch.Size,
    ("torch._utils", "_rebuild_parameter"): torch._utils._rebuild_parameter,
    ("torch._utils", "_rebuild_tensor_v2"): torch._utils._rebuild_tensor_v2,
}
"""All that a restricted read may call; storages come from :func:`torch.load` itself."""

DAMAGED = (
    pickle.UnpicklingError, ArithmeticError, AssertionError, AttributeError, EOFError, ImportError,
    LookupError, MemoryError, OSError, RuntimeError, TypeError, ValueError, struct.error,
)  # fmt: skip
"""What reading a damaged pickle may raise: its instructions are then followed where they lead nowhere."""


def require_no_options(name: str, options: Iterable[str], known: str) -> None:
    """Raises :class:`UsageError` where options are left that the front-end does not have."""
    if unknown := ", ".join(sorted(options)):
        raise UsageError(f"front-end {name} takes no option {unknown} (options: {known})")


def weights_file(
    name: str, weights: PathLike | None, revision: str | None = None
) -> tuple[Path, ModelSource]:
    """The weights of a registered front-end: the given file, or the release's own from the hub.

    Returns:
        The file, and where it came from.

    Raises:
        CheckpointError: no such file, or none given and none to download; says what to
            download and how to pass it.
        UsageError: a revision of a file, which has none.
    """
    spec = FRONTENDS[name]
    advice = (
        f"download {spec.weights_file} (see {spec.link}) and give its path: "
        f"weights=PATH in Python, --frontend-option weights=PATH on the command line"
    )
    if weights is not None:
        path = Path(str(weights)).expanduser()
        if revision is not None:
            raise UsageError(f"front-end {name}: a revision does not apply to a given weights file")
        if not path.is_file():
            raise CheckpointError(f"front-end {name}: no file {path}: {advice}")
        return path, ModelSource(path.parent)
    if spec.hub_id is None:
        raise CheckpointError(f"front-end {name}: its weights are on no model hub: {advice}")
    found = download(spec.hub_id, [spec.weights_file], revision=revision, advice=advice)
    return found.folder / spec.weights_file, ModelSource(found.folder, spec.hub_id, found.commit)


def read_pickled(path: Path, member: BinaryIO | None = None) -> dict[Any, Any]:
    """The dictionary in a file that ``torch.save`` wrote, its tensors on the CPU.

    Where the file is an archive around it, ``member`` is the one of its members to read.
    Objects of other libraries in it become :class:`Inert`; no code of the file runs.

    Raises:
        CheckpointError: not such a file, or no dictionary in it.
    """
    file = path if member is None else member
    try:
        mapped = member is None and is_zip(path)
        try:
            content = torch.load(file, map_location="cpu", weights_only=True, mmap=mapped)
        except pickle.UnpicklingError:
            if member is not None:
                member.seek(0)
            content = torch.load(
                file, map_location="cpu", weights_only=False, mmap=mapped, pickle_module=_TensorsOnly
            )
    except DAMAGED as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise CheckpointError(f"{path}: not a readable PyTorch file ({first})") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: expected a dictionary, found {type(content).__name__}")
    return content


def state_in(content: Mapping[Any, Any], key: str, path: Path) -> dict[str, Tensor]:
    """The tensors of the state dict that stands under ``key``.

    Raises:
        CheckpointError: there is none.
    """
    state = content.get(key)
    if not isinstance(state, Mapping):
        found = ", ".join(sorted(map(str, content))[:5]) or "nothing"
        raise CheckpointError(f"{path}: no state dict under {key!r} (the file holds {found})")
    return {str(k): v for k, v in state.items() if isinstance(v, Tensor)}


def fill(model: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    """Puts the tensors that ``model`` has into it, as float32, and freezes it in eval mode.

    Raises:
        CheckpointError: tensors that are missing or of another shape.
    """
    wanted = {k: tuple(v.shape) for k, v in model.state_dict().items()}
    if problems := misfits(wanted, state):
        raise CheckpointError(f"{path}: weights do not fit: {first_few(problems)}")
    # Copied, so that the model keeps no file mapped.
    model.load_state_dict({k: state[k].detach().float().clone() for k in wanted}, assign=True)
    model.eval().requires_grad_(False)


class Inert:
    """Stands where an object of another library stood: takes whatever is done to it, does nothing."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __new__(cls, *args: Any, **kwargs: Any) -> Inert:
        return super().__new__(cls)

    def __call__(self, *args: Any, **kwargs: Any) -> Inert:
        return self

    def __setstate__(self, state: Any) -> None:
        pass

    def __setitem__(self, key: Any, value: Any) -> None:
        pass

    def append(self, value: Any) -> None:
        pass

    extend = add = append


class _TensorsOnly:
    """What :func:`torch.load` asks of a pickle module."""

    class Unpickler(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            return TENSOR_MAKERS.get((module, name), Inert)

    @classmethod
    def load(cls, file: Any, **options: Any) -> Any:
        return cls.Unpickler(file, **options).load()
