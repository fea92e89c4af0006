"""The model card of a detector: Markdown for people, with metadata for the hub."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from voxfide.calibration import CalibrationRecord


def model_card(config: Mapping[str, Any], calibration: CalibrationRecord | None = None) -> str:
    """``README.md`` of a detector folder, from its ``config.json`` and its calibration."""
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
        *_reading(config, calibration),
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
        *(["These figures are of the scores before calibration.", ""] if calibration else ()),
        *(_calibration(calibration) if calibration else ()),
        "## Limits",
        "",
        "- It knows the attacks it was trained on; on other attacks, codecs, languages or rooms expect",
        "  it to be worse than the figures above, and test it on your own material before relying on it.",
        "- The score is a likelihood ratio under the conditions of "
        + ("the calibration set" if calibration else "training")
        + " and not calibrated for others.",
        "- A verdict on one recording is evidence, not proof.",
        "",
    ]
    return "\n".join(lines)


def _reading(config: Mapping[str, Any], calibration: CalibrationRecord | None) -> list[str]:
    """How a score is to be read, and from where on a recording counts as bona fide."""
    lines = ["otherwise spoofed speech. **A higher score means more bona fide**; the score is a"]
    if calibration is None:
        return [
            *lines,
            "natural-log likelihood ratio under the conditions of training, not calibrated.",
            f"Recordings scoring at least {config['threshold']:.4f} count as bona fide by default.",
        ]
    return [
        *lines,
        "calibrated natural-log likelihood ratio.",
        f"Recordings scoring at least {calibration.threshold:.4f} count as bona fide by default: the Bayes",
        f"threshold at a prior of {calibration.prior:g} for bona fide, where rejecting a bona fide recording",
        f"costs {calibration.c_miss:g} and accepting a spoof {calibration.c_fa:g}.",
    ]


def _calibration(record: CalibrationRecord) -> list[str]:
    """The section on the calibration: method, data, and Cllr before and after."""
    data, figures = record.fitted_to, record.figures
    lines = ["## Calibration", "", f"`{record.calibration.name}`: {record.calibration.describe()}"]
    if data:
        lines += [
            "",
            f"Fitted to {data.get('n_bonafide')} bona fide and {data.get('n_spoof')} spoofed recordings of "
            f"`{data.get('manifest')}`, split {data.get('split') or 'all'} "
            f"(digest `{str(data.get('digest'))[:12]}`).",
        ]
    if figures:
        rows = [
            ("before", figures.get("cllr_before")),
            ("after, on the recordings of the fit", figures.get("cllr_after")),
            (_folds(figures), figures.get("cllr_cross_validated")),
            ("minimum of any rising transform", figures.get("min_cllr")),
        ]
        lines += ["", "| Cllr (bits) | |", "|---|---|"]
        lines += [_table_row([name, f"{value:.4f}"]) for name, value in rows if value is not None]
    return [*lines, *(f"\n- {warning}" for warning in record.warnings), ""]


def _folds(figures: Mapping[str, Any]) -> str:
    grouped = ", groups kept together" if figures.get("grouped") else ""
    return f"after, cross-validated in {figures.get('n_folds')} folds{grouped}"


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
