"""Map a worker over shards of work: in this process, or on a cluster (:mod:`voxfide.engine_ray`).

A shard is a list of items (rows, files) small enough to be redone if lost. A worker is made once per
process by a factory, which loads the model; it takes a shard and gives its results in pieces as they are
ready. What becomes of pieces is up to the caller, who writes each atomically and on the next run passes
only what is still missing.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from typing import Protocol, TypeVar

Item = TypeVar("Item")
ItemIn = TypeVar("ItemIn", contravariant=True)
Piece = TypeVar("Piece")
PieceOut = TypeVar("PieceOut", covariant=True)


class Worker(Protocol[ItemIn, PieceOut]):
    """What works on shards, one after another."""

    def __call__(self, shard: Sequence[ItemIn], /) -> Iterable[PieceOut]:
        """The results of a shard; they follow from its items alone, whatever was worked on before."""

    def close(self) -> None:
        """Ends what the worker started."""


class Engine(Protocol):
    """Anything that maps a worker over shards, yielding pieces as they are ready."""

    def map(
        self,
        factory: Callable[[], Worker[Item, Piece]],
        shards: Sequence[Sequence[Item]],
        lost: Callable[[Item, str], Piece],
    ) -> Generator[Piece, None, None]:
        """Pieces of all shards, in any order.

        Every item is worked on at least once: after a crash some pieces may come again, equal to rounding.

        Args:
            factory: makes a worker; called once in every process that works, and not at all where there
                are no shards. Engines on other machines send it there: it and what it holds must pickle.
            shards: of items that pickle likewise.
            lost: what stands for an item that killed its process again and again; told the reason.
        """


class LocalEngine:
    """One worker in this process, shards in order."""

    def map(
        self,
        factory: Callable[[], Worker[Item, Piece]],
        shards: Sequence[Sequence[Item]],
        lost: Callable[[Item, str], Piece],
    ) -> Generator[Piece, None, None]:
        """See :meth:`Engine.map`; what kills a process kills this one, so nothing is ever ``lost``."""
        worker: Worker[Item, Piece] | None = None
        try:
            for shard in shards:
                if worker is None:
                    worker = factory()
                yield from worker(shard)
        finally:
            if worker is not None:
                worker.close()
