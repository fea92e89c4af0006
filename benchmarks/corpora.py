"""Times ``prepare`` on protocols of full size, each in a process of its own.

    python benchmarks/corpora.py [--rows N] [--folder DIR]

Protocol files and audio folders are synthetic, with the sizes and columns of the ASVspoof 5
evaluation set and of ASVspoof 2021 DF; audio files are empty, as nothing opens them. Time
includes listing the folder, matching, taking stock, validation, and writing Parquet.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

TARGET_SECONDS = 10.0
TARGET_GB = 1.0

PREPARE = """
import json, resource, sys, time
start = time.perf_counter()
from pathlib import Path
from voxfide.corpora import prepare
from voxfide.corpora.inventory import Inventory
inventory = Inventory()
manifest = prepare(sys.argv[1], Path(sys.argv[2]), inventory=inventory)
prepared = time.perf_counter()
manifest.require_valid()
validated = time.perf_counter()
manifest.write(Path(sys.argv[2], "manifest.parquet"))
written = time.perf_counter()
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
print(json.dumps({"rows": len(manifest), "missing": inventory.n_missing, "prepare": prepared - start,
                  "validate": validated - prepared, "write": written - validated,
                  "cpu": time.process_time(), "peak_gb": peak / 1e9}))
"""


def _asvspoof5(n: int) -> Iterator[tuple[str, str]]:
    for i in range(n):
        name = f"E_{i:010d}"
        attack = f"AC{1 + i % 3} A{17 + i % 16} spoof" if i % 5 else "- bonafide bonafide"
        codec = f"C{i % 11:02d} {1 + i % 5} E_{(i * 7919) % n:010d}" if i % 3 else "- - -"
        yield name, f"E_{i % 4000:04d} {name} {'FM'[i % 2]} {codec} {attack} -"


def _asvspoof2021df(n: int) -> Iterator[tuple[str, str]]:
    subsets = ("eval",) * 7 + ("progress", "hidden_track")
    for i in range(n):
        name = f"DF_E_{2_000_000 + i}"
        label = "bonafide bonafide" if i % 30 == 0 else f"A{7 + i % 13:02d} spoof"
        yield (
            name,
            (f"LA_{i % 100:04d} {name} low_m4a asvspoof {label} notrim {subsets[i % 9]} vocoder - - - -"),
        )


CORPORA: dict[str, tuple[Callable[[int], Iterator[tuple[str, str]]], str, str, int]] = {
    "asvspoof5": (_asvspoof5, "ASVspoof5.eval.track_1.tsv", "flac_E_eval", 680_774),
    "asvspoof2021df": (
        _asvspoof2021df,
        "keys/DF/CM/trial_metadata.txt",
        "ASVspoof2021_DF_eval/flac",
        611_829,
    ),
}


def _write(root: Path, name: str, rows: int) -> None:
    make, protocol, folder, _ = CORPORA[name]
    (root / folder).mkdir(parents=True)
    (root / protocol).parent.mkdir(parents=True, exist_ok=True)
    with (root / protocol).open("w") as file:
        for utterance, line in make(rows):
            file.write(line + "\n")
            (root / folder / f"{utterance}.flac").touch()


def _measure(root: Path, name: str, rows: int) -> dict[str, Any]:
    out = subprocess.run(
        [sys.executable, "-c", PREPARE, name, str(root)], check=True, stdout=subprocess.PIPE, text=True
    ).stdout
    got: dict[str, Any] = json.loads(out)
    if got["rows"] != rows or got["missing"]:
        raise SystemExit(f"{name}: {got['rows']:,} of {rows:,} rows, {got['missing']:,} missing")
    return got


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, help="in place of the full sizes")
    parser.add_argument(
        "--folder", type=Path, help="where to write: in memory (/dev/shm), files appear faster"
    )
    args = parser.parse_args()
    print(f"target: {TARGET_SECONDS:.0f} s and {TARGET_GB:.0f} GB peak RSS each")
    print("corpus               rows  prepare s  validate s  write s   all s   CPU s  peak GB")
    missed = False
    for name, (*_, full) in CORPORA.items():
        rows = args.rows or full
        with tempfile.TemporaryDirectory(dir=args.folder) as folder:
            # In a process of its own too: a child's peak memory starts from its parent's.
            subprocess.run([sys.executable, __file__, "--write", folder, name, str(rows)], check=True)
            got = _measure(Path(folder), name, rows)
        total = got["prepare"] + got["validate"] + got["write"]
        print(
            f"{name:<16}{rows:>9,}{got['prepare']:>11.2f}{got['validate']:>12.2f}{got['write']:>9.2f}"
            f"{total:>8.2f}{got['cpu']:>8.2f}{got['peak_gb']:>9.2f}"
        )
        missed |= total > TARGET_SECONDS or got["peak_gb"] > TARGET_GB
    print("target missed" if missed else "target met")
    return int(missed)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--write"]:
        _write(Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]))
        sys.exit(0)
    sys.exit(main())
