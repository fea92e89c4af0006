"""A detector's folder: how its files are written and read."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch

from voxfide import detector_transformers
from voxfide.backends import restore_backend
from voxfide.backends.base import Backend
from voxfide.calibration import CalibrationRecord
from voxfide.calibration.record import FILE_NAME as CALIBRATION_FILE
from voxfide.crops import WHOLE, Crop
from voxfide.detector_card import model_card
from voxfide.domain import FILE_NAME as DOMAIN_FILE
from voxfide.domain import DomainModel
from voxfide.errors import CheckpointError, UsageError
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
    domain: DomainModel | None = None,
) -> None:
    """Writes the files of a detector; a full disk leaves what was there.

    A ``calibration.json`` or ``domain.json`` that belongs to what was there before goes.
    """
    preprocessor = ""
    if config["frontend"]["weights"]["in"] == detector_transformers.FORM:
        form = detector_transformers.transformers_files(config, backend, frontend)
        config, tensors, preprocessor = form.config, form.tensors, _as_json(form.preprocessor)
    else:
        tensors = packed({
            prefix + name: tensor
            for prefix, group in ((BACKEND_PREFIX, backend), (FRONTEND_PREFIX, frontend))
            for name, tensor in group.items()
        })  # fmt: skip
    record = _bound(calibration, config) if calibration is not None else None
    others = domain_file(domain)
    if preprocessor:
        others["preprocessor_config.json"] = preprocessor
    write_folder(folder, config, model_card(config, calibration), tensors, record, others)


def write_folder(
    folder: Path,
    config: Mapping[str, Any],
    card: str,
    tensors: Mapping[str, torch.Tensor],
    calibration: Mapping[str, Any] | None,
    others: Mapping[str, str] | None = None,
) -> None:
    """Writes a folder of ``config.json``, card, weights and calibration: all of them, or none.

    Args:
        folder: made if it does not exist.
        config: what is in ``config.json``.
        card: ``README.md``.
        tensors: what is in ``model.safetensors``.
        calibration: what is in ``calibration.json``; one that is there goes where there is none.
        others: names and content of further files.
    """
    from safetensors.torch import save_file

    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    # All are written before any is renamed, in the reverse order; config.json last.
    with ExitStack() as files:
        config_file = files.enter_context(replacing(folder / "config.json"))
        card_file = files.enter_context(replacing(folder / "README.md"))
        texts = {CALIBRATION_FILE: _as_json(calibration)} if calibration is not None else {}
        for name, text in {**texts, **(others or {})}.items():
            files.enter_context(replacing(folder / name)).write_text(text, encoding="utf-8")
        weights_file = files.enter_context(replacing(folder / "model.safetensors"))
        save_file(plain, weights_file, metadata={"format": "pt"})
        card_file.write_text(card, encoding="utf-8")
        config_file.write_text(_as_json(config), encoding="utf-8")
        if calibration is None:
            (folder / CALIBRATION_FILE).unlink(missing_ok=True)
        if DOMAIN_FILE not in (others or {}):
            (folder / DOMAIN_FILE).unlink(missing_ok=True)


def domain_file(domain: DomainModel | None) -> dict[str, str]:
    """Name and content of ``domain.json``, if there is a model."""
    return {} if domain is None else {DOMAIN_FILE: domain.to_text()}


def read_domain(folder: Path) -> DomainModel | None:
    """What the folder's ``domain.json`` holds; ``None`` without one.

    Raises:
        CheckpointError: unreadable or malformed.
    """
    path = folder / DOMAIN_FILE
    return DomainModel.read(path) if path.exists() else None


def write_calibration(folder: Path, record: CalibrationRecord) -> None:
    """Puts a calibration into a detector's folder, in place of one that is there, and renews the card.

    Raises:
        CheckpointError: no detector there.
    """
    config = read_json(folder / "config.json")
    replace_calibration(folder, _bound(record, config), model_card(config, record))


def replace_calibration(folder: Path, calibration: Mapping[str, Any], card: str) -> None:
    """Writes ``calibration.json`` and the card that tells of it, both or neither."""
    with (
        replacing(folder / "README.md") as card_file,
        replacing(folder / CALIBRATION_FILE) as record_file,
    ):
        record_file.write_text(_as_json(calibration), encoding="utf-8")
        card_file.write_text(card, encoding="utf-8")


def _bound(record: CalibrationRecord, config: Mapping[str, Any]) -> dict[str, Any]:
    """The record as JSON, tied to the trained numbers of the detector that it is for."""
    return record.to_json() | {"weights_sha256": _weights_of(config)}


def _weights_of(config: Mapping[str, Any]) -> str:
    parts = (config["frontend"]["weights_sha256"], config["backend"]["weights_sha256"], config["pool"])
    return hashlib.sha256(" ".join(map(str, parts)).encode()).hexdigest()


def _as_json(values: Mapping[str, Any]) -> str:
    return json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def read_detector(
    folder: Path, device: str, labels: Mapping[str, str] | None = None
) -> tuple[dict[str, Any], CalibrationRecord | None]:
    """What :class:`~voxfide.detector.Detector` is made of, from its folder, and its calibration.

    Args:
        labels: of a public classifier, which label means what.

    Raises:
        CheckpointError: missing or damaged files, or weights that have changed.
        UsageError: labels of a public classifier that do not say what they mean.
    """
    config = read_json(folder / "config.json")
    if detector_transformers.is_public_classifier(config):
        config = detector_transformers.adopt(folder, config, labels)
    elif config.get("library") != "voxfide" or config.get("format") != FORMAT:
        raise CheckpointError(
            f"{folder}: neither a voxfide detector of format {FORMAT} nor an audio classifier of "
            "transformers (see config.json)"
        )
    elif labels:
        raise UsageError(f"{folder}: is a voxfide detector: its labels are known (expected no --labels)")
    try:
        frontend, numbers = _read_weights(folder, config)
        parts = {
            "frontend": frontend.to(device),
            "backend": load_backend(folder, config["backend"], numbers),
            "pool": config["pool"],
            "crop": Crop(**config.get("crop", WHOLE.to_json())),
            "threshold": finite(config["threshold"]),
            "training": dict(config.get("training", {})),
            "domain": read_domain(folder),
        }
        return parts, _read_calibration(folder, config)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(
            f"{folder / 'config.json'}: missing or malformed entry ({type(error).__name__}: {error})"
        ) from error


def _read_weights(folder: Path, config: dict[str, Any]) -> tuple[Frontend, dict[str, np.ndarray]]:
    """The front-end, and the back-end's numbers."""
    if config["frontend"]["weights"]["in"] == detector_transformers.FORM:
        frontend: Frontend = detector_transformers.read_frontend(folder, config["frontend"])
        return frontend, detector_transformers.read_head(folder, config)
    tensors = load_tensors(folder)
    frontend = load_frontend(folder, config["frontend"], subset(tensors, FRONTEND_PREFIX))
    return frontend, {k: t.numpy() for k, t in subset(tensors, BACKEND_PREFIX).items()}


