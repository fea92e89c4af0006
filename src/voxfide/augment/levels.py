"""How loud a signal is: over all of it, or while somebody speaks; and mixing at a ratio of levels."""

from __future__ import annotations

import numpy as np
from scipy.signal import lfilter

from voxfide.types import FloatArray

OVER = ("signal", "active")

_TIME_CONSTANT = 0.03
_HANGOVER = 0.2
_MARGIN_DB = 15.9
_STEPS = 2.0 ** np.arange(-20, 1)  # of the peak; P.56 goes down to one step of 16 bit


def power(signal: FloatArray) -> float:
    """Mean square of ``(samples,)``."""
    return float(np.vdot(signal, signal)) / len(signal)


def active_power(signal: FloatArray, sample_rate: int) -> float:
    """Mean square of ``(samples,)`` over the time in which there is speech.

    The active speech level of ITU-T Recommendation P.56 (method B): the envelope is smoothed twice
    with 30 ms, a threshold counts as passed for another 200 ms, and the level is that at which
    threshold and level lie 15.9 dB apart. Signals with no such point, as very short ones, are
    active throughout.
    """
    smoothing = np.exp(-1 / (sample_rate * _TIME_CONSTANT))
    gain, poles = [1 - smoothing], [1, -smoothing]
    envelope = lfilter(gain, poles, lfilter(gain, poles, np.abs(signal)))
    peak = float(np.abs(signal).max())
    energy = float(np.vdot(signal, signal))
    if peak == 0:
        return 0.0
    thresholds = peak * _STEPS
    hangover = round(_HANGOVER * sample_rate)
    counts = np.array([_active_samples(envelope, c, hangover) for c in thresholds])
    used = counts > 0
    levels_db = 10 * np.log10(energy / counts[used])
    above_db = levels_db - 20 * np.log10(thresholds[used])
    crossed = int(np.argmax(above_db <= _MARGIN_DB))
    if crossed == 0:  # at the lowest threshold already, or nowhere
        return energy / len(signal)
    pair = slice(crossed - 1, crossed + 1)
    return float(10 ** (np.interp(_MARGIN_DB, above_db[pair][::-1], levels_db[pair][::-1]) / 10))


def _active_samples(envelope: FloatArray, threshold: float, hangover: int) -> int:
    """Samples at which the envelope is above the threshold, or was within the hangover."""
    above = np.flatnonzero(envelope >= threshold)
    if not len(above):
        return 0
    gaps = np.diff(above, append=len(envelope))
    return int(np.minimum(gaps, hangover + 1).sum())


def mix_at_snr(
    signal: FloatArray, noise: FloatArray, snr_db: float, sample_rate: int, over: str = "signal"
) -> FloatArray:
    """``signal`` plus ``noise``, scaled so that their powers are ``snr_db`` apart.

    The noise's power is that over all of its samples, the signal's over all (``"signal"``) or over
    its active speech (``"active"``). Where either has no power there is no such ratio, and nothing
    is added.

    Args:
        signal, noise: ``(samples,)`` both.
    """
    of_signal = power(signal) if over == "signal" else active_power(signal, sample_rate)
    of_noise = power(noise)
    if of_signal == 0 or of_noise == 0:
        return signal
    return signal + np.sqrt(of_signal / of_noise) * 10 ** (-snr_db / 20) * noise
