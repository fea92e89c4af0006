"""Reading audio: formats, scaling, downmix, resampling, alignment, streaming, probing."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import audio_fixtures as fx
from voxfide.audio import (
    AUDIO_SETTINGS,
    load_audio,
    probe_audio,
    resample,
    resampled_length,
    stream_audio,
)
from voxfide.errors import TruncatedAudioError, UsageError

RATES = (8000, 11025, 16000, 22050, 24000, 32000, 44100, 48000, 96000)
ALL_KINDS = {**fx.SOUNDFILE_KINDS, **fx.FFMPEG_KINDS}


def rate_of(kind: str) -> int:
    return {"amr": 8000}.get(kind, 16000)


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    """A second of every kind, mono, at 16 kHz (AMR: 8 kHz)."""
    return {kind: fx.write(kind, fx.speechlike(rate_of(kind), 1.0), rate_of(kind)) for kind in ALL_KINDS}


class NoSeek(io.RawIOBase):
    """A pipe: reads, but cannot seek."""

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self._file = io.BytesIO(data)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        return self._file.readinto(buffer)


# Containers and sources


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_path_bytes_and_file_objects_give_the_same(
    kind: str, files: dict[str, bytes], tmp_path: Path
) -> None:
    _, _, container, codec, bits = ALL_KINDS[kind]
    path = tmp_path / "recording"
    path.write_bytes(files[kind])
    prefixed = io.BytesIO(b"not audio" + files[kind])
    prefixed.seek(9)

    audio = load_audio(path)
    assert (audio.info.container, audio.info.codec, audio.info.bit_depth) == (container, codec, bits)
    assert audio.info.path == str(path)
    assert audio.info.channels == 1
    assert audio.waveform.dtype == np.float32
    assert audio.info.n_samples == len(audio.waveform)
    assert audio.info.warnings == ()
    with path.open("rb") as opened:
        others = [str(path), files[kind], io.BytesIO(files[kind]), prefixed, NoSeek(files[kind]), opened]
        for other in others:
            np.testing.assert_array_equal(load_audio(other).waveform, audio.waveform)


def test_sources_are_named_in_the_info(files: dict[str, bytes]) -> None:
    named = io.BytesIO(files["wav-s16"])
    named.name = "upload.wav"
    assert load_audio(files["wav-s16"]).info.path == "<bytes>"
    assert load_audio(io.BytesIO(files["wav-s16"])).info.path == "<file object>"
    assert load_audio(named).info.path == "upload.wav"


@pytest.mark.parametrize("video", ["mp4", "matroska"])
def test_the_audio_track_of_a_video(video: str) -> None:
    signal = fx.speechlike(16000, 1.0)
    audio = load_audio(fx.write_ffmpeg(signal, 16000, video, "aac", video=True))
    assert audio.info.codec == "aac"
    assert abs(fx.lag(signal[:, 0], audio.waveform)) <= 16


def test_content_decides_and_a_wrong_extension_is_a_warning(files: dict[str, bytes], tmp_path: Path) -> None:
    for name, kind, warnings in (
        ("a.wav", "mp3", ("named .wav but the content is mp3",)),
        ("a.mp3", "flac-s16", ("named .mp3 but the content is flac",)),
        ("a.flac", "m4a", ("named .flac but the content is mp4",)),
        ("a.WAV", "wav-s16", ()),
        ("a.webm", "webm", ()),
        ("a.dat", "wav-s16", ()),
    ):
        path = tmp_path / name
        path.write_bytes(files[kind])
        assert load_audio(path).info.warnings == warnings
        assert probe_audio(path).warnings == warnings


def test_a_leading_id3_tag_is_skipped(files: dict[str, bytes]) -> None:
    tag = b"ID3\x04\x00\x00\x00\x00\x01\x00" + bytes(128)
    for kind in ("flac-s16", "mp3"):
        np.testing.assert_array_equal(
            load_audio(tag + files[kind]).waveform, load_audio(files[kind]).waveform
        )


def test_tags_behind_an_mp3_are_no_audio(files: dict[str, bytes]) -> None:
    tagged = load_audio(files["mp3"] + b"LYRICSBEGIN" + bytes(500))
    np.testing.assert_array_equal(tagged.waveform, load_audio(files["mp3"]).waveform)
    assert "no audio" in tagged.info.warnings[0]


def test_chained_ogg_is_read_to_its_end() -> None:
    links = [fx.speechlike(16000, seconds, seed=seed) for seed, seconds in enumerate((1.0, 0.5))]
    chained = b"".join(fx.write_soundfile(link, 16000, "OGG", "VORBIS") for link in links)
    assert load_audio(chained).info.duration == pytest.approx(1.5, abs=0.05)


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF, 0x7FFFF000])
def test_wav_of_a_stream_with_its_size_left_open(size: int, files: dict[str, bytes]) -> None:
    data = bytearray(files["wav-s16"])
    at = data.index(b"data") + 4
    data[at : at + 4] = size.to_bytes(4, "little")
    audio = load_audio(bytes(data))
    np.testing.assert_array_equal(audio.waveform, load_audio(files["wav-s16"]).waveform)
    assert audio.info.codec == "pcm_s16le"


# Samples


@settings(max_examples=30)
@given(arrays(np.int16, st.integers(1, 300)))
def test_int16_survives_wav_and_flac_exactly(pcm: np.ndarray) -> None:
    for container in ("WAV", "FLAC", "AIFF"):
        data = fx.write_soundfile(pcm, 16000, container, "PCM_16")
        waveform = load_audio(data, allow_silent=True).waveform
        np.testing.assert_array_equal(waveform, pcm / np.float32(32768))


@settings(max_examples=30)
@given(arrays(np.float32, st.integers(1, 300), elements=st.floats(-2, 2, width=32)))
def test_float32_survives_wav_exactly(signal: np.ndarray) -> None:
    data = fx.write_soundfile(signal, 16000, "WAV", "FLOAT")
    np.testing.assert_array_equal(load_audio(data, allow_silent=True).waveform, signal)


@pytest.mark.parametrize(("kind", "step"), [("wav-u8", 2**-7), ("wav-s24", 2**-23), ("wav-s32", 2**-24)])
def test_other_pcm_widths_keep_full_scale(kind: str, step: float) -> None:
    signal = np.linspace(-1, 1 - 2 * step, 4001)
    waveform = load_audio(fx.write(kind, signal, 16000)).waveform
    np.testing.assert_allclose(waveform, signal, atol=1.01 * step)


@pytest.mark.parametrize("kind", fx.LOSSLESS)
@pytest.mark.parametrize("channels", [1, 2, 6])
def test_downmix_is_the_mean_and_a_channel_can_be_picked(kind: str, channels: int) -> None:
    signal = fx.speechlike(16000, 0.5, channels)
    data = fx.write(kind, signal, 16000)
    audio = load_audio(data)
    assert audio.info.channels == channels
    np.testing.assert_allclose(audio.waveform, signal.mean(axis=1), atol=2e-7)
    for channel in range(channels):
        picked = load_audio(data, channel=channel).waveform
        np.testing.assert_allclose(picked, signal[:, channel], atol=2e-7)
    for missing in (channels, -1):
        with pytest.raises(UsageError, match="no channel"):
            load_audio(data, channel=missing)


@pytest.mark.parametrize("channels", [1, 2, 6])
@pytest.mark.parametrize("kind", ["m4a", "vorbis", "opus", "mkv-flac"])
def test_channel_order_of_lossy_and_ffmpeg_decoders(kind: str, channels: int) -> None:
    rate = 48000
    tones = np.stack(
        [0.3 * np.sin(2 * np.pi * (300 + 250 * c) * np.arange(rate) / rate) for c in range(channels)], 1
    )
    data = fx.write(kind, tones.astype(np.float32), rate)
    found = []
    for channel in range(channels):
        waveform = load_audio(data, channel=channel).waveform[4000:12000]
        found.append(int(np.argmax(np.abs(np.fft.rfft(waveform * np.hanning(8000))))) * 2)
    audible = [300 + 250 * c for c in range(channels)]
    if channels == 6:  # the codecs put the low-frequency channel elsewhere or filter it
        assert len(set(found) & set(audible)) >= 5
    else:
        assert found == audible


@pytest.mark.parametrize(("encoder", "channels"), [("flac", 8), ("wavpack", 8), ("wavpack", 16)])
def test_many_channels(encoder: str, channels: int) -> None:
    """PyAV's own conversion reads beyond the channels of a planar frame from eight on, and crashes."""
    signal = fx.speechlike(48000, 0.5, channels)
    data = fx.write_ffmpeg(signal, 48000, "matroska", encoder)
    for channel in range(channels):
        picked = load_audio(data, sample_rate=48000, channel=channel)
        assert picked.info.channels == channels
        np.testing.assert_allclose(picked.waveform, signal[:, channel], atol=1 / 255)


