"""PCM containers, FLAC, Ogg Vorbis and Opus through libsndfile."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Final

import numpy as np
import soundfile

from voxfide.audio.decode import BLOCK_FRAMES, WHOLE, DecoderRefusedError
from voxfide.audio.sniff import Sniffed
from voxfide.audio.source import Window
from voxfide.errors import TruncatedAudioError
from voxfide.types import Float32Array

_UNKNOWN_FRAMES: Final = 1 << 48
_PCM: Final = {  # subtype: FFmpeg's name without byte order, bits
    "PCM_S8": ("pcm_s8", 8),
    "PCM_U8": ("pcm_u8", 8),
    "PCM_16": ("pcm_s16", 16),
    "PCM_24": ("pcm_s24", 24),
    "PCM_32": ("pcm_s32", 32),
    "FLOAT": ("pcm_f32", 32),
    "DOUBLE": ("pcm_f64", 64),
}
_CODECS: Final = {
    "ULAW": "pcm_mulaw",
    "ALAW": "pcm_alaw",
    "IMA_ADPCM": "adpcm_ima_wav",
    "MS_ADPCM": "adpcm_ms",
    "GSM610": "gsm_ms",
}
_ALAC_BITS: Final = {"ALAC_16": 16, "ALAC_20": 20, "ALAC_24": 24, "ALAC_32": 32}
_FLAC_BITS: Final = {"PCM_S8": 8, "PCM_16": 16, "PCM_24": 24}
_BIG_ENDIAN_BY_DEFAULT: Final = ("aiff", "au", "caf", "pvf")


class _Forward(soundfile.SoundFile):
    """Reads strictly forward.

    ``SoundFile.read`` seeks to where it already is after every block, which makes lossy
    codecs restart there: the samples around each block boundary would change.
    """

    def seekable(self) -> bool:
        return False


def _reason(error: soundfile.LibsndfileError) -> str:
    return error.error_string.removeprefix("Error :").strip(" .")


class SoundFileDecoder:
    """See :class:`voxfide.audio.decode.Decoder`."""

    name = "soundfile"

    def __init__(self, file: Window, label: str, found: Sniffed) -> None:
        self._label = label
        self._window = file
        try:
            if file.descriptor is None:
                self._file = _Forward(file)
            else:
                os.lseek(file.descriptor, 0, os.SEEK_SET)
                self._file = _Forward(file.descriptor, closefd=False)
        except soundfile.LibsndfileError as error:
            raise DecoderRefusedError(f"libsndfile: {_reason(error)}") from None
        self.container = found.container
        self.sample_rate: int = self._file.samplerate
        self.channels: int = self._file.channels
        self.codec, self.bit_depth = self._name_codec()
        frames = self._file.frames
        self.n_declared = frames if 0 <= frames < _UNKNOWN_FRAMES else None
        self.is_exact = self.codec.startswith("pcm_")
        self.warnings: list[str] = []

    def _name_codec(self) -> tuple[str, int | None]:
        subtype, endian = self._file.subtype, self._file.endian
        if self.container == "flac":
            return "flac", _FLAC_BITS.get(subtype)
        if subtype in _ALAC_BITS:
            return "alac", _ALAC_BITS[subtype]
        if subtype not in _PCM:
            return _CODECS.get(subtype, subtype.lower()), None
        name, bits = _PCM[subtype]
        big = endian == "BIG" or (endian == "FILE" and self.container in _BIG_ENDIAN_BY_DEFAULT)
        return (name if bits == 8 else name + ("be" if big else "le")), bits

    def blocks(self) -> Iterator[Float32Array]:
        """Blocks of ``BLOCK_FRAMES``, the last one shorter."""
        n_read = 0
        while True:
            block = np.empty((BLOCK_FRAMES, self.channels), np.float32)
            try:
                block = self._file.read(out=block)
            except soundfile.LibsndfileError as error:
                n_good = self._file.tell()
                if n_good > n_read:
                    yield block[: n_good - n_read]
                self._break_off(n_good, _reason(error))
            self._window.check()
            if len(block):
                n_read += len(block)
                yield block
            if len(block) < BLOCK_FRAMES:
                break
        if self.n_declared is not None and n_read < self.n_declared:
            self._break_off(n_read, f"the header declares {self.n_declared:,} samples, {n_read:,} are there")

    def _break_off(self, n_read: int, reason: str) -> None:
        self._window.check()
        at = n_read / self.sample_rate
        raise TruncatedAudioError(self._label, f"decoding broke off after {at:.3f} s: {reason}", WHOLE)

    def close(self) -> None:
        self._file.close()
