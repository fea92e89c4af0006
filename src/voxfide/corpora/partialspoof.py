"""PartialSpoof: spoofed stretches put into bona fide speech of ASVspoof 2019 LA."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pyarrow as pa

from voxfide.corpora.assemble import Part, assemble, nothing_found, the_one, wanted_splits
from voxfide.corpora.asvspoof2019 import FORM
from voxfide.corpora.datasheet import Count, DataSheet
from voxfide.corpora.inventory import Inventory
from voxfide.corpora.protocol import Problems, Protocol, read_protocol
from voxfide.corpora.segments import has_spoof, read_frame_labels, regions_of_frames
from voxfide.corpora.tree import Tree
from voxfide.errors import UsageError
from voxfide.manifest import Manifest
from voxfide.types import BONAFIDE, BoolArray

RESOLUTIONS: Final = ("0.01", "0.02", "0.04", "0.08", "0.16", "0.32", "0.64")
"""Seconds of a frame, as the label files are named, finest first."""

SHEET: Final = DataSheet(
    name="partialspoof",
    title="PartialSpoof: stretches of ASVspoof 2019 LA spoofs inside bona fide speech, with frame labels",
    citation="L. Zhang et al., The PartialSpoof database and countermeasures for the detection of short fake "
    "speech segments embedded in an utterance, IEEE/ACM Transactions on Audio, Speech, and Language "
    "Processing 31, 2023",
    licence="see link",
    link="https://zenodo.org/record/5766198",
    layout="protocols/PartialSpoof_LA_cm_protocols/PartialSpoof.LA.cm.{train,dev,eval}.trl.txt (5 columns); "
    "audio in {train,dev,eval}/con_wav; segment_labels/{set}_seglab_{0.01…0.64}.npy",
    splits=("train", "dev", "eval"),
    columns=("speaker", "attack", "segments"),
    counts=(Count("train", 25_380), Count("dev", 24_844), Count("eval", 71_237)),
    counts_source="the authors' lists, as public repositories repeat them",
    options={
        "resolution": "seconds of the frames that column segments is made from: "
        f"{', '.join(RESOLUTIONS)}; by default the finest there is; none for no segments",
    },
    traps=(
        "in the label files '0' is spoofed and '1' is bona fide; a frame with any spoofed sample is '0'",
        "label files are pickles: read here by an unpickler that admits arrays of text only",
        "segments are multiples of the resolution; the last may reach beyond the end of the audio",
        "bona fide utterances are those of ASVspoof 2019 LA: do not mix the two across splits",
    ),
)


def prepare(
    root: Path,
    split: str | None = None,
    *,
    resolution: str | float | None = None,
    keep_missing: bool = False,
    inventory: Inventory,
) -> Manifest:
    """See :data:`SHEET`."""
    tree, problems, parts = Tree(root), Problems(root), []
    wanted = wanted_splits(SHEET, split)
    asked = _known(resolution)
    for name in wanted:
        file = f"PartialSpoof.LA.cm.{name}.trl.txt"
        files = tree.named(file)
        if not files:
            inventory.note(f"{name}: no protocol {file} found")
            continue
        protocol = read_protocol(root / the_one(tree, files, f"{name} protocol"), [FORM], problems)
        if protocol is not None:
            columns = dict(protocol.columns)
            if asked != "none" and not problems.found:
                columns |= _segments(tree, protocol, name, asked, inventory)
            parts.append(Part(columns, name, (f"{name}/con_wav",), f"{name}/con_wav/ID.wav"))
    problems.check()
    if not parts:
        raise nothing_found(SHEET, tree, [f"PartialSpoof.LA.cm.{name}.trl.txt" for name in wanted])
    return assemble(SHEET, tree, parts, wanted, inventory, keep_missing=keep_missing)


def frame_labels(root: Path, split: str, resolution: str | float) -> dict[str, BoolArray]:
    """Which frames of each utterance are bona fide, at one resolution in seconds.

    Raises:
        UsageError: no such split or resolution, or no such file below ``root``.
        ManifestError: a file that holds anything but labels.
    """
    tree = Tree(root)
    (name,) = wanted_splits(SHEET, split)
    file = _label_file(tree, name, _known(resolution))
    if file is None:
        raise UsageError(f"{root}: no segment labels {name}_seglab_{resolution}.npy here or below")
    return read_frame_labels(root / file)


def _known(resolution: str | float | None) -> str | None:
    if resolution is None or resolution == "none":
        return resolution
    try:
        return next(r for r in RESOLUTIONS if float(r) == float(resolution))
    except (StopIteration, ValueError):
        raise UsageError(
            f"resolution {resolution!r} (expected one of {', '.join(RESOLUTIONS)}, or none)"
        ) from None


def _label_file(tree: Tree, split: str, resolution: str | None) -> str | None:
    names = [f"{split}_seglab_{r}.npy" for r in ([resolution] if resolution else RESOLUTIONS)]
    files = tree.named(*names)
    return the_one(tree, files, f"segment labels of {split}") if files else None


def _segments(
    tree: Tree, protocol: Protocol, split: str, resolution: str | None, inventory: Inventory
) -> dict[str, pa.Array]:
    file = _label_file(tree, split, resolution)
    if file is None:
        if resolution is not None:
            raise UsageError(f"{tree.root}: no segment labels {split}_seglab_{resolution}.npy here or below")
        inventory.note(f"{split}: no segment labels {split}_seglab_*.npy found: no segments")
        return {}
    labels = read_frame_labels(tree.root / file)
    seconds = float(re.sub(r".*_seglab_|\.npy$", "", file))
    ids = protocol.columns["utterance_id"].to_pylist()
    cells = [regions_of_frames(labels[i], seconds) if i in labels else None for i in ids]
    inventory.note(f"{split}: segments of {seconds} s frames, from {file}")
    if unlabelled := cells.count(None):
        inventory.note(f"{split}: {unlabelled:,} utterances without segment labels")
    words = protocol.columns["label"].to_pylist()
    odd = [i for i, c, w in zip(ids, cells, words, strict=True) if c and has_spoof(c) == (w == BONAFIDE)]
    if odd:
        inventory.note(f"{split}: segments contradict the label of {len(odd):,} utterances, such as {odd[0]}")
    return {"segments": pa.array(cells, pa.string())}
