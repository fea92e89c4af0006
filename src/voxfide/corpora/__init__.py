"""Corpora: a data sheet each, and ``prepare(root, split) -> manifest``.

To add one, write a module with a :class:`~voxfide.corpora.datasheet.DataSheet` and
``prepare(root: Path, split: str | None, **options) -> Manifest``, and register both here.
Only the module of the corpus that is asked for is imported.
"""

from __future__ import annotations

import inspect
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voxfide.errors import UsageError
from voxfide.registry import Registry, load_object
from voxfide.types import PathLike

if TYPE_CHECKING:
    from voxfide.corpora.datasheet import DataSheet
    from voxfide.corpora.inventory import Inventory
    from voxfide.manifest import Manifest

__all__ = ["CORPORA", "CorpusSpec", "corpus", "data_sheet", "prepare"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CorpusSpec:
    """What is known of a corpus before its module is imported.

    Attributes:
        name, summary: for lists.
        place: module and name of its ``prepare`` function.
        sheet: module and name of its data sheet, or of several.
        aliases: other names that people use.
    """

    name: str
    summary: str
    place: str
    sheet: str
    aliases: tuple[str, ...] = ()


CORPORA: Registry[CorpusSpec] = Registry("corpus")

# Name, summary, prepare function, data sheet, aliases.
# fmt: off
_OURS: tuple[tuple[str, str, str, str, tuple[str, ...]], ...] = (
    ("folder", "any folder tree whose folder names tell label and, if there are any, split",
     "folder:prepare", "generic:SHEETS", ()),
    ("csv", "any CSV or TSV with a column of files and one of labels",
     "csv:prepare", "generic:SHEETS", ()),
    ("shards", "tar shards in WebDataset's convention, or Parquet files that hold audio",
     "shards:prepare", "generic:SHEETS", ("webdataset", "wds", "parquet")),
    ("selftest", "the corpus that voxfide synthesises by itself to prove its plumbing; not real speech",
     "selftest.prepare:prepare", "generic:SHEETS", ()),
    ("asvspoof5", "ASVspoof 5, track 1: crowdsourced speech, 32 attacks, codecs",
     "asvspoof5:prepare", "asvspoof5:SHEET", ("asvspoof2024", "asvspoof-5")),
    ("asvspoof2019la", "ASVspoof 2019, logical access",
     "asvspoof2019:prepare", "asvspoof2019:SHEET", ("la19", "asvspoof2019", "asvspoof2019-la")),
    ("asvspoof2021la", "ASVspoof 2021, logical access: telephone codecs",
     "asvspoof2021:prepare_la", "asvspoof2021:SHEET_LA", ("la21", "asvspoof2021-la")),
    ("asvspoof2021df", "ASVspoof 2021, deepfake: over 100 systems, media codecs",
     "asvspoof2021:prepare_df", "asvspoof2021:SHEET_DF", ("df21", "asvspoof2021-df")),
    ("inthewild", "In-the-Wild: deepfakes of public figures",
     "inthewild:prepare", "inthewild:SHEET", ("itw", "in-the-wild")),
    ("for-norm", "FoR (Fake-or-Real), normalised",
     "fake_or_real:prepare_norm", "fake_or_real:SHEETS", ("for", "fake-or-real")),
    ("for-original", "FoR (Fake-or-Real), as collected",
     "fake_or_real:prepare_original", "fake_or_real:SHEETS", ()),
    ("for-2sec", "FoR (Fake-or-Real), cut to two seconds",
     "fake_or_real:prepare_2sec", "fake_or_real:SHEETS", ("for-2seconds",)),
    ("for-rerec", "FoR (Fake-or-Real), played and recorded again",
     "fake_or_real:prepare_rerec", "fake_or_real:SHEETS", ("for-rerecorded",)),
    ("add2022", "ADD 2022: Mandarin, low-quality fakes",
     "add:prepare_2022", "add:SHEET_2022", ("add22",)),
    ("add2023-1.2", "ADD 2023, track 1.2: Mandarin, two test rounds",
     "add:prepare_2023", "add:SHEET_2023", ("add23", "add23-1.2", "add2023")),
    ("add2023-2", "ADD 2023, track 2: Mandarin, replaced regions",
     "half_truth:prepare_add", "half_truth:SHEET_ADD", ("add23-2",)),
    ("habla", "HABLA: Latin American Spanish",
     "habla:prepare", "habla:SHEET", ()),
    ("partialspoof", "PartialSpoof: spoofed stretches in bona fide speech",
     "partialspoof:prepare", "partialspoof:SHEET", ("partial-spoof",)),
    ("had", "HAD: Mandarin with some words replaced",
     "half_truth:prepare_had", "half_truth:SHEET_HAD", ("half-truth",)),
    ("scenefake", "SceneFake: replaced acoustic scenes",
     "scenefake:prepare", "scenefake:SHEET", ()),
    ("ctrsvdd", "CtrSVDD: singing voice deepfakes",
     "ctrsvdd:prepare", "ctrsvdd:SHEET", ("svdd",)),
    ("mlaad", "MLAAD: many systems and languages, with M-AILABS for bona fide",
     "mlaad:prepare", "mlaad:SHEET", ()),
)
# fmt: on
for _name, _summary, _place, _sheet, _aliases in _OURS:
    CORPORA.register(
        CorpusSpec(_name, _summary, f"voxfide.corpora.{_place}", f"voxfide.corpora.{_sheet}", _aliases)
    )

_ALIASES = {alias: spec.name for spec in CORPORA for alias in spec.aliases}


def corpus(name: str) -> CorpusSpec:
    """A corpus by its name or an alias, in any case.

    Raises:
        UnknownNameError: no such corpus.
    """
    plain = name.lower().replace("_", "-")
    return CORPORA[_ALIASES.get(plain, plain)]


def data_sheet(name: str) -> DataSheet:
    """The data sheet of a corpus; imports its module."""
    spec = corpus(name)
    found = load_object(spec.sheet)
    sheets = found if isinstance(found, tuple) else (found,)
    sheet: DataSheet = next(s for s in sheets if s.name == spec.name)
    return sheet


def prepare(
    name: str, root: PathLike, split: str | None = None, *, inventory: Inventory | None = None, **options: Any
) -> Manifest:
    """Makes the manifest of a corpus that lies at ``root``, or somewhere below it.

    No audio is opened. Utterances whose audio is not there are left out, unless
    ``keep_missing=True``; how many there are is said in ``inventory``, or else logged.

    Args:
        name: of the corpus, or an alias.
        root: the corpus's folder or a parent of it; for ``csv`` a file.
        split: one of those that the data sheet names; None for all there are.
        inventory: filled with what was found, and in which form, what is missing or surplus.
        options: settings of this corpus; see its data sheet.

    Raises:
        UnknownNameError: no such corpus.
        UsageError: an option that the corpus does not have, or nothing of it at ``root``.
        ManifestError: malformed files; says every line.
    """
    from voxfide.corpora.inventory import Inventory as NewInventory

    spec = corpus(name)
    function = load_object(spec.place)
    accepted = list(inspect.signature(function).parameters)[2:]
    unknown = [option for option in options if option not in accepted or option == "inventory"]
    if unknown:
        known = ", ".join(o for o in accepted if o != "inventory") or "none"
        raise UsageError(f"corpus {spec.name} has no option {', '.join(unknown)} (options: {known})")
    taken = NewInventory() if inventory is None else inventory
    if "inventory" in accepted:
        options["inventory"] = taken
    made: Manifest = function(Path(root), split, **options)
    if inventory is None:
        for line in taken.shortfalls():
            log.warning("%s: %s", spec.name, line)
    if not len(made):
        raise UsageError(
            f"{root}: no utterances found (corpus {spec.name} expects {data_sheet(name).layout})"
        )
    return made
