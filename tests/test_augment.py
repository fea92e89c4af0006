"""Augmentations: what each does, what all promise, and specifications."""

from __future__ import annotations

import json
import pickle
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import correlate

from voxfide.augment import AUGMENTATIONS, Plan, Policy, parse, utterance_chance, utterance_rng
from voxfide.augment.base import Augmentation
from voxfide.augment.levels import active_power, power
from voxfide.augment.noise import stretch
from voxfide.augment.reverberation import reverberate, simulate_rir
from voxfide.corpora.selftest import Speaker, synthesise_utterance
from voxfide.errors import AudioError, EmptyAudioError, NonFiniteAudioError, UsageError
from voxfide.manifest import Manifest

RATE = 16_000
SPECIFICATIONS = [
    "noise:snr=0..30", "noise:over=active", "reverb", "reverb:rt60=0.1..1.5,drr=-5..20",
    *(f"rawboost:algorithm={n}" for n in range(1, 9)), "bandlimit", "bandlimit:rate=11025", "bandpass",
    "gain:db=-20..20", "speed:factor=0.5..2", "combei2024", "0.5 * noise + reverb", "noise | gain | bandpass",
    "resynthesis:route=lpc_pulse",
]  # fmt: skip


@cache
def speech(seconds: float = 2.0, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    made = synthesise_utterance(Speaker.draw("s", rng), rng, seconds)
    made.setflags(write=False)
    return made


def snr_db(clean: np.ndarray, noisy: np.ndarray) -> float:
    clean, noise = clean.astype(np.float64), noisy.astype(np.float64) - clean
    return float(10 * np.log10(np.mean(clean**2) / np.mean(noise**2)))


def noise_folder(folder: Path, lengths: tuple[int, ...] = (4000, 40_000)) -> Path:
    folder.mkdir(exist_ok=True)
    for i, n in enumerate(lengths):
        samples = 0.1 * np.random.default_rng(i).standard_normal(n).cumsum() / np.sqrt(n)
        sf.write(folder / f"n{i}.wav", samples.astype(np.float32), RATE, subtype="FLOAT")
    return folder


# What all of them promise.


@pytest.mark.parametrize("specification", SPECIFICATIONS)
@given(
    n=st.integers(1, 3000),
    seed=st.integers(0, 2**32),
    kind=st.sampled_from(["noise", "silence", "dc", "faint"]),
)
@settings(max_examples=15)
def test_any_signal_comes_back_finite_and_as_long(specification: str, n: int, seed: int, kind: str):
    rng = np.random.default_rng(seed)
    signals = {
        "noise": rng.uniform(-1, 1, n), "silence": np.zeros(n), "dc": np.full(n, 0.5),
        "faint": 1e-20 * rng.standard_normal(n),
    }  # fmt: skip
    waveform = signals[kind].astype(np.float32)
    before = waveform.copy()
    augmentation = parse(specification)
    drawn = augmentation.draw(rng)
    made = augmentation.apply(waveform, RATE, drawn)
    assert made.dtype == np.float32
    assert made.flags.c_contiguous
    assert np.isfinite(made).all()
    assert np.array_equal(waveform, before)
    if not specification.startswith("speed"):
        assert len(made) == n
    if kind == "silence":
        assert not made.any()


@pytest.mark.parametrize("specification", SPECIFICATIONS)
def test_what_was_drawn_is_json_and_can_be_done_again(specification: str):
    augmentation = parse(specification)
    for seed in range(5):
        rng = utterance_rng(seed, "a")
        drawn = augmentation.draw(utterance_rng(seed, "a"))
        again = augmentation.apply(speech(0.5), RATE, json.loads(json.dumps(drawn)))
        assert np.array_equal(augmentation(speech(0.5), RATE, rng), again)


@pytest.mark.parametrize("specification", SPECIFICATIONS)
def test_a_description_makes_an_equal_object(specification: str):
    augmentation = parse(specification)
    assert parse(json.loads(json.dumps(augmentation.describe()))) == augmentation
    assert pickle.loads(pickle.dumps(augmentation)) == augmentation


def test_every_family_is_among_those_tested():
    families = {s.name for s in AUGMENTATIONS if not s.preset} - {
        "codec",
        "background",
    }  # tested by themselves

    def names(described: Any) -> set[str]:
        if isinstance(described, list):
            return set().union(*map(names, described), set())
        return {described["name"]} | names(described.get("of", [])) if isinstance(described, dict) else set()

    tested = set().union(*(names(parse(s).describe()) for s in SPECIFICATIONS))
    assert families == tested


@pytest.mark.parametrize(
    ("waveform", "error"),
    [
        (np.zeros(0), EmptyAudioError),
        (np.array([0.0, np.nan]), NonFiniteAudioError),
        (np.zeros((2, 5)), UsageError),
    ],
)
def test_what_is_no_waveform_is_refused(waveform: np.ndarray, error: type[Exception]):
    with pytest.raises(error):
        parse("gain")(waveform, RATE, np.random.default_rng(0))


# Noise.


@given(snr=st.floats(-20, 60), seed=st.integers(0, 1000))
@settings(max_examples=40)
def test_measured_snr_is_the_one_asked_for(snr: float, seed: int):
    made = parse({"name": "noise", "snr": snr})(speech(), RATE, utterance_rng(seed, "a"))
    assert snr_db(speech(), made) == pytest.approx(snr, abs=0.05)


def test_white_noise_is_white_and_drawn_snrs_fill_the_range():
    made = parse("noise:snr=0")(speech(4.0), RATE, np.random.default_rng(0)) - speech(4.0)
    bands = (np.abs(np.fft.rfft(made)) ** 2)[1:].reshape(-1)[: 8 * 4000].reshape(8, -1).mean(axis=1)
    assert bands.max() / bands.min() < 1.15
    drawn = [parse("noise:snr=10..20").draw(utterance_rng(0, str(i)))["snr"] for i in range(200)]
    assert 10 <= min(drawn) < 10.5 < 19.5 < max(drawn) <= 20


def test_snr_over_active_speech_disregards_pauses():
    """Silence around the speech changes the level of the whole, not that of the active speech."""
    padded = np.pad(speech(3.0), (0, 6 * RATE))
    assert 10 * np.log10(power(speech(3.0)) / power(padded)) == pytest.approx(4.77, abs=0.01)
    levels = [10 * np.log10(active_power(s.astype(np.float64), RATE)) for s in (speech(3.0), padded)]
    assert levels[0] == pytest.approx(levels[1], abs=0.3)
    noises = [
        parse(f"noise:snr=15,over={over}")(padded, RATE, np.random.default_rng(0)) - padded
        for over in ("signal", "active")
    ]
    assert 10 * np.log10(power(noises[1]) / power(noises[0])) > 4


def test_active_level_of_a_tone_switched_on_and_off():
    """P.56: a tone for 2 of 8 s, its pauses longer than the hangover, is active for 2 s and some 0.2."""
    time = np.arange(8 * RATE) / RATE
    tone = np.sin(2 * np.pi * 440 * time) * (time % 4 < 1)
    assert 10 * np.log10(active_power(tone, RATE)) == pytest.approx(10 * np.log10(0.5 / 1.2), abs=0.35)


@given(place=st.floats(0, 1, exclude_max=True), n=st.integers(1, 50), have=st.integers(1, 50))
def test_a_stretch_of_noise_runs_on_from_where_it_starts(place: float, n: int, have: int):
    piece = stretch(np.arange(have), n, place)
    assert len(piece) == n
    assert ((np.diff(piece) == 1) | ((np.diff(piece) == 1 - have) & (have < n))).all()


def test_noise_from_a_folder_has_the_snr_and_is_named(tmp_path: Path):
    augmentation = parse({"name": "background", "files": str(noise_folder(tmp_path)), "snr": [3, 12]})
    used = set()
    for seed in range(20):
        drawn = augmentation.draw(utterance_rng(seed, "a"))
        made = augmentation.apply(speech(), RATE, drawn)
        assert snr_db(speech(), made) == pytest.approx(drawn["snr"], abs=0.05)
        used.add(drawn["file"])
    assert used == {"n0.wav", "n1.wav"}
    assert parse(augmentation.describe()) == augmentation
    assert pickle.loads(pickle.dumps(augmentation)) == augmentation


def test_missing_noise_is_said_before_any_work(tmp_path: Path):
    with pytest.raises(UsageError, match="no such file or folder"):
        parse(f"background:files={tmp_path}/none")
    with pytest.raises(UsageError, match="no audio in this folder"):
        parse(f"reverb:rir={tmp_path}")
    with pytest.raises(UsageError, match="missing setting files"):
        parse("background")


def test_a_broken_noise_file_is_an_audio_error_about_it(tmp_path: Path):
    (tmp_path / "x.wav").write_bytes(b"no audio at all" * 99)
    with pytest.raises(AudioError, match=r"x\.wav"):
        parse(f"background:files={tmp_path}")(speech(), RATE, np.random.default_rng(0))


# Reverberation.


def lag_of(made: np.ndarray, original: np.ndarray) -> int:
    """Samples by which ``made`` is late, at the highest cross-correlation."""
    return int(np.argmax(correlate(made.astype(np.float64), original, method="fft"))) - (len(original) - 1)


@given(rt60=st.floats(0.05, 2.0), drr=st.floats(0, 20), seed=st.integers(0, 2**32))
@settings(max_examples=30)
def test_reverberation_keeps_length_and_alignment(rt60: float, drr: float, seed: int):
    """White noise, whose correlation shows the response itself, stays in place to the sample."""
    noise = np.random.default_rng(seed).standard_normal(RATE)
    augmentation = parse({"name": "reverb", "rt60": rt60, "drr": drr})
    made = augmentation(noise, RATE, np.random.default_rng(seed))
    assert len(made) == len(noise)
    assert lag_of(made, noise) == 0


def test_speech_in_a_dry_room_stays_within_half_a_millisecond():
    for seed in range(20):
        made = parse("reverb:drr=6")(speech(), RATE, utterance_rng(seed, "a"))
        assert abs(lag_of(made, speech())) <= 8


@given(shift=st.integers(0, 3000), seed=st.integers(0, 2**32))
@settings(max_examples=20)
def test_a_recorded_response_is_aligned_wherever_its_direct_path_is(shift: int, seed: int):
    response = simulate_rir(0.4, 3.0, RATE, seed)
    made = [reverberate(speech().astype(np.float64), r) for r in (response, np.pad(response, (shift, 5)))]
    assert np.allclose(*made, atol=1e-9)


def test_a_simulated_direct_path_counts_however_faint_it_is():
    click = np.zeros(4000)
    click[1000] = 1
    made = parse("reverb:drr=-30")(click, RATE, np.random.default_rng(0))
    assert np.abs(made[:1000]).max() < 1e-12
    assert made[1000] > 0


def test_reverberation_by_one_sample_is_nothing():
    for response in ([1.0], [0.0, 0.0, -3.0, 0.0]):
        made = reverberate(speech().astype(np.float64), np.array(response))
        assert np.allclose(made * np.sign(sum(response)), speech(), atol=1e-7)


@given(rt60=st.floats(0.1, 1.5), drr=st.floats(-10, 20), seed=st.integers(0, 2**32))
@settings(max_examples=30)
def test_a_simulated_room_has_the_decay_and_the_ratio(rt60: float, drr: float, seed: int):
    """RT60 by Schroeder's backward integration (1965), from -5 to -35 dB; DRR by its definition."""
    response = simulate_rir(rt60, drr, RATE, seed)
    tail = response[40:]
    assert 10 * np.log10(response[0] ** 2 / np.sum(tail**2)) == pytest.approx(drr, abs=0.01)
    decay = 10 * np.log10(np.cumsum(tail[::-1] ** 2)[::-1] / np.sum(tail**2))
    start, stop = np.searchsorted(-decay, [5, 35])
    slope = np.polyfit(np.arange(start, stop) / RATE, decay[start:stop], 1)[0]
    assert -60 / slope == pytest.approx(rt60, rel=0.2)


def test_recorded_responses_are_used_and_named(tmp_path: Path):
    response = np.pad(simulate_rir(0.3, 6.0, RATE, 1), (777, 0)).astype(np.float32)
    sf.write(tmp_path / "room.wav", 0.3 * response, RATE, subtype="FLOAT")
    augmentation = parse(f"reverb:rir={tmp_path / 'room.wav'}")
    drawn = augmentation.draw(np.random.default_rng(0))
    assert drawn == {"file": "room.wav"}
    expected = reverberate(speech().astype(np.float64), response)
    assert np.allclose(augmentation.apply(speech(), RATE, drawn), expected, atol=1e-6)


def test_white_noise_keeps_its_power_in_a_room():
    noise = np.random.default_rng(0).standard_normal(20 * RATE)
    made = parse("reverb")(noise, RATE, np.random.default_rng(1))
    assert 10 * np.log10(power(made.astype(np.float64)) / power(noise)) == pytest.approx(0, abs=0.5)


# RawBoost.


def test_stationary_noise_has_the_snr_drawn():
    augmentation = parse("rawboost:algorithm=3,snr=10..40")
    for seed in range(10):
        drawn = augmentation.draw(utterance_rng(seed, "a"))
        made = augmentation.apply(speech(), RATE, drawn)
        assert snr_db(speech(), made) == pytest.approx(drawn["snr"], abs=0.05)


def test_impulsive_noise_changes_few_samples_in_proportion():
    augmentation = parse("rawboost:algorithm=2")
    quiet = 0.2 * speech() / np.abs(speech()).max()  # so that nothing is scaled down afterwards
    for seed in range(10):
        drawn = augmentation.draw(utterance_rng(seed, "a"))
        made = augmentation.apply(quiet, RATE, drawn)
        changed = made != quiet
        assert changed.sum() <= drawn["impulses"] / 100 * len(quiet) <= 0.1 * len(quiet)
        assert (np.abs(made - quiet) <= 2 * np.abs(quiet) + 1e-7).all()
        assert changed.any()


def test_convolutive_noise_is_linear_in_the_first_power_only():
    once, double = (height * speech() / np.abs(speech()).max() for height in (0.25, 0.5))
    linear, five = (parse(f"rawboost:algorithm=1,powers={n}") for n in (1, 5))
    for augmentation, is_linear in ((linear, True), (five, False)):
        drawn = augmentation.draw(np.random.default_rng(0))
        a, b = (augmentation.apply(w, RATE, drawn) for w in (once, double))
        assert np.allclose(2 * a, b, atol=1e-5) is is_linear


def test_notch_filters_have_no_delay_and_unit_gain():
    augmentation = parse("rawboost:algorithm=1,powers=1")
    click = np.zeros(2001)
    click[1000] = 1
    for seed in range(10):
        drawn = augmentation.draw(utterance_rng(seed, "a"))
        made = augmentation.apply(click, RATE, drawn).astype(np.float64)
        made -= made[0]  # the mean was taken off
        assert np.allclose(made, made[::-1], atol=1e-6)
        assert np.abs(np.fft.rfft(made, 8192)).max() == pytest.approx(1, abs=0.02)


def test_higher_powers_lie_lower_by_the_bias():
    """Each power's cascade has its highest gain at ``gain`` less something between the biases."""
    augmentation = parse("rawboost:algorithm=1,powers=2,bias=20")
    tone = 0.5 * np.sin(2 * np.pi * 1000 * np.arange(RATE) / RATE)
    for seed in range(5):
        made = augmentation(tone, RATE, utterance_rng(seed, "a")).astype(np.float64)
        spectrum = np.abs(np.fft.rfft(made * np.hanning(len(made)))) / (len(made) / 4)
        # The square of a tone of height 0.5 has a component of 0.125 at twice the frequency.
        assert spectrum[1990:2011].max() <= 0.125 * 10 ** (-20 / 20) * 1.05


@pytest.mark.parametrize(("combined", "steps"), [(4, (1, 2, 3)), (5, (1, 2)), (6, (1, 3)), (7, (2, 3))])
def test_series_are_their_steps_in_order(combined: int, steps: tuple[int, ...]):
    drawn = parse(f"rawboost:algorithm={combined}").draw(np.random.default_rng(0))
    whole = parse(f"rawboost:algorithm={combined}").apply(speech(), RATE, drawn)
    waveform: np.ndarray = speech().astype(np.float64)
    for step in steps:
        waveform = parse(f"rawboost:algorithm={step}").process(waveform, RATE, drawn)
    assert np.allclose(whole, waveform, atol=1e-6)


def test_parallel_is_the_sum_of_its_two():
    eight = parse("rawboost:algorithm=8")
    quiet = 0.1 * speech()
    drawn = eight.draw(np.random.default_rng(0))
    both = [parse(f"rawboost:algorithm={n}").process(quiet.astype(np.float64), RATE, drawn) for n in (1, 2)]
    total = both[0] + both[1]
    assert np.allclose(eight.apply(quiet, RATE, drawn), total / max(1, np.abs(total).max()), atol=1e-6)


# Bands, speed, level.


def test_bands_end_where_they_should():
    noise = np.random.default_rng(0).standard_normal(4 * RATE)
    hertz = np.fft.rfftfreq(len(noise), 1 / RATE)

    def gain_db(specification: str, low: float, high: float) -> float:
        made = parse(specification)(noise, RATE, np.random.default_rng(0))
        band = (hertz >= low) & (hertz < high)
        before, after = (np.sum(np.abs(np.fft.rfft(s)[band]) ** 2) for s in (noise, made))
        return float(10 * np.log10(after / before))

    assert gain_db("bandlimit", 100, 3600) == pytest.approx(0, abs=0.1)
    assert gain_db("bandlimit", 4400, 8000) < -50
    assert gain_db("bandpass", 500, 3000) == pytest.approx(0, abs=0.2)
    assert gain_db("bandpass", 20, 100) < -40
    assert gain_db("bandpass", 6000, 7900) < -20


def test_speed_changes_length_and_pitch():
    tone = np.sin(2 * np.pi * 1000 * np.arange(RATE) / RATE).astype(np.float32)
    for factor in (0.9, 1.1):
        made = parse(f"speed:factor={factor}")(tone, RATE, np.random.default_rng(0))
        assert len(made) == pytest.approx(RATE / factor, abs=1)
        peak = np.argmax(np.abs(np.fft.rfft(made))) * RATE / len(made)
        assert peak == pytest.approx(1000 * factor, abs=2)


def test_gain_is_in_decibels():
    made = parse("gain:db=-6")(speech(), RATE, np.random.default_rng(0))
    assert np.allclose(made, speech() * 10 ** (-6 / 20))


# Combinations and specifications.


def test_one_of_draws_by_weight():
    fair, loaded = (
        parse("gain:db=1 | gain:db=2"),
        {"name": "one-of", "of": ["gain", "noise"], "weights": [0, 1]},
    )
    choices = [fair.draw(utterance_rng(0, str(i)))["choice"] for i in range(1000)]
    assert np.mean(choices) == pytest.approx(0.5, abs=0.06)
    assert {parse(loaded).draw(utterance_rng(0, str(i)))["choice"] for i in range(50)} == {1}


def test_maybe_and_chain_say_what_was_done():
    augmentation = parse("0.3 * gain + noise | 0 * noise")
    said = [augmentation.applied(augmentation.draw(utterance_rng(0, str(i)))) for i in range(2000)]
    share = {word: said.count(word) / 2000 for word in set(said)}
    assert share == {
        "": pytest.approx(0.5, abs=0.04), "noise": pytest.approx(0.35, abs=0.04),
        "gain + noise": pytest.approx(0.15, abs=0.03),
    }  # fmt: skip


def test_a_chain_is_its_steps_in_order():
    rng = np.random.default_rng(5)
    made = parse("gain:db=40 + rawboost:algorithm=2")(speech(), RATE, rng)
    assert np.abs(made).max() <= 1, "RawBoost keeps to full scale"
    made = parse("rawboost:algorithm=2 + gain:db=40")(speech(), RATE, rng)
    assert np.abs(made).max() > 10


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("noize", "did you mean 'noise'"),
        ("noise:snr", "expected NAME:KEY=VALUE"),
        ("noise:snr=loud", "snr = 'loud' \\(expected a number or LOW..HIGH"),
        ("noise:snr=20..10", "expected a number or LOW..HIGH"),
        ("noise:snr=nan", "expected a number or LOW..HIGH"),
        ("noise:level=3", "no setting 'level' \\(settings: snr, over"),
        ("noise:over=all", "expected signal or active"),
        ("rawboost:algorithm=9", "1 … 8"),
        ("rawboost:algorithm=1.5", "expected a whole number"),
        ("codec:format=mp4", "mp3, aac, opus"),
        ("codec:format=gsm,kbps=64", "expected 13 for gsm"),
        ("codec", "missing setting format"),
        ("combei2024:snr=3", "has no settings: it stands for"),
        ("2 * noise", "expected 0 … 1"),
        ("bandpass:low=4000,high=300", "more than low"),
        ({"snr": 3}, "no name"),
        ({"name": "one-of", "of": []}, "at least one"),
        ({"name": "one-of", "of": "noise"}, "of = 'noise'"),
        ({"name": "one-of", "of": ["noise", "gain"], "weights": [1]}, "one for each"),
        (3, "expected text, a mapping or a list"),
        ("nowhere.yaml", "not readable as YAML"),
    ],
)  # fmt: skip
def test_wrong_specifications_are_refused_with_the_reason(wrong: Any, message: str):
    with pytest.raises(UsageError, match=message):
        parse(wrong)


