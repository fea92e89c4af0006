"""The architecture, enforced: imports point downward, light parts stay light, no forbidden packages."""

from __future__ import annotations

import ast
import itertools
import json
import re
import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "voxfide"

LAYERS = [
    ("types", "errors", "registry", "files", "hub", "recipes", "cores"),
    ("metrics",),
    ("calibration",),
    ("scores",),
    ("evaluation",),
    ("fusion",),
    ("audio",),
    ("decoding",),
    ("engine", "engine_ray", "engine_ray_worker"),
    ("conditions",),
    ("manifest", "manifest_io", "manifest_checks"),
    ("jobs",),
    ("crops",),
    ("resynthesis",),
    ("augment", "packing"),
    ("corpora",),
    ("devices",),
    ("frontends",),
    ("backends",),
    ("domain", "domain_features"),
    ("features",),
    ("extraction", "pieces", "detection"),
    ("head_scores",),
    ("store",),
    ("embeddings",),
    ("detector", "detector_card", "detector_files", "detector_transformers"),
    ("exported",),
    ("ensemble", "detectors", "detector_search", "shrinking", "exporting"),
    ("analysis",),
    ("training", "scoring", "named"),
    ("report",),
    ("studies",),
    ("client", "client_stream", "serve"),
    ("cli", "demo", "__main__"),
]
"""Top-level modules from the ground up; a module imports from its own layer and those before it."""

LEVEL = {name: i for i, names in enumerate(LAYERS) for name in names}
TORCH_FREE = (
    "metrics", "calibration", "scores", "evaluation", "report", "audio", "manifest", "corpora", "resynthesis",
    "crops", "augment", "fusion", "conditions", "domain", "extraction", "pieces", "scoring", "detectors",
    "exported.detector", "analysis.batch", "analysis.explain", "packing",
)  # fmt: skip
FORBIDDEN = {
    "torchaudio", "torchcodec", "torchvision", "speechbrain", "s3prl", "nemo-toolkit", "fairseq", "mlflow",
    "optimum-onnx", "optimum-intel",
}  # fmt: skip


def modules() -> list[Path]:
    return sorted(SOURCE.rglob("*.py"))


def top_level(path: Path) -> str:
    return path.relative_to(SOURCE).with_suffix("").parts[0]


def imported(path: Path) -> set[str]:
    """Top-level voxfide modules that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names = [node.module] + [f"{node.module}.{a.name}" for a in node.names]
        elif isinstance(node, ast.Import):
            names = [a.name for a in node.names]
        found |= {n.split(".")[1] for n in names if n.startswith("voxfide.")}
    return {n for n in found if (SOURCE / n).is_dir() or (SOURCE / f"{n}.py").exists()}


def test_every_module_has_a_layer():
    assert {top_level(p) for p in modules()} - {"__init__"} == set(LEVEL)


@pytest.mark.parametrize("path", modules(), ids=lambda p: p.relative_to(SOURCE).as_posix())
def test_imports_point_downward(path):
    name = top_level(path)
    if name == "__init__":
        return
    upward = {n for n in imported(path) if LEVEL[n] > LEVEL[name]}
    assert not upward, f"{name} imports {upward}, which stand above it"


def test_light_parts_do_not_import_torch():
    code = "import sys, json, importlib\nfound = {}\n"
    code += f"for m in {TORCH_FREE!r}:\n    importlib.import_module('voxfide.' + m)\n"
    code += "heavy = ('torch', 'sklearn', 'transformers', 'matplotlib')\n"
    code += "print(json.dumps([m for m in heavy if m in sys.modules]))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert json.loads(out) == []


def test_help_imports_nothing_heavy():
    code = "import sys, voxfide.cli\nheavy = {'torch', 'numpy', 'pyarrow', 'scipy', 'huggingface_hub'}\n"
    code += "print(sorted(heavy & set(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"


def test_forbidden_packages_are_neither_installed_nor_pinned():
    names = [d.metadata["Name"] for d in distributions()]
    installed = {re.sub(r"[-_.]+", "-", name).lower() for name in names if name}
    assert not installed & FORBIDDEN
    pinned = {line.split("==")[0].lower() for line in (ROOT / "constraints.txt").read_text().split()}
    assert not pinned & FORBIDDEN


def test_dependencies_are_all_pinned():
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *itertools.chain(*project["optional-dependencies"].values())]
    pinned = {
        re.sub(r"[-_.]+", "-", line.split("==")[0]).lower()
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if "==" in line
    }
    names = {re.sub(r"[-_.]+", "-", re.split(r"[<>=\[ ]", d)[0]).lower() for d in wanted} - {"voxfide"}
    assert names <= pinned, f"without a pin: {names - pinned}"


def test_modules_stay_readable():
    long = {p.name: n for p in modules() if (n := len(p.read_text(encoding="utf-8").splitlines())) > 360}
    assert not long
