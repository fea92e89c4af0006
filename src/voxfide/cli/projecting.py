"""``voxfide tsne``: pictures of a store's embeddings."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from voxfide.cli import console
from voxfide.errors import UsageError

if TYPE_CHECKING:
    from voxfide.store import EmbeddingStore

_SHOWN = 5


def tsne(
    stores: Annotated[
        list[Path],
        typer.Argument(metavar="STORE…", help="Stores made by `voxfide embed`; several are compared."),
    ],
    manifest: Annotated[
        Path, typer.Argument(metavar="MANIFEST", help="CSV or Parquet manifest of what to show.")
    ],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="DIR", help="Where to.", show_default=False)],
    layer: Annotated[
        str, typer.Option(metavar="N|last", help="Layer whose time averages are shown.")
    ] = "last",
    color: Annotated[
        list[str] | None,
        typer.Option(
            "--color",
            metavar="NAME",
            help="label-split or a column of the manifest; repeatable. By default label-split, and attack "
            "or system.",
            show_default=False,
        ),
    ] = None,
    split: Annotated[
        list[str] | None,
        typer.Option("--split", help="Show only rows of this split; repeatable.", show_default=False),
    ] = None,
    sample: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Show N random rows, with the shares of label and split kept."),
    ] = None,
    perplexity: Annotated[float, typer.Option(help="About how many neighbours a point has.")] = 30.0,
    seed: Annotated[int, typer.Option(min=0, help="Of everything random.")] = 0,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Threads; by default as many as there are processors.")
    ] = None,
    clips: Annotated[int, typer.Option(min=0, help="Short clips carried in the page at most.")] = 150,
) -> None:
    """Draw a store's embeddings in two dimensions (t-SNE).

    Writes tsne.html, in which hovering names an utterance and a click plays it, the figures as
    PNG and PDF, and the coordinates as CSV.
    """
    from voxfide.manifest import Manifest
    from voxfide.store import EmbeddingStore
    from voxfide.studies.projection_report import ClipBudget, write_projection_report

    rows = Manifest.read(manifest).require_valid()
    if split:
        rows = rows.filter(split=split)
    if sample is not None:
        by = [name for name in ("label", "split") if name in rows.columns]
        rows = rows.sample(min(sample, len(rows)), by, seed)
    result = write_projection_report(
        out,
        _titled({path: EmbeddingStore(path) for path in stores}),
        rows,
        layer=_layer(layer),
        colours=color or (),
        perplexity=perplexity,
        seed=seed,
        jobs=jobs,
        budget=ClipBudget(clips=clips),
        on_step=console.say,
    )
    if result.missing:
        shown = ", ".join(result.missing[:_SHOWN]) + (" …" if len(result.missing) > _SHOWN else "")
        console.say(f"{len(result.missing):,} utterance(s) are not in every store, and not shown: {shown}")
    print(f"{result.page}: {result.n_points:,} utterances")


def _layer(text: str) -> int | None:
    if text == "last":
        return None
    if not text.isdecimal():
        raise UsageError(f"--layer {text!r} (expected a number or last)")
    return int(text)


def _titled(stores: dict[Path, EmbeddingStore]) -> dict[str, EmbeddingStore]:
    """By the name of the folder, or by the whole path where two have the same name."""
    names = [path.name for path in stores]
    return {(p.name if names.count(p.name) == 1 else str(p)): store for p, store in stores.items()}
