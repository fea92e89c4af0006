"""Codecs: length and alignment are kept, quality is what the format gives, G.711 is G.711."""

from __future__ import annotations

import io
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import correlate

from conftest import CORPUS, needs_shared
from voxfide.audio import load_audio, resample
from voxfide.augment import AUGMENTATIONS, parse
from voxfide.augment.coders import FORMATS

RATE = 16_000
TOLERANCE_MS = 0.5
EVERY = [(name, kbps) for name, coder in FORMATS.items() for kbps in sorted({coder.rates[0], coder.default})]


@cache
def speech(seconds: float = 4.0) -> np.ndarray:
    """Vowels of many gliding pitches, rising and dying away: only the true lag fits all of them.

    Harmonics of falling height are what coders of telephone speech are made for; the noisier signals
    of the self-test corpus come out of AMR too unlike themselves to be aligned.
    """
    rng = np.random.default_rng(0)
    vowels = []
    for _ in range(max(1, round(seconds / 0.2))):
        time = np.arange(int(0.2 * RATE)) / RATE
        phase = 2 * np.pi * np.cumsum(np.linspace(*rng.uniform(90, 260, 2), len(time))) / RATE
        heights = [(k, rng.uniform(0.3, 1) / k**0.7, rng.uniform(0, 2 * np.pi)) for k in range(1, 14)]
        vowel = sum(height * np.sin(k * phase + shift) for k, height, shift in heights)
        vowels.append(vowel * np.hanning(len(time)))
    signal = np.concatenate(vowels) + 0.005 * rng.standard_normal(sum(map(len, vowels)))
    made = (0.3 * signal / np.abs(signal).max()).astype(np.float32)
    made.setflags(write=False)
    return made


def lag_ms(made: np.ndarray, original: np.ndarray, rate: int = RATE) -> float:
    likeness = correlate(made.astype(np.float64), original.astype(np.float64), method="fft")
    return 1000 * (int(np.argmax(likeness)) - (len(original) - 1)) / rate


def coded(name: str, kbps: float, waveform: np.ndarray, rate: int = RATE) -> np.ndarray:
    return parse({"name": "codec", "format": name, "kbps": kbps})(waveform, rate, np.random.default_rng(0))


@pytest.mark.parametrize(("name", "kbps"), EVERY)
def test_length_and_alignment_are_kept(name: str, kbps: float):
    for original in (speech(), speech()[:33_333]):
        made = coded(name, kbps, original)
        assert len(made) == len(original)
        assert made.dtype == np.float32
        assert abs(lag_ms(made, original)) <= TOLERANCE_MS
        assert not np.array_equal(made, original)


@pytest.mark.parametrize("rate", [8000, 22_050, 44_100, 48_000])
@pytest.mark.parametrize("name", list(FORMATS))
def test_other_sample_rates_keep_length_and_alignment(name: str, rate: int):
    original = resample(speech(), RATE, rate)
    made = coded(name, FORMATS[name].default, original, rate)
    assert len(made) == len(original)
    assert abs(lag_ms(made, original, rate)) <= TOLERANCE_MS


@pytest.mark.parametrize("name", list(FORMATS))
@given(n=st.integers(1, 2000), kind=st.sampled_from(["noise", "silence", "dc", "loud", "faint"]))
@settings(max_examples=8)
def test_any_signal_comes_back_finite_and_as_long(name: str, n: int, kind: str):
    rng = np.random.default_rng(n)
    signals = {
        "noise": 0.3 * rng.standard_normal(n), "silence": np.zeros(n), "dc": np.full(n, 0.5),
        "loud": 40 * rng.standard_normal(n), "faint": 1e-20 * rng.standard_normal(n),
    }  # fmt: skip
    made = coded(name, FORMATS[name].default, signals[kind].astype(np.float32))
    assert len(made) == n
    assert made.dtype == np.float32
    assert np.isfinite(made).all()
    if kind == "silence":
        assert np.abs(made).max() < 0.005, "an A-law decoder has no zero; no coder is louder than that"


@pytest.mark.parametrize("name", list(FORMATS))
def test_coding_is_deterministic(name: str):
    once, again = (coded(name, FORMATS[name].default, speech()) for _ in range(2))
    assert np.array_equal(once, again)


@pytest.mark.parametrize("name", ["mp3", "aac", "opus", "vorbis", "g726", "amr-nb"])
def test_more_bits_come_closer(name: str):
    original = speech()
    band = resample(resample(original, RATE, 8000), 8000, RATE)[: len(original)]

    def error(kbps: float) -> float:
        made = coded(name, kbps, original)
        if FORMATS[name].takes == (8000,):
            return float(np.mean((made - band) ** 2))
        return float(np.mean((made - original) ** 2))

    assert error(FORMATS[name].rates[-1]) < error(FORMATS[name].rates[0])


@pytest.mark.parametrize(("name", "subtype"), [("mu-law", "ULAW"), ("a-law", "ALAW")])
def test_g711_equals_libsndfile_on_every_16_bit_value(name: str, subtype: str):
    values = np.arange(-32768, 32768).astype(np.int16)
    file = io.BytesIO()
    sf.write(file, values, 8000, format="WAV", subtype=subtype)
    file.seek(0)
    reference, _ = sf.read(file, dtype="float32")
    ours, _ = FORMATS[name].run(values.astype(np.float32) / 32768, 8000, 64.0)
    assert np.array_equal(ours, reference)


def test_telephone_formats_leave_nothing_above_4_khz():
    noise = 0.1 * np.random.default_rng(0).standard_normal(RATE)
    for name, coder in FORMATS.items():
        if coder.takes == (8000,):
            spectrum = np.abs(np.fft.rfft(coded(name, coder.default, noise))) ** 2
            hertz = np.fft.rfftfreq(RATE, 1 / RATE)
            assert spectrum[hertz > 4400].sum() < 1e-5 * spectrum.sum()


def test_drawn_rates_are_those_of_the_format():
    rng = np.random.default_rng(0)
    drawn = {parse("codec:format=amr-nb,kbps=4.75..12.2").draw(rng)["kbps"] for _ in range(300)}
    assert drawn == set(FORMATS["amr-nb"].rates)
    assert parse("codec:format=mp3").draw(rng) == {"format": "mp3", "kbps": 32.0}


@pytest.mark.parametrize("name", [s.name for s in AUGMENTATIONS if "codec" in s.preset])
def test_combinations_of_codecs_keep_length_and_alignment(name: str):
    augmentation, original, said = parse(name), speech(), set()
    for seed in range(12):
        rng = np.random.default_rng(seed)
        drawn = augmentation.draw(rng)
        said.add(augmentation.applied(drawn))
        made = augmentation.apply(original, RATE, drawn)
        assert len(made) == len(original)
        assert abs(lag_ms(made, original)) <= TOLERANCE_MS
    assert len(said) > 2


@needs_shared("corpus")
def test_real_speech_stays_in_place():
    """The measured lags of every format on recordings of people."""
    files = sorted((CORPUS / "bonafide_dev").glob("*.flac"))[:6]
    worst = {}
    for name, kbps in EVERY:
        lags = []
        for file in map(Path, files):
            waveform = load_audio(file).waveform
            lags.append(lag_ms(coded(name, kbps, waveform), waveform))
        worst[f"{name} {kbps:g}"] = max(map(abs, lags))
    print(f"{len(files)} recordings, largest lag in ms: {worst}")
    assert max(worst.values()) <= TOLERANCE_MS
