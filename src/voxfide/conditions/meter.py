"""All measures of one recording, from a stream, in constant memory."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np

from voxfide.audio import AudioInfo, stream_audio
from voxfide.audio.source import source_size
from voxfide.conditions.background import Background, BackgroundSummary
from voxfide.conditions.level import ActiveLevel
from voxfide.conditions.spectrum import Spectrum
from voxfide.conditions.speech import Segment, SpeechDetector, SpeechModel, SpeechRule
from voxfide.conditions.waveform import Clipping, DigitalSilence
from voxfide.errors import UsageError
from voxfide.types import SAMPLE_RATE, Float32Array, PathLike, Seconds

BLOCK: Final = 1 << 15
"""Samples measured at a time, always as many: results do not depend on the chunks, to the last bit."""

_AUDIO_ONLY: Final = frozenset(
    {"wav", "rf64", "w64", "aiff", "au", "caf", "flac", "ogg", "nist", "mp3", "adts", "amr", "voc"}
)
_LOWEST_SNR: Final = -20.0

MUSIC_STEADINESS: Final = 0.3
"""Steadiness from which sound outside speech is taken for music; see docs/conditions.md."""


@dataclass(frozen=True)
class Conditions:
    """What was measured on a recording; numbers are finite, ``None`` is what could not be told.

    Levels are dB re full scale (a square wave of ±1 is 0 dB).

    Attributes:
        seconds: length.
        speech_seconds: of it, in speech segments (silero-vad).
        speech_share: ``speech_seconds / seconds``.
        speech_level_db: active speech level, ITU-T P.56; as ``snr_db``, ``None`` where there is no speech.
        noise_db: noise floor, the tenth percentile of the levels of 32 ms frames.
        snr_db: ``speech_level_db`` less the noise in it, over ``noise_db``; at least -20.
        peak_db: largest magnitude.
        dc_offset: mean of the samples, full scale ±1.
        flat_share: of all samples, those in flat pieces at the extreme.
        flat_top: how far amplitudes pile up near the extreme; above 1 they do.
        bandwidth_hz: up to where there is speech, in steps of 250 Hz, at most 8000.
        rolloff_95_hz, rolloff_99_hz: below it lies that share of the power, noise included.
        holes_share: of the time-frequency cells of loud frames, those that are empty.
        zero_share: of the time, in stretches of digital silence of 5 ms and more.
        longest_zero_seconds: the longest such stretch.
        dropouts: such stretches that cut into sound.
        background_db: level outside speech segments over the speech level, dB; ``None`` without speech or
            with less than a third of a second outside it.
        background_steadiness: of that sound: 0 noise, towards 1 held tones.
        music_db: ``background_db`` where the steadiness is that of music, from 0.3; else ``None``.
        container, codec, sample_rate: of the file; ``None`` without a file.
        lossy: whether the file's own coding is; says nothing of coding before that.
        bit_rate_kbps: size by duration, for lossy files of audio alone; ``None`` for video containers.
    """

    seconds: Seconds
    speech_seconds: Seconds
    speech_share: float | None = None
    speech_level_db: float | None = None
    noise_db: float | None = None
    snr_db: float | None = None
    peak_db: float | None = None
    dc_offset: float | None = None
    flat_share: float | None = None
    flat_top: float | None = None
    bandwidth_hz: float | None = None
    rolloff_95_hz: float | None = None
    rolloff_99_hz: float | None = None
    holes_share: float | None = None
    zero_share: float | None = None
    longest_zero_seconds: Seconds = 0.0
    dropouts: int = 0
    background_db: float | None = None
    background_steadiness: float | None = None
    music_db: float | None = None
    container: str | None = None
    codec: str | None = None
    sample_rate: int | None = None
    lossy: bool | None = None
    bit_rate_kbps: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain numbers, strings and ``None``, in the order above."""
        return asdict(self)


