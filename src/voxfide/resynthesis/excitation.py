"""Excitation for source-filter routes: pulses at the pitch period, and how periodic each band is."""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy.signal import butter, sosfiltfilt

from voxfide.resynthesis.frames import TINY
from voxfide.resynthesis.pitch import PitchTrack
from voxfide.types import FloatArray, IntArray

VOICING_BANDS_HZ = (0.0, 500.0, 1000.0, 2000.0, 3000.0, 4000.0, 6000.0)
"""Lower edges of the bands of MELP (McCree & Barnwell, 1995), carried on above 4 kHz."""


def pulse_times(track: PitchTrack, samples: int, sample_rate: int) -> FloatArray:
    """Where the pitch contour completes a period in voiced frames: ``(pulses,)`` in samples."""
    at = np.arange(samples) / track.hop
    f0 = np.interp(at, np.arange(len(track.f0)), track.filled())
    voiced = track.voiced[np.minimum(np.rint(at).astype(np.int64), len(track.f0) - 1)]
    # From half a period on: a voiced stretch begins, on average, between two pulses.
    phase = 0.5 + np.concatenate([[0.0], np.cumsum(np.where(voiced, f0, 0.0) / sample_rate)])
    last = np.flatnonzero(np.diff(np.floor(phase)))
    return last + (np.floor(phase[last + 1]) - phase[last]) / (phase[last + 1] - phase[last])


def band_voicing(signal: FloatArray, sample_rate: int, track: PitchTrack) -> tuple[FloatArray, FloatArray]:
    """Bandpass voicing strength (McCree & Barnwell, 1995, "A mixed excitation LPC vocoder model").

    Returns:
        Band centres in Hz ``(bands,)`` and the normalised correlation of each band with itself one
        pitch period later ``(frames, bands)``, 0…1, 0 where unvoiced.
    """
    top = sample_rate / 2
    lows = [low for low in VOICING_BANDS_HZ if low < 0.9 * top]
    highs = [*lows[1:], top]
    period = np.rint(sample_rate / track.filled()).astype(np.int64)
    start = np.arange(len(period)) * track.hop - period // 2
    strengths = np.empty((len(period), len(lows)))
    for band, (low, high) in enumerate(zip(lows, highs, strict=True)):
        if low == 0:
            sos = butter(4, high, fs=sample_rate, output="sos")
        elif high >= top:
            sos = butter(4, low, "highpass", fs=sample_rate, output="sos")
        else:
            sos = butter(2, (low, high), "bandpass", fs=sample_rate, output="sos")
        filtered = sosfiltfilt(sos, signal, padlen=0)
        strengths[:, band] = _correlation(filtered, start, period, sample_rate // 50)
    centres = (np.array(lows) + np.array(highs)) / 2
    return centres, np.where(track.voiced[:, None], strengths, 0.0)


def _correlation(signal: FloatArray, centre: IntArray, lag: IntArray, width: int) -> FloatArray:
    """Normalised correlation of ``width`` samples around each centre with those ``lag`` later."""
    margin = width + int(lag.max())
    views = sliding_window_view(np.pad(signal.astype(np.float32), margin), width)
    first = centre + margin - width // 2
    early, late = views[first], views[first + lag]
    energy = np.sqrt(np.sum(early**2, axis=1) * np.sum(late**2, axis=1))
    return np.clip(np.sum(early * late, axis=1) / np.maximum(energy, TINY), 0.0, 1.0)
