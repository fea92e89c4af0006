"""How samples become frames: geometry, the windows of a long utterance, and what they are merged to.

Nothing here needs torch: exported detectors, which run without it, cut and merge alike.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Generic, TypeVar

from voxfide.errors import AudioTooShortError, UsageError
from voxfide.types import SAMPLE_RATE, Seconds

POOLS = ("mean", "mean_std", "none")
WINDOW: Seconds = 30.0
"""Longer utterances are analysed in consecutive windows of this length: attention
costs the square of the length, and the models were trained on shorter input."""

Array = TypeVar("Array", bound=Any)
"""Of NumPy or of torch."""


def windows(n_samples: int, min_samples: int, window: Seconds = WINDOW) -> list[tuple[int, int]]:
    """Cuts ``[0, n_samples)`` into consecutive windows of ``window`` seconds.

    A rest shorter than ``min_samples`` joins the window before it, so that every
    window yields at least one frame.
    """
    size = round(window * SAMPLE_RATE)
    if n_samples <= size:
        return [(0, n_samples)]
    starts = list(range(0, n_samples, size))
    if n_samples - starts[-1] < min_samples:
        starts.pop()
    return list(zip(starts, [*starts[1:], n_samples], strict=True))


class FrameMoments(Generic[Array]):
    """Mean and spread of frames, merged exactly over windows (Chan et al. 1979).

    Args:
        pool: ``mean`` or ``mean_std``.

    Attributes:
        n_frames: added so far.
        mean: ``(layers, dim)``; None before the first window.
        deviation: sum of squared deviations from it, likewise; None where only means are kept.

    Raises:
        UsageError: a pool that keeps no statistics.
    """

    def __init__(self, pool: str) -> None:
        if pool not in ("mean", "mean_std"):
            raise UsageError(f"pool {pool!r} keeps no statistics (expected mean or mean_std)")
        self.pool = pool
        self.n_frames = 0
        self.mean: Array | None = None
        self.deviation: Array | None = None

    def add(self, n_frames: int, mean: Array, deviation: Array | None) -> None:
        """Adds a window: mean ``(layers, dim)`` and sum of squared deviations from it."""
        total = self.n_frames + n_frames
        if self.mean is None:
            self.mean, self.deviation = mean, deviation
        else:
            step = mean - self.mean
            if self.deviation is not None and deviation is not None:
                between = step * step * (self.n_frames * n_frames / total)
                self.deviation = self.deviation + deviation + between
            self.mean = self.mean + step * (n_frames / total)
        self.n_frames = total

    def moments(self) -> tuple[Array, Array | None]:
        """Mean over time, and variance where the pool asks for it.

        Raises:
            UsageError: nothing was added.
        """
        if self.mean is None:
            raise UsageError("no frames were added: there is nothing to average")
        if self.pool == "mean" or self.deviation is None:
            return self.mean, None
        return self.mean, self.deviation / self.n_frames


class FrameGeometry(ABC):
    """What may be known of a front-end without running it.

    Attributes:
        name: for people.
        hop_samples: from one frame to the next.
        min_samples: that the first frame needs.
    """

    name: str
    hop_samples: int
    min_samples: int

    @abstractmethod
    def n_frames(self, n_samples: int) -> int:
        """Frames that ``n_samples`` samples yield."""

    @property
    def device_kind(self) -> str:
        """``cpu``, ``cuda`` or ``mps``: how much one batch may hold follows from it."""
        return "cpu"

    def total_frames(self, n_samples: int) -> int:
        """Frames of an utterance, windowed if long."""
        return sum(self.n_frames(stop - start) for start, stop in windows(n_samples, self.min_samples))

    @property
    def frame_shift(self) -> Seconds:
        """Seconds from one frame to the next."""
        return self.hop_samples / SAMPLE_RATE

    def check_length(self, n_samples: int, path: str = "<waveform>") -> None:
        """Raises :class:`AudioTooShortError` where not even one frame fits."""
        if n_samples < self.min_samples:
            raise AudioTooShortError(
                path,
                f"{n_samples} samples ({n_samples / SAMPLE_RATE:.3f} s): too short for front-end {self.name}",
                f"at least {self.min_samples} samples, {self.min_samples / SAMPLE_RATE:.3f} s",
            )