def test_channels_may_change_on_the_way_but_the_rate_may_not() -> None:
    first, second = fx.speechlike(16000, 1.0), fx.speechlike(16000, 1.0, channels=2)
    stereo = fx.write("adts", second, 16000)
    changing = fx.write("adts", first, 16000) + stereo
    assert load_audio(changing).info.duration == pytest.approx(2, abs=0.3)
    with pytest.raises(TruncatedAudioError, match="channel 1 ends after 1"):
        load_audio(stereo + fx.write("adts", first, 16000), channel=1)
    other_rate = fx.write("adts", fx.speechlike(24000, 1.0), 24000)
    with pytest.raises(TruncatedAudioError, match="from 16000 to 24000 Hz"):
        load_audio(fx.write("adts", first, 16000) + other_rate)


def test_opposite_phase_is_named() -> None:
    mono = fx.speechlike(16000, 0.5)
    nearly = fx.write("wav-f32", np.hstack([mono, -0.95 * mono]), 16000)
    fine = fx.write("wav-f32", np.hstack([mono, 0.5 * mono]), 16000)
    assert "opposite phase" in load_audio(nearly).info.warnings[0]
    assert load_audio(nearly, channel=0).info.warnings == ()
    assert load_audio(fine).info.warnings == ()


# Resampling


