"""Cepstral vocoder of the WORLD kind: F0, smooth envelope and band aperiodicity, nothing else.

M. Morise, F. Yokomori & K. Ozawa, "WORLD: a vocoder-based high-quality speech synthesis system for
real-time applications", IEICE Trans. E99-D, 2016; envelope after M. Morise, "CheapTrick, a spectral
envelope estimator for high-quality speech synthesis", Speech Communication 67, 2015.
"""

from __future__ import annotations

import numpy as np
from scipy.fft import dct, idct, irfft, rfft

from voxfide.resynthesis.contract import copy_synthesis
from voxfide.resynthesis.excitation import band_voicing, pulse_times
from voxfide.resynthesis.frames import ComplexArray, even_samples, fft_size, frame, hann, overlap_add
from voxfide.resynthesis.pitch import FLOOR_HZ, PitchTrack, track_pitch
from voxfide.types import FloatArray

HOP_MS = 5.0
UNVOICED_HZ = 160.0
RECOVERY = -0.09
"""CheapTrick's q1: undoes what the smoothing does to the neighbouring harmonics."""

POWER_FLOOR = 1e-9
BLOCK = 256


def smooth_envelope(signal: FloatArray, sample_rate: int, track: PitchTrack) -> FloatArray:
    """Power spectral density per sample without harmonics: ``(frames, n_fft // 2 + 1)``.

    Each frame sees three pitch periods; the log spectrum is smoothed over one harmonic by a sinc
    lifter and sharpened again by CheapTrick's recovery lifter.
    """
    f0 = np.where(track.voiced, track.f0, UNVOICED_HZ)
    size = even_samples(3000.0 / FLOOR_HZ, sample_rate)
    n_fft = fft_size(size)
    half_width = 1.5 * sample_rate / f0[:, None]
    distance = np.abs(np.arange(size) - size // 2)
    window = np.where(distance < half_width, 0.5 + 0.5 * np.cos(np.pi * distance / half_width), 0.0)
    frames = frame(signal, size, track.hop) * window
    energy = np.sum(window**2, axis=1, keepdims=True)
    power = np.abs(rfft(frames, n_fft, axis=1)) ** 2 / energy
    power = _box_smooth(power, f0 * n_fft / sample_rate * 2 / 3) + POWER_FLOOR

    # The cepstrum of a real, even spectrum is its type-1 cosine transform: half the work.
    cepstrum = dct(np.log(power), type=1, axis=1)
    cycles = f0[:, None] * (np.arange(cepstrum.shape[1]) / sample_rate)
    lifter = np.sinc(cycles) * (1 - 2 * RECOVERY + 2 * RECOVERY * np.cos(2 * np.pi * cycles))
    return np.exp(idct(cepstrum * lifter, type=1, axis=1))


def minimum_phase(power: FloatArray) -> ComplexArray:
    """Minimum-phase spectra ``(frames, bins)`` with the given power (Oppenheim & Schafer, 1975)."""
    cepstrum = irfft(0.5 * np.log(power), axis=1)
    half = cepstrum.shape[1] // 2
    cepstrum[:, 1:half] *= 2
    cepstrum[:, half + 1 :] = 0
    return np.exp(rfft(cepstrum, axis=1))


@copy_synthesis
def cepstral_vocoder(signal: FloatArray, sample_rate: int, rng: np.random.Generator) -> FloatArray:
    """Minimum-phase pulses at the pitch period, and noise by band aperiodicity."""
    hop = even_samples(HOP_MS, sample_rate)
    track = track_pitch(signal, sample_rate, hop)
    power = smooth_envelope(signal, sample_rate, track)
    centres, strength = band_voicing(signal, sample_rate, track)
    periodic = _spread(strength, centres, np.linspace(0, sample_rate / 2, power.shape[1]))
    return _pulses(power * periodic, track, len(signal), sample_rate) + _noise(
        power * (1 - periodic), hop, len(signal), rng
    )


def _spread(values: FloatArray, places: FloatArray, at: FloatArray) -> FloatArray:
    """Linear interpolation along the second axis, constant outside: ``(frames, len(at))``."""
    right = np.clip(np.searchsorted(places, at), 1, len(places) - 1)
    weight = np.clip((at - places[right - 1]) / (places[right] - places[right - 1]), 0.0, 1.0)
    return values[:, right - 1] * (1 - weight) + values[:, right] * weight


def _pulses(power: FloatArray, track: PitchTrack, samples: int, sample_rate: int) -> FloatArray:
    """One minimum-phase response for every pitch period, placed to a fraction of a sample."""
    bins = power.shape[1]
    n_fft = 2 * (bins - 1)
    times = pulse_times(track, samples, sample_rate)
    frames = np.minimum(np.rint(times / track.hop).astype(np.int64), len(track.f0) - 1)
    period = sample_rate / track.filled()[frames]
    omega = 2 * np.pi * np.arange(bins) / n_fft
    output = np.zeros(samples + n_fft)
    for start in range(0, len(times), BLOCK):
        block = slice(start, start + BLOCK)
        whole = np.floor(times[block]).astype(np.int64)
        fraction = times[block] - whole
        response = minimum_phase(power[frames[block]] + POWER_FLOOR)
        response *= np.exp(-1j * omega * fraction[:, None]) * np.sqrt(period[block])[:, None]
        for place, pulse in zip(whole, irfft(response, axis=1), strict=True):
            output[place : place + n_fft] += pulse
    # The mean of the train: what the envelope holds at 0 Hz.
    mean = np.where(track.voiced, np.sqrt(power[:, 0] * track.filled() / sample_rate), 0.0)
    return output[:samples] - np.interp(np.arange(samples) / track.hop, np.arange(len(mean)), mean)


def _noise(power: FloatArray, hop: int, samples: int, rng: np.random.Generator) -> FloatArray:
    """White noise in two-hop frames, filtered to the given power."""
    n_fft = 2 * (power.shape[1] - 1)
    size = 2 * hop
    white = frame(rng.standard_normal(samples), size, hop) * np.sqrt(hann(size))
    # Zero-phase responses ring to both sides: half of a frame's room goes before it.
    lead = (n_fft // 2 // hop) * hop
    total = (2 * lead) // hop * hop + size
    delay = np.exp(-2j * np.pi * np.arange(n_fft // 2 + 1) * lead / n_fft)
    shaped = irfft(rfft(white, n_fft, axis=1) * np.sqrt(power) * delay, axis=1)
    kept = shaped[:, :total] if total <= n_fft else np.pad(shaped, ((0, 0), (0, total - n_fft)))
    return overlap_add(kept, hop, samples, lead=lead + hop)


def _box_smooth(power: FloatArray, width_bins: FloatArray) -> FloatArray:
    """Moving average over frequency, its width given a frame: ``(frames, bins)``."""
    bins = power.shape[1]
    margin = int(np.ceil(width_bins.max())) + 2
    mirrored = np.concatenate([power[:, margin:0:-1], power, power[:, -2 : -margin - 2 : -1]], axis=1)
    cumulative = np.concatenate([np.zeros((len(power), 1)), np.cumsum(mirrored, axis=1)], axis=1)
    centre = np.arange(bins) + margin + 0.5
    half = width_bins[:, None] / 2

    def integral(upto: FloatArray) -> FloatArray:
        whole = np.floor(upto).astype(np.int64)
        low = np.take_along_axis(cumulative, whole, axis=1)
        return low + (upto - whole) * (np.take_along_axis(cumulative, whole + 1, axis=1) - low)

    return (integral(centre + half) - integral(centre - half)) / width_bins[:, None]
