"""``voxfide export``: a detector that runs without torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from voxfide.cli.commands import DETECTOR_HELP, LabelsOption, pairs


def export(
    detector: Annotated[str, typer.Argument(metavar="DETECTOR", help=DETECTOR_HELP)],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="DETECTOR", help="Folder of the exported one.")],
    format: Annotated[str, typer.Option("--format", help="onnx or openvino.")] = "onnx",
    int8: Annotated[
        bool,
        typer.Option("--int8", help="Weights of 8 bits: smaller and mostly faster, scores change a little."),
    ] = False,
    labels: LabelsOption = None,
) -> None:
    """Export a detector to ONNX or OpenVINO.

    The folder holds the whole chain from waveform to calibrated score; detect, score and serve take it like
    any detector, and need no PyTorch for it (pip install voxfide[runtime]). Its scores are checked against
    those of the detector before it appears. Calibrate before exporting.
    """
    from voxfide.detectors import load_trained
    from voxfide.exporting.export import export_detector

    found = load_trained(detector, "export", labels=dict(pairs(labels or [], "--labels")))
    config = export_detector(found, out, format, int8=int8, name=Path(detector).name)
    size = sum((out / name).stat().st_size for name in config["model"]["sha256"])
    difference = config["verified"]["max_difference"]
    print(
        f"{out}: {size / 1e6:.2f} MB of graphs; scores differ from the detector's by {difference:.1e} at most"
    )
