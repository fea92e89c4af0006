"""The engine on a Ray cluster: shards stream through a pool of actors, each with its own worker.

Ray Data hands every shard to an actor that is free, holds back when results are not taken, starts an actor
again elsewhere when its process or node dies, and gives the shard to it once more. What is added here:

- The worker is that of :class:`~voxfide.engine.LocalEngine`, so results are the same; they come back in
  pieces, in the order in which shards are finished.
- A shard that kills its process :data:`~voxfide.engine_ray_worker.DEATHS` times is put aside; when all else
  is done, its items are worked on one by one, and only those that kill again are lost.
- Errors are raised here as what they are, not wrapped, and Ray keeps silent.
"""

from __future__ import annotations

import logging
import math
import os
import pickle
import socket
import sys
from collections import defaultdict
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voxfide import __version__
from voxfide.cores import usable_cores
from voxfide.engine import Item, Piece, Worker
from voxfide.engine_ray_worker import DEATHS, MESSAGE_COLUMN, SHARD_COLUMN, ActorWorker, Ledger, Order
from voxfide.errors import MissingDependencyError, UsageError, VoxfideError
from voxfide.types import Seconds

if TYPE_CHECKING:
    from ray.data import Dataset

log = logging.getLogger(__name__)

CONNECT_SECONDS: Seconds = 10.0
"""After which an address that does not answer is given up."""

ADDRESS_VARIABLE = "RAY_ADDRESS"
"""Names the cluster where no address is given; Ray sets it for jobs that it starts."""


@dataclass(frozen=True)
class RayEngine:
    """Maps over shards on Ray actors.

    A program that has called ``ray.init`` is used as it is, and its cluster left running.

    Args:
        address: ``auto`` or ``HOST:PORT`` of a running cluster that this machine belongs to; where left out
            that of ``$RAY_ADDRESS``, else a cluster of this machine's cores, for the time of the job.
        actors: processes that hold a model each; where left out as many as the cluster has room for. More
            than there is room for are asked of the cluster's autoscaler.
        actor_cpus: cores of an actor, which are its threads too.
        actor_gpus: GPUs of an actor, maybe a fraction; where left out 1 if the cluster has any, else none.

    Raises:
        MissingDependencyError: Ray is not installed.
        UsageError: numbers that cannot be, or an address of Ray Client.
    """

    address: str | None = None
    actors: int | None = None
    actor_cpus: float = 1.0
    actor_gpus: float | None = None

    def __post_init__(self) -> None:
        if self.actors is not None and self.actors < 1:
            raise UsageError(f"{self.actors} Ray actors (expected at least 1)")
        if not self.actor_cpus > 0:
            raise UsageError(f"{self.actor_cpus:g} cores an actor (expected more than 0)")
        if self.actor_gpus is not None and self.actor_gpus < 0:
            raise UsageError(f"{self.actor_gpus:g} GPUs an actor (expected 0 or more)")
        if (self.address or "").startswith("ray://"):
            raise UsageError(
                f"Ray address {self.address}: Ray Data does not work through Ray Client (expected auto or "
                "HOST:PORT on a machine of the cluster, or no address in a job of `ray job submit`)"
            )
        _import_ray()

    def map(
        self,
        factory: Callable[[], Worker[Item, Piece]],
        shards: Sequence[Sequence[Item]],
        lost: Callable[[Item, str], Piece],
    ) -> Generator[Piece, None, None]:
        """See :meth:`voxfide.engine.Engine.map`.

        Raises:
            UsageError: no cluster there, no room in it, a factory that cannot be sent, or another version of
                voxfide on a node.
        """
        if not shards:
            return
        payload = _pickled(factory)
        with self._connected():
            aside = yield from self._pass(payload, shards)
            # One by one, so that only those are lost that kill their process by themselves.
            singles = [[item] for number in aside for item in shards[number]]
            if singles:
                log.warning(
                    "%d shard(s) killed their process %d times: their %d items are tried one by one",
                    len(aside), DEATHS, len(singles),
                )  # fmt: skip
                for number in (yield from self._pass(payload, singles)):
                    yield lost(singles[number][0], f"it killed the process that analysed it {DEATHS} times")

    def _pass(self, payload: bytes, shards: Sequence[Sequence[Any]]) -> Generator[Any, None, list[int]]:
        """Pieces of the shards; returns the numbers of those that were put aside."""
        import ray

        left = set(range(len(shards)))
        received: defaultdict[int, set[int]] = defaultdict(set)
        beside_driver = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
            ray.get_runtime_context().get_node_id(), soft=True
        )
        ledger: Any = (
            ray.remote(Ledger)
            .options(num_cpus=0, scheduling_strategy=beside_driver, max_restarts=-1, max_task_retries=-1)
            .remote()
        )
        try:
            for kind, number, content in self._messages(payload, shards, ledger):
                if kind == "error":
                    raise content
                if kind == "piece":
                    place, piece = content
                    if place not in received[number]:
                        received[number].add(place)
                        yield piece
                    continue
                n_pieces, deaths = content
                if deaths:
                    log.warning("a Ray actor died: what it was working on was done again")
                if len(received.pop(number, ())) == n_pieces:
                    left.discard(number)
        finally:
            with suppress(Exception):  # the cluster may be gone
                ray.kill(ledger)
        return sorted(left)

    def _messages(
        self, payload: bytes, shards: Sequence[Sequence[Any]], ledger: Any
    ) -> Iterator[tuple[str, int, Any]]:
        import ray
        from ray.data import ActorPoolStrategy

        gpus = self._gpus()
        cores = max(1, int(self.actor_cpus))
        order = Order(payload, __version__, str(Path.cwd()), tuple(sys.path), cores, gpus > 0)
        blocks = _dataset(shards).map_batches(
            ActorWorker,
            fn_constructor_args=(order, ledger),
            batch_size=1,
            batch_format="pyarrow",
            num_cpus=self.actor_cpus,
            num_gpus=gpus,
            compute=ActorPoolStrategy(
                size=min(len(shards), self._size(gpus)),
                # A shard in the queue of an actor waits for this very one; on a GPU not for long.
                max_tasks_in_flight_per_actor=2 if gpus else 1,
            ),
        )
        try:
            for block in blocks.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
                for message in block[MESSAGE_COLUMN]:
                    yield pickle.loads(message.as_buffer())
        except ray.exceptions.RayError as error:
            raise _told(error) from error

    def _gpus(self) -> float:
        import ray

        if self.actor_gpus is not None:
            return self.actor_gpus
        return 1.0 if ray.cluster_resources().get("GPU", 0) >= 1 else 0.0

    def _size(self, gpus: float) -> int:
        """How many actors, of those asked for or of all that fit.

        Raises:
            UsageError: none asked for, and none fits.
        """
        import ray

        wanted = {"CPU": self.actor_cpus} | ({"GPU": gpus} if gpus else {})
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        room = sum(int(min(node.get(name, 0) / n for name, n in wanted.items())) for node in nodes)
        said = " and ".join(f"{n:g} {name}" for name, n in wanted.items())
        if self.actors is None and not room:
            there = "; ".join(", ".join(f"{node.get(n, 0):g} {n}" for n in wanted) for node in nodes)
            raise UsageError(
                f"no node of the Ray cluster has room for an actor of {said} (its nodes: {there}): ask for "
                "less an actor, or let an autoscaler add nodes for a stated number of actors"
            )
        if self.actors is not None and self.actors > room:
            log.warning(
                "%d Ray actors of %s were asked for and %d fit: the others wait for nodes to join",
                self.actors, said, room,
            )  # fmt: skip
        return self.actors or room

    @contextmanager
    def _connected(self) -> Iterator[None]:
        """Joins a cluster, or starts one that ends with the block."""
        ray = _import_ray()
        if ray.is_initialized():
            yield
            return
        address = self.address or os.environ.get(ADDRESS_VARIABLE)
        options: dict[str, Any] = {"address": address}
        if address is None:
            options = {
                "address": "local",
                "num_cpus": max(usable_cores(), math.ceil((self.actors or 0) * self.actor_cpus)),
                "include_dashboard": False,
            }
        try:
            # Private, and without a public way: news of dead actors would go to our standard output.
            ray._private.worker._worker_logs_enabled = False
            try:
                _check_reachable(address)
                with _no_native_output():
                    ray.init(**options, log_to_driver=False, logging_level=logging.ERROR)
            except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
                raise UsageError(
                    f"Ray cluster {address or 'of this machine'}: cannot be used: {error} (expected the "
                    "address of a running one, as `ray start --head` prints it, of the same Ray and Python; "
                    "where it asks for a token, RAY_AUTH_MODE=token and the token here too)"
                ) from error
            yield
        finally:
            ray.shutdown()
            ray._private.worker._worker_logs_enabled = True


