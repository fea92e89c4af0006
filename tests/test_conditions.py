"""Conditions of a recording: measures of known signals, streams against wholes, limits and reasons."""

from __future__ import annotations

import json
import math
import tracemalloc
from dataclasses import fields, replace

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import CORPUS, needs_shared
from voxfide.audio import AudioInfo, load_audio, resample
from voxfide.augment import parse
from voxfide.augment.levels import active_power
from voxfide.conditions import (
    POLICY,
    ActiveLevel,
    Clipping,
    ConditionMeter,
    Conditions,
    DigitalSilence,
    Segment,
    Spectrum,
    SpeechDetector,
    SpeechRule,
    measure_conditions,
    reasons,
)
from voxfide.conditions.runs import Runs
from voxfide.conditions.speech import WINDOW, Hysteresis
from voxfide.errors import CheckpointError, MissingDependencyError, UsageError
from voxfide.types import SAMPLE_RATE

GOOD = Conditions(
    seconds=60.0, speech_seconds=45.0, speech_share=0.75, speech_level_db=-25.0, noise_db=-60.0, snr_db=35.0,
    peak_db=-3.0, dc_offset=1e-4, flat_share=0.0, flat_top=0.7, bandwidth_hz=7500.0, rolloff_95_hz=3000.0,
    rolloff_99_hz=4500.0, holes_share=0.01, zero_share=0.0, bit_rate_kbps=128.0,
)  # fmt: skip