@pytest.mark.parametrize("rate", RATES)
def test_a_tone_keeps_frequency_level_and_time(rate: int) -> None:
    """0.02 dB from 100 Hz to 90 % of the lower Nyquist frequency, phase to a thousandth of a turn."""
    top = 0.9 * min(rate, 16000) / 2
    for frequency in (100.0, 1000.0, top):
        signal = 0.5 * np.sin(2 * np.pi * frequency * np.arange(2 * rate) / rate + 0.3)
        result = load_audio(fx.write_soundfile(signal, rate, "WAV", "FLOAT")).waveform[8000:24000]
        t = np.arange(8000, 24000) / 16000
        fit = np.stack([np.sin(2 * np.pi * frequency * t), np.cos(2 * np.pi * frequency * t)], 1)
        (a, b), *_ = np.linalg.lstsq(fit, result, rcond=None)
        assert 20 * np.log10(np.hypot(a, b) / 0.5) == pytest.approx(0, abs=0.02)
        assert np.arctan2(b, a) == pytest.approx(0.3, abs=2 * np.pi / 1000)
        assert np.abs(result - fit @ (a, b)).max() < 1e-6


@pytest.mark.parametrize("rate", [22050, 32000, 44100, 48000, 96000])
def test_nothing_folds_back(rate: int) -> None:
    """A tone above the target's Nyquist frequency disappears: below -120 dB."""
    signal = 0.5 * np.sin(2 * np.pi * 9000 * np.arange(rate) / rate)
    result = resample(signal.astype(np.float32), rate, 16000)
    assert np.abs(result[2000:-2000]).max() < 0.5e-6


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("n", [1, 2, 17, 441, 8191, 8192, 8193, 30001])
def test_length_rule(rate: int, n: int) -> None:
    signal = np.random.default_rng(n).uniform(-0.5, 0.5, n).astype(np.float32)
    audio = load_audio(fx.write_soundfile(signal, rate, "WAV", "FLOAT"), allow_silent=True)
    assert len(audio.waveform) == resampled_length(n, rate, 16000) == int(n * 16000 / rate + 0.5)
    assert audio.info.duration == n / rate
    np.testing.assert_array_equal(audio.waveform, resample(signal, rate, 16000))


