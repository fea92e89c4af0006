"""What a training run says of itself: one JSON object an epoch, and the same to accelerate's trackers."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voxfide.errors import MissingDependencyError
from voxfide.files import write_atomic
from voxfide.training.processes import PATIENCE

if TYPE_CHECKING:
    from accelerate import Accelerator


FILE_NAME = "metrics.jsonl"


class Journal:
    """``metrics.jsonl`` of a run, TensorBoard where asked for, and a line to whoever listens.

    Args:
        folder: of the run.
        accelerator: only its main process writes; its trackers are told too.
        say: told one line an entry.
    """

    def __init__(
        self, folder: Path, accelerator: Accelerator | None = None, say: Callable[[str], None] | None = None
    ) -> None:
        self.path = folder / FILE_NAME
        self._accelerator = accelerator
        self._say = say
        self._lines: list[str] = []

    @property
    def is_main(self) -> bool:
        """Whether this process writes."""
        return self._accelerator is None or self._accelerator.is_main_process

    def resume(self, n_entries: int) -> None:
        """Goes on after the first ``n_entries`` of the file; 0 starts anew."""
        lines = self.path.read_text(encoding="utf-8").splitlines() if self.path.exists() else []
        self._lines = lines[:n_entries]

    def __len__(self) -> int:
        return len(self._lines)

    def say(self, line: str) -> None:
        """A line to whoever listens, from the main process."""
        if self._say and self.is_main:
            self._say(line)

    def write(
        self, step: int, values: Mapping[str, Any], line: str = "", scope: str = "", last: bool = True
    ) -> None:
        """Adds an entry.

        Args:
            step: position on the trackers' axis; stored as ``step``.
            values: JSON-safe; trackers get the numbers among them.
            line: told to ``say``.
            scope: stands before the names that trackers see.
            last: of the entries that belong together; the file is written with it.
        """
        self._lines.append(json.dumps({"step": step, **values}))
        if not self.is_main:
            return
        if last:
            write_atomic(self.path, "\n".join(self._lines) + "\n")
        if line:
            self.say(line)
        if self._accelerator is not None and self._accelerator.trackers:
            numbers = {scope + k: v for k, v in values.items() if isinstance(v, (int, float))}
            self._accelerator.log(numbers, step=step)


def read_journal(folder: Path) -> list[dict[str, Any]]:
    """The entries of a run's journal, oldest first; none where there is no file."""
    path = folder / FILE_NAME
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


FSDP_ASKED_FOR = "ACCELERATE_USE_FSDP"
"""Set by ``accelerate launch --use_fsdp``."""


def launched_with_fsdp() -> bool:
    """Whether ``accelerate launch`` was told to share models out."""
    return os.environ.get(FSDP_ASKED_FOR, "").lower() in ("1", "true", "yes")


def make_accelerator(
    folder: Path,
    *,
    mixed_precision: str = "no",
    tensorboard: bool = False,
    cpu: bool = False,
    unused_parameters: bool = False,
) -> Accelerator:
    """An ``accelerate.Accelerator`` for a run in ``folder``.

    Args:
        folder: TensorBoard files go to its ``tensorboard`` subfolder.
        mixed_precision: ``no``, ``bf16`` or ``fp16``.
        tensorboard: whether to write them.
        cpu: leave accelerators of the machine alone.
        unused_parameters: whether a step may leave trained parameters out (several processes must know).

    Raises:
        MissingDependencyError: TensorBoard is asked for and not installed.
    """
    from importlib.util import find_spec

    from accelerate import Accelerator
    from accelerate.utils import (
        DistributedDataParallelKwargs,
        InitProcessGroupKwargs,
        ProjectConfiguration,
    )

    if tensorboard and find_spec("tensorboard") is None:
        raise MissingDependencyError("TensorBoard is not installed (pip install 'voxfide[tensorboard]')")
    # Models are shared out by voxfide.training.sharding, which knows what their blocks are.
    os.environ.pop(FSDP_ASKED_FOR, None)
    project = ProjectConfiguration(project_dir=str(folder), logging_dir=str(folder))
    accelerator = Accelerator(
        mixed_precision=mixed_precision,
        cpu=cpu,
        log_with="tensorboard" if tensorboard else None,
        project_config=project,
        kwargs_handlers=[
            DistributedDataParallelKwargs(find_unused_parameters=unused_parameters),
            InitProcessGroupKwargs(timeout=PATIENCE),
        ],
    )
    if tensorboard:
        accelerator.init_trackers("tensorboard")
    return accelerator
