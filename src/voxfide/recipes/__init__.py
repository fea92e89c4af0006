"""Recipes: YAML files that say what a study or a mix is made of; some ship with voxfide, others are a user's.

Each kind has a folder here. What stands in them is parsed where it is used.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from voxfide.errors import UnknownNameError
from voxfide.files import read_yaml
from voxfide.types import PathLike

SUFFIXES = (".yaml", ".yml")


def is_file(name: PathLike) -> bool:
    """Whether a recipe is named by its file, and not one of those that ship."""
    return str(name).lower().endswith(SUFFIXES)


def shipped(kind: str) -> list[str]:
    """Names of the recipes of a kind that ship with voxfide."""
    return sorted(path.name.removesuffix(".yaml") for path in _entries(kind))


def load(kind: str, name: PathLike, what: str = "recipe") -> Any:
    """The content of a shipped recipe, by its name, or of a YAML file.

    Args:
        kind: folder of the shipped ones.
        name: of one of these, or a file.
        what: it is called, for the message.

    Raises:
        UnknownNameError: no such recipe.
        UsageError: it cannot be read.
    """
    if is_file(name):
        return read_yaml(Path(name))
    for path in _entries(kind):
        if path.name == f"{name}.yaml":
            return read_yaml(path)
    raise UnknownNameError(f"unknown {what} {name} (known: {', '.join(shipped(kind))}; or a YAML file)")


def _entries(kind: str) -> Iterator[Traversable]:
    folder = files(__name__).joinpath(kind)
    return (path for path in folder.iterdir() if path.name.endswith(".yaml"))
