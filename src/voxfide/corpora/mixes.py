"""Mixes: recipes that draw so many utterances from so many corpora.

A recipe is a YAML file, one of those that voxfide brings or a user's own::

    title: what it is, in a line
    citation: who made it
    role: train                     # the split that all rows get; train where left out
    parts:
      - {corpus: asvspoof5, split: train, count: 13000}
      - {corpus: inthewild, count: 1600}        # no split: all of the corpus
    augmentation:                   # a policy, where there is one
      {augmentation: combei2024, label: bonafide, fraction: 0.5, corpora: [asvspoof5]}
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Final, Self

from voxfide import recipes
from voxfide.augment.policy import Policy
from voxfide.corpora import corpus
from voxfide.errors import UnknownNameError, UsageError

KIND: Final = "mixes"
_KEYS: Final = ("title", "citation", "notes", "role", "parts", "augmentation")
_PART_KEYS: Final = ("corpus", "split", "count")


@dataclass(frozen=True)
class MixPart:
    """So many utterances of a corpus.

    Attributes:
        corpus: its name in the registry.
        split: of the corpus; None for all of it.
        count: utterances, drawn in the proportion of labels that the split has.
    """

    corpus: str
    count: int
    split: str | None = None

    def __str__(self) -> str:
        return f"{self.corpus} {self.split or '(all splits)'}"


@dataclass(frozen=True)
class Mix:
    """A recipe.

    Attributes:
        name: of the recipe, or of its file.
        parts: in the order of their rows.
        role: what the ``split`` column says of all rows: what the mix is for.
        augmentation: what is to be done to some of the rows; its seed is that of the mixing.
    """

    name: str
    parts: tuple[MixPart, ...]
    role: str = "train"
    augmentation: Policy | None = None
    title: str = ""
    citation: str = ""
    notes: str = ""

    @property
    def count(self) -> int:
        """Utterances in all."""
        return sum(part.count for part in self.parts)

    def scaled(self, scale: float | str) -> Self:
        """The same mix, smaller or larger: counts rounded so that their sum is right.

        By largest remainders (Hamilton's method): each count is off by less than one.

        Raises:
            UsageError: a scale that is not positive, or so small that a part becomes empty.
        """
        try:
            factor = Fraction(str(scale))
        except (ValueError, ZeroDivisionError):
            factor = Fraction(0)
        if factor <= 0:
            raise UsageError(f"scale {scale} (expected a positive number)")
        exact = [part.count * factor for part in self.parts]
        counts = [math.floor(share) for share in exact]
        left = math.floor(sum(exact) + Fraction(1, 2)) - sum(counts)
        by_remainder = sorted(range(len(exact)), key=lambda i: (counts[i] - exact[i], i))
        for i in by_remainder[:left]:
            counts[i] += 1
        parts = tuple(replace(part, count=n) for part, n in zip(self.parts, counts, strict=True))
        if empty := [str(part) for part in parts if not part.count]:
            raise UsageError(f"{self.name} at scale {scale}: nothing left of {', '.join(empty)}")
        return replace(self, parts=parts)

    def to_json(self) -> dict[str, Any]:
        """As the record beside a mix holds it."""
        content = asdict(self) | {"parts": [asdict(part) for part in self.parts]}
        content["augmentation"] = self.augmentation and self.augmentation.describe()
        return content


def mix_names() -> list[str]:
    """The recipes that voxfide brings."""
    return recipes.shipped(KIND)


def read_mix(name: str | Path) -> Mix:
    """A recipe by its name, or from a ``.yaml`` file.

    Raises:
        UnknownNameError: no such recipe.
        UsageError: a file that is no recipe; says everything that is wrong with it.
    """
    content = recipes.load(KIND, name, "mix")
    return _mix(content, Path(name).stem if recipes.is_file(name) else str(name), str(name))


def _mix(content: Any, name: str, source: str) -> Mix:
    if not isinstance(content, Mapping):
        raise UsageError(f"{source}: expected a recipe with parts, found a {type(content).__name__}")
    problems = [f"unknown entry {key!r} (known: {', '.join(_KEYS)})" for key in content if key not in _KEYS]
    parts = _parts(content.get("parts"), problems)
    texts = {key: content.get(key, "") for key in ("title", "citation", "notes")}
    texts |= {"role": content.get("role", "train")}
    problems += [
        f"{k}: {value!r} (expected text)" for k, value in texts.items() if not isinstance(value, str)
    ]
    policy = None
    if (wanted := content.get("augmentation")) is not None:
        try:
            policy = _policy(wanted)
        except UsageError as error:
            problems.append(f"augmentation: {error}")
    if problems:
        raise UsageError.listing(source, problems)
    return Mix(name, tuple(parts), augmentation=policy, **{k: str(v) for k, v in texts.items()})


def _policy(wanted: Any) -> Policy:
    if not isinstance(wanted, Mapping):
        raise UsageError(f"{wanted!r} (expected augmentation: and perhaps label, fraction, corpora)")
    policy = Policy.from_json(wanted)
    return replace(policy, corpora=policy.corpora and tuple(corpus(c).name for c in policy.corpora))


def _parts(content: Any, problems: list[str]) -> Sequence[MixPart]:
    if not isinstance(content, list) or not content:
        problems.append(f"parts: {content!r} (expected a list of {{corpus: …, split: …, count: …}})")
        return []
    parts = []
    for number, item in enumerate(content, start=1):
        if not isinstance(item, Mapping) or any(key not in _PART_KEYS for key in item):
            problems.append(f"part {number}: {item!r} (expected {', '.join(_PART_KEYS)})")
            continue
        count, split = item.get("count"), item.get("split")
        if not isinstance(count, int) or isinstance(count, bool) or count < 1:
            problems.append(f"part {number}: count {count!r} (expected a whole number from 1)")
        elif split is not None and not isinstance(split, str):
            problems.append(f"part {number}: split {split!r} (expected a name)")
        else:
            try:
                parts.append(MixPart(corpus(str(item.get("corpus"))).name, count, split))
            except UnknownNameError as error:
                problems.append(f"part {number}: {error}")
    for position, part in enumerate(parts):
        before = [p.split for p in parts[:position] if p.corpus == part.corpus]
        if before and (part.split in before or None in (part.split, *before)):
            problems.append(f"{part} is in two parts")
    return parts
