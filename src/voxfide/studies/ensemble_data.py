"""The data of an ensemble study: corpora found once, mixes drawn, sets chosen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

from voxfide.corpora import corpus
from voxfide.corpora import prepare as prepare_corpus
from voxfide.corpora.drawing import DrawnMix, draw_mix
from voxfide.corpora.mixes import Mix, read_mix
from voxfide.corpora.roots import find_root, how_to_name
from voxfide.errors import UsageError, VoxfideError
from voxfide.manifest import Manifest
from voxfide.studies.ensemble_recipe import EnsembleRecipe, SetSpec
from voxfide.types import PathLike


@dataclass(frozen=True)
class StudyData:
    """What a study trains on and scores.

    Attributes:
        mixes: name to what was drawn for training, for the classifier and for sets.
        sets: name to utterances that are scored.
        notes: sets that were left out, and why.
        scale: what the counts of mixes and sets were multiplied by.
    """

    mixes: dict[str, DrawnMix]
    sets: dict[str, Manifest]
    notes: list[str] = field(default_factory=list)
    scale: str = "1"

    def digests(self) -> dict[str, str]:
        """Of all manifests."""
        mixes = {f"mix {name}": drawn.manifest.digest() for name, drawn in self.mixes.items()}
        return mixes | {f"set {name}": part.digest() for name, part in self.sets.items()}


def find_data(
    recipe: EnsembleRecipe,
    *,
    manifests: Mapping[str, Manifest] | None = None,
    roots: Mapping[str, PathLike] | None = None,
    scale: str = "1",
    seed: int = 0,
) -> StudyData:
    """Finds every corpus, draws the mixes and chooses the sets.

    Args:
        manifests: corpora, by name or alias, that have been prepared.
        roots: folders of others; those that neither names are sought by
            :func:`voxfide.corpora.roots.find_root`.
        scale: multiplies the counts of mixes and sets.
        seed: of all samples.

    Raises:
        UsageError: every corpus that is missing or unusable, every mix and set that cannot be
            drawn, and names that nothing needs.
    """
    problems: list[str] = []
    _check_scale(scale)
    mixes = _mixes(recipe, scale, problems)
    needed = _needed(recipe, mixes.values(), problems)
    corpora = _corpora(needed, manifests or {}, roots or {}, problems)
    drawn: dict[str, DrawnMix] = {}
    for name, mix in mixes.items():
        own = {part.corpus: corpora[part.corpus] for part in mix.parts if part.corpus in corpora}
        if len(own) < len({part.corpus for part in mix.parts}):
            continue  # what is missing has been said
        try:
            drawn[name] = draw_mix(mix, manifests=own, seed=seed)
        except VoxfideError as error:
            problems.append(str(error))
    sets: dict[str, Manifest] = {}
    left_out: dict[str, str] = {}
    for name, spec in recipe.sets.items():
        if spec.mix is not None:
            if spec.mix in drawn:
                sets[name] = drawn[spec.mix].manifest
            continue
        whole = corpora.get(corpus(str(spec.corpus)).name) if _is_known(spec) else None
        if whole is not None:
            try:
                sets[name] = _part(whole, spec, scale, seed)
            except VoxfideError as error:
                if spec.optional:
                    left_out[name] = f"set {name}: {error}"
                else:
                    problems.append(f"set {name}: {error}")
    problems += _unusable(recipe, sets, left_out)
    if problems:
        raise UsageError.listing("data of the study", problems)
    return StudyData(drawn, sets, list(left_out.values()), scale)


def _check_scale(scale: str) -> None:
    try:
        positive = Fraction(scale) > 0
    except (ValueError, ZeroDivisionError):
        positive = False
    if not positive:
        raise UsageError(f"scale {scale} (expected a positive number)")


def _mixes(recipe: EnsembleRecipe, scale: str, problems: list[str]) -> dict[str, Mix]:
    found = {}
    for name in recipe.mixes():
        try:
            mix = read_mix(name)
            found[name] = mix if scale == "1" else mix.scaled(scale)
        except VoxfideError as error:
            problems.append(str(error))
    return found


def _is_known(spec: SetSpec) -> bool:
    try:
        corpus(str(spec.corpus))
    except VoxfideError:
        return False
    return True


def _needed(recipe: EnsembleRecipe, mixes: Iterable[Mix], problems: list[str]) -> list[str]:
    names = [part.corpus for mix in mixes for part in mix.parts]
    for name, spec in recipe.sets.items():
        if spec.corpus is None:
            continue
        try:
            names.append(corpus(spec.corpus).name)
        except VoxfideError as error:
            problems.append(f"set {name}: {error}")
    return list(dict.fromkeys(names))


def _corpora(
    needed: Iterable[str],
    manifests: Mapping[str, Manifest],
    roots: Mapping[str, PathLike],
    problems: list[str],
) -> dict[str, Manifest]:
    """Each corpus once, with all its splits."""
    needed = list(needed)
    given, places = _by_name(manifests, problems), _by_name(roots, problems)
    problems += [f"{n}: given, but nothing here needs it" for n in (*given, *places) if n not in needed]
    found: dict[str, Manifest] = {}
    for name in needed:
        try:
            if name in given:
                found[name] = given[name]
                continue
            root = find_root(name, places.get(name))
            if root is None:
                raise UsageError(f"not found (expected {how_to_name(name)}, or --manifest {name}=FILE)")
            found[name] = prepare_corpus(name, root).require_valid()
        except VoxfideError as error:
            problems.append(f"corpus {name}: {error}")
    return found


def _by_name(items: Mapping[str, Any], problems: list[str]) -> dict[str, Any]:
    found = {}
    for name, item in items.items():
        try:
            found[corpus(name).name] = item
        except VoxfideError as error:
            problems.append(str(error))
    return found


def _part(whole: Manifest, spec: SetSpec, scale: str, seed: int) -> Manifest:
    part = whole.split(spec.split)
    if scale == "1":
        return part
    wanted = round((spec.count or len(part)) * Fraction(scale))
    return part.sample(max(1, min(len(part), wanted)), seed=seed)


def _unusable(recipe: EnsembleRecipe, sets: Mapping[str, Manifest], left_out: Mapping[str, str]) -> list[str]:
    """Sets that something else needs, and that are left out or lack a class."""
    found = []
    for role, name in (("select_on", recipe.select_on), ("fusion: fit", recipe.fusion.fit)):
        if name in left_out:
            found.append(f"{role}: set {name} is left out ({left_out[name]})")
        elif name in sets and not has_labels(sets[name]):
            found.append(f"{role}: set {name} has no labels of both classes")
    return found


def has_labels(part: Manifest) -> bool:
    """Whether error rates can be measured on it."""
    counts = part.counts()
    return counts["bonafide"] > 0 and counts["spoof"] > 0


def write_data(folder: Path, data: StudyData) -> None:
    """Writes the manifests as ``FOLDER/mix-NAME.parquet`` and ``FOLDER/set-NAME.parquet``."""
    for name, drawn in data.mixes.items():
        drawn.manifest.write(folder / f"mix-{Path(name).stem}.parquet")
    for name, part in data.sets.items():
        part.write(folder / f"set-{name}.parquet")
