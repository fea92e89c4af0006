"""A Gradio app on voxfide's Python API: a recording in, verdict, marked stretches and a report out."""

from __future__ import annotations

import tempfile
from pathlib import Path

import gradio as gr

from voxfide.analysis.recording import analyse
from voxfide.detectors import load_detector
from voxfide.errors import AudioError
from voxfide.report.recording import write_recording_report

DETECTOR = load_detector("bundled")
NAMES = {"bonafide": "Bona fide", "spoof": "Spoof", "inconclusive": "Inconclusive"}


def check(path: str | None) -> tuple[str, list[list[float]], str | None]:
    """Verdict in words, marked stretches, and the path of a report."""
    if path is None:
        return "Choose or record something first.", [], None
    try:
        analysis = analyse(path, DETECTOR)
    except AudioError as error:
        return f"The recording cannot be used: {error.reason} (expected {error.expected}).", [], None
    lines = [f"## {NAMES[analysis.verdict]}"]
    if analysis.probability is not None:
        lines.append(
            f"Probability that it is bona fide: {analysis.probability:.0%}, "
            f"if {analysis.prior:.0%} of such recordings are."
        )
    lines += [f"- {reason.sentence}" for reason in analysis.reasons]
    lines.append("A verdict on one recording is evidence, not proof.")
    stretches = [[s.start, s.end, s.score] for s in analysis.stretches]
    report = Path(tempfile.mkdtemp()) / "report.html"
    write_recording_report(report, analysis)
    return "\n\n".join(lines), stretches, str(report)


with gr.Blocks(title="voxfide") as app:
    gr.Markdown("# Is this voice genuine?\nChecks a recording for synthetic or converted speech.")
    recording = gr.Audio(sources=["upload", "microphone"], type="filepath", label="Recording")
    button = gr.Button("Check", variant="primary")
    verdict = gr.Markdown()
    marked = gr.Dataframe(headers=["from (s)", "to (s)", "score"], label="Marked stretches")
    report_file = gr.File(label="Report")
    button.click(check, recording, [verdict, marked, report_file])

if __name__ == "__main__":
    app.launch()
