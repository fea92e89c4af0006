"""In-the-Wild: deepfakes of public figures, collected from the web."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from voxfide.corpora.assemble import Part, assemble, nothing_found, the_one, wanted_splits
from voxfide.corpora.datasheet import Count, DataSheet
from voxfide.corpora.inventory import Inventory
from voxfide.corpora.protocol import Problems, head_rows, read_headed
from voxfide.corpora.tree import Tree
from voxfide.manifest import Manifest
from voxfide.types import BONAFIDE, SPOOF

SHEET: Final = DataSheet(
    name="inthewild",
    title="In-the-Wild: English deepfakes of public figures from the web, for evaluation",
    citation="N. M. Müller et al., Does audio deepfake detection generalize?, Interspeech 2022, "
    "arXiv:2203.16263",
    licence="CC BY-SA 4.0",
    link="https://deepfake-total.com/in_the_wild",
    layout="release_in_the_wild/meta.csv (file,speaker,label) with the audio beside it",
    columns=("speaker",),
    counts=(Count("", 31_779, 19_963, 11_816),),
    counts_source="the distributed meta.csv, as public repositories count it",
    traps=(
        "there are no splits: it is an evaluation set; do not tune on it",
        "attacks are unknown; files are 16 kHz WAV in 32-bit floating point",
    ),
)

_COLUMNS: Final = ("file", "speaker", "label")


def prepare(
    root: Path, split: str | None = None, *, keep_missing: bool = False, inventory: Inventory
) -> Manifest:
    """See :data:`SHEET`."""
    tree, problems = Tree(root), Problems(root)
    wanted = wanted_splits(SHEET, split)
    files = tree.named("release_in_the_wild/meta.csv") or tree.named("meta.csv", accept=_has_columns)
    if not files:
        raise nothing_found(SHEET, tree, ["release_in_the_wild/meta.csv with columns file, speaker, label"])
    meta = the_one(tree, files, "meta.csv")
    labels = {"bona-fide": BONAFIDE, "bonafide": BONAFIDE, "spoof": SPOOF}
    protocol = read_headed(root / meta, b",", _COLUMNS, labels, problems, quoted=True)
    problems.check()
    assert protocol is not None  # there would have been problems
    folder = meta.rpartition("/")[0]
    inventory.note(str(protocol))
    expected = f"{folder}/ID.wav" if folder else "ID.wav"
    part = Part(protocol.columns, None, ("wavs?",), expected, beside=folder)
    return assemble(SHEET, tree, [part], wanted, inventory, keep_missing=keep_missing)


def _has_columns(path: Path) -> bool:
    """``meta.csv`` is a name that other corpora use too."""
    return any(set(_COLUMNS) <= set(row) for row in head_rows(path, b",")[:1])
