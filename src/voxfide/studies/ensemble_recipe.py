"""Recipes of the ensemble study: which models are fine-tuned on what, scored on what, and fused.

A recipe is a YAML file; that of Combei et al. 2024 ships with voxfide in ``recipes/ensemble``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from voxfide import recipes
from voxfide.errors import UsageError
from voxfide.fusion import INPUTS
from voxfide.types import PathLike

KIND = "ensemble"


@dataclass(frozen=True)
class SystemSpec:
    """A model whose time averages are classified.

    Attributes:
        frontend: registered name, hub id or folder.
        mix: what it is fine-tuned on; None where it is used as it was pre-trained.
        batch_size: of the fine-tuning.
    """

    frontend: str
    mix: str | None = None
    batch_size: int = 8


@dataclass(frozen=True)
class SetSpec:
    """Utterances that are scored: a mix, or a split of a corpus.

    Attributes:
        count: how many the published figures are of; of a scaled study, that share of it.
        optional: left out, with a note, where the corpus has no such split.
        fused_only: scored with the systems of the fusion only.
    """

    mix: str | None = None
    corpus: str | None = None
    split: str | None = None
    count: int | None = None
    optional: bool = False
    fused_only: bool = False


@dataclass(frozen=True)
class ClassifierSpec:
    """The logistic regression on time averages."""

    mix: str
    C: float = 1e3
    layer: str | int = "last"


@dataclass(frozen=True)
class FusionSpec:
    """The late fusion.

    Attributes:
        systems: that are fused.
        fit: the mix of the classifier, or one of the sets.
        inputs: ``probabilities`` as the classifiers state them, or ``scores``.
    """

    systems: tuple[str, ...]
    fit: str
    inputs: str = "probabilities"


@dataclass(frozen=True)
class EnsembleRecipe:
    """What the study does.

    Attributes:
        systems: name to model, in the order of the table.
        finetuning: settings of :class:`~voxfide.training.finetune_settings.FinetuneSettings`.
        sets: name to what is scored.
        select_on: the set that picks the best epoch.
        figure: systems whose embeddings are drawn.
        submissions: file name to set.
    """

    name: str
    systems: Mapping[str, SystemSpec]
    classifier: ClassifierSpec
    sets: Mapping[str, SetSpec]
    select_on: str
    fusion: FusionSpec
    title: str = ""
    citation: str = ""
    notes: str = ""
    finetuning: Mapping[str, Any] = field(default_factory=dict)
    figure: tuple[str, ...] = ()
    submissions: Mapping[str, str] = field(default_factory=dict)

    def mixes(self) -> list[str]:
        """Names of all mixes that it needs, each once, training mixes first."""
        found = [self.classifier.mix, *(s.mix for s in self.systems.values() if s.mix)]
        found += [s.mix for s in self.sets.values() if s.mix]
        return list(dict.fromkeys(found))

    def fine_tuned(self) -> dict[str, SystemSpec]:
        """Systems that are fine-tuned."""
        return {name: system for name, system in self.systems.items() if system.mix}

    def problems(self) -> list[str]:
        """Names that do not fit together."""
        known, sets = ", ".join(self.systems), ", ".join(self.sets)
        found = [f"{where}: no system {name} (systems: {known})"
                 for where, names in (("fusion", self.fusion.systems), ("figure", self.figure))
                 for name in names if name not in self.systems]  # fmt: skip
        if len(set(self.fusion.systems)) < 2:
            found.append("fusion: expected at least two systems")
        if self.fusion.fit not in (*self.sets, self.classifier.mix):
            found.append(f"fusion: fit {self.fusion.fit} (expected {self.classifier.mix}, {sets})")
        if self.fusion.inputs not in INPUTS:
            found.append(f"fusion: inputs {self.fusion.inputs!r} (expected {' or '.join(INPUTS)})")
        if self.select_on not in self.sets:
            found.append(f"select_on: no set {self.select_on} (sets: {sets})")
        for file, name in self.submissions.items():
            if name not in self.sets or not file.endswith(".zip") or "/" in file:
                found.append(f"submissions: {file}: {name} (expected NAME.zip: one of {sets})")
        for name, part in self.sets.items():
            if (part.mix is None) == (part.corpus is None):
                found.append(f"sets: {name}: expected either mix, or corpus and perhaps split")
            if name == self.classifier.mix:
                found.append(f"sets: {name}: has the name of the classifier's mix")
        found += [f"systems: {name!r}: expected a name without slashes and spaces"
                  for name in self.systems if not name.strip(".") or set(name) & set("/ \t\\")]  # fmt: skip
        return found


def recipe_names() -> list[str]:
    """The recipes that ship with voxfide."""
    return recipes.shipped(KIND)


def read_ensemble_recipe(name: PathLike) -> EnsembleRecipe:
    """A shipped recipe by its name, or one from a file; mixes of a file may be YAML files beside it.

    Raises:
        UsageError: no such recipe, or a malformed one; says everything that is wrong with it.
    """
    return _parse(recipes.load(KIND, name), str(name), Path(name).parent)


def _parse(values: Any, where: str, folder: Path) -> EnsembleRecipe:
    known = {f.name for f in fields(EnsembleRecipe)}
    if not isinstance(values, dict):
        raise UsageError(f"{where}: expected a mapping with {', '.join(sorted(known))}")
    problems = [f"unknown key {key}" for key in values if key not in known]
    needed = ("name", "systems", "classifier", "sets", "select_on", "fusion")
    problems += [f"no {key}" for key in needed if not values.get(key)]
    made = {key: value for key, value in values.items() if key in known}
    for key in ("systems", "sets", "submissions", "finetuning"):
        if not isinstance(made.get(key, {}), dict):
            problems.append(f"{key}: expected a mapping")
            made[key] = {}
    made["systems"] = _specs(SystemSpec, made.get("systems") or {}, "systems", folder, problems)
    made["sets"] = _specs(SetSpec, made.get("sets") or {}, "sets", folder, problems)
    made["classifier"] = _spec(ClassifierSpec, made.get("classifier"), "classifier", folder, problems)
    made["fusion"] = _spec(FusionSpec, made.get("fusion"), "fusion", folder, problems)
    made["figure"] = tuple(made.get("figure") or ())
    if problems:
        raise UsageError.listing(where, problems)
    recipe = EnsembleRecipe(**made)
    if problems := recipe.problems():
        raise UsageError.listing(where, problems)
    return recipe


def _specs(
    kind: type[Any], values: Mapping[Any, Any], key: str, folder: Path, problems: list[str]
) -> dict[str, Any]:
    found = {
        str(name): _spec(kind, value, f"{key}: {name}", folder, problems) for name, value in values.items()
    }
    return {name: spec for name, spec in found.items() if spec is not None}


def _spec(kind: type[Any], value: Any, where: str, folder: Path, problems: list[str]) -> Any:
    names = ", ".join(f.name for f in fields(kind))
    if not isinstance(value, dict):
        problems.append(f"{where}: {value!r} (expected a mapping of {names})")
        return None
    content = {k: tuple(v) if isinstance(v, list) else v for k, v in value.items()}
    mix = content.get("mix")
    if isinstance(mix, str) and mix.endswith((".yaml", ".yml")):
        content["mix"] = str(folder / mix)
    try:
        return kind(**content)
    except TypeError:
        problems.append(f"{where}: {value!r} (expected {names})")
        return None
