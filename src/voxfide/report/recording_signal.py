"""Waveform and spectrogram of a recording at a bounded size, and excerpts of it, in one pass."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from voxfide.audio import AudioSource, stream_audio
from voxfide.conditions import Segment
from voxfide.types import SAMPLE_RATE, Float32Array, Float64Array, Seconds

COLUMNS: Final = 1000
"""Points in time of the pictures, however long the recording is."""

ROWS: Final = 128
"""Points in frequency of the spectrogram, from 0 to 8 kHz."""

FRAME: Final = 512
RANGE_DB: Final = 70.0
"""From black down to white in the spectrogram; black is the level that 0.5 % of the cells pass."""

_GREYS: Final = 32
_CONTRAST: Final = 1.5
"""Above 1: soft sounds stay lighter, as in printed spectrograms."""

_HOPS: Final = (64, 512)
_BATCH: Final = 512
_FLOOR: Final = 1e-14


@dataclass(frozen=True, eq=False)
class SignalPicture:
    """What a recording looks like, and how parts of it sound.

    Attributes:
        seconds: that the columns span.
        envelope: ``(columns,)`` largest magnitude in each column, full scale 1.
        spectrogram: PNG, ``columns`` by :data:`ROWS`, dark is strong; ``None`` without a sound.
        excerpts: ``(samples,)`` at 16 kHz of each part that was asked for; shorter where the recording ends.
    """

    seconds: Seconds
    envelope: Float64Array
    spectrogram: bytes | None
    excerpts: tuple[Float32Array, ...]


def read_signal(source: AudioSource, seconds: Seconds, parts: Sequence[Segment] = ()) -> SignalPicture:
    """Reads a recording once, in memory that does not depend on its length.

    Args:
        source: the recording; digital silence and files that break off are read as far as they go.
        seconds: its length, known beforehand; what comes later goes into the last column.
        parts: whose samples are wanted.

    Raises:
        AudioError: it cannot be decoded.
    """
    n_samples = max(1, round(seconds * SAMPLE_RATE))
    columns = min(COLUMNS, -(-n_samples // _HOPS[0]))
    envelope, spectrum = Envelope(n_samples, columns), Spectrogram(n_samples, columns)
    kept: list[list[Float32Array]] = [[] for _ in parts]
    position = 0
    with stream_audio(source, allow_silent=True, allow_truncated=True) as stream:
        for chunk in stream:
            envelope.push(chunk)
            spectrum.push(chunk)
            for part, pieces in zip(parts, kept, strict=True):
                bounds = [max(0, round(t * SAMPLE_RATE) - position) for t in part]
                if bounds[0] < len(chunk) and bounds[1] > 0:
                    pieces.append(chunk[bounds[0] : bounds[1]].copy())
            position += len(chunk)
    nothing = np.zeros(0, np.float32)
    excerpts = tuple(np.concatenate(pieces) if pieces else nothing for pieces in kept)
    levels = spectrum.finish()
    return SignalPicture(
        seconds, envelope.peaks, None if levels is None else grey_png(shades(levels)), excerpts
    )


class Envelope:
    """Largest magnitude in each of ``columns`` equal stretches of a signal that comes in chunks."""

    def __init__(self, n_samples: int, columns: int) -> None:
        self.peaks: Float64Array = np.zeros(columns)
        self._n_samples, self._position = n_samples, 0

    def push(self, chunk: Float32Array) -> None:
        """Takes the next ``(samples,)``."""
        columns = len(self.peaks)
        places = np.minimum(
            (self._position + np.arange(len(chunk))) * columns // self._n_samples, columns - 1
        )
        starts = np.flatnonzero(np.diff(places, prepend=-1))
        if len(starts):
            found = np.maximum.reduceat(np.abs(chunk), starts)
            self.peaks[places[starts]] = np.maximum(self.peaks[places[starts]], found)
        self._position += len(chunk)


class Spectrogram:
    """Mean power in ``(ROWS, columns)`` cells: Hann frames of 32 ms, every 4 to 32 ms by the length."""

    def __init__(self, n_samples: int, columns: int) -> None:
        self._n_samples, self._columns = n_samples, columns
        self.hop = int(np.clip(n_samples // (2 * columns), *_HOPS))
        self._window = np.hanning(FRAME + 1)[:-1]
        self._power = np.zeros((columns, ROWS))
        self._counts = np.zeros(columns, np.int64)
        self._rest = np.zeros(FRAME // 2, np.float32)
        self._n_frames = 0

    def push(self, chunk: Float32Array) -> None:
        """Takes the next ``(samples,)``."""
        signal = np.concatenate([self._rest, chunk])
        n_frames = max(0, (len(signal) - FRAME) // self.hop + 1)
        for start in range(0, n_frames, _BATCH):
            end = min(start + _BATCH, n_frames)
            piece = signal[start * self.hop : (end - 1) * self.hop + FRAME]
            self._add(np.lib.stride_tricks.sliding_window_view(piece, FRAME)[:: self.hop])
        self._rest = signal[n_frames * self.hop :].copy()

    def _add(self, frames: Float32Array) -> None:
        spectra = np.fft.rfft(frames * self._window)[:, 1:]
        power = (spectra.real**2 + spectra.imag**2).reshape(len(frames), ROWS, -1).mean(axis=2)
        centres = (self._n_frames + np.arange(len(frames))) * self.hop
        places = np.minimum(centres * self._columns // self._n_samples, self._columns - 1)
        np.add.at(self._power, places, power)
        np.add.at(self._counts, places, 1)
        self._n_frames += len(frames)

    def finish(self) -> Float64Array | None:
        """Levels ``(ROWS, columns)`` in dB, highest frequency first; ``None`` without a sound."""
        self.push(np.zeros(FRAME // 2, np.float32))
        filled = np.flatnonzero(self._counts)
        if not len(filled) or self._power.max() <= _FLOOR:
            return None
        # A column that no frame is centred in, as in very short recordings, shows the one before it.
        nearest = filled[np.maximum(np.searchsorted(filled, np.arange(self._columns), side="right") - 1, 0)]
        power = self._power[nearest] / self._counts[nearest, None]
        return 10 * np.log10(np.maximum(power.T[::-1], _FLOOR))


def shades(levels: Float64Array) -> NDArray[np.uint8]:
    """Levels in dB as grey values: white where weak, black where strong, in 32 steps."""
    top = float(np.percentile(levels, 99.5))
    strength = np.clip((levels - (top - RANGE_DB)) / RANGE_DB, 0, 1) ** _CONTRAST
    steps = np.round((1 - strength) * (_GREYS - 1))
    return np.round(steps * 255 / (_GREYS - 1)).astype(np.uint8)


def grey_png(grey: NDArray[np.uint8]) -> bytes:
    """A PNG (ISO/IEC 15948) of 8-bit grey values ``(rows, columns)``."""
    rows, columns = grey.shape
    lines = np.concatenate([np.zeros((rows, 1), np.uint8), grey], axis=1).tobytes()
    header = struct.pack(">IIBBBBB", columns, rows, 8, 0, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(lines, 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in parts
    )
