"""Map a function over shards of work, here in this process; where Ray will plug in.

A shard is a list of rows small enough to be redone if lost. The function is made
once per worker by a factory (which loads the model), takes a shard and returns its
result; what becomes of results is up to the caller, who writes each atomically and
on the next run passes only the shards that are still missing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, TypeVar

Shard = TypeVar("Shard")
Result = TypeVar("Result")


class Engine(Protocol):
    """Anything that maps a worker over shards, yielding results as they are ready."""

    def map(
        self, factory: Callable[[], Callable[[Shard], Result]], shards: Iterable[Shard]
    ) -> Iterator[Result]: ...


class LocalEngine:
    """One worker in this process, shards in order."""

    def map(
        self, factory: Callable[[], Callable[[Shard], Result]], shards: Iterable[Shard]
    ) -> Iterator[Result]:
        """Makes the worker at the first shard, so that nothing is loaded where nothing is to do."""
        worker: Callable[[Shard], Result] | None = None
        for shard in shards:
            worker = worker or factory()
            yield worker(shard)
