"""Routes that keep band energies and replace what fills the bands."""

from __future__ import annotations

import numpy as np
from scipy.signal import butter, sosfiltfilt

from voxfide.resynthesis.contract import copy_synthesis
from voxfide.resynthesis.frames import erb_band_edges, even_samples, istft, shape_bands, stft
from voxfide.types import FloatArray

VOCODER_BANDS = 24
EXPANDED_BANDS = 4
"""Energy parameters a frame for the rebuilt half of the spectrum."""


@copy_synthesis
def noise_vocoder(signal: FloatArray, sample_rate: int, rng: np.random.Generator) -> FloatArray:
    """24 ERB bands of white noise with the envelopes of the signal: a whisper."""
    hop = even_samples(4.0, sample_rate)
    size = 4 * hop
    target = stft(signal.astype(np.float32), size, hop)
    carrier = stft(rng.standard_normal(len(signal), dtype=np.float32), size, hop)
    edges = erb_band_edges(VOCODER_BANDS, sample_rate)
    return istft(shape_bands(carrier, target, edges, sample_rate), size, hop, len(signal))


@copy_synthesis
def band_expand(signal: FloatArray, sample_rate: int, rng: np.random.Generator) -> FloatArray:
    """Keeps the lower half of the spectrum; the upper half is its mirror image in four coarse bands.

    At 16 kHz: everything above 4 kHz is made from what lies below.
    """
    cut = sample_rate / 4
    sos = butter(8, 0.97 * cut, fs=sample_rate, output="sos")
    narrow = sosfiltfilt(sos, signal, padlen=0)
    folded = narrow * np.where(np.arange(len(narrow)) % 2, -1.0, 1.0)
    hop = even_samples(4.0, sample_rate)
    size = 4 * hop
    edges = np.linspace(cut, sample_rate / 2, EXPANDED_BANDS + 1)
    upper = shape_bands(
        stft(folded.astype(np.float32), size, hop),
        stft(signal.astype(np.float32), size, hop),
        edges,
        sample_rate,
    )
    return narrow + istft(upper, size, hop, len(signal))
