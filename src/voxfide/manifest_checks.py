"""What can be wrong with a manifest, found all at once and by row."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from voxfide.audio.members import ARCHIVE_SUFFIXES, locate, member_names
from voxfide.errors import AudioError
from voxfide.types import BONAFIDE, LABELS, SPOOF, Seconds

if TYPE_CHECKING:
    from voxfide.manifest import Manifest


ROWS_SHOWN: Final = 10

# What a line of a score file cannot hold.
_UNUSABLE_ID: Final = re.compile(r"[\t\r\n\0]|^\s|\s\Z")


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
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(items, list):
        raise ValueError("expected a JSON list of [start, end, label]")
    return [_parse_segment(item) for item in items]


def _parse_segment(item: Any) -> Segment:
    try:
        start, end, label = item
        segment = Segment(float(start), float(end), str(label))
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{item!r} is not [start, end, label]") from None
    if not 0 <= segment.start < segment.end < math.inf:
        raise ValueError(f"{item!r}: expected 0 <= start < end")
    if label not in LABELS:
        raise ValueError(f"{item!r}: label {label!r} (expected one of {', '.join(LABELS)})")
    return segment


def find_problems(manifest: Manifest, check_files: bool) -> list[str]:
    """Every problem of ``manifest``; see :meth:`Manifest.validate`."""
    problems = [*_ids(manifest), *_labels(manifest), *_paths(manifest), *_contradictions(manifest)]
    if "duration" in manifest.columns:
        problems += _durations(manifest)
    if "segments" in manifest.columns:
        problems += _segments(manifest)
    if check_files:
        problems += _files(manifest)
    return problems


def _where(mask: Any, column: pa.ChunkedArray) -> Iterator[tuple[int, Any]]:
    """Row numbers, from 1, and values at which ``mask`` is true."""
    mask = pc.fill_null(mask, False)
    rows = np.flatnonzero(mask.to_numpy()) + 1
    return zip(rows.tolist(), column.filter(mask).to_pylist(), strict=True)


def _enumerated(rows: Sequence[int]) -> str:
    shown = ", ".join(map(str, rows[:ROWS_SHOWN]))
    return f"rows {shown}, …" if len(rows) > ROWS_SHOWN else f"rows {shown}"


def _ids(manifest: Manifest) -> Iterator[str]:
    ids = manifest.column("utterance_id")
    for row, name in enumerate(ids, start=1):
        if name is None:
            yield f"row {row}: utterance_id is empty"
        elif _UNUSABLE_ID.search(name):
            yield f"row {row}: utterance_id {name!r} holds a tab, a line break, a NUL or outer spaces"
    if len(set(ids)) < len(ids):
        places: dict[str, list[int]] = {}
        for row, name in enumerate(ids, start=1):
            places.setdefault(name, []).append(row)
        places.pop(None, None)  # type: ignore[call-overload]
        for name, rows in places.items():
            if len(rows) > 1:
                yield f"{_enumerated(rows)}: utterance_id {name!r} occurs {len(rows)} times"


def _labels(manifest: Manifest) -> Iterator[str]:
    labels = manifest.table.column("label")
    for row, label in _where(pc.invert(pc.is_in(labels, pa.array(LABELS))), labels):
        if label is None:
            found = "label is empty"
        elif (meant := label.strip().lower()) in LABELS:
            found = f"label {label!r}, which should read {meant!r}"
        else:
            found = f"label {label!r}"
        yield f"row {row}: {found} (expected one of {', '.join(LABELS)})"


def _paths(manifest: Manifest) -> Iterator[str]:
    paths = manifest.table.column("path")
    for row, _ in _where(pc.is_null(paths), paths):
        yield f"row {row}: path is empty"
    for row, path in _where(pc.match_substring(paths, "\0"), paths):
        yield f"row {row}: path {path!r} holds a NUL, which no file name can"
    for row, path in _where(pc.match_substring_regex(paths, r"(^|[/\\])\.\.([/\\]|$)"), paths):
        yield (
            f"row {row}: path {path!r} climbs out of a folder "
            "(expected a path below the manifest, or an absolute one, without '..')"
        )


def _contradictions(manifest: Manifest) -> Iterator[str]:
    """Files that are labelled bona fide in one row and spoof in another."""
    paths, labels = manifest.table.column("path"), manifest.table.column("label")
    real, fake = (pc.fill_null(pc.equal(labels, label), False) for label in (BONAFIDE, SPOOF))
    both = pc.is_in(paths, paths.filter(real).combine_chunks(), skip_nulls=True)
    both = pc.is_in(paths, paths.filter(pc.and_(fake, both)).combine_chunks(), skip_nulls=True)
    places: dict[str, list[int]] = {}
    for row, path in _where(pc.and_(both, pc.or_(real, fake)), paths):
        places.setdefault(path, []).append(row)
    for path, rows in places.items():
        yield f"{_enumerated(rows)}: path {path!r} is labelled {BONAFIDE} and {SPOOF}"


def _durations(manifest: Manifest) -> Iterator[str]:
    for row, value in enumerate(manifest.column("duration"), start=1):
        if value is None:
            continue
        try:
            seconds = float(value)
        except (TypeError, ValueError):
            seconds = math.nan
        if not 0 <= seconds < math.inf:
            yield f"row {row}: duration {value!r} (expected seconds, at least 0)"


def _segments(manifest: Manifest) -> Iterator[str]:
    for row, value in enumerate(manifest.column("segments"), start=1):
        if value is None:
            continue
        try:
            if not isinstance(value, str):
                raise ValueError(f"{type(value).__name__} (expected the text of a JSON list)")
            parse_segments(value)
        except ValueError as error:
            yield f"row {row}: segments: {error}"


def _files(manifest: Manifest) -> Iterator[str]:
    listings: dict[str, tuple[set[str], str]] = {}
    for row, path in enumerate(manifest.column("path"), start=1):
        if path is None or "\0" in path:
            continue
        whole = os.path.normpath(manifest.root / path)
        folder, name = locate(whole) or os.path.split(whole)
        if folder not in listings:
            listings[folder] = _list(folder)
        names, reason = listings[folder]
        if name not in names:
            yield f"row {row}: no file {path!r}{reason}"


def _list(folder: str) -> tuple[set[str], str]:
    """Names of the files in ``folder``, which may be an archive, and why there may be none."""
    try:
        if folder.lower().endswith(ARCHIVE_SUFFIXES) and Path(folder).is_file():
            return set(member_names(folder)), ""
        with os.scandir(folder) as entries:
            return {e.name for e in entries if e.is_file()}, ""
    except OSError as error:
        return set(), f" ({folder}: {error.strerror})"
    except AudioError as error:
        return set(), f" ({error.reason})"