class ConditionMeter:
    """Measures a 16 kHz mono stream, whatever its chunks.

    Memory is constant but for the list of speech segments, 2000 an hour at most or so.

    Args:
        rule: what makes a speech segment.
        speech: the network that tells speech; see :class:`~voxfide.conditions.speech.SpeechDetector`.

    Attributes:
        segments: speech segments found so far, in order.

    Raises:
        MissingDependencyError: silero-vad or torch is not installed.
        CheckpointError: its weights cannot be read.
    """

    def __init__(self, rule: SpeechRule | None = None, speech: SpeechModel | None = None) -> None:
        self.segments: list[Segment] = []
        self._speech = SpeechDetector(rule, speech)
        self._level, self._spectrum = ActiveLevel(), Spectrum()
        self._clipping, self._silence = Clipping(), DigitalSilence()
        self._background = Background()
        self._block = np.zeros(BLOCK, np.float32)
        self._filled = 0
        self._sum = 0.0
        self._n_samples = 0

    def push(self, chunk: Float32Array) -> None:
        """Takes the next ``(samples,)``, full scale ±1.

        Raises:
            UsageError: not one-dimensional, or not finite.
        """
        if chunk.ndim != 1 or not np.isfinite(chunk).all():
            raise UsageError(f"expected finite samples of shape (samples,), got shape {chunk.shape}")
        taken = 0
        while taken < len(chunk):
            n = min(BLOCK - self._filled, len(chunk) - taken)
            self._block[self._filled : self._filled + n] = chunk[taken : taken + n]
            self._filled += n
            taken += n
            if self._filled == BLOCK:
                self._measure()

    def known_speech(self) -> tuple[list[Segment], Seconds]:
        """What is sure of the segments still open, and the time up to which all speech is known.

        Together with :attr:`segments` this is the speech up to that time, which follows the end of what
        was pushed by some 4.5 s (by more while the detector hovers, see
        :meth:`~voxfide.conditions.speech.Hysteresis.known`), in steps that do not depend on the chunks.
        """
        return self._speech.known()

    def _measure(self) -> None:
        signal = self._block[: self._filled].copy()
        self._filled = 0
        self._n_samples += len(signal)
        self._sum += float(signal.sum(dtype=np.float64))
        self.segments += self._speech.push(signal)
        for part in (self._level, self._spectrum, self._clipping, self._silence, self._background):
            part.push(signal)
        self._background.settle(self.segments, *self._speech.known())

    def finish(self, info: AudioInfo | None = None, n_bytes: int | None = None) -> Conditions:
        """Judges what was pushed; call once, at the end.

        Args:
            info: of the file that the samples came from.
            n_bytes: size of that file.
        """
        if self._filled:
            self._measure()
        self.segments += self._speech.finish()
        self._background.settle(self.segments, [], math.inf)
        if not self._n_samples:
            return Conditions(0.0, 0.0, **_file_facts(info, n_bytes))
        seconds = self._n_samples / SAMPLE_RATE
        speech = float(sum(segment.end - segment.start for segment in self.segments))
        level = self._level.finish()[0] if speech else None
        clipping, silence, spectrum = self._clipping.finish(), self._silence.finish(), self._spectrum.finish()
        return Conditions(
            seconds=seconds,
            speech_seconds=speech,
            speech_share=speech / seconds,
            speech_level_db=level,
            snr_db=_snr(level, spectrum.noise_db),
            dc_offset=self._sum / self._n_samples,
            zero_share=silence.zero_seconds / seconds,
            longest_zero_seconds=silence.longest_zero_seconds,
            dropouts=silence.dropouts,
            **_background_facts(self._background.finish(), level),
            **asdict(clipping),
            **asdict(spectrum),
            **_file_facts(info, n_bytes),
        )


def measure_conditions(path: PathLike, *, rule: SpeechRule | None = None) -> Conditions:
    """Measures a recording as it is decoded, in constant memory.

    Digital silence and files that break off are measured as far as they go.

    Raises:
        AudioError: the file cannot be decoded; see :func:`voxfide.audio.stream_audio`.
        MissingDependencyError, CheckpointError: speech cannot be found; see :class:`ConditionMeter`.
    """
    meter = ConditionMeter(rule)
    with stream_audio(path, allow_silent=True, allow_truncated=True) as stream:
        for chunk in stream:
            meter.push(chunk)
    return meter.finish(stream.info, source_size(path))


def _snr(level_db: float | None, noise_db: float | None) -> float | None:
    if level_db is None or noise_db is None:
        return None
    excess = 10 ** ((level_db - noise_db) / 10) - 1
    return max(_LOWEST_SNR, float(10 * np.log10(excess))) if excess > 0 else _LOWEST_SNR


def _background_facts(found: BackgroundSummary, level_db: float | None) -> dict[str, Any]:
    """Fields of :class:`Conditions` on the sound outside speech."""
    if level_db is None or found.level_db is None or found.steadiness is None:
        return {}
    over = found.level_db - level_db
    return {
        "background_db": over,
        "background_steadiness": found.steadiness,
        "music_db": over if found.steadiness >= MUSIC_STEADINESS else None,
    }


def _file_facts(info: AudioInfo | None, n_bytes: int | None) -> dict[str, Any]:
    if info is None:
        return {}
    lossy = info.bit_depth is None
    known = lossy and n_bytes is not None and info.duration > 0 and info.container in _AUDIO_ONLY
    return {
        "container": info.container,
        "codec": info.codec,
        "sample_rate": info.sample_rate,
        "lossy": lossy,
        "bit_rate_kbps": 8e-3 * n_bytes / info.duration if known and n_bytes is not None else None,
    }
