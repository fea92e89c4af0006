"""Every route keeps the contract, and does to the signal what its name says."""

from __future__ import annotations

import csv

import numpy as np
import pytest
import soundfile as sf
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.signal import correlate, lfilter, resample_poly, welch

from conftest import CORPUS, needs_shared
from voxfide.corpora.selftest.speaker import Speaker, generator
from voxfide.corpora.selftest.synthesis import synthesise_utterance
from voxfide.errors import EmptyAudioError, NonFiniteAudioError, UnknownNameError, UsageError
from voxfide.resynthesis import ROUTES
from voxfide.resynthesis.coding import inverse_mdct, mdct
from voxfide.resynthesis.contract import PIECE, rms
from voxfide.resynthesis.frames import frame, hann, istft, overlap_add, stft
from voxfide.resynthesis.linear_prediction import autocorrelation, levinson
from voxfide.resynthesis.pitch import track_pitch
from voxfide.resynthesis.sinusoidal import pick_peaks
from voxfide.resynthesis.spectral import invert_mel, mel_matrix

RATE = 16_000
NAMES = ROUTES.names()
Signal = NDArray[np.floating]


@pytest.fixture(scope="module")
def speech() -> Signal:
    return synthesise_utterance(Speaker.draw("test", generator(1, "test")), generator(1, "says"), 1.6)


def run(name: str, signal: Signal, rate: int = RATE, seed: int = 0) -> Signal:
    return ROUTES[name].load()(signal, rate, np.random.default_rng(seed))


def assert_contract(output: Signal, source: Signal) -> None:
    assert output.shape == source.shape
    assert output.dtype == np.float32
    assert np.isfinite(output).all()
    assert np.abs(output).max(initial=0.0) <= 1.0