def test_a_file_is_a_specification(tmp_path: Path):
    file = tmp_path / "a.yaml"
    file.write_text("- reverb\n- name: one-of\n  of: [noise, {name: codec, format: mp3, kbps: [16, 64]}]\n")
    assert parse(str(file)) == parse(file)
    assert parse(file).describe()["of"][1]["of"][1] == {
        "name": "codec",
        "format": "mp3",
        "kbps": [16.0, 64.0],
    }
    file.write_text(f"[noise, {file}]")
    with pytest.raises(UsageError, match="names itself"):
        parse(file)


def test_the_papers_augmentation_is_half_noise_at_25_db_half_reverberation():
    augmentation = parse("combei2024")
    said = []
    for i in range(400):
        drawn = augmentation.draw(utterance_rng(0, str(i)))
        said.append(augmentation.applied(drawn))
        if said[-1] == "noise":
            assert drawn["of"]["snr"] == 25
    assert said.count("noise") / 400 == pytest.approx(0.5, abs=0.1)
    assert set(said) == {"noise", "reverb"}


# Who is augmented.


def test_chance_belongs_to_seed_epoch_and_utterance():
    draws = {(s, e, i): utterance_rng(s, i, e).random() for s in (0, 1) for e in (0, 1) for i in ("a", "b")}
    assert len(set(draws.values())) == 8
    assert utterance_rng(1, "b", 1).random() == draws[1, 1, "b"]
    chances = np.array([utterance_chance(0, str(i)) for i in range(4000)])
    assert np.histogram(chances, 4, (0, 1))[0] == pytest.approx(1000, abs=120)


