"""Who speaks: the constants of one synthetic speaker, and the seeds behind every draw."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from voxfide.types import FloatArray


def generator(seed: int, *names: str) -> np.random.Generator:
    """A random generator that depends on the seed and the names alone, not on order or process."""
    digest = hashlib.sha256("/".join(names).encode()).digest()
    words = np.frombuffer(digest, dtype="<u4").tolist()
    return np.random.default_rng(np.random.SeedSequence([seed, *words]))


@dataclass(frozen=True)
class Speaker:
    """What stays the same between the utterances of one speaker.

    Attributes:
        name: identifier.
        f0_hz: median fundamental frequency.
        liveliness: size of pitch accents in semitones.
        tract_scale: formant frequencies over those of a 17.5 cm vocal tract.
        formant_offsets: personal factor on each formant ``(8,)``.
        bandwidth_scale: factor on formant bandwidths.
        rd: mean glottal shape parameter of Fant (1995): 0.7 pressed, 2.2 breathy.
        tilt_hz: corner above which the voice falls off by a further 6 dB an octave.
        breathiness: aspiration noise over voicing, amplitude ratio.
        jitter, shimmer: standard deviation of periods and of cycle amplitudes, relative.
        creak: chance that a phrase ends in creaky voice.
        syllable_rate: syllables a second.
        nasality: how far vowels are nasalised, 0…1.
    """

    name: str
    f0_hz: float
    liveliness: float
    tract_scale: float
    formant_offsets: FloatArray
    bandwidth_scale: float
    rd: float
    tilt_hz: float
    breathiness: float
    jitter: float
    shimmer: float
    creak: float
    syllable_rate: float
    nasality: float

    @classmethod
    def draw(cls, name: str, rng: np.random.Generator) -> Speaker:
        """A speaker at random; short vocal tracts tend to go with high voices."""
        size = rng.uniform(0.0, 1.0)
        return cls(
            name=name,
            f0_hz=float(100.0 * 2 ** (1.1 * size + rng.normal(0.0, 0.12))),
            liveliness=rng.uniform(1.5, 4.5),
            tract_scale=float(0.95 + 0.22 * size + rng.normal(0.0, 0.025)),
            formant_offsets=rng.normal(1.0, 0.03, size=8),
            bandwidth_scale=rng.uniform(0.8, 1.5),
            rd=rng.uniform(0.8, 2.0),
            tilt_hz=rng.uniform(1200.0, 4000.0),
            breathiness=float(10 ** (rng.uniform(-30.0, -14.0) / 20)),
            jitter=rng.uniform(0.003, 0.012),
            shimmer=rng.uniform(0.02, 0.07),
            creak=rng.uniform(0.0, 0.5),
            syllable_rate=rng.uniform(3.6, 5.8),
            nasality=rng.uniform(0.0, 0.3),
        )
