"""Chooses the decoder by content and opens it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Protocol

from voxfide.audio.info import MAX_CHANNELS, MAX_SAMPLE_RATE
from voxfide.audio.sniff import Sniffed
from voxfide.audio.source import Window
from voxfide.audio.structure import ogg_streams, wav_data, wav_size_left_open
from voxfide.errors import NotAudioError, TruncatedAudioError
from voxfide.types import Float32Array

BLOCK_FRAMES: Final = 8192
"""Frames decoded at a time; nothing depends on it but memory and overhead."""

EXPECTED: Final = "an audio file or a video with an audio track"
WHOLE: Final = "the whole file (allow_truncated=True takes what there is)"

_LIBSNDFILE: Final = frozenset(
    {"wav", "rf64", "w64", "aiff", "au", "caf", "flac", "ogg", "nist", "voc", "pvf", "ircam"}
)
_MPEG_TAGS: Final = (0x50, 0x55)


class DecoderRefusedError(Exception):
    """A decoder does not open this file; another may."""


class Decoder(Protocol):
    """A file opened for decoding, front to back, once.

    ``n_declared`` is the number of frames that the header promises, ``None`` if it does
    not say; ``is_exact`` says that these frames are there for certain (plain PCM).
    ``warnings`` may grow while decoding. :meth:`blocks` yields ``(frames, channels)``
    float32 and raises :class:`TruncatedAudioError` where decoding breaks off.
    """

    name: str
    container: str
    codec: str
    sample_rate: int
    channels: int
    bit_depth: int | None
    n_declared: int | None
    is_exact: bool
    warnings: list[str]

    def blocks(self) -> Iterator[Float32Array]: ...

    def close(self) -> None: ...


def open_decoder(file: Window, label: str, found: Sniffed, missing: str | None) -> Decoder:
    """Opens ``file`` with libsndfile where it is good at the content, else with FFmpeg.

    Args:
        missing: what the container promises but lacks, for the error if nothing opens it.

    Raises:
        AudioNotFoundError: reading failed.
        NotAudioError: no decoder knows the content, or its header is absurd.
        TruncatedAudioError: the file breaks off too early to be opened.
    """
    from voxfide.audio.pyav_decoder import PyAVDecoder
    from voxfide.audio.soundfile_decoder import SoundFileDecoder

    if found.foreign:
        raise NotAudioError(label, f"is {found.foreign}", EXPECTED)
    openers: list[type[SoundFileDecoder] | type[PyAVDecoder]] = [PyAVDecoder]
    if found.container in _LIBSNDFILE and not _needs_ffmpeg(file, found.container):
        openers.insert(0, SoundFileDecoder)
    refusals = []
    for opener in openers:
        file.seek(0)
        try:
            decoder = opener(file, label, found)
        except DecoderRefusedError as refusal:
            file.check()
            refusals.append(str(refusal))
            continue
        _check_header(decoder, label)
        return decoder
    if missing is not None:
        raise TruncatedAudioError(label, f"truncated {found.container}: {missing}", "the whole file")
    what = f"looks like {found.container} but cannot be decoded" if found.container else "is not audio"
    raise NotAudioError(label, f"{what}: {'; '.join(dict.fromkeys(refusals))}", EXPECTED)


def _needs_ffmpeg(file: Window, container: str) -> bool:
    """Content that libsndfile opens but reads wrongly or only in part."""
    if container in ("wav", "rf64"):
        # It takes a data size of 0 at its word, and guesses the length of MPEG audio.
        return wav_data(file)[0] in _MPEG_TAGS or wav_size_left_open(file)
    if container == "ogg":
        first, last = ogg_streams(file)
        return first != last  # it reads the first of chained streams
    return False


def _check_header(decoder: Decoder, label: str) -> None:
    problem = None
    if not 0 < decoder.sample_rate <= MAX_SAMPLE_RATE:
        problem = f"declares a sample rate of {decoder.sample_rate:,} Hz"
    elif not 0 < decoder.channels <= MAX_CHANNELS:
        problem = f"declares {decoder.channels:,} channels"
    if problem is not None:
        decoder.close()
        raise NotAudioError(label, problem, f"1…{MAX_SAMPLE_RATE:,} Hz and 1…{MAX_CHANNELS} channels")
