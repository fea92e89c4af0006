"""``voxfide augment`` and ``voxfide augmentations``: augmented copies of a manifest's audio."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from voxfide.cli import console
from voxfide.cli.commands import EXIT_FAILED_FILES, ManifestArgument, WorkersOption
from voxfide.errors import UsageError


def augment(
    manifest: ManifestArgument,
    out: Annotated[Path, typer.Option("-o", "--out", metavar="FOLDER", help="For audio and manifest.")],
    apply: Annotated[
        str | None,
        typer.Option(
            "--apply",
            metavar="SPEC",
            help="Such as 'noise:snr=10..20 | reverb', or a YAML file; see `voxfide augmentations`. "
            "By default what the manifest's column `augment` says.",
        ),
    ] = None,
    label: Annotated[str | None, typer.Option(help="Augment only this label: bonafide or spoof.")] = None,
    fraction: Annotated[float, typer.Option(min=0.0, max=1.0, help="Of these utterances, at random.")] = 1.0,
    corpus: Annotated[
        list[str] | None, typer.Option("--corpus", help="Augment only rows of this `corpus`; repeatable.")
    ] = None,
    split: Annotated[
        str | None, typer.Option("--split", help="Augment only rows of this split; others stay as they are.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of everything random.")] = 0,
    keep_original: Annotated[
        bool,
        typer.Option("--keep-original/--replace", help="Add copies, or have them stand for the originals."),
    ] = False,
    form: Annotated[str, typer.Option("--format", help="flac (16 bit) or wav (32-bit float).")] = "flac",
    workers: WorkersOption = None,
) -> None:
    """Write augmented copies of a manifest's audio.

    FOLDER/manifest.* names them and records, row by row, what was done. What is drawn depends on
    the seed and the utterance's id alone. Run again after an interruption, it goes on where it was.
    """
    from voxfide.augment import Plan, Policy, parse
    from voxfide.augment.write import augment_manifest
    from voxfide.manifest import Manifest

    rows = Manifest.read(manifest).require_valid()
    chooser: Plan | Policy
    if apply is not None:
        chooser = Policy(parse(apply), label, fraction, tuple(corpus) if corpus else None, seed)
    elif label is not None or fraction != 1.0 or corpus:
        raise UsageError("--label, --fraction and --corpus need --apply")
    else:
        chooser = Plan.of(rows, seed)
    with console.progress("augment") as bar:
        made = augment_manifest(
            rows,
            chooser,
            out,
            split=split,
            keep_original=keep_original,
            form=form,
            suffix=manifest.suffix.lower(),
            workers=workers,
            progress=bar,
            on_start=bar.start,
        )
    console.report_failures(made.failures, f"{out}/failures.csv")
    done = ", ".join(f"{what} {n:,}" for what, n in sorted(made.applied.items())) or "none"
    print(
        f"{made.path}: {len(made.manifest):,} utterances, {sum(made.applied.values()):,} augmented ({done})"
    )
    if made.failures:
        raise typer.Exit(EXIT_FAILED_FILES)


def augmentations(
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list.")] = False,
) -> None:
    """List the augmentations, their settings, and combinations of them."""
    from voxfide.augment import AUGMENTATIONS

    if as_json:
        facts = [
            {"name": s.name, "summary": s.summary, "citation": s.citation}
            | ({"stands_for": s.preset} if s.preset else {"settings": s.settings()})
            for s in AUGMENTATIONS
        ]
        print(json.dumps(facts, indent=2, ensure_ascii=False))
        return
    from voxfide.report.tables import Column, Table

    columns = [Column("name"), Column("summary"), Column("settings", "settings and defaults")]
    rows = [
        (s.name, s.summary, s.preset or ", ".join(f"{k}={v}" for k, v in s.settings().items()))
        for s in AUGMENTATIONS
    ]
    print(Table(columns, rows).to_text(), end="")
