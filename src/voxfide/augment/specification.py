"""Augmentations from text, mappings and YAML files.

Text, for the command line::

    noise:snr=25                         a family and its settings; LOW..HIGH is drawn uniformly
    noise:snr=25 | reverb                one of several
    reverb + codec:format=mp3,kbps=32    one after the other; binds closer than |
    0.3 * rawboost:algorithm=4           with a probability; binds closest
    augment.yaml                         a file

Mappings, for YAML and Python, nest freely: ``{"name": "one-of", "of": ["reverb", {"name": "noise",
"snr": [10, 20]}]}``; a list is a chain. :meth:`Augmentation.describe` gives such a mapping.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from voxfide.augment.base import Augmentation
from voxfide.augment.combine import Chain, Maybe, OneOf
from voxfide.augment.registry import AUGMENTATIONS
from voxfide.errors import UsageError
from voxfide.files import read_yaml
from voxfide.registry import load_object

FILES: Final = (".yaml", ".yml", ".json")


def parse(specification: Any) -> Augmentation:
    """Makes an augmentation of text, a mapping, a list, or the path of a YAML file.

    Raises:
        UnknownNameError: a name that is not registered.
        UsageError: anything else that is wrong with it.
    """
    if isinstance(specification, Augmentation):
        return specification
    if isinstance(specification, Path):
        return _from_file(specification)
    if isinstance(specification, str):
        text = specification.strip()
        return _from_file(Path(text)) if text.lower().endswith(FILES) else _from_text(text)
    if isinstance(specification, Mapping):
        return _from_mapping(specification)
    if isinstance(specification, list | tuple):
        return Chain(tuple(parse(item) for item in specification))
    kind = type(specification).__name__
    raise UsageError(f"augmentation {specification!r}: a {kind} (expected text, a mapping or a list)")


def make(name: str, options: Mapping[str, Any]) -> Augmentation:
    """A family with settings, or a combination, which has none.

    Raises:
        UnknownNameError: not registered.
        UsageError: settings that cannot be.
    """
    spec = AUGMENTATIONS[name]
    if spec.preset:
        if options:
            raise UsageError(f"{name} has no settings: it stands for {spec.preset!r}, which can be changed")
        return _from_text(spec.preset)
    made: Augmentation = load_object(spec.place).from_options(options)
    return made


def _from_file(path: Path) -> Augmentation:
    content = read_yaml(path)
    try:
        return parse(content)
    except RecursionError:
        raise UsageError(f"{path}: names itself") from None
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error


def _from_mapping(mapping: Mapping[str, Any]) -> Augmentation:
    name = mapping.get("name")
    if not isinstance(name, str):
        raise UsageError(f"augmentation {dict(mapping)!r}: no name (expected name: and settings)")
    return make(name, {str(key): value for key, value in mapping.items() if key != "name"})


def _from_text(text: str) -> Augmentation:
    candidates = [_chain(part) for part in text.split(" | ")]
    return candidates[0] if len(candidates) == 1 else OneOf(tuple(candidates))


def _chain(text: str) -> Augmentation:
    steps = [_item(part.strip()) for part in text.split(" + ")]
    return steps[0] if len(steps) == 1 else Chain(tuple(steps))


def _item(text: str) -> Augmentation:
    chance, star, rest = text.partition("*")
    p = _probability(chance) if star else None
    if p is not None:
        return Maybe(_item(rest.strip()), p)
    name, colon, settings = text.partition(":")
    options: dict[str, str] = {}
    for setting in settings.split(",") if colon else ():
        key, equals, value = setting.partition("=")
        if not (key.strip() and equals and value.strip()) or key.strip() in options:
            raise UsageError(f"{text!r}: setting {setting!r} (expected NAME:KEY=VALUE,KEY=VALUE)")
        options[key.strip()] = value.strip()
    return make(name.strip(), options)


def _probability(text: str) -> float | None:
    """None where the text is no number, as where the star belongs to a path."""
    try:
        p = float(text)
    except ValueError:
        return None
    return p if math.isfinite(p) else None
