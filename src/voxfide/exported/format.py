"""What an exported detector's folder holds, and the digests that tie its parts together."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from voxfide.errors import CheckpointError
from voxfide.files import file_sha256, read_json_object

FORMAT: Final = 1
KIND: Final = "exported"
CONFIG_FILE: Final = "config.json"
RUNTIMES: Final = ("onnx", "openvino")

_DETERMINING: Final = ("runtime", "model", "frontend", "pool", "crop", "window_s", "audio")


def fingerprint_of(config: Mapping[str, Any]) -> str:
    """Hex digest of all entries of ``config.json`` that determine the uncalibrated scores.

    Raises:
        KeyError: an entry is missing.
    """
    parts = {key: config[key] for key in _DETERMINING}
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def weights_key(config: Mapping[str, Any]) -> str:
    """What ``calibration.json`` of the folder states as ``weights_sha256``: it is for these graphs alone."""
    return hashlib.sha256(f"{KIND} {config['fingerprint']}".encode()).hexdigest()


def is_exported(folder: Path) -> bool:
    """Whether a folder's ``config.json`` is of an exported detector, of whatever format.

    Raises:
        CheckpointError: it is there and cannot be read.
    """
    path = folder / CONFIG_FILE
    if not path.exists():
        return False
    config = read_json_object(path)
    return config.get("library") == "voxfide" and config.get("kind") == KIND


def read_config(folder: Path) -> dict[str, Any]:
    """``config.json``, once the files that it names are found to be those that were exported.

    Raises:
        CheckpointError: another format, entries that are missing or malformed, files that are missing or
            damaged, or a configuration that was changed.
    """
    path = folder / CONFIG_FILE
    config = read_json_object(path)
    if config.get("library") != "voxfide" or config.get("kind") != KIND or config.get("format") != FORMAT:
        raise CheckpointError(f"{path}: not an exported detector of format {FORMAT}")
    try:
        runtime, fingerprint = config["runtime"], fingerprint_of(config)
        digests = dict(config["model"]["sha256"])
        named = [config["model"]["graph"], config["model"]["head"], config["model"].get("speech")]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(
            f"{path}: missing or malformed entry ({type(error).__name__}: {error})"
        ) from error
    if runtime not in RUNTIMES:
        raise CheckpointError(f"{path}: runtime {runtime!r} (expected {' or '.join(RUNTIMES)})")
    if fingerprint != config.get("fingerprint"):
        raise CheckpointError(f"{path}: was changed after the export (its fingerprint does not fit)")
    unknown = [name for name in named if name is not None and name not in digests]
    if unknown:
        raise CheckpointError(f"{path}: no digest of {unknown[0]} (expected one for every graph)")
    for name, expected in digests.items():
        _check_file(folder, str(name), expected)
    return config


def _check_file(folder: Path, name: str, expected: Any) -> None:
    if Path(name).name != name:
        raise CheckpointError(f"{folder / CONFIG_FILE}: names the file {name!r} (expected one of the folder)")
    path = folder / name
    try:
        found = file_sha256(path)
    except OSError as error:
        raise CheckpointError(f"{path}: not readable ({error.strerror or error})") from error
    if found != expected:
        raise CheckpointError(
            f"{path}: damaged, or not what was exported (digest {found[:12]}, expected {str(expected)[:12]})"
        )
