"""``voxfide pack``: a manifest's audio into shards."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from voxfide.cli import console
from voxfide.cli.commands import ManifestArgument, SplitOption, WorkersOption, exit_if


def pack(
    manifest: ManifestArgument,
    out: Annotated[Path, typer.Option("-o", "--out", metavar="FOLDER", help="For shards and manifest.")],
    form: Annotated[
        str,
        typer.Option("--format", help="tar (WebDataset), or parquet (as Hugging Face datasets keeps audio)."),
    ] = "tar",
    shard_mb: Annotated[float, typer.Option("--shard-mb", min=0.001, help="Size of a shard, MB.")] = 512.0,
    codec: Annotated[
        str, typer.Option(help="keep the bytes, or flac: 16- and 24-bit PCM made smaller, samples the same.")
    ] = "keep",
    split: SplitOption = None,
    workers: WorkersOption = None,
) -> None:
    """Pack a manifest's audio into a few large files.

    FOLDER/manifest.* names each recording by a path through its shard, such as
    audio-000000.tar/ID.flac, which every command reads; nothing is unpacked. Run again after an
    interruption, it goes on behind the last finished shard. What cannot be read is listed in
    FOLDER/failures.csv.
    """
    from voxfide.manifest import Manifest
    from voxfide.packing import MEGABYTE
    from voxfide.packing import pack as pack_manifest

    rows = Manifest.read(manifest).require_valid().split(split)
    with console.progress("pack", "MB") as bar:
        made = pack_manifest(
            rows,
            out,
            form=form,
            shard_bytes=round(shard_mb * MEGABYTE),
            codec=codec,
            suffix=manifest.suffix.lower(),
            workers=workers,
            progress=lambda n, n_bytes: bar(n, n_bytes / MEGABYTE),
            on_start=bar.start,
        )
    console.report_failures(made.failures, f"{out}/failures.csv")
    recoded = f", {made.n_recoded:,} re-encoded as FLAC" if codec == "flac" else ""
    shards = f"{made.n_shards:,} shard{'' if made.n_shards == 1 else 's'}"
    print(
        f"{made.path}: {len(made.manifest):,} utterances in {shards}, "
        f"{made.n_bytes / MEGABYTE:,.1f} MB{recoded}"
    )
    exit_if(made.failures)
