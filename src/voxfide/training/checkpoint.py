"""Checkpoints of a training run: whole or not at all, so that a run goes on bit for bit after kill -9.

A run's folder holds ``checkpoints/step-00000012/`` (the newest last): ``tensors.safetensors`` with
all tensors under flat names and ``state.json`` with everything else. ``state.json`` is renamed into
place last, so a folder that has it is complete.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from voxfide.errors import CheckpointError
from voxfide.files import remove_temporaries, replacing, write_atomic
from voxfide.training.sharding import like, whole

FOLDER = "checkpoints"


@dataclass(frozen=True)
class Checkpoint:
    """A moment of a training run.

    Attributes:
        step: rising number; what it counts is the run's own.
        tensors: by flat name.
        state: JSON-safe values.
    """

    step: int
    tensors: dict[str, Tensor]
    state: dict[str, Any]


def save_checkpoint(run: Path, checkpoint: Checkpoint, keep: int = 1) -> Path:
    """Writes a checkpoint into a run's folder, then deletes all but the newest ``keep``."""
    from safetensors.torch import save_file

    folder = _folder(run, checkpoint.step)
    tensors = {k: t.detach().cpu().contiguous().clone() for k, t in checkpoint.tensors.items()}
    with replacing(folder / "tensors.safetensors") as path:
        save_file(tensors, path)
    write_atomic(folder / "state.json", json.dumps(checkpoint.state, allow_nan=True) + "\n")
    for step in _steps(run)[:-keep]:
        shutil.rmtree(_folder(run, step), ignore_errors=True)
    return folder


def latest_checkpoint(run: Path) -> Checkpoint | None:
    """The newest complete checkpoint of a run; None where there is none.

    Raises:
        CheckpointError: it is damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    complete = [s for s in _steps(run) if (_folder(run, s) / "state.json").exists()]
    if not complete:
        return None
    folder = _folder(run, complete[-1])
    remove_temporaries(folder)
    try:
        state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        return Checkpoint(complete[-1], load_file(folder / "tensors.safetensors"), state)
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{folder}: damaged checkpoint ({error}): delete it and run again") from error


def remove_checkpoints(run: Path) -> None:
    """Deletes all checkpoints of a run."""
    shutil.rmtree(run / FOLDER, ignore_errors=True)


def check_same_run(checkpoint: Checkpoint, job: Mapping[str, Any], where: Path) -> None:
    """Raises :class:`CheckpointError` unless the checkpoint was made by the same job.

    ``state["job"]`` of a checkpoint holds what ``job`` holds: everything that determines the outcome.
    """
    held = checkpoint.state.get("job", {})
    plain = json.loads(json.dumps(job))
    differing = sorted(k for k in {*held, *plain} if held.get(k) != plain.get(k))
    if differing:
        facts = "; ".join(f"{k}: {_short(held.get(k))} there, {_short(plain.get(k))} now" for k in differing)
        raise CheckpointError(f"{where}: holds another training run ({facts}): choose another folder")


def digest_of(values: Any) -> str:
    """Hex digest of JSON-safe values."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def optimizer_tensors(optimizer: torch.optim.Optimizer, prefix: str) -> dict[str, Tensor]:
    """The tensors of an optimizer's state, under flat names ``{prefix}{parameter}.{key}``.

    Where they are shared out over processes, all must ask, and each gets all of them.
    """
    state = optimizer.state_dict()["state"]
    return {
        f"{prefix}{p}.{k}": whole(torch.as_tensor(v))
        for p, values in state.items()
        for k, v in values.items()
    }


def load_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor], prefix: str) -> None:
    """Puts :func:`optimizer_tensors` back."""
    state: dict[int, dict[str, Tensor]] = {}
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for name, tensor in tensors.items():
        if name.startswith(prefix):
            number, key = name.removeprefix(prefix).split(".", 1)
            state.setdefault(int(number), {})[key] = like(tensor.clone(), parameters[int(number)])
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _folder(run: Path, step: int) -> Path:
    return run / FOLDER / f"step-{step:08d}"


def _steps(run: Path) -> list[int]:
    found = (re.fullmatch(r"step-(\d{8})", p.name) for p in (run / FOLDER).glob("step-*"))
    return sorted(int(match[1]) for match in found if match)
