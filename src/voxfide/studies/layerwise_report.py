"""The layer-wise study written out: tables, figures, and one HTML page of both.

A folder gets ``report.html``, ``tables/`` (Markdown, CSV and LaTeX) and ``figures/`` (PNG and PDF).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from voxfide.errors import UsageError
from voxfide.report.markup import slug
from voxfide.report.page import Block, Figure, Notice, Page, Prose, Section, Stat, Stats
from voxfide.report.tables import Spread, Table, show
from voxfide.studies import layerwise_figures as figures
from voxfide.studies.layerwise_figures import WeightVector
from voxfide.studies.layerwise_rows import EerRow, SpeedRow, WeightRow
from voxfide.studies.layerwise_tables import (
    EerGroup,
    difference_table,
    eer_groups,
    in_order,
    mean_table,
    paired_with_published,
    published_table,
    seed_table,
    speed_table,
)
from voxfide.studies.published import TRAINED_ON, layerwise_eers, layerwise_weights
from voxfide.studies.tables import write_figure, write_table
from voxfide.types import PathLike

if TYPE_CHECKING:
    from matplotlib.figure import Figure as MatplotlibFigure

TITLE: Final = "Layer-wise study"
PAPER: Final = (
    "Y. El Kheir, Y. Samih, S. Maharjan, T. Polzehl, S. Möller: Comprehensive Layer-wise Analysis of SSL "
    "Models for Audio Deepfake Detection, Findings of NAACL 2025, arXiv:2502.03559."
)
_SUFFIXES: Final = (".png", ".pdf")


def write_layerwise_report(
    folder: PathLike,
    eers: Sequence[EerRow],
    weights: Sequence[WeightRow],
    speeds: Sequence[SpeedRow],
    *,
    published: bool = False,
    title: str = TITLE,
) -> Path:
    """Writes the study's tables, figures and page; returns the page's path.

    Args:
        folder: made if it is missing; files of the same names are replaced.
        eers: at least one; names appear in the order in which the rows bring them.
        weights: may be empty, as of back-ends that have none.
        speeds: may be empty.
        published: set the paper's numbers beside the measured ones, and its heat maps below.
        title: of the page.

    Raises:
        UsageError: no EERs, or two of one head, seed, training set and evaluation set.
    """
    if not eers:
        raise UsageError(f"{folder}: no EERs: there is nothing to report")
    files = _Files(Path(folder))
    groups = eer_groups(eers)
    vectors = figures.mean_weights(weights)
    sections = [Section("Summary", _summary(eers, groups))]
    sections.append(Section("Equal error rates", _eer_tables(files, groups)))
    if published:
        sections.append(Section("Beside the published numbers", _beside_published(files, eers, groups)))
    if any(len(in_order(head.n_layers for head in group.heads)) > 1 for group in groups):
        sections.append(Section("EER against depth", _depth_figures(files, groups)))
    if vectors:
        sections.append(Section("Layer weights", _weight_figures(files, vectors)))
    if published:
        sizes = in_order(row.size for row in eers)
        printed = [v for v in figures.published_vectors(layerwise_weights()) if v.size in sizes]
        if printed:
            sections.append(Section("Published layer weights", _published_weights(files, printed)))
    if speeds:
        sections.append(Section("Speed and size", _speed(files, speeds)))
    sections.append(Section("Every seed", _seed_tables(files, groups)))
    subtitle = _about(eers)
    return Page(title, subtitle, sections, kicker="voxfide study").write(files.folder / "report.html")


def report_published(folder: PathLike) -> Path:
    """Draws the paper's tables and heat maps from its published numbers alone; returns the page's path."""
    eers = [
        EerRow(
            TRAINED_ON[e.key.eval_set], e.key.eval_set, e.key.size, e.key.frontend, e.key.backend,
            e.key.n_layers, e.seed, e.eer_percent,
        )
        for e in layerwise_eers()
        if e.seed is not None
    ]  # fmt: skip
    files = _Files(Path(folder))
    groups = eer_groups(eers)
    vectors = figures.published_vectors(layerwise_weights())
    source = [
        f"Nothing here was measured by voxfide. Source: {PAPER}",
        "The numbers are those of the paper's repository: three seeds a head, trained on the training set "
        "that belongs to each evaluation set. HABLA is near 10 % for every head.",
    ]
    sections = [
        Section("Source", [Prose(source)]),
        Section("Equal error rates", _eer_tables(files, groups)),
        Section("EER against depth", _depth_figures(files, groups)),
        Section("Layer weights", _published_weights(files, vectors)),
        Section("Every seed", _seed_tables(files, groups)),
    ]
    page = Page("Layer-wise study: published numbers", _about(eers), sections, kicker="voxfide study")
    return page.write(files.folder / "report.html")


@dataclass
class _Files:
    """The study's folder, and which names of files in it are taken."""

    folder: Path
    _taken: set[Path] = field(default_factory=set)

    def table(self, stem: str, table: Table) -> Table:
        """Writes a table's files and gives it back."""
        place = self._place("tables", stem)
        write_table(place.parent, place.name, table)
        return table

    def figure(self, stem: str, drawn: MatplotlibFigure, caption: str, alt: str) -> Figure:
        """Saves a figure's files and makes it a block of the page."""
        place = self._place("figures", stem)
        write_figure(place.parent, place.name, drawn)
        return Figure(drawn, caption, alt, wide=True)

    def _place(self, kind: str, stem: str) -> Path:
        """A path without suffix that no other table or figure has, whatever the names in ``stem``."""
        base = "_".join(slug(part) for part in stem.split("_"))
        place = self.folder / kind / base
        number = 2
        while place in self._taken:
            place, number = place.with_name(f"{base}_{number}"), number + 1
        self._taken.add(place)
        return place


