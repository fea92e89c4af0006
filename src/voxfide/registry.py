"""Registries: a name, a spec, and the dotted place of the code, imported on use.

Adding a front-end, back-end or corpus is one file and one registry line; the
contract tests loop over each registry and pick it up.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Generic, Protocol, TypeVar

from voxfide.errors import UnknownNameError


class Spec(Protocol):
    """What a registry entry must have: a unique ``name`` and a one-line ``summary``."""

    @property
    def name(self) -> str: ...

    @property
    def summary(self) -> str: ...


S = TypeVar("S", bound=Spec)


@dataclass
class Registry(Generic[S]):
    """Names to specs, in order of registration.

    Args:
        kind: what the entries are, for messages ("front-end", "back-end", "corpus").
    """

    kind: str
    _specs: dict[str, S] = field(default_factory=dict)

    def register(self, spec: S) -> S:
        """Adds ``spec``; a second entry of the same name is a programming error."""
        if spec.name in self._specs:
            raise ValueError(f"{self.kind} {spec.name!r} is registered twice")
        self._specs[spec.name] = spec
        return spec

    def __getitem__(self, name: str) -> S:
        try:
            return self._specs[name]
        except KeyError:
            close = difflib.get_close_matches(name, self._specs, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            known = ", ".join(self._specs)
            raise UnknownNameError(f"unknown {self.kind} {name!r}{hint} (known: {known})") from None

    def __contains__(self, name: object) -> bool:
        return name in self._specs

    def __iter__(self) -> Iterator[S]:
        return iter(self._specs.values())

    def __len__(self) -> int:
        return len(self._specs)

    def names(self) -> list[str]:
        """The registered names, in order."""
        return list(self._specs)


def load_object(place: str) -> Any:
    """Imports ``"package.module:attribute"`` and returns the attribute."""
    module, _, attribute = place.partition(":")
    return getattr(import_module(module), attribute)
