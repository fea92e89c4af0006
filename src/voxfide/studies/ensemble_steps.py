"""Steps of a study: each done once, those that fail reported, those that need them left out."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from voxfide.errors import VoxfideError
from voxfide.files import remove_temporaries, write_atomic
from voxfide.jobs import Failure
from voxfide.studies.reporting import Reporter
from voxfide.training.processes import as_the_first_says

if TYPE_CHECKING:
    from accelerate import PartialState

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StepResult:
    """What a step leaves for those after it and for the report: JSON-safe facts, and unusable files."""

    facts: dict[str, Any] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)


@dataclass
class Steps:
    """The steps of one study, in a folder with a file for each that is done.

    A file is written when its step's work is complete, so that a run that was killed begins again
    with the step in which it was, which itself goes on where it can. Of several processes the first does
    the steps, and tells the others what came of them, but for those that all do together.

    Args:
        folder: for the files.
        reporter: told what goes on.
        processes: that do the study; None stands for this one alone.

    Attributes:
        facts: of every step that is done, by name.
        broken: name to why it is not done.
        failures: utterances that some step could not use.
    """

    folder: Path
    reporter: Reporter = field(default_factory=Reporter)
    processes: PartialState | None = None
    facts: dict[str, dict[str, Any]] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)
    failures: dict[tuple[str, str, str], Failure] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self._is_first:
            remove_temporaries(self.folder)

    @property
    def _is_first(self) -> bool:
        return self.processes is None or self.processes.is_main_process

    def do(
        self, name: str, work: Callable[[], StepResult], needs: Sequence[str] = (), *, together: bool = False
    ) -> bool:
        """Does a step, unless it is done already or something that it needs is not; whether it is done.

        Args:
            together: all processes do it. An error then ends the study: others may not have met it.
        """
        missing = [step for step in needs if step not in self.facts]
        if missing:
            self.broken[name] = f"needs {', '.join(missing)}"
            return False
        path = self.folder / f"{name.replace('/', '_')}.json"
        if as_the_first_says(self.processes, path.exists()):
            held = json.loads(path.read_text(encoding="utf-8"))
            self.reporter.say(f"{name}: was finished before")
            self._keep(name, StepResult(held["facts"], [Failure(**f) for f in held["failures"]]))
            return True
        self.reporter.say(name)
        result = work() if together and self.processes is not None else self._tried(name, work)
        if isinstance(result, str):
            self.broken[name] = result
            return False
        if self._is_first:
            content = {"facts": result.facts, "failures": [f.to_dict() for f in result.failures]}
            write_atomic(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")
        self._keep(name, result)
        return True

    def _tried(self, name: str, work: Callable[[], StepResult]) -> StepResult | str:
        """What came of a step of the first process, or why nothing did."""
        result: StepResult | str = ""
        if self._is_first:
            try:
                result = work()
            except (VoxfideError, OSError, MemoryError, torch.OutOfMemoryError) as error:
                log.error("%s: %s", name, error)
                result = str(error) or type(error).__name__
        return as_the_first_says(self.processes, result)

    def is_done(self, name: str) -> bool:
        """Whether a step is done, now or in an earlier run."""
        return name in self.facts

    def _keep(self, name: str, result: StepResult) -> None:
        self.facts[name] = result.facts
        self.failures |= {(f.utterance_id, f.path, f.reason): f for f in result.failures}
