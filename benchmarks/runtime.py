"""What an exported detector costs to install and to start, without torch and with it.

    python benchmarks/runtime.py [--detector bundled] [--seconds 4] [--rounds 7]

The detector is exported to ONNX and to OpenVINO by this interpreter. Then every kind of installation is made
from the checkout, under ``constraints.txt``, in a fresh environment below a temporary folder, and
``voxfide detect`` is run there on one recording that voxfide synthesised: each run a process of its own, on
one core with one thread; the first is left out, the median of the others is shown. Seconds are processor
time, unless they are said to be wall clock. Sizes are those of ``site-packages`` without pip and setuptools.
The installation ``full`` is as large as the build of PyTorch that pip finds: the one on PyPI brings CUDA
libraries to Linux, and is several times as large as a CPU build.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
COPIED = ("src", "pyproject.toml", "README.md", "LICENSE", "constraints.txt")
NOT_COUNTED = ("pip", "setuptools", "pkg_resources", "_distutils_hack", "distutils-precedence.pth")


@dataclass(frozen=True)
class Kind:
    """A kind of installation and what is run in it.

    Attributes:
        title: of the row.
        extras, packages: what pip is told to install, of the checkout and beside it.
        detector: ``torch``, ``onnx`` or ``openvino``.
    """

    title: str
    extras: str
    detector: str
    packages: tuple[str, ...] = ()


KINDS = (
    Kind("`voxfide onnxruntime`, ONNX", "", "onnx", ("onnxruntime",)),
    Kind("`voxfide[runtime]`, ONNX", "[runtime]", "onnx"),
    Kind("`voxfide[runtime-openvino]`, OpenVINO", "[runtime-openvino]", "openvino"),
    Kind("`voxfide[full]`, torch", "[full]", "torch"),
)


def install(kind: Kind, checkout: Path, folder: Path) -> Path:
    """Makes the environment; returns its interpreter."""
    venv.create(folder, with_pip=True, symlinks=True)
    python = folder / "bin" / "python"
    wanted = [f"{checkout}{kind.extras}", *kind.packages]
    options = ["--quiet", "--disable-pip-version-check", "-c", str(checkout / "constraints.txt")]
    command = [str(python), "-m", "pip", "install", *options, *wanted]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr}")
    return python


def installed_mb(python: Path) -> float:
    """Size of what was installed."""
    (packages,) = (python.parent.parent / "lib").glob("python*/site-packages")
    counted = [p for p in packages.iterdir() if not p.name.startswith(NOT_COUNTED)]
    files = [f for place in counted for f in ([place] if place.is_file() else place.rglob("*"))]
    return sum(f.lstat().st_size for f in files if not f.is_dir()) / 1e6


@dataclass(frozen=True)
class Cost:
    """Of one call: wall-clock and processor seconds, peak memory in MB; and what it printed."""

    wall: float
    processor: float
    memory: float
    said: str


def run(command: list[str]) -> Cost:
    """Runs a command on one core with one thread."""
    if sys.platform == "linux":
        command = ["taskset", "-c", str(max(os.sched_getaffinity(0))), *command]
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"OMP_NUM_THREADS": "1"}
    started = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True)
    assert process.stdout is not None
    said = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.monotonic() - started
    if os.waitstatus_to_exitcode(status):
        raise SystemExit(f"{' '.join(command)} failed")
    memory = usage.ru_maxrss / (1024 if sys.platform == "linux" else 1024**2)
    return Cost(wall, usage.ru_utime + usage.ru_stime, memory, said)


def median_of(rounds: int, command: list[str]) -> Cost:
    """Of ``rounds`` calls after one that is not counted."""
    run(command)
    found = [run(command) for _ in range(rounds)]
    medians = (statistics.median(getattr(f, of) for f in found) for of in ("wall", "processor", "memory"))
    return Cost(*medians, found[-1].said)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--detector", default="bundled", help="that is exported: a name or a folder")
    parser.add_argument("--seconds", type=float, default=4.0, help="of the recording")
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        audio = place / "voices.flac"
        # In a process of its own: peak memory counts what the parent held when it started the child.
        code = f"from pathlib import Path; from detect import write_audio; write_audio(Path({str(audio)!r}), "
        here = Path(__file__).parent
        subprocess.run([sys.executable, "-c", f"{code}{arguments.seconds})"], check=True, cwd=here)
        detectors = {"torch": arguments.detector}
        for form in ("onnx", "openvino"):
            detectors[form] = str(place / form)
            export = ["export", arguments.detector, "--format", form, "-o", detectors[form]]
            subprocess.run(
                [sys.executable, "-m", "voxfide", "-q", *export], check=True, stdout=subprocess.DEVNULL
            )
        checkout = place / "checkout"
        checkout.mkdir()
        for part in COPIED:
            copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
            copy(ROOT / part, checkout / part)
        report(arguments.rounds, audio, detectors, checkout, place)


def report(rounds: int, audio: Path, detectors: dict[str, str], checkout: Path, place: Path) -> None:
    """Prints a row for every kind of installation."""
    print("| installation, detector | MB | import, s | detect, s | wall clock, s | peak memory, MB | score |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for number, kind in enumerate(KINDS):
        python = install(kind, checkout, place / str(number))
        size = installed_mb(python)
        empty = median_of(rounds, [str(python), "-c", ""])
        module = "voxfide.detector" if kind.detector == "torch" else "voxfide.exported.detector"
        runtime = {"torch": "torch", "onnx": "onnxruntime", "openvino": "openvino"}[kind.detector]
        imported = median_of(rounds, [str(python), "-c", f"import {module}, {runtime}"])
        options = ["-q", "detect", str(audio), "--json", "--detector", detectors[kind.detector]]
        found = median_of(rounds, [str(python), "-m", "voxfide", *options])
        seconds = f"{imported.processor - empty.processor:.2f} | {found.processor:.2f} | {found.wall:.2f}"
        figures = f"{size:.0f} | {seconds} | {found.memory:.0f} | {json.loads(found.said)['score']:+.5f}"
        print(f"| {kind.title} | {figures} |", flush=True)
        shutil.rmtree(place / str(number))


if __name__ == "__main__":
    main()
