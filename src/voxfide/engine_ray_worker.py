"""What runs inside an actor of :mod:`voxfide.engine_ray`: the very worker of the local engine.

Messages to the driver are rows of one column of pickled tuples, ``(kind, number of the shard, content)``:
``piece`` for every piece of results, with its place in the shard; ``done`` at the end of a shard, with the
number of pieces and of deaths before; ``error`` for what the driver is to raise. A shard that has killed its
process too often gives nothing at all: its ``done`` stays away. A shard that is redone sends the same pieces
in the same order, on which Ray relies when it leaves out what it has passed on before.
"""

from __future__ import annotations

import os
import pickle
import sys
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from voxfide import __version__
from voxfide.cores import CORES_VARIABLE
from voxfide.engine import Worker
from voxfide.errors import UsageError, VoxfideError

SHARD_COLUMN = "shard"
MESSAGE_COLUMN = "message"

DEATHS = 2
"""So often may a shard kill its process before it is left alone."""


@dataclass(frozen=True)
class Order:
    """What the driver tells every actor.

    Attributes:
        factory: pickled; unpickled only once the versions are known to agree.
        version: of voxfide on the driver.
        cwd: the driver's folder, from which relative paths count.
        path: the driver's module search path, looked up last.
        cores: of the actor, which are its threads too.
        gpu: whether the actor has a GPU; if not, it is not to see those of its machine either.
    """

    factory: bytes
    version: str
    cwd: str
    path: tuple[str, ...]
    cores: int
    gpu: bool


class Ledger:
    """Who began what and did not end it; a small actor beside the driver, which outlives the others."""

    def __init__(self) -> None:
        self._begun: Counter[Any] = Counter()

    def begin(self, task: Any) -> int:
        """How often the task was begun before without an end."""
        self._begun[task] += 1
        return self._begun[task] - 1

    def end(self, task: Any) -> None:
        """The task was not what killed anybody."""
        del self._begun[task]


class ActorWorker:
    """A worker behind Ray Data's calls; makes the inner one at the first shard.

    Args:
        order: of the driver.
        ledger: handle of the :class:`Ledger` actor.
    """

    def __init__(self, order: Order, ledger: Any) -> None:
        self._order = order
        self._ledger = ledger
        self._worker: Worker[Any, Any] | None = None

    def __call__(self, shards: pa.Table) -> Iterator[pa.Table]:
        """Messages about the shards of a block, of which there is one."""
        for shard in shards[SHARD_COLUMN]:
            for packed in self._messages(*pickle.loads(shard.as_py())):
                yield pa.table({MESSAGE_COLUMN: pa.array([packed], pa.large_binary())})

    def _messages(self, number: int, shard: list[Any]) -> Iterator[bytes]:
        import ray
        from ray.cloudpickle import dumps  # also of classes of a script

        try:
            worker = self._opened()
            deaths = ray.get(self._ledger.begin.remote(number))
            if deaths >= DEATHS:
                return
            n_pieces = 0
            for piece in worker(shard):
                yield dumps(("piece", number, (n_pieces, piece)))
                n_pieces += 1
            ray.get(self._ledger.end.remote(number))
            yield dumps(("done", number, (n_pieces, deaths)))
        except Exception as error:
            yield dumps(("error", number, _portable(error)))

    def _opened(self) -> Worker[Any, Any]:
        """The inner worker, made at first; a model that is too large must not kill actors for ever."""
        if self._worker is not None:
            return self._worker
        import ray

        context = ray.get_runtime_context()
        where = f"a Ray actor on node {context.get_node_id()[:8]}"
        if __version__ != self._order.version:
            raise UsageError(
                f"{where} has voxfide {__version__}, this process {self._order.version} (expected the same "
                "version on every node)"
            )
        opening = ("opening", context.get_actor_id())
        deaths = ray.get(self._ledger.begin.remote(opening))
        if deaths >= DEATHS:
            raise UsageError(
                f"{where} died {deaths} times while it loaded the model: most likely for want of memory "
                "(expected room for one model an actor: fewer actors, or larger nodes)"
            )
        with suppress(OSError):  # absolute paths work wherever the storage is mounted
            os.chdir(self._order.cwd)
        sys.path += [entry for entry in self._order.path if entry not in sys.path]
        os.environ |= dict.fromkeys(("OMP_NUM_THREADS", CORES_VARIABLE), str(self._order.cores))
        if not self._order.gpu:
            os.environ["CUDA_VISIBLE_DEVICES"] = ""
        self._worker = pickle.loads(self._order.factory)()
        torch = sys.modules.get("torch")
        if torch is not None:
            torch.set_num_threads(self._order.cores)
        ray.get(self._ledger.end.remote(opening))
        return self._worker


def _portable(error: Exception) -> Exception:
    """The error as it can be sent, with where it came from."""
    told = "".join(traceback.format_exception(error))
    try:
        copy = pickle.loads(pickle.dumps(error))
    except Exception:
        copy = VoxfideError(str(error)) if isinstance(error, VoxfideError) else RuntimeError(str(error))
    copy.add_note(f"in a Ray actor:\n{told}")
    return copy
