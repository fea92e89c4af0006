"""A detector's folder: how its three files are written and read."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from voxfide.backends import restore_backend
from voxfide.backends.base import Backend
from voxfide.detector_card import model_card
from voxfide.errors import CheckpointError
from voxfide.files import replacing
from voxfide.frontends import create_frontend, restore_frontend
from voxfide.frontends.base import Frontend, tensors_digest
from voxfide.frontends.ssl_config import read_json

FORMAT = 1
FRONTEND_PREFIX = "frontend."
BACKEND_PREFIX = "backend."


def write_detector(
    folder: Path,
    config: Mapping[str, Any],
    backend: Mapping[str, torch.Tensor],
    frontend: Mapping[str, torch.Tensor],
) -> None:
    """Writes ``config.json``, ``model.safetensors`` and ``README.md``; a full disk leaves what was there."""
    from safetensors.torch import save_file

    tensors = {
        prefix + name: tensor.detach().cpu().contiguous()
        for prefix, group in ((BACKEND_PREFIX, backend), (FRONTEND_PREFIX, frontend))
        for name, tensor in group.items()
    }
    # All three are written before any is renamed; config.json, outermost, last.
    with (
        replacing(folder / "config.json") as config_file,
        replacing(folder / "README.md") as card_file,
        replacing(folder / "model.safetensors") as weights_file,
    ):
        save_file(tensors, weights_file, metadata={"format": "pt"})
        card_file.write_text(model_card(config), encoding="utf-8")
        text = json.dumps(config, indent=2, ensure_ascii=False, allow_nan=False)
        config_file.write_text(text + "\n", encoding="utf-8")


def read_detector(folder: Path, device: str) -> dict[str, Any]:
    """What :class:`~voxfide.detector.Detector` is made of, from its folder.

    Raises:
        CheckpointError: missing or damaged files, or weights that have changed.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    config = read_json(folder / "config.json")
    if config.get("library") != "voxfide" or config.get("format") != FORMAT:
        raise CheckpointError(f"{folder}: not a voxfide detector of format {FORMAT} (see config.json)")
    try:
        tensors = load_file(folder / "model.safetensors")
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{folder / 'model.safetensors'}: not readable ({error})") from error
    try:
        frontend = _load_frontend(folder, config["frontend"], _subset(tensors, FRONTEND_PREFIX))
        return {
            "frontend": frontend.to(device),
            "backend": _load_backend(folder, config["backend"], _subset(tensors, BACKEND_PREFIX)),
            "pool": config["pool"],
            "threshold": _finite(config["threshold"]),
            "training": dict(config.get("training", {})),
        }
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(
            f"{folder / 'config.json'}: missing or malformed entry ({type(error).__name__}: {error})"
        ) from error


def _finite(value: Any) -> float:
    if not math.isfinite(value):
        raise ValueError(f"{value} is not finite")
    return float(value)


def _subset(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {k.removeprefix(prefix): t for k, t in tensors.items() if k.startswith(prefix)}


def _load_backend(folder: Path, config: dict[str, Any], tensors: dict[str, torch.Tensor]) -> Backend:
    _check_digest(f"{folder}: the back-end's numbers", tensors, config["weights_sha256"])
    return restore_backend(config["name"], config["config"], {k: t.numpy() for k, t in tensors.items()})


def _load_frontend(folder: Path, config: dict[str, Any], tensors: dict[str, torch.Tensor]) -> Frontend:
    weights = config["weights"]
    if weights["in"] == "hub":
        precision = config["settings"].get("precision", "fp32")
        frontend = create_frontend(
            weights["hub_id"], config["n_layers"], revision=weights["revision"], precision=precision
        )
        frontend.name = config["name"]
    else:
        frontend = restore_frontend(config["name"], config["kind"], config["settings"])
        try:
            frontend.load_state_dict({
                k: t.float() if t.is_floating_point() else t for k, t in tensors.items()
            })  # fmt: skip
        except RuntimeError as error:
            raise CheckpointError(f"{folder}: front-end weights do not fit config.json: {error}") from None
    _check_digest(f"{folder}: the front-end's weights", frontend.state_dict(), config["weights_sha256"])
    return frontend


def _check_digest(what: str, tensors: Mapping[str, torch.Tensor], expected: str) -> None:
    found = tensors_digest(tensors)
    if found != expected:
        raise CheckpointError(
            f"{what} are not those that the detector was trained with "
            f"(digest {found[:12]}, expected {str(expected)[:12]})"
        )
