"""``voxfide mix`` and ``voxfide mixes``: manifests drawn from several corpora by a recipe."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from voxfide.cli import console
from voxfide.cli.commands import pairs

if TYPE_CHECKING:
    from voxfide.corpora.drawing import DrawnMix
    from voxfide.corpora.mixes import Mix


def mix(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE|FILE.yaml", help="See `voxfide mixes`.")],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="MANIFEST", help=".csv, .tsv or .parquet.")],
    manifest: Annotated[
        list[str] | None,
        typer.Option("--manifest", metavar="CORPUS=FILE", help="A prepared manifest; repeatable."),
    ] = None,
    root: Annotated[
        list[str] | None,
        typer.Option("--root", metavar="CORPUS=FOLDER", help="Where a corpus lies; repeatable."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the sample, and of what is augmented.")] = 0,
    scale: Annotated[str, typer.Option(help="Multiplies all counts: 0.001 for a try.")] = "1",
) -> None:
    """Draw a mix of corpora by a recipe.

    Corpora without --manifest or --root are sought where $VOXFIDE_<CORPUS>_ROOT or the file
    ~/.config/voxfide/roots.yaml says. Everything that is missing is said at once, before anything
    is written. MANIFEST.mix.json records what was drawn from what. Rows that the recipe wants
    augmented say so in the column `augment`, which `voxfide augment MANIFEST` carries out.
    """
    from voxfide.corpora.drawing import draw_mix
    from voxfide.corpora.mixes import read_mix
    from voxfide.manifest import Manifest

    wanted = read_mix(recipe)
    if scale != "1":
        wanted = wanted.scaled(scale)
    drawn = draw_mix(
        wanted,
        manifests={
            name: Manifest.read(path).require_valid() for name, path in pairs(manifest or [], "--manifest")
        },
        roots=dict(pairs(root or [], "--root")),
        seed=seed,
    )
    drawn.manifest.write(out)
    _record(wanted, drawn, out, seed)
    for part in drawn.parts:
        counts = part["drawn"]
        console.say(
            f"  {part['corpus']} {part['split'] or 'all'}: {sum(counts.values()):,} "
            f"({counts['bonafide']:,} bona fide, {counts['spoof']:,} spoof)"
        )
    planned = f", {drawn.n_planned:,} to be augmented" if wanted.augmentation else ""
    print(f"{out}: {len(drawn.manifest):,} utterances{planned}")


def mixes(as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list.")] = False) -> None:
    """List the recipes of mixes."""
    from voxfide.corpora.mixes import mix_names, read_mix

    found = [read_mix(name) for name in mix_names()]
    if as_json:
        print(json.dumps([mix.to_json() for mix in found], indent=2, ensure_ascii=False))
        return
    from voxfide.report.tables import Column, Table

    columns = [Column("name"), Column("utterances", right=True), Column("parts"), Column("title")]
    rows = [
        (m.name, f"{m.count:,}", ", ".join(f"{p.corpus} {p.count:,}" for p in m.parts), m.title)
        for m in found
    ]
    print(Table(columns, rows).to_text(), end="")


def _record(recipe: Mix, drawn: DrawnMix, out: Path, seed: int) -> None:
    from voxfide import __version__
    from voxfide.files import write_atomic

    facts = {
        "mix": recipe.to_json(),
        "seed": seed,
        "parts": drawn.parts,
        "n_to_be_augmented": drawn.n_planned,
        "manifest_digest": drawn.manifest.digest(),
        "voxfide": __version__,
    }
    text = json.dumps(facts, indent=2, ensure_ascii=False)
    write_atomic(out.with_name(f"{out.name}.mix.json"), text + "\n")
