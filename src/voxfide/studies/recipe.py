"""Recipes of the layer-wise study: which corpora it trains and scores on, and with what settings.

A recipe is a YAML file; those of the published tables ship with voxfide in ``recipes/layerwise``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from voxfide import recipes
from voxfide.corpora import corpus
from voxfide.corpora import prepare as prepare_corpus
from voxfide.corpora.roots import find_root, how_to_name
from voxfide.crops import Crop
from voxfide.errors import UnknownNameError, UsageError, VoxfideError
from voxfide.manifest import Manifest
from voxfide.types import BONAFIDE, UNKNOWN, PathLike

KIND = "layerwise"
EVALUATION_SPLITS = ("eval", "test")


@dataclass(frozen=True)
class SetSpec:
    """A split of a corpus, as a recipe names it."""

    corpus: str
    split: str | None = None


@dataclass(frozen=True)
class Recipe:
    """A training corpus, what is scored, and the settings.

    Attributes:
        train_set: the name of the training corpus in tables.
        evaluations: name in tables to set.
        backend: options of every back-end.
        training: settings of :class:`~voxfide.training.settings.TrainSettings`.
        crop: what is used of an utterance, in training and scoring.
    """

    name: str
    train_set: str
    train: SetSpec
    dev: SetSpec
    evaluations: dict[str, SetSpec]
    title: str = ""
    backend: dict[str, Any] = field(default_factory=dict)
    seeds: tuple[int, ...] = (1, 42, 1234)
    training: dict[str, Any] = field(default_factory=dict)
    crop: Crop = field(default_factory=Crop)

    def corpora(self) -> list[str]:
        """The corpora that are needed, each once."""
        specs = (self.train, self.dev, *self.evaluations.values())
        return list(dict.fromkeys(spec.corpus for spec in specs))


@dataclass(frozen=True)
class Task:
    """A recipe with its data found: what a study trains and scores on."""

    recipe: Recipe
    train: Manifest
    dev: Manifest
    evaluations: dict[str, Manifest]

    @property
    def name(self) -> str:
        return self.recipe.train_set


def recipe_names() -> list[str]:
    """The recipes that ship with voxfide."""
    return recipes.shipped(KIND)


def read_recipe(name: PathLike) -> Recipe:
    """A shipped recipe by its name, or one from a file.

    Raises:
        UsageError: no such recipe, or a malformed one; says everything that is wrong with it.
    """
    where = str(name) if recipes.is_file(name) else f"recipe {name}"
    return _parse(recipes.load(KIND, name), where)


def own_recipe(
    manifest: Manifest, evaluations: Mapping[str, str | None], split: str, dev_split: str
) -> Recipe:
    """A recipe for a manifest with splits; its corpus is named after the file.

    Args:
        manifest: with a training and a development split.
        evaluations: further corpora's names to the splits that are scored; where empty, the
            manifest's own splits ``eval`` or ``test``.
        split, dev_split: to train on, and to decide on when to stop.

    Raises:
        UsageError: nothing to score.
    """
    name = Path(manifest.source).stem
    own = Path(manifest.source).parent.name if name == "manifest" else name
    sets = {label: SetSpec(label, part) for label, part in evaluations.items()}
    if not sets:
        there = set(manifest.strings("split")) if "split" in manifest.columns else set()
        sets = {
            f"{own} {s}" if len(there) > 3 else own: SetSpec(own, s) for s in EVALUATION_SPLITS if s in there
        }
    if not sets:
        raise UsageError(
            f"{manifest.source}: no split {' or '.join(EVALUATION_SPLITS)} to score (expected one, or --eval)"
        )
    return Recipe(own, own, SetSpec(own, split), SetSpec(own, dev_split), sets)


class Sources:
    """Where the corpora of recipes come from: given manifests first, then the corpora's roots.

    Every corpus is prepared once. Problems are gathered, not raised.

    Args:
        manifests: by name of the corpus.
        roots: by name of the corpus; see :mod:`voxfide.corpora.roots` for where else they are looked for.
    """

    def __init__(self, manifests: Mapping[str, Manifest], roots: Mapping[str, PathLike]) -> None:
        self._made: dict[str, Manifest] = dict(manifests)
        self._roots = {corpus(name).name: root for name, root in roots.items()}
        self._bad: set[str] = set()
        self.problems: list[str] = []

    def task(self, recipe: Recipe) -> Task | None:
        """The data of a recipe; None where something is missing, which ``problems`` then says."""
        train = self._set(recipe, recipe.train, "training set")
        dev = self._set(recipe, recipe.dev, "development set")
        scored = {name: self._set(recipe, spec, name) for name, spec in recipe.evaluations.items()}
        found = {name: part for name, part in scored.items() if part is not None}
        if train is None or dev is None or len(found) < len(scored):
            return None
        return Task(recipe, train, dev, found)

    def _set(self, recipe: Recipe, spec: SetSpec, what: str) -> Manifest | None:
        """Rows of known label of a split, with both classes."""
        whole = self._corpus(spec.corpus)
        if whole is None:
            return None
        where = f"{recipe.name}: {what} ({spec.corpus}, split {spec.split or 'all'})"
        try:
            part = whole.split(spec.split)
        except VoxfideError as error:
            self.problems.append(f"{where}: {error}")
            return None
        labels = part.strings("label")
        part = part.take((labels != UNKNOWN).nonzero()[0])
        n_bonafide = int((part.strings("label") == BONAFIDE).sum())
        if not 0 < n_bonafide < len(part):
            self.problems.append(
                f"{where}: {n_bonafide} bona fide and {len(part) - n_bonafide} spoofed utterances "
                "(expected at least one of each)"
            )
            return None
        return part

    def _corpus(self, name: str) -> Manifest | None:
        key = name if name in self._made else _canonical(name)
        if key in self._bad:
            return None
        if key not in self._made:
            try:
                self._made[key] = self._prepared(key)
            except VoxfideError as error:
                self._bad.add(key)
                self.problems.append(f"corpus {name}: {error}")
                return None
        return self._made[key]

    def _prepared(self, name: str) -> Manifest:
        root = find_root(name, self._roots.get(name))
        if root is None:
            raise UsageError(f"is not known on this machine (expected --manifest, or {how_to_name(name)})")
        return prepare_corpus(name, root).require_valid()


def _canonical(name: str) -> str:
    try:
        return corpus(name).name
    except UnknownNameError:
        return name


def _parse(values: Any, where: str) -> Recipe:
    problems: list[str] = []
    known = {f.name for f in fields(Recipe)}
    if not isinstance(values, dict):
        raise UsageError(
            f"{where}: {type(values).__name__} (expected a mapping with {', '.join(sorted(known))})"
        )
    problems += [f"unknown key {key}" for key in values if key not in known]
    needed = ("name", "train_set", "train", "dev", "evaluations")
    problems += [f"no {key}" for key in needed if not values.get(key)]
    made: dict[str, Any] = {k: values[k] for k in known & set(values)}
    for key in ("train", "dev"):
        made[key] = _set_spec(made.get(key), key, problems)
    sets = made.get("evaluations") or {}
    if not isinstance(sets, dict):
        problems.append("evaluations: expected a mapping of names to sets")
        sets = {}
    made["evaluations"] = {str(k): _set_spec(v, f"evaluations: {k}", problems) for k, v in sets.items()}
    for key in ("backend", "training"):
        if not isinstance(made.get(key, {}), dict):
            problems.append(f"{key}: expected a mapping")
    try:
        if "crop" in made:
            made["crop"] = Crop(**made["crop"])
        if "seeds" in made:
            made["seeds"] = tuple(int(seed) for seed in made["seeds"])
    except (TypeError, ValueError, UsageError) as error:
        problems.append(str(error))
    if problems:
        raise UsageError(f"{where}: " + "; ".join(problems))
    return Recipe(**made)


def _set_spec(value: Any, key: str, problems: list[str]) -> SetSpec:
    if isinstance(value, dict) and set(value) <= {"corpus", "split"} and isinstance(value.get("corpus"), str):
        return SetSpec(**value)
    if value is not None:
        problems.append(f"{key}: {value!r} (expected corpus and split)")
    return SetSpec("")