@settings(max_examples=25)
@given(
    rate=st.sampled_from(RATES),
    target=st.sampled_from((8000, 16000, 44100)),
    gain=st.sampled_from((0.125, 0.5, 2.0, 0.3)),
    n=st.integers(1, 5000),
)
def test_gain_passes_through(rate: int, target: int, gain: float, n: int) -> None:
    signal = np.random.default_rng(n).uniform(-0.4, 0.4, n).astype(np.float32)
    louder = resample(np.float32(gain) * signal, rate, target)
    np.testing.assert_allclose(louder, gain * resample(signal, rate, target), atol=3e-7)


def test_resample_refuses_what_it_cannot_do() -> None:
    with pytest.raises(UsageError, match="shape"):
        resample(np.zeros((2, 3), np.float32), 8000, 16000)
    with pytest.raises(UsageError, match="positive"):
        resample(np.zeros(3, np.float32), 0, 16000)


# Encoder delay and padding


@pytest.mark.parametrize(
    ("kind", "rate", "late_ms", "longer_ms"),
    [
        ("flac-s16", 44100, 0, 0),
        ("mp4-alac", 44100, 0, 0),
        ("vorbis", 44100, 0, 0),
        ("opus", 16000, 0, 0),
        ("opus", 48000, 0, 0),
        ("webm", 48000, 0, 0),
        ("mp3", 16000, 0, 0),
        ("mp3", 44100, 0, 0),
        ("mp3-lame", 44100, 0, 0),
        # Edit lists count in milliseconds.
        ("m4a", 16000, 0, 2),
        ("m4a", 44100, 0, 2),
        ("m4a", 48000, 0, 2),
        ("mp4-opus", 48000, 0, 2),
        # Containers without an end mark keep the filling of the last packet (up to two frames).
        ("mkv-aac", 48000, 0, 45),
        # Without any statement of the delay it stays: AAC 1024 samples, AMR 5 ms.
        ("adts", 48000, 22, 45),
        ("amr", 8000, 6, 45),
    ],
)
def test_decoded_audio_is_where_it_was(kind: str, rate: int, late_ms: float, longer_ms: float) -> None:
    signal = fx.speechlike(rate, 2.3456)
    audio = load_audio(fx.write(kind, signal, rate), sample_rate=rate)
    expected = len(signal)
    assert 0 <= fx.lag(signal[:, 0], audio.waveform) <= late_ms * rate / 1000
    assert -0.0005 * rate <= len(audio.waveform) - expected <= longer_ms * rate / 1000


# Streaming


@pytest.mark.parametrize("kind", ALL_KINDS)
@pytest.mark.parametrize("chunk", [0.0371, 0.25, 30.0])
def test_chunks_are_the_whole_file(kind: str, chunk: float, files: dict[str, bytes]) -> None:
    whole = load_audio(files[kind], sample_rate=11025)
    with stream_audio(files[kind], chunk=chunk, sample_rate=11025) as stream:
        chunks = list(stream)
    length = round(chunk * 11025)
    assert {len(part) for part in chunks[:-1]} <= {length}
    assert 0 < len(chunks[-1]) <= length
    np.testing.assert_array_equal(np.concatenate(chunks), whole.waveform)
    assert stream.info == whole.info


@settings(max_examples=25)
@given(
    rate=st.sampled_from(RATES),
    target=st.sampled_from((8000, 16000)),
    n=st.integers(1, 60_000),
    chunk=st.floats(0.001, 3),
)
def test_chunks_are_the_whole_file_at_any_rate(rate: int, target: int, n: int, chunk: float) -> None:
    signal = np.random.default_rng(n).uniform(-0.5, 0.5, (n, 2)).astype(np.float32)
    data = fx.write_soundfile(signal, rate, "WAV", "FLOAT")
    whole = load_audio(data, sample_rate=target, allow_silent=True)
    chunks = list(stream_audio(data, chunk=chunk, sample_rate=target, allow_silent=True))
    np.testing.assert_array_equal(np.concatenate([np.zeros(0), *chunks]), whole.waveform)


def test_soundfile_blocks_are_those_of_one_read() -> None:
    """libsndfile's wrapper seeks after each block, which changes MP3 and may change others."""
    for kind in ("vorbis", "opus", "flac-s16"):
        data = fx.write(kind, fx.speechlike(16000, 3.0), 16000)
        at_once, _ = soundfile.read(io.BytesIO(data), dtype="float32")
        np.testing.assert_array_equal(load_audio(data).waveform, at_once)