def lag_ms(source: Signal, output: Signal, rate: int) -> float:
    """Delay of the output's 20 ms envelope, searched up to ±50 ms."""
    kernel = np.hanning(rate // 50)
    a, b = (np.convolve(np.abs(s), kernel, "same") for s in (source, output))
    reach = rate // 20
    correlation = correlate(b - b.mean(), a - a.mean())[len(a) - 1 - reach : len(a) + reach]
    return 1000 * (int(np.argmax(correlation)) - reach) / rate


def test_registry_tells_what_each_route_is() -> None:
    assert len(ROUTES) >= 8
    for spec in ROUTES:
        assert spec.summary
        assert any(character.isdigit() for character in spec.reference), "a reference has a year"
    with pytest.raises(UnknownNameError, match="griffin_lim_mel"):
        ROUTES["grifin_lim_mel"]


@pytest.mark.parametrize("name", NAMES)
def test_length_level_alignment(name: str, speech: Signal) -> None:
    output = run(name, speech)
    assert_contract(output, speech)
    assert abs(20 * np.log10(rms(output) / rms(speech - speech.mean()))) < 0.1
    assert abs(lag_ms(speech, output, RATE)) <= 8.0
    # It is a copy of this utterance, and it is not the utterance itself.
    kernel = np.hanning(800)
    a, b = (np.convolve(np.abs(s), kernel, "same") for s in (speech, output))
    assert np.corrcoef(a, b)[0, 1] > 0.8
    assert rms(output - speech) > 0.01 * rms(speech)


@pytest.mark.parametrize("name", NAMES)
def test_deterministic_by_generator(name: str, speech: Signal) -> None:
    clip = speech[:12_000]
    assert np.array_equal(run(name, clip, seed=3), run(name, clip, seed=3))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("samples", [1, 2, 333, 1600, 4801])
def test_short_and_odd_lengths(name: str, samples: int, speech: Signal) -> None:
    clip = speech[8_000 : 8_000 + samples]
    assert_contract(run(name, clip), clip)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("rate", [8_000, 11_025, 22_050, 44_100, 48_000])
def test_other_sample_rates(name: str, rate: int, speech: Signal) -> None:
    divisor = np.gcd(rate, RATE)
    clip = resample_poly(speech[:16_000].astype(np.float64), rate // divisor, RATE // divisor)
    output = run(name, clip, rate)
    assert_contract(output, clip)
    assert abs(20 * np.log10(rms(output) / rms(clip - clip.mean()))) < 0.5
    assert abs(lag_ms(clip, output, rate)) <= 8.0


@pytest.mark.parametrize("name", NAMES)
def test_silence_constant_and_clipped_input(name: str, speech: Signal) -> None:
    silence = np.zeros(4000, dtype=np.float32)
    assert not run(name, silence).any()
    assert not run(name, np.full(4000, 0.25, dtype=np.float32)).any()
    clipped = np.clip(40 * speech[:8000], -1.0, 1.0)
    assert np.mean(np.abs(clipped) == 1.0) > 0.2
    assert_contract(run(name, clipped), clipped)
    impulse = silence.copy()
    impulse[2000] = 1.0
    assert_contract(run(name, impulse), impulse)


@pytest.mark.parametrize("name", NAMES)
def test_pauses_stay_quiet(name: str, speech: Signal) -> None:
    """A pause must not be told from the output by a floor that the route itself adds."""
    gap = np.zeros(8000, dtype=np.float32)
    joined = np.concatenate([speech[:12_000], gap, speech[12_000:]])
    inside = run(name, joined)[12_000 + 1600 : 20_000 - 1600]
    assert rms(inside) < 10 ** (-40 / 20) * rms(joined)


@pytest.mark.parametrize("name", ["lpc_pulse", "psola"])
def test_long_input_is_worked_on_in_pieces(name: str, speech: Signal) -> None:
    repeats = int(np.ceil(2.2 * PIECE * RATE / len(speech)))
    long = np.tile(speech, repeats)[: int(2.2 * PIECE * RATE)]
    output = run(name, long)
    assert_contract(output, long)
    seam = len(long) // 2
    assert rms(output[seam - 800 : seam + 800]) < 3 * rms(long[seam - 4000 : seam + 4000])
    assert abs(lag_ms(long, output, RATE)) <= 8.0


@settings(max_examples=30)
@given(
    name=st.sampled_from(NAMES),
    samples=st.integers(1, 3000),
    rate=st.sampled_from([8000, 16_000, 24_000]),
    gain_db=st.floats(-100, 20),
    kind=st.sampled_from(["noise", "tone", "steps"]),
    seed=st.integers(0, 2**32 - 1),
)
def test_contract_holds_for_anything(
    name: str, samples: int, rate: int, gain_db: float, kind: str, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    signal = {
        "noise": lambda: rng.standard_normal(samples),
        "tone": lambda: np.sin(2 * np.pi * rng.uniform(0, 0.5) * np.arange(samples)),
        "steps": lambda: np.repeat(rng.choice([-1.0, 0.0, 1.0], samples), 1 + samples // 7)[:samples],
    }[kind]() * 10 ** (gain_db / 20)
    assert_contract(run(name, signal, rate), signal)


@pytest.mark.parametrize(
    ("signal", "rate", "error"),
    [
        (np.zeros(0), RATE, EmptyAudioError),
        (np.array([0.1, np.nan, 0.1]), RATE, NonFiniteAudioError),
        (np.array([0.1, np.inf, 0.1]), RATE, NonFiniteAudioError),
        (np.zeros((2, 100)), RATE, UsageError),
        (np.ones(100), 4000, UsageError),
    ],
)
def test_bad_input_is_named(signal: Signal, rate: int, error: type[Exception]) -> None:
    with pytest.raises(error):
        run("adpcm", signal, rate)


# What the names promise


def harmonicity(signal: Signal) -> float:
    track = track_pitch(signal, RATE, 80)
    return float(np.mean(track.voiced))


def test_noise_vocoder_takes_the_voice_away(speech: Signal) -> None:
    assert harmonicity(speech) > 0.35
    assert harmonicity(run("noise_vocoder", speech)) < 0.1


@pytest.mark.parametrize("name", ["lpc_pulse", "cepstral_vocoder", "griffin_lim_mel", "sinusoidal"])
def test_vocoders_keep_the_pitch(name: str, speech: Signal) -> None:
    before, after = (track_pitch(s, RATE, 80) for s in (speech, run(name, speech)))
    both = before.voiced & after.voiced
    assert both.sum() > 0.7 * before.voiced.sum()
    assert np.median(np.abs(12 * np.log2(after.f0[both] / before.f0[both]))) < 0.3


def test_psola_moves_the_pitch_and_keeps_the_time(speech: Signal) -> None:
    before = track_pitch(speech, RATE, 80)
    shifts = []
    for seed in range(4):
        after = track_pitch(run("psola", speech, seed=seed), RATE, 80)
        both = before.voiced & after.voiced
        found = np.median(12 * np.log2(after.f0[both] / before.f0[both]))
        asked = np.random.default_rng(seed).uniform(-2.0, 2.0)
        assert found == pytest.approx(asked, abs=0.5)
        shifts.append(found)
    assert np.ptp(shifts) > 1.0


def test_band_expand_keeps_the_lower_half_only(speech: Signal) -> None:
    output = run("band_expand", speech)
    source, made = (np.fft.rfft(s.astype(np.float64)) for s in (speech - speech.mean(), output))
    frequency = np.fft.rfftfreq(len(speech), 1 / RATE)

    def likeness(low: float, high: float) -> float:
        band = (frequency > low) & (frequency < high)
        return float(
            abs(np.vdot(source[band], made[band])) / np.linalg.norm(source[band]) / np.linalg.norm(made[band])
        )

    assert likeness(100, 3600) > 0.99
    assert likeness(4400, 8000) < 0.3
    level = [welch(s, RATE, nperseg=512)[1][150:230].sum() for s in (speech, output)]
    assert level[1] == pytest.approx(level[0], rel=0.5)


def test_phase_randomised_keeps_spectra_and_loses_the_waveform(speech: Signal) -> None:
    output = run("phase_randomised", speech)
    assert abs(np.corrcoef(output, speech)[0, 1]) < 0.3
    before, after = (10 * np.log10(welch(s, RATE, nperseg=512)[1]) for s in (speech, output))
    assert np.abs(before - after)[4:200].mean() < 2.0


# The shared parts against independent calculations


def test_stft_round_trip_and_frame_places() -> None:
    signal = np.random.default_rng(0).standard_normal(5003)
    assert np.allclose(istft(stft(signal, 256, 64), 256, 64, 5003), signal, atol=1e-5)
    frames = frame(np.arange(1000.0), 10, 5)
    assert frames[7, 5] == 35.0
    ones = overlap_add(np.broadcast_to(hann(10), (201, 10)), 5, 1000)
    assert np.allclose(ones, 1.0, atol=1e-6)


def test_levinson_solves_the_normal_equations() -> None:
    rng = np.random.default_rng(1)
    r = autocorrelation(rng.standard_normal((4, 200)), 6)
    a, error = levinson(r)
    for i in range(4):
        toeplitz = np.array([[r[i, abs(j - k)] for j in range(6)] for k in range(6)])
        expected = np.linalg.solve(toeplitz, -r[i, 1:])
        assert np.allclose(a[i], [1.0, *expected])
        assert error[i] == pytest.approx(r[i, 0] + r[i, 1:] @ expected)
    assert np.array_equal(levinson(np.zeros((1, 4)))[0], [[1, 0, 0, 0]])


def test_levinson_finds_a_known_filter() -> None:
    known = np.array([1.0, -1.3, 0.8])
    noise = np.random.default_rng(2).standard_normal((1, 100_000))
    a, _ = levinson(autocorrelation(lfilter([1.0], known, noise), 2))
    assert np.allclose(a[0], known, atol=0.02)


def test_mdct_is_orthogonal_and_inverts() -> None:
    signal = np.random.default_rng(3).standard_normal(1000)
    coefficients = mdct(signal, 40)
    assert np.sum(coefficients**2) == pytest.approx(np.sum(signal**2))
    assert np.allclose(inverse_mdct(coefficients, 40)[:1000], signal)


def test_mel_inverse_is_the_pseudo_inverse() -> None:
    filters = mel_matrix(40, 1024, RATE)
    assert np.allclose(filters.sum(axis=1), 1.0)
    smooth = 1 + np.cos(np.linspace(0, 9, 513))[None] ** 2
    mel = (filters @ smooth.T).T
    expected = np.maximum(0, mel @ np.linalg.pinv(filters.toarray()).T)
    assert np.allclose(invert_mel(mel, filters), expected, atol=0.02)


@pytest.mark.parametrize("f0", [80.0, 123.0, 240.0, 390.0])
def test_pitch_of_a_pulse_train(f0: float) -> None:
    time = np.arange(RATE) / RATE
    tone = sum(np.cos(2 * np.pi * f0 * k * time) / k for k in range(1, 8))
    track = track_pitch(tone, RATE, 160)
    inner = slice(5, -5)
    assert track.voiced[inner].all()
    assert np.allclose(track.f0[inner], f0, rtol=0.005)
    assert track.strength[inner].min() > 0.95


def test_pitch_calls_noise_unvoiced() -> None:
    noise = np.random.default_rng(4).standard_normal(RATE)
    assert track_pitch(noise, RATE, 160).voiced.mean() < 0.1


def test_peaks_of_known_sinusoids() -> None:
    size = 448
    time = np.arange(size) - size // 2
    signal = 0.5 * np.cos(0.3 * time + 1.0) + 0.2 * np.cos(1.1 * time - 2.0)
    amplitude, omega, phase = pick_peaks(signal[None].astype(np.float32), count=4)
    strongest = np.argsort(-amplitude[0])[:2]
    assert np.allclose(omega[0][strongest], [0.3, 1.1], atol=1e-3)
    assert np.allclose(amplitude[0][strongest], [0.5, 0.2], rtol=0.02)
    assert np.allclose(np.angle(np.exp(1j * (phase[0][strongest] - [1.0, -2.0]))), 0.0, atol=0.05)


@needs_shared("corpus/manifest.csv")
@pytest.mark.parametrize("name", NAMES)
def test_real_speech(name: str) -> None:
    with (CORPUS / "manifest.csv").open(newline="") as file:
        rows = [r for r in csv.DictReader(file) if r["label"] == "bonafide"][::90]
    lags = []
    for row in rows:
        signal, rate = sf.read(CORPUS / row["path"], dtype="float32")
        output = run(name, signal, rate)
        assert_contract(output, signal)
        lags.append(lag_ms(signal, output, rate))
    assert np.median(np.abs(lags)) <= 4.0
