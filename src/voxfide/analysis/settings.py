"""How a recording is cut and marked: the numbers that a user may change."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from voxfide.errors import UsageError
from voxfide.types import SAMPLE_RATE, Seconds


@dataclass(frozen=True)
class AnalysisSettings:
    """Windows, and the stretches that they mark.

    Attributes:
        window: length of a window, s; a recording that is not longer is one window.
        hop: from the start of one to that of the next, s; the last one ends where the recording does.
        min_speech: a window with less speech than this is not scored, s; 0 scores all.
        batch: windows scored at a time, always as many but the last: scores do not depend on the chunks
            that the audio comes in.
        merge_gap: marked stretches that are no further apart become one, s.
        fine_window, fine_hop: where the first pass marks a stretch, a second one listens with these, to
            find its ends more closely; ``None``: no second pass.

    Raises:
        UsageError: lengths that cannot be.
    """

    window: Seconds = 4.0
    hop: Seconds = 2.0
    min_speech: Seconds = 0.5
    batch: int = 8
    merge_gap: Seconds = 1.0
    fine_window: Seconds | None = None
    fine_hop: Seconds | None = None

    def __post_init__(self) -> None:
        _check("window", self.window, self.hop)
        if self.fine_window is not None:
            _check("fine window", self.fine_window, self.fine)
        elif self.fine_hop is not None:
            raise UsageError("a hop of the second pass needs its window")
        if not 0 <= self.min_speech <= self.window:
            raise UsageError(
                f"at least {self.min_speech} s of speech in a window of {self.window} s "
                "(expected from 0 to the length of the window)"
            )
        if self.batch < 1 or not 0 <= self.merge_gap < math.inf:
            raise UsageError(f"batch {self.batch}, merge_gap {self.merge_gap} (expected at least 1 and 0 s)")

    @property
    def fine(self) -> Seconds:
        """The hop of the second pass: as stated, or half of its window."""
        return self.fine_hop if self.fine_hop is not None else (self.fine_window or 0.0) / 2

    def stated(self) -> dict[str, float]:
        """What an analysis states of its windows, in seconds; the second pass only where there is one."""
        found = {"window_s": self.window, "hop_s": self.hop, "min_speech_s": self.min_speech}
        return found if self.fine_window is None else {**found, "fine_window_s": self.fine_window}

    def to_json(self) -> dict[str, Any]:
        """Plain numbers."""
        return asdict(self)


def _check(name: str, window: Seconds, hop: Seconds) -> None:
    if not 1 / SAMPLE_RATE <= hop <= window < math.inf:
        raise UsageError(f"{name} of {window} s every {hop} s (expected 0 < hop <= window)")
