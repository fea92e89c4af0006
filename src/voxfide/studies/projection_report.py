"""t-SNE of one or several stores written out: coordinates, figures, and a page in which points play.

A folder gets ``tsne.html``, a CSV of coordinates for each store, ``figures/`` (PNG and PDF) and
``projection.json``, which says how it was made.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import numpy as np

from voxfide import __version__
from voxfide.errors import AudioError, UsageError
from voxfide.files import write_atomic
from voxfide.report.categories import Colouring, by_column, by_label_and_split
from voxfide.report.figures_scatter import scatter_figure
from voxfide.report.markup import slug
from voxfide.report.page import KeyValues, Page, Prose, Section
from voxfide.report.players import encode_clip
from voxfide.report.scatter import Scatter
from voxfide.studies.projection import PCA_DIM, Projection, check_perplexity, layer_embeddings, project
from voxfide.studies.tables import write_figure
from voxfide.types import PathLike, Seconds

if TYPE_CHECKING:
    from voxfide.manifest import Manifest
    from voxfide.store import EmbeddingStore

LABEL_SPLIT: Final = "label-split"
"""The colouring by label and, where the manifest has one, split; any other name is a column's."""

_ATTACK_COLUMNS: Final = ("attack", "system")
_SUFFIXES: Final = (".png", ".pdf")
_MEBI: Final = 1 << 20


@dataclass(frozen=True)
class ClipBudget:
    """How much audio the page carries; all other points play from their files.

    Attributes:
        clips: at most.
        seconds: of each recording, from its start.
        bytes: of all clips, encoded.
    """

    clips: int = 150
    seconds: Seconds = 4.0
    bytes: int = 4 * _MEBI


@dataclass(frozen=True)
class ProjectionReport:
    """What was written.

    Attributes:
        page: the HTML page.
        coordinates: a CSV for each store.
        n_points: utterances shown.
        missing: ids of the manifest that not every store holds.
    """

    page: Path
    coordinates: list[Path]
    n_points: int
    missing: list[str]


def write_projection_report(
    folder: PathLike,
    stores: Mapping[str, EmbeddingStore],
    manifest: Manifest,
    *,
    layer: int | None = None,
    colours: Sequence[str] = (),
    perplexity: float = 30.0,
    seed: int = 0,
    jobs: int | None = None,
    budget: ClipBudget | None = None,
    on_step: Callable[[str], None] = lambda message: None,
) -> ProjectionReport:
    """Projects the manifest's utterances that all stores hold, and writes pictures of them.

    Args:
        folder: made if it is missing; files of the same names are replaced.
        stores: title → store of time averages.
        manifest: whose rows are shown, in its order.
        layer: 1 to the stores' number of layers; ``None`` for each one's last.
        colours: ``label-split`` or names of columns; by default both pictures of the paper:
            ``label-split``, and ``attack`` or else ``system`` where the manifest has it.
        perplexity: see :func:`voxfide.studies.projection.project`.
        seed: of the projection and of the choice of clips.
        jobs: threads; see :func:`voxfide.studies.projection.project`.
        budget: of clips in the page.
        on_step: told in words what is being done.

    Raises:
        UsageError: no store, an unknown column or layer, no common utterances, or too few.
        StoreError: a store of full frames.
    """
    if not stores:
        raise UsageError("no store: there is nothing to show")
    names = _colour_columns(manifest, colours)
    rows, missing = _shown_rows(manifest, stores)
    ids = [str(i) for i in rows.strings("utterance_id")]
    check_perplexity(perplexity, len(ids))
    embeddings = {title: layer_embeddings(store, ids, layer) for title, store in stores.items()}
    projections: dict[str, Projection] = {}
    for title, values in embeddings.items():
        on_step(f"t-SNE of {len(ids):,} × {values.shape[1]} ({title})")
        projections[title] = project(values, perplexity=perplexity, seed=seed, jobs=jobs)
    colourings = [_colouring(rows, name) for name in names]
    folder = Path(folder)
    coordinates = _write_coordinates(folder, rows, names, projections)
    _save_figures(folder, projections, colourings)
    facts = _facts(stores, projections, layer, perplexity, seed, len(ids))
    write_atomic(folder / "projection.json", json.dumps(facts, indent=2, ensure_ascii=False) + "\n")
    on_step("encoding clips")
    clips = _clips(rows, colourings[-1], budget or ClipBudget(), seed)
    scatter = Scatter(
        ids, {title: p.points for title, p in projections.items()}, colourings,
        _caption(len(clips), len(ids), (budget or ClipBudget()).seconds), clips, _links(rows, folder),
    )  # fmt: skip
    page = Page(
        "t-SNE of " + ", ".join(stores),
        f"{len(ids):,} utterances of {Path(manifest.source).name}, each a point; neighbours have similar "
        "embeddings.",
        [Section("Picture", [scatter]), Section("How to read it", _reading(facts))],
        kicker="voxfide t-SNE",
    )
    return ProjectionReport(page.write(folder / "tsne.html"), coordinates, len(ids), missing)


def _colour_columns(manifest: Manifest, colours: Sequence[str]) -> list[str]:
    if not colours:
        return [LABEL_SPLIT, *[c for c in _ATTACK_COLUMNS if c in manifest.columns][:1]]
    unknown = [c for c in colours if c != LABEL_SPLIT and c not in manifest.columns]
    if unknown:
        raise UsageError(
            f"{manifest.source}: no column {', '.join(unknown)} "
            f"(expected {LABEL_SPLIT} or one of {', '.join(manifest.columns)})"
        )
    return list(dict.fromkeys(colours))


