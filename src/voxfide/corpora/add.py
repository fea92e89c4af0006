"""ADD 2022 and ADD 2023 track 1.2: Mandarin speech, fakes of a detection game."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from voxfide.corpora.assemble import Part, assemble, nothing_found, the_one, wanted_splits
from voxfide.corpora.datasheet import Count, DataSheet
from voxfide.corpora.inventory import Inventory
from voxfide.corpora.protocol import Form, Problems, head_rows, read_protocol
from voxfide.corpora.tree import Tree
from voxfide.manifest import Manifest
from voxfide.types import BONAFIDE, SPOOF

_ARENA: Final = "the evaluation lists of Speech DF Arena, arXiv:2509.02859"

SHEET_2022: Final = DataSheet(
    name="add2022",
    title="ADD 2022: Mandarin; training and development sets, track 1 (low-quality fakes)",
    citation="J. Yi et al., ADD 2022: The first audio deep synthesis detection challenge, ICASSP 2022, "
    "arXiv:2202.08433",
    licence="see link",
    link="http://addchallenge.cn",
    layout="ADD_train_dev/label/{train,dev}_label.txt with audio in ADD_train_dev/{train,dev}; "
    "track1adp_out/label.txt; a label file in a folder of track 1's test set, if there is one",
    splits=("train", "dev", "adaptation", "eval"),
    counts=(Count("eval", 109_199),),
    counts_source=_ARENA,
    traps=("training and development sets are clean, the test sets are noisy",),
)

SHEET_2023: Final = DataSheet(
    name="add2023-1.2",
    title="ADD 2023, track 1.2 (audio fake game, detection): Mandarin; test rounds R1 and R2",
    citation="J. Yi et al., ADD 2023: The second audio deepfake detection challenge, arXiv:2305.13774",
    licence="CC BY-NC-ND 4.0",
    link="https://zenodo.org/records/12151404 (train, dev), https://zenodo.org/records/12176326 (round 2)",
    layout="Track1.2/{train,dev,testR1,testR2}/label.txt with audio in wav/ beside it",
    splits=("train", "dev", "R1", "R2"),
    counts=(Count("R1", 111_976), Count("R2", 118_477)),
    counts_source=_ARENA,
    traps=(
        "R1 and R2 are the columns ADD23.1 and ADD23.2 of the layer-wise study",
        "labels of the test rounds were published after the challenge: without label.txt a round is left out",
    ),
)

_FORM: Final = Form(("file", "label"), {"genuine": BONAFIDE, "fake": SPOOF})


@dataclass(frozen=True)
class _Place:
    """Where a split is: its label file, the folders its audio may be in, and the usual one."""

    labels: tuple[str, ...]
    folders: tuple[str, ...]
    audio: str


_PLACES_2022: Final = {
    "train": _Place(
        ("label/train_label.txt",), ("ADD_train_dev/train", "train"), "ADD_train_dev/train/ID.wav"
    ),
    "dev": _Place(("label/dev_label.txt",), ("ADD_train_dev/dev", "dev"), "ADD_train_dev/dev/ID.wav"),
    "adaptation": _Place(
        ("track1adp_out/label.txt", "track1adp/label.txt"),
        ("track1adp(_out)?(/wav)?",),
        "track1adp_out/ID.wav",
    ),
    "eval": _Place(
        (
            "track1test_out/label.txt",
            "track1test/label.txt",
            "eval_track1/label.txt",
            "label/track1test_label.txt",
        ),
        ("(track1test(_out)?|eval_track1)(/wav)?",),
        "track1test_out/ID.wav",
    ),
}
_PLACES_2023: Final = {
    split: _Place((f"{folder}/label.txt",), (f"{folder}/wav", folder), f"Track1.2/{folder}/wav/ID.wav")
    for split, folder in {"train": "train", "dev": "dev", "R1": "testR1", "R2": "testR2"}.items()
}


def prepare_2022(
    root: Path, split: str | None = None, *, keep_missing: bool = False, inventory: Inventory
) -> Manifest:
    """See :data:`SHEET_2022`."""
    return _prepare(SHEET_2022, _PLACES_2022, root, split, keep_missing, inventory)


def prepare_2023(
    root: Path, split: str | None = None, *, keep_missing: bool = False, inventory: Inventory
) -> Manifest:
    """See :data:`SHEET_2023`."""
    return _prepare(SHEET_2023, _PLACES_2023, root, split, keep_missing, inventory)


def _prepare(
    sheet: DataSheet,
    places: Mapping[str, _Place],
    root: Path,
    split: str | None,
    keep_missing: bool,
    inventory: Inventory,
) -> Manifest:
    tree, problems, parts = Tree(root), Problems(root), []
    wanted = wanted_splits(sheet, split)
    for name in wanted:
        place = places[name]
        files = tree.named(*place.labels, accept=_has_two_columns)
        if not files:
            inventory.note(f"{name}: no labels {place.labels[0]} found")
            continue
        protocol = read_protocol(root / the_one(tree, files, f"{name} labels"), [_FORM], problems)
        if protocol is not None:
            inventory.note(f"{name}: {protocol}")
            parts.append(Part(protocol.columns, name, place.folders, place.audio))
    problems.check()
    if not parts:
        raise nothing_found(sheet, tree, [file for name in wanted for file in places[name].labels])
    return assemble(sheet, tree, parts, wanted, inventory, keep_missing=keep_missing)


def _has_two_columns(path: Path) -> bool:
    """Labels of other tracks have the same file names, but regions or numbers in their lines."""
    return any(len(row) == 2 and row[1] in _FORM.labels for row in head_rows(path))
