"""The model card of an ensemble: Markdown for people, with metadata for the hub."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from voxfide.detector_card import CARD_HEAD, calibration_section, reading, settings_text, table_row

if TYPE_CHECKING:
    from voxfide.calibration import CalibrationRecord

FIGURES = {
    "eer_percent": ("EER %", 2),
    "min_dcf": ("min DCF", 4),
    "act_dcf": ("actual DCF", 4),
    "cllr": ("Cllr", 4),
}
"""Metrics of the table: heading and decimal places."""

METHODS = {"logistic": "logistic regression", "mean": "equal weights", "best": "best single system"}


def ensemble_card(config: Mapping[str, Any], calibration: CalibrationRecord | None = None) -> str:
    """``README.md`` of an ensemble's folder, from its ``config.json`` and its calibration."""
    members, fusion = config["members"], config["fusion"]
    lines = [
        *CARD_HEAD,
        f"# Ensemble of {len(members)} detectors",
        "",
        "Scores how likely a recording is bona fide speech rather than synthetic, converted or",
        *reading(config, calibration, "the trials of the fusion"),
        "",
        "```python",
        "from voxfide.detectors import load_detector",
        'print(load_detector("PATH_OF_THIS_FOLDER").detect("recording.wav"))',
        "```",
        "",
        "## Members",
        "",
        *_members(config),
        "",
        "## Fusion",
        "",
        *_fusion(fusion),
        "",
        *(_figures(fusion["figures"]) if fusion["figures"] else ()),
        *(calibration_section(calibration) if calibration else ()),
        "## Limits",
        "",
        "- It knows the attacks that its members were trained on; on other attacks, codecs, languages",
        "  or rooms expect it to be worse than the figures above, and test it on your own material.",
        "- A verdict on one recording is evidence, not proof.",
        "",
    ]
    return "\n".join(lines)


def _members(config: Mapping[str, Any]) -> list[str]:
    lines = [
        table_row(["member", "front-end", "layers", "back-end", "calibrated", "weight", "interval"]),
        "|---" * 7 + "|",
    ]
    for member, system in zip(config["members"], config["fusion"]["systems"], strict=True):
        frontend = config["frontends"][member["frontend"]]
        backend = member["backend"]
        interval = system["weight_interval"]
        cells = [
            member["name"],
            f"`{frontend['name']}`",
            member["n_layers"],
            f"`{backend['name']}` with {settings_text(backend['config'])}",
            "yes" if member["calibration"] else "no",
            f"{system['weight']:.4g}",
            f"{interval[0]:.4g} to {interval[1]:.4g}" if interval else "–",
        ]
        lines.append(table_row(cells))
    shared = len(config["members"]) - len(config["frontends"])
    if shared:
        lines += ["", f"{len(config['frontends'])} front-end(s) serve {len(config['members'])} members."]
    for name, of in ((m["name"], m["training"].get("sets", {})) for m in config["members"]):
        if of:
            sets = ", ".join(f"{s}: `{f['manifest']}`, split {f['split'] or 'all'}" for s, f in of.items())
            lines.append(f"- {name} was trained on {sets}.")
    return lines


def _fusion(fusion: Mapping[str, Any]) -> list[str]:
    options, data = fusion["options"], fusion["fitted_to"]
    lines = [
        f"{METHODS[options['method']]} over {options['inputs']} of the members, C = {options['C']:g}; "
        f"intercept {fusion['intercept']:.4g}."
    ]
    if data:
        lines += [
            "",
            f"Learnt on {data.get('n_bonafide')} bona fide and {data.get('n_spoof')} spoofed recordings of "
            f"`{data.get('manifest')}`, split {data.get('split') or 'all'} "
            f"(digest `{str(data.get('digest'))[:12]}`).",
        ]
    return [*lines, *(f"\n- {warning}" for warning in fusion["warnings"])]


def _figures(figures: Mapping[str, Any]) -> list[str]:
    rows = {f"{name} alone": values for name, values in figures["systems"].items()}
    rows["fused, on the recordings of the fit"] = figures["fitted"]
    for method, values in figures["cross_validated"].items():
        rows[f"{METHODS[method]}, cross-validated in {figures['n_folds']} folds"] = values
    lines = [table_row(["", *(heading for heading, _ in FIGURES.values())]), "|---" * 5 + "|"]
    for name, values in rows.items():
        lines.append(table_row([name, *(f"{values[k]:.{places}f}" for k, (_, places) in FIGURES.items())]))
    return [*lines, ""]
