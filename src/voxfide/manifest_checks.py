"""What can be wrong with a manifest, found all at once and by row."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from voxfide.types import LABELS, Seconds

if TYPE_CHECKING:
    from voxfide.manifest import Manifest


class Segment(NamedTuple):
    """A stretch of an utterance with a label of its own, in seconds."""

    start: Seconds
    end: Seconds
    label: str


def parse_segments(text: str) -> list[Segment]:
    """The ``segments`` cell: a JSON list of ``[start, end, label]``.

    Raises:
        ValueError: says what is wrong with it.
    """
    try:
        items = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON ({error.msg})") from None
    if not isinstance(items, list):
        raise ValueError("expected a JSON list of [start, end, label]")
    return [_parse_segment(item) for item in items]


def _parse_segment(item: Any) -> Segment:
    try:
        start, end, label = item
        segment = Segment(float(start), float(end), str(label))
    except (TypeError, ValueError):
        raise ValueError(f"{item!r} is not [start, end, label]") from None
    if not 0 <= segment.start < segment.end < math.inf:
        raise ValueError(f"{item!r}: expected 0 <= start < end")
    if label not in LABELS:
        raise ValueError(f"{item!r}: label {label!r} (expected one of {', '.join(LABELS)})")
    return segment


def find_problems(manifest: Manifest, check_files: bool) -> list[str]:
    """Every problem of ``manifest``; see :meth:`Manifest.validate`."""
    problems = [*_ids(manifest), *_labels(manifest), *_paths(manifest)]
    if "duration" in manifest.columns:
        problems += _durations(manifest)
    if "segments" in manifest.columns:
        problems += _segments(manifest)
    if check_files:
        problems += _files(manifest)
    return problems


def _rows(mask: Any) -> list[int]:
    """Indices at which a boolean column is true."""
    return np.flatnonzero(pc.fill_null(mask, False).to_numpy()).tolist()


def _ids(manifest: Manifest) -> Iterator[str]:
    ids = manifest.table.column("utterance_id")
    for row in _rows(pc.or_kleene(pc.is_null(ids), pc.equal(ids, ""))):
        yield f"row {row + 1}: utterance_id is empty"
    for row in _rows(pc.match_substring_regex(ids, r"[\t\r\n\x00]|^\s|\s$")):
        yield f"row {row + 1}: utterance_id {ids[row].as_py()!r} holds a tab, a line break or outer spaces"
    counts = pc.value_counts(ids)
    repeated = counts.filter(pc.greater(counts.field("counts"), 1)).field("values").drop_null()
    repeated = repeated.filter(pc.not_equal(repeated, ""))
    if len(repeated):
        places: dict[str, list[int]] = {}
        for row in _rows(pc.is_in(ids, repeated)):
            places.setdefault(ids[row].as_py(), []).append(row + 1)
        for name, rows in places.items():
            yield f"rows {', '.join(map(str, rows[:10]))}: utterance_id {name!r} occurs {len(rows)} times"


def _labels(manifest: Manifest) -> Iterator[str]:
    labels = manifest.table.column("label")
    for row in _rows(pc.invert(pc.is_in(labels, pa.array(LABELS)))):
        yield f"row {row + 1}: label {labels[row].as_py()!r} (expected one of {', '.join(LABELS)})"


def _paths(manifest: Manifest) -> Iterator[str]:
    paths = manifest.table.column("path")
    for row in _rows(pc.or_kleene(pc.is_null(paths), pc.equal(paths, ""))):
        yield f"row {row + 1}: path is empty"
    for row in _rows(pc.match_substring_regex(paths, r"(^|/)\.\.(/|$)|\x00")):
        yield (
            f"row {row + 1}: path {paths[row].as_py()!r} climbs out of a folder "
            "(expected a path below the manifest, or an absolute one)"
        )


def _durations(manifest: Manifest) -> Iterator[str]:
    for row, value in enumerate(manifest.column("duration")):
        if value is None:
            continue
        try:
            seconds = float(value)
        except ValueError:
            seconds = math.nan
        if not 0 <= seconds < math.inf:
            yield f"row {row + 1}: duration {value!r} (expected seconds, at least 0)"


def _segments(manifest: Manifest) -> Iterator[str]:
    for row, value in enumerate(manifest.column("segments")):
        if value:
            try:
                parse_segments(str(value))
            except ValueError as error:
                yield f"row {row + 1}: segments: {error}"


def _files(manifest: Manifest) -> Iterator[str]:
    listings: dict[str, set[str]] = {}
    for row, path in enumerate(manifest.column("path")):
        if not path or "\x00" in path:
            continue
        folder, name = os.path.split(os.path.normpath(manifest.root / path))
        if folder not in listings:
            try:
                with os.scandir(folder) as entries:
                    listings[folder] = {e.name for e in entries if e.is_file()}
            except OSError:
                listings[folder] = set()
        if name not in listings[folder]:
            yield f"row {row + 1}: no file {path!r}"
