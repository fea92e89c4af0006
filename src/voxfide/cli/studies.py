"""``voxfide study …``: the papers' experiments."""

from __future__ import annotations

import typer

from voxfide.cli.benchmark_study import benchmark
from voxfide.cli.ensemble_study import ensemble
from voxfide.cli.layerwise import layerwise

study = typer.Typer(
    name="study", help="Run a paper's experiment from manifests to tables and figures.", no_args_is_help=True
)


@study.callback()
def _study() -> None:
    """Run a paper's experiment from manifests to tables and figures."""


study.command()(layerwise)
study.command()(benchmark)
study.command()(ensemble)
