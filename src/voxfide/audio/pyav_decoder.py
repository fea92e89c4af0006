"""Everything else through FFmpeg: MP3, AAC, AMR, and the audio track of videos.

MP3 is read here and not by libsndfile, whose mpg123 writes on stderr from C and leaves out
the last frame of a file without a Xing tag.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Final, NoReturn

import av
import numpy as np

from voxfide.audio.decode import BLOCK_FRAMES, WHOLE, DecoderRefusedError
from voxfide.audio.info import MAX_SAMPLE_RATE
from voxfide.audio.sniff import Sniffed
from voxfide.audio.source import Window
from voxfide.errors import NotAudioError, TruncatedAudioError
from voxfide.types import Float32Array

_DEMUXERS: Final = (
    "aac,ac3,ac4,aiff,amr,amrnb,amrwb,ape,asf,au,avi,avr,caf,dsf,dts,dtshd,eac3,flac,flv,ircam,iff,"
    "ilbc,lc3,loas,matroska,mlp,mov,mp3,mpc,mpc8,mpeg,mpegts,mxf,nistsphere,nut,ogg,oma,pvf,qcp,rm,"
    "rso,shn,sox,tak,truehd,tta,voc,w64,wav,wtv,wv,xwma"
)
"""Containers that hold their audio themselves. FFmpeg also reads playlists (concat, hls, sdp,
dash), which would let a file name other files and network addresses to open."""

_OPTIONS: Final = {
    "format_whitelist": _DEMUXERS,
    "protocol_whitelist": "none",
    "probesize": str(4 << 20),
    "max_streams": "64",
    "max_probe_packets": "1000",
}
_PATIENCE: Final = (60.0, 60.0)  # seconds to open, seconds for a packet
_MAX_PACKETS_WITHOUT_OUTPUT: Final = 5000
_MAX_PADDING: Final = 8192  # frames that an encoder may add to fill its last packets
_EDIT_TICK: Final = Fraction(1, 1000)
_CONTAINERS: Final = {
    "mov,mp4,m4a,3gp,3g2,mj2": "mp4",
    "matroska,webm": "matroska",
    "nistsphere": "nist",
    "aac": "adts",
}
_SCALES: Final = {"i2": 2.0**-15, "i4": 2.0**-31}


class PyAVDecoder:
    """See :class:`voxfide.audio.decode.Decoder`."""

    name = "pyav"
    is_exact = False

    def __init__(self, file: Window, label: str, found: Sniffed) -> None:
        self._label = label
        self._window = file
        self._has_signature = bool(found.container)
        try:
            self._container = av.open(
                file, "r", options=_OPTIONS, metadata_errors="replace", timeout=_PATIENCE, io_open=_refuse
            )
        except av.FFmpegError as error:
            raise DecoderRefusedError(f"FFmpeg: {_reason(error)}") from None
        try:
            self._describe(found)
        except DecoderRefusedError:
            self.close()
            raise

    def _describe(self, found: Sniffed) -> None:
        container_name = self._container.format.name
        self.container = _CONTAINERS.get(container_name, found.container or container_name.partition(",")[0])
        if not self._container.streams.audio:
            raise DecoderRefusedError(f"FFmpeg: {self.container} without an audio track")
        self._stream = self._container.streams.audio[0]
        context = self._stream.codec_context
        if context is None:
            raise DecoderRefusedError("FFmpeg: no decoder for its audio codec")
        if not (context.sample_rate and context.channels):
            raise DecoderRefusedError("FFmpeg: no frame that tells the sample rate")
        context.thread_count = 1
        self.codec: str = context.codec.canonical_name
        self.sample_rate: int = context.sample_rate
        self.channels: int = context.channels
        self.bit_depth = self._find_bit_depth()
        seconds = self._declared_duration()
        self.n_declared = None if seconds is None else round(seconds * self.sample_rate)
        self.warnings: list[str] = []

    def _find_bit_depth(self) -> int | None:
        if self.codec.startswith(("pcm_s", "pcm_u", "pcm_f")):
            return int("".join(c for c in self.codec if c.isdigit()) or 0) or None
        setup = self._stream.codec_context.extradata or b""
        if self.codec == "flac" and len(setup) >= 18:  # STREAMINFO
            return ((setup[12] & 1) << 4 | setup[13] >> 4) + 1
        if self.codec == "alac" and len(setup) >= 36:  # ALACSpecificConfig behind its atom header
            return setup[17]
        return None

    def _declared_duration(self) -> Fraction | None:
        stream = self._stream
        if stream.duration is not None and stream.duration > 0 and stream.time_base:
            return stream.duration * stream.time_base
        overall = self._container.duration
        return Fraction(overall, av.time_base) if overall and overall > 0 else None

    def blocks(self) -> Iterator[Float32Array]:
        """Blocks of about ``BLOCK_FRAMES``: short codec frames are joined."""
        parts: list[Float32Array] = []
        held = 0
        frames = self._trimmed(self._frames())
        try:
            for frame in frames:
                if parts and frame.shape[1] != parts[0].shape[1]:
                    yield np.concatenate(parts)
                    parts, held = [], 0
                parts.append(frame)
                held += len(frame)
                if held >= BLOCK_FRAMES:
                    yield np.concatenate(parts)
                    parts, held = [], 0
        except TruncatedAudioError:
            if parts:
                yield np.concatenate(parts)
            raise
        if parts:
            yield np.concatenate(parts)

    def _frames(self) -> Iterator[Float32Array]:
        """Decoded frames ``(frames, channels)``; libav itself trims the declared delay."""
        n_decoded = n_barren = 0
        trouble: str | None = None
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets, None)
                decoded = packet.decode() if packet is not None else []
            except IndexError:  # PyAV, where damage made libav renumber its streams
                self._break_off(n_decoded, "the list of streams changed")
            except av.FFmpegError as error:
                decoded = []
                if self.codec != "mp3" or n_decoded == 0:
                    self._break_off(n_decoded, _reason(error))
                trouble = trouble or _reason(error)
            self._window.check()
            if packet is None:
                break
            n_barren = 0 if decoded else n_barren + 1
            if n_barren > _MAX_PACKETS_WITHOUT_OUTPUT:
                self._break_off(n_decoded, f"{n_barren:,} packets in a row gave no samples")
            for frame in decoded:
                if frame.samples == 0:
                    continue
                if trouble:
                    self._break_off(n_decoded, trouble)
                samples = self._to_float(frame, n_decoded)
                n_decoded += len(samples)
                yield samples
        if trouble:  # MP3 has no end mark: players ignore tags of any kind behind the last frame
            self.warnings.append("bytes after the last MP3 frame that are no audio")

    def _to_float(self, frame: av.AudioFrame, n_decoded: int) -> Float32Array:
        if not 0 < frame.sample_rate <= MAX_SAMPLE_RATE:
            self._break_off(n_decoded, f"a frame declares {frame.sample_rate} Hz")
        if n_decoded == 0:  # the header may not know of HE-AAC's doubled rate and stereo
            self.sample_rate, self.channels = frame.sample_rate, frame.layout.nb_channels
        if frame.sample_rate != self.sample_rate:
            change = f"the sample rate changes from {self.sample_rate} to {frame.sample_rate} Hz"
            self._break_off(n_decoded, change)
        dtype = av.audio.frame.format_dtypes.get(frame.format.name)
        if dtype is None:
            reason = f"holds samples of an unknown kind ({frame.format.name})"
            raise NotAudioError(self._label, reason, "integer or floating-point samples")
        samples = _samples(frame, np.dtype(dtype))
        if dtype == "u1":
            return (samples.astype(np.float32) - np.float32(128)) * np.float32(1 / 128)
        with np.errstate(over="ignore", invalid="ignore"):
            return samples.astype(np.float32) * np.float32(_SCALES.get(dtype, 1.0))

    def _trimmed(self, frames: Iterator[Float32Array]) -> Iterator[Float32Array]:
        """Cuts an MP4's track at its declared end, if no more than codec padding lies behind.

        libav trims what the edit list skips in front but not the filling of the last packet.
        Edit lists mostly count in milliseconds: one more is kept rather than one lost.
        """
        n_out, held_back = 0, []
        end: int | None = None
        for samples in frames:
            if n_out == 0 and self.container == "mp4":
                seconds = self._declared_duration()
                end = None if seconds is None else round((seconds + _EDIT_TICK) * self.sample_rate)
            n_out += len(samples)
            if end is None or n_out <= end:
                yield samples
                continue
            keep = len(samples) - min(len(samples), n_out - end)
            if keep:
                yield samples[:keep]
            held_back.append(samples[keep:])
            if n_out - end > _MAX_PADDING:
                yield from held_back
                end, held_back = None, []

    def _break_off(self, n_decoded: int, reason: str) -> NoReturn:
        self._window.check()
        if n_decoded == 0 and not self._has_signature:
            raise NotAudioError(self._label, f"is not audio: FFmpeg: {reason}", "an audio file")
        at = n_decoded / self.sample_rate
        raise TruncatedAudioError(self._label, f"decoding broke off after {at:.3f} s: {reason}", WHOLE)

    def close(self) -> None:
        self._container.close()


def _reason(error: av.FFmpegError) -> str:
    return error.strerror or str(error)


def _samples(frame: av.AudioFrame, dtype: np.dtype) -> np.ndarray:
    """The samples of a frame, ``(frames, channels)``.

    Not by ``to_ndarray``: ``AudioFrame.planes`` runs past the end of the list of planes
    where eight or more are full, and reading those that follow crashes.
    """
    if not frame.format.is_planar:
        packed = np.frombuffer(frame.planes[0], dtype, frame.samples * frame.layout.nb_channels)
        return packed.reshape(frame.samples, frame.layout.nb_channels)
    if frame.layout.nb_channels > 8:
        converter = av.AudioResampler(format=frame.format.packed)
        return np.concatenate([_samples(packed, dtype) for packed in converter.resample(frame)])
    planes = frame.planes[: frame.layout.nb_channels]
    return np.stack([np.frombuffer(plane, dtype, frame.samples) for plane in planes], axis=1)


def _refuse(url: str, *_: object) -> NoReturn:
    """A container may not make FFmpeg open anything beside itself."""
    raise FileNotFoundError(f"refused to open {url!r}")
