"""The manifest of an augmented corpus: what was done, in columns of their own."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from voxfide.augment.copies import Copy, Task
from voxfide.augment.policy import PLAN_COLUMN
from voxfide.manifest import Manifest
from voxfide.manifest_checks import parse_segments
from voxfide.types import SPOOF

APPLIED: Final = "augmentation"
"""Column: what was done, in words; empty where nothing was."""

PARAMETERS: Final = "augmentation_parameters"
"""Column: a JSON list of what was done: settings, what was drawn, and the gain against clipping."""

SOURCE: Final = "augmented_from"
"""Column: absolute path of the audio before."""

COPY_SUFFIX: Final = "+augmented"

Cells = dict[str, Any]


def new_manifest(
    manifest: Manifest, tasks: Mapping[str, Task], copies: Mapping[str, Copy], root: Path, keep: bool
) -> Manifest:
    """``manifest`` with the copies in place of their originals, or, with ``keep``, behind them.

    Rows whose task has no copy are left out, unless ``keep``. Of a manifest that had been augmented
    before, the new record follows the old one. The column ``augment``, now seen to, is dropped.

    Args:
        root: folder that relative paths of the new manifest will start from.
    """
    table = manifest.table
    if PLAN_COLUMN in table.column_names:
        table = table.drop_columns([PLAN_COLUMN])
    paths = pa.array(map(str, manifest.audio_paths()), pa.string())
    table = table.set_column(table.column_names.index("path"), "path", paths)
    originals: list[Cells] = table.to_pylist()
    copied = {r["utterance_id"]: _copied(r, tasks, copies) for r in originals if r["utterance_id"] in copies}
    if keep:
        suffix = _new_suffix({row["utterance_id"] for row in originals}, copied)
        rows = originals + [row | {"utterance_id": name + suffix} for name, row in copied.items()]
    else:
        rows = [copied.get(r["utterance_id"], r) for r in originals]
        rows = [r for r in rows if r["utterance_id"] not in tasks or r["utterance_id"] in copied]
    types = {field.name: field.type for field in table.schema}
    types |= dict.fromkeys((APPLIED, PARAMETERS, SOURCE), pa.string())
    if any(task.augmentation.spoofed_by(task.drawn) for task in tasks.values()):
        types |= {"system": pa.string()}
    if "duration" in types and not pa.types.is_string(types["duration"]):
        types["duration"] = pa.float64()
    columns = {name: pa.array([row.get(name) for row in rows], kind) for name, kind in types.items()}
    return Manifest.from_columns(columns, root, manifest.source)


def _copied(row: Cells, tasks: Mapping[str, Task], copies: Mapping[str, Copy]) -> Cells:
    """The cells of a row that change."""
    task, copy = tasks[row["utterance_id"]], copies[row["utterance_id"]]
    done = {"augmentation": task.augmentation.describe(), "drawn": task.drawn, "gain_db": copy.gain_db}
    before = row.get(APPLIED)
    cells: Cells = {
        "path": str(task.target.resolve()),
        APPLIED: f"{before} + {task.applied}" if before else task.applied,
        PARAMETERS: json.dumps([*json.loads(row.get(PARAMETERS) or "[]"), done]),
        SOURCE: row.get(SOURCE) or str(task.source),
    }
    if row.get("duration") is not None:
        is_text = isinstance(row["duration"], str)
        cells["duration"] = f"{copy.seconds:.6f}" if is_text else copy.seconds
    if route := task.augmentation.spoofed_by(task.drawn):
        cells |= {"label": SPOOF, "system": f"copy-synthesis {route}"}
        cells |= {"family": "copy-synthesis"} if "family" in row else {}
    if row.get("segments") and copy.stretch != 1:
        segments = [
            (s.start * copy.stretch, s.end * copy.stretch, s.label) for s in parse_segments(row["segments"])
        ]
        cells["segments"] = json.dumps(segments)
    return row | cells


def _new_suffix(ids: set[str], copied: Mapping[str, Cells]) -> str:
    """Behind the ids of copies: :data:`COPY_SUFFIX`, and a number where some are there already."""
    suffixes = (f"{COPY_SUFFIX}{number or ''}" for number in itertools.chain([0], itertools.count(2)))
    return next(suffix for suffix in suffixes if not any(name + suffix in ids for name in copied))
