"""Detectors of every kind by one name: voxfide's own, ensembles, and public classifiers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from voxfide.detector import Detector
from voxfide.detector_search import BUNDLED, bundled_folder
from voxfide.ensemble import EnsembleDetector
from voxfide.errors import CheckpointError
from voxfide.frontends.checkpoint import locate
from voxfide.frontends.ssl_config import read_json
from voxfide.hub import download, is_hub_id
from voxfide.types import PathLike

HUB_PREFIX = "hf:"

__all__ = ["BUNDLED", "HUB_PREFIX", "AnyDetector", "bundled_folder", "load_detector"]

AnyDetector = Detector | EnsembleDetector
"""Whatever can score: both are used alike."""


def load_detector(
    name: PathLike, *, device: str = "cpu", labels: Mapping[str, str] | None = None, **hub_options: Any
) -> AnyDetector:
    """Loads whatever can score.

    Args:
        name: ``bundled`` for the one that comes with the package; a detector's folder, an ensemble's, or
            that of a public audio classifier on wav2vec 2.0, HuBERT or WavLM as ``transformers`` saves it;
            ``ORGANISATION/NAME`` of a detector on the hub, or ``hf:ORGANISATION/NAME`` of a public
            classifier there.
        device: a torch device.
        labels: ``{"bonafide": LABEL}`` for a classifier whose labels do not say which is which.
        hub_options: ``revision``, ``cache_dir``, ``token``, ``local_files_only``, ``force_download``.

    Raises:
        CheckpointError: nothing there, or nothing that scores.
        UsageError: labels that do not say which of them means bona fide.
    """
    text = str(name)
    if text.startswith(HUB_PREFIX):
        return _public(text.removeprefix(HUB_PREFIX), device, labels, hub_options)
    folder = _bundled() if text == BUNDLED else Path(text).expanduser()
    if folder.is_dir():
        if _is_ensemble(folder):
            return EnsembleDetector.load(folder, device)
        return Detector.load(folder, device, labels)
    if not is_hub_id(text):
        raise CheckpointError(
            f"{text}: no such folder, and no hub id (expected a detector's folder, ORGANISATION/NAME of a "
            "detector on the hub, or hf:ORGANISATION/NAME of a public classifier there)"
        )
    if _is_ensemble(download(text, ["config.json"], **hub_options).folder):
        return EnsembleDetector.from_pretrained(text, device=device, **hub_options)
    return Detector.from_pretrained(text, device=device, labels=labels, **hub_options)


def _bundled() -> Path:
    folder = bundled_folder()
    if folder is None:
        raise CheckpointError(
            "bundled: this installation of voxfide came without a detector (expected one in the package; "
            "--detector takes a folder or a hub id)"
        )
    return folder


def _public(
    hub_id: str, device: str, labels: Mapping[str, str] | None, hub_options: Mapping[str, Any]
) -> Detector:
    if not is_hub_id(hub_id):
        raise CheckpointError(f"{HUB_PREFIX}{hub_id}: no hub id (expected {HUB_PREFIX}ORGANISATION/NAME)")
    source = locate(hub_id, also=["calibration.json"], **hub_options)
    detector = Detector.load(source.folder, device, labels)
    if detector.frontend.name == source.folder.name:  # a commit; voxfide's own detectors name theirs
        detector.frontend.name = hub_id
    return detector


def _is_ensemble(folder: Path) -> bool:
    path = folder / "config.json"
    if not path.exists():
        return False
    config = read_json(path)
    return config.get("library") == "voxfide" and config.get("kind") == "ensemble"
