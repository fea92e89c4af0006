"""Windows of several requests scored together: one model, one thread that uses it.

The first window that arrives waits a few milliseconds for others. An utterance gets the same score
alone as in any batch, so who is scored together with whom changes nothing but the time it takes.
"""

from __future__ import annotations

import copy
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from voxfide.errors import UsageError
from voxfide.types import SAMPLE_RATE, Float64Array, Seconds

if TYPE_CHECKING:
    from voxfide.detectors import AnyDetector

Score = Callable[[Sequence[np.ndarray]], Float64Array]


@dataclass
class _Job:
    waveforms: Sequence[np.ndarray]
    scores: Future[Float64Array] = field(default_factory=Future)

    @property
    def seconds(self) -> Seconds:
        return sum(map(len, self.waveforms)) / SAMPLE_RATE


class Batcher:
    """Joins what threads want scored into batches.

    Args:
        score: of waveforms ``(samples,)``, each as if alone; called from one thread only.
        wait: how long the first job of a batch waits for others, s.
        max_seconds: of audio in a batch, from which on it waits for no more.
        on_batch: told of the number of waveforms in each.
    """

    def __init__(
        self,
        score: Score,
        wait: Seconds = 0.004,
        max_seconds: Seconds = 64.0,
        on_batch: Callable[[int], None] = lambda n: None,
    ) -> None:
        self._score, self._wait, self._max_seconds, self._on_batch = score, wait, max_seconds, on_batch
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="scoring", daemon=True)
        self._thread.start()

    def score(self, waveforms: Sequence[np.ndarray]) -> Float64Array:
        """Scores ``(waveforms,)``; waits for them.

        Raises:
            UsageError: the batcher is closed.
        """
        if self._closed:
            raise UsageError("the service has stopped scoring")
        if not len(waveforms):
            return np.zeros(0)
        job = _Job(waveforms)
        self._jobs.put(job)
        return job.scores.result()

    def close(self) -> None:
        """Finishes what was handed in, and takes no more."""
        self._closed = True
        self._jobs.put(None)
        self._thread.join()
        while not self._jobs.empty():  # handed in at the last moment
            if (job := self._jobs.get()) is not None:
                job.scores.set_exception(UsageError("the service has stopped scoring"))

    def _work(self) -> None:
        while (first := self._jobs.get()) is not None:
            batch, ended = self._gather(first)
            self._on_batch(sum(len(job.waveforms) for job in batch))
            self._answer(batch)
            if ended:
                return

    def _gather(self, first: _Job) -> tuple[list[_Job], bool]:
        batch, seconds = [first], first.seconds
        until = time.monotonic() + self._wait
        while seconds < self._max_seconds:
            try:
                job = self._jobs.get(timeout=max(0.0, until - time.monotonic()))
            except queue.Empty:
                break
            if job is None:
                return batch, True
            batch.append(job)
            seconds += job.seconds
        return batch, False

    def _answer(self, batch: list[_Job]) -> None:
        try:
            scores = self._score([w for job in batch for w in job.waveforms])
        except Exception as error:
            if len(batch) == 1:
                batch[0].scores.set_exception(error)
                return
            for job in batch:  # one is to blame: each by itself, so that it alone fails
                self._answer([job])
            return
        at = 0
        for job in batch:
            job.scores.set_result(scores[at : at + len(job.waveforms)])
            at += len(job.waveforms)


def sharing(detector: AnyDetector, batcher: Batcher) -> AnyDetector:
    """The same detector, whose ``score_waveforms`` joins the batches of others."""
    shared = copy.copy(detector)
    shared.score_waveforms = batcher.score  # type: ignore[method-assign]
    return shared
