"""The self-test corpus as an entry of the corpus registry."""

from __future__ import annotations

from pathlib import Path

from voxfide.corpora.selftest.generate import generate_selftest
from voxfide.manifest import Manifest


def prepare(root: Path, split: str | None = None) -> Manifest:
    """Generates the corpus below ``root``, or what is missing of it, and returns its manifest."""
    return Manifest.read(generate_selftest(root)).split(split)
