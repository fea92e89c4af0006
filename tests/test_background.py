"""Sound between the words: its level and steadiness, music told from noise, streams against wholes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voices import RATE, voice
from voxfide.conditions import Background, ConditionMeter, Conditions, Segment, reasons


def tones(seconds: float) -> np.ndarray:
    """A chord of harmonics that changes every second."""
    time = np.arange(round(seconds * RATE)) / RATE
    root = 110 * 2 ** ((np.floor(time) * 5 % 12) / 12)
    return sum(np.sin(2 * np.pi * k * step * root * time) / k for step in (1, 1.26, 1.5) for k in range(1, 6))


def noise(seconds: float, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(round(seconds * RATE))


def scaled(signal: np.ndarray, db: float) -> np.ndarray:
    return (signal * 10 ** (db / 20) / np.sqrt(np.mean(signal**2))).astype(np.float32)


def told(signal: np.ndarray, segments: list[Segment], cuts=()) -> Background:
    part = Background()
    for piece in np.split(signal.astype(np.float32), cuts):
        part.push(piece)
    part.settle(segments, [], np.inf)
    return part.finish()


def test_noise_is_not_steady_and_tones_are():
    assert told(scaled(noise(5), -30), []).steadiness < 0.05
    assert told(scaled(tones(5), -30), []).steadiness > 0.6
    for db in (-60, -30, -10):
        assert told(scaled(tones(3), db), []).level_db == pytest.approx(db, abs=0.5)
        assert told(scaled(noise(3), db), []).level_db == pytest.approx(db, abs=0.5)


def test_only_what_is_outside_speech_counts():
    loud, soft = scaled(tones(4), -5), scaled(noise(4), -40)
    found = told(np.concatenate([soft, loud, soft]), [Segment(3.9, 8.1)])
    assert found.level_db == pytest.approx(-40, abs=0.5)
    assert found.steadiness < 0.1
    assert told(loud, [Segment(0, 4)]).level_db is None
    assert told(np.zeros(RATE), []).level_db is None


@settings(max_examples=25)
@given(
    st.lists(st.integers(0, 3 * RATE), max_size=6).map(sorted),
    st.lists(st.floats(0, 3), max_size=6, unique=True).map(sorted),
    st.lists(st.floats(0, 3), max_size=4).map(sorted),
)
def test_neither_chunks_nor_the_time_of_settling_matter(cuts, edges, times):
    signal = scaled(tones(3), -20) + scaled(noise(3), -30)
    segments = [Segment(a, b) for a, b in zip(edges[::2], edges[1::2], strict=False)]
    whole = told(signal, segments)
    part, heard = Background(), 0
    for piece in np.split(signal.astype(np.float32), cuts):
        part.push(piece)
        heard += len(piece)
        for time in times:
            until = min(time, heard / RATE)
            part.settle(
                [s for s in segments if s.end <= until], [s for s in segments if s.end > until], until
            )
    part.settle(segments, [], np.inf)
    found = part.finish()
    assert (found.level_db is None) == (whole.level_db is None)
    if whole.level_db is not None:
        assert found.level_db == pytest.approx(whole.level_db, abs=1e-6)
        assert found.steadiness == pytest.approx(whole.steadiness, abs=1e-6)


def measured(background: np.ndarray) -> Conditions:
    """Two pieces of speech with pauses, over a background."""
    quiet = np.zeros(round(1.5 * RATE), np.float32)
    signal = np.concatenate([quiet, voice(3, 0), quiet, voice(3, 1), quiet])
    meter = ConditionMeter()
    meter.push(signal + background[: len(signal)])
    return meter.finish()


def codes(conditions: Conditions) -> set[str]:
    return {reason.code for reason in reasons(conditions)}


def test_music_under_speech_is_told_and_noise_is_not_called_music():
    music = measured(scaled(tones(12), -36))  # the voices are at -26
    assert music.background_db == pytest.approx(-10, abs=3)
    assert music.music_db == music.background_db
    assert "background" in codes(music)
    hiss = measured(scaled(noise(12), -36))
    assert hiss.background_db == pytest.approx(-10, abs=3)
    assert hiss.music_db is None
    assert "background" not in codes(hiss)
    assert "background" not in codes(measured(scaled(tones(12), -60)))


def test_the_limit_is_the_policys():
    good = Conditions(seconds=60.0, speech_seconds=45.0, speech_share=0.75)
    assert codes(good) == set()
    assert codes(replace(good, music_db=-19.9)) == {"background"}
    assert codes(replace(good, music_db=-20.0)) == set()