def test_stream_info_comes_with_the_end(files: dict[str, bytes]) -> None:
    with stream_audio(files["flac-s16"], chunk=0.3) as stream:
        next(stream)
        with pytest.raises(UsageError, match="all chunks"):
            _ = stream.info
        assert len(list(stream)) == 3
    assert stream.info.n_samples == 16000
    assert list(stream) == []


def test_streaming_needs_constant_memory(tmp_path: Path) -> None:
    """An hour of 16 kHz stereo is 460 MB as float32; 20 and 60 minutes take the same few MB."""
    script = """
import resource, sys
from voxfide.audio import stream_audio
n = sum(len(chunk) for chunk in stream_audio(sys.argv[1], chunk=30.0))
print(n, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
    peaks = []
    for minutes in (1, 20):
        path = tmp_path / f"{minutes}.wav"
        with soundfile.SoundFile(path, "w", 8000, 2, "PCM_16") as file:
            for minute in range(minutes):
                file.write(fx.speechlike(8000, 60.0, 2, seed=minute % 3))
        run = subprocess.run(
            [sys.executable, "-c", script, path], capture_output=True, text=True, check=True, timeout=60
        )
        n, peak = map(int, run.stdout.split())
        assert n == minutes * 60 * 16000
        peaks.append(peak)
    assert peaks[1] - peaks[0] < 15_000  # KiB; the 20 minutes are 77 MB at 16 kHz


@pytest.mark.parametrize(
    "arguments", [{"chunk": 0}, {"chunk": -1.0}, {"chunk": float("nan")}, {"chunk": float("inf")}]
)
def test_impossible_chunks(arguments: dict[str, float], files: dict[str, bytes]) -> None:
    with pytest.raises(UsageError, match="chunk"):
        stream_audio(files["wav-s16"], **arguments)


@pytest.mark.parametrize(
    "arguments",
    [{"sample_rate": 0}, {"sample_rate": 10**6}, {"max_duration": 0}, {"max_duration": float("nan")}],
)
def test_impossible_arguments(arguments: dict[str, float], files: dict[str, bytes]) -> None:
    with pytest.raises(UsageError, match="expected"):
        load_audio(files["wav-s16"], **arguments)


@pytest.mark.parametrize("source", [None, 7, io.StringIO("text"), ["a.wav"]])
def test_impossible_sources(source: object) -> None:
    with pytest.raises(UsageError, match="path, bytes or a binary file object"):
        load_audio(source)


# Probing, settings, imports


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_probe_agrees_with_loading(kind: str, files: dict[str, bytes]) -> None:
    probed, loaded = probe_audio(files[kind]), load_audio(files[kind]).info
    for field in ("container", "codec", "sample_rate", "channels", "bit_depth", "decoder", "path"):
        assert getattr(probed, field) == getattr(loaded, field)
    assert probed.duration == pytest.approx(loaded.duration, abs=0.13)  # bit-rate estimates
    if loaded.bit_depth:
        assert probed.duration == pytest.approx(loaded.duration, abs=1e-3)


def test_settings_state_what_determines_the_samples() -> None:
    assert AUDIO_SETTINGS["sample_rate"] == 16000
    assert all(isinstance(value, str | int) for value in AUDIO_SETTINGS.values())


def test_importing_costs_neither_decoders_nor_torch() -> None:
    heavy = {"torch", "av", "soundfile", "soxr", "scipy"}
    script = f"import sys, voxfide.audio; print(*({heavy} & set(sys.modules)))"
    run = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    assert run.stdout.strip() == ""


@pytest.mark.parametrize("kind", ["wav-s16", "mp3"])
def test_decoding_does_not_import_torch(kind: str, files: dict[str, bytes], tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(files[kind])
    script = "import sys, voxfide.audio as a; a.load_audio(sys.argv[1]); print('torch' in sys.modules)"
    run = subprocess.run(
        [sys.executable, "-c", script, path], capture_output=True, text=True, check=True, timeout=60
    )
    assert run.stdout.strip() == "False"
