"""The filter: a cascade of formant resonators that move every 5 ms, and frication noise.

D. Klatt, "Software for a cascade/parallel formant synthesizer", J. Acoust. Soc. Am. 67(3), 1980.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from voxfide.corpora.selftest.controls import FRAME, Controls
from voxfide.corpora.selftest.speaker import Speaker
from voxfide.resynthesis.frames import even_samples, istft, stft
from voxfide.types import FloatArray

T = TypeVar("T", np.float64, np.complex128)

HIGHER_FORMANTS_HZ = (3500.0, 4500.0, 5500.0, 6500.0, 7500.0)
NASAL_POLE_HZ = 270.0
NASAL_BANDWIDTH_HZ = 100.0
NASAL_ZERO_HZ = 450.0
"""Where the nasal zero goes when the velum is open; it cancels the pole when shut."""

BLOCK = 64
"""Samples; short enough that the widest formant's decay over a block stays within float64."""

FRICATION_LEVEL = 0.35
LIPS_LEVEL = 0.02
"""Flat part of the frication spectrum."""


def resonate(
    signal: FloatArray, frequency: FloatArray, bandwidth: FloatArray, sample_rate: int
) -> FloatArray:
    """A two-pole resonator of unit gain at 0 Hz that moves with every sample.

    In the coupled form, one complex pole, the state keeps its energy when the pole moves. The signal
    is solved block by block in closed form (a cumulative sum under the running product of the poles).

    Args:
        signal: ``(samples,)``.
        frequency, bandwidth: Hz ``(frames,)``, every ``FRAME``.

    Returns:
        ``(samples,)``.
    """
    count = -(-len(signal) // BLOCK)
    blocks = np.pad(signal, (0, count * BLOCK - len(signal))).reshape(count, BLOCK)
    corners = np.exp((-np.pi * bandwidth + 2j * np.pi * frequency) / sample_rate)
    pole = per_sample(corners, count * BLOCK, sample_rate).reshape(count, BLOCK)
    powers = np.cumprod(pole, axis=1)
    own = powers * np.cumsum(blocks / powers, axis=1)
    handed_on = []
    state = 0j
    for last, power in zip(own[:, -1].tolist(), powers[:, -1].tolist(), strict=True):
        handed_on.append(state)
        state = last + power * state
    states = own + powers * np.array(handed_on)[:, None]
    output = np.abs(1 - pole) ** 2 * (pole * states).imag / pole.imag
    return output.reshape(-1)[: len(signal)]


def per_sample(track: NDArray[T], samples: int, sample_rate: int) -> NDArray[T]:
    """A control track, real or complex, ``(frames,)`` → ``(samples,)`` by linear interpolation."""
    return np.interp(np.arange(samples) / (FRAME * sample_rate), np.arange(len(track)), track)


def filter_tract(source: FloatArray, controls: Controls, speaker: Speaker, sample_rate: int) -> FloatArray:
    """Runs the source through the nasal branch and the cascade of formants: ``(samples,)``."""
    frames = len(controls.f0)
    scale = speaker.tract_scale * speaker.formant_offsets
    fixed = np.repeat(np.array(HIGHER_FORMANTS_HZ)[:, None], frames, axis=1)
    frequency = np.concatenate([controls.formants, fixed]) * scale[:, None]
    frequency = frequency[frequency.max(axis=1) < 0.47 * sample_rate]
    # Losses grow with frequency, and with the velum and the glottis open.
    bandwidth = speaker.bandwidth_scale * (40 + 0.025 * frequency + 1.2e-5 * frequency**2)
    bandwidth[0] *= 1 + 0.8 * controls.nasal + 0.8 * np.minimum(controls.aspiration, 1.0)
    speech = _nasal_branch(source, controls.nasal, speaker.tract_scale, sample_rate)
    for f, b in zip(frequency, bandwidth, strict=True):
        speech = resonate(speech, f, b, sample_rate)
    return speech


def _nasal_branch(source: FloatArray, nasal: FloatArray, scale: float, sample_rate: int) -> FloatArray:
    """A pole and a zero of equal bandwidth that cancel while the velum is shut."""
    pole = np.full(len(nasal), NASAL_POLE_HZ * scale)
    zero = pole + nasal * (NASAL_ZERO_HZ - NASAL_POLE_HZ)
    width = np.full(len(nasal), NASAL_BANDWIDTH_HZ)
    radius = np.exp(-np.pi * NASAL_BANDWIDTH_HZ / sample_rate)
    middle = per_sample(-2 * radius * np.cos(2 * np.pi * zero / sample_rate), len(source), sample_rate)
    once = np.concatenate([[0.0], source[:-1]])
    twice = np.concatenate([[0.0], once[:-1]])
    dulled = (source + middle * once + radius**2 * twice) / (1 + middle + radius**2)
    return resonate(dulled, pole, width, sample_rate)


def frication(controls: Controls, samples: int, sample_rate: int, rng: np.random.Generator) -> FloatArray:
    """Turbulence at a constriction: white noise under a moving bell over frequency, ``(samples,)``."""
    hop = even_samples(1000 * FRAME, sample_rate)
    size = 4 * hop
    white = stft(rng.standard_normal(samples), size, hop)
    at = np.minimum(np.arange(len(white)), len(controls.f0) - 1)
    frequency = np.linspace(0, sample_rate / 2, white.shape[1])
    distance = (frequency - controls.noise_centre[at, None]) / controls.noise_width[at, None]
    bell = np.exp(-0.5 * distance**2) + LIPS_LEVEL
    amplitude = FRICATION_LEVEL * controls.frication[at, None]
    return istft(white * bell * amplitude, size, hop, samples)
