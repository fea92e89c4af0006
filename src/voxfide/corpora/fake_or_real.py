"""FoR (Fake-or-Real): synthetic speech of commercial and open systems; four variants of one collection."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Final

from voxfide.corpora.assemble import assemble, nothing_found, wanted_splits
from voxfide.corpora.datasheet import DataSheet
from voxfide.corpora.inventory import Inventory
from voxfide.corpora.labelled import labelled_parts, split_folders
from voxfide.corpora.tree import Tree
from voxfide.manifest import Manifest

_VARIANTS: Final = {
    "norm": ("balanced, cut of silence, 16 kHz mono, same loudness", r"for-norm(alized|alised)?"),
    "original": ("as collected from the sources", r"for-orig(inal)?"),
    "2sec": ("for-norm, cut to two seconds", r"for-2sec(onds)?"),
    "rerec": ("for-2sec, played and recorded again", r"for-rerec(orded)?"),
}


def _sheet(variant: str) -> DataSheet:
    what, _ = _VARIANTS[variant]
    return DataSheet(
        name=f"for-{variant}",
        title=f"FoR (Fake-or-Real), variant {variant}: {what}",
        citation="R. Reimao and V. Tzerpos, FoR: A dataset for synthetic speech detection, SpeD 2019",
        licence="see link",
        link="https://bil.eecs.yorku.ca/datasets/",
        layout=f"for-{variant}/{{training,validation,testing}}/{{real,fake}}/FILE",
        splits=("train", "dev", "eval"),
        traps=(
            "the variants hold the same utterances: train on one and test on another only across splits",
            "archives unpack into a folder in a folder, some of another name (for-2seconds, for-rerecorded)",
            "neither system nor speaker is named",
        ),
    )


SHEETS: Final = tuple(_sheet(variant) for variant in _VARIANTS)


def _prepare(variant: str, root: Path, split: str | None = None, *, inventory: Inventory) -> Manifest:
    """See :data:`SHEETS`."""
    sheet = next(s for s in SHEETS if s.name == f"for-{variant}")
    tree, wanted = Tree(root), wanted_splits(sheet, split)
    named = tree.folders(_VARIANTS[variant][1])
    for base in _candidates(tree, named, variant):
        splits = {s: f for s, f in split_folders(tree, base).items() if s in wanted}
        if parts := labelled_parts(tree, base, splits):
            inventory.note(f"taken from {base or 'ROOT itself'}")
            if not named:
                inventory.note(f"no folder is named for-{variant}: whether it is this variant is not known")
            return assemble(sheet, tree, parts, wanted, inventory)
    raise nothing_found(sheet, tree, [sheet.layout])


def _candidates(tree: Tree, named: list[str], variant: str) -> Iterator[str]:
    """Folders of the variant's name and those in them; without any, those that no other variant names."""
    if named:
        for folder in named:
            yield from (found.path for level in tree.levels(folder, depth=2) for found in level)
        return
    others = {f for v, (_, r) in _VARIANTS.items() if v != variant for f in tree.folders(r)}
    if "" not in others:
        yield from ("", *(f for f in tree.listing("").folders if f not in others))


prepare_norm = partial(_prepare, "norm")
prepare_original = partial(_prepare, "original")
prepare_2sec = partial(_prepare, "2sec")
prepare_rerec = partial(_prepare, "rerec")
