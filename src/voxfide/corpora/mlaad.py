"""MLAAD: fakes of many synthesis systems in many languages; bona fide speech from M-AILABS."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from voxfide.corpora.assemble import Part, assemble, nothing_found, wanted_splits
from voxfide.corpora.datasheet import DataSheet
from voxfide.corpora.inventory import Inventory
from voxfide.corpora.labelled import rows_of
from voxfide.corpora.protocol import Problems, read_headed
from voxfide.corpora.tree import Tree, join
from voxfide.errors import UsageError
from voxfide.manifest import Manifest
from voxfide.types import BONAFIDE, SPOOF

SHEET: Final = DataSheet(
    name="mlaad",
    title="MLAAD: multi-language fakes of many synthesis systems (and M-AILABS audio books for bona fide)",
    citation="N. M. Müller et al., MLAAD: The multi-language audio anti-spoofing dataset, IJCNN 2024, "
    "arXiv:2401.09512",
    licence="CC BY-NC 4.0",
    link="https://huggingface.co/datasets/mueller91/MLAAD",
    layout="fake/LANGUAGE/SYSTEM/*.wav with meta.csv (columns split at |) in each folder; M-AILABS as "
    "LANGUAGE_COUNTRY/by_book/GENDER/SPEAKER/BOOK/wavs/*.wav in a folder m-ailabs beside it, or by option",
    columns=("system", "language", "speaker", "architecture", "training_data", "original_file", "duration"),
    options={"mailabs": "folder of M-AILABS, where it is not in a folder m-ailabs or real below ROOT"},
    traps=(
        "spoof only: without M-AILABS there is no bona fide speech in it",
        "no splits: split by system, and keep an M-AILABS recording and its fakes (original_file) together",
        "every release adds systems and languages: say which one you use",
        "cells of meta.csv are not quoted; transcripts are left out of the manifest",
    ),
)

_REQUIRED: Final = ("path", "language", "model_name")
_KEPT: Final = {
    "language": "language", "model_name": "system", "architecture": "architecture",
    "training_data": "training_data", "original_file": "original_file", "duration": "duration",
    "is_original_language": "is_original_language", "reference_speaker": "reference_speaker",
}  # fmt: skip
_BONAFIDE_FOLDERS: Final = r"m[-_ ]?ailabs|real"


def prepare(
    root: Path,
    split: str | None = None,
    *,
    mailabs: str | Path | None = None,
    keep_missing: bool = False,
    inventory: Inventory,
) -> Manifest:
    """See :data:`SHEET`."""
    tree, problems = Tree(root), Problems(root)
    wanted = wanted_splits(SHEET, split)
    fake = [f for f in tree.folders("fake") if any(True for _ in _metas(tree, f))]
    if not fake:
        raise nothing_found(SHEET, tree, [SHEET.layout])
    parts = [part for meta in _metas(tree, fake[0]) if (part := _fakes(tree, meta, problems))]
    problems.check()
    parts += _bonafide(tree, mailabs, inventory)
    return assemble(SHEET, tree, parts, wanted, inventory, keep_missing=keep_missing)


def _metas(tree: Tree, fake: str) -> list[str]:
    """Folders of one system in one language each."""
    languages = [join(fake, name) for name in tree.listing(fake).folders]
    systems = [join(folder, name) for folder in languages for name in tree.listing(folder).folders]
    return [folder for folder in systems if "meta.csv" in tree.listing(folder).others]


def _fakes(tree: Tree, folder: str, problems: Problems) -> Part | None:
    table = read_headed(tree.root / folder / "meta.csv", b"|", _REQUIRED, {}, problems)
    if table is None:
        return None
    _, language, system = folder.rsplit("/", 2)
    stems = table.columns["utterance_id"]
    columns: dict[str, Any] = {
        "utterance_id": pc.binary_join_element_wise(f"{language}/{system}", stems, "/"),
        "_stem": stems,
        "label": pa.repeat(SPOOF, len(stems)),
    }
    columns |= {ours: table.columns[theirs] for theirs, ours in _KEPT.items() if theirs in table.columns}
    return Part(columns, expected=f"{folder}/ID.wav", beside=folder)


def _bonafide(tree: Tree, mailabs: str | Path | None, inventory: Inventory) -> list[Part]:
    """Everything of M-AILABS: ``LANGUAGE_COUNTRY/by_book/GENDER/SPEAKER/BOOK/wavs/FILE``."""
    base = ""
    if mailabs is None:
        folders = tree.folders(_BONAFIDE_FOLDERS)
        if not folders:
            inventory.note("spoof only: no folder m-ailabs below ROOT (option mailabs=FOLDER names another)")
            return []
        base, books = folders[0], tree
    else:
        books = Tree(Path(mailabs))
    files = [path for path in books.audio_below(base) if path.split("/")[-2:-1] == ["wavs"]]
    if not files:
        raise UsageError(f"{books.root / base}: no M-AILABS here (looked for …/by_book/…/wavs/*.wav)")
    columns: dict[str, Any] = dict(rows_of(files, base, label=BONAFIDE, system="-"))
    places = [name.split("/") for name in columns["utterance_id"]]
    inventory.note(f"bona fide: {len(files):,} files of M-AILABS from {books.root / base}")
    columns["language"] = [_before(place, "by_book")[:2] or None for place in places]
    columns["speaker"] = [_speaker(place) for place in places]
    columns["original_file"] = [f"{name}.wav" for name in columns["utterance_id"]]
    if books is not tree:
        columns["path"] = [str(books.root.resolve() / path) for path in columns["path"]]
    return [Part(columns)]


def _before(place: list[str], name: str) -> str:
    """The folder right above the one called ``name``."""
    at = place.index(name) if name in place else 0
    return place[at - 1] if at else ""


def _speaker(place: list[str]) -> str | None:
    """The folder above book and ``wavs``; books of several readers lie in ``mix``."""
    found = place[-4] if len(place) > 4 else "mix"
    return None if found in ("mix", "by_book") else found
