"""ADD 2022 and ADD 2023 track 1.2: Mandarin speech, fakes of a detection game."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from voxfide.corpora.assemble import Part, assemble, nothing_found, the_one, wanted_splits
from voxfide.corpora.datasheet import Count, DataSheet
from voxfide.corpora.inventory import Inventory
from voxfide.corpora.protocol import Form, Problems, first_row, read_protocol
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


def prepare_2022(
    root: Path, split: str | None = None, *, keep_missing: bool = False, inventory: Inventory
) -> Manifest:
    """See :data:`SHEET_2022`."""
    return _prepare(
        SHEET_2022,
        {
            "train": (r"label/train_label\.txt|train/label\.txt", ("ADD_train_dev/train", "train", "train/wav")),
            "dev": (r"label/dev_label\.txt|dev/label\.txt", ("ADD_train_dev/dev", "dev", "dev/wav")),
            "adaptation": (r"track1adp(_out)?/label\.txt", (r"track1adp(_out)?(/wav)?",)),
            "eval": (
                r"(track1test|track1_test|eval_track1|track1eval)[^/]*/(label/)?\w*label\.txt",
                (r"(track1test|track1_test|eval_track1|track1eval)[^/]*(/wav)?",),
            ),
        },
        {"adaptation": "track1adp_out/ID.wav", "eval": "track1test/ID.wav"},
        root, split, keep_missing, inventory,
    )  # fmt: skip


def prepare_2023(
    root: Path, split: str | None = None, *, keep_missing: bool = False, inventory: Inventory
) -> Manifest:
    """See :data:`SHEET_2023`."""
    folders = {"train": "train", "dev": "dev", "R1": "test_?R1", "R2": "test_?R2"}
    places = {s: (rf"{f}/(\w+_)?label\.txt", (f"{f}/wav", f)) for s, f in folders.items()}
    expected = {s: f"Track1.2/{f.replace('_?', '')}/wav/ID.wav" for s, f in folders.items()}
    return _prepare(SHEET_2023, places, expected, root, split, keep_missing, inventory)


def _prepare(
    sheet: DataSheet,
    places: Mapping[str, tuple[str, tuple[str, ...]]],
    expected: Mapping[str, str],
    root: Path,
    split: str | None,
    keep_missing: bool,
    inventory: Inventory,
) -> Manifest:
    """``places``: split to the ends of its label file's and of its audio folders' paths."""
    tree, problems, parts = Tree(root), Problems(root), []
    wanted = wanted_splits(sheet, split)
    other = "ADD2023_" if sheet is SHEET_2022 else "ADD_"
    for name in wanted:
        pattern, folders = places[name]
        # Files of the other challenges and tracks have the same names, but other ids and columns.
        files = tree.files(pattern, lambda path: _is_two_columns(path, other))
        if not files:
            inventory.note(f"{name}: no labels ({_plain(pattern)}) found")
            continue
        label_file = the_one(tree, files, f"{name} labels")
        protocol = read_protocol(root / label_file, [_FORM], problems)
        if protocol is not None:
            where = expected.get(name, f"ADD_train_dev/{name}/ID.wav")
            parts.append(Part(protocol.columns, name, folders, where))
    problems.check()
    if not parts:
        raise nothing_found(sheet, tree, [_plain(places[name][0]) for name in wanted])
    return assemble(sheet, tree, parts, wanted, inventory, keep_missing=keep_missing)


def _is_two_columns(path: Path, other: str) -> bool:
    row = first_row(path)
    return len(row) != 3 and not (row and row[0].startswith(other)) and not row[-1:] == [str(row[-1:])]


def _plain(pattern: str) -> str:
    return pattern.replace("\\", "")