def test_known_draws_stay_as_they_are():
    """A version that drew otherwise would silently change every augmented corpus."""
    assert utterance_rng(0, "E_0000000001").integers(2**53) == 7356553610627419
    assert utterance_chance(0, "E_0000000001") == pytest.approx(0.0396338925320705, abs=1e-15)


def test_a_policy_chooses_by_label_corpus_and_fraction():
    policy = Policy(parse("gain"), "bonafide", 0.5, ("asvspoof5",), seed=3)
    ids = [f"u{i}" for i in range(2000)]
    chosen = [i for i in ids if policy.choose(i, "bonafide", "asvspoof5")]
    assert len(chosen) == pytest.approx(1000, abs=100)
    assert not any(policy.choose(i, "spoof", "asvspoof5") or policy.choose(i, "bonafide", "itw") for i in ids)
    with pytest.raises(UsageError, match="none was given"):
        policy.choose("u1", "bonafide", None)
    more = Policy(parse("gain"), "bonafide", 0.7, ("asvspoof5",), seed=3)
    assert all(more.choose(i, "bonafide", "asvspoof5") for i in chosen)
    assert Policy.from_json(json.loads(json.dumps(policy.describe()))) == policy


def test_a_policy_gives_the_same_in_any_order_and_other_noise_in_every_epoch():
    policy: Policy = pickle.loads(pickle.dumps(Policy(parse("noise"), fraction=0.5)))
    ids = [f"u{i}" for i in range(20)]

    def stream(order: list[str], epoch: int) -> dict[str, np.ndarray]:
        return {i: policy(speech(0.2), RATE, i, "bonafide", epoch=epoch) for i in order}

    forward, backward, second = stream(ids, 0), stream(ids[::-1], 0), stream(ids, 1)
    touched = [i for i in ids if not np.array_equal(forward[i], speech(0.2))]
    assert 0 < len(touched) < 20
    for i in ids:
        assert np.array_equal(forward[i], backward[i])
        assert np.array_equal(forward[i], second[i]) is (i not in touched)