def packed(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Tensors as they are stored: float32 matrices in half precision where that loses nothing.

    Those of a detector that :func:`voxfide.shrinking.shrink` made thus take half the space.
    """
    halves = {name: t.half() for name, t in tensors.items() if t.dtype == torch.float32 and t.ndim > 1}
    return {
        name: halves[name] if name in halves and halves[name].float().equal(tensor) else tensor
        for name, tensor in tensors.items()
    }


def load_tensors(folder: Path) -> dict[str, torch.Tensor]:
    """The content of ``model.safetensors``; half precision comes as float32.

    Raises:
        CheckpointError: missing or damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors: dict[str, torch.Tensor] = load_file(folder / "model.safetensors")
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{folder / 'model.safetensors'}: not readable ({error})") from error
    return {name: t.float() if t.dtype == torch.float16 else t for name, t in tensors.items()}


def _read_calibration(folder: Path, config: Mapping[str, Any]) -> CalibrationRecord | None:
    path = folder / CALIBRATION_FILE
    if not path.exists():
        return None
    record = CalibrationRecord.read(path)
    if record.weights != _weights_of(config):
        raise CheckpointError(f"{path}: belongs to another detector (remove it, or calibrate this one again)")
    return record


def finite(value: Any) -> float:
    """A number of a configuration; :class:`ValueError` where it is not finite."""
    if not math.isfinite(value):
        raise ValueError(f"{value} is not finite")
    return float(value)


def subset(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    """Tensors under a prefix, by their names without it."""
    return {k.removeprefix(prefix): t for k, t in tensors.items() if k.startswith(prefix)}


def load_backend(folder: Path, config: dict[str, Any], numbers: dict[str, np.ndarray]) -> Backend:
    if config["weights_sha256"] is not None:  # as of a public classifier
        tensors = {k: torch.from_numpy(v) for k, v in numbers.items()}
        _check_digest(f"{folder}: the back-end's numbers", tensors, config["weights_sha256"])
    return restore_backend(config["name"], config["config"], numbers)


def load_frontend(folder: Path, config: dict[str, Any], tensors: dict[str, torch.Tensor]) -> Frontend:
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
