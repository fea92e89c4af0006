"""Detectors of every kind by one name: voxfide's own, ensembles, exported ones, and public classifiers.

Only what the named one needs is imported: an exported detector is loaded without torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voxfide.detector_search import BUNDLED, bundled_folder
from voxfide.devices import resolve_device
from voxfide.errors import CheckpointError, MissingDependencyError, UsageError
from voxfide.exported.format import CONFIG_FILE, KIND
from voxfide.files import read_json_object
from voxfide.hub import download, is_hub_id
from voxfide.types import PathLike

if TYPE_CHECKING:
    from voxfide.detector import Detector
    from voxfide.ensemble import EnsembleDetector
    from voxfide.exported.detector import ExportedDetector

    AnyDetector = Detector | EnsembleDetector | ExportedDetector
    """Whatever can score: all are used alike."""

HUB_PREFIX = "hf:"

__all__ = ["BUNDLED", "HUB_PREFIX", "AnyDetector", "bundled_folder", "load_detector", "load_trained"]


def load_detector(
    name: PathLike, *, device: str = "cpu", labels: Mapping[str, str] | None = None, **hub_options: Any
) -> AnyDetector:
    """Loads whatever can score.

    Args:
        name: ``bundled`` for the one that comes with the package; the folder of a detector, of an ensemble,
            of an exported detector, or of a public audio classifier on wav2vec 2.0, HuBERT or WavLM as
            ``transformers`` saves it; ``ORGANISATION/NAME`` of a detector on the hub, or
            ``hf:ORGANISATION/NAME`` of a public classifier there.
        device: a torch device, or ``auto`` for the best that is there; an exported detector takes ``auto``
            and ``cpu`` alone.
        labels: ``{"bonafide": LABEL}`` for a classifier whose labels do not say which is which.
        hub_options: ``revision``, ``cache_dir``, ``token``, ``local_files_only``, ``force_download``.

    Raises:
        CheckpointError: nothing there, or nothing that scores.
        UsageError: labels that do not say which of them means bona fide, or a device that is not there.
        MissingDependencyError: what runs this detector is not installed.
    """
    text = str(name)
    kind, folder = _find(text, hub_options)
    if kind == KIND and folder is not None:
        from voxfide.exported.detector import ExportedDetector

        return ExportedDetector.load(folder, device, labels)
    try:
        return _load_on_torch(text, kind, folder, resolve_device(device), labels, hub_options)
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise MissingDependencyError(
            f"{text}: this detector needs PyTorch (pip install 'voxfide[full]'); one that `voxfide export` "
            "made of it does not"
        ) from error


def load_trained(name: PathLike, purpose: str, labels: Mapping[str, str] | None = None) -> Detector:
    """Loads a detector that consists of a front-end and a back-end, on the CPU.

    Args:
        name: as of :func:`load_detector`.
        purpose: what is to be done with it, as in "shrink".
        labels: as of :func:`load_detector`.

    Raises:
        UsageError: an ensemble or an exported detector.
        CheckpointError: as of :func:`load_detector`.
    """
    found = load_detector(name, labels=labels)
    from voxfide.detector import Detector

    if isinstance(found, Detector):
        return found
    if hasattr(found, "members"):
        raise UsageError(f"{name}: is an ensemble (expected a detector: {purpose} its members)")
    raise exported_refusal(name, purpose)


def exported_refusal(name: PathLike, purpose: str) -> UsageError:
    """What to say where ``purpose``, as in "shrink", asks for a detector that can be changed."""
    return UsageError(
        f"{name}: is exported (expected a detector: {purpose} the one that it was exported from, "
        "then export again)"
    )


def _find(name: str, hub_options: Mapping[str, Any]) -> tuple[str, Path | None]:
    """Kind and folder of what is named; without a folder where it is fetched from the hub in full later."""
    if name.startswith(HUB_PREFIX):
        return "classifier", None
    folder = _bundled() if name == BUNDLED else Path(name).expanduser()
    if folder.is_dir():
        return _kind(folder), folder
    if not is_hub_id(name):
        raise CheckpointError(
            f"{name}: no such folder, and no hub id (expected a detector's folder, ORGANISATION/NAME of a "
            "detector on the hub, or hf:ORGANISATION/NAME of a public classifier there)"
        )
    found = download(name, [CONFIG_FILE], **hub_options)
    kind = _kind(found.folder)
    if kind != KIND:
        return kind, None
    files = read_json_object(found.folder / CONFIG_FILE)["model"]["sha256"]
    optional = ["README.md", "calibration.json", "domain.json"]
    return kind, download(name, [CONFIG_FILE, *files], optional=optional, **hub_options).folder


def _load_on_torch(
    name: str,
    kind: str,
    folder: Path | None,
    device: str,
    labels: Mapping[str, str] | None,
    hub_options: Mapping[str, Any],
) -> Detector | EnsembleDetector:
    from voxfide.detector import Detector
    from voxfide.ensemble import EnsembleDetector

    if kind == "classifier":
        return _public(name.removeprefix(HUB_PREFIX), device, labels, hub_options)
    if kind == "ensemble":
        if folder is not None:
            return EnsembleDetector.load(folder, device)
        return EnsembleDetector.from_pretrained(name, device=device, **hub_options)
    if folder is not None:
        return Detector.load(folder, device, labels)
    return Detector.from_pretrained(name, device=device, labels=labels, **hub_options)


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
    from voxfide.detector import Detector
    from voxfide.frontends.checkpoint import locate

    if not is_hub_id(hub_id):
        raise CheckpointError(f"{HUB_PREFIX}{hub_id}: no hub id (expected {HUB_PREFIX}ORGANISATION/NAME)")
    source = locate(hub_id, also=["calibration.json"], **hub_options)
    detector = Detector.load(source.folder, device, labels)
    if detector.frontend.name == source.folder.name:  # a commit; voxfide's own detectors name theirs
        detector.frontend.name = hub_id
    return detector


def _kind(folder: Path) -> str:
    """``detector``, ``ensemble`` or ``exported``; of whatever is not voxfide's, ``detector``."""
    path = folder / CONFIG_FILE
    config = read_json_object(path) if path.exists() else {}
    return str(config.get("kind", "detector")) if config.get("library") == "voxfide" else "detector"
