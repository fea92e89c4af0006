"""The ensemble study written out: tables, figure 2, and one HTML page of them.

A folder gets ``report.html`` and ``tables/`` (Markdown, CSV and LaTeX) beside what the steps leave.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any, Final

import numpy as np

from voxfide.fusion import FusionRecord
from voxfide.report.categories import by_label_and_split
from voxfide.report.figures_scatter import scatter_figure
from voxfide.report.page import Block, Figure, KeyValues, Notice, Page, Prose, Section, Stat, Stats
from voxfide.report.tables import Table
from voxfide.studies.ensemble import EnsembleResult
from voxfide.studies.ensemble_data import has_labels
from voxfide.studies.ensemble_fusion import RECORD
from voxfide.studies.ensemble_tables import (
    data_table,
    fusion_table,
    metric,
    systems_table,
    training_table,
    weights_table,
)
from voxfide.studies.tables import write_table
from voxfide.types import PathLike

PAPER: Final = (
    "Printed figures: D. Combei, A. Stan, D. Oneată, H. Cucu: WavLM model ensemble for audio deepfake "
    "detection, ASVspoof 5 Workshop 2024, tables 2 and 3."
)


def write_ensemble_report(folder: PathLike, result: EnsembleResult, *, published: bool = False) -> Path:
    """Writes tables and page of whatever is done; returns the page's path.

    Args:
        folder: of the study.
        result: what it did.
        published: set the paper's figures beside the measured ones.
    """
    folder = Path(folder)
    source: list[Block] = [Prose([PAPER])] if published else []
    systems = _written(folder, "table2", systems_table(result, published=published))
    sections = [
        Section("Summary", _summary(result)),
        Section("Systems (table 2 of the paper)", [systems, *source]),
    ]
    if (trained := training_table(result)) is not None:
        sections.append(Section("Fine-tuning", [_written(folder, "finetuning", trained)]))
    fused = fusion_table(result, published=published)
    if fused is not None:
        sections.append(
            Section("Late fusion (table 3 of the paper)", [_written(folder, "table3", fused), *source])
        )
    if "fuse" in result.facts:
        sections.append(Section("Weights", _fusion(folder, result)))
    if "figure" in result.facts:
        sections.append(Section("Embeddings (figure 2 of the paper)", _figure(folder, result)))
    sections.append(Section("Data", [_written(folder, "data", data_table(result))]))
    sections.append(Section("Settings", [_settings(result)]))
    page = Page(
        result.recipe.title or result.recipe.name,
        f"Ensemble study, recipe {result.recipe.name}.",
        sections,
        kicker="voxfide study",
    )
    return page.write(folder / "report.html")


def _written(folder: Path, stem: str, table: Table) -> Table:
    write_table(folder / "tables", stem, table)
    return table


def _summary(result: EnsembleResult) -> list[Block]:
    stats = [Stat("Steps done", str(len(result.facts)), f"{len(result.broken)} not done")]
    for of in result.data.sets:
        found = metric(result.facts.get(f"fuse {of}", {}).get("eer"))
        if found is not None:
            detail = f"95 %: {found.interval[0]:.2f} to {found.interval[1]:.2f}" if found.interval else ""
            stats.append(Stat(f"Fused, {of}: EER", f"{found.value:.2f}", detail, "%"))
    points = []
    if result.data.scale != "1":
        points.append(
            f"A study at scale {result.data.scale}: all counts of utterances are multiplied by it. It shows "
            "that the line works; its figures say little about the models."
        )
    for name, source in result.options.frontends.items():
        points.append(f"In place of {name}: {Path(source).name}. Figures under its name are of that model.")
    points += [f"{note}: left out" for note in result.data.notes]
    points += [f"Fusion: {warning}" for warning in result.facts.get("fuse", {}).get("warnings", [])]
    unlabelled = [name for name, part in result.data.sets.items() if not has_labels(part)]
    if unlabelled:
        points.append(f"Without labels, hence scored but not measured: {', '.join(unlabelled)}.")
    points += [f"Not done: {step}: {reason}" for step, reason in result.broken.items()]
    if result.failures:
        points.append(f"{len(result.failures):,} utterance(s) could not be used (see `failures.csv`).")
    return [Stats(stats), *([Notice(points, "warning")] if points else [])]


def _fusion(folder: Path, result: EnsembleResult) -> list[Block]:
    record = FusionRecord.read(folder / RECORD)
    words = [
        "The fused systems are one detector, `ensemble/`, which `voxfide detect` and `voxfide score` take: "
        "a recording is decoded once.",
    ]
    files = [f for f in result.recipe.submissions if f"submit {f}" in result.facts]
    if files:
        words.append(
            "For ASVspoof 5's evaluation page: "
            + ", ".join(f"`{file}`" for file in files)
            + " (`score.tsv`)."
        )
    return [_written(folder, "fusion", weights_table(record)), Prose(words)]


def _figure(folder: Path, result: EnsembleResult) -> list[Block]:
    facts = result.facts["figure"]
    panels = {}
    labels: list[str] = []
    splits: list[str] = []
    for name, file in facts["coordinates"].items():
        with (folder / file).open(encoding="utf-8", newline="") as lines:
            rows = list(csv.DictReader(lines))
        panels[name] = np.array([[float(row["x"]), float(row["y"])] for row in rows])
        labels, splits = [row["label"] for row in rows], [row["split"] for row in rows]
    drawn = scatter_figure(panels, by_label_and_split(labels, splits))
    caption = (
        f"t-SNE of the time averages of the fine-tuned models' last layers: {result.recipe.classifier.mix} "
        f"and the set {result.recipe.select_on}. `{facts['page']}` plays the clip of each point."
    )
    return [Figure(drawn, caption, "Embeddings in two dimensions, coloured by label and split.", wide=True)]


def _settings(result: EnsembleResult) -> KeyValues:
    recipe, options = result.recipe, result.options
    values: dict[str, Any] = {
        "recipe": recipe.name,
        "notes": recipe.notes or "none",
        "classifier": f"logistic regression, C = {recipe.classifier.C:g}, layer {recipe.classifier.layer}",
        "fusion": f"{', '.join(recipe.fusion.systems)}; fitted to {recipe.fusion.fit}",
        "scale": result.data.scale,
        "seed": options.seed,
        "device": options.device,
    }
    first = next((f for name, f in result.facts.items() if name.startswith("finetune ")), None)
    if first is not None:
        settings = {k.replace("_", " "): v for k, v in first["settings"].items() if k != "batch_size"}
        values["fine-tuning"] = {k: str(v) for k, v in settings.items()}
    return KeyValues(values)