def _about(eers: Sequence[EerRow]) -> str:
    def listed(items: list[str]) -> str:
        return ", ".join(items) if len(items) <= 12 else f"{', '.join(items[:11])} and {len(items) - 11} more"

    frontends, backends = in_order(r.frontend for r in eers), in_order(r.backend for r in eers)
    return (
        f"{listed(frontends)} with {listed(backends)}, cut to their first layers, "
        f"scored on {listed(in_order(r.eval_set for r in eers))}."
    )


def _summary(eers: Sequence[EerRow], groups: Sequence[EerGroup]) -> list[Block]:
    heads = {(r.train_set, r.size, r.frontend, r.backend, r.n_layers, r.seed) for r in eers}
    seeds = sorted({row.seed for row in eers})
    stats = [
        Stat("Heads trained", f"{len(heads):,}", f"seeds {', '.join(map(str, seeds))}"),
        Stat("EERs", f"{len(eers):,}", f"on {len(in_order(r.eval_set for r in eers))} evaluation set(s)"),
    ]
    for group in groups:
        stats.append(_best(group))
    blocks: list[Block] = [Stats(stats)]
    gaps = [text for group in groups if (text := _gaps(group))]
    if gaps:
        blocks.append(Notice(gaps, "warning"))
    return blocks


def _best(group: EerGroup) -> Stat:
    """The head with the lowest figure of the table's last column."""
    table = mean_table(group)
    rows = [row for row in table.rows if isinstance(row[-1], Spread)]
    what = table.columns[-1].key
    if not rows:
        return Stat(f"Best, {group.name}", "–", f"no head has all evaluation sets ({what})")
    best = min(rows, key=lambda row: row[-1].value)
    frontend, backend, n_layers = best[:3]
    value = show(best[-1], table.columns[-1]).partition(" ±")[0]
    return Stat(f"Lowest EER, {group.name} ({what})", value, f"{frontend}, {backend}, {n_layers} layers", "%")


def _gaps(group: EerGroup) -> str:
    """What of heads × evaluation sets × seeds is missing, in a sentence; empty where nothing is."""
    seeds = {row.seed for row in group.rows}
    expected = len(group.heads) * len(group.eval_sets) * len(seeds)
    if len(group.rows) == expected:
        return ""
    return (
        f"{group.name}: {expected - len(group.rows):,} of {expected:,} EERs are missing. An average over "
        "evaluation sets is given for seeds that have them all."
    )


def _eer_tables(files: _Files, groups: Sequence[EerGroup]) -> list[Block]:
    return [files.table(f"eer_{group.stem}", mean_table(group)) for group in groups]


def _seed_tables(files: _Files, groups: Sequence[EerGroup]) -> list[Block]:
    return [files.table(f"eer-seeds_{group.stem}", seed_table(group)) for group in groups]


def _depth_figures(files: _Files, groups: Sequence[EerGroup]) -> list[Block]:
    blocks: list[Block] = []
    for group in groups:
        bars = "± one standard deviation over seeds"
        if len({row.seed for row in group.rows}) == 1:
            bars = "the confidence interval of the one seed, where it was computed"
        caption = (
            f"EER against the number of layers run, {group.name}; every panel has its own scale. "
            f"Bars: {bars}."
        )
        alt = f"EER over the number of layers for each evaluation set, {group.name}."
        blocks.append(files.figure(f"eer-depth_{group.stem}", figures.eer_by_depth(group), caption, alt))
    return blocks


