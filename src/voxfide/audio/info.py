"""What loading returns, and the constants that determine the samples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from voxfide.types import SAMPLE_RATE, Float32Array

RESAMPLER_QUALITY: Final = "VHQ"
"""soxr's 28-bit setting: images and aliases below float32 resolution. Its double-precision
path costs no more here than the 20-bit ``HQ`` (23 ms for a minute of 44.1 kHz on one core)."""

MAX_SAMPLE_RATE: Final = 768_000
"""Hz; a header that says more is damaged."""

MAX_CHANNELS: Final = 64

SILENCE_PEAK: Final = 1.0 / 32768
"""One 16-bit step: a signal that never reaches it is digital silence."""

AUDIO_SETTINGS: Final[dict[str, str | int]] = {
    "version": 1,
    "sample_rate": SAMPLE_RATE,
    "resampler": f"soxr-{RESAMPLER_QUALITY}",
    "downmix": "mean",
    "padding": "trimmed-as-declared",
}
"""Everything that determines the samples of :func:`load_audio` with its defaults; part of
feature fingerprints. ``version`` goes up whenever the same file would give other samples."""


@dataclass(frozen=True)
class AudioInfo:
    """What was found in a file and what was done with it.

    Attributes:
        path: the path, or ``<bytes>``, ``<file object>`` or the file object's name.
        container: ``wav``, ``flac``, ``ogg``, ``mp3``, ``mp4``, ``matroska``, ``amr`` …
        codec: as FFmpeg names it: ``pcm_s16le``, ``flac``, ``vorbis``, ``aac``, ``amr_nb`` …
        sample_rate: of the source, Hz.
        channels: of the source.
        duration: seconds of source audio decoded; for a probe as declared, NaN if unknown.
        bit_depth: sample width of PCM and lossless codecs, ``None`` for lossy ones.
        n_samples: samples returned, at the target rate.
        decoder: ``soundfile`` or ``pyav``.
        warnings: what was odd but not wrong enough to refuse the file.
    """

    path: str
    container: str
    codec: str
    sample_rate: int
    channels: int
    duration: float
    bit_depth: int | None
    n_samples: int
    decoder: str
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Audio:
    """A decoded recording.

    Attributes:
        waveform: ``(samples,)`` float32 mono, full scale ±1.
        sample_rate: of ``waveform``, Hz.
        info: what it came from.
    """

    waveform: Float32Array
    sample_rate: int
    info: AudioInfo
