"""Source-filter synthesis of speech-like signals: :func:`synthesise_utterance`."""

from __future__ import annotations

import numpy as np

from voxfide.corpora.selftest.controls import FRAME, control_tracks
from voxfide.corpora.selftest.glottis import voice_source
from voxfide.corpora.selftest.phones import utterance
from voxfide.corpora.selftest.speaker import Speaker
from voxfide.corpora.selftest.vocal_tract import filter_tract, frication
from voxfide.types import SAMPLE_RATE, Float32Array, Seconds

LEVEL = 0.05
"""RMS of what leaves the lips."""


def synthesise_utterance(speaker: Speaker, rng: np.random.Generator, duration: Seconds) -> Float32Array:
    """Says random syllables.

    Args:
        speaker: who.
        rng: decides what is said and every small irregularity.
        duration: with the pauses at both ends.

    Returns:
        ``(round(duration * SAMPLE_RATE),)`` at :data:`voxfide.types.SAMPLE_RATE`, RMS 0.05, dry and
        free of noise.
    """
    samples = round(duration * SAMPLE_RATE)
    frames = int(np.ceil(samples / (FRAME * SAMPLE_RATE))) + 1
    segments = utterance(rng, speaker.syllable_rate, samples / SAMPLE_RATE)
    controls = control_tracks(segments, speaker, frames, rng)
    voice, aspiration = voice_source(controls, speaker, samples, SAMPLE_RATE, rng)
    speech = filter_tract(voice + aspiration, controls, speaker, SAMPLE_RATE)
    speech += frication(controls, samples, SAMPLE_RATE, rng)
    level = max(float(np.sqrt(np.mean(speech**2))), 1e-9)
    return (speech * (LEVEL / level)).astype(np.float32)
