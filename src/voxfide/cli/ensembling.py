"""``voxfide ensemble``: detectors and their fusion to one detector."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from voxfide.cli.commands import DETECTOR_HELP
from voxfide.errors import UsageError

if TYPE_CHECKING:
    from voxfide.detector import Detector


def ensemble(
    detectors: Annotated[list[str], typer.Argument(metavar="DETECTOR...", help=DETECTOR_HELP)],
    fusion: Annotated[
        Path,
        typer.Option("--fusion", metavar="FUSION.json", help="Learnt on their scores by `voxfide fuse`."),
    ],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="ENSEMBLE", help="Folder of the ensemble.")],
    weights: Annotated[
        str, typer.Option(help="Front-end weights: inside the ensemble, or left on the hub: embed or hub.")
    ] = "embed",
    force: Annotated[
        bool, typer.Option("--force", help="Take other detectors than the fusion was learnt on.")
    ] = False,
) -> None:
    """Make one detector of several.

    The folder holds every member and the fusion, equal front-ends once, and is used like any
    detector: a recording is decoded once. Detectors in the order of `voxfide fuse`.
    """
    from voxfide.ensemble import EnsembleDetector
    from voxfide.fusion import FusionRecord

    if weights not in ("embed", "hub"):
        raise UsageError(f"--weights {weights!r} (expected embed or hub)")
    record = FusionRecord.read(fusion)
    if len(detectors) != len(record.systems):
        names = ", ".join(system.name for system in record.systems)
        raise UsageError(
            f"{len(detectors)} detectors; the fusion is of {len(record.systems)} systems: {names}"
        )
    made = EnsembleDetector.of([_member(name) for name in detectors], record, _names(detectors), force=force)
    made.save(out, embed_frontend=weights == "embed")
    n_frontends, n_passes = len(made.frontends), len(made.passes)
    print(
        f"{out}: ensemble of {len(made.members)} detectors, {n_frontends} front-end(s), "
        f"{n_passes} pass(es) over a recording"
    )


def _member(name: str) -> Detector:
    from voxfide.detectors import load_trained

    return load_trained(name, "name")


def _names(detectors: list[str]) -> list[str]:
    """The detectors' own names, or what was typed where those repeat."""
    names = [Path(name).name for name in detectors]
    return names if len(set(names)) == len(names) else detectors
