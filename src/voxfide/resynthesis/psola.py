"""Time-domain pitch-synchronous overlap-add: the waveform's own periods under a new pitch contour."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter1d
from scipy.signal import butter, sosfiltfilt

from voxfide.resynthesis.contract import copy_synthesis
from voxfide.resynthesis.frames import even_samples, hann
from voxfide.resynthesis.pitch import PitchTrack, track_pitch
from voxfide.types import FloatArray, IntArray

HOP_MS = 5.0
CONTOUR_SMOOTHING = 0.08
"""Seconds; standard deviation of the Gaussian that irons the new contour."""

SHIFT_SEMITONES = 2.0
"""The new pitch lies up to this far above or below the old one."""

UNVOICED_PERIOD = 0.006
SEARCH = 0.25
"""A pitch mark is sought this fraction of a period around where it is expected."""


@copy_synthesis
def psola(signal: FloatArray, sample_rate: int, rng: np.random.Generator) -> FloatArray:
    """TD-PSOLA with a smoothed contour, shifted by up to two semitones."""
    hop = even_samples(HOP_MS, sample_rate)
    track = track_pitch(signal, sample_rate, hop)
    factor = 2 ** (rng.uniform(-SHIFT_SEMITONES, SHIFT_SEMITONES) / 12)
    smoothing = CONTOUR_SMOOTHING * sample_rate / hop
    contour = factor * np.exp(gaussian_filter1d(np.log(track.filled()), smoothing, mode="nearest"))
    marks = pitch_marks(signal, sample_rate, track)
    return _overlap_grains(signal, marks, track, contour, sample_rate)


def pitch_marks(signal: FloatArray, sample_rate: int, track: PitchTrack) -> IntArray:
    """One mark a period on the strongest peaks where voiced, evenly spaced elsewhere: ``(marks,)``."""
    cut = min(1000.0, 0.4 * sample_rate)
    smooth = sosfiltfilt(butter(2, cut, fs=sample_rate, output="sos"), signal, padlen=0)
    if np.mean(smooth**3) < 0:
        smooth = -smooth
    period = np.where(track.voiced, sample_rate / track.filled(), UNVOICED_PERIOD * sample_rate)
    marks: list[int] = []
    expected = 0.0
    while expected < len(signal):
        place = min(round(expected / track.hop), len(period) - 1)
        reach = int(SEARCH * period[place])
        mark = int(expected)
        if track.voiced[place] and reach:
            start = max(mark - reach, marks[-1] + 1 if marks else 0)
            window = smooth[start : mark + reach + 1]
            mark = start + int(np.argmax(window)) if len(window) else mark
        marks.append(mark)
        expected = mark + period[place]
    return np.array(marks, dtype=np.int64)


def _overlap_grains(
    signal: FloatArray, marks: IntArray, track: PitchTrack, contour: FloatArray, sample_rate: int
) -> FloatArray:
    """Lays two-period grains around the nearest marks at the places the contour asks for."""
    spacing = np.diff(marks, append=marks[-1] + int(UNVOICED_PERIOD * sample_rate))
    reach = int(sample_rate / 50)
    padded = np.pad(signal, reach)
    output = np.zeros(len(padded) + reach)
    weight = np.zeros_like(output)
    place = 0.0
    nearest = 0
    while place < len(signal):
        while nearest + 1 < len(marks) and abs(marks[nearest + 1] - place) <= abs(marks[nearest] - place):
            nearest += 1
        mark = int(marks[nearest])
        here = min(round(place / track.hop), len(contour) - 1)
        # A grain of an unvoiced stretch keeps its own time, so that noise is not repeated.
        centre = int(place) if track.voiced[here] else mark
        half = int(min(max(spacing[nearest], 2), reach))
        window = hann(2 * half)
        grain = slice(mark + reach - half, mark + reach + half)
        target = slice(centre + reach - half, centre + reach + half)
        output[target] += window * padded[grain]
        weight[target] += window
        if track.voiced[here]:
            place += sample_rate / contour[here]
        else:
            place = max(place, float(mark)) + UNVOICED_PERIOD * sample_rate
    return (output / np.maximum(weight, 0.5))[reach : reach + len(signal)]
