"""Explanations: bands that add up, excerpts that matter, and numbers that follow from the detector alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import soundfile as sf
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis_factory import make_analysis
from small_corpus import clip
from voxfide.analysis.bands import band_gains, mel, mel_edges, without_bands
from voxfide.analysis.excerpt import choose_excerpt, read_excerpt
from voxfide.analysis.explain import explain
from voxfide.analysis.result import Stretch
from voxfide.audio import load_audio
from voxfide.backends import create_backend
from voxfide.calibration import CalibrationRecord, create_calibration
from voxfide.conditions import Segment
from voxfide.detector import Detector
from voxfide.ensemble import EnsembleDetector
from voxfide.errors import AudioNotFoundError, AudioTooShortError, UsageError
from voxfide.features import pooled_features
from voxfide.frontends import create_frontend
from voxfide.frontends.base import Frontend
from voxfide.fusion import FusedSystem, FusionOptions, FusionRecord

CLIPS = [clip(i, 0.4 + 0.05 * i, i % 2 == 0) for i in range(12)]
IS_BONAFIDE = np.arange(len(CLIPS)) % 2 == 0


class BandEnergies(Frontend):
    """Energy below and above 2 kHz, frame by frame: linear in power, so that bands do not interact."""

    kind = "band-energies"
    name, n_layers, dim, hop_samples, min_samples = "band-energies", 1, 2, 512, 512
    device = torch.device("cpu")

    def n_frames(self, n_samples):
        return n_samples // 512

    def settings(self):
        return {}

    def iter_layers(self, waveforms):
        frames = [w[: len(w) // 512 * 512].reshape(-1, 512) for w in waveforms]
        power = torch.fft.rfft(torch.cat(frames).double() * torch.hann_window(512)).abs().square()
        yield torch.stack([power[:, :64].sum(1), power[:, 64:].sum(1)], 1).float()


class Weighted:
    """Stands for a back-end: the low band speaks for bona fide, the high one for spoofing."""

    name, pools = "weighted", ("mean",)

    def score(self, features):
        return 1e-3 * (np.asarray(features)[:, 0] @ np.array([1.0, -2.0])) + 5


@pytest.fixture
def tones(tmp_path):
    """500 Hz and 5 kHz, with nothing between."""
    time = np.arange(3 * 16000) / 16000
    path = tmp_path / "tones.wav"
    sf.write(
        path, 0.3 * np.sin(2 * np.pi * 500 * time) + 0.2 * np.sin(2 * np.pi * 5000 * time), 16000, "FLOAT"
    )
    return path


def lfcc(pool="mean") -> Detector:
    frontend = create_frontend("lfcc")
    backend = create_backend("logistic", C=1.0).fit(pooled_features(frontend, CLIPS, pool), IS_BONAFIDE)
    return Detector(frontend, backend, pool, threshold=0.3)


def on_frames(kind: str, seed: int) -> Detector:
    frontend = create_frontend("lfcc")
    backend = create_backend(kind, hidden=8)
    torch.manual_seed(seed)
    backend.build(frontend.n_layers, frontend.dim)
    return Detector(frontend, backend, "none")


def ensemble_of(members: list[Detector], weights: list[float], **options) -> EnsembleDetector:
    systems = tuple(
        FusedSystem(f"m{i}", weight, detector=member.fingerprint())
        for i, (weight, member) in enumerate(zip(weights, members, strict=True))
    )
    figures = {"eer_threshold": 0.25, "systems": {}, "fitted": {}, "cross_validated": {}}
    record = FusionRecord(FusionOptions(**options), systems, -0.4, fitted_to={}, figures=figures)
    return EnsembleDetector.of(members, record)


# Bands


@given(st.integers(2, 40))
def test_mel_bands_are_equally_wide_and_cover_everything(n):
    edges = mel_edges(n)
    assert len(edges) == n + 1
    assert (edges[0], edges[-1]) == (0, 8000)
    widths = np.diff(mel(edges))
    # Edges are whole Hz; one mel is at least 0.6 Hz.
    assert np.ptp(widths) < 3.3


@pytest.mark.parametrize(
    "bands", [1, 41, [0], [0, 0], [500, 200], [-1, 100], [0, 9000], [0, float("nan")], []]
)
def test_bands_that_cannot_be_are_refused(bands, tones):
    with pytest.raises(UsageError, match="band"):
        explain(tones, lfcc(), make_analysis(tones, 3.0), bands=bands)


@given(st.lists(st.integers(0, 8000), min_size=2, max_size=12, unique=True))
def test_gains_add_up_to_one_within_the_outer_edges(edges):
    edges = sorted(map(float, edges))
    hz = np.linspace(0, 8000, 3001)
    gains = band_gains(hz, edges)
    assert gains.shape == (len(edges) - 1, len(hz))
    assert gains.min() >= 0
    inside = (hz >= edges[0]) & (hz <= edges[-1])
    assert np.allclose(gains.sum(axis=0), inside, atol=1e-12)


@settings(max_examples=20)
@given(st.integers(100, 20_000), st.integers(2, 12), st.integers(0, 99))
def test_what_is_taken_out_adds_up_to_the_signal(n_samples, n_bands, seed):
    signal = (0.1 * np.random.default_rng(seed).standard_normal(n_samples)).astype(np.float32)
    parts = [0 if w is None else signal - w for w in without_bands(signal, mel_edges(n_bands))]
    assert np.allclose(sum(parts), signal, atol=1e-5)


def test_a_band_is_removed_without_delay_and_without_touching_its_neighbours():
    time = np.arange(16000) / 16000
    low, high = np.sin(2 * np.pi * 500 * time), np.sin(2 * np.pi * 5000 * time)
    without_low, without_high = without_bands((low + high).astype(np.float32), [0, 2000, 8000])
    middle = slice(2000, -2000)
    assert np.abs(without_low - high)[middle].max() < 1e-4
    assert np.abs(without_high - low)[middle].max() < 1e-4


def test_bands_that_hold_less_than_rounding_are_not_touched():
    time = np.arange(16000) / 16000
    assert [w is None for w in without_bands(np.zeros(4000, np.float32), mel_edges(4))] == [True] * 4
    faint = (0.5 * np.sin(2 * np.pi * 500 * time) + 5e-6 * np.sin(2 * np.pi * 6000 * time)).astype(np.float32)
    window = np.hanning(len(faint)).astype(np.float32)
    assert without_bands(faint * window, [0, 2000, 4000, 8000])[2] is None


# Excerpts


def test_the_most_suspicious_stretch_is_the_excerpt(tmp_path):
    analysis = make_analysis(
        tmp_path / "no.wav", 60.0, stretches=(Stretch(5, 9, -1), Stretch(30, 34, -3), Stretch(50, 51, -2))
    )
    assert choose_excerpt(analysis, 8.0) == Segment(30, 34)


@given(st.floats(0, 19.5), st.floats(0.01, 12), st.floats(0.1, 30))
def test_an_excerpt_holds_the_stretch_or_lies_in_it_and_stays_in_the_recording(start, length, seconds):
    end = min(20.0, start + length)
    analysis = make_analysis("no.wav", 20.0, stretches=(Stretch(start, end, -1),))
    found = choose_excerpt(analysis, seconds)
    assert -1e-9 <= found.start < found.end <= 20 + 1e-9
    assert found.end - found.start <= seconds + 1e-9
    assert found.end - found.start >= min(2.0, seconds, 20.0) - 1e-9
    inside = found.start <= start + 1e-9 and end <= found.end + 1e-9
    assert inside or (found.start >= start - 1e-9 and found.end <= end + 1e-9)


@settings(max_examples=50)
@given(st.lists(st.floats(0.05, 3), min_size=2, max_size=24), st.floats(1, 9))
def test_the_richest_part_has_no_less_speech_than_any_other(lengths, seconds):
    bounds = np.cumsum(lengths)
    speech = tuple(Segment(float(a), float(b)) for a, b in zip(bounds[::2], bounds[1::2], strict=False))
    total = float(bounds[-1]) + 1

    def amount(start):
        return sum(max(0.0, min(s.end, start + seconds) - max(s.start, start)) for s in speech)

    analysis = make_analysis("no.wav", total, stretches=(), speech=speech)
    found = choose_excerpt(analysis, seconds)
    if total <= seconds:
        assert found == Segment(0, total)
        return
    assert found.end - found.start == pytest.approx(seconds)
    best = max(amount(start) for start in np.linspace(0, total - seconds, 400))
    assert amount(found.start) >= best - 1e-5


def test_an_excerpt_is_read_from_the_middle_of_a_file(tmp_path):
    path = tmp_path / "long.flac"
    sf.write(path, clip(3, 70.0, True), 22050)
    whole = load_audio(path).waveform
    start, end = 20.25, 27.5
    assert np.array_equal(
        read_excerpt(path, Segment(start, end)), whole[round(16000 * start) : round(16000 * end)]
    )
    with pytest.raises(AudioTooShortError, match="from 90.00 s on"):
        read_excerpt(path, Segment(90, 91))


# Explanations


def test_contributions_of_a_detector_that_adds_up_energies(tones):
    detector = Detector(BandEnergies(), Weighted())
    analysis = make_analysis(tones, 3.0, stretches=())
    why = explain(tones, detector, analysis, bands=[0, 200, 1000, 3000, 8000])
    contributions = [b.contribution for b in why.bands]
    assert [(b.low_hz, b.high_hz) for b in why.bands] == [(0, 200), (200, 1000), (1000, 3000), (3000, 8000)]
    assert contributions[1] > 0.5
    assert contributions[3] < -0.5
    assert contributions[1] + contributions[3] + 5 == pytest.approx(why.baseline, abs=1e-2)
    # What holds next to nothing, the flanks of the switched-on tones, changes next to nothing.
    assert contributions[0] == pytest.approx(0, abs=1e-2)
    assert contributions[2] == pytest.approx(0, abs=1e-2)


def test_what_an_empty_band_adds_is_exactly_nothing(tmp_path):
    path = tmp_path / "narrow.wav"
    n = 3 * 16000
    tone = np.hanning(n) * np.sin(2 * np.pi * 300 * np.arange(n) / 16000)
    sf.write(path, 0.5 * tone, 16000, "FLOAT")
    why = explain(path, lfcc(), make_analysis(path, 3.0, stretches=()), bands=[0, 1000, 4000, 8000])
    assert why.bands[0].contribution != 0
    assert [b.contribution for b in why.bands[1:]] == [0, 0]


def test_the_baseline_is_the_detectors_score_of_the_excerpt_and_nothing_is_random(tmp_path):
    path = tmp_path / "a.wav"
    sf.write(path, clip(1, 12.0, True), 16000)
    detector = lfcc("mean_std")
    analysis = make_analysis(path, 12.0)
    why = explain(path, detector, analysis, excerpt_seconds=2.5)
    assert why.excerpt.end - why.excerpt.start == pytest.approx(2.5)
    assert why.baseline == pytest.approx(detector.score_waveforms([read_excerpt(path, why.excerpt)])[0])
    assert len(why.bands) == 10
    assert (why.layers, why.members, why.agreement) == ((), (), None)
    assert explain(path, detector, analysis, excerpt_seconds=2.5) == why


def test_layer_weights_are_counted_from_one_and_named_by_member(tones):
    ffn, other = on_frames("ffn", 1), lfcc()
    analysis = make_analysis(tones, 3.0)
    alone = explain(tones, ffn, analysis, bands=2).layers
    assert [(w.member, w.layer) for w in alone] == [(None, i + 1) for i in range(len(alone))]
    assert np.allclose([w.weight for w in alone], ffn.backend.layer_weights())
    assert sum(w.weight for w in alone) == pytest.approx(1)
    within = explain(tones, ensemble_of([other, ffn], [1.0, 1.0]), analysis, bands=2).layers
    assert [w.member for w in within] == ["m1"] * len(alone)


@pytest.mark.parametrize("inputs", ["scores", "probabilities"])
def test_members_add_up_to_the_fused_score_and_agree_by_their_own_thresholds(tones, inputs):
    members = [lfcc(), lfcc("mean_std"), on_frames("ffn", 1)]
    ensemble = ensemble_of(members, [0.7, -0.2, 0.5], inputs=inputs)
    analysis = make_analysis(tones, 3.0, stretches=())
    why = explain(tones, ensemble, analysis, bands=2)
    waveform = load_audio(tones).waveform
    assert [m.name for m in why.members] == ["m0", "m1", "m2"]
    own = [float(member.score_waveforms([waveform])[0]) for member in members]
    assert [m.score for m in why.members] == pytest.approx(own, abs=1e-4)
    total = ensemble.fusion.fusion.intercept + sum(m.contribution for m in why.members)
    assert total == pytest.approx(why.baseline, abs=1e-4)
    agree = np.mean([(s >= m.threshold) == (why.baseline >= 0.25) for s, m in zip(own, members, strict=True)])
    assert why.agreement == pytest.approx(agree)

    # A calibration on top moves the score, not what members add before it.
    calibration = create_calibration("affine").fit(
        np.array([-1.0, 0.5, 0.0, 2.0]), np.array([0, 0, 1, 1], bool)
    )
    moved = explain(tones, ensemble.calibrated(CalibrationRecord(calibration)), analysis, bands=2)
    assert moved.baseline != pytest.approx(why.baseline)
    assert [m.contribution for m in moved.members] == pytest.approx([m.contribution for m in why.members])


def test_where_nothing_was_scored_only_layers_are_left(tones):
    analysis = replace(make_analysis(tones, 3.0), score=None, windows=(), stretches=())
    why = explain("there is no such file", on_frames("ffn", 1), analysis)
    assert (why.bands, why.excerpt, why.baseline) == ((), None, None)
    assert why.layers


def test_errors_name_the_file_and_the_argument(tones, tmp_path):
    with pytest.raises(AudioNotFoundError, match="gone"):
        explain(tmp_path / "gone.wav", lfcc(), make_analysis(tones, 3.0))
    with pytest.raises(UsageError, match="above 0"):
        explain(tones, lfcc(), make_analysis(tones, 3.0), excerpt_seconds=0)
