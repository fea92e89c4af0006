"""Overlapping speech and noise in the training of a speech model (WavLM's utterance mixing).

S. Chen et al., "WavLM", JSTSP 2022, algorithm 1: some utterances are overlapped, over at most half of
their length, by a stretch of another utterance of the batch or of noise; what is to be predicted stays
that of the first speaker.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from voxfide.augment.levels import power
from voxfide.augment.recordings import list_recordings, load_recording
from voxfide.errors import AudioError
from voxfide.types import SAMPLE_RATE, Float32Array

log = logging.getLogger(__name__)

SPEECH_RATIO_DB = (-5.0, 5.0)
NOISE_RATIO_DB = (-5.0, 20.0)
"""Power of the utterance over that of what is added, each over all of its samples."""


@dataclass(frozen=True)
class Mixer:
    """Mixes the utterances of a batch.

    Args:
        probability: that an utterance is overlapped.
        noise_share: of these, those that get noise and not speech.
        noise: a recording or a folder of them; where left out, noise is made: Gaussian, its power
            falling with frequency as 1/f to a random exponent from 0 (white) to 2 (brown). So it is
            in place of a recording that cannot be read.

    Raises:
        UsageError: no audio in the folder.
    """

    probability: float
    noise_share: float
    noise: Path | None = None

    def __post_init__(self) -> None:
        if self.noise is not None:
            list_recordings(self.noise)

    def __call__(self, waveforms: Sequence[Float32Array], rng: np.random.Generator) -> list[Float32Array]:
        """The batch ``(samples,)`` each, of which some are new arrays; none changes its length."""
        mixed = list(waveforms)
        for i, waveform in enumerate(waveforms):
            if rng.random() >= self.probability:
                continue
            # A batch of one utterance has nobody to speak in between.
            if rng.random() < self.noise_share or len(waveforms) == 1:
                mixed[i] = overlap(waveform, self._noise(len(waveform), rng), NOISE_RATIO_DB, rng)
            else:
                other = waveforms[(i + int(rng.integers(1, len(waveforms)))) % len(waveforms)]
                mixed[i] = overlap(waveform, other, SPEECH_RATIO_DB, rng)
        return mixed

    def _noise(self, size: int, rng: np.random.Generator) -> Float32Array:
        if self.noise is None:
            return coloured_noise(size, float(rng.uniform(0, 2)), rng)
        names = list_recordings(self.noise)
        name = names[int(rng.integers(len(names)))]
        try:
            return load_recording(self.noise, name, SAMPLE_RATE)
        except AudioError as error:  # no reason to end hours of training
            log.warning("%s: noise is made in its place", error)
            return coloured_noise(size, float(rng.uniform(0, 2)), rng)


def overlap(
    waveform: Float32Array, other: Float32Array, ratio_db: tuple[float, float], rng: np.random.Generator
) -> Float32Array:
    """``waveform`` with a stretch of ``other``, of at most half the length, added at a random place.

    The ratio of their powers is drawn from ``ratio_db``. Where either is silent, nothing is added.
    """
    size = min(int(rng.integers(1, max(2, len(waveform) // 2 + 1))), len(other))
    start = int(rng.integers(len(waveform) - size + 1))
    begin = int(rng.integers(len(other) - size + 1))
    ratio = float(rng.uniform(*ratio_db))
    of_one, of_other = power(waveform), power(other)
    if of_one == 0 or of_other == 0:
        return waveform
    mixed = waveform.copy()
    gain = np.float32(np.sqrt(of_one / of_other) * 10 ** (-ratio / 20))
    mixed[start : start + size] += gain * other[begin : begin + size]
    return mixed


def coloured_noise(size: int, exponent: float, rng: np.random.Generator) -> Float32Array:
    """Gaussian noise ``(size,)`` whose power density falls as ``1 / f ** exponent``; no constant part."""
    spectrum = np.fft.rfft(rng.standard_normal(size))
    frequency = np.arange(len(spectrum), dtype=np.float64)
    frequency[0] = 1.0
    spectrum *= frequency ** (-exponent / 2)
    spectrum[0] = 0.0
    return np.fft.irfft(spectrum, n=size).astype(np.float32)
