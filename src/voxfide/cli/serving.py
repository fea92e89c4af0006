"""The commands of the local service."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from voxfide.cli import console
from voxfide.cli.commands import DETECTOR_HELP, DeviceOption, LabelsOption, pairs
from voxfide.errors import MissingDependencyError

if TYPE_CHECKING:
    from voxfide.serve.settings import ServiceSettings

BUNDLED = "bundled"


def serve(
    detector: Annotated[str, typer.Option("--detector", metavar="DETECTOR", help=DETECTOR_HELP)] = BUNDLED,
    host: Annotated[
        str, typer.Option(help="Address to listen on; any but loopback needs --keys.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8000,
    keys: Annotated[
        Path | None, typer.Option(metavar="FILE", help="API keys, made by `voxfide serve-key`.")
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Further name that it is asked by, as behind a proxy; repeatable."),
    ] = None,
    history: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Keep past verdicts (no audio) in this SQLite file.")
    ] = None,
    history_days: Annotated[
        float, typer.Option(min=0.001, help="Delete verdicts after so many days.")
    ] = 30.0,
    temporary: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where uploads are held while they are worked on.")
    ] = None,
    max_upload_mb: Annotated[int, typer.Option(min=1, help="Largest file.")] = 500,
    max_minutes: Annotated[float, typer.Option(min=0.01, help="Longest recording, decoded.")] = 120.0,
    time_limit: Annotated[float, typer.Option(min=0.1, help="Seconds that an analysis may take.")] = 600.0,
    queue: Annotated[int, typer.Option(min=1, help="Requests taken on; one more is told to wait.")] = 64,
    concurrency: Annotated[int, typer.Option(min=1, help="Recordings analysed at a time.")] = 8,
    batching: Annotated[bool, typer.Option(help="Score windows of several requests together.")] = True,
    device: DeviceOption = "auto",
    labels: LabelsOption = None,
) -> None:
    """Run the local service: web page and HTTP interface.

    Listens on this machine alone unless told otherwise; nothing that it is given leaves the machine or
    is kept beyond the request. Stops on SIGTERM or Ctrl-C after finishing what it has accepted.
    """
    from voxfide.serve.settings import Limits, ServiceSettings

    limits = Limits(
        upload_bytes=max_upload_mb * 1_000_000,
        duration=60 * max_minutes,
        request_seconds=time_limit,
        pending=queue,
    )
    settings = ServiceSettings(
        host=host,
        port=port,
        allow_hosts=tuple(allow_host or ()),
        keys=keys,
        history=history,
        history_days=history_days,
        temporary=temporary,
        concurrency=concurrency,
        batching=batching,
        limits=limits,
    )
    _run(detector, settings, device, dict(pairs(labels or [], "--labels")))


def _run(name: str, settings: ServiceSettings, device: str, labels: dict[str, str]) -> None:
    try:
        from voxfide.serve.server import address_of, listen, run
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            f"voxfide serve needs {error.name}: pip install 'voxfide[serve]'"
        ) from error
    from voxfide.detectors import load_detector
    from voxfide.serve.service import Service

    with listen(settings.host, settings.port) as listener:
        console.say(f"loading detector {name}")
        model = load_detector(name, device=device, labels=labels)
        with Service(model, name, settings) as service:
            service.warm_up()
            address = address_of(listener)

            def started() -> None:
                print(f"voxfide: listening on {address} (Ctrl-C stops)", flush=True)

            logging.getLogger("uvicorn").setLevel(logging.WARNING)
            run(service, listener, started)
    console.say("stopped")


def serve_key(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="File of keys; made if it does not exist.")],
    name: Annotated[str, typer.Argument(metavar="NAME", help="Whom the key is for.")],
) -> None:
    """Make an API key for the service.

    Prints the key, which is stored nowhere: the file holds a hash of it. To withdraw a key, delete its
    line and restart the service.
    """
    from voxfide.serve.keys import add_key

    print(add_key(file, name))
