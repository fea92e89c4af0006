"""Corpora without a protocol: the folders of the official layout tell split and label."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final

from voxfide.corpora.assemble import Part
from voxfide.corpora.labels import label_of, split_of
from voxfide.corpora.tree import Tree, join
from voxfide.types import UNKNOWN

SPLITS: Final = ("train", "dev", "eval")


def rows_of(files: Iterable[str], base: str, **columns: str) -> dict[str, list[str]]:
    """Columns for audio files below ``base``; the id is the path from there, without suffix if unique."""
    paths = list(files)
    names = [path[len(base) + 1 :] if base else path for path in paths]
    stems = [name.rpartition(".")[0] for name in names]
    counts = Counter(stems)
    ids = [stem if counts[stem] == 1 else name for stem, name in zip(stems, names, strict=True)]
    return {"utterance_id": ids, "path": paths} | {k: [v] * len(paths) for k, v in columns.items()}


def split_folders(tree: Tree, base: str) -> Mapping[str, str]:
    """Split to the folder right below ``base`` that holds it, where that has folders of both classes."""
    found = {}
    for name in tree.listing(base).folders:
        folder = join(base, name)
        classes = {label_of(child) for child in tree.listing(folder).folders}
        if (split := split_of(name)) and classes - {None, UNKNOWN}:
            found[split] = folder
    return found


def labelled_parts(tree: Tree, base: str, splits: Mapping[str, str]) -> list[Part]:
    """One part for each class of each split: ``SPLIT/LABEL/…/FILE``."""
    parts = []
    for split, folder in splits.items():
        for name in tree.listing(folder).folders:
            label = label_of(name)
            if label and label != UNKNOWN:
                rows = rows_of(tree.audio_below(f"{folder}/{name}"), base, label=label)
                parts.append(Part(rows, split))
    return [part for part in parts if part.columns["path"]]
