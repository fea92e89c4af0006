"""ASVspoof 2019, logical access."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from voxfide.corpora.assemble import Part, assemble, nothing_found, the_one, wanted_splits
from voxfide.corpora.datasheet import Count, DataSheet
from voxfide.corpora.inventory import Inventory
from voxfide.corpora.protocol import Form, Problems, read_protocol
from voxfide.corpora.tree import Tree
from voxfide.manifest import Manifest
from voxfide.types import BONAFIDE, SPOOF

SHEET: Final = DataSheet(
    name="asvspoof2019la",
    title="ASVspoof 2019, logical access: VCTK speech, attacks A01–A19",
    citation="X. Wang et al., ASVspoof 2019: A large-scale public database of synthesized, converted and "
    "replayed speech, Computer Speech & Language 64, 2020, arXiv:1911.01601",
    licence="ODC-By 1.0",
    link="https://datashare.ed.ac.uk/handle/10283/3336",
    layout="ASVspoof2019.LA.cm.train.trn.txt, …dev.trl.txt, …eval.trl.txt (5 columns); "
    "audio in ASVspoof2019_LA_{train,dev,eval}/flac",
    splits=("train", "dev", "eval"),
    columns=("speaker", "attack"),
    counts=(
        Count("train", 25_380, 2_580, 22_800),
        Count("dev", 24_844, 2_548, 22_296),
        Count("eval", 71_237, 7_355, 63_882),
    ),
    counts_source="the corpus paper, as public repositories repeat it",
    traps=(
        "attacks A01–A06 are in train and dev, A07–A19 in eval (where A16 is A04 and A19 is A06 again)",
        "the folders of dev and eval also hold enrolment files for speaker verification: surplus here",
        "silence at the ends differs between the classes and gives systems away",
    ),
)

FORM: Final = Form(("speaker", "file", "_", "attack", "label"), {"bonafide": BONAFIDE, "spoof": SPOOF})
_FILES: Final = {
    "train": "ASVspoof2019.LA.cm.train.trn.txt",
    "dev": "ASVspoof2019.LA.cm.dev.trl.txt",
    "eval": "ASVspoof2019.LA.cm.eval.trl.txt",
}


def prepare(
    root: Path, split: str | None = None, *, keep_missing: bool = False, inventory: Inventory
) -> Manifest:
    """See :data:`SHEET`."""
    tree, problems, parts = Tree(root), Problems(root), []
    wanted = wanted_splits(SHEET, split)
    for name in wanted:
        files = tree.named(_FILES[name])
        if not files:
            inventory.note(f"{name}: no protocol {_FILES[name]} found")
            continue
        protocol = read_protocol(root / the_one(tree, files, f"{name} protocol"), [FORM], problems)
        if protocol is not None:
            folder = f"ASVspoof2019_LA_{name}"
            hint = "enrolment files for speaker verification lie there too" if name != "train" else ""
            expected = f"{folder}/flac/ID.flac"
            parts.append(Part(protocol.columns, name, (f"{folder}/flac", folder), expected, hint))
    problems.check()
    if not parts:
        raise nothing_found(SHEET, tree, [_FILES[name] for name in wanted])
    return assemble(SHEET, tree, parts, wanted, inventory, keep_missing=keep_missing)
