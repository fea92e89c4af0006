"""Which front-ends a benchmark measures, with what weights and how many layers."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from voxfide.errors import UnknownNameError, UsageError
from voxfide.files import read_yaml
from voxfide.frontends import FRONTENDS
from voxfide.frontends.specs import FrontendSpec
from voxfide.hub import is_hub_id
from voxfide.jobs import FileState
from voxfide.types import PathLike

PUBLISHED: Final = {
    "LEAF": "leaf",
    "Distill-HuBERT": "distilhubert",
    "ECAPA-TDNN": "ecapa-tdnn",
    "HEAR's YAMNet": "yamnet",
    "TitaNet-large": "titanet-large",
    "BEATs": "beats",
    "DeCoAR2": "decoar2",
    "HuBERT": "hubert-base-ls960",
    "wav2vec2-base": "wav2vec2-base",
    "wavLM-base": "wavlm-base",
    "wavLM-large": "wavlm-large",
    "wav2vec2-xls-r-2b": "wav2vec2-xls-r-2b",
}
"""The paper's twelve representations (Combei et al. 2024, table 1), and what they are called here."""

NO_REPRESENTATION: Final = ("waveform",)
"""Registered for back-ends that read samples: their mean over time means nothing."""

GROUPS: Final = ("all", "table1")
"""Names that stand for several front-ends."""


@dataclass(frozen=True)
class BenchmarkFrontend:
    """A front-end to be measured.

    Attributes:
        label: its name in tables and of its folder.
        name: registered name, hub id or model folder.
        options: settings, such as ``weights``.
    """

    label: str
    name: str
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def spec(self) -> FrontendSpec | None:
        """What is registered under its name or, for a folder or a hub id, under its label."""
        known = next((n for n in (self.name, self.label) if n in FRONTENDS), None)
        by_hub = next((s for s in FRONTENDS if s.hub_id == self.name), None)
        return FRONTENDS[known] if known else by_hub

    @property
    def folder(self) -> Path | None:
        """The model folder, where the name is one."""
        path = Path(self.name).expanduser()
        return path if self.name not in FRONTENDS and path.is_dir() else None

    def files(self) -> list[FileState]:
        """States of the files that its weights come from, as far as they are given."""
        given = [Path(str(v)).expanduser() for k, v in self.options.items() if k == "weights"]
        if self.folder is not None:
            given += sorted(p for p in self.folder.iterdir() if p.is_file())
        return [FileState.of(path) for path in given]


def choose(names: Sequence[str], options: Sequence[tuple[str, str, Any]] = ()) -> list[BenchmarkFrontend]:
    """Front-ends by name.

    Args:
        names: registered names, hub ids, model folders, each with ``LABEL=`` before it or not;
            ``all`` that are registered, ``table1`` for the paper's twelve; or YAML files, see
            :func:`read_choices`.
        options: label, setting, value.

    Raises:
        UsageError: everything that is wrong: unknown names, files that are not there, labels
            that repeat, settings of front-ends that are not chosen.
    """
    problems: list[str] = []
    chosen: list[BenchmarkFrontend] = []
    for item in names:
        try:
            chosen += _named(item)
        except UsageError as error:
            problems.append(str(error))
    labels = [c.label for c in chosen]
    for label, setting, value in options:
        if label not in labels:
            problems.append(f"setting {label}:{setting}: {label} is not among the front-ends")
        chosen = [
            replace(c, options={**c.options, setting: value}) if c.label == label else c for c in chosen
        ]
    problems += [f"{label} is named twice" for label in dict.fromkeys(labels) if labels.count(label) > 1]
    for choice in chosen:
        problems += _problems(choice)
    if not chosen and not problems:
        problems.append("no front-ends")
    if problems:
        raise UsageError.listing("front-ends", problems)
    return chosen


def _named(item: str) -> list[BenchmarkFrontend]:
    if item == "all":
        return [BenchmarkFrontend(s.name, s.name) for s in FRONTENDS if s.name not in NO_REPRESENTATION]
    if item == "table1":
        return [BenchmarkFrontend(name, name) for name in PUBLISHED.values()]
    if item.lower().endswith((".yaml", ".yml")):
        return read_choices(item)
    label, equals, name = item.partition("=")
    if not equals:
        label = name = item
    return [BenchmarkFrontend(Path(label).name, name)]


def read_choices(path: PathLike) -> list[BenchmarkFrontend]:
    """A list of front-ends in YAML: names, or mappings of ``frontend``, ``label`` and ``options``.

    Relative folders and weights files start from the file's own folder.

    Raises:
        UsageError: not such a list; says everything that is wrong with it.
    """
    path = Path(path)
    content = read_yaml(path)
    if not isinstance(content, list):
        raise UsageError(f"{path}: expected a list of front-ends, found a {type(content).__name__}")
    chosen: list[BenchmarkFrontend] = []
    problems: list[str] = []
    for number, item in enumerate(content, 1):
        entry: Any = {"frontend": item} if isinstance(item, str) else item
        if not isinstance(entry, dict) or not _is_entry(entry):
            problems.append(f"entry {number}: {item!r} (expected a name, or frontend, label, options)")
            continue
        name = str(entry["frontend"])
        options = dict(entry.get("options") or {})
        if name not in FRONTENDS and (path.parent / name).is_dir():
            name = str(path.parent / name)
        if "weights" in options:
            options["weights"] = str(path.parent / Path(str(options["weights"])).expanduser())
        chosen.append(BenchmarkFrontend(str(entry.get("label") or Path(name).name), name, options))
    if problems:
        raise UsageError(f"{path}: " + "; ".join(problems))
    return chosen


def _is_entry(entry: Mapping[str, Any]) -> bool:
    return (
        isinstance(entry.get("frontend"), str)
        and set(entry) <= {"frontend", "label", "options"}
        and isinstance(entry.get("options") or {}, dict)
    )


def _problems(choice: BenchmarkFrontend) -> list[str]:
    found = []
    if choice.name not in FRONTENDS and choice.folder is None and not is_hub_id(choice.name):
        close = difflib.get_close_matches(choice.name, [*FRONTENDS.names(), *GROUPS], n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        found.append(f"{choice.name}: no registered front-end, model folder or hub id{hint}")
    weights = choice.options.get("weights")
    if weights is not None and not Path(str(weights)).expanduser().is_file():
        found.append(f"{choice.label}: no weights file {weights}")
    if not choice.label or choice.label in (".", "..") or "/" in choice.label:
        found.append(f"label {choice.label!r} (expected a name without slashes)")
    return found


def check_layer(choices: Sequence[BenchmarkFrontend], n_layers: int | None, layer: str | int) -> list[str]:
    """Front-ends that do not have the layer that is to be measured, as far as that is known."""
    from voxfide.studies.depth import depth_of

    if not isinstance(layer, int):
        return []
    problems = []
    for choice in choices:
        if choice.name not in FRONTENDS and choice.folder is None:
            continue  # on the hub: its own process finds out
        try:
            depth = min(n_layers or 10**6, depth_of(choice.name))
        except UnknownNameError as error:
            problems.append(str(error))
            continue
        if layer > depth:
            problems.append(f"{choice.label} has {depth} layer(s), layer {layer} asked for")
    return problems
