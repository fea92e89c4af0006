"""An ensemble's folder: how its files are written and read.

As a detector's: ``config.json`` (with ``"kind": "ensemble"``) is written last, ``model.safetensors``
holds ``frontend.NUMBER.*`` and ``backend.NUMBER.*``, ``calibration.json`` that of the ensemble, if any.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import torch

from voxfide import __version__
from voxfide.audio import AUDIO_SETTINGS
from voxfide.calibration import CalibrationRecord
from voxfide.calibration.record import FILE_NAME as CALIBRATION_FILE
from voxfide.crops import Crop
from voxfide.detector import Detector
from voxfide.detector_files import (
    FORMAT,
    domain_file,
    finite,
    load_backend,
    load_frontend,
    load_tensors,
    packed,
    read_domain,
    replace_calibration,
    subset,
    write_folder,
)
from voxfide.domain import FILE_NAME as DOMAIN_FILE
from voxfide.domain import DomainModel
from voxfide.ensemble.card import ensemble_card
from voxfide.ensemble.sharing import FirstLayers, whole_of
from voxfide.errors import CheckpointError
from voxfide.frontends.base import WINDOW, Frontend
from voxfide.frontends.ssl_config import read_json
from voxfide.fusion import FusionRecord
from voxfide.types import SAMPLE_RATE

KIND: Final = "ensemble"
REQUIRED: Final = ["config.json", "model.safetensors"]
OPTIONAL: Final = ["README.md", CALIBRATION_FILE, DOMAIN_FILE]


def ensemble_config(
    members: Sequence[Detector],
    names: Sequence[str],
    fusion: FusionRecord,
    threshold: float,
    embed_frontend: bool,
) -> dict[str, Any]:
    """``config.json`` of members that share their front-ends."""
    frontends = _frontends(members)
    entries = []
    for name, member in zip(names, members, strict=True):
        config = member.config()
        calibration = member.calibration and member.calibration.to_json()
        entries.append({
            "name": name,
            "frontend": frontends.index(whole_of(member.frontend)),
            "n_layers": member.frontend.n_layers,
            **{key: config[key] for key in ("pool", "crop", "backend", "threshold", "training")},
            "calibration": calibration,
        })  # fmt: skip
    values = {
        "format": FORMAT,
        "library": "voxfide",
        "kind": KIND,
        "voxfide_version": __version__,
        "members": entries,
        "frontends": [_frontend_config(frontend, members, embed_frontend) for frontend in frontends],
        "fusion": fusion.to_json(),
        "threshold": threshold,
        "score": "natural-log likelihood ratio; higher means more bona fide",
        "audio": {**AUDIO_SETTINGS, "sample_rate": SAMPLE_RATE, "window_s": WINDOW},
    }
    return values | {"weights_sha256": _weights_of(values)}


def _frontends(members: Sequence[Detector]) -> list[Frontend]:
    return list({id(f): f for f in (whole_of(m.frontend) for m in members)}.values())


def _frontend_config(frontend: Frontend, members: Sequence[Detector], embed: bool) -> dict[str, Any]:
    """As in the ``config.json`` of the member that uses all of it; its weights here or on the hub."""
    source = getattr(frontend, "source", None)
    on_hub = not embed and source is not None and source.hub_id is not None
    member = next(m for m in members if m.frontend is frontend)
    config: dict[str, Any] = member.config(embed_frontend=not on_hub)["frontend"]
    return config if on_hub else {**config, "weights": {"in": "model.safetensors"}}


def _weights_of(config: Mapping[str, Any]) -> str:
    """Digest of all that was learnt."""
    parts = [
        [entry["weights_sha256"] for entry in config["frontends"]],
        [
            [m["frontend"], m["n_layers"], m["pool"], m["backend"]["weights_sha256"]]
            for m in config["members"]
        ],
        [system["weight"] for system in config["fusion"]["systems"]],
        config["fusion"]["intercept"],
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def write_ensemble(
    folder: Path,
    config: Mapping[str, Any],
    members: Sequence[Detector],
    calibration: CalibrationRecord | None,
    domain: DomainModel | None = None,
) -> None:
    """Writes the files of an ensemble; a full disk leaves what was there."""
    tensors: dict[str, torch.Tensor] = {}
    for number, (frontend, entry) in enumerate(zip(_frontends(members), config["frontends"], strict=True)):
        if entry["weights"]["in"] != "hub":
            tensors |= {f"frontend.{number}.{k}": t for k, t in frontend.state_dict().items()}
    for number, member in enumerate(members):
        tensors |= {f"backend.{number}.{k}": torch.from_numpy(v) for k, v in member.backend.tensors().items()}
    record = None
    if calibration is not None:
        record = calibration.to_json() | {"weights_sha256": config["weights_sha256"]}
    write_folder(
        folder, config, ensemble_card(config, calibration), packed(tensors), record, domain_file(domain)
    )


def write_calibration(folder: Path, record: CalibrationRecord) -> None:
    """Puts a calibration into an ensemble's folder, in place of one that is there, and renews the card.

    Raises:
        CheckpointError: no ensemble there.
    """
    config = _read_config(folder)
    values = record.to_json() | {"weights_sha256": config["weights_sha256"]}
    replace_calibration(folder, values, ensemble_card(config, record))


def read_ensemble(folder: Path, device: str) -> tuple[dict[str, Any], CalibrationRecord | None]:
    """What an :class:`~voxfide.ensemble.EnsembleDetector` is made of, and its calibration.

    Raises:
        CheckpointError: missing or damaged files, or weights that have changed.
    """
    config = _read_config(folder)
    tensors = load_tensors(folder)
    try:
        frontends = [
            load_frontend(folder, entry, subset(tensors, f"frontend.{number}.")).to(device)
            for number, entry in enumerate(config["frontends"])
        ]
        members = [
            _load_member(folder, entry, frontends, subset(tensors, f"backend.{number}."))
            for number, entry in enumerate(config["members"])
        ]
        if config["weights_sha256"] != _weights_of(config):
            raise CheckpointError(f"{folder / 'config.json'}: weights_sha256 does not fit what it is made of")
        parts = {
            "members": members,
            "fusion": FusionRecord.from_json(config["fusion"], str(folder / "config.json")),
            "names": tuple(str(entry["name"]) for entry in config["members"]),
            "threshold": finite(config["threshold"]),
            "domain": read_domain(folder),
        }
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise CheckpointError(
            f"{folder / 'config.json'}: missing or malformed entry ({type(error).__name__}: {error})"
        ) from error
    return parts, _read_calibration(folder, config)


def _read_config(folder: Path) -> dict[str, Any]:
    config = read_json(folder / "config.json")
    if (config.get("library"), config.get("kind"), config.get("format")) != ("voxfide", KIND, FORMAT):
        raise CheckpointError(f"{folder}: not a voxfide ensemble of format {FORMAT} (see config.json)")
    return config


def _load_member(
    folder: Path, entry: dict[str, Any], frontends: Sequence[Frontend], tensors: dict[str, torch.Tensor]
) -> Detector:
    whole, n_layers = frontends[entry["frontend"]], int(entry["n_layers"])
    if not 1 <= n_layers <= whole.n_layers:
        raise ValueError(f"{n_layers} layers of {whole.n_layers}")
    backend = load_backend(folder, entry["backend"], {k: t.numpy() for k, t in tensors.items()})
    made = Detector(
        whole if n_layers == whole.n_layers else FirstLayers(whole, n_layers),
        backend,
        entry["pool"],
        finite(entry["threshold"]),
        dict(entry["training"]),
        crop=Crop(**entry["crop"]),
    )
    if entry["calibration"] is None:
        return made
    source = f"{folder / 'config.json'}: calibration of {entry['name']}"
    return made.calibrated(CalibrationRecord.from_json(entry["calibration"], source))


def _read_calibration(folder: Path, config: Mapping[str, Any]) -> CalibrationRecord | None:
    path = folder / CALIBRATION_FILE
    if not path.exists():
        return None
    record = CalibrationRecord.read(path)
    if record.weights != config["weights_sha256"]:
        raise CheckpointError(f"{path}: belongs to another ensemble (remove it, or calibrate this one again)")
    return record
