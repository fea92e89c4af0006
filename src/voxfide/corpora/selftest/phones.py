"""What is said: a phone inventory, and random syllables with the rhythm of language but no words.

Vowel formants after Peterson & Barney (1952), consonants after Klatt (1980) and Stevens, *Acoustic
Phonetics* (1998); rounded, for a vocal tract of 17.5 cm.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Phone:
    """Targets of one phone; amplitudes relative to a vowel's voicing.

    Attributes:
        formants: F1…F3 in Hz.
        duration: mean, in seconds.
        voice, aspiration, frication: source amplitudes.
        noise_centre, noise_width: frication spectrum in Hz.
        nasal: opening of the velum, 0…1.
        burst: amplitude of the release after a closure; 0 for phones without one.
    """

    formants: tuple[float, float, float]
    duration: float
    voice: float = 1.0
    aspiration: float = 0.0
    frication: float = 0.0
    noise_centre: float = 4000.0
    noise_width: float = 1500.0
    nasal: float = 0.0
    burst: float = 0.0


PAUSE = Phone((500, 1500, 2500), 0.25, voice=0.0)

VOWELS = (
    Phone((270, 2290, 3010), 0.11),
    Phone((390, 1990, 2550), 0.09),
    Phone((530, 1840, 2480), 0.11),
    Phone((660, 1720, 2410), 0.13),
    Phone((730, 1090, 2440), 0.13),
    Phone((570, 840, 2410), 0.12),
    Phone((440, 1020, 2240), 0.09),
    Phone((300, 870, 2240), 0.11),
    Phone((640, 1190, 2390), 0.10),
    Phone((500, 1500, 2500), 0.06),
)

DIPHTHONGS = ((4, 1), (4, 7), (2, 0), (5, 1), (5, 7))
"""Pairs of indices into ``VOWELS``."""

ONSETS = (
    Phone((320, 1100, 2200), 0.075, voice=0.0, burst=0.5, noise_centre=1200, noise_width=900),
    Phone((320, 1750, 2650), 0.070, voice=0.0, burst=0.7, noise_centre=4200, noise_width=1400),
    Phone((320, 1950, 2300), 0.075, voice=0.0, burst=0.6, noise_centre=2000, noise_width=700),
    Phone((250, 1050, 2200), 0.060, voice=0.12, burst=0.3, noise_centre=1100, noise_width=900),
    Phone((250, 1700, 2600), 0.055, voice=0.12, burst=0.4, noise_centre=3900, noise_width=1400),
    Phone((250, 2000, 2250), 0.060, voice=0.12, burst=0.35, noise_centre=1900, noise_width=700),
    Phone((320, 1390, 2530), 0.105, voice=0.0, frication=0.80, noise_centre=5600, noise_width=1300),
    Phone((300, 1840, 2750), 0.105, voice=0.0, frication=0.85, noise_centre=3300, noise_width=1100),
    Phone((340, 1100, 2080), 0.090, voice=0.0, frication=0.18, noise_centre=5200, noise_width=2800),
    Phone((240, 1390, 2530), 0.075, voice=0.40, frication=0.35, noise_centre=5500, noise_width=1300),
    Phone((220, 1100, 2080), 0.060, voice=0.45, frication=0.10, noise_centre=4800, noise_width=2800),
    Phone((500, 1500, 2500), 0.065, voice=0.05, aspiration=0.45),
    Phone((480, 1150, 2130), 0.070, voice=0.55, nasal=1.0),
    Phone((480, 1500, 2470), 0.065, voice=0.55, nasal=1.0),
    Phone((330, 1050, 2880), 0.065, voice=0.70),
    Phone((330, 1060, 1480), 0.065, voice=0.70),
    Phone((260, 2070, 3020), 0.060, voice=0.70),
    Phone((290, 610, 2150), 0.065, voice=0.70),
)

CODAS = tuple(ONSETS[i] for i in (1, 2, 6, 7, 12, 13, 14, 15))


@dataclass(frozen=True)
class Segment:
    """A phone in time. ``accent`` is the pitch accent of the syllable it carries, in units of liveliness."""

    phone: Phone
    duration: float
    accent: float = 0.0


def syllable(rng: np.random.Generator, rate: float, last: bool) -> list[Segment]:
    """One syllable: (C)V(V)(C), stressed or not, longer before a pause."""
    stressed = rng.random() < 0.45
    tempo = 4.5 / rate * (1.15 if stressed else 0.85) * (1.35 if last else 1.0)

    def timed(phone: Phone, accent: float = 0.0) -> Segment:
        return Segment(phone, phone.duration * tempo * float(np.exp(rng.normal(0.0, 0.18))), accent)

    segments = []
    if rng.random() < 0.88:
        segments.append(timed(ONSETS[rng.integers(len(ONSETS))]))
    accent = float(rng.uniform(0.5, 1.2)) if stressed else 0.0
    if stressed and rng.random() < 0.3:
        first, second = DIPHTHONGS[rng.integers(len(DIPHTHONGS))]
        segments += [timed(VOWELS[first], accent), timed(VOWELS[second])]
    elif stressed:
        segments.append(timed(VOWELS[rng.integers(len(VOWELS) - 1)], accent))
    else:
        reduced = rng.random() < 0.4
        segments.append(timed(VOWELS[-1] if reduced else VOWELS[rng.integers(len(VOWELS))]))
    if rng.random() < 0.35:
        segments.append(timed(CODAS[rng.integers(len(CODAS))]))
    return segments


def utterance(rng: np.random.Generator, rate: float, duration: float) -> list[Segment]:
    """Phrases of two to nine syllables between pauses, ``duration`` seconds in all.

    Starts and ends in a pause of random length; the last phrase is cut where it meets the end.
    """
    segments = [Segment(PAUSE, float(rng.uniform(0.04, 0.30)))]
    final = min(float(rng.uniform(0.05, 0.30)), 0.3 * duration)
    time = segments[0].duration
    while time < duration - final:
        count = int(rng.integers(2, 10))
        phrase = [s for i in range(count) for s in syllable(rng, rate, last=i == count - 1)]
        phrase.append(Segment(PAUSE, float(rng.gamma(4.0, 0.06))))
        for segment in phrase:
            if time >= duration - final:
                break
            kept = min(segment.duration, duration - final - time)
            segments.append(Segment(segment.phone, kept, segment.accent))
            time += kept
    segments.append(Segment(PAUSE, max(0.0, duration - time)))
    return segments