def _dataset(shards: Sequence[Sequence[Any]]) -> Dataset:
    """A block a shard, each a pickled ``(number, shard)``."""
    import ray.data

    for handler in logging.getLogger("ray.data").handlers:
        if isinstance(handler, logging.StreamHandler) and type(handler).__module__.startswith("ray."):
            handler.setLevel(logging.ERROR)  # progress and failures are told by this program
    items = [{SHARD_COLUMN: _pickled((number, list(shard)))} for number, shard in enumerate(shards)]
    blocks = ray.data.from_items(items, override_num_blocks=len(items))
    blocks.context.enable_progress_bars = False
    blocks.context.print_on_execution_start = False
    blocks.context.execution_no_progress_timeout_s = -1  # a shard, or a wait for nodes, may take hours
    return blocks


def _pickled(value: Any) -> bytes:
    """What a process elsewhere can make ``value`` of.

    Raises:
        UsageError: it holds something that lives in this process alone.
    """
    from ray import cloudpickle

    try:
        return bytes(cloudpickle.dumps(value))
    except (TypeError, AttributeError, pickle.PicklingError) as error:
        raise UsageError(
            f"engine ray: {type(value).__name__} cannot be sent to other processes ({error}; expected "
            "settings, names and models only, no open files, bars or locks)"
        ) from error


def _told(error: Exception) -> VoxfideError:
    """What made Ray give up, in one error of ours."""
    text = str(error)
    if "No module named 'voxfide" in text:
        return UsageError(
            "voxfide is not installed where the Ray actors run (expected the same version on every node: "
            "in the image, or by a runtime environment)"
        )
    return VoxfideError(f"the Ray cluster gave up; run again to go on with what is left: {text}")


def _check_reachable(address: str | None) -> None:
    """Raises :class:`ConnectionError` where nothing listens: Ray itself would try for minutes."""
    host, _, port = (address or "").rpartition(":")
    if host and port.isdecimal():
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_SECONDS).close()
        except OSError as error:
            raise ConnectionError(f"nothing answers there ({error.strerror or error})") from error


@contextmanager
def _no_native_output() -> Iterator[None]:
    """Keeps what Ray's native code writes while it starts from the user's terminal; errors are raised."""
    try:
        kept = os.dup(2)
    except OSError:  # a process without standard error
        yield
        return
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _import_ray() -> Any:
    """Ray, silenced; it sends no usage statistics unless the user's environment says so.

    Raises:
        MissingDependencyError: it is not installed.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise MissingDependencyError(
            f"engine ray needs Ray Data ({error}): pip install 'voxfide[ray]'"
        ) from error
    return ray
