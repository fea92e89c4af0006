"""The benchmark of representations (Combei et al. 2024, section 2 and table 1).

Every front-end frozen, its features averaged over time, logistic regression on them: fitted to a
training set, measured on a development set. Each front-end is measured in a fresh process; one that
fails is listed and the others go on; one that is finished stays finished.
"""

from __future__ import annotations

import logging
import multiprocessing
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from voxfide.errors import UsageError
from voxfide.files import exclusive
from voxfide.jobs import Failure, read_failures
from voxfide.studies.benchmark_choice import BenchmarkFrontend, check_layer
from voxfide.studies.benchmark_rows import BenchmarkRow, ranked, read_row
from voxfide.studies.benchmark_worker import BenchmarkOptions, Job, run
from voxfide.studies.reporting import Reporter
from voxfide.training.checkpoint import digest_of
from voxfide.training.pooled import TrainingSet

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class BenchmarkResult:
    """What was measured, lowest EER first and random weights last; and what was not.

    Attributes:
        broken: label to what stopped it.
        failures: utterances that some front-end could not use.
    """

    rows: list[BenchmarkRow]
    broken: dict[str, str] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)


def run_benchmark(
    choices: Sequence[BenchmarkFrontend],
    sets: tuple[TrainingSet, TrainingSet],
    folder: Path,
    options: BenchmarkOptions | None = None,
    reporter: Reporter | None = None,
) -> BenchmarkResult:
    """Measures front-ends one after another; goes on where an earlier run in ``folder`` was.

    Args:
        choices: with different labels; see :func:`voxfide.studies.benchmark_choice.choose`.
        sets: to fit to, and to measure on.
        folder: ``runs/LABEL/`` gets the store of a front-end, its scores ``dev.tsv`` and its row.
        options: how.
        reporter: told what goes on.

    Raises:
        UsageError: a layer that front-ends do not have.
        StoreError: another benchmark is writing there.
    """
    options, reporter = options or BenchmarkOptions(), reporter or Reporter()
    problems = check_layer(choices, options.n_layers, options.layer)
    if problems:
        raise UsageError("benchmark: " + "; ".join(problems))
    rows: list[BenchmarkRow] = []
    broken: dict[str, str] = {}
    failures: dict[tuple[str, str, str], Failure] = {}
    with exclusive(folder / ".lock", f"{folder}: another benchmark is writing there"):
        for number, choice in enumerate(choices, 1):
            title = f"{choice.label}, {number} of {len(choices)}"
            job = _job(choice, sets, folder / "runs" / choice.label, options)
            row = read_row(job.folder, job.key, random_weights=options.random_weights)
            if row is not None:
                reporter.say(f"{title}: was finished before")
                rows.append(row)
                failures |= _by_utterance(read_failures(job.folder / "failures.csv"))
                continue
            reporter.say(title)
            found = _measured(job, reporter)
            failures |= _by_utterance(found.failures)
            if found.row is None:
                log.error("%s: %s", choice.label, found.error)
                broken[choice.label] = found.error
                continue
            if found.row.is_random:
                reporter.say(f"{choice.label}: random weights: its EER means nothing about the model")
            rows.append(found.row)
    return BenchmarkResult(ranked(rows), broken, list(failures.values()))


def _by_utterance(failures: Sequence[Failure]) -> dict[tuple[str, str, str], Failure]:
    """A reason that several front-ends have is told once."""
    return {(f.utterance_id, f.path, f.reason): f for f in failures}


def _job(
    choice: BenchmarkFrontend, sets: tuple[TrainingSet, TrainingSet], folder: Path, options: BenchmarkOptions
) -> Job:
    facts = [
        [choice.label, choice.name, {k: str(v) for k, v in choice.options.items()}, choice.files()],
        [part.manifest.digest() for part in sets],
        [options.layer, options.C, options.n_layers, options.device, options.precision],
        [options.n_bootstrap, options.seed],
    ]
    return Job(choice, *sets, folder, digest_of(facts), options)


@dataclass
class _Outcome:
    row: BenchmarkRow | None = None
    error: str = ""
    failures: list[Failure] = field(default_factory=list)


def _measured(job: Job, reporter: Reporter) -> _Outcome:
    """Runs a job in a fresh process and hears what it tells."""
    # Started anew, not forked: a forked one would begin with this process's memory.
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=run, args=(job, theirs), name=f"voxfide benchmark {job.choice.label}")
    outcome = _Outcome()
    process.start()
    theirs.close()
    try:
        with reporter.bar(job.choice.label) as bar:
            _listen(ours, outcome, bar)
        process.join()
    finally:
        if process.is_alive():
            process.terminate()
            process.join()
        ours.close()
    if outcome.row is None and not outcome.error:
        outcome.error = _ending(process.exitcode)
    return outcome


def _listen(pipe: Connection, outcome: _Outcome, bar: Any) -> None:
    while True:
        try:
            kind, content = pipe.recv()
        except EOFError:  # it has ended, well or not
            return
        if kind == "row":
            outcome.row = content
        elif kind == "error":
            outcome.error = content
        elif kind == "failures":
            outcome.failures = content
        elif kind == "log":
            log.log(*content)
        elif bar is not None and kind == "start":
            bar.start(*content)
        elif bar is not None and kind == "progress":
            bar(*content)


def _ending(code: int | None) -> str:
    if code is not None and code < 0:
        hint = " (was the machine out of memory?)" if code == -9 else ""
        return f"its process was ended by signal {-code}{hint}"
    return f"its process ended with status {code}; what it said stands above"
