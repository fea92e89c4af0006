"""SceneFake: real speech whose acoustic scene was replaced."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from voxfide.corpora.assemble import assemble, nothing_found, wanted_splits
from voxfide.corpora.datasheet import DataSheet
from voxfide.corpora.inventory import Inventory
from voxfide.corpora.labelled import labelled_parts, split_folders
from voxfide.corpora.tree import Tree
from voxfide.manifest import Manifest

SHEET: Final = DataSheet(
    name="scenefake",
    title="SceneFake: the acoustic scene of an utterance replaced by way of speech enhancement",
    citation="J. Yi et al., SceneFake: An initial dataset and benchmarks for scene fake audio detection, "
    "Pattern Recognition 152, 2024, arXiv:2211.06073",
    licence="see link",
    link="https://zenodo.org/record/7663324",
    layout="{train,dev,eval}/{real,fake}/FILE, as in the public copies; no official protocol was found",
    splits=("train", "dev", "eval"),
    traps=(
        "built on ASVspoof 2019 LA: do not mix the two across splits",
        "the words are genuine in both classes: only the scene is faked",
    ),
)


def prepare(root: Path, split: str | None = None, *, inventory: Inventory) -> Manifest:
    """See :data:`SHEET`."""
    tree, wanted = Tree(root), wanted_splits(SHEET, split)
    named = tree.folders(r"scene[-_ ]?fake[^/]*")
    for base in [*named, "", *tree.listing("").folders]:
        splits = {s: f for s, f in split_folders(tree, base).items() if s in wanted}
        if parts := labelled_parts(tree, base, splits):
            inventory.note(f"taken from {base or 'ROOT itself'}: folders tell split and label")
            return assemble(SHEET, tree, parts, wanted, inventory)
    raise nothing_found(SHEET, tree, [SHEET.layout])
