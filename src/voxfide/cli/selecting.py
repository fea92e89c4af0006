"""``voxfide select``: rows of manifests by what stands in their columns."""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from voxfide.cli.commands import pairs
from voxfide.errors import UsageError

if TYPE_CHECKING:
    from voxfide.manifest import Manifest


def select(
    manifests: Annotated[list[Path], typer.Argument(metavar="MANIFEST...", help="One, or several to join.")],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="MANIFEST", help=".csv, .tsv or .parquet.")],
    keep: Annotated[
        list[str] | None,
        typer.Option(
            "--keep",
            metavar="COLUMN=PATTERN",
            help="Only rows where it fits, * for anything; repeated for one column: where one of them fits.",
        ),
    ] = None,
    drop: Annotated[
        list[str] | None,
        typer.Option("--drop", metavar="COLUMN=PATTERN", help="No rows where it fits; repeatable."),
    ] = None,
) -> None:
    """Select rows of manifests.

    Such as the training split of two corpora, without licences that forbid use:

    voxfide select a.csv b.csv -o c.csv --keep split=train --drop 'license=unknown*'
    """
    from voxfide.manifest import Manifest, mix

    parts = {str(path): Manifest.read(path).require_valid() for path in manifests}
    rows = next(iter(parts.values())) if len(parts) == 1 else mix(parts)
    chosen = rows.take(_rows(rows, keep or [], drop or []))
    if not len(chosen):
        raise UsageError(f"{rows.source}: no row is left")
    chosen.write(out)
    counts = ", ".join(f"{n:,} {label}" for label, n in chosen.counts().items() if n)
    print(f"{out}: {len(chosen):,} of {len(rows):,} rows ({counts})")


def _rows(rows: Manifest, keep: list[str], drop: list[str]) -> list[int]:
    """Numbers of the rows that are wanted."""
    wanted: dict[str, list[str]] = {}
    for column, pattern in pairs(keep, "--keep"):
        wanted.setdefault(column, []).append(pattern)
    unwanted = pairs(drop, "--drop")
    texts = {column: rows.strings(column) for column in {*wanted, *(column for column, _ in unwanted)}}
    return [
        number
        for number in range(len(rows))
        if all(any(fnmatchcase(texts[c][number], p) for p in patterns) for c, patterns in wanted.items())
        and not any(fnmatchcase(texts[column][number], pattern) for column, pattern in unwanted)
    ]
