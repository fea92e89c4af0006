"""``voxfide shrink``: a detector at half its size."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from voxfide.cli.commands import DETECTOR_HELP


def shrink(
    detector: Annotated[str, typer.Argument(metavar="DETECTOR", help=DETECTOR_HELP)],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="DETECTOR", help="Folder of the small one.")],
) -> None:
    """Round a detector's weights to half precision.

    The folder is half as large or less; scores change a little, so a calibration is left out.
    Members of an ensemble are shrunk before their fusion is learnt.
    """
    from voxfide.detectors import load_trained
    from voxfide.shrinking import shrink as round_weights

    round_weights(load_trained(detector, "shrink")).save(out)
    print(f"{out}: {(out / 'model.safetensors').stat().st_size / 1e6:.2f} MB of weights")
