"""``voxfide frontends | backends``: what there is."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated, Any

import typer

from voxfide.registry import Registry

JsonOption = Annotated[bool, typer.Option("--json", help="Print a JSON list.")]


def frontends(as_json: JsonOption = False) -> None:
    """List the front-ends."""
    from voxfide.frontends.specs import FRONTENDS

    if as_json:
        _print_json(FRONTENDS)
        return
    from voxfide.report.tables import Column, Table

    allowed = {True: "yes", False: "no", None: "-"}
    rows = [
        (
            s.name,
            s.n_layers,
            s.dim,
            f"{s.n_parameters / 1e6:.1f}",
            allowed[s.open_condition],
            s.licence,
            s.training_data,
        )
        for s in FRONTENDS
    ]
    columns = [
        Column("name"),
        Column("layers"),
        Column("dim"),
        Column("parameters", "M param.", right=True),
        Column("open_condition", "ASVspoof 5 open"),
        Column("licence"),
        Column("training_data", "training data"),
    ]
    print(Table(columns, rows).to_text(), end="")
    print("\nAny other wav2vec 2.0, HuBERT or WavLM model works by hub id (ORGANISATION/NAME) or folder.")


def backends(as_json: JsonOption = False) -> None:
    """List the back-ends."""
    from voxfide.backends import BACKENDS

    if as_json:
        _print_json(BACKENDS)
        return
    from voxfide.report.tables import Column, Table

    rows = [(s.name, s.pool, s.summary, s.citation) for s in BACKENDS]
    print(
        Table([Column("name"), Column("pool"), Column("summary"), Column("citation")], rows).to_text(), end=""
    )


def _print_json(registry: Registry[Any]) -> None:
    hidden = {"place"}
    print(json.dumps([{k: v for k, v in asdict(s).items() if k not in hidden} for s in registry], indent=2))
