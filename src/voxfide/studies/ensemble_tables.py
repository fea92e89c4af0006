"""The ensemble study's tables: the paper's tables 2 and 3 as measured, with the printed figures beside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from voxfide.evaluation.result import Metric
from voxfide.fusion import FusionRecord
from voxfide.report.tables import Column, Table
from voxfide.studies.ensemble import EnsembleResult
from voxfide.studies.ensemble_data import has_labels
from voxfide.studies.published import fine_tuned, fusions

PRETRAINED: Final = "pretrained"
PRINTED_SETS: Final = ("dev", "progress", "eval")
"""Sets of the paper's tables, as its recipe names them."""

_EER: Final = ".2f"


def metric(values: Sequence[float | None] | None) -> Metric | None:
    """A step's EER and its interval; None where there is none."""
    if values is None:
        return None
    value, low, high = values
    if value is None:
        return None
    return Metric(value, None if low is None or high is None else (low, high))


def systems_table(result: EnsembleResult, *, published: bool = False) -> Table:
    """Table 2: a row a system, its EER on the sets that all systems score."""
    recipe = result.recipe
    printed = [name for name in PRINTED_SETS[:2] if published]
    sets = [n for n, part in result.data.sets.items() if has_labels(part) and not recipe.sets[n].fused_only]
    columns = [Column("system"), Column("model"), Column("training_set", "fine-tuned on")]
    columns += [Column(f"{of}_eer_percent", f"{of} EER %", _EER, estimate=True, best="low") for of in sets]
    columns += [Column(f"published_{of}", f"{of}, printed", _EER) for of in printed]
    paper = {(row.model, row.training_set): row for row in fine_tuned()}
    rows: list[list[Any]] = []
    for name, system in recipe.systems.items():
        row: list[Any] = [name, system.frontend, system.mix or "–"]
        for of in sets:
            row.append(metric(result.facts.get(f"score {of}, {name}", {}).get("eer")))
        found = paper.get((system.frontend, system.mix or ""))
        values = {"dev": found.eer_dev, "progress": found.eer_progress} if found else {}
        row += [values.get(of) for of in printed]
        rows.append(row)
    caption = (
        "Logistic regression on the time averages of pre-trained and fine-tuned models, fitted to "
        f"{recipe.classifier.mix}; EER with 95 % bootstrap intervals."
    )
    return Table(columns, rows, caption)


def fusion_table(result: EnsembleResult, *, published: bool = False) -> Table | None:
    """Table 3: a row a subset of the fused systems; None where the ablation is not done."""
    facts = result.facts.get("ablation")
    if facts is None:
        return None
    recipe, fit = result.recipe, facts["fit"]
    names = recipe.fusion.systems
    short = {name: member(result, name) for name in names}
    sets = [of for of in facts["sets"] if of != fit]
    printed = [of for of in PRINTED_SETS if published]
    columns = [Column("n_systems", "n"), *(Column(name, short[name]) for name in names)]
    columns += [Column(f"{of}_eer_percent", f"{of} EER %", _EER, estimate=True, best="low") for of in sets]
    columns += [Column(f"published_{of}", f"{of}, printed", _EER) for of in printed]
    paper = {frozenset(f.members): f for f in fusions()}
    rows: list[list[Any]] = []
    for subset in facts["subsets"]:
        members = subset["systems"]
        row: list[Any] = [len(members), *("x" if name in members else "" for name in names)]
        row += [metric(subset["eer"][of]) for of in sets]
        found = paper.get(frozenset(short[name] for name in members)) if _is_papers(result) else None
        values = (
            {"dev": found.eer_dev, "progress": found.eer_progress, "eval": found.eer_eval} if found else {}
        )
        rows.append([*row, *(values.get(of) for of in printed)])
    caption = (
        f"Late fusion of {recipe.fusion.inputs} of all subsets by logistic regression, fitted to {fit}; EER "
        "with 95 % bootstrap intervals. Single systems went through the same regression, which leaves their "
        "EER as it is unless it gives them a negative weight."
    )
    return Table(columns, rows, caption, group_by=1)


def member(result: EnsembleResult, name: str) -> str:
    """A fused system by what it was trained on, as the paper's table 3 names it."""
    mixes = [result.recipe.systems[n].mix or PRETRAINED for n in result.recipe.fusion.systems]
    own = result.recipe.systems[name].mix or PRETRAINED
    return own if mixes.count(own) == 1 else name


def _is_papers(result: EnsembleResult) -> bool:
    """Whether the fused systems are those of the paper."""
    systems = [result.recipe.systems[name] for name in result.recipe.fusion.systems]
    return all(system.frontend == "wavlm-base" for system in systems)


def weights_table(record: FusionRecord) -> Table:
    """What the fusion gives to each system."""
    columns = [
        Column("system"),
        Column("weight", spec=".3f", estimate=True),
        Column("standardised_weight", "× spread", ".3f"),
    ]
    rows: list[list[Any]] = [
        [s.name, Metric(s.weight, s.weight_interval), s.standardised_weight] for s in record.systems
    ]
    rows.append(["intercept", Metric(record.intercept, record.intercept_interval), None])
    caption = (
        f"Weights of the {record.options.inputs} in the fused log-likelihood ratio, with "
        f"{100 * record.confidence:.0f} % bootstrap intervals; × spread: how much each moves the result."
    )
    return Table(columns, rows, caption)


def training_table(result: EnsembleResult) -> Table | None:
    """The fine-tunings; None where none is done."""
    columns = [
        Column("system"),
        Column("mix"),
        Column("utterances", spec=","),
        Column("augmented", spec=","),
        Column("batch", spec=","),
        Column("best_epoch", "best epoch"),
        Column("head_eer_percent", "head's dev EER %", _EER),
    ]
    rows: list[list[Any]] = []
    for name, system in result.recipe.fine_tuned().items():
        facts = result.facts.get(f"finetune {name}")
        if facts is None:
            continue
        mix = str(system.mix)
        copies: Mapping[str, int] = result.facts.get(f"augment {mix}", {}).get("applied", {})
        best, settings = facts["best"], facts["settings"]
        epoch = f"{best['epoch']} of {settings['epochs']}"
        rows.append([name, mix, len(result.data.mixes[mix].manifest), sum(copies.values()),
                     settings["batch_size"], epoch, best.get("eer_percent")])  # fmt: skip
    caption = (
        "Fine-tuned models. The head is the classifier that is trained with the model; the tables use its "
        "features only."
    )
    return Table(columns, rows, caption) if rows else None


def data_table(result: EnsembleResult) -> Table:
    """What the mixes were drawn from, and the sets."""
    columns = [
        Column("part"),
        Column("corpus"),
        Column("split"),
        Column("bonafide", "bona fide", ","),
        Column("spoof", spec=","),
        Column("unlabelled", spec=","),
        Column("source"),
    ]
    rows: list[list[Any]] = []
    for name, drawn in result.data.mixes.items():
        for part in drawn.parts:
            counts = part["drawn"]
            source = Path(part["source"]).name
            labels = (counts["bonafide"], counts["spoof"], 0)
            rows.append([name, part["corpus"], part["split"] or "all", *labels, source])
    for name, rows_of_set in result.data.sets.items():
        spec = result.recipe.sets[name]
        if spec.mix is None:
            counts = rows_of_set.counts()
            source = Path(rows_of_set.source).name
            rows.append([name, spec.corpus, spec.split or "all", *counts.values(), source])
    return Table(columns, rows, "What the mixes were drawn from, and the sets that are scored.", group_by=1)
