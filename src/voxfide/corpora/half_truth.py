"""HAD and ADD 2023 track 2: Mandarin speech in which some words were replaced, with the regions."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pyarrow as pa

from voxfide.corpora.assemble import Part, assemble, nothing_found, the_one, wanted_splits
from voxfide.corpora.datasheet import DataSheet
from voxfide.corpora.inventory import Inventory
from voxfide.corpora.protocol import Form, Problems, Protocol, head_rows, read_protocol
from voxfide.corpora.segments import has_spoof, regions_of_text
from voxfide.corpora.tree import Tree
from voxfide.manifest import Manifest
from voxfide.types import BONAFIDE, SPOOF

_TRAPS: Final = (
    "the last column is 1 for wholly genuine and 0 for anything fake; regions are T (genuine) and F (fake)",
    "label the whole utterance or its regions: an utterance that is spoof here is mostly genuine speech",
)

SHEET_HAD: Final = DataSheet(
    name="had",
    title="HAD (half-truth audio detection): Mandarin, a few words replaced by synthetic ones",
    citation="J. Yi et al., Half-Truth: A partially fake audio detection dataset, Interspeech 2021, "
    "arXiv:2104.03617",
    licence="see link",
    link="https://zenodo.org/records/10377492",
    layout="HAD_{train,dev,test}/HAD_{train,dev,test}_label.txt (NAME REGIONS 0|1); audio in conbine/ (sic), "
    "train/conbine/ or test/ beside it",
    splits=("train", "dev", "eval"),
    columns=("segments",),
    traps=_TRAPS,
)

SHEET_ADD: Final = DataSheet(
    name="add2023-2",
    title="ADD 2023, track 2 (manipulation region location): Mandarin, regions replaced",
    citation="J. Yi et al., ADD 2023: The second audio deepfake detection challenge, arXiv:2305.13774",
    licence="see link",
    link="http://addchallenge.cn/downloadADD2023",
    layout="ADD2023_Track2_{train,dev,test}/label.txt or Track2/{train,dev,test}/label.txt "
    "(NAME REGIONS 0|1); audio in wav/ beside it",
    splits=("train", "dev", "eval"),
    columns=("segments",),
    traps=_TRAPS,
)

_FORM: Final = Form(("file", "regions", "label"), {"1": BONAFIDE, "0": SPOOF})
_ON_DISK: Final = {"train": "train", "dev": "dev", "eval": "test"}


def prepare_had(
    root: Path, split: str | None = None, *, keep_missing: bool = False, inventory: Inventory
) -> Manifest:
    """See :data:`SHEET_HAD`."""
    names = {s: (f"HAD_{d}/HAD_{d}_label.txt", f"HAD_{d}_label.txt") for s, d in _ON_DISK.items()}
    folders = {
        s: tuple(f"HAD_{d}/{f}" for f in (f"{d}/conbine", "conbine", d, "wav")) for s, d in _ON_DISK.items()
    }
    expected = {"train": "HAD_train/conbine", "dev": "HAD_dev/conbine", "eval": "HAD_test/test"}
    return _prepare(SHEET_HAD, names, folders, expected, root, split, keep_missing, inventory)


def prepare_add(
    root: Path, split: str | None = None, *, keep_missing: bool = False, inventory: Inventory
) -> Manifest:
    """See :data:`SHEET_ADD`."""
    names = {
        s: (f"ADD2023_Track2_{d}/label.txt", f"Track2/{d}/label.txt", f"{d}/label.txt")
        for s, d in _ON_DISK.items()
    }
    folders = {s: (f"ADD2023_Track2_{d}/wav", f"Track2/{d}/wav", f"{d}/wav") for s, d in _ON_DISK.items()}
    expected = {s: f"ADD2023_Track2_{d}/wav" for s, d in _ON_DISK.items()}
    return _prepare(SHEET_ADD, names, folders, expected, root, split, keep_missing, inventory)


def _prepare(
    sheet: DataSheet,
    names: Mapping[str, tuple[str, ...]],
    folders: Mapping[str, tuple[str, ...]],
    expected: Mapping[str, str],
    root: Path,
    split: str | None,
    keep_missing: bool,
    inventory: Inventory,
) -> Manifest:
    tree, problems, parts = Tree(root), Problems(root), []
    wanted = wanted_splits(sheet, split)
    for name in wanted:
        files = tree.named(*names[name], accept=_has_regions)
        if not files:
            inventory.note(f"{name}: no labels {names[name][0]} found")
            continue
        protocol = read_protocol(root / the_one(tree, files, f"{name} labels"), [_FORM], problems)
        if protocol is not None:
            columns = _with_segments(protocol, name, problems, inventory)
            parts.append(Part(columns, name, folders[name], f"{expected[name]}/ID.wav"))
    problems.check()
    if not parts:
        raise nothing_found(sheet, tree, [file for name in wanted for file in names[name]])
    return assemble(sheet, tree, parts, wanted, inventory, keep_missing=keep_missing)


def _has_regions(path: Path) -> bool:
    """``label.txt`` is a name that other tracks use too."""
    return any(len(row) == 3 and row[1].endswith(("-T", "-F")) for row in head_rows(path))


def _with_segments(
    protocol: Protocol, split: str, problems: Problems, inventory: Inventory
) -> dict[str, pa.ChunkedArray | pa.Array]:
    columns = dict(protocol.columns)
    cells: list[str | None] = []
    odd = []
    rows = zip(*(columns[c].to_pylist() for c in ("utterance_id", "regions", "label")), strict=True)
    for row, (name, text, label) in enumerate(rows):
        try:
            cells.append(regions_of_text(text))
        except ValueError as error:
            problems.add(protocol.path, int(protocol.lines[row]), str(error))
            cells.append(None)
            continue
        if has_spoof(cells[-1] or "") == (label == BONAFIDE):
            odd.append(name)
    if odd:
        inventory.note(f"{split}: regions contradict the label of {len(odd):,} utterances, such as {odd[0]}")
    del columns["regions"]
    return columns | {"segments": pa.array(cells, pa.string())}
