"""Every way in which a file can be bad has its own error, and leaves nothing behind."""

from __future__ import annotations

import codecs
import contextlib
import gc
import io
import os
import pickle
import struct
import tempfile
import time
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import soundfile

import audio_fixtures as fx
from voxfide.audio import load_audio, probe_audio, stream_audio
from voxfide.audio.source import Window
from voxfide.errors import (
    AudioError,
    AudioNotFoundError,
    AudioTooLongError,
    EmptyAudioError,
    NonFiniteAudioError,
    NotAudioError,
    SilentAudioError,
    TruncatedAudioError,
    UsageError,
)

RATE = 16000
SIGNAL = fx.speechlike(RATE, 2.0)


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    kinds = (*fx.SOUNDFILE_KINDS, *fx.FFMPEG_KINDS)
    made = {kind: fx.write(kind, SIGNAL, RATE) for kind in kinds if kind != "amr"}
    made["amr"] = fx.write("amr", fx.speechlike(8000, 2.0), 8000)
    made["mp4-fast"] = fx.write_ffmpeg(SIGNAL, RATE, "ipod", "aac", options={"movflags": "faststart"})
    return made


def fails(error: type[AudioError], source: object, match: str | None = None, **options: object) -> AudioError:
    """Whole read and stream raise the same, with all three parts of the message."""
    with pytest.raises(error, match=match) as whole:
        load_audio(source, **options)
    caught = whole.value
    assert type(caught) is error
    assert caught.path
    assert caught.reason
    assert caught.expected
    assert str(caught) == str(pickle.loads(pickle.dumps(caught)))
    if not hasattr(source, "read"):
        with pytest.raises(error, match=match), stream_audio(source, **options) as stream:
            list(stream)
    return caught


# Files that are not there


