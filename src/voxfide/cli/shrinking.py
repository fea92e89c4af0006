"""``voxfide shrink``: a detector at half its size."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from voxfide.cli.commands import DETECTOR_HELP
from voxfide.errors import UsageError


def shrink(
    detector: Annotated[str, typer.Argument(metavar="DETECTOR", help=DETECTOR_HELP)],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="DETECTOR", help="Folder of the small one.")],
) -> None:
    """Round a detector's weights to half precision.

    The folder is half as large or less; scores change a little, so a calibration is left out.
    Members of an ensemble are shrunk before their fusion is learnt.
    """
    from voxfide.detector import Detector
    from voxfide.detectors import load_detector
    from voxfide.shrinking import shrink as round_weights

    found = load_detector(detector)
    if not isinstance(found, Detector):
        raise UsageError(
            f"{detector}: is an ensemble (expected a detector: shrink its members, then fuse them)"
        )
    round_weights(found).save(out)
    print(f"{out}: {(out / 'model.safetensors').stat().st_size / 1e6:.2f} MB of weights")
