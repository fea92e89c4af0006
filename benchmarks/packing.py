"""Plain files, tar shards and Parquet shards: writing, reading in order and at random, and disk use.

    python benchmarks/packing.py [--files 2000] [--seconds 3] [--folder DIR]

The audio is made here: noise shaped like speech, 16 kHz FLAC, a folder for every 50 files. Each reading is
a process of its own that starts with nothing known of the shards; "cold" readings first ask the system to
forget the contents (not names and places, which needs privileges: on a real cold disk plain files lose
more). Every variant has to give the same bytes and samples. Rates are files a second; ratios are to plain
files in the same run.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from voxfide.audio.tar_members import read_index
from voxfide.manifest import Manifest
from voxfide.packing import MEGABYTE, pack

SHARD_MB = 16.0
"""So that some thousand short clips fill several shards."""

READ = """
import hashlib, json, os, random, sys, time
from contextlib import ExitStack
from voxfide.audio import load_audio
from voxfide.audio.source import open_source
from voxfide.manifest import Manifest

manifest, what, order, is_cold = sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4] == "cold"
paths = Manifest.read(manifest).audio_paths()
numbers = list(range(len(paths)))
if order == "random":
    random.Random(0).shuffle(numbers)
if is_cold and hasattr(os, "posix_fadvise"):
    # Before anything is mapped, which would hold the contents fast.
    for path in {p if p.is_file() else p.parent for p in paths}:
        descriptor = os.open(path, os.O_RDONLY)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)
load_audio(sys.argv[5])  # what is imported at first use
digests = [b""] * len(paths)
start = time.perf_counter()
for number in numbers:
    if what == "decode":
        content = load_audio(paths[number]).waveform.tobytes()
    else:
        with ExitStack() as closing:
            file = open_source(paths[number], closing)[1]
            content = file.at(0, file.size)
    digests[number] = hashlib.blake2b(content, digest_size=8).digest()
seconds = time.perf_counter() - start
print(json.dumps({"rate": len(paths) / seconds, "digest": hashlib.blake2b(b"".join(digests)).hexdigest()}))
"""

READINGS = [
    ("bytes", "in order", "warm"), ("bytes", "random", "warm"), ("bytes", "in order", "cold"),
    ("bytes", "random", "cold"), ("decode", "in order", "warm"), ("decode", "random", "warm"),
]  # fmt: skip


def _write_files(folder: Path, n: int, seconds: float) -> Manifest:
    random = np.random.default_rng(0)
    samples = round(16_000 * seconds)
    shape = np.fft.rfftfreq(samples, 1 / 16_000)
    shape = ((shape > 100) & (shape < 4000)) / np.sqrt(1 + (shape / 400) ** 2)
    paths = [f"{i // 50:04d}/{i:06d}.flac" for i in range(n)]
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        noise = np.fft.irfft(np.fft.rfft(random.standard_normal(samples)) * shape, samples)
        soundfile.write(folder / path, 0.5 * noise / np.abs(noise).max(), 16_000)
    columns = {"utterance_id": [p.removesuffix(".flac") for p in paths], "path": paths}
    manifest = Manifest.from_columns(columns | {"label": ["unknown"] * n}, folder)
    manifest.write(folder / "manifest.csv")
    return manifest


def _occupied(folder: Path) -> tuple[int, int]:
    """Entries of the file system, and bytes of its blocks."""
    entries = list(folder.rglob("*"))
    return len(entries), sum(512 * path.stat().st_blocks for path in entries)


def _index_times(folder: Path) -> str:
    """How long the members of a tar take to be known, by its index and by scanning it."""
    archive = max(folder.glob("*.tar"), key=lambda path: path.stat().st_size)
    n_bytes = archive.stat().st_size
    best = {}
    for scan in (False, True):
        times = []
        for _ in range(5):
            start = time.perf_counter()
            index = read_index(str(archive), n_bytes, scan=scan)
            times.append(1000 * (time.perf_counter() - start))
        best[scan] = min(times)
    return (
        f"{len(index):,} members of a tar: {best[False]:.1f} ms by its index, {best[True]:.1f} ms by a scan"
    )


def _read(manifest: Path, example: Path, *how: str) -> dict[str, Any]:
    command = [sys.executable, "-c", READ, str(manifest), *how, str(example)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    out = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=environment).stdout
    found: dict[str, Any] = json.loads(out)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each file")
    parser.add_argument("--folder", type=Path, help="where to write")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        top = Path(name)
        manifest = _write_files(top / "files", args.files, args.seconds)
        os.sync()
        variants = {"files": top / "files" / "manifest.csv"}
        print("variant     packed files/s   MB/s  shards  entries  MB on disk")
        n_entries, n_bytes = _occupied(top / "files")
        print(f"{'files':<10}{'':>16}{'':>7}{'':>8}{n_entries:>9,}{n_bytes / MEGABYTE:>12.1f}")
        for form in ("tar", "parquet"):
            start = time.perf_counter()
            made = pack(manifest, top / form, form=form, shard_bytes=round(SHARD_MB * MEGABYTE), workers=0)
            seconds = time.perf_counter() - start
            n_entries, n_bytes = _occupied(top / form)
            print(
                f"{form:<10}{args.files / seconds:>16,.0f}{made.n_bytes / MEGABYTE / seconds:>7.0f}"
                f"{made.n_shards:>8}{n_entries:>9,}{n_bytes / MEGABYTE:>12.1f}"
            )
            variants[form] = made.path
        print(_index_times(top / "tar"))
        os.sync()
        example = manifest.audio_paths()[0]
        rates: dict[tuple[str, ...], dict[str, float]] = {}
        digests: dict[str, set[str]] = {}
        print("\nread                        files/s:  files      tar  parquet    ratio:  tar  parquet")
        for how in READINGS:
            for variant, path in variants.items():
                found = _read(path, example, *how)
                rates.setdefault(how, {})[variant] = found["rate"]
                digests.setdefault(how[0], set()).add(found["digest"])
            of = rates[how]
            print(
                f"{how[0]:<8}{how[1]:<10}{how[2]:<6}{of['files']:>19,.0f}{of['tar']:>9,.0f}{of['parquet']:>9,.0f}"
                f"{of['tar'] / of['files']:>14.2f}{of['parquet'] / of['files']:>9.2f}"
            )
        same = all(len(found) == 1 for found in digests.values())
        print("\nall variants give the same bytes and samples" if same else "\nVARIANTS DIFFER")
    return int(not same)


if __name__ == "__main__":
    sys.exit(main())
