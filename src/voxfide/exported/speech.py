"""silero-vad's network as a graph: the same probabilities as :mod:`voxfide.conditions.silero`."""

from __future__ import annotations

from typing import Final

import numpy as np

from voxfide.exported.sessions import Graph
from voxfide.types import Float32Array

WINDOW: Final = 512
"""Samples for which there is one probability: 32 ms at 16 kHz."""

_CONTEXT: Final = 64  # samples before the window that are seen with it
_STATE: Final = (2, 1, 128)  # of the LSTM: what it gives, and its cell


class GraphSpeech:
    """A :class:`~voxfide.conditions.SpeechModel` on the graph; all recordings share it."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph

    def listen(self) -> GraphSpeechStream:
        """Starts a recording."""
        return GraphSpeechStream(self._graph)


class GraphSpeechStream:
    """The network with its memory: windows in, probabilities out."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._state = np.zeros(_STATE, np.float32)
        self._context = np.zeros(_CONTEXT, np.float32)

    def push(self, signal: Float32Array) -> list[float]:
        """Probabilities of the next ``(512 · windows,)`` samples, one for each window."""
        heard = np.concatenate([self._context, np.asarray(signal, np.float32)])
        windows = np.lib.stride_tricks.sliding_window_view(heard, _CONTEXT + WINDOW)[::WINDOW]
        found = self._graph.run({"windows": np.ascontiguousarray(windows), "state": self._state})
        self._state, self._context = found["state_out"], heard[-_CONTEXT:].copy()
        probabilities: list[float] = found["probabilities"].tolist()
        return probabilities
