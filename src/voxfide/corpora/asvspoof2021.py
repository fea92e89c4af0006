"""ASVspoof 2021, logical access and deepfake: one evaluation set each, with its keys."""

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

_CITATION: Final = (
    "X. Liu et al., ASVspoof 2021: Towards spoofed and deepfake speech detection in the wild, "
    "IEEE/ACM Transactions on Audio, Speech, and Language Processing 31, 2023, arXiv:2210.02437"
)
_SPLITS: Final = ("eval", "progress", "hidden_track")
_TRAPS: Final = (
    "there is no training data: the challenge trains on asvspoof2019la",
    "published figures are of subset eval; progress and hidden_track are in the keys too, and hidden_track "
    "has its silence trimmed",
    "keys and audio are separate downloads: unpack both below ROOT",
)

SHEET_LA: Final = DataSheet(
    name="asvspoof2021la",
    title="ASVspoof 2021, logical access: the 2019 attacks A07–A19 sent through telephone codecs",
    citation=_CITATION,
    licence="see link",
    link="https://zenodo.org/record/4837263 (audio), https://www.asvspoof.org/index2021.html (keys)",
    layout="keys/LA/CM/trial_metadata.txt (8 columns); audio in ASVspoof2021_LA_eval/flac",
    splits=_SPLITS,
    columns=("speaker", "codec", "transmission", "attack", "trim", "subset"),
    counts=(Count("eval", 148_176, 14_816, 133_360),),
    counts_source="Liu et al. 2023, as public repositories repeat it",
    traps=_TRAPS,
)

SHEET_DF: Final = DataSheet(
    name="asvspoof2021df",
    title="ASVspoof 2021, deepfake: over 100 spoofing systems of three sources, through media codecs",
    citation=_CITATION,
    licence="see link",
    link="https://zenodo.org/record/4835108 (audio), https://www.asvspoof.org/index2021.html (keys)",
    layout="keys/DF/CM/trial_metadata.txt (13 columns); audio in ASVspoof2021_DF_eval/flac, which comes in "
    "four archives; folders of the archives beside each other work too",
    splits=_SPLITS,
    columns=(
        "speaker", "codec", "source", "attack", "trim", "subset", "vocoder", "task", "team", "gender_pair",
        "language",
    ),
    counts=(Count("eval", 533_928, 14_869, 519_059),),
    counts_source="Liu et al. 2023, as public repositories repeat it; the keys list 611,829 trials in all",
    traps=_TRAPS,
)  # fmt: skip

_LABELS: Final = {"bonafide": BONAFIDE, "spoof": SPOOF}
_FORM_LA: Final = Form(
    ("speaker", "file", "codec", "transmission", "attack", "label", "trim", "subset"), _LABELS
)
_FORM_DF: Final = Form(
    (
        "speaker", "file", "codec", "source", "attack", "label", "trim", "subset", "vocoder", "task", "team",
        "gender_pair", "language",
    ),
    _LABELS,
)  # fmt: skip


def prepare_la(
    root: Path, split: str | None = None, *, keep_missing: bool = False, inventory: Inventory
) -> Manifest:
    """See :data:`SHEET_LA`."""
    return _prepare(SHEET_LA, "LA", _FORM_LA, root, split, keep_missing, inventory)


def prepare_df(
    root: Path, split: str | None = None, *, keep_missing: bool = False, inventory: Inventory
) -> Manifest:
    """See :data:`SHEET_DF`."""
    return _prepare(SHEET_DF, "DF", _FORM_DF, root, split, keep_missing, inventory)


def _prepare(
    sheet: DataSheet,
    track: str,
    form: Form,
    root: Path,
    split: str | None,
    keep_missing: bool,
    inventory: Inventory,
) -> Manifest:
    tree, problems = Tree(root), Problems(root)
    wanted = wanted_splits(sheet, split)

    def is_of_track(path: Path) -> bool:
        # The keys of both tracks, and of speaker verification, have one and the same name.
        rows = head_rows(path)
        return path.parent.name != "ASV" and any(len(r) > 1 and r[1].startswith(f"{track}_E_") for r in rows)

    files = tree.named(f"{track}/CM/trial_metadata.txt", "trial_metadata.txt", accept=is_of_track)
    if not files:
        raise nothing_found(sheet, tree, [f"{track}/CM/trial_metadata.txt"])
    protocol = read_protocol(root / the_one(tree, files, "key"), [form], problems)
    problems.check()
    assert protocol is not None  # there would have been problems
    folder = f"ASVspoof2021_{track}_eval"
    columns = protocol.columns | {"split": protocol.columns["subset"]}
    part = Part(columns, None, (f"{folder}/flac", folder), f"{folder}/flac/ID.flac")
    return assemble(sheet, tree, [part], wanted, inventory, keep_missing=keep_missing)
