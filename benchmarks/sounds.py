"""Sounds that benchmarks make for themselves: music of the simplest kind."""

from __future__ import annotations

import numpy as np

from voxfide.types import SAMPLE_RATE, Float32Array


def plucked(seconds: float, seed: int) -> Float32Array:
    """Chords of decaying harmonics, two a second."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    found = np.zeros(len(time))
    for onset in np.arange(0, seconds, 0.5):
        root = 110 * 2 ** (rng.integers(0, 24) / 12)
        after = np.maximum(time - onset, 0)
        for step in (0, 4, 7):
            pitch = root * 2 ** (step / 12)
            for k in range(1, 7):
                tone = np.exp(-3 * k * after) * np.sin(2 * np.pi * k * pitch * after) / k
                found += np.where(time >= onset, tone, 0)
    return (0.2 * found / np.abs(found).max()).astype(np.float32)


def pad(seconds: float, seed: int) -> Float32Array:
    """A chord of harmonics that swells and is held, a new one every two seconds."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    found = np.zeros(len(time))
    for onset in np.arange(0, seconds, 2.0):
        root = 110 * 2 ** (rng.integers(0, 12) / 12)
        inside = np.clip(np.minimum(time - onset, onset + 2.2 - time) / 0.2, 0, 1)
        for step in (0, 3, 7, 12):
            for k in range(1, 9):
                phase = rng.uniform(0, 2 * np.pi)
                found += inside * np.sin(2 * np.pi * k * root * 2 ** (step / 12) * time + phase) / k**1.5
    return (0.2 * found / np.abs(found).max()).astype(np.float32)
