"""Stretches refined by the scores of frames: runs, ends, and detectors that have none."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import soundfile as sf
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from voices import RATE, dulled, small_detector, voice
from voxfide.analysis.batch import analyse_many
from voxfide.analysis.frame_refinement import (
    _in_context,
    frame_timeline,
    judges_frames,
    maximal_runs,
    refine_by_frames,
)
from voxfide.analysis.recording import analyse
from voxfide.analysis.result import Stretch
from voxfide.analysis.settings import AnalysisSettings
from voxfide.backends import create_backend
from voxfide.detector import Detector
from voxfide.errors import AudioTooShortError, UsageError
from voxfide.frontends import create_frontend


def save(path, signal):
    sf.write(path, signal, RATE, subtype="FLOAT")
    return path


@pytest.fixture(scope="module")
def detector() -> Detector:
    """LFCC and back-end ``frames``, taught to tell voices from voices without their upper band."""
    frontend, backend = create_frontend("lfcc"), create_backend("frames", hidden=16)
    clean = [voice(6.0, seed)[i : i + RATE] for seed in range(3) for i in range(0, 5 * RATE, RATE)]
    states = frontend.hidden_states([torch.from_numpy(x) for x in [*clean, *map(dulled, clean)]])
    features = torch.stack(states).clone()
    labels = (torch.arange(len(states)) < len(clean)).long()
    lengths = torch.full((len(states),), features.shape[2])
    with torch.random.fork_rng():
        torch.manual_seed(0)
        backend.build(1, frontend.dim)
    optimiser = torch.optim.Adam(backend.head.parameters(), 1e-2)
    for _ in range(25):
        pooled, frames = backend.head(features, lengths, with_frames=True)
        of_frames = torch.nn.functional.cross_entropy(
            frames.flatten(0, 1), labels.repeat_interleave(frames.shape[1])
        )
        (torch.nn.functional.cross_entropy(pooled, labels) + of_frames).backward()
        optimiser.step()
        optimiser.zero_grad()
    backend.head.eval()
    backend.frame_threshold = 0.0
    return Detector(frontend, backend, "none")


def blind(detector: Detector) -> Detector:
    """The same, as if its frames had never been trained."""
    backend = create_backend("frames", hidden=16)
    backend.build(1, detector.frontend.dim)
    backend.head.load_state_dict(detector.backend.head.state_dict())
    backend.head.eval()
    return replace(detector, backend=backend)


# --- runs


def reference(gains: list[float]) -> list[tuple[int, int]]:
    """By the definition: the best run, then those on either side of it."""
    best = max(
        ((sum(gains[i:j]), i - j, i, j) for i in range(len(gains)) for j in range(i + 1, len(gains) + 1)),
        default=(0.0, 0, 0, 0),
    )
    total, _, i, j = best
    if total <= 0:
        return []
    return [*reference(gains[:i]), (i, j), *((a + j, b + j) for a, b in reference(gains[j:]))]


@settings(max_examples=200)
@given(st.integers(0, 2**32 - 1), st.integers(0, 24), st.floats(-1, 1))
def test_maximal_runs_are_those_of_the_definition(seed, n, shift):
    gains = (np.random.default_rng(seed).standard_normal(n) + shift).tolist()
    assert maximal_runs(gains) == reference(gains)


def test_runs_of_many_frames_take_linear_time():
    """Every run is shadowed by the next: looking back over all of them would take minutes."""
    gains = np.resize([1.0, -1.5], 200_000).tolist()
    assert len(maximal_runs(gains)) == 100_000


@given(st.lists(st.integers(1, 9), max_size=6), st.integers(1, 5))
def test_chunks_come_with_what_is_beside_them(sizes, context):
    size = max(sizes, default=1) + context
    whole = np.arange(size * len(sizes), dtype=np.float32)
    found = list(_in_context((whole[i : i + size] for i in range(0, len(whole), size)), context))
    assert [first for first, _, _, _ in found] == list(range(0, len(whole), size))
    for first, n_before, n, piece in found:
        low = first - n_before
        assert n_before == min(first, context)
        np.testing.assert_array_equal(piece, whole[low : first + n + context])


# --- timelines


def test_the_timeline_says_which_frames_are_spoofed(detector):
    signal = voice(6, 0)
    signal[2 * RATE : 4 * RATE] = dulled(signal)[2 * RATE : 4 * RATE]
    times, scores = frame_timeline(detector, signal)
    assert len(times) == len(scores) == detector.frontend.total_frames(len(signal))
    np.testing.assert_allclose(times, np.arange(len(times)) * 0.01, atol=1e-9)
    inside = (times >= 2.1) & (times < 3.9)
    outside = (times < 1.9) | (times >= 4.1)
    assert (scores[inside] < 0).mean() > 0.9
    assert (scores[outside] > 0).mean() > 0.9


def test_detectors_that_do_not_judge_frames(detector):
    assert judges_frames(detector)
    assert not judges_frames(blind(detector))
    assert not judges_frames(small_detector())
    with pytest.raises(UsageError, match="back-end logistic does not judge frames"):
        frame_timeline(small_detector(), voice(1, 0))
    with pytest.raises(AudioTooShortError):
        frame_timeline(detector, voice(1, 0)[:100])


# --- stretches


@pytest.mark.parametrize(("start", "end"), [(10.0, 16.0), (3.37, 5.11), (14.2, 22.0)])
def test_frames_find_the_ends_of_a_spoofed_stretch(detector, tmp_path, start, end):
    signal = voice(22, 0)
    first, beyond = round(start * RATE), round(end * RATE)
    signal[first:beyond] = dulled(signal)[first:beyond]
    path = save(tmp_path / "spliced.wav", signal)
    (coarse,) = analyse(path, blind(detector)).stretches
    found = analyse(path, detector)
    (stretch,) = found.stretches
    assert abs(stretch.start - start) < 0.15
    assert abs(stretch.end - end) < 0.15
    assert stretch.score == coarse.score
    print(
        f"\n{start} … {end} s: windows {coarse.start:.2f} … {coarse.end:.2f}, "
        f"frames {stretch.start:.2f} … {stretch.end:.2f}"
    )
    off = abs(coarse.start - start) + abs(coarse.end - end)
    assert abs(stretch.start - start) + abs(stretch.end - end) <= off
    if end == 22:
        assert stretch.end == 22
    paths = [path, save(tmp_path / "s.wav", signal[: 5 * RATE])]
    for name, together in analyse_many(paths, detector):
        assert [s[:2] for s in together.stretches] == [s[:2] for s in analyse(name, detector).stretches]


def test_two_stretches_that_windows_take_for_one(detector, tmp_path):
    signal = voice(16, 1)
    low = dulled(signal)
    for first, beyond in ((4, 6), (8, 10)):
        signal[first * RATE : beyond * RATE] = low[first * RATE : beyond * RATE]
    path = save(tmp_path / "two.wav", signal)
    found = refine_by_frames(path, detector, [Stretch(3.0, 11.0, -2.0)], 4.0, 1.0)
    assert [s.score for s in found] == [-2.0, -2.0]
    np.testing.assert_allclose([s[:2] for s in found], [(4, 6), (8, 10)], atol=0.15)
    (one,) = refine_by_frames(path, detector, [Stretch(3.0, 11.0, -2.0)], 4.0, 3.0)
    np.testing.assert_allclose(one[:2], (4, 10), atol=0.15)


def test_what_frames_do_not_find_stays_as_it_was(detector, tmp_path):
    path = save(tmp_path / "clean.wav", voice(12, 2))
    coarse = [Stretch(2.0, 6.0, -1.0)]
    assert refine_by_frames(path, detector, coarse, 0.0, 1.0) == coarse
    assert analyse(path, detector).stretches == ()


def test_short_windows_are_used_where_they_are_asked_for(detector, tmp_path):
    signal = voice(14, 0)
    signal[5 * RATE : 9 * RATE] = dulled(signal)[5 * RATE : 9 * RATE]
    path = save(tmp_path / "s.wav", signal)
    asked = AnalysisSettings(fine_window=1.0, fine_hop=0.5)
    assert analyse(path, detector, asked).stretches == analyse(path, blind(detector), asked).stretches
