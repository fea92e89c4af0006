"""The model card of a detector: Markdown for people, with metadata for the hub."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from voxfide.calibration import CalibrationRecord


CARD_HEAD = (
    "---",
    "library_name: voxfide",
    "tags: [anti-spoofing, audio-deepfake-detection, voxfide]",
    "pipeline_tag: audio-classification",
    "---",
    "",
)
"""What the hub reads."""

LIKELIHOOD_RATIO = "natural-log likelihood ratio"

TRANSFORMERS = (
    "The folder is also a model of `transformers`: `AutoModelForAudioClassification.from_pretrained` and",
    '`pipeline("audio-classification")` load it. Its probability of bona fide is the logistic function of',
    "the score before calibration.",
    "",
)


def model_card(config: Mapping[str, Any], calibration: CalibrationRecord | None = None) -> str:
    """``README.md`` of a detector folder, from its ``config.json`` and its calibration."""
    frontend, training = config["frontend"], config["training"]
    weights = frontend["weights"]
    where = (
        "inside `model.safetensors`"
        if weights["in"] != "hub"
        else f"on the hub: `{weights['hub_id']}` at `{weights['revision']}`"
    )
    # Of what a classification head reads, not every state is a layer's output.
    blocks = frontend["settings"].get("n_layers", frontend["n_layers"])
    lines = [
        *CARD_HEAD,
        f"# Detector: {frontend['name']} + {config['backend']['name']}",
        "",
        "Scores how likely a recording is bona fide speech rather than synthetic, converted or",
        *reading(config, calibration),
        "",
        "```python",
        "from voxfide import Detector",
        'print(Detector.from_pretrained("PATH_OF_THIS_FOLDER").detect("recording.wav"))',
        "```",
        "",
        *(TRANSFORMERS if weights["in"] == "transformers" else ()),
        "## What it is made of",
        "",
        f"- front-end `{frontend['name']}`, first {blocks} layer(s); weights {where}",
        *_features(config),
        f"- back-end `{config['backend']['name']}` with {settings_text(config['backend']['config'])}",
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
        *(calibration_section(calibration) if calibration else ()),
        "## Limits",
        "",
        "- It knows the attacks it was trained on; on other attacks, codecs, languages or rooms expect",
        "  it to be worse than the figures above, and test it on your own material before relying on it.",
        "- The score is calibrated for the conditions of the calibration set and for no others."
        if calibration
        else "- The score is not calibrated: hold it against scores of known recordings made as yours was.",
        "- A verdict on one recording is evidence, not proof.",
        "",
    ]
    return "\n".join(lines)


def _features(config: Mapping[str, Any]) -> list[str]:
    """What of a recording the back-end sees."""
    if config["pool"] != "none":
        return [f"- features averaged over time: `{config['pool']}`"]
    crop = config["crop"]
    if crop["seconds"] is None:
        return ["- features frame by frame, of the whole recording in windows"]
    short = "repeated" if crop["short"] == "tile" else "used as they are"
    long = "cut there" if crop["long"] == "cut" else "scored in windows of that length and averaged"
    return [f"- features frame by frame, of {crop['seconds']:g} s: shorter recordings {short}, longer {long}"]


def reading(
    config: Mapping[str, Any], calibration: CalibrationRecord | None, learnt_in: str = "training"
) -> list[str]:
    """How a score is to be read, and from where on a recording counts as bona fide."""
    lines = ["otherwise spoofed speech. **A higher score means more bona fide**; the score is a"]
    kind = config.get("score_kind", LIKELIHOOD_RATIO)
    if calibration is None:
        return [
            *lines,
            f"{kind} under the conditions of {learnt_in}, not calibrated.",
            f"Recordings scoring at least {config['threshold']:.4f} count as bona fide by default.",
        ]
    return [
        *lines,
        "calibrated natural-log likelihood ratio.",
        f"Recordings scoring at least {calibration.threshold:.4f} count as bona fide by default: the Bayes",
        f"threshold at a prior of {calibration.prior:g} for bona fide, where rejecting a bona fide recording",
        f"costs {calibration.c_miss:g} and accepting a spoof {calibration.c_fa:g}.",
    ]


def calibration_section(record: CalibrationRecord) -> list[str]:
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
        lines += [table_row([name, f"{value:.4f}"]) for name, value in rows if value is not None]
    return [*lines, *(f"\n- {warning}" for warning in record.warnings), ""]


def _folds(figures: Mapping[str, Any]) -> str:
    grouped = ", groups kept together" if figures.get("grouped") else ""
    return f"after, cross-validated in {figures.get('n_folds')} folds{grouped}"


def settings_text(values: Mapping[str, Any]) -> str:
    """Options of a back-end in a line."""
    return ", ".join(f"{k} = {v}" for k, v in values.items())


def _training(training: Mapping[str, Any]) -> list[str]:
    sets = training.get("sets", {})
    if not sets:
        origin = training.get("converted_from")
        if not origin:
            return ["Not recorded."]
        return [f"Weights converted from `{origin['file']}` (SHA-256 `{origin['sha256']}`)."]
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
        lines.append(table_row(cells))
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
    lines = [table_row(["set", *(heading for heading, _ in FIGURES.values())]), "|---" * 6 + "|"]
    for name, values in metrics.items():
        lines.append(table_row([name, *(f"{values[k]:.{places}f}" for k, (_, places) in FIGURES.items())]))
    return lines


def table_row(cells: Iterable[object]) -> str:
    """A row of a Markdown table."""
    escaped = (str(cell).replace("|", "\\|").replace("\n", " ") for cell in cells)
    return f"| {' | '.join(escaped)} |"