@pytest.mark.parametrize(
    "wrong",
    [{"label": "real"}, {"fraction": 1.5}, {"fraction": float("nan")}, {"corpora": "asvspoof5"}],
)
def test_policies_that_cannot_be(wrong: dict[str, Any]):
    with pytest.raises(UsageError):
        Policy(parse("gain"), **wrong)
    with pytest.raises(UsageError):
        Policy.from_json({"augmentation": "gain", "colour": "red"})


def manifest(n: int = 40) -> Manifest:
    return Manifest.from_columns(
        {
            "utterance_id": [f"u{i}" for i in range(n)],
            "path": [f"{i}.wav" for i in range(n)],
            "label": ["bonafide" if i % 2 else "spoof" for i in range(n)],
        },
        "/nowhere",
    )


def test_a_plan_does_what_a_policy_planned():
    policy = Policy(parse("noise:snr=5 | reverb"), "bonafide", 0.5, seed=7)
    plan = Plan.of(policy.planned(manifest()), seed=7)
    for i in range(40):
        label = "bonafide" if i % 2 else "spoof"
        made = [chooser(speech(0.2), RATE, f"u{i}", label, epoch=2) for chooser in (plan, policy)]
        assert np.array_equal(*made)


def test_plans_that_say_nothing_or_nonsense_are_refused():
    with pytest.raises(UsageError, match="no column 'augment'"):
        Plan.of(manifest())
    rows = manifest(2).table.append_column("augment", [["", "noize"]])
    with pytest.raises(UsageError, match=r"u1: augment: unknown augmentation"):
        Plan.of(Manifest(rows, Path("/nowhere")))
    with pytest.raises(UsageError, match="no column 'corpus'"):
        Policy(parse("gain"), corpora=("x",)).planned(manifest())


