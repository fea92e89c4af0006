"""``voxfide convert``: detectors of other people's trained weights."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from voxfide.errors import CheckpointError

convert = typer.Typer(
    help="Make a detector of weights that other code trained.", no_args_is_help=True, rich_markup_mode=None
)


@convert.callback()
def _group() -> None:
    """Make a detector of weights that other code trained."""


@convert.command()
def aasist(
    weights: Annotated[
        Path, typer.Argument(metavar="WEIGHTS", help="State dict of the official code, .pth or .safetensors.")
    ],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="DETECTOR", help="Folder of the detector.")],
    config: Annotated[
        Path | None,
        typer.Option(
            metavar="JSON",
            exists=True,
            dir_okay=False,
            help="Official configuration, for sizes other than AASIST and AASIST-L.",
        ),
    ] = None,
) -> None:
    """Make a detector of AASIST weights.

    Takes AASIST.pth and AASIST-L.pth of the official repository (Jung et al. 2022), or what its
    code trained. As in the official evaluation, the first 4.0375 s of a recording are scored, a
    shorter one is repeated, and the score is the logit of bona fide: no likelihood ratio until
    `voxfide calibrate` has made it one.
    """
    from voxfide.backends.raw_aasist import RawAasistBackend
    from voxfide.backends.weights import read_state
    from voxfide.crops import REFERENCE_SECONDS, Crop
    from voxfide.detector import Detector
    from voxfide.files import file_sha256
    from voxfide.frontends import create_frontend

    model_config = None if config is None else _model_config(config)
    backend = RawAasistBackend.from_official(read_state(weights), model_config)
    detector = Detector(
        create_frontend("waveform"),
        backend,
        pool="none",
        crop=Crop(REFERENCE_SECONDS, "start", "tile"),
        training={"converted_from": {"file": weights.name, "sha256": file_sha256(weights)}},
    )
    detector.save(out)
    print(f"{out}: detector {detector.frontend.name} + {backend.name} of {weights.name}")


def _model_config(path: Path) -> dict[str, Any]:
    """The ``model_config`` of an official configuration file, or a file of just that."""
    from voxfide.frontends.ssl_config import read_json

    content = read_json(path)
    found = content.get("model_config", content)
    if not isinstance(found, dict):
        raise CheckpointError(f"{path}: model_config is no object")
    return found
