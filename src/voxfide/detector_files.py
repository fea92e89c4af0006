"""A detector's folder: how its files are written and read."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch

from voxfide.backends import restore_backend
from voxfide.backends.base import Backend
from voxfide.calibration import CalibrationRecord
from voxfide.calibration.record import FILE_NAME as CALIBRATION_FILE
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
    calibration: CalibrationRecord | None = None,
) -> None:
    """Writes the files of a detector; a full disk leaves what was there.

    A ``calibration.json`` that belongs to what was there before goes.
    """
    from safetensors.torch import save_file

    tensors = {
        prefix + name: tensor.detach().cpu().contiguous()
        for prefix, group in ((BACKEND_PREFIX, backend), (FRONTEND_PREFIX, frontend))
        for name, tensor in group.items()
    }
    record = _as_json(_bound(calibration, config)) if calibration is not None else ""
    # All are written before any is renamed, in the reverse order; config.json last.
    with ExitStack() as files:
        config_file = files.enter_context(replacing(folder / "config.json"))
        card_file = files.enter_context(replacing(folder / "README.md"))
        if record:
            files.enter_context(replacing(folder / CALIBRATION_FILE)).write_text(record, encoding="utf-8")
        weights_file = files.enter_context(replacing(folder / "model.safetensors"))
        save_file(tensors, weights_file, metadata={"format": "pt"})
        card_file.write_text(model_card(config, calibration), encoding="utf-8")
        config_file.write_text(_as_json(config), encoding="utf-8")
        if not record:
            (folder / CALIBRATION_FILE).unlink(missing_ok=True)


def write_calibration(folder: Path, record: CalibrationRecord) -> None:
    """Puts a calibration into a detector's folder, in place of one that is there, and renews the card.

    Raises:
        CheckpointError: no detector there.
    """
    config = read_json(folder / "config.json")
    with (
        replacing(folder / "README.md") as card_file,
        replacing(folder / CALIBRATION_FILE) as record_file,
    ):
        record_file.write_text(_as_json(_bound(record, config)), encoding="utf-8")
        card_file.write_text(model_card(config, record), encoding="utf-8")


def _bound(record: CalibrationRecord, config: Mapping[str, Any]) -> dict[str, Any]:
    """The record as JSON, tied to the trained numbers of the detector that it is for."""
    return record.to_json() | {"weights_sha256": _weights_of(config)}


def _weights_of(config: Mapping[str, Any]) -> str:
    parts = (config["frontend"]["weights_sha256"], config["backend"]["weights_sha256"], config["pool"])
    return hashlib.sha256(" ".join(map(str, parts)).encode()).hexdigest()


def _as_json(values: Mapping[str, Any]) -> str:
    return json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def read_detector(folder: Path, device: str) -> tuple[dict[str, Any], CalibrationRecord | None]:
    """What :class:`~voxfide.detector.Detector` is made of, from its folder, and its calibration.

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
        parts = {
            "frontend": frontend.to(device),
            "backend": _load_backend(folder, config["backend"], _subset(tensors, BACKEND_PREFIX)),
            "pool": config["pool"],
            "threshold": _finite(config["threshold"]),
            "training": dict(config.get("training", {})),
        }
        return parts, _read_calibration(folder, config)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(
            f"{folder / 'config.json'}: missing or malformed entry ({type(error).__name__}: {error})"
        ) from error


def _read_calibration(folder: Path, config: Mapping[str, Any]) -> CalibrationRecord | None:
    path = folder / CALIBRATION_FILE
    if not path.exists():
        return None
    record = CalibrationRecord.read(path)
    if record.weights != _weights_of(config):
        raise CheckpointError(f"{path}: belongs to another detector (remove it, or calibrate this one again)")
    return record


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
