"""CtrSVDD: singing voice deepfakes made under control."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from voxfide.corpora.assemble import Part, assemble, nothing_found, the_one, wanted_splits
from voxfide.corpora.datasheet import Count, DataSheet
from voxfide.corpora.inventory import Inventory
from voxfide.corpora.protocol import Form, Problems, head_rows, read_protocol
from voxfide.corpora.tree import Tree
from voxfide.manifest import Manifest
from voxfide.types import BONAFIDE, SPOOF

SHEET: Final = DataSheet(
    name="ctrsvdd",
    title="CtrSVDD: Mandarin and Japanese singing, 14 synthesis and conversion systems",
    citation="Y. Zang et al., CtrSVDD: A benchmark dataset and baseline analysis for controlled singing "
    "voice deepfake detection, Interspeech 2024, arXiv:2406.02438",
    licence="CC BY-NC-ND 4.0; some bona fide sources have terms of their own",
    link="https://zenodo.org/records/10467648 (train, dev), https://zenodo.org/records/12703261 (eval)",
    layout="train.txt, dev.txt, eval.txt (6 columns, or one without labels); audio in train_set, dev_set, "
    "eval_set (or train, dev, eval)",
    splits=("train", "dev", "eval"),
    columns=("source", "speaker", "attack"),
    counts=(Count("", 220_798),),
    counts_source="https://svddchallenge.org",
    traps=(
        "bona fide singing of four sources (Oniku, Ofuton, Kiritan, JVS-MuSiC) is not in the archives and "
        "must be cut from the originals: without it those rows are missing",
    ),
)

_FORMS: Final = (
    Form(("source", "speaker", "file", "_", "attack", "label"), {"bonafide": BONAFIDE, "deepfake": SPOOF}),
    Form(("file",)),
)


def prepare(
    root: Path, split: str | None = None, *, keep_missing: bool = False, inventory: Inventory
) -> Manifest:
    """See :data:`SHEET`."""
    tree, problems, parts = Tree(root), Problems(root), []
    wanted = wanted_splits(SHEET, split)
    for name in wanted:
        files = tree.named(f"{name}.txt", f"{name}_key.txt", f"{name}_set.txt", accept=_looks_right)
        if not files:
            inventory.note(f"{name}: no protocol {name}.txt found")
            continue
        protocol = read_protocol(root / the_one(tree, files, f"{name} protocol"), _FORMS, problems)
        if protocol is not None:
            inventory.note(f"{name}: {protocol}")
            parts.append(Part(protocol.columns, name, (f"{name}_set", name), f"{name}_set/ID.flac"))
    problems.check()
    if not parts:
        raise nothing_found(
            SHEET, tree, [f"{name}.txt (lines: SOURCE SINGER FILE - ATTACK LABEL)" for name in wanted]
        )
    return assemble(SHEET, tree, parts, wanted, inventory, keep_missing=keep_missing)


def _looks_right(path: Path) -> bool:
    """``train.txt`` is a name that anything may have."""
    return any("CtrSVDD" in cell for row in head_rows(path) for cell in row)
