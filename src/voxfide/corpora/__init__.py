"""Corpora: a data sheet each, and ``prepare(root, split) -> manifest``.

To add one, write a module with ``prepare(root: Path, split: str | None, **options) ->
Manifest`` and register its data sheet here.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voxfide.errors import UsageError
from voxfide.registry import Registry, load_object
from voxfide.types import PathLike

if TYPE_CHECKING:
    from voxfide.manifest import Manifest

__all__ = ["CORPORA", "CorpusSpec", "prepare"]


@dataclass(frozen=True)
class CorpusSpec:
    """A data sheet. ``place`` names the ``prepare`` function; ``layout`` what it expects on disk."""

    name: str
    summary: str
    place: str
    layout: str
    licence: str = "-"
    citation: str = "-"
    link: str = "-"


CORPORA: Registry[CorpusSpec] = Registry("corpus")

CORPORA.register(
    CorpusSpec(
        name="folder",
        summary="any folder tree whose folder names tell label and, if there are any, split",
        place="voxfide.corpora.folder:prepare",
        layout="[SPLIT/]LABEL/[SYSTEM/]…/FILE, in any order of levels; labels: bonafide, real, genuine, "
        "human, … or spoof, fake, …; splits: train, dev, eval and their synonyms",
    )
)
CORPORA.register(
    CorpusSpec(
        name="csv",
        summary="any CSV or TSV with a column of files and one of labels",
        place="voxfide.corpora.csv:prepare",
        layout="a header line; column names are recognised by common synonyms or given with --map",
    )
)
CORPORA.register(
    CorpusSpec(
        name="selftest",
        summary="the corpus that voxfide synthesises by itself to prove its plumbing; not real speech",
        place="voxfide.corpora.selftest.prepare:prepare",
        layout="nothing: it is generated below ROOT",
        licence="Apache-2.0",
    )
)


def prepare(name: str, root: PathLike, split: str | None = None, **options: Any) -> Manifest:
    """Makes the manifest of a corpus that lies at ``root``.

    Raises:
        UnknownNameError: no such corpus.
        UsageError, ManifestError: what lies at ``root`` is not what the data sheet expects.
    """
    spec = CORPORA[name]
    made: Manifest = load_object(spec.place)(Path(root), split, **options)
    if not len(made):
        raise UsageError(f"{root}: no utterances found (corpus {name} expects {spec.layout})")
    return made
