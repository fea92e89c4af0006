"""The coders themselves: through FFmpeg, through libsndfile, and G.711 by its definition."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from voxfide.types import Float32Array

Run = Callable[[Float32Array, int, float], tuple[Float32Array, int]]
"""Signal ``(samples,)`` within ±1, its rate, and kbps, to what was decoded and its rate."""


@dataclass(frozen=True)
class Coder:
    """A format that can be encoded and decoded.

    Attributes:
        run: the round trip; its delay is left in.
        rates: bit rates in kbps that it has, rising.
        default: kbps where none is asked for.
        takes: sample rates, rising; empty for any.
        summary: one line.
    """

    run: Run
    rates: tuple[float, ...]
    default: float
    takes: tuple[int, ...]
    summary: str

    def sample_rate(self, wanted: int) -> int:
        """The lowest rate it takes that is not below ``wanted``, or else its highest."""
        return next((r for r in self.takes if r >= wanted), self.takes[-1]) if self.takes else wanted


def _ffmpeg(encoder: str, decoder: str, form: str, *, sized_words: bool = False) -> Run:
    """A coder of FFmpeg, packet by packet, without a container around.

    Args:
        form: FFmpeg's name of the encoder's sample format.
        sized_words: the decoder must be told how many bits a sample has.
    """

    def run(signal: Float32Array, rate: int, kbps: float) -> tuple[Float32Array, int]:
        import av

        encode: Any = av.CodecContext.create(encoder, "w")
        encode.sample_rate, encode.layout, encode.format = rate, "mono", form
        encode.bit_rate = round(1000 * kbps)
        encode.thread_count = 1
        encode.open()
        decode: Any = av.CodecContext.create(decoder, "r")
        decode.sample_rate, decode.layout, decode.thread_count = rate, "mono", 1
        if encode.extradata:
            decode.extradata = encode.extradata
        if sized_words:
            decode.options = {"bits_per_coded_sample": str(round(1000 * kbps / rate))}
        size = encode.frame_size or 1024
        pieces: list[Float32Array] = []
        decoded_rate = rate
        frames = [
            _frame(signal[start : start + size], size, form, rate) for start in range(0, len(signal), size)
        ]
        for number, frame in enumerate([*frames, None]):
            if frame is not None:
                frame.pts = number * size
            for packet in [*encode.encode(frame), *([None] if frame is None else [])]:
                for out in decode.decode(packet):
                    decoded_rate = out.sample_rate
                    pieces.append(_samples(out.to_ndarray()))
        return np.concatenate(pieces) if pieces else np.zeros(0, np.float32), decoded_rate

    def _frame(piece: Float32Array, size: int, form: str, rate: int) -> Any:
        import av

        piece = np.pad(piece, (0, size - len(piece)))
        if form.startswith("s16"):
            piece = np.rint(np.clip(piece * 32768, -32768, 32767)).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(piece[np.newaxis], format=form, layout="mono")
        frame.sample_rate = rate
        return frame

    return run


def _samples(block: np.ndarray) -> Float32Array:
    """A decoded frame as float32 ``(samples,)``; of several channels the first."""
    first = np.atleast_2d(block)[0]
    scale = 1 / 32768 if first.dtype == np.int16 else 1.0
    return first.astype(np.float32) * np.float32(scale)


VORBIS_KBPS: Final = (16.0, 20.0, 24.0, 28.0, 32.0, 36.0, 40.0, 44.0, 52.0)


def _vorbis(signal: Float32Array, rate: int, kbps: float) -> tuple[Float32Array, int]:
    worst = 1 - VORBIS_KBPS.index(kbps) / (len(VORBIS_KBPS) - 1)
    return _sndfile(signal, rate, "OGG", "VORBIS", compression_level=worst)


def _gsm(signal: Float32Array, rate: int, kbps: float) -> tuple[Float32Array, int]:
    return _sndfile(signal, rate, "WAV", "GSM610")


def _sndfile(
    signal: Float32Array, rate: int, container: str, subtype: str, compression_level: float | None = None
) -> tuple[Float32Array, int]:
    import soundfile

    file = io.BytesIO()
    with soundfile.SoundFile(
        file, "w", rate, 1, subtype, format=container, compression_level=compression_level
    ) as writer:
        writer.write(signal)
    file.seek(0)
    decoded, decoded_rate = soundfile.read(file, dtype="float32")
    return decoded, int(decoded_rate)


def _mu_law(signal: Float32Array, rate: int, kbps: float) -> tuple[Float32Array, int]:
    """ITU-T G.711, mu-law: eight bits, segments of 16 even steps whose width doubles."""
    magnitude = np.minimum(np.abs(signal) * 8192.0, 8158) + 33
    segment = np.floor(np.log2(magnitude)) - 5
    step = np.exp2(segment + 1)
    decoded = (np.floor(magnitude / step) + 0.5) * step - 33
    return (np.where(signal < 0, -decoded, decoded) / 8192).astype(np.float32), rate


def _a_law(signal: Float32Array, rate: int, kbps: float) -> tuple[Float32Array, int]:
    """ITU-T G.711, A-law: as mu-law, but without its offset; the lowest two segments have equal steps."""
    magnitude = np.minimum(np.abs(signal) * 4096.0, 4095)
    step = np.exp2(np.maximum(np.floor(np.log2(np.maximum(magnitude, 1))) - 4, 1))
    decoded = (np.floor(magnitude / step) + 0.5) * step
    return (np.where(signal < 0, -decoded, decoded) / 4096).astype(np.float32), rate


_MPEG_RATES: Final = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
_NARROW: Final = (8000,)


def _steps(*kbps: float) -> tuple[float, ...]:
    return tuple(float(k) for k in kbps)


FORMATS: Final[dict[str, Coder]] = {
    "mp3": Coder(
        _ffmpeg("libmp3lame", "mp3float", "fltp"),
        _steps(8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160), 32.0,
        _MPEG_RATES, "MPEG-1/2/2.5 layer III, by LAME",
    ),
    "aac": Coder(
        _ffmpeg("aac", "aac", "fltp"), tuple(map(float, range(12, 97, 4))), 32.0,
        _MPEG_RATES, "MPEG-4 AAC, low complexity",
    ),
    "opus": Coder(
        _ffmpeg("libopus", "libopus", "flt"), tuple(map(float, range(6, 129, 1))), 16.0,
        (8000, 12000, 16000, 24000, 48000), "Opus, RFC 6716, for general audio",
    ),
    "vorbis": Coder(_vorbis, VORBIS_KBPS, 32.0, _MPEG_RATES, "Ogg Vorbis, variable rate"),
    "gsm": Coder(_gsm, (13.0,), 13.0, _NARROW, "GSM 06.10 full rate"),
    "amr-nb": Coder(
        _ffmpeg("libopencore_amrnb", "amrnb", "s16"), _steps(4.75, 5.15, 5.9, 6.7, 7.4, 7.95, 10.2, 12.2),
        12.2, _NARROW, "AMR narrow-band, 3GPP TS 26.071",
    ),
    "g722": Coder(_ffmpeg("g722", "g722", "s16"), (64.0,), 64.0, (16000,), "ITU-T G.722, wide-band ADPCM"),
    "g726": Coder(
        _ffmpeg("g726", "g726", "s16", sized_words=True), _steps(16, 24, 32, 40), 32.0, _NARROW,
        "ITU-T G.726, ADPCM",
    ),
    "mu-law": Coder(_mu_law, (64.0,), 64.0, _NARROW, "ITU-T G.711 mu-law, telephone"),
    "a-law": Coder(_a_law, (64.0,), 64.0, _NARROW, "ITU-T G.711 A-law, telephone"),
}  # fmt: skip
