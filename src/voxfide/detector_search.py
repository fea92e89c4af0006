"""Which detectors are here: the bundled one, and those in folders and in the hub's cache.

Reads ``config.json`` and ``calibration.json`` only, and imports no torch.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from voxfide.errors import CheckpointError
from voxfide.files import read_json_object

BUNDLED: Final = "bundled"
"""Name of the detector that comes with the package."""

FOLDERS_VARIABLE: Final = "VOXFIDE_DETECTORS"
"""Environment variable with folders to look in, parted as in ``PATH``."""

_FIGURES: Final = ("eer_percent", "min_dcf", "cllr")


@dataclass(frozen=True)
class FoundDetector:
    """A detector folder, as its files describe it.

    Attributes:
        name: what ``--detector`` takes.
        source: ``bundled``, ``folder`` or ``hub cache``.
        kind: ``detector``, ``ensemble`` or ``exported``.
        made_of: front-end and back-end, or the members.
        n_bytes: size on disk.
        trained_on: sets with manifest, split and counts.
        figures: measured ones, by set.
        calibrated_on: the calibration set; ``None`` without a calibration.
        calibration: Cllr before and after.
        domain: whether it knows what its training audio sounded like.
        problem: why it cannot be read, else empty.
    """

    name: str
    source: str
    kind: str = "detector"
    made_of: str = ""
    n_bytes: int = 0
    trained_on: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    figures: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    calibrated_on: Mapping[str, Any] | None = None
    calibration: Mapping[str, Any] = field(default_factory=dict)
    domain: bool = False
    problem: str = ""


def bundled_folder() -> Path | None:
    """Where the detector that comes with the package lies; ``None`` in an installation without one."""
    folder = Path(str(files("voxfide"))) / "bundled" / "detector"
    return folder if (folder / "config.json").is_file() else None


def find_detectors(folders: Iterable[Path] = ()) -> list[FoundDetector]:
    """The bundled detector and those found, each once.

    Looked at are ``folders``, those of ``$VOXFIDE_DETECTORS`` and the current directory, each itself and its
    children, and the hub's cache. Folders with a ``config.json`` that is not voxfide's are passed over; one
    that is damaged is listed with its problem.
    """
    found: dict[Path, FoundDetector] = {}
    bundled = bundled_folder()
    if bundled is not None:
        found[bundled.resolve()] = described(bundled, BUNDLED, "bundled")
    stated = [Path(text) for text in os.environ.get(FOLDERS_VARIABLE, "").split(os.pathsep) if text]
    for place in [*folders, *stated, Path()]:
        for folder in _with_children(place.expanduser()):
            key = folder.resolve()
            if key not in found and _is_ours(folder):
                found[key] = described(folder, str(folder), "folder")
    for name, folder in _in_hub_cache():
        key = folder.resolve()
        if key not in found and _is_ours(folder):
            found[key] = described(folder, name, "hub cache")
    return list(found.values())


def described(folder: Path, name: str, source: str) -> FoundDetector:
    """What a detector's files say of it."""
    n_bytes = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
    try:
        config = read_json_object(folder / "config.json")
        path = folder / "calibration.json"
        record = read_json_object(path) if path.is_file() else None
        training = _training(config)
        return FoundDetector(
            name=name,
            source=source,
            kind=str(config.get("kind", "detector")),
            made_of=_made_of(config),
            n_bytes=n_bytes,
            trained_on=dict(training.get("sets", {})),
            figures={
                part: {key: float(values[key]) for key in _FIGURES if key in values}
                for part, values in training.get("metrics", {}).items()
            },
            calibrated_on=None if record is None else dict(record["fitted_to"]),
            calibration={} if record is None else dict(record["figures"]),
            domain=(folder / "domain.json").is_file(),
        )
    except (CheckpointError, KeyError, TypeError, ValueError, AttributeError) as error:
        problem = str(error) if isinstance(error, CheckpointError) else f"malformed entry ({error})"
        return FoundDetector(name, source, n_bytes=n_bytes, problem=problem)


def _training(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Of an ensemble, the trials that its fusion was learnt on."""
    if config.get("kind") == "ensemble":
        return {"sets": {"fusion": dict(config["fusion"].get("fitted_to", {}))}}
    training: Mapping[str, Any] = config.get("training", {})
    return training


def _made_of(config: Mapping[str, Any]) -> str:
    if config.get("kind") == "ensemble":
        return ", ".join(str(member["name"]) for member in config["members"])
    made_of = f"{config['frontend']['name']} + {config['backend']['name']}"
    if config.get("kind") == "exported":
        return f"{made_of}, exported ({config['runtime']}, {config['precision']})"
    return made_of


def _with_children(place: Path) -> Iterator[Path]:
    if not place.is_dir():
        return
    yield place
    yield from sorted(p for p in place.iterdir() if p.is_dir() and not p.name.startswith("."))


def _is_ours(folder: Path) -> bool:
    """Whether there is a configuration of voxfide's, maybe a damaged one beside weights of one."""
    path = folder / "config.json"
    try:
        return b'"library": "voxfide"' in path.read_bytes()[: 1 << 20]
    except OSError:
        return False


def _in_hub_cache() -> Iterator[tuple[str, Path]]:
    """Hub ids with the folders of their cached commits, the newest of each."""
    try:
        from huggingface_hub import CacheNotFound, scan_cache_dir
    except ModuleNotFoundError:  # of an installation for exported detectors alone
        return
    try:
        repositories = scan_cache_dir().repos
    except (CacheNotFound, OSError, ValueError):
        return
    for repository in sorted(repositories, key=lambda r: r.repo_id):
        commits = sorted(repository.revisions, key=lambda r: -r.last_modified)
        if repository.repo_type == "model" and commits:
            yield repository.repo_id, commits[0].snapshot_path
