"""ASVspoof 5, track 1 (stand-alone detection)."""

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
    name="asvspoof5",
    title="ASVspoof 5, track 1: crowdsourced speech, 32 attacks, codecs, adversarial attacks",
    citation="X. Wang et al., ASVspoof 5: Design, collection and validation of resources for spoofing, "
    "deepfake, and adversarial attack detection using crowdsourced speech, arXiv:2502.08857",
    licence="ODC-By 1.0",
    link="https://zenodo.org/records/14498691",
    layout="ASVspoof5.train.tsv, ASVspoof5.dev.track_1.tsv, ASVspoof5.eval.track_1.tsv (10 columns) or the "
    "challenge's *.metadata.txt (6 columns) and lists without labels; audio in flac_T, flac_D, "
    "flac_E_eval, flac_E_prog",
    splits=("train", "dev", "eval", "progress"),
    columns=("speaker", "gender", "codec", "codec_quality", "codec_seed", "attack_tag", "attack"),
    counts=(
        Count("train", 182_357, 18_797, 163_560),
        Count("dev", 140_950, 31_334, 109_616),
        Count("eval", 680_774, 138_688, 542_086),
        Count("progress", 40_765),
    ),
    counts_source="the corpus paper, as public repositories repeat it",
    traps=(
        "the .tsv files are separated by spaces, with ten columns; the label is the ninth",
        "flac_D and flac_E_eval also hold enrolment files of track 2 (D_A…, E_A…): surplus here",
        "the progress set has no labels; its files were part of the challenge's first phase only",
    ),
)

_LABELS: Final = {"bonafide": BONAFIDE, "spoof": SPOOF}
_FORMS: Final = (
    Form(
        (
            "speaker",
            "file",
            "gender",
            "codec",
            "codec_quality",
            "codec_seed",
            "attack_tag",
            "attack",
            "label",
            "_",
        ),
        _LABELS,
    ),
    Form(("speaker", "file", "gender", "_", "attack", "label"), _LABELS),
    Form(("file",)),
)
_FILES: Final = {
    "train": ("ASVspoof5.train.tsv", "ASVspoof5.train.metadata.txt", "ASVspoof5.train.metainfor.txt"),
    "dev": ("ASVspoof5.dev.track_1.tsv", "ASVspoof5.dev.metadata.txt", "ASVspoof5.dev.metainfor.txt"),
    "eval": (
        "ASVspoof5.eval.track_1.tsv", "ASVspoof5.eval.metadata.txt", "ASVspoof5.eval.metainfor.txt",
        "ASVspoof5.track_1.eval.trial.txt",
    ),
    "progress": ("ASVspoof5.track_1.progress.trial.txt",),
}  # fmt: skip
_FOLDERS: Final = {"train": "flac_T", "dev": "flac_D", "eval": "flac_E_eval", "progress": "flac_E_prog"}
_OTHER_FOLDERS: Final = {"eval": ("flac_E",), "progress": ("flac_E_progress", "flac_E")}


def prepare(
    root: Path, split: str | None = None, *, keep_missing: bool = False, inventory: Inventory
) -> Manifest:
    """See :data:`SHEET`."""
    tree, problems, parts = Tree(root), Problems(root), []
    wanted = wanted_splits(SHEET, split)
    for name in wanted:
        files = tree.named(*_FILES[name])
        if not files:
            inventory.note(f"{name}: no protocol {_FILES[name][0]} found")
            continue
        protocol = read_protocol(root / the_one(tree, files, f"{name} protocol"), _FORMS, problems)
        if protocol is not None:
            inventory.note(f"{name}: {protocol}")
            folders = (_FOLDERS[name], *_OTHER_FOLDERS.get(name, ()))
            hint = "enrolment files of track 2 lie there too" if name in ("dev", "eval") else ""
            parts.append(Part(protocol.columns, name, folders, f"{_FOLDERS[name]}/ID.flac", hint))
    problems.check()
    if not parts:
        raise nothing_found(SHEET, tree, [file for name in wanted for file in _FILES[name]])
    return assemble(SHEET, tree, parts, wanted, inventory, keep_missing=keep_missing)


def trial_list(path: Path) -> list[str]:
    """Ids of the trials of one protocol file, in its order.

    Raises:
        ManifestError: not a protocol of this corpus, or ids that repeat.
    """
    problems = Problems(path.parent)
    protocol = read_protocol(path, _FORMS, problems)
    problems.check()
    assert protocol is not None  # else there was a problem
    return [str(name) for name in protocol.columns["utterance_id"].to_pylist()]
