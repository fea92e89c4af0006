"""A picture of a recording as it is decoded: envelope and spectrogram of bounded size, whatever its length.

Columns are made from frames of 512 samples. Once there are twice as many as wanted, neighbours are
joined, so that memory is constant and the result does not depend on the chunks.
"""

from __future__ import annotations

import base64
from typing import Any, Final

import numpy as np

from voxfide.types import SAMPLE_RATE, Float32Array, Float64Array

COLUMNS: Final = 600
"""Of the picture: at least so many of a recording that has so many frames, below twice as many."""

BANDS: Final = 64
FRAME: Final = 512
HOP: Final = 256
RANGE_DB: Final = 80.0
"""Below the loudest cell; what is softer is shown as silence."""


def _band_of_bin() -> tuple[np.ndarray, np.ndarray]:
    """For each band on the mel scale its first FFT bin and the number of bins; every band has one."""
    top = 2595 * np.log10(1 + SAMPLE_RATE / 2 / 700)
    edges_hz = 700 * (10 ** (np.linspace(0, top, BANDS + 1) / 2595) - 1)
    first = np.floor(edges_hz[:-1] / SAMPLE_RATE * FRAME).astype(int)
    last = np.maximum(np.ceil(edges_hz[1:] / SAMPLE_RATE * FRAME).astype(int), first + 1)
    return first, last


class Overview:
    """Takes a 16 kHz mono stream in chunks of any length."""

    def __init__(self) -> None:
        self._window = np.hanning(FRAME + 1)[:-1].astype(np.float32)
        self._first, self._last = _band_of_bin()
        self._rest = np.zeros(0, np.float32)
        self._frames_a_column = 1
        self._columns = 0
        self._power = np.zeros((2 * COLUMNS, BANDS))
        self._low, self._high = np.zeros(2 * COLUMNS), np.zeros(2 * COLUMNS)
        self._count = np.zeros(2 * COLUMNS, int)
        self._n_samples = 0

    def push(self, chunk: Float32Array) -> None:
        """Takes the next ``(samples,)``, full scale ±1."""
        self._n_samples += len(chunk)
        signal = np.concatenate([self._rest, chunk])
        n_frames = max(0, (len(signal) - FRAME) // HOP + 1)
        if n_frames:
            self._add(signal[: (n_frames - 1) * HOP + FRAME], n_frames)
        self._rest = signal[n_frames * HOP :].copy()

    def _add(self, signal: Float32Array, n_frames: int) -> None:
        frames = np.lib.stride_tricks.sliding_window_view(signal, FRAME)[::HOP][:n_frames]
        spectrum = np.abs(np.fft.rfft(frames * self._window, axis=1)) ** 2
        sums = np.concatenate([np.zeros((n_frames, 1)), np.cumsum(spectrum, axis=1)], axis=1)
        power = (sums[:, self._last] - sums[:, self._first]) / (self._last - self._first)
        for i in range(n_frames):
            new = frames[i, :HOP]
            self._frame(np.maximum(power[i], 0.0), float(new.min()), float(new.max()))

    def _frame(self, power: Float64Array, low: float, high: float) -> None:
        last = self._columns - 1
        if last >= 0 and self._count[last] < self._frames_a_column:
            self._power[last] += power
            self._low[last], self._high[last] = min(self._low[last], low), max(self._high[last], high)
            self._count[last] += 1
            return
        if self._columns == 2 * COLUMNS:
            self._halve()
        self._power[self._columns] = power
        self._low[self._columns], self._high[self._columns] = low, high
        self._count[self._columns] = 1
        self._columns += 1

    def _halve(self) -> None:
        half = self._columns // 2
        self._power[:half] = self._power[::2] + self._power[1::2]
        self._low[:half] = np.minimum(self._low[::2], self._low[1::2])
        self._high[:half] = np.maximum(self._high[::2], self._high[1::2])
        self._count[:half] = self._count[::2] + self._count[1::2]
        self._columns = half
        self._frames_a_column *= 2

    def to_json(self) -> dict[str, Any]:
        """The picture; call once, at the end.

        Returns:
            ``columns``, ``bands``, ``seconds`` that the columns span, ``low`` and ``high`` (the extremes of
            the waveform in each column, 255 steps from -1 to 1) and ``spectrogram`` (a row of bands, the
            lowest first, for each column; 255 steps up to the loudest), base64 of unsigned bytes.
        """
        if self._n_samples and not self._columns:  # shorter than a frame
            self.push(np.zeros(FRAME - len(self._rest), np.float32))
        columns = self._columns
        count = self._count[:columns]
        seconds = float(count.sum() * HOP / SAMPLE_RATE)
        level = 10 * np.log10(self._power[:columns] / np.maximum(count, 1)[:, None] + 1e-12)
        loudest = float(level.max()) if columns else 0.0
        return {
            "columns": columns,
            "bands": BANDS,
            "seconds": seconds,
            "top_hz": SAMPLE_RATE // 2,
            "low": _bytes((self._low[:columns] + 1) * 127.5),
            "high": _bytes((self._high[:columns] + 1) * 127.5),
            "spectrogram": _bytes((level - loudest + RANGE_DB) / RANGE_DB * 255),
        }


def _bytes(values: Float64Array) -> str:
    return base64.b64encode(np.clip(np.round(values), 0, 255).astype(np.uint8).tobytes()).decode()
