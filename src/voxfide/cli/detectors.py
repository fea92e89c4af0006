"""``voxfide detectors``: the bundled detector and those found on this machine."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from voxfide.detector_search import FoundDetector


def detectors(
    folder: Annotated[
        list[Path] | None,
        typer.Option("--folder", metavar="DIR", help="Look here too, and in its children; repeatable."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list.")] = False,
) -> None:
    """List the detectors on this machine.

    The bundled one, and those in --folder, in the folders of $VOXFIDE_DETECTORS (parted as in PATH), in the
    current directory and in the hub's cache, with what they were trained on and how they were measured.
    """
    from voxfide.detector_search import find_detectors

    found = find_detectors(folder or [])
    if as_json:
        print(json.dumps([asdict(one) for one in found], indent=2, ensure_ascii=False))
        return
    if not found:
        print("no detectors found (`voxfide train` makes one; --folder looks in further folders)")
        return
    from voxfide.report.tables import Column, Table

    columns = [
        Column("name"),
        Column("made_of", "made of"),
        Column("size", "MB", spec=".3g"),
        Column("trained_on", "trained on"),
        Column("measured"),
        Column("calibrated"),
        Column("domain"),
    ]
    print(Table(columns, [_row(one) for one in found]).to_text(), end="")
    for one in found:
        if one.problem:
            print(f"\n{one.name}: cannot be used: {one.problem}")


def _row(one: FoundDetector) -> tuple[Any, ...]:
    size = one.n_bytes / 1e6
    if one.problem:
        return (one.name, "cannot be read", size, None, None, None, None)
    sets = "; ".join(_set(name, facts) for name, facts in one.trained_on.items())
    calibrated = "no" if one.calibrated_on is None else _calibrated(one)
    return (one.name, one.made_of, size, sets or None, _measured(one) or None, calibrated, one.domain)


def _set(name: str, facts: Any) -> str:
    counts = f"{facts.get('n_bonafide', '?')} bona fide, {facts.get('n_spoof', '?')} spoof"
    return f"{name}: {facts.get('manifest', '?')} ({counts})"


def _measured(one: FoundDetector) -> str:
    return "; ".join(
        f"{part}: EER {values['eer_percent']:.1f} %"
        for part, values in one.figures.items()
        if "eer_percent" in values
    )


def _calibrated(one: FoundDetector) -> str:
    on = f"on {one.calibrated_on.get('manifest', '?')}" if one.calibrated_on else "yes"
    after = one.calibration.get("cllr_cross_validated") or one.calibration.get("cllr_after")
    return on if after is None else f"{on}, Cllr {after:.2f}"
