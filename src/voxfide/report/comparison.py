"""Several systems on the same trials: their tables, and the report that sets them side by side."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voxfide.report.figures import det_figure
from voxfide.report.page import Block, Figure, KeyValues, Notice, Page, Prose, Section
from voxfide.report.tables import Column, Table
from voxfide.report.wording import meaning_of
from voxfide.types import PathLike

if TYPE_CHECKING:
    from voxfide.evaluation import Comparison, Evaluation, Group, Trials


def systems_table(evaluations: Mapping[str, Evaluation], *, intervals: bool = False) -> Table:
    """Every metric of each system, a row each; intervals of the EER only unless asked for."""
    names = list(next(iter(evaluations.values())).metrics)
    columns = [Column("system")]
    for name in names:
        meaning = meaning_of(name)
        spec = ".2f" if name == "eer_percent" else ".4f"
        columns.append(Column(name, meaning.title, spec, estimate=intervals or name == "eer_percent"))
    rows = []
    for system, evaluation in evaluations.items():
        metrics = [evaluation.metrics[name] for name in names]
        cells = (m if c.estimate else m.value for m, c in zip(metrics, columns[1:], strict=True))
        rows.append((system, *cells))
    return Table(columns, rows, sortable=len(rows) > 2)


def systems_by_table(evaluations: Mapping[str, Evaluation], column: str) -> Table:
    """EER in percent of each group (a row) and system (a column), the worst group first.

    Groups rank by the mean over the systems; those without figures come last.
    """
    found: dict[str, dict[str, Group]] = {}
    for system, evaluation in evaluations.items():
        for group in evaluation.by[column]:
            found.setdefault(group.value, {})[system] = group
    rows = []
    for value, groups in found.items():
        one = next(iter(groups.values()))
        eers = [g.metrics["eer_percent"].value if g.metrics else None for g in groups.values()]
        known = [eer for eer in eers if eer is not None]
        mean = sum(known) / len(known) if known else -math.inf
        rows.append((mean, (value, one.n_bonafide, one.n_spoof, *eers)))
    columns = [Column(column), Column("n_bonafide", "bona fide"), Column("n_spoof", "spoof")]
    columns += [Column(system, f"{system}: EER %", ".2f") for system in evaluations]
    return Table(columns, [row for _, row in sorted(rows, key=lambda r: -r[0])], sortable=len(rows) > 2)


def comparisons_table(comparisons: Sequence[Comparison]) -> Table:
    """Differences of each pair in EER, minDCF, Cllr and AUC, with intervals and p-values."""
    shown = [n for n in ("eer_percent", "min_dcf", "cllr", "auc") if n in comparisons[0].differences]
    columns = [Column("a"), Column("b")]
    for name in shown:
        spec = "+.2f" if name == "eer_percent" else "+.4f"
        columns.append(Column(name, f"{meaning_of(name).title}: a - b", spec, estimate=True))
    columns += [Column("eer_p", "p (EER)", ".2g"), Column("delong_p", "p (AUC, DeLong)", ".2g")]
    rows = [
        (c.a, c.b, *(c.differences[n] for n in shown), c.differences["eer_percent"].p_value, c.delong.p_value)
        for c in comparisons
    ]
    return Table(columns, rows)


def write_comparison_report(
    path: PathLike,
    evaluations: Mapping[str, Evaluation],
    trials: Mapping[str, Trials],
    comparisons: Sequence[Comparison],
    *,
    provenance: Mapping[str, Any],
    own_reports: Mapping[str, str],
) -> Path:
    """Writes one self-contained HTML file, atomically.

    Args:
        path: the file to write; its folder is made if missing.
        evaluations: of each system by name, on the same trials.
        trials: of each system.
        comparisons: of pairs of them.
        provenance: how it came about, as for :func:`voxfide.report.write_evaluation_report`.
        own_reports: where each system's own report is, relative to ``path``.
    """
    first = next(iter(evaluations.values()))
    warnings = [f"{name}: {w}" for name, e in evaluations.items() for w in e.warnings]
    result: list[Block] = [
        Prose([c.sentence() for c in comparisons]),
        systems_table(evaluations),
        Prose([f"Each system's own report: {', '.join(f'`{p}`' for p in own_reports.values())}."]),
    ]
    if warnings:
        result.append(Notice(warnings, "warning"))
    det = Figure(
        det_figure(trials),
        "Detection error trade-off: towards the lower left is better.",
        f"DET curves of {', '.join(evaluations)}.",
    )
    sections = [
        Section("Result", result),
        Section("Differences", [comparisons_table(comparisons), Prose([_HOW])]),
        Section("Errors", [det]),
        *(Section(f"By {column}", [systems_by_table(evaluations, column)]) for column in first.by),
        Section("Limits", [Notice([_LIMIT])]),
        Section("What was run", [KeyValues(provenance)]),
    ]
    subtitle = (
        f"{len(evaluations)} systems on the same {first.n_bonafide + first.n_spoof:,} trials: "
        f"{first.n_bonafide:,} bona fide and {first.n_spoof:,} spoof."
    )
    title = "Comparison of " + ", ".join(evaluations)
    return Page(title, subtitle, sections, kicker="Spoofed-speech detection · comparison").write(path)


_HOW = (
    "A difference is a less b, its interval from resamples of the trials that are the same for both. "
    "p says how often chance alone would show a difference as large between equally good systems. "
    "With many comparisons some will look clear by chance."
)
_LIMIT = (
    "A clear difference on these trials says nothing of attacks, languages, codecs or rooms that are not "
    "among them."
)
