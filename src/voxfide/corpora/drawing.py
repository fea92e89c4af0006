"""Drawing a mix: finds the corpora, checks that they hold enough, and samples them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from voxfide.augment.policy import PLAN_COLUMN
from voxfide.corpora import corpus, prepare
from voxfide.corpora.mixes import Mix, MixPart
from voxfide.corpora.roots import find_root, how_to_name
from voxfide.errors import ManifestError, UsageError
from voxfide.manifest import Manifest, mix
from voxfide.types import BONAFIDE, SPOOF, PathLike

ORIGINAL_SPLIT = "original_split"
"""Column of a mix: the split in the corpus the row is from."""


@dataclass(frozen=True)
class DrawnMix:
    """A mix that has been drawn.

    Attributes:
        manifest: all rows; column ``augment`` where the recipe has an augmentation.
        parts: what was drawn from what, as JSON.
        n_planned: rows that ask to be augmented.
    """

    manifest: Manifest
    parts: list[dict[str, Any]]
    n_planned: int


def draw_mix(
    recipe: Mix,
    *,
    manifests: Mapping[str, Manifest] | None = None,
    roots: Mapping[str, PathLike] | None = None,
    seed: int = 0,
) -> DrawnMix:
    """Draws a mix: each part in the proportion of labels that its corpus has.

    Which utterances are drawn depends on ``seed`` and their ids only; of one corpus, the same seed draws
    for a smaller count none that it does not draw for a larger one. Where there are several corpora,
    ids become ``CORPUS/id``. ``split`` is the recipe's role in all rows; the corpus's own is in
    ``original_split``. Rows with no label are never drawn.

    Args:
        manifests: corpora, by name or alias, that have been prepared.
        roots: folders of others; those that neither names are sought by
            :func:`voxfide.corpora.roots.find_root`.
        seed: of the sample and of the choice of what is augmented.

    Raises:
        UsageError: every corpus that is missing, unusable, or holds too few rows; names that the
            recipe does not have.
    """
    prepared = {corpus(name).name: manifest for name, manifest in (manifests or {}).items()}
    given = {corpus(name).name: root for name, root in (roots or {}).items()}
    names = list(dict.fromkeys(part.corpus for part in recipe.parts))
    problems = [f"{n}: given, but no part of this mix" for n in (*prepared, *given) if n not in names]
    found: dict[str, tuple[Manifest, str]] = {}
    for name in names:
        try:
            if name in prepared:
                found[name] = prepared[name], prepared[name].source
            else:
                found[name] = _prepared(name, given.get(name), recipe.parts)
        except (UsageError, ManifestError) as error:
            problems.append(f"{name}: {error}")
    drawn, facts = _draw_all(recipe, found, seed, problems)
    if problems:
        raise UsageError.listing(f"mix {recipe.name}", problems)
    joined = _with_role(mix(drawn, prefix_ids=len(drawn) > 1), recipe.role)
    if recipe.augmentation is None:
        return DrawnMix(joined, facts, 0)
    planned = replace(recipe.augmentation, seed=seed).planned(joined)
    return DrawnMix(planned, facts, int(np.count_nonzero(planned.strings(PLAN_COLUMN) != "")))


def _prepared(name: str, given: PathLike | None, parts: tuple[MixPart, ...]) -> tuple[Manifest, str]:
    root = find_root(name, given)
    if root is None:
        raise UsageError(f"not found (expected {how_to_name(name)}, or --manifest {name}=FILE)")
    splits = {part.split for part in parts if part.corpus == name}
    one = splits.pop() if len(splits) == 1 else None
    return prepare(name, root, one), str(Path(root).resolve())


def _draw_all(
    recipe: Mix, found: Mapping[str, tuple[Manifest, str]], seed: int, problems: list[str]
) -> tuple[dict[str, Manifest], list[dict[str, Any]]]:
    """The rows of each corpus, and what was drawn from what; adds to ``problems``."""
    drawn: dict[str, Manifest] = {}
    facts = []
    for name, (manifest, source) in found.items():
        samples: list[Manifest] = []
        for part in (p for p in recipe.parts if p.corpus == name):
            try:
                candidates = _candidates(manifest, part)
            except UsageError as error:
                problems.append(f"{part}: {error}")
                continue
            available = manifest.take(candidates)
            if len(available) < part.count:
                problems.append(f"{part}: {part.count:,} utterances asked for, {len(available):,} are there")
                continue
            sample = available.sample(part.count, seed=seed)
            samples.append(sample)
            counts = {"available": _labels(available), "drawn": _labels(sample)}
            facts.append({"corpus": name, "split": part.split, "source": source, **counts})
        # Parts of one corpus have the same columns and the same root.
        if samples:
            drawn[name] = replace(manifest, table=pa.concat_tables(s.table for s in samples))
    return drawn, facts


def _candidates(manifest: Manifest, part: MixPart) -> np.ndarray:
    """Rows of the split that have a label."""
    is_there = np.isin(manifest.strings("label"), (BONAFIDE, SPOOF))
    if part.split is not None:
        if "split" not in manifest.columns:
            raise UsageError(f"{manifest.source}: no column 'split' (expected one with {part.split!r} in it)")
        is_there &= manifest.strings("split") == part.split
    return np.flatnonzero(is_there)


def _labels(manifest: Manifest) -> dict[str, int]:
    return {label: n for label, n in manifest.counts().items() if label in (BONAFIDE, SPOOF)}


def _with_role(manifest: Manifest, role: str) -> Manifest:
    table = manifest.table
    column = pa.array([role] * len(manifest), pa.string())
    if "split" not in table.column_names:
        table = table.append_column("split", column)
    else:
        place = table.column_names.index("split")
        if ORIGINAL_SPLIT not in table.column_names:
            table = table.append_column(ORIGINAL_SPLIT, table.column("split"))
        table = table.set_column(place, "split", column)
    return Manifest(table, manifest.root, manifest.source)