def babble(seconds: float, seed: int = 0) -> np.ndarray:
    """Noise bursts of changing level, as irregular as speech."""
    rng = np.random.default_rng(seed)
    n = round(seconds * SAMPLE_RATE)
    envelope = np.repeat(10 ** rng.uniform(-3, -0.7, n // 1600 + 1), 1600)[:n]
    return (envelope * rng.standard_normal(n)).astype(np.float32)


def measure(signal: np.ndarray, cuts: list[int] | None = None) -> tuple[Conditions, list[Segment]]:
    meter = ConditionMeter()
    for piece in np.split(signal, sorted(cuts or [])):
        meter.push(piece)
    return meter.finish(), meter.segments


def clips(n: int, split: str = "eval") -> list[np.ndarray]:
    return [load_audio(p).waveform for p in sorted((CORPUS / f"bonafide_{split}").glob("*.flac"))[:n]]


def finite(conditions: Conditions) -> bool:
    values = [getattr(conditions, f.name) for f in fields(conditions)]
    return all(math.isfinite(v) for v in values if isinstance(v, float))


# --- streams


@needs_shared("corpus")
def test_chunks_change_nothing_to_the_last_bit():
    signal = np.concatenate(clips(4))
    whole = measure(signal)
    rng = np.random.default_rng(1)
    for cuts in ([1, 2, 3], list(range(0, len(signal), 4097)), rng.integers(0, len(signal), 60).tolist()):
        assert measure(signal, cuts) == whole
    assert whole[1], "no speech found"


@pytest.mark.parametrize("part", [ActiveLevel, Spectrum, Clipping, DigitalSilence])
def test_parts_give_one_result_for_any_chunks(part):
    signal = np.clip(babble(3.0), -0.2, 0.2)
    signal[20000:20500] = 0
    results = []
    for cuts in ([], [1], [79, 20003, 20250, 20499], list(range(0, 48000, 333))):
        meter = part()
        for piece in np.split(signal, cuts):
            meter.push(piece)
        result = meter.finish()
        results.append(list(vars(result).values()) if hasattr(result, "__dict__") else list(result))
    for other in results[1:]:
        assert other == pytest.approx(results[0], rel=1e-9)


def test_memory_does_not_grow_with_length():
    chunk = babble(5.0)
    meter = ConditionMeter()
    for _ in range(4):
        meter.push(chunk)
    tracemalloc.start()
    held = []
    for _ in range(2):
        for _ in range(12):
            meter.push(chunk)
        held.append(tracemalloc.get_traced_memory()[0])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert held[1] - held[0] < 50_000
    assert peak < 40e6


@given(st.lists(st.booleans(), max_size=60), st.lists(st.integers(0, 60), max_size=5))
def test_runs_are_those_of_the_whole(mask, cuts):
    mask = np.array(mask, bool)
    runs = Runs()
    found = [r for piece in np.split(mask, sorted(cuts)) for r in zip(*runs.push(piece), strict=True)]
    found += zip(*runs.finish(), strict=True)
    text = "".join("x" if m else " " for m in mask)
    expected, start = [], None
    for i, letter in enumerate(text + " "):
        if letter == "x" and start is None:
            start = i
        elif letter == " " and start is not None:
            expected.append((start, i))
            start = None
    assert [(int(a), int(b)) for a, b in found] == expected


@settings(max_examples=25)
@given(
    st.integers(0, 3000), st.integers(0, 2**32 - 1), st.sampled_from([0.0, 1e-30, 1e-5, 0.1, 1.0, 1e4]),
    st.sampled_from([0.0, 0.3, -2.0]), st.booleans(),
)  # fmt: skip
def test_never_nan_and_always_json(n, seed, scale, offset, sparse):
    rng = np.random.default_rng(seed)
    signal = (scale * rng.standard_normal(n) + offset).astype(np.float32)
    if sparse:
        signal[rng.random(n) < 0.9] = 0
    conditions, _ = measure(signal)
    assert finite(conditions)
    found = reasons(conditions)
    json.dumps([conditions.to_json(), *(r.to_json() for r in found)], allow_nan=False)
    assert "little-speech" in {r.code for r in found}


@pytest.mark.parametrize("n", [0, 1, 511, 512, 40000])
def test_silence_and_next_to_nothing(n):
    conditions, segments = measure(np.zeros(n, np.float32))
    assert segments == []
    assert conditions.speech_seconds == 0
    assert (conditions.speech_level_db, conditions.snr_db, conditions.bandwidth_hz) == (None, None, None)
    assert reasons(conditions)[0].severity == "inconclusive"


@pytest.mark.parametrize("bad", [np.zeros((2, 3), np.float32), np.array([0, np.nan], np.float32)])
def test_what_is_no_signal_is_refused(bad):
    with pytest.raises(UsageError, match="finite samples of shape"):
        ConditionMeter().push(bad)


# --- speech


@needs_shared("corpus")
def test_segments_are_those_of_silero_vad(capsys):
    torch = pytest.importorskip("torch")
    threads = torch.get_num_threads()
    silero_vad = pytest.importorskip("silero_vad")
    model = silero_vad.load_silero_vad()
    torch.set_num_threads(threads)
    rng = np.random.default_rng(0)
    pauses = [(1e-4 * rng.standard_normal(rng.integers(100, 20000))).astype(np.float32) for _ in range(12)]
    signals = clips(12)
    signals.append(np.concatenate([x for pair in zip(signals, pauses, strict=True) for x in pair]))
    n_segments = 0
    for signal in signals:
        detector = SpeechDetector()
        found = detector.push(signal) + detector.finish()
        theirs = silero_vad.get_speech_timestamps(torch.from_numpy(signal), model)
        assert [(round(s * 16000), round(e * 16000)) for s, e in found] == [
            (t["start"], t["end"]) for t in theirs
        ]
        n_segments += len(found)
    with capsys.disabled():
        print(f"\n{n_segments} segments equal to silero-vad's")


probability = st.sampled_from([0.0, 0.3, 0.4, 0.6, 1.0])


@given(st.lists(probability, max_size=80), st.integers(0, WINDOW - 1))
def test_hysteresis_is_silero_vads_rule(probabilities, missing):
    silero = pytest.importorskip("silero_vad.utils_vad")
    n_samples = max(0, len(probabilities) * WINDOW - missing)
    hysteresis = Hysteresis()
    found = [s for p in probabilities for s in hysteresis.push(p)] + hysteresis.finish(n_samples)
    theirs = silero.get_speech_timestamps_from_probs(probabilities, audio_length_samples=n_samples)
    assert found == [(t["start"], t["end"]) for t in theirs]
    edges = [edge for segment in found for edge in segment]
    assert edges == sorted(edges)


def test_no_speech_in_noise_and_tones():
    time = np.arange(10 * SAMPLE_RATE) / SAMPLE_RATE
    for sound in (0.1 * np.random.default_rng(0).standard_normal(len(time)), 0.3 * np.sin(700 * time)):
        assert measure(sound.astype(np.float32))[0].speech_seconds == 0


@needs_shared("corpus")
def test_speech_between_silences_is_found_in_its_place():
    speech = clips(3)[2]
    pause = np.zeros(3 * SAMPLE_RATE, np.float32)
    conditions, segments = measure(np.concatenate([pause, speech, pause]))
    assert 2.9 <= segments[0].start < 3.5
    assert 3 + len(speech) / SAMPLE_RATE - 0.6 < segments[-1].end <= 3 + len(speech) / SAMPLE_RATE + 0.2
    assert conditions.zero_share == pytest.approx(6 / conditions.seconds, abs=0.02)


def test_speech_rule_is_checked():
    with pytest.raises(UsageError, match="leave <= enter"):
        SpeechRule(enter=0.3, leave=0.5)
    with pytest.raises(UsageError, match="at least 0 s"):
        SpeechRule(padding=-1)


def test_missing_package_and_damaged_weights_say_so(monkeypatch, tmp_path):
    silero = pytest.importorskip("voxfide.conditions.silero")
    monkeypatch.setattr(silero, "find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'voxfide\[full\]'"):
        silero.load_network.__wrapped__()
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "silero_vad.jit").write_bytes(b"not a model")
    spec = type("Spec", (), {"submodule_search_locations": [str(tmp_path)]})
    monkeypatch.setattr(silero, "find_spec", lambda name: spec)
    with pytest.raises(CheckpointError, match="expected the weights of silero-vad"):
        silero.load_network.__wrapped__()


# --- level and noise


@needs_shared("corpus")
def test_active_level_agrees_with_the_whole_signal_measure(capsys):
    differences = []
    for signal in clips(20):
        level = ActiveLevel()
        level.push(signal)
        differences.append(
            level.finish()[0] - 10 * np.log10(active_power(signal.astype(np.float64), SAMPLE_RATE))
        )
    with capsys.disabled():
        print(f"\nactive level: at most {np.abs(differences).max():.2f} dB from voxfide.augment's")
    assert np.abs(differences).max() < 0.5


def test_active_level_leaves_pauses_out():
    time = np.arange(3 * SAMPLE_RATE) / SAMPLE_RATE
    tone = (0.1 * np.sin(2 * np.pi * 300 * time)).astype(np.float32)
    level = ActiveLevel()
    for _ in range(5):
        level.push(tone)
        level.push(np.zeros(9 * SAMPLE_RATE, np.float32))
    found, share = level.finish()
    assert found == pytest.approx(20 * np.log10(0.1 / np.sqrt(2)), abs=0.5)
    assert share == pytest.approx(0.25, abs=0.03)  # the tone and its hangover of 200 ms


@settings(max_examples=20)
@given(st.floats(-30, 30))
def test_level_and_noise_follow_gain_and_nothing_else_does(db):
    signal = babble(2.0)
    louder = (signal * 10 ** (db / 20)).astype(np.float32)
    results = []
    for x in (signal, louder):
        level, spectrum = ActiveLevel(), Spectrum()
        level.push(x)
        spectrum.push(x)
        results.append((level.finish()[0], spectrum.finish()))
    # Thresholds an octave apart: between them the level is interpolated.
    assert results[1][0] - results[0][0] == pytest.approx(db, abs=0.5)
    assert results[1][1].noise_db - results[0][1].noise_db == pytest.approx(db, abs=1.0)
    assert results[1][1].rolloff_95_hz == results[0][1].rolloff_95_hz


@needs_shared("corpus")
@pytest.mark.parametrize("snr", [0, 10, 20])
def test_snr_of_known_noise(snr):
    noise = parse(f"noise:snr={snr},over=active")
    found = [measure(noise(x, SAMPLE_RATE, np.random.default_rng(i)))[0] for i, x in enumerate(clips(12))]
    errors = [c.snr_db - snr for c in found if c.snr_db is not None]
    assert np.median(np.abs(errors)) < 2.5


# --- spectrum


@pytest.mark.parametrize("rate", [4000, 8000, 11025])
def test_bandwidth_of_a_band_limit(rate):
    signal = resample(resample(babble(4.0), SAMPLE_RATE, rate), rate, SAMPLE_RATE)
    spectrum = Spectrum()
    spectrum.push(signal)
    assert rate / 2 - 250 <= spectrum.finish().bandwidth_hz <= rate / 2 + 250


def test_steady_noise_carries_no_signal():
    spectrum = Spectrum()
    spectrum.push((0.1 * np.random.default_rng(0).standard_normal(80000)).astype(np.float32))
    summary = spectrum.finish()
    assert summary.bandwidth_hz is None
    assert summary.noise_db == pytest.approx(-20, abs=1)
    assert summary.rolloff_95_hz == pytest.approx(7600, abs=100)


@needs_shared("corpus")
@pytest.mark.parametrize(("damage", "code"), [("bandlimit:rate=8000", "narrow-band"),
                                              ("codec:format=mp3,kbps=16", "heavy-coding")])  # fmt: skip
def test_damage_is_named_and_its_absence_is_not(damage, code):
    augmentation = parse(damage)
    hits = misses = 0
    for i, signal in enumerate(clips(12)):
        damaged = augmentation(signal, SAMPLE_RATE, np.random.default_rng(i))
        hits += code in {r.code for r in reasons(measure(damaged)[0])}
        misses += code in {r.code for r in reasons(measure(signal)[0])}
    assert hits >= 10
    assert misses <= 2


# --- samples


@given(st.floats(0.05, 1.0), st.floats(0.3, 0.95))
def test_clipped_samples_are_counted_at_any_scale(scale, level):
    time = np.arange(SAMPLE_RATE) / SAMPLE_RATE
    pure = np.sin(2 * np.pi * 201 * time)
    clipped = (scale * np.clip(pure, -level, level)).astype(np.float32)
    meter = Clipping()
    meter.push(clipped)
    assert meter.finish().flat_share == pytest.approx(np.mean(np.abs(pure) >= level), abs=0.01)
    meter = Clipping()
    meter.push((scale * pure).astype(np.float32))
    assert meter.finish().flat_share == 0


@needs_shared("corpus")
def test_clipping_shows_after_resampling():
    hits = misses = 0
    for signal in clips(12):
        high = resample(signal, SAMPLE_RATE, 48000)
        level = np.quantile(np.abs(high), 0.95)
        clipped = resample(np.clip(high, -level, level), 48000, SAMPLE_RATE)
        hits += "clipping" in {r.code for r in reasons(measure(clipped)[0])}
        misses += "clipping" in {r.code for r in reasons(measure(signal)[0])}
    assert hits >= 10
    assert misses <= 1


def test_dropouts_are_cuts_into_sound_not_fades():
    signal = (0.1 * np.random.default_rng(0).standard_normal(3 * SAMPLE_RATE)).astype(np.float32)
    signal[16000:16320] = 0  # 20 ms lost
    signal[32000:32040] = 0  # 2.5 ms: too short
    signal[36000:40000] *= np.linspace(1, 0, 4000, dtype=np.float32) ** 4  # a fade ...
    signal[40000:41000] = 0  # ... into silence
    signal[47000:] = 0  # the end
    silence = DigitalSilence()
    silence.push(signal)
    summary = silence.finish()
    assert summary.dropouts == 1
    assert summary.zero_seconds == pytest.approx((320 + 1000 + 1000) / SAMPLE_RATE, abs=0.03)
    assert summary.longest_zero_seconds == pytest.approx(1000 / SAMPLE_RATE, abs=0.03)


def test_offset_is_measured_and_named():
    conditions, _ = measure(babble(3.0) - np.float32(0.05))
    assert conditions.dc_offset == pytest.approx(-0.05, abs=0.002)
    assert "offset" in {r.code for r in reasons(conditions)}


# --- files and reasons


def test_a_file_is_measured_with_its_facts(tmp_path):
    path = tmp_path / "a.mp3"
    soundfile.write(path, babble(4.0), SAMPLE_RATE, format="MP3")
    conditions = measure_conditions(path)
    assert (conditions.container, conditions.lossy) == ("mp3", True)
    assert conditions.bit_rate_kbps == pytest.approx(8e-3 * path.stat().st_size / 4, rel=0.05)
    wav = tmp_path / "a.wav"
    soundfile.write(wav, babble(4.0), SAMPLE_RATE)
    assert (measure_conditions(wav).lossy, measure_conditions(wav).bit_rate_kbps) == (False, None)


def test_bit_rate_is_not_guessed_for_video():
    info = AudioInfo("a.mp4", "mp4", "aac", 48000, 2, 10.0, None, 160000, "pyav")
    meter = ConditionMeter()
    meter.push(babble(1.0))
    conditions = meter.finish(info, n_bytes=5_000_000)
    assert (conditions.codec, conditions.lossy, conditions.bit_rate_kbps) == ("aac", True, None)


def test_a_good_recording_has_no_reason():
    assert reasons(GOOD) == []


@pytest.mark.parametrize("row", POLICY, ids=lambda r: f"{r.code}-{r.severity}-{r.quantity}")
def test_every_limit_is_passed_on_its_side_only(row):
    assert row.quantity in {f.name for f in fields(Conditions)}
    at_limit = reasons(replace(GOOD, **{row.quantity: row.limit}), [row])
    sign = -1 if row.side == "below" else 1
    passed = reasons(replace(GOOD, **{row.quantity: row.limit + sign * max(abs(row.limit), 1) / 10}), [row])
    assert at_limit == []
    assert [(r.code, r.severity, r.limit) for r in passed] == [(row.code, row.severity, row.limit)]
    assert "{" not in passed[0].sentence
    assert passed[0].sentence.endswith(".")


def test_severest_row_speaks_first_and_inconclusive_leads():
    found = reasons(replace(GOOD, bandwidth_hz=2000.0, snr_db=5.0, speech_seconds=2.0))
    assert [(r.code, r.severity) for r in found] == [
        ("narrow-band", "inconclusive"), ("little-speech", "reduced"), ("noise", "reduced"),
    ]  # fmt: skip
    assert found[0].sentence == ("No speech shows above 2 kHz: a narrow or noisy channel (limit 3 kHz).")