def test_missing_directory_device_and_pipe(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path, reason in (
        (tmp_path / "none.wav", "no such file"),
        (tmp_path, "a directory"),
        ("/dev/null", "not a regular file"),
        (pipe, "not a regular file"),
        ("a\0b.wav", "null"),
        (tmp_path / ("long" * 100), "too long"),
    ):
        assert fails(AudioNotFoundError, path, reason).path == str(path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(fx.write("wav-s16", SIGNAL, RATE))
    path.chmod(0)
    fails(AudioNotFoundError, path, "[Pp]ermission")


@pytest.mark.parametrize("kind", ["wav-s16", "m4a", "flac-s16"])
def test_a_file_object_that_fails(kind: str, files: dict[str, bytes], capfd: pytest.CaptureFixture) -> None:
    class Failing(io.BytesIO):
        def read(self, n: int = -1) -> bytes:
            if self.tell() > 3000:
                raise OSError(5, "Input/output error")
            return super().read(n)

    fails(AudioNotFoundError, Failing(files[kind]), "Input/output error")
    closed = io.BytesIO(files[kind])
    closed.close()
    fails(AudioNotFoundError, closed, "closed")
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("kind", ["wav-s16", "m4a", "flac-s16"])
def test_an_interrupt_is_not_swallowed(kind: str, files: dict[str, bytes]) -> None:
    """Decoders read through callbacks from C, which lose exceptions."""

    class Interrupted(io.BytesIO):
        def read(self, n: int = -1) -> bytes:
            if self.tell() > 9000:
                raise KeyboardInterrupt
            return super().read(n)

    with pytest.raises(KeyboardInterrupt):
        load_audio(Interrupted(files[kind]))


def test_a_pipe_is_buffered_up_to_a_limit(files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("voxfide.audio.source.MAX_SPOOLED_BYTES", 10_000)
    reader, writer = os.pipe()
    os.write(writer, files["wav-s16"][:20_000])
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        fails(AudioTooLongError, pipe, "too large to buffer")


def test_a_decoder_that_circles_is_stopped() -> None:
    window = Window(io.BytesIO(bytes(1000)), "x", 0, 1000)
    n_reads = 0
    while window.at(0, 10):
        n_reads += 1
    assert 1000 < n_reads < 1_000_000
    with pytest.raises(NotAudioError, match="over and over"):
        window.check()


def test_a_text_file_object_is_a_mistake_of_the_caller(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(b"RIFF")
    with codecs.open(str(path), encoding="utf-8") as file, pytest.raises(UsageError, match="binary"):
        load_audio(file)


# Files that are not audio


def png() -> bytes:
    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(4)))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    "data",
    [
        b"%PDF-1.7\n" + bytes(range(256)) * 20,
        png(),
        b"The quick brown fox jumps over the lazy dog.\n" * 100,
        b"utterance_id,path,label\na,a.wav,spoof\n" * 50,
        b"<html><body>404</body></html>",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n",
        bytes(20_000),
        b"\xff" * 20_000,
        b"x",
        b"RIFF",
        Path(__file__).read_bytes(),
    ],
    ids=["pdf", "png", "text", "csv", "html", "lfs", "zeros", "ones", "byte", "riff", "python"],
)
def test_other_content(data: bytes) -> None:
    fails(NotAudioError, data)
    with pytest.raises(NotAudioError):
        probe_audio(data)


def test_noise_is_not_audio() -> None:
    rng = np.random.default_rng(0)
    for n in rng.integers(1, 20_000, 150):
        with pytest.raises(AudioError):
            load_audio(rng.bytes(n))


def test_video_without_sound() -> None:
    for muxer in ("mp4", "matroska"):
        fails(NotAudioError, fx.write_ffmpeg(SIGNAL, RATE, muxer, "", video=True), "without an audio track")


def test_a_playlist_cannot_name_other_files(tmp_path: Path, files: dict[str, bytes]) -> None:
    """FFmpeg would open what concat, HLS and SDP files name: local files and addresses."""
    secret = tmp_path / "secret.wav"
    secret.write_bytes(files["wav-s16"])
    for text in (
        f"ffconcat version 1.0\nfile {secret}\n",
        f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{secret.as_uri()}\n#EXT-X-ENDLIST\n",
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 5004 RTP/AVP 0\n",
    ):
        path = tmp_path / "secret.ffconcat"
        path.write_text(text)
        fails(NotAudioError, path)


@pytest.mark.parametrize(
    ("at", "value"), [(24, 0), (24, 800_000), (24, 0xFFFFFFFF), (22, 0), (22, 65), (22, 0xFFFF)]
)
def test_absurd_headers(at: int, value: int) -> None:
    data = bytearray(fx.write_soundfile(SIGNAL, RATE, "WAV", "PCM_16"))
    width = 4 if at == 24 else 2
    data[at : at + width] = value.to_bytes(width, "little")
    with pytest.raises(NotAudioError):
        load_audio(bytes(data))


# Files that hold too little


def test_empty(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.touch()
    fails(EmptyAudioError, path, "no bytes")
    fails(EmptyAudioError, b"")
    at_end = io.BytesIO(b"abc")
    at_end.seek(3)
    fails(EmptyAudioError, at_end)
    for container, subtype in (("WAV", "PCM_16"), ("WAV", "FLOAT"), ("AIFF", "PCM_16"), ("CAF", "PCM_24")):
        fails(EmptyAudioError, fx.write_soundfile(np.zeros((0, 1)), RATE, container, subtype), "no samples")
    followed = bytearray(fx.write_soundfile(np.zeros((0, 1)), RATE, "WAV", "PCM_16")) + b"LIST\x04\0\0\0INFO"
    fails(EmptyAudioError, bytes(followed), "no samples")


TRUNCATABLE = (
    *("wav-s16", "wav-f32", "wav-alaw", "wavex", "rf64", "w64", "aiff", "au", "caf", "nist", "flac-s16"),
    *("vorbis", "opus", "m4a", "mp4-fast", "mp4-alac", "mkv-aac", "webm", "wma", "avi-mp3", "adts", "amr"),
    *("mp3", "mp3-lame"),
)


@pytest.mark.parametrize("kind", TRUNCATABLE)
@pytest.mark.parametrize("kept", [0.25, 0.5, 0.9])
def test_truncated(kind: str, kept: float, files: dict[str, bytes]) -> None:
    data = files[kind][: int(kept * len(files[kind]))]
    fails(TruncatedAudioError, data)
    # Nothing can be had of an MP4 with its index at the end, or of less than a page or two of Ogg.
    if kind in ("m4a", "mp4-alac") or (kind in ("vorbis", "opus") and kept < 0.6):
        with pytest.raises(TruncatedAudioError):
            load_audio(data, allow_truncated=True)
        return
    audio = load_audio(data, allow_truncated=True)
    whole = load_audio(files[kind]).waveform
    assert any("truncated" in warning or "broke off" in warning for warning in audio.info.warnings)
    assert 0 < len(audio.waveform) < len(whole)
    n = len(audio.waveform) - 2048  # lossy codecs need the next frame for the last samples
    if n > 0:
        np.testing.assert_allclose(audio.waveform[:n], whole[:n], atol=1e-4)


@pytest.mark.parametrize("kind", ["wav-s16", "wav-s24", "flac-s16", "m4a", "mkv-aac", "vorbis", "opus"])
def test_a_single_missing_byte_counts(kind: str, files: dict[str, bytes]) -> None:
    fails(TruncatedAudioError, files[kind][:-1])


def test_ogg_without_an_end_mark_is_a_doubt_only() -> None:
    """Some recorders never write the mark; a cut between pages looks the same."""
    data = fx.write_soundfile(fx.speechlike(RATE, 6.0), RATE, "OGG", "VORBIS")
    cut = data[: data.rindex(b"OggS")]
    audio = load_audio(cut)
    assert 1 < audio.info.duration < 6
    assert "may have been cut" in audio.info.warnings[0]


def test_flac_that_declares_more_than_it_holds(files: dict[str, bytes]) -> None:
    data = bytearray(files["flac-s16"])
    data[21:26] = (int.from_bytes(data[21:26], "big") + 5000).to_bytes(5, "big")
    fails(TruncatedAudioError, bytes(data), "declares 37,000 samples, 32,000 are there")


def test_damage_in_the_middle(files: dict[str, bytes]) -> None:
    for kind in ("flac-s16", "adts"):
        data = bytearray(files[kind])
        middle = len(data) // 2
        data[middle : middle + 400] = bytes(400)
        fails(TruncatedAudioError, bytes(data), "broke off after")
        audio = load_audio(bytes(data), allow_truncated=True)
        assert 0.2 < audio.info.duration < 1.9


def test_probe_describes_a_truncated_file(files: dict[str, bytes]) -> None:
    info = probe_audio(files["wav-s16"][:-100])
    assert "declares 64,000 bytes, the file holds 63,900" in info.warnings[0]


# Signals that cannot be analysed


def test_silence() -> None:
    quiet = np.random.default_rng(0).uniform(-1, 1, RATE)
    for signal, reason in (
        (np.zeros(RATE), "digital silence"),
        (0.9 / 32768 * quiet, "digital silence"),
        (np.full(RATE, 0.25), "constant at 0.25"),
        (np.stack([quiet, -quiet], 1), "opposite phase"),
    ):
        data = fx.write_soundfile(signal, RATE, "WAV", "FLOAT")
        fails(SilentAudioError, data, reason)
        audio = load_audio(data, allow_silent=True)
        assert len(audio.waveform) == RATE
        assert any(reason in warning for warning in audio.info.warnings)
    faint = fx.write_soundfile(2 / 32768 * np.sign(quiet), RATE, "WAV", "PCM_16")
    assert load_audio(faint).info.warnings == ()


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize(("bad", "name"), [(np.nan, "NaN"), (np.inf, "infinite"), (-np.inf, "infinite")])
def test_non_finite(bad: float, name: str, channels: int) -> None:
    signal = fx.speechlike(RATE, 2.0, channels)
    signal[20_000:20_002, -1] = bad
    data = fx.write_soundfile(signal, RATE, "WAV", "FLOAT")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fails(NonFiniteAudioError, data, rf"{name} at 1\.250000 s")
        if channels == 2:
            assert load_audio(data, channel=0).info.warnings == ()


def test_values_that_overflow() -> None:
    extremes = np.where(np.random.default_rng(0).random(RATE) < 0.5, -3e38, 3e38)
    fails(NonFiniteAudioError, fx.write_soundfile(extremes, 44100, "WAV", "FLOAT"), "overflows")
    unscaled = fx.write_soundfile(32767 * SIGNAL, RATE, "WAV", "FLOAT")
    assert "times full scale" in load_audio(unscaled).info.warnings[0]


# Files that are too long


@pytest.mark.parametrize("kind", ["wav-s16", "flac-s16", "m4a", "mp3", "opus", "amr"])
def test_too_long(kind: str, files: dict[str, bytes]) -> None:
    fails(AudioTooLongError, files[kind], "longer than 1.5 s", max_duration=1.5)
    assert load_audio(files[kind], max_duration=2.2).info.duration == pytest.approx(2, abs=0.2)
    assert load_audio(files[kind], max_duration=None).info.duration == pytest.approx(2, abs=0.2)


def test_ten_hours_of_wav_fail_at_once(tmp_path: Path) -> None:
    path = tmp_path / "long.wav"
    data = bytearray(fx.write_soundfile(SIGNAL, RATE, "WAV", "PCM_16"))
    n_bytes = 10 * 3600 * RATE * 2
    at = data.index(b"data") + 4
    data[at : at + 4] = n_bytes.to_bytes(4, "little")
    with path.open("wb") as file:  # sparse
        file.write(data)
        file.truncate(at + 4 + n_bytes)
    start = time.perf_counter()
    fails(AudioTooLongError, path, "longer than 3600 s", max_duration=3600.0)
    assert time.perf_counter() - start < 1


def test_a_decompression_bomb_stops_while_decoding(tmp_path: Path) -> None:
    """Hours of silence in little FLAC, whose header says that it is short."""
    path = tmp_path / "bomb.flac"
    with soundfile.SoundFile(path, "w", 8000, 1, "PCM_16") as file:
        for _ in range(60):
            file.write(np.zeros(60 * 8000, np.int16))
    data = bytearray(path.read_bytes())
    assert len(data) < 200_000
    data[21:26] = ((int.from_bytes(data[21:26], "big") >> 36 << 36) + 0).to_bytes(5, "big")
    fails(AudioTooLongError, bytes(data), max_duration=60.0)


# Nothing is left behind


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts open files through /proc")
def test_files_are_closed_and_nothing_is_left(
    files: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = tmp_path / "tmp"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    load_audio(files["wav-s16"])
    load_audio(files["m4a"])
    gc.collect()
    before = open_files()
    gc.disable()  # closing must not wait for the garbage collector
    try:
        for kind, data in files.items():
            for name, content in (("good", data), ("cut", data[: len(data) // 2]), ("bad", data[:30])):
                path = tmp_path / f"{kind}-{name}"
                path.write_bytes(content)
                for options in ({}, {"allow_truncated": True}, {"max_duration": 0.1}, {"channel": 3}):
                    with contextlib.suppress(AudioError, UsageError):
                        load_audio(path, **options)
                with contextlib.suppress(AudioError):
                    probe_audio(path)
                with path.open("rb") as file:
                    with contextlib.suppress(AudioError):
                        load_audio(file)
                    assert not file.closed
        with stream_audio(tmp_path / "m4a-good", chunk=0.1) as stream:
            next(stream)
        assert open_files() <= before
    finally:
        gc.enable()
    assert list(scratch.iterdir()) == []


def test_decoders_keep_quiet(files: dict[str, bytes], capfd: pytest.CaptureFixture) -> None:
    for data in files.values():
        for content in (data, data[: len(data) // 2], data[:50], data + b"junk" * 100, data[500:]):
            with contextlib.suppress(AudioError):
                load_audio(content)
    captured = capfd.readouterr()
    assert captured.err == ""
    assert captured.out == ""
