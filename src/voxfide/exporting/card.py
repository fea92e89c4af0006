"""The model card of an exported detector."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from voxfide.calibration import CalibrationRecord
from voxfide.detector_card import CARD_HEAD, calibration_section, reading, settings_text

RUNTIMES = {"onnx": "ONNX, run by onnxruntime", "openvino": "OpenVINO"}

PRECISIONS = {
    "fp32": "single precision throughout",
    "int8": "weights of 8 bits; what they are multiplied with is quantised frame by frame while it runs",
}


def export_card(config: Mapping[str, Any], calibration: CalibrationRecord | None) -> str:
    """``README.md`` of an exported detector's folder."""
    frontend, backend, verified = config["frontend"], config["backend"], config["verified"]
    speech = config["model"]["speech"]
    lines = [
        *CARD_HEAD,
        f"# Exported detector: {frontend['name']} + {backend['name']}",
        "",
        "Scores how likely a recording is bona fide speech rather than synthetic, converted or",
        *reading(config, calibration),
        "",
        f"Graphs for {RUNTIMES[config['runtime']]}; {PRECISIONS[config['precision']]}. It needs no torch.",
        "",
        "```",
        "voxfide detect recording.wav --detector PATH_OF_THIS_FOLDER",
        "```",
        "",
        "## What it was made from",
        "",
        f"- detector `{config['source']['name']}`, fingerprint `{config['source']['fingerprint'][:16]}`",
        f"- front-end `{frontend['name']}`, {frontend['n_layers']} layer(s)",
        f"- back-end `{backend['name']}` with {settings_text(backend['config'])}",
        f"- audio: {config['audio']['sample_rate']} Hz mono, windows of {config['window_s']:g} s",
        f"- exported by voxfide {config['voxfide_version']}",
        "",
        "Largest difference of a score to the detector's in torch, on "
        f"{verified['n_waveforms']} synthesised signals of {verified['shortest_s']:.2g} to "
        f"{verified['longest_s']:.2g} s, alone and in one batch: {verified['max_difference']:.1e}.",
        "",
        "## Graphs",
        "",
        f"- `{config['model']['graph']}`: `waveform (batch, samples)` float32, 16 kHz mono, holding anything",
        "  beyond `lengths (batch,)` int64, to `score` and `raw_score` `(batch,)`, calibrated and not",
        *_head(config),
        *(
            [f"- `{speech}`: the network of silero-vad (Silero Team, MIT licence), by which speech is found"]
            if speech
            else []
        ),
        "",
        *(calibration_section(calibration) if calibration else ()),
        "## Limits",
        "",
        "- What holds for the detector that it was made from holds for it: that one's card states training",
        "  data, results and limits.",
        "- A verdict on one recording is evidence, not proof.",
        "",
    ]
    return "\n".join(lines)


def _head(config: Mapping[str, Any]) -> list[str]:
    head = config["model"]["head"]
    if head is None:
        return []
    more = " and `deviations`" if config["pool"] == "mean_std" else ""
    return [
        f"- `{head}`: `features`, averaged over the windows of a recording longer than",
        f"  {config['window_s']:g} s, to the same scores; the first graph gives `features`{more} of a",
        "  window, and `frames`, what the window counts",
    ]
