"""Moments of LFCC: what they are blind to, what they hear, and that they are what the docstrings say."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import lfilter
from scipy.stats import kurtosis

from voxfide.errors import UsageError
from voxfide.frontends import create_frontend, restore_frontend
from voxfide.frontends.lfcc_moments import RESOLUTIONS, moments


@pytest.fixture(scope="module")
def frontend():
    return create_frontend("lfcc-moments")


def murmur(seconds: float = 2.0, seed: int = 0) -> np.ndarray:
    """Noise whose level and colour change like syllables."""
    rng = np.random.default_rng(seed)
    n = round(16000 * seconds)
    level = np.exp(np.interp(np.arange(n), np.arange(0, n + 1600, 1600), rng.normal(-4, 1, n // 1600 + 1)))
    colour = np.interp(np.arange(n), np.arange(0, n + 1600, 1600), rng.uniform(0, 0.9, n // 1600 + 1))
    noise = rng.standard_normal(n)
    return (level * (noise + colour * np.roll(noise, 1))).astype(np.float32)


def features(frontend, waveform: np.ndarray) -> np.ndarray:
    return frontend.pooled([torch.from_numpy(np.ascontiguousarray(waveform, np.float32))])[0, 0].numpy()


@given(st.integers(0, 2**32 - 1), st.integers(5, 60))
@settings(max_examples=30, deadline=None)
def test_moments_are_those_of_scipy(seed, n_frames):
    frames = np.random.default_rng(seed).standard_normal((n_frames, 4)) * [1, 10, 0.1, 3]
    found = moments(torch.from_numpy(frames)).numpy()
    assert np.allclose(found[:4], np.log(frames.std(axis=0)), atol=1e-3)
    assert np.allclose(found[4:], np.log(kurtosis(frames, axis=0, fisher=False)), atol=1e-2)


def test_a_gain_changes_nothing(frontend):
    waveform = murmur()
    for gain in (1e-3, 0.1, 3.0):
        assert np.allclose(features(frontend, gain * waveform), features(frontend, waveform), atol=1e-3)


def test_a_linear_filter_changes_little_beside_another_recording(frontend):
    waveform = murmur()
    coloured = lfilter([1, 0.5], [1, -0.3], waveform)
    moved = np.abs(features(frontend, coloured) - features(frontend, waveform)).mean()
    other = np.abs(features(frontend, murmur(seed=1)) - features(frontend, waveform)).mean()
    assert moved < 0.2 * other


def test_what_never_moves_has_the_least_spread(frontend):
    tone = np.sin(2 * np.pi * 1000 / 16000 * np.arange(32000)).astype(np.float32)
    spread = sum(3 * c for *_, c in RESOLUTIONS[:1])
    assert (features(frontend, tone)[:spread] < features(frontend, murmur())[:spread]).all()


def test_silence_and_the_shortest_input_are_finite(frontend):
    assert np.isfinite(features(frontend, np.zeros(16000))).all()
    assert np.isfinite(features(frontend, murmur(0.2)[: frontend.min_samples])).all()


def test_settings_restore_it(frontend):
    other = restore_frontend(frontend.name, frontend.kind, frontend.settings())
    assert np.array_equal(features(other, murmur()), features(frontend, murmur()))
    small = create_frontend("lfcc-moments", resolutions=[[20, 10, 512, 20, 13]])
    assert small.dim == 2 * 3 * 13 == len(features(small, murmur()))


@pytest.mark.parametrize(
    "resolutions", [[], [[20, 10, 512]], [[20, 30, 512, 20, 20]], "std", [[20, 10, 512, 10, 20]]]
)
def test_resolutions_that_cannot_be_are_refused(resolutions):
    with pytest.raises(UsageError):
        create_frontend("lfcc-moments", resolutions=resolutions)
