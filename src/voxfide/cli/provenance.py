"""How figures came about: what is written beside scores and shown in reports."""

from __future__ import annotations

import json
import platform
import sys
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voxfide import __version__
from voxfide.files import write_atomic

if TYPE_CHECKING:
    from voxfide.detectors import AnyDetector
    from voxfide.manifest import Manifest
    from voxfide.scoring import ScoreResult

PACKAGES = (
    "torch", "numpy", "scipy", "scikit-learn", "soundfile", "av", "soxr", "onnxruntime", "openvino",
)  # fmt: skip


def versions() -> dict[str, str]:
    """Versions of what computed, without importing any of it."""
    found = {"voxfide": __version__, "Python": platform.python_version()}
    for name in PACKAGES:
        with suppress(metadata.PackageNotFoundError):  # of an installation for exported detectors alone
            found[name] = metadata.version(name)
    return found


def command_line() -> str:
    """The command as it was typed, the program by its plain name."""
    import shlex

    return shlex.join(["voxfide", *sys.argv[1:]])


def facts_path(scores: Path) -> Path:
    """Where the facts of a score file lie."""
    return scores.with_name(scores.name + ".json")


def write_score_facts(
    out: Path, detector: AnyDetector, name: str, manifest: Manifest, split: str | None, result: ScoreResult
) -> None:
    """Writes ``SCORES.json``: which detector gave these scores, on what, with which versions."""
    facts = {
        "command": command_line(),
        "detector": {
            "name": name,
            **detector.facts(),
            "fingerprint": detector.fingerprint(),
            "threshold": detector.threshold,
            "calibration": detector.calibration and detector.calibration.calibration.describe(),
        },
        "score": detector.score_kind,
        "manifest": {"name": manifest.source, "split": split or "all", "digest": manifest.digest()},
        "counts": {"scored": result.n_scored, "failed": len(result.failures)},
        "versions": versions(),
    }
    write_atomic(facts_path(out), json.dumps(facts, indent=2, ensure_ascii=False) + "\n")


def read_score_facts(scores: Path) -> dict[str, Any]:
    """The facts beside a score file, empty where there are none."""
    path = facts_path(scores)
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError, UnicodeDecodeError):
        return {}
    return facts if isinstance(facts, dict) else {}
