"""HABLA: Spanish of five Latin American countries; conversion, synthesis, and one after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from voxfide.corpora.assemble import Part, assemble, nothing_found, wanted_splits
from voxfide.corpora.datasheet import Count, DataSheet
from voxfide.corpora.inventory import Inventory
from voxfide.corpora.labelled import SPLITS, rows_of
from voxfide.corpora.labels import split_of
from voxfide.corpora.tree import Tree, join
from voxfide.errors import UsageError
from voxfide.manifest import Manifest
from voxfide.types import BONAFIDE, SPOOF

SHEET: Final = DataSheet(
    name="habla",
    title="HABLA: Argentinian, Chilean, Colombian, Peruvian and Venezuelan Spanish",
    citation="P. A. Tamayo Flórez, R. Manrique and B. Pereira Nunes, HABLA: A dataset of Latin American "
    "Spanish accents for voice anti-spoofing, Interspeech 2023",
    licence="see link",
    link="https://www.isca-archive.org/interspeech_2023/tamayoflorez23_interspeech.html",
    layout="FinalDataset_16khz/{Real,CycleGAN,Diff,StarGAN,TTS,TTS-VC}/…/FILE: the folder tells class and "
    "system; splits from protocol.txt if it has a column of files and one of splits",
    splits=SPLITS,
    columns=("attack", "system", "accent", "speaker"),
    counts=(Count("", 80_816),),
    counts_source="one public listing of the distributed folders",
    traps=(
        "the columns of protocol.txt are not documented: what was taken for files and splits is said, and "
        "without such columns there are no splits",
        "the same speakers are in real and in converted speech",
    ),
)

_SYSTEMS: Final = ("CycleGAN", "Diff", "StarGAN", "TTS", "TTS-VC")
_FITTING: Final = 0.9
"""Share of a protocol's rows that must fit for a column to be taken for what it seems."""


def prepare(root: Path, split: str | None = None, *, inventory: Inventory) -> Manifest:
    """See :data:`SHEET`."""
    tree, wanted = Tree(root), wanted_splits(SHEET, split)
    real = [f for f in tree.folders("Real") if set(tree.listing(_parent(f)).folders) & set(_SYSTEMS)]
    if not real:
        raise nothing_found(SHEET, tree, [SHEET.layout])
    base = _parent(real[0])
    parts = [_class(tree, base, name) for name in ("Real", *_SYSTEMS) if name in tree.listing(base).folders]
    splits = _splits(tree, base, inventory)
    if not splits and split is not None:
        raise UsageError(
            f"{root}: split {split!r} cannot be told: "
            f"{base or '.'}/protocol.txt is not there or has no column of splits"
        )
    if not splits:
        inventory.note("no splits: label and system come from the folders")
        for part in parts:
            del part["split"]
        return assemble(replace(SHEET, splits=()), tree, [Part(p) for p in parts], [], inventory)
    for part in parts:
        part["split"] = [splits.get(_stem(str(path))) for path in part["path"]]
    unlisted = sum(part["split"].count(None) for part in parts)
    if unlisted:
        inventory.note(f"{unlisted:,} files are not in protocol.txt: left out")
    return assemble(SHEET, tree, [Part(p) for p in parts], wanted, inventory)


def _class(tree: Tree, base: str, name: str) -> dict[str, list[str | None]]:
    """Rows of ``Real/COUNTRY/SPEAKER/FILE`` or ``SYSTEM/COUNTRY…/…/FILE``."""
    folder = join(base, name)
    label = BONAFIDE if name == "Real" else SPOOF
    columns: dict[str, list[str | None]] = {
        k: list(v)
        for k, v in rows_of(tree.audio_below(folder), base, label=label, attack=name, system=name).items()
    }
    places = [str(path)[len(folder) + 1 :].split("/")[:-1] for path in columns["path"]]
    levels = [[p for p in place if not p.startswith("TTS")] for place in places]
    columns["accent"] = [level[0] if level else None for level in levels]
    columns["speaker"] = [level[1] if len(level) > 1 else None for level in levels]
    columns["split"] = [None] * len(places)
    return columns


def _splits(tree: Tree, base: str, inventory: Inventory) -> dict[str, str]:
    """File to split, from whichever columns of protocol.txt hold files and names of splits."""
    if "protocol.txt" not in tree.listing(base).others:
        return {}
    path = tree.root / base / "protocol.txt"
    text = path.read_text(encoding="utf-8-sig", errors="replace")
    delimiter = next((d for d in (",", ";", "\t", "|") if d in text[:4096]), None)
    rows = [[cell.strip() for cell in line.split(delimiter)] for line in text.splitlines() if line.strip()]
    stems = [_stem(path) for path in tree.audio_below(base)]
    here = set(stems)
    if len(here) < len(stems):
        inventory.note("protocol.txt was not used: file names occur in several folders")
        return {}
    files = _column(rows, lambda cell: _stem(cell) in here)
    splits = _column(rows, lambda cell: split_of(cell) is not None)
    if files is None or splits is None:
        inventory.note(
            f"protocol.txt was not understood: no column of {'files' if files is None else 'splits'}"
        )
        return {}
    inventory.note(f"protocol.txt: column {files + 1} taken for files, column {splits + 1} for splits")
    found = ((_stem(r[files]), split_of(r[splits])) for r in rows if len(r) > max(files, splits))
    return {stem: split for stem, split in found if split}


def _column(rows: Sequence[Sequence[str]], fits: Callable[[str], bool]) -> int | None:
    """The column in which most cells fit, counted from 0."""
    width = min(map(len, rows), default=0)
    shares = [sum(fits(row[i]) for row in rows) / len(rows) for i in range(width)]
    best = max(range(width), key=lambda i: shares[i], default=None)
    return best if best is not None and shares[best] >= _FITTING else None


def _parent(folder: str) -> str:
    return folder.rpartition("/")[0]


def _stem(path: str) -> str:
    """Name of a file without folder and audio suffix."""
    name = path.replace("\\", "/").rpartition("/")[2]
    return name.removesuffix(".wav")