def test_combinations_in_the_registry_can_be_made_and_families_list_their_settings():
    for spec in AUGMENTATIONS:
        if spec.preset:
            assert isinstance(parse(spec.name), Augmentation)
        else:
            assert spec.settings()
    assert AUGMENTATIONS["noise"].settings() == {"snr": "25", "over": "signal"}


def test_copy_synthesis_says_that_it_makes_spoofs_also_within_combinations():
    for text, expected in (
        ("resynthesis:route=psola", {"psola"}),
        ("noise | resynthesis:route=psola", {"", "psola"}),
        ("0.5 * resynthesis:route=psola", {"", "psola"}),
        ("gain:db=3 + resynthesis:route=psola", {"psola"}),
        ("noise + reverb", {""}),
    ):
        augmentation = parse(text)
        draws = [augmentation.draw(np.random.default_rng(seed)) for seed in range(30)]
        assert {augmentation.spoofed_by(drawn) for drawn in draws} == expected


def test_a_spoof_is_not_made_of_what_is_labelled_bona_fide_on_the_fly():
    policy = Policy(parse("resynthesis:route=psola"))
    with pytest.raises(UsageError, match="label would stay bonafide"):
        policy(speech(0.3), RATE, "u", "bonafide")


def test_a_route_that_does_not_exist_is_refused():
    with pytest.raises(UsageError, match="route = 'lpc' .*known: griffin_lim_mel"):
        parse("resynthesis:route=lpc")
