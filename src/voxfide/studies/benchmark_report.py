"""The benchmark written out: tables, a figure, and one HTML page of them.

A folder gets ``report.html``, ``tables/`` (Markdown, CSV and LaTeX), ``figures/`` (PNG and PDF), and
``benchmark.csv`` with all that was measured, to full precision.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from voxfide.files import write_atomic
from voxfide.report.page import Block, Figure, KeyValues, Notice, Page, Prose, Section, Stat, Stats
from voxfide.studies.benchmark import BenchmarkResult
from voxfide.studies.benchmark_figures import trade_off_figure
from voxfide.studies.benchmark_rows import BenchmarkRow, rows_csv
from voxfide.studies.benchmark_tables import RANDOM_NOTE, main_table, published_table
from voxfide.studies.tables import write_figure, write_table
from voxfide.training.pooled import TrainingSet, set_facts
from voxfide.types import PathLike

PAPER: Final = (
    "D. Combei, A. Stan, D. Oneată, H. Cucu: WavLM model ensemble for audio deepfake detection, ASVspoof 5 "
    "Workshop 2024."
)


def write_benchmark_report(
    folder: PathLike,
    result: BenchmarkResult,
    sets: tuple[TrainingSet, TrainingSet],
    *,
    published: bool = False,
) -> Path:
    """Writes tables, figure and page; returns the page's path.

    Args:
        folder: made if it is missing; files of the same names are replaced.
        result: what was measured, and what was not.
        sets: to fit to, and to measure on.
        published: set the paper's table 1 beside it.
    """
    folder = Path(folder)
    rows = result.rows
    table = main_table(rows, result.broken)
    write_table(folder / "tables", "table1", table)
    write_atomic(folder / "benchmark.csv", rows_csv(rows))
    sections = [Section("Summary", _summary(result)), Section("Table 1", [table])]
    if rows:
        sections.append(Section("What accuracy costs", [_figure(folder, rows)]))
    if published:
        beside = published_table(rows)
        write_table(folder / "tables", "published", beside)
        sections.append(
            Section(
                "Beside the published table", [beside, Prose([f"Source of the printed figures: {PAPER}"])]
            )
        )
    sections.append(Section("How it was measured", _method(rows, sets)))
    names = ", ".join(row.label for row in rows[:8]) + (f" and {len(rows) - 8} more" if len(rows) > 8 else "")
    page = Page(
        "Benchmark of representations",
        f"{names or 'No front-end'}: time averages and logistic regression.",
        sections,
        kicker="voxfide study",
    )
    return page.write(folder / "report.html")


def _summary(result: BenchmarkResult) -> list[Block]:
    rows = result.rows
    trained = [row for row in rows if not row.is_random]
    random = [row for row in rows if row.is_random]
    stats = [Stat("Front-ends measured", str(len(rows)), f"{len(result.broken)} could not be")]
    if trained:
        best = trained[0]
        detail = best.label if best.low is None else f"{best.label}, 95 %: {best.low:.2f} to {best.high:.2f}"
        stats.append(Stat("Lowest EER", f"{best.eer_percent:.2f}", detail, "%"))
    fast = [row for row in rows if row.x_realtime]
    if fast:
        first = max(fast, key=lambda row: row.x_realtime or 0.0)
        stats.append(Stat("Fastest", f"{first.x_realtime:,.0f}", f"{first.label}", "s of audio/s"))
    points = []
    if random:
        points.append(f"{', '.join(row.label for row in random)}: {RANDOM_NOTE}")
    points += [f"{label} was not measured: {reason}" for label, reason in result.broken.items()]
    counts = {(row.n_bonafide, row.n_spoof) for row in rows}
    if len(counts) > 1:
        points.append(
            "Not all front-ends could use the same utterances (see the notes in the table): their EERs are "
            "of different trials."
        )
    return [Stats(stats), *([Notice(points, "warning")] if points else [])]


def _figure(folder: Path, rows: Sequence[BenchmarkRow]) -> Block:
    drawn = trade_off_figure(rows)
    write_figure(folder / "figures", "trade-off", drawn)
    text = (
        "EER against the number of parameters (left; front-ends without any are not shown) and against the "
        "speed of extraction on the machine named below (right). Bars: 95 % bootstrap intervals."
    )
    if any(row.is_random for row in rows):
        text += " Hollow, without bars: random weights, whose EER means nothing about the model."
    return Figure(drawn, text, "EER of each front-end over its parameters and over its speed.", wide=True)


def _method(rows: Sequence[BenchmarkRow], sets: tuple[TrainingSet, TrainingSet]) -> list[Block]:
    paragraphs = [
        "Every front-end is frozen. Its features are averaged over time; a logistic regression on one layer, "
        "standardised, is fitted to the training set and measured on the development set. Intervals resample "
        "utterances, so they do not cover the chance of other speakers or attacks.",
        "Each front-end ran in a fresh process. Speed: seconds of decoded audio whose time averages are "
        "computed in a second, the median of up to three passes over a sample of the development set, after "
        "a few utterances that do not count. Peak memory: resident memory of that process, with Python and "
        "PyTorch, up to the end of extraction; decoding processes are not counted.",
    ]
    values: dict[str, Any] = {part.name: _shown(set_facts(part, 0)) for part in sets}
    for row in rows[:1]:
        values["machine"] = {name.replace("_", " "): value for name, value in row.machine.items()}
    return [Prose(paragraphs), KeyValues(values)]


def _shown(facts: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "manifest": facts["manifest"],
        "split": facts["split"] or "all",
        "bona fide": f"{facts['n_bonafide']:,}",
        "spoof": f"{facts['n_spoof']:,}",
        "digest": facts["digest"][:16],
    }
