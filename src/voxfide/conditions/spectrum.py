"""The long-term spectrum: bandwidth, noise floor, and the holes that strong coding leaves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from voxfide.conditions.filters import hann
from voxfide.conditions.histogram import LevelHistogram
from voxfide.types import SAMPLE_RATE, Float32Array, Float64Array

FRAME: Final = 512
HOP: Final = 256
BAND_HZ: Final = 250.0
BANDS: Final = 32

SILENT_DB: Final = 20 * np.log10(1 / 32768)
"""Frames whose mean square lies below one 16-bit step squared tell nothing and are left out."""

_LOW_DB, _HIGH_DB = -160.0, 20.0
_BINS_A_BAND: Final = FRAME // 2 // BANDS


@dataclass(frozen=True)
class SpectrumSummary:
    """What :class:`Spectrum` found; all ``None`` where no frame was loud enough to count.

    Attributes:
        bandwidth_hz: upper edge of the highest band that carries signal, in steps of 250 Hz.
        rolloff_95_hz, rolloff_99_hz: below it lies that share of the power.
        noise_db: level of the tenth percentile of frames, dB re full scale.
        holes_share: of the cells of loud frames within the bandwidth, those that are empty.
    """

    bandwidth_hz: float | None = None
    rolloff_95_hz: float | None = None
    rolloff_99_hz: float | None = None
    noise_db: float | None = None
    holes_share: float | None = None


class Spectrum:
    """Histograms of the level in 32 bands of 250 Hz, over frames of 32 ms every 16 ms (Hann).

    **Bandwidth.** A band carries signal if its 95th percentile lies at most ``range_db`` below that of
    the strongest band, and ``contrast_db`` or more above its own 10th: speech comes and goes, where
    noise or the ringing of a filter stays. Frames of noise alone differ by 4.5 dB. The bandwidth ends
    with the highest such band. It is that of the speech, not of the noise laid over it.

    **Noise floor.** The tenth percentile of the frames' levels: speech pauses more than a tenth of the
    time (the idea of minimum statistics, Martin 2001, doi:10.1109/89.928915). In a recording without
    pauses it is the level of the softest sounds, and the noise is lower than it says.

    **Holes.** Coders of music and speech at low rates leave whole bands out. Cells of loud frames (at
    most 20 dB below their 95th percentile) that lie more than 75 dB below the frame's level are counted
    as empty. At levels below about -30 dB re full scale, the rounding to 16 bit fills them.
    """

    def __init__(self, range_db: float = 65.0, contrast_db: float = 10.0, hole_db: float = 75.0) -> None:
        self._range, self._contrast, self._hole = range_db, contrast_db, hole_db
        self._window = hann(FRAME)
        self._scale = 2 / (FRAME * float(np.vdot(self._window, self._window)))
        self._rest = np.zeros(0, np.float32)
        self._bands = LevelHistogram(BANDS, _LOW_DB, _HIGH_DB, 1.0)
        self._total = LevelHistogram(1, _LOW_DB, _HIGH_DB, 1.0)
        self._holes = np.zeros((self._total.counts.shape[1], BANDS), np.int64)
        self._power = np.zeros(FRAME // 2)

    def push(self, signal: Float32Array) -> None:
        """Takes the next ``(samples,)`` at 16 kHz."""
        signal = np.concatenate([self._rest, signal])
        n_frames = max(0, (len(signal) - FRAME) // HOP + 1)
        self._rest = signal[n_frames * HOP :].copy()
        if not n_frames:
            return
        frames = np.lib.stride_tricks.sliding_window_view(signal, FRAME)[::HOP][:n_frames]
        spectra = np.fft.rfft(frames * self._window)[:, 1:]
        self._add(self._scale * (spectra.real**2 + spectra.imag**2))

    def _add(self, power: Float64Array) -> None:
        """Counts frames: ``(frames, 256)`` shares of the mean square."""
        with np.errstate(divide="ignore"):
            total = 10 * np.log10(power.sum(axis=1))
            loud = total > SILENT_DB
            bands = 10 * np.log10(power[loud].reshape(-1, BANDS, _BINS_A_BAND).sum(axis=2))
        total = total[loud]
        self._power += power[loud].sum(axis=0)
        self._bands.add(bands)
        self._total.add(total[:, None])
        place = np.clip(np.floor(total - _LOW_DB), 0, len(self._holes) - 1).astype(np.int64)
        np.add.at(self._holes, place, bands < total[:, None] - self._hole)

    def finish(self) -> SpectrumSummary:
        """Judges what was pushed."""
        if not self._total.counts.any():
            return SpectrumSummary()
        high = self._bands.percentile(95)
        carries = (high >= high.max() - self._range) & (high - self._bands.percentile(10) >= self._contrast)
        top = int(np.flatnonzero(carries)[-1]) + 1 if carries.any() else None
        cumulative = np.cumsum(self._power) / self._power.sum()
        hz = (np.arange(FRAME // 2) + 1) * SAMPLE_RATE / FRAME
        return SpectrumSummary(
            bandwidth_hz=None if top is None else top * BAND_HZ,
            rolloff_95_hz=float(hz[np.searchsorted(cumulative, 0.95)]),
            rolloff_99_hz=float(hz[np.searchsorted(cumulative, 0.99)]),
            noise_db=float(self._total.percentile(10)[0]),
            holes_share=None if top is None else self._share_of_holes(top),
        )

    def _share_of_holes(self, top: int) -> float:
        counts = self._total.counts[0]
        lowest = max(0, int(np.floor(self._total.percentile(95)[0] - 20 - _LOW_DB)))
        return float(self._holes[lowest:, :top].sum() / (counts[lowest:].sum() * top))
