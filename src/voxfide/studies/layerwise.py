"""The layer-wise study (El Kheir et al. 2025): which layers, how many of them, which back-end.

A grid: training corpus × front-end × number of layers × back-end × seed. For each corpus and
front-end all heads are trained on one stream of layer features and score each evaluation set in
one pass; a cell of the grid that is finished stays finished, an unfinished one goes on.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from voxfide.errors import UsageError, VoxfideError
from voxfide.files import write_atomic
from voxfide.frontends import create_frontend
from voxfide.frontends.base import Frontend
from voxfide.jobs import Failure
from voxfide.studies.layerwise_cell import Cell, StudyOptions, settings_of
from voxfide.studies.layerwise_grid import FrontendChoice, Grid, check_backends
from voxfide.studies.layerwise_rows import (
    EER_FILE,
    SPEED_FILE,
    WEIGHTS_FILE,
    EerRow,
    SpeedRow,
    WeightRow,
    with_relative_speed,
    write_rows,
)
from voxfide.studies.recipe import Task
from voxfide.studies.reporting import Reporter
from voxfide.studies.speed import measure_speed

if TYPE_CHECKING:
    from accelerate import Accelerator

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StudyResult:
    """Rows of all cells, and what could not be read or done."""

    eers: list[EerRow]
    weights: list[WeightRow]
    speeds: list[SpeedRow]
    failures: list[Failure]
    broken: list[str]


def run_study(
    tasks: Sequence[Task],
    grid: Grid,
    folder: Path,
    *,
    accelerator: Accelerator,
    options: StudyOptions | None = None,
    reporter: Reporter | None = None,
) -> StudyResult:
    """Trains and scores all cells of the grid; goes on where an earlier run in ``folder`` was.

    A cell that fails is told and left out; the others are done all the same. A folder that holds
    another study raises :class:`UsageError` before anything is done.

    Args:
        tasks: training corpora with their evaluation sets.
        grid: what they are crossed with.
        folder: gets ``eer.csv``, ``layer_weights.csv`` and ``speed.csv``; ``runs/TASK/FRONTEND-SIZE/``
            holds journal, scores and rows of a cell.
    """
    options, reporter = options or StudyOptions(), reporter or Reporter()
    problems = check_backends(grid.backends) + [p for t in tasks for p in _check_settings(t, options)]
    if problems:
        raise UsageError("layer-wise study: " + "; ".join(dict.fromkeys(problems)))
    result = StudyResult([], [], [], [], [])
    cells = [
        Cell(choice, task, grid, cell_folder(folder, task, choice), options, accelerator, reporter)
        for choice in grid.frontends
        for task in tasks
    ]
    finished = [
        cell.finished() for cell in cells
    ]  # refuses a folder of another study before anything is done
    frontend: Frontend | None = None
    loaded: FrontendChoice | None = None
    for number, (cell, done) in enumerate(zip(cells, finished, strict=True), 1):
        title = f"{cell.task.name}, {cell.choice.label} ({cell.choice.size}), cell {number} of {len(cells)}"
        try:
            if done is None:
                reporter.say(f"{title}: {len(cell.jobs)} heads")
                if frontend is None or loaded is not cell.choice:
                    frontend = create_frontend(
                        cell.choice.name,
                        cell.choice.n_layers[-1],
                        precision=options.precision,
                        device=options.device,
                    )
                    loaded = cell.choice
                done = cell.run(frontend)
            else:
                reporter.say(f"{title}: was finished before")
        except VoxfideError as error:
            log.error("%s: %s", title, error)
            result.broken.append(f"{title}: {error}")
            continue
        eers, weights, failures = done
        result.eers.extend(eers)
        result.weights.extend(weights)
        result.failures.extend(failures)
    if options.measure_speed:
        result.speeds.extend(_speeds(grid, folder, options, reporter))
    write_rows(folder / EER_FILE, result.eers, EerRow)
    write_rows(folder / WEIGHTS_FILE, result.weights, WeightRow)
    write_rows(folder / SPEED_FILE, result.speeds, SpeedRow)
    return result


def cell_folder(folder: Path, task: Task, choice: FrontendChoice) -> Path:
    """Where a cell of the grid keeps its files."""
    return folder / "runs" / task.name / f"{choice.label}-{choice.size}"


def _check_settings(task: Task, options: StudyOptions) -> list[str]:
    try:
        settings_of(task, options)
    except UsageError as error:
        return [str(error)]
    return []


def _speeds(grid: Grid, folder: Path, options: StudyOptions, reporter: Reporter) -> list[SpeedRow]:
    """Speed of every front-end at every depth, measured once a study."""
    rows: list[SpeedRow] = []
    for choice in grid.frontends:
        path = folder / "runs" / f"speed-{choice.label}-{choice.size}.json"
        key = [choice.name, list(choice.n_layers), options.device, options.precision]
        held = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        if held.get("key") != key:
            reporter.say(f"speed of {choice.label} ({choice.size})")
            try:
                frontend = create_frontend(
                    choice.name, choice.n_layers[-1], precision=options.precision, device=options.device
                )
            except VoxfideError as error:
                log.error("speed of %s: %s", choice.label, error)
                continue
            found = measure_speed(frontend, choice.label, choice.size, choice.n_layers)
            held = {"key": key, "rows": [astuple(row) for row in found]}
            write_atomic(path, json.dumps(held) + "\n")
        rows += [SpeedRow(*row) for row in held["rows"]]
    return with_relative_speed(rows)
