"""Synonyms that people use for labels and splits, in folder names and in tables."""

from __future__ import annotations

from typing import Final

from voxfide.types import BONAFIDE, SPOOF, UNKNOWN

_LABELS: Final = {
    BONAFIDE: ("bonafide", "bona", "real", "genuine", "human", "authentic", "original"),
    SPOOF: ("spoof", "spoofed", "fake", "deepfake", "synthetic", "generated", "ai"),
    UNKNOWN: ("unknown", "unlabelled", "unlabeled"),
}
_SPLITS: Final = {
    "train": ("train", "training", "trn"),
    "dev": ("dev", "development", "val", "valid", "validation"),
    "eval": ("eval", "evaluation", "test", "testing"),
}

LABEL_SYNONYMS: Final = {word: label for label, words in _LABELS.items() for word in words}
SPLIT_SYNONYMS: Final = {word: split for split, words in _SPLITS.items() for word in words}


def label_of(text: str) -> str | None:
    """``bonafide``, ``spoof``, ``unknown``, or None where the word is none of their synonyms."""
    return LABEL_SYNONYMS.get(_plain(text))


def split_of(text: str) -> str | None:
    """``train``, ``dev``, ``eval``, or None where the word is none of their synonyms."""
    return SPLIT_SYNONYMS.get(_plain(text))


def _plain(text: str) -> str:
    return text.strip().lower().replace("-", "").replace("_", "").replace(" ", "")
