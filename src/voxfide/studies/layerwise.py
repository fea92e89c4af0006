"""The layer-wise study (El Kheir et al. 2025): which layers, how many of them, which back-end.

A grid: training corpus × front-end × number of layers × back-end × seed. For each corpus and
front-end all heads are trained on one stream of layer features and score each evaluation set in
one pass; a cell of the grid that is finished stays finished, an unfinished one goes on.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from voxfide.errors import StoreError, UsageError, VoxfideError
from voxfide.files import exclusive, write_atomic
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
from voxfide.types import Seconds

if TYPE_CHECKING:
    from accelerate import Accelerator

log = logging.getLogger(__name__)

CellResult = tuple[list[EerRow], list[WeightRow], list[Failure]]

WAIT: Seconds = 1.0
"""Between looks at whether another process has finished its cell."""


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
    process: int = 0,
    n_processes: int = 1,
) -> StudyResult:
    """Trains and scores all cells of the grid; goes on where an earlier run in ``folder`` was.

    A cell that fails is told and left out; the others are done all the same. A folder that holds
    another study raises :class:`UsageError` before anything is done.

    Args:
        tasks: training corpora with their evaluation sets.
        grid: what they are crossed with.
        folder: gets ``eer.csv``, ``layer_weights.csv`` and ``speed.csv``; ``runs/TASK/FRONTEND-SIZE/``
            holds journal, scores and rows of a cell.
        process, n_processes: of the processes that share the cells out among them, each with an
            ``accelerator`` of its own; the result is the first's, the others have none.
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
    for cell in cells:
        cell.finished()  # refuses a folder of another study before anything is done
    done = _work_off(cells, reporter, process, n_processes)
    if process:
        return result
    for number, cell in enumerate(cells):
        made = done[number]
        if isinstance(made, str):
            result.broken.append(f"{_title(cell, number, len(cells))}: {made}")
            continue
        eers, weights, failures = made
        result.eers.extend(eers)
        result.weights.extend(weights)
        result.failures.extend(failures)
    if options.measure_speed:
        result.speeds.extend(_speeds(grid, folder, options, reporter))
    write_rows(folder / EER_FILE, result.eers, EerRow)
    write_rows(folder / WEIGHTS_FILE, result.weights, WeightRow)
    write_rows(folder / SPEED_FILE, result.speeds, SpeedRow)
    return result


def _work_off(
    cells: Sequence[Cell], reporter: Reporter, process: int, n_processes: int
) -> dict[int, CellResult | str]:
    """What was found in each cell, by its number; in place of it, why nothing was.

    Of several processes, each takes cells at which no other is, from a place of its own on; where none is
    left to take, the first waits for the others. One that dies leaves its cell to those that live.
    """
    start = process * len(cells) // n_processes
    left = [*range(start, len(cells)), *range(start)]
    found: dict[int, CellResult | str] = {}
    frontends = _Frontends()
    while left:
        taken = []
        for number in left:
            cell = cells[number]
            lock = cell.folder / ".lock"
            with ExitStack() as held:
                try:
                    held.enter_context(exclusive(lock, "another process is at this cell"))
                except StoreError:
                    taken.append(number)
                    continue
                found[number] = _do(cell, _title(cell, number, len(cells)), frontends, reporter)
                lock.unlink(missing_ok=True)
        if taken == left:
            if process:
                break
            time.sleep(WAIT)
        left = taken
    return found


def _do(cell: Cell, title: str, frontends: _Frontends, reporter: Reporter) -> CellResult | str:
    try:
        done = cell.finished()
        if done is not None:
            reporter.say(f"{title}: was finished before")
            return done
        reporter.say(f"{title}: {len(cell.jobs)} heads")
        return cell.run(frontends.of(cell))
    except VoxfideError as error:
        log.error("%s: %s", title, error)
        return str(error)


def _title(cell: Cell, number: int, n_cells: int) -> str:
    return f"{cell.task.name}, {cell.choice.label} ({cell.choice.size}), cell {number + 1} of {n_cells}"


class _Frontends:
    """Loads a front-end, and keeps it for the cells after it that have the same."""

    def __init__(self) -> None:
        self._held: tuple[FrontendChoice, Frontend] | None = None

    def of(self, cell: Cell) -> Frontend:
        """The front-end of a cell, as deep as any of its heads wants."""
        choice = cell.choice
        if self._held is None or self._held[0] is not choice:
            self._held = None
            options = cell.options
            self._held = (
                choice,
                create_frontend(
                    choice.name, choice.n_layers[-1], precision=options.precision, device=options.device
                ),
            )
        return self._held[1]


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
