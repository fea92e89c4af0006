"""The model card of a detector: Markdown for people, with metadata for the hub."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


def model_card(config: Mapping[str, Any]) -> str:
    """``README.md`` of a detector folder, from its ``config.json``."""
    frontend, training = config["frontend"], config["training"]
    weights = frontend["weights"]
    where = (
        "inside `model.safetensors`"
        if weights["in"] != "hub"
        else f"on the hub: `{weights['hub_id']}` at `{weights['revision']}`"
    )
    lines = [
        "---",
        "library_name: voxfide",
        "tags: [anti-spoofing, audio-deepfake-detection, voxfide]",
        "pipeline_tag: audio-classification",
        "---",
        "",
        f"# Detector: {frontend['name']} + {config['backend']['name']}",
        "",
        "Scores how likely a recording is bona fide speech rather than synthetic, converted or",
        "otherwise spoofed speech. **A higher score means more bona fide**; the score is a",
        "natural-log likelihood ratio.",
        f"Recordings scoring at least {config['threshold']:.4f} count as bona fide by default.",
        "",
        "```python",
        "from voxfide import Detector",
        'print(Detector.from_pretrained("PATH_OF_THIS_FOLDER").detect("recording.wav"))',
        "```",
        "",
        "## What it is made of",
        "",
        f"- front-end `{frontend['name']}`, first {frontend['n_layers']} layer(s); weights {where}",
        f"- features averaged over time: `{config['pool']}`",
        f"- back-end `{config['backend']['name']}` with {_settings(config['backend']['config'])}",
        f"- audio: {config['audio']['sample_rate']} Hz mono, windows of {config['audio']['window_s']:g} s",
        f"- made with voxfide {config['voxfide_version']}",
        "",
        "## Training data",
        "",
        *_training(training),
        "",
        "## Results",
        "",
        *_metrics(training.get("metrics", {})),
        "",
        "## Limits",
        "",
        "- It knows the attacks it was trained on; on other attacks, codecs, languages or rooms expect",
        "  it to be worse than the figures above, and test it on your own material before relying on it.",
        "- The score is a likelihood ratio under the training conditions and not calibrated for others.",
        "- A verdict on one recording is evidence, not proof.",
        "",
    ]
    return "\n".join(lines)


def _settings(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{k} = {v}" for k, v in values.items())


def _training(training: Mapping[str, Any]) -> list[str]:
    sets = training.get("sets", {})
    if not sets:
        return ["Not recorded."]
    lines = [
        "| set | manifest | split | bona fide | spoof | left out | digest |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, facts in sets.items():
        cells = [
            name,
            facts["manifest"],
            facts["split"] or "all",
            facts["n_bonafide"],
            facts["n_spoof"],
            facts["n_failed"],
            f"`{facts['digest'][:12]}`",
        ]
        lines.append(_table_row(cells))
    return lines


FIGURES = {
    "eer_percent": ("EER %", 2),
    "min_dcf": ("min DCF", 4),
    "act_dcf": ("actual DCF", 4),
    "cllr": ("Cllr", 4),
    "auc": ("AUC", 4),
}
"""Metrics of the table: heading and decimal places."""


def _metrics(metrics: Mapping[str, Mapping[str, Any]]) -> list[str]:
    if not metrics:
        return ["Not measured: no development set was given."]
    lines = [_table_row(["set", *(heading for heading, _ in FIGURES.values())]), "|---" * 6 + "|"]
    for name, values in metrics.items():
        lines.append(_table_row([name, *(f"{values[k]:.{places}f}" for k, (_, places) in FIGURES.items())]))
    return lines


def _table_row(cells: Iterable[object]) -> str:
    escaped = (str(cell).replace("|", "\\|").replace("\n", " ") for cell in cells)
    return f"| {' | '.join(escaped)} |"
