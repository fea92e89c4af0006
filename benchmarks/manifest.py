"""Times reading and validating a large manifest, each file in a process of its own.

    python benchmarks/manifest.py [--rows 700000]

The table has the size and the columns of the ASVspoof 5 evaluation set. The target is for the
plain table, CSV and Parquet; with ``segments`` in four of five rows it is shown beside it, as
that time is Python's JSON parser's.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

TARGET_SECONDS = 5.0
TARGET_GB = 1.0

READ = """
import json, resource, sys, time
start = time.perf_counter()
from voxfide.manifest import Manifest
imported = time.perf_counter()
manifest = Manifest.read(sys.argv[1])
read = time.perf_counter()
problems = manifest.validate()
validated = time.perf_counter()
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
print(json.dumps({"rows": len(manifest), "problems": len(problems), "start_up": imported - start,
                  "read": read - imported, "validate": validated - read, "peak_gb": peak / 1e9}))
"""

# Not in the measuring process, nor in its parent: a child's peak starts from its parent's.
WRITE = """
import sys
from pathlib import Path
import numpy as np
from voxfide.manifest import Manifest

folder, rows = Path(sys.argv[1]), int(sys.argv[2])
rng = np.random.default_rng(0)
spoof = rng.random(rows) < 0.8
attacks = np.char.add("A", (rng.integers(16, size=rows) + 17).astype(str))
duration = rng.uniform(2, 15, rows).round(3)
cut = (duration * rng.uniform(0.1, 0.9, rows)).round(3)
columns = {
    "utterance_id": [f"E_{i:010d}" for i in range(rows)],
    "path": [f"flac_E_eval/E_{i:010d}.flac" for i in range(rows)],
    "label": np.where(spoof, "spoof", "bonafide").tolist(),
    "split": ["eval"] * rows,
    "attack": np.where(spoof, attacks, "-").tolist(),
    "speaker": np.char.add("E_", rng.integers(4000, size=rows).astype(str)).tolist(),
    "gender": rng.choice(["F", "M"], rows).tolist(),
    "codec": np.char.add("C", rng.integers(12, size=rows).astype(str)).tolist(),
    "duration": duration.tolist(),
}
segments = [
    f'[[0.0, {c}, "bonafide"], [{c}, {d}, "spoof"]]' if s else None for c, d, s in zip(cut, duration, spoof)
]
plain = Manifest.from_columns(columns, folder)
segmented = Manifest.from_columns(columns | {"segments": segments}, folder)
for manifest, stem in ((plain, "plain"), (segmented, "segments")):
    for suffix in (".csv", ".parquet"):
        manifest.write(folder / (stem + suffix))
"""


def _run(code: str, *args: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code, *args], check=True, stdout=subprocess.PIPE, text=True
    ).stdout


def _measure(path: Path, rows: int) -> dict[str, Any]:
    """Figures of one file, after a check that the work was done."""
    got: dict[str, Any] = json.loads(_run(READ, str(path)))
    if got["rows"] != rows or got["problems"]:
        raise SystemExit(f"{path.name}: {got['rows']:,} rows read, {got['problems']:,} problems found")
    return got


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=700_000)
    args = parser.parse_args()
    print(f"{args.rows:,} rows; target: read + validate < {TARGET_SECONDS} s, peak RSS < {TARGET_GB} GB")
    print(
        f"{'file':<18}{'MB':>7}{'start-up s':>12}{'read s':>9}{'validate s':>12}{'both s':>9}{'peak GB':>9}"
    )
    missed = False
    with tempfile.TemporaryDirectory() as folder:
        _run(WRITE, folder, str(args.rows))
        for name in ("plain.csv", "plain.parquet", "segments.csv", "segments.parquet"):
            path = Path(folder, name)
            got = _measure(path, args.rows)
            both = got["read"] + got["validate"]
            print(
                f"{name:<18}{path.stat().st_size / 1e6:>7.1f}{got['start_up']:>12.2f}{got['read']:>9.2f}"
                f"{got['validate']:>12.2f}{both:>9.2f}{got['peak_gb']:>9.2f}"
            )
            missed |= name.startswith("plain") and (both > TARGET_SECONDS or got["peak_gb"] > TARGET_GB)
    print("target missed" if missed else "target met")
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
