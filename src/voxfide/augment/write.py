"""Augmented copies of a manifest's audio, written out once, with a record of what was done.

``FOLDER/`` then holds::

    manifest.csv     the new manifest, written last (or .tsv, .parquet)
    audio/           one file an augmented utterance, 16 kHz mono
    augment.json     the job: who is augmented, how, in which form
    journal.jsonl    what is finished, a line an utterance; an interrupted job goes on there
    failures.csv     utterances that could not be augmented, where there are any
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from voxfide.augment.copies import FORMS, Copy, Task, make_copies
from voxfide.augment.policy import Chooser, chosen_by
from voxfide.augment.records import new_manifest
from voxfide.decoding import default_workers
from voxfide.errors import AudioError, UsageError
from voxfide.files import claim, exclusive, remove_temporaries
from voxfide.jobs import Failure, FileState, write_failures
from voxfide.manifest import Manifest
from voxfide.manifest_io import SUFFIXES
from voxfide.types import PathLike, Seconds

Progress = Callable[[int, Seconds], None]
"""Called with utterances and audio seconds that have just been written."""

_SHARD: Final = 64
"""Utterances between two entries in the journal: what a crash can cost."""


@dataclass(frozen=True)
class Augmented:
    """What :func:`augment_manifest` made.

    Attributes:
        path: of the new manifest.
        manifest: the same, as an object.
        applied: what was done, to how many utterances.
        failures: utterances that could not be augmented.
    """

    path: Path
    manifest: Manifest
    applied: dict[str, int]
    failures: list[Failure]


def augment_manifest(
    manifest: Manifest,
    chooser: Chooser,
    folder: PathLike,
    *,
    split: str | None = None,
    keep_original: bool = False,
    form: str = "flac",
    suffix: str = ".csv",
    workers: int | None = None,
    progress: Progress | None = None,
    on_start: Callable[[int, int], None] | None = None,
) -> Augmented:
    """Writes augmented copies and a manifest that names them.

    Rows that are not chosen are in the new manifest as they are. Run again, it goes on where it was;
    files whose audio has changed since are made anew. An utterance that fails is listed and left
    out of the new manifest, but for its original where that is kept.

    Args:
        manifest: which utterances there are.
        chooser: a policy or a plan.
        folder: for everything that is written.
        split: only rows of this split are augmented.
        keep_original: add the copies, as ``ID+augmented``, in place of having them stand for the originals.
        form: ``flac``, 16 bit, scaled down where it would clip; or ``wav``, 32-bit floating point,
            the samples that training on the fly gets.
        suffix: of the new manifest: .csv, .tsv or .parquet.
        workers: processes; None for half of the cores, 0 for none. The result is the same.

    Raises:
        ManifestError: the manifest has faults.
        UsageError: an argument that cannot be, nothing chosen, or a folder that holds another job's output.
        StoreError: another process is writing there.
        OSError: nothing can be written there.
    """
    folder = Path(folder)
    if form not in FORMS or suffix not in SUFFIXES:
        raise UsageError(f"form {form!r}, manifest {suffix!r} (expected {FORMS} and {SUFFIXES})")
    chooser.check_columns(manifest.require_valid())
    tasks = _tasks(manifest, chooser, folder, split, form)
    if not tasks:
        raise UsageError(f"{manifest.source}: no utterance is chosen to be augmented")
    with exclusive(folder / ".lock", f"{folder}: another process is writing there"):
        for subfolder in (folder / "audio").glob("*"):
            remove_temporaries(subfolder)
        job = {"chooser": chooser.describe(), "form": form}
        claim(folder / "augment.json", job, f"{folder}: holds audio that was augmented in another way")
        journal = folder / "journal.jsonl"
        known = _read(journal)
        missing = {row: task for row, task in tasks.items() if not _is_done(task, known.get(row))}
        copies = {row: known[row] for row in tasks if row not in missing}
        if on_start is not None:
            on_start(len(missing), len(copies))
        made, failures = _run(missing, journal, workers, progress)
        made_manifest = new_manifest(manifest, tasks, copies | made, folder, keep_original)
        path = made_manifest.write(folder / f"manifest{suffix}")
        write_failures(folder / "failures.csv", failures)
    applied: dict[str, int] = {}
    for row in copies | made:
        applied[tasks[row].applied] = applied.get(tasks[row].applied, 0) + 1
    return Augmented(path, made_manifest, applied, failures)


def _tasks(
    manifest: Manifest, chooser: Chooser, folder: Path, split: str | None, form: str
) -> dict[str, Task]:
    """What is to be done, by utterance id."""
    tasks = {}
    wanted = None if split is None else set(manifest.split(split).column("utterance_id"))
    for row, path in zip(chosen_by(manifest), manifest.audio_paths(), strict=True):
        if wanted is not None and row[0] not in wanted:
            continue
        if done := chooser.draw(row[0], row[1], corpus=row[2]):
            tasks[row[0]] = Task(path, folder / _file_name(row[0], form), *done)
    return tasks


def _file_name(utterance_id: str, form: str) -> str:
    """A name that any file system takes, different for every id, a few hundred to a folder."""
    plain = "".join(c if c.isascii() and (c.isalnum() or c in "-_.") else "_" for c in utterance_id)
    digest = hashlib.blake2b(utterance_id.encode(), digest_size=8).hexdigest()
    return f"audio/{digest[:2]}/{plain[:80]}-{digest}.{form}"


def _run(
    missing: Mapping[str, Task], journal: Path, workers: int | None, progress: Progress | None
) -> tuple[dict[str, Copy], list[Failure]]:
    made: dict[str, Copy] = {}
    failures = []
    unsaved: dict[str, Copy] = {}
    names = list(missing)
    results = make_copies([missing[n] for n in names], default_workers() if workers is None else workers)
    try:
        for name, result in zip(names, results, strict=True):
            if isinstance(result, AudioError):
                failures.append(_failure(name, missing[name], result))
            else:
                made[name] = unsaved[name] = result
            if len(unsaved) >= _SHARD:
                _append(journal, unsaved)
                unsaved = {}
            if progress is not None:
                progress(1, 0.0 if isinstance(result, AudioError) else result.seconds)
    finally:
        _append(journal, unsaved)
    return made, failures


def _failure(name: str, task: Task, error: AudioError) -> Failure:
    reason = error.reason if error.path == str(task.source) else f"{error.path}: {error.reason}"
    return Failure(name, str(task.source), error.kind, reason, error.expected)


def _is_done(task: Task, copy: Copy | None) -> bool:
    """Whether the copy is of this task, of the audio as it is now, and still there."""
    if copy is None or copy.task_digest != task.digest():
        return False
    now = FileState.of(task.source)
    return (now.size < 0 or now == copy.source) and FileState.of(task.target).size == copy.n_bytes


def _append(journal: Path, copies: Mapping[str, Copy]) -> None:
    if not copies:
        return
    lines = [json.dumps({"utterance_id": name} | asdict(copy)) + "\n" for name, copy in copies.items()]
    with journal.open("ab+") as file:
        # A killed writer may have left half a line; ours must not be glued to it.
        if file.tell() and not _ends_line(journal):
            file.write(b"\n")
        file.write("".join(lines).encode())
        file.flush()
        os.fsync(file.fileno())


def _ends_line(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


def _read(journal: Path) -> dict[str, Copy]:
    """Finished copies; a line that was not written whole is left out."""
    if not journal.exists():
        return {}
    copies = {}
    for line in journal.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            entry = json.loads(line)
            name = entry.pop("utterance_id")
            copies[name] = Copy(**entry | {"source": FileState(*entry["source"])})
        except (json.JSONDecodeError, AttributeError, KeyError, TypeError):
            continue
    return copies
