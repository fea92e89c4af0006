"""From segments to control tracks: coarticulated articulation and the pitch contour, every 5 ms."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter1d

from voxfide.corpora.selftest.phones import PAUSE, Phone, Segment
from voxfide.corpora.selftest.speaker import Speaker
from voxfide.types import FloatArray

FRAME = 0.005
"""Seconds between control values."""

BURST = 0.010
VOICE_ONSET = {True: 0.015, False: 0.050}
"""Seconds from release to voicing, after voiced and voiceless closures."""


@dataclass(frozen=True)
class Controls:
    """What drives the synthesiser, one value each ``FRAME`` seconds.

    Attributes:
        f0: Hz ``(frames,)``.
        formants: F1…F3 in Hz ``(3, frames)``, for a 17.5 cm vocal tract.
        voice, aspiration, frication: source amplitudes ``(frames,)``.
        noise_centre, noise_width: frication spectrum in Hz ``(frames,)``.
        nasal: 0…1 ``(frames,)``.
        creak: 0…1 ``(frames,)``.
    """

    f0: FloatArray
    formants: FloatArray
    voice: FloatArray
    aspiration: FloatArray
    frication: FloatArray
    noise_centre: FloatArray
    noise_width: FloatArray
    nasal: FloatArray
    creak: FloatArray


def control_tracks(
    segments: list[Segment], speaker: Speaker, frames: int, rng: np.random.Generator
) -> Controls:
    """Turns targets into movement: each articulator is slow in its own way."""
    starts = np.concatenate([[0.0], np.cumsum([s.duration for s in segments])])
    owner = np.clip(
        np.searchsorted(starts, np.arange(frames) * FRAME, side="right") - 1, 0, len(segments) - 1
    )

    def targets(value: Callable[[Phone], float]) -> FloatArray:
        return np.array([value(s.phone) for s in segments])

    def track(values: FloatArray, seconds: float) -> FloatArray:
        return gaussian_filter1d(values[owner], seconds / FRAME, mode="nearest")

    loudness = np.exp(rng.normal(0.0, 0.12, len(segments)))
    goals = np.array([s.phone.formants for s in segments]).T * rng.normal(1.0, 0.035, (3, len(segments)))
    formants = np.stack([track(goal, 0.022) for goal in goals])
    voice = track(targets(lambda p: p.voice) * loudness, 0.010)
    aspiration = track(targets(lambda p: p.aspiration) * loudness, 0.012)
    frication = track(targets(lambda p: p.frication) * loudness, 0.012)
    _release_bursts(segments, starts, voice, aspiration, frication, rng)
    voice *= np.exp(0.10 * wander(frames, 0.06, rng))
    return Controls(
        f0=_pitch(segments, starts, speaker, frames, rng),
        formants=formants * np.exp(0.012 * np.stack([wander(frames, 0.05, rng) for _ in range(3)])),
        voice=voice,
        aspiration=aspiration,
        frication=frication,
        noise_centre=track(targets(lambda p: p.noise_centre), 0.010),
        noise_width=track(targets(lambda p: p.noise_width), 0.010),
        nasal=np.clip(track(targets(lambda p: p.nasal), 0.018) + speaker.nasality * (voice > 0.1), 0.0, 1.0),
        creak=_creak(segments, starts, speaker, frames, rng),
    )


def wander(frames: int, seconds: float, rng: np.random.Generator) -> FloatArray:
    """Slow unit-variance noise ``(frames,)``: what no articulator can help."""
    width = seconds / FRAME
    return gaussian_filter1d(rng.standard_normal(frames), width, mode="wrap") * np.sqrt(
        2 * np.sqrt(np.pi) * width
    )


def _release_bursts(
    segments: list[Segment],
    starts: FloatArray,
    voice: FloatArray,
    aspiration: FloatArray,
    frication: FloatArray,
    rng: np.random.Generator,
) -> None:
    """Adds, in place, burst and delayed voicing after each closure."""
    for i, segment in enumerate(segments):
        phone = segment.phone
        if not phone.burst or segments[min(i + 1, len(segments) - 1)].phone is PAUSE:
            continue
        release = int(starts[i + 1] / FRAME)
        onset = VOICE_ONSET[phone.voice > 0] * float(rng.uniform(0.6, 1.4))
        burst = slice(release, release + max(1, round(BURST / FRAME)))
        delay = slice(release, release + max(1, round(onset / FRAME)))
        frication[burst] += phone.burst * float(rng.uniform(0.6, 1.3))
        if not phone.voice:
            voice[delay] *= np.linspace(0.02, 1.0, len(voice[delay])) ** 2
            aspiration[delay] += 0.30 * np.linspace(1.0, 0.2, len(aspiration[delay]))


def _pitch(
    segments: list[Segment], starts: FloatArray, speaker: Speaker, frames: int, rng: np.random.Generator
) -> FloatArray:
    """Declination within a phrase, an accent on stressed syllables, a final movement, random drift."""
    time = np.arange(frames) * FRAME
    semitones = 0.35 * wander(frames, 0.035, rng) + 0.6 * wander(frames, 0.25, rng)
    begin = 0.0
    for i, segment in enumerate(segments):
        if segment.phone is PAUSE:
            stop = starts[i]
            inside = (time >= begin) & (time < starts[i + 1])
            slope = rng.uniform(-3.0, -1.0)
            final = rng.choice([-1.0, -1.0, 0.6]) * speaker.liveliness * 0.7
            semitones[inside] += (
                -0.5 * slope
                + slope * (time[inside] - begin)
                + final * np.exp(-np.maximum(0.0, stop - time[inside]) / 0.09)
            )
            begin = starts[i + 1]
        if segment.accent:
            centre = starts[i] + segment.duration * rng.uniform(0.3, 0.7)
            bump = np.exp(-0.5 * ((time - centre) / 0.075) ** 2)
            semitones += segment.accent * speaker.liveliness * bump
        elif segment.phone.voice < 0.5:
            # Consonants disturb the pitch: raised after voiceless, lowered after voiced ones.
            sign = 0.8 if segment.phone.voice == 0 else -0.6
            semitones += sign * np.exp(-0.5 * ((time - starts[i + 1]) / 0.025) ** 2)
    return np.clip(speaker.f0_hz * 2 ** (semitones / 12), 62.0, 480.0)


def _creak(
    segments: list[Segment], starts: FloatArray, speaker: Speaker, frames: int, rng: np.random.Generator
) -> FloatArray:
    """Creaky voice over the last stretch of some phrases."""
    creak = np.zeros(frames)
    for i, segment in enumerate(segments):
        if i and segment.phone is PAUSE and rng.random() < speaker.creak:
            stop = int(starts[i] / FRAME)
            creak[max(0, stop - int(rng.uniform(0.08, 0.25) / FRAME)) : stop] = rng.uniform(0.4, 1.0)
    return gaussian_filter1d(creak, 0.015 / FRAME)
