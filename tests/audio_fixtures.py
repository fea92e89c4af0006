"""Makes audio files of every kind in memory, for the tests of ``voxfide.audio``."""

from __future__ import annotations

import io
import tempfile
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import soundfile

SOUNDFILE_KINDS = {  # name: (format, subtype, container, codec, bit depth)
    "wav-u8": ("WAV", "PCM_U8", "wav", "pcm_u8", 8),
    "wav-s16": ("WAV", "PCM_16", "wav", "pcm_s16le", 16),
    "wav-s24": ("WAV", "PCM_24", "wav", "pcm_s24le", 24),
    "wav-s32": ("WAV", "PCM_32", "wav", "pcm_s32le", 32),
    "wav-f32": ("WAV", "FLOAT", "wav", "pcm_f32le", 32),
    "wav-f64": ("WAV", "DOUBLE", "wav", "pcm_f64le", 64),
    "wav-alaw": ("WAV", "ALAW", "wav", "pcm_alaw", None),
    "wav-mulaw": ("WAV", "ULAW", "wav", "pcm_mulaw", None),
    "wav-ima": ("WAV", "IMA_ADPCM", "wav", "adpcm_ima_wav", None),
    "wavex": ("WAVEX", "PCM_16", "wav", "pcm_s16le", 16),
    "rf64": ("RF64", "PCM_16", "rf64", "pcm_s16le", 16),
    "w64": ("W64", "PCM_16", "w64", "pcm_s16le", 16),
    "aiff": ("AIFF", "PCM_16", "aiff", "pcm_s16be", 16),
    "au": ("AU", "PCM_16", "au", "pcm_s16be", 16),
    "caf": ("CAF", "PCM_16", "caf", "pcm_s16be", 16),
    "nist": ("NIST", "PCM_16", "nist", "pcm_s16le", 16),
    "flac-s16": ("FLAC", "PCM_16", "flac", "flac", 16),
    "flac-s24": ("FLAC", "PCM_24", "flac", "flac", 24),
    "vorbis": ("OGG", "VORBIS", "ogg", "vorbis", None),
    "opus": ("OGG", "OPUS", "ogg", "opus", None),
    "mp3-lame": ("MP3", "MPEG_LAYER_III", "mp3", "mp3", None),
}
FFMPEG_KINDS = {  # name: (muxer, encoder, container, codec, bit depth)
    "mp3": ("mp3", "mp3", "mp3", "mp3", None),
    "m4a": ("ipod", "aac", "mp4", "aac", None),
    "mp4-alac": ("ipod", "alac", "mp4", "alac", 24),
    "mov-pcm": ("mov", "pcm_s16le", "mp4", "pcm_s16le", 16),
    "mp4-flac": ("mp4", "flac", "mp4", "flac", 16),
    "adts": ("adts", "aac", "adts", "aac", None),
    "mkv-aac": ("matroska", "aac", "matroska", "aac", None),
    "mkv-flac": ("matroska", "flac", "matroska", "flac", 16),
    "webm": ("webm", "libopus", "matroska", "opus", None),
    "mp4-opus": ("mp4", "libopus", "mp4", "opus", None),
    "wma": ("asf", "wmav2", "asf", "wmav2", None),
    "avi-mp3": ("avi", "mp3", "avi", "mp3", None),
    "wav-mp3": ("wav", "mp3", "wav", "mp3", None),
    "mpegts": ("mpegts", "aac", "mpegts", "aac", None),
    "amr": ("amr", "libopencore_amrnb", "amr", "amr_nb", None),
}
LOSSLESS = ("wav-s24", "wav-s32", "wav-f32", "wav-f64", "flac-s24")


def speechlike(rate: int, seconds: float, channels: int = 1, seed: int = 0) -> np.ndarray:
    """``(samples, channels)`` float32: amplitude-modulated noise of 200…3000 Hz, peak 0.5."""
    n = round(rate * seconds)
    rng = np.random.default_rng(seed)
    spectrum = np.fft.rfft(rng.standard_normal((n, channels)), axis=0)
    frequency = np.fft.rfftfreq(n, 1 / rate)
    spectrum[(frequency < 200) | (frequency > 3000)] = 0
    noise = np.fft.irfft(spectrum, n, axis=0)
    envelope = 0.55 + 0.45 * np.sin(2 * np.pi * 3 * np.arange(n) / rate)[:, None]
    return (0.5 * envelope * noise / np.abs(noise).max()).astype(np.float32)


def write_soundfile(signal: np.ndarray, rate: int, container: str, subtype: str, **options) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, signal, rate, format=container, subtype=subtype, **options)
    return file.getvalue()


def write_ffmpeg(
    signal: np.ndarray,
    rate: int,
    muxer: str,
    encoder: str,
    *,
    video: bool = False,
    options: dict[str, str] | None = None,
) -> bytes:
    """Encodes ``(samples, channels)`` in FFmpeg, with a few black pictures if ``video``."""
    layout = {1: "mono", 2: "stereo", 6: "5.1", 8: "7.1", 16: "hexadecagonal"}[signal.shape[1]]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "encoded"
        with av.open(str(path), "w", format=muxer, options=options or {}) as container:
            pictures = container.add_stream("mpeg4", rate=25) if video else None
            sound = container.add_stream(encoder, rate=rate, layout=layout) if encoder else None
            if pictures is not None:
                _encode_pictures(container, pictures)
            if sound is not None:
                sound.bit_rate = 12_200 if "amr" in encoder else 96_000
                frame = av.AudioFrame.from_ndarray(signal.reshape(1, -1), format="flt", layout=layout)
                frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
                container.mux(sound.encode(frame))
                container.mux(sound.encode(None))
        return path.read_bytes()


def _encode_pictures(container, stream) -> None:
    stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
    for number in range(10):
        picture = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")
        picture.pts, picture.time_base = number, Fraction(1, 25)
        container.mux(stream.encode(picture))
    container.mux(stream.encode(None))


def write(kind: str, signal: np.ndarray, rate: int) -> bytes:
    """A file of the named kind."""
    if kind in SOUNDFILE_KINDS:
        return write_soundfile(signal, rate, *SOUNDFILE_KINDS[kind][:2])
    return write_ffmpeg(signal, rate, *FFMPEG_KINDS[kind][:2])


def lag(reference: np.ndarray, other: np.ndarray) -> int:
    """By how many samples ``other`` is late, from the peak of the cross-correlation."""
    n = min(len(reference), len(other))
    size = 2 * n
    cross = np.fft.irfft(
        np.fft.rfft(other[:n].astype(float), size) * np.conj(np.fft.rfft(reference[:n].astype(float), size))
    )
    peak = int(np.argmax(cross))
    return peak - size if peak > n else peak