def _shown_rows(manifest: Manifest, stores: Mapping[str, EmbeddingStore]) -> tuple[Manifest, list[str]]:
    ids = manifest.strings("utterance_id")
    held = np.array([all(i in store for store in stores.values()) for i in ids], dtype=np.bool_)
    if not held.any():
        raise UsageError(
            f"{manifest.source}: none of its {len(ids):,} utterances is in "
            f"{'every store' if len(stores) > 1 else 'the store'} ({', '.join(stores)})"
        )
    return manifest.take(np.flatnonzero(held)), [str(i) for i in ids[~held]]


def _colouring(rows: Manifest, name: str) -> Colouring:
    labels = [str(v) for v in rows.strings("label")]
    if name != LABEL_SPLIT:
        return by_column(name, [str(v) for v in rows.strings(name)], labels)
    splits = [str(v) for v in rows.strings("split")] if "split" in rows.columns else None
    return by_label_and_split(labels, splits if splits and any(splits) else None)


def _write_coordinates(
    folder: Path, rows: Manifest, names: Sequence[str], projections: Mapping[str, Projection]
) -> list[Path]:
    wanted = ["utterance_id", "label", "split", *names]
    columns = [c for c in dict.fromkeys(wanted) if c in rows.columns]
    cells = [rows.strings(c) for c in columns]
    paths = []
    for stem, projection in zip(_stems(projections), projections.values(), strict=True):
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow([*columns, "x", "y"])
        for row, (x, y) in zip(zip(*cells, strict=True), projection.points, strict=True):
            writer.writerow([*row, f"{x:.6f}", f"{y:.6f}"])
        path = folder / f"{stem}.csv"
        write_atomic(path, text.getvalue())
        paths.append(path)
    return paths


def _stems(titles: Mapping[str, object]) -> list[str]:
    """A different file name for each title."""
    stems: list[str] = []
    for title in titles:
        base = stem = f"coordinates-{slug(title)}"
        number = 2
        while stem in stems:
            stem, number = f"{base}-{number}", number + 1
        stems.append(stem)
    return stems


def _save_figures(
    folder: Path, projections: Mapping[str, Projection], colourings: Sequence[Colouring]
) -> None:
    for colouring in colourings:
        figure = scatter_figure({title: p.points for title, p in projections.items()}, colouring)
        write_figure(folder / "figures", f"tsne-{slug(colouring.name)}", figure)


def _clips(rows: Manifest, colouring: Colouring, budget: ClipBudget, seed: int) -> dict[int, bytes]:
    """Clips of utterances drawn by turns from each category, as far as files and budget go."""
    order = np.random.default_rng(seed).permutation(len(rows))
    turn = np.zeros(len(rows), dtype=np.int64)
    seen: dict[int, int] = {}
    for i in order:
        code = int(colouring.codes[i])
        turn[i] = seen[code] = seen.get(code, -1) + 1
    paths = rows.audio_paths()
    clips: dict[int, bytes] = {}
    left = budget.bytes
    for i in order[np.argsort(turn[order], kind="stable")][: budget.clips]:
        try:
            mp3 = encode_clip(paths[i], budget.seconds).mp3
        except AudioError:
            continue
        if len(mp3) > left:
            break
        clips[int(i)] = mp3
        left -= len(mp3)
    return clips


def _links(rows: Manifest, folder: Path) -> list[str | None]:
    """Each recording's URL relative to the page; ``None`` where there is no way, as to another drive."""
    base = folder.resolve()
    links: list[str | None] = []
    for path in rows.audio_paths():
        try:
            # As bytes: a name need not be valid UTF-8.
            links.append(quote(os.fsencode(Path(os.path.relpath(path, base)).as_posix())))
        except ValueError:
            links.append(None)
    return links


def _caption(n_clips: int, n_points: int, seconds: Seconds) -> str:
    if n_clips == n_points:
        return f"Every point plays the first {seconds:g} s of its recording, carried in this page."
    ringed = (
        f"Ringed points ({n_clips:,} of {n_points:,}) play the first {seconds:g} s, carried in this page; the"
        if n_clips
        else "The"
    )
    return (
        f"{ringed} others play their audio file from its place relative to this page, so they fall silent "
        "where the page or the files are moved, or where the browser cannot decode the format. Drag to move, "
        "Ctrl and the wheel to zoom; a name below the picture shows its points alone."
    )


def _facts(
    stores: Mapping[str, EmbeddingStore],
    projections: Mapping[str, Projection],
    layer: int | None,
    perplexity: float,
    seed: int,
    n_points: int,
) -> dict[str, Any]:
    return {
        "utterances": n_points,
        "perplexity": perplexity,
        "seed": seed,
        "stores": {
            title: {
                "frontend": store.info.frontend,
                "fingerprint": store.info.fingerprint,
                "pool": store.info.pool,
                "dim": store.info.dim,
                "layer": layer or store.info.n_layers,
                "principal_components": min(PCA_DIM, store.info.dim, n_points),
                "variance_kept": round(projections[title].explained, 4),
                "engine": projections[title].engine,
            }
            for title, store in stores.items()
        },
        "voxfide_version": __version__,
    }


def _reading(facts: Mapping[str, Any]) -> list[Prose | KeyValues]:
    words = [
        "Neighbours in the picture are neighbours in the embedding. Distances between clusters, their sizes "
        "and their densities say little, and classes that overlap here may still be separable in the "
        "embedding's own space: the picture is for finding questions, and an EER answers them.",
        "`projection.json` holds what is listed here; the same settings on the same store give the same "
        "coordinates.",
    ]
    stores = {f"store {title}": values for title, values in facts["stores"].items()}
    return [Prose(words), KeyValues({k: v for k, v in facts.items() if k != "stores"} | stores)]
