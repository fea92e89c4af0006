"""How much of a recording a model looks at: cut, tiled, a random stretch, or all of it."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from voxfide.errors import UsageError
from voxfide.types import SAMPLE_RATE, Float32Array, Seconds

POSITIONS = ("start", "random")
SHORT = ("tile", "keep")
LONG = ("cut", "windows")

REFERENCE_SECONDS: Seconds = 4.0375
"""64,600 samples at 16 kHz, the input length of AASIST (Jung et al. 2022) and of many systems since."""


@dataclass(frozen=True)
class Crop:
    """The part of a waveform that is used.

    Args:
        seconds: length; None uses every utterance whole, as it is.
        position: where a longer utterance is cut: at its ``start``, or at a ``random`` place
            (in training; measured and scored from the start).
        short: a shorter utterance is repeated from its beginning until it is as long
            (``tile``), or used as it is (``keep``).
        long: what is scored of a longer recording: the part at its start only (``cut``, as both
            AASIST and the layer-wise study do), or consecutive windows of this length, the last of
            which ends where the recording does, and whose scores are averaged (``windows``).

    Raises:
        UsageError: a length that is not positive, or another word.
    """

    seconds: Seconds | None = REFERENCE_SECONDS
    position: str = "start"
    short: str = "tile"
    long: str = "cut"

    def __post_init__(self) -> None:
        if self.seconds is not None and not 0 < self.seconds < math.inf:
            raise UsageError(f"crop of {self.seconds} s (expected a positive number of seconds)")
        if self.position not in POSITIONS:
            raise UsageError(f"crop position {self.position!r} (expected {' or '.join(POSITIONS)})")
        if self.short not in SHORT:
            raise UsageError(f"crop short {self.short!r} (expected {' or '.join(SHORT)})")
        if self.long not in LONG:
            raise UsageError(f"crop long {self.long!r} (expected {' or '.join(LONG)})")

    @property
    def n_samples(self) -> int | None:
        """Length in samples at 16 kHz."""
        return None if self.seconds is None else round(self.seconds * SAMPLE_RATE)

    def __call__(self, waveform: Float32Array, rng: np.random.Generator | None = None) -> Float32Array:
        """The part of ``waveform (samples,)`` that is used; without ``rng`` cut at the start."""
        n = self.n_samples
        if n is None or len(waveform) == n:
            return waveform
        if len(waveform) > n:
            start = 0
            if rng is not None and self.position == "random":
                start = int(rng.integers(len(waveform) - n + 1))
            return waveform[start : start + n]
        return waveform if self.short == "keep" or not len(waveform) else np.resize(waveform, n)

    def used(self, n_samples: int) -> int:
        """Samples that are used of an utterance of ``n_samples``, repetitions counted."""
        n = self.n_samples
        if n is None or (n_samples < n and self.short == "keep"):
            return n_samples
        return n

    def at_start(self) -> Crop:
        """The same without chance: how a model trained so is measured and scored."""
        return replace(self, position="start")

    def to_json(self) -> dict[str, Any]:
        """As ``config.json`` keeps it."""
        return asdict(self)


WHOLE = Crop(seconds=None)
"""Every utterance whole."""
