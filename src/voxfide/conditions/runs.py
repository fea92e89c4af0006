"""Runs of a property along a stream."""

from __future__ import annotations

import numpy as np

from voxfide.types import BoolArray, IntArray


class Runs:
    """Where a property holds without a break, whatever the chunks."""

    def __init__(self) -> None:
        self._seen = 0
        self.open: int | None = None
        """Position at which the run that goes on started, or ``None``."""

    def push(self, mask: BoolArray) -> tuple[IntArray, IntArray]:
        """Goes on with ``mask (samples,)``.

        Returns:
            The runs that ended: positions in the stream of their first sample, and of the one after
            their last. A run that reaches the end of ``mask`` is still open.
        """
        padded = np.concatenate([[self.open is not None], mask])
        edges = np.flatnonzero(padded[1:] != padded[:-1]) + self._seen
        begun = edges if self.open is None else np.concatenate([[self.open], edges])
        self._seen += len(mask)
        self.open = int(begun[-1]) if len(begun) % 2 else None
        whole = begun[: len(begun) // 2 * 2].astype(np.int64)
        return whole[0::2], whole[1::2]

    def finish(self) -> tuple[IntArray, IntArray]:
        """As :meth:`push`: the run that reached the end, if any."""
        starts = np.array([] if self.open is None else [self.open], np.int64)
        self.open = None
        return starts, np.full(len(starts), self._seen, np.int64)
