"""What a study tells while it runs, and the figure that all of them state."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from voxfide.metrics import bootstrap_intervals, eer_percent
from voxfide.types import BoolArray, Float64Array

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Reporter:
    """Who hears of what goes on: lines, and bars for long passes."""

    say: Callable[[str], None] = log.info
    progress: Callable[[str], AbstractContextManager[Any]] | None = None

    def bar(self, title: str) -> AbstractContextManager[Any]:
        """A bar for the time of a ``with`` block; None where nobody wants one."""
        return nullcontext() if self.progress is None else self.progress(title)


def eer_with_interval(
    scores: Float64Array, is_bonafide: BoolArray, n_bootstrap: int, seed: int = 0
) -> tuple[float, float | None, float | None]:
    """EER in percent and the ends of its 95 % interval, where one can be had."""
    intervals = bootstrap_intervals(scores, is_bonafide, ["eer_percent"], n_bootstrap=n_bootstrap, seed=seed)
    low, high = intervals["eer_percent"] or (None, None)
    return eer_percent(scores, is_bonafide), low, high
