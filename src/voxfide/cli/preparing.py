"""``voxfide prepare`` and ``voxfide corpora``: from a corpus as it is shipped to a manifest."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from voxfide.cli import console
from voxfide.cli.commands import EXIT_FAILED_FILES, SplitOption, WorkersOption, pairs
from voxfide.cli.engines import (
    ActorCpusOption,
    ActorsOption,
    AddressOption,
    EngineOption,
    make_engine,
)
from voxfide.errors import UsageError

if TYPE_CHECKING:
    from voxfide.corpora.check import AudioSummary
    from voxfide.corpora.inventory import Inventory
    from voxfide.engine import Engine
    from voxfide.manifest import Manifest


def prepare(
    corpus: Annotated[str, typer.Argument(metavar="CORPUS", help="See `voxfide corpora`.")],
    root: Annotated[Path, typer.Argument(metavar="ROOT", help="Where the corpus lies, or a parent folder.")],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="MANIFEST", help=".csv, .tsv or .parquet.")],
    split: SplitOption = None,
    keep_missing: Annotated[
        bool, typer.Option("--keep-missing", help="Keep utterances whose audio is not there.")
    ] = False,
    option: Annotated[
        list[str] | None,
        typer.Option("--option", metavar="NAME=VALUE", help="Setting of the corpus; repeatable."),
    ] = None,
    columns: Annotated[
        list[str] | None,
        typer.Option(
            "--map", metavar="COLUMN=NAME", help="csv, shards: the table's own NAME for a manifest COLUMN."
        ),
    ] = None,
    check_audio: Annotated[
        bool, typer.Option("--check-audio", help="Open every file; list them in MANIFEST.audio.csv.")
    ] = False,
    workers: WorkersOption = None,
    engine: EngineOption = "local",
    address: AddressOption = None,
    actors: ActorsOption = None,
    actor_cpus: ActorCpusOption = None,
) -> None:
    """Make the manifest of a corpus.

    Finds protocols and audio below ROOT by itself, and says what is missing or surplus against
    what the corpus should hold; MANIFEST.found.json records it. Audio is opened with
    --check-audio only, which goes on where it was interrupted.
    """
    from voxfide.corpora import corpus as find_corpus
    from voxfide.corpora import prepare as prepare_corpus
    from voxfide.corpora.inventory import Inventory

    runner = make_engine(engine, address, actors, actor_cpus, device="cpu")
    if runner is not None and not check_audio:
        raise UsageError(f"--engine {engine} is for the audio: it needs --check-audio")
    options: dict[str, Any] = dict(pairs(option or [], "--option"))
    if columns:
        if find_corpus(corpus).name not in ("csv", "shards"):
            raise UsageError(f"--map applies to corpora csv and shards, not {corpus}")
        options["columns"] = dict(pairs(columns, "--map"))
    if keep_missing:
        options["keep_missing"] = True
    inventory = Inventory()
    manifest = prepare_corpus(corpus, root, split, inventory=inventory, **options)
    manifest.require_valid().write(out)
    _report(inventory, out)
    counts = manifest.counts()
    console.say(
        f"{out}: {len(manifest):,} utterances "
        f"({counts['bonafide']:,} bona fide, {counts['spoof']:,} spoof, {counts['unknown']:,} unknown)"
    )
    if check_audio:
        summary = _check(manifest, out.with_name(f"{out.name}.audio.csv"), workers, runner)
        if summary.n_unreadable:
            raise typer.Exit(EXIT_FAILED_FILES)


def corpora(
    name: Annotated[str | None, typer.Argument(help="Print this corpus's data sheet.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list of data sheets.")] = False,
) -> None:
    """List the corpora, or print the data sheet of one."""
    from voxfide.corpora import CORPORA, data_sheet
    from voxfide.corpora import corpus as find_corpus

    specs = list(CORPORA) if name is None else [find_corpus(name)]
    if as_json:
        facts = [
            {"name": s.name, "summary": s.summary, "aliases": s.aliases} | data_sheet(s.name).to_json()
            for s in specs
        ]
        print(json.dumps(facts, indent=2, ensure_ascii=False))
    elif name is not None:
        print("\n".join(data_sheet(name).lines()))
        if specs[0].aliases:
            print(f"{'also called':14} {', '.join(specs[0].aliases)}")
    else:
        from voxfide.report.tables import Column, Table

        print(
            Table([Column("name"), Column("summary")], [(s.name, s.summary) for s in specs]).to_text(), end=""
        )


def _report(inventory: Inventory, out: Path) -> None:
    """What was found, in words, and beside the manifest for the record."""
    from voxfide.files import write_atomic

    if inventory.sheet is None:
        return
    for line in inventory.lines():
        console.say(f"  {line}")
    facts = json.dumps(inventory.to_json(), indent=2, ensure_ascii=False)
    write_atomic(out.with_name(f"{out.name}.found.json"), facts + "\n")


def _check(manifest: Manifest, table: Path, workers: int | None, engine: Engine | None) -> AudioSummary:
    from voxfide.corpora.check import check_audio

    with console.progress("check") as bar:
        summary = check_audio(
            manifest, table, engine=engine, workers=workers, progress=bar, on_start=bar.start
        )
    for line in summary.lines():
        console.say(f"  {line}")
    if summary.errors:
        print(
            f"voxfide: {summary.n_unreadable:,} file(s) cannot be read (listed in {table}):", file=sys.stderr
        )
        for error in summary.errors[: console.SHOWN_FAILURES]:
            print(f"  {error}", file=sys.stderr)
    return summary