def _weight_figures(files: _Files, vectors: Sequence[WeightVector]) -> list[Block]:
    """Heat maps of each size: training sets at full depth, and every depth of each training set."""
    blocks: list[Block] = [
        Prose(
            [
                "What each head learnt to take from each layer: softmax weights, mean over seeds, as they "
                "are and, as in the paper, scaled in each row from the least (0) to the greatest (1). "
                "Scaling shows the order of the layers however small the differences are; the weights "
                "themselves show how large they are. A dot marks the greatest weight of its row."
            ]
        )
    ]
    for size in in_order(v.size for v in vectors):
        of_size = [v for v in vectors if v.size == size]
        full = figures.deepest(of_size)
        train_sets = in_order(v.train_set for v in of_size)
        shallower = len(full) < len(of_size)
        what = f"Layer weights of {size} models at their greatest depth, by training set"
        equal = ", ".join(f"{1 / n:.4f}" for n in sorted({v.n_layers for v in full}))
        every = np.concatenate([v.weights for v in full])
        raw = (
            f"{what}: softmax weights, {np.nanmin(every):.4f} to {np.nanmax(every):.4f}; equal ones: {equal}."
        )
        blocks += _scalings(files, f"weights_{size}", full, what, raw, figures.by_training_set)
        for train_set in train_sets if shallower else []:
            own = [v for v in of_size if v.train_set == train_set]
            what = f"Layer weights of {size} models trained on {train_set}, by the number n of layers run"
            raw = f"{what}: softmax weights times n, so that 1 is an equal share."
            blocks += _scalings(files, f"weights-depth_{size}_{train_set}", own, what, raw, figures.by_depth)
    return blocks


def _scalings(
    files: _Files,
    stem: str,
    vectors: Sequence[WeightVector],
    what: str,
    raw: str,
    draw: Callable[..., MatplotlibFigure],
) -> list[Block]:
    """One heat map as published and one of the weights themselves; nothing where all have one layer."""
    if all(v.n_layers == 1 for v in vectors):
        return []
    blocks: list[Block] = []
    if any(np.isfinite(figures.min_max(v.weights)).any() for v in vectors):
        caption = f"{what}: min-max scaled in each row, as published."
        blocks.append(files.figure(f"{stem}_min-max", draw(vectors, scaled=True), caption, caption))
    blocks.append(files.figure(f"{stem}_softmax", draw(vectors, scaled=False), raw, raw))
    return blocks


def _published_weights(files: _Files, vectors: Sequence[WeightVector]) -> list[Block]:
    blocks: list[Block] = []
    for size in in_order(v.size for v in vectors):
        caption = (
            f"Layer weights of {size} models as published by El Kheir et al. 2025: min-max scaled in each "
            "row by the authors, of heads on all layers."
        )
        drawn = figures.by_training_set([v for v in vectors if v.size == size], scaled=True)
        blocks.append(files.figure(f"weights-published_{size}", drawn, caption, caption))
    return blocks


def _beside_published(files: _Files, eers: Sequence[EerRow], groups: Sequence[EerGroup]) -> list[Block]:
    pairs = paired_with_published(eers)
    if not pairs:
        return [
            Notice(
                [
                    "None of the measured heads is in the paper. It has sizes small and large; front-ends "
                    "wav2vec2, hubert and wavlm; back-ends ffn and aasist; and the evaluation sets "
                    f"{', '.join(TRAINED_ON)}."
                ]
            )
        ]
    files.table("published", published_table(pairs))
    differences = np.array([pair.difference for pair in pairs])
    median, low, high = (
        f"{value:+.2f}".replace("-", "−")
        for value in (np.median(differences), differences.min(), differences.max())
    )
    words = [
        f"{len(pairs):,} measured EERs (mean over seeds) have a published counterpart of the same size, "
        f"front-end family, back-end, depth and evaluation set. Measured less published: median {median}, "
        f"from {low} to {high} points. `tables/published.csv` has both, with their deviations over seeds.",
        f"Source of the published numbers: {PAPER}",
    ]
    blocks: list[Block] = [Prose(words)]
    others = sum(not pair.same_training_set for pair in pairs)
    if others:
        blocks.append(
            Notice([f"{others:,} of them were trained on another set than the paper's."], "warning")
        )
    for group in groups:
        table = difference_table(group)
        if table is not None:
            blocks.append(files.table(f"differences_{group.stem}", table))
    return blocks


def _speed(files: _Files, speeds: Sequence[SpeedRow]) -> list[Block]:
    caption = (
        "Speed (seconds of audio per second of computing) and parameters of the front-ends against the "
        "number of layers built and run."
    )
    figure = files.figure("speed", figures.speed_by_depth(speeds), caption, caption)
    return [figure, files.table("speed", speed_table(speeds))]
