"""Where a job runs: the options of `--engine`, and the engine that they mean."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from voxfide.errors import UsageError

if TYPE_CHECKING:
    from voxfide.engine import Engine

LOCAL, RAY = "local", "ray"

EngineOption = Annotated[str, typer.Option("--engine", help="local: this process; ray: actors of a cluster.")]
AddressOption = Annotated[
    str | None,
    typer.Option(
        "--address",
        metavar="ADDRESS",
        help="ray: auto or HOST:PORT of a running cluster; by default $RAY_ADDRESS, else this machine alone.",
        show_default=False,
    ),
]
ActorsOption = Annotated[
    int | None,
    typer.Option("--actors", min=1, help="ray: processes with a model each; by default all that fit."),
]
ActorCpusOption = Annotated[
    float | None,
    typer.Option(
        "--actor-cpus", help="ray: cores, and threads, of an actor; by default 1.", show_default=False
    ),
]
ActorGpusOption = Annotated[
    float | None,
    typer.Option(
        "--actor-gpus",
        min=0.0,
        help="ray: GPUs of an actor; by default 1 where there are any.",
        show_default=False,
    ),
]


def make_engine(
    name: str,
    address: str | None,
    actors: int | None,
    actor_cpus: float | None,
    actor_gpus: float | None = None,
    *,
    device: str = "auto",
) -> Engine | None:
    """The engine of these options; ``None`` for this process.

    Args:
        device: that was asked for: an actor gets a GPU for ``cuda``, and none for ``cpu``.

    Raises:
        UsageError: an unknown engine, or an option that does not apply to it.
        MissingDependencyError: Ray is not installed.
    """
    options = {
        "--address": address, "--actors": actors, "--actor-cpus": actor_cpus, "--actor-gpus": actor_gpus,
    }  # fmt: skip
    if name == LOCAL:
        given = [option for option, value in options.items() if value is not None]
        if given:
            raise UsageError(f"{given[0]} needs --engine ray")
        return None
    if name != RAY:
        raise UsageError(f"--engine {name}: expected {LOCAL} or {RAY}")
    from voxfide.engine_ray import RayEngine

    if actor_gpus is None and device != "auto":
        actor_gpus = 1.0 if device.startswith("cuda") else 0.0
    return RayEngine(address, actors, 1.0 if actor_cpus is None else actor_cpus, actor_gpus)


def on_actors(device: str) -> str:
    """The device of an actor, which sees its own GPUs alone."""
    return "cuda" if device.startswith("cuda:") else device
