"""A live stream of PCM: resampled, analysed as it comes, with a running verdict."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from voxfide.analysis.recording import RecordingAnalyser
from voxfide.analysis.result import DetectorFacts, Window
from voxfide.analysis.settings import AnalysisSettings
from voxfide.audio import AudioInfo
from voxfide.audio.resample import Resampler
from voxfide.errors import AudioTooLongError, EmptyAudioError, NonFiniteAudioError, UsageError
from voxfide.serve.analyst import RuleOptions
from voxfide.types import SAMPLE_RATE, Float32Array, Seconds

if TYPE_CHECKING:
    from voxfide.detectors import AnyDetector

NAME: Final = "<stream>"
SHOWN_STRETCHES: Final = 20
"""The latest marked stretches in an update; all of them are in the final analysis."""

_LOWEST_RATE: Final = 4000
_HIGHEST_RATE: Final = 192_000
_MOST_CHANNELS: Final = 8
_SETTINGS: Final = replace(AnalysisSettings(), batch=1)  # a window is scored as soon as it can be
_ENCODINGS: Final = {"s16le": ("<i2", 1 / 32768, 16), "f32le": ("<f4", 1.0, 32)}


class LiveStream:
    """One stream. Memory is constant but for a few numbers for each window and speech segment.

    Args:
        detector: scores windows.
        facts: of the detector.
        sample_rate: of the stream, 4,000 to 192,000 Hz.
        encoding: ``s16le`` or ``f32le``, channels interleaved.
        channels: averaged.
        rule: from score to verdict.
        max_seconds: that the stream may last.

    Raises:
        UsageError: a rate, encoding or number of channels that is not taken.
    """

    def __init__(
        self,
        detector: AnyDetector,
        facts: DetectorFacts,
        *,
        sample_rate: int,
        encoding: str,
        channels: int = 1,
        rule: RuleOptions | None = None,
        max_seconds: Seconds = float("inf"),
    ) -> None:
        if not _LOWEST_RATE <= sample_rate <= _HIGHEST_RATE:
            raise UsageError(f"sample_rate {sample_rate}: expected {_LOWEST_RATE}…{_HIGHEST_RATE} Hz")
        if encoding not in _ENCODINGS:
            raise UsageError(f"encoding {encoding!r}: expected {' or '.join(_ENCODINGS)}")
        if not 1 <= channels <= _MOST_CHANNELS:
            raise UsageError(f"channels {channels}: expected 1…{_MOST_CHANNELS}")
        self.sample_rate, self.encoding, self.channels = sample_rate, encoding, channels
        self._rule = (rule or RuleOptions()).rule(detector)
        self._analyser = RecordingAnalyser(detector, _SETTINGS, rule=self._rule, facts=facts)
        self._resampler = Resampler(sample_rate, SAMPLE_RATE)
        self._max_samples = max_seconds * sample_rate
        self._n_samples = 0
        self._rest = b""

    @property
    def seconds(self) -> Seconds:
        """Heard so far."""
        return self._n_samples / self.sample_rate

    def push(self, data: bytes) -> list[Window]:
        """Takes bytes, cut anywhere; gives the windows that were scored.

        Raises:
            NonFiniteAudioError: samples that are no numbers.
            AudioTooLongError: the stream lasts longer than it may.
        """
        signal = self._samples(data)
        self._n_samples += len(signal)
        if self._n_samples > self._max_samples:
            limit = self._max_samples / self.sample_rate
            raise AudioTooLongError(NAME, f"lasts longer than {limit:g} s", f"at most {limit:g} s")
        resampled = self._resampler.push(signal)
        return self._analyser.push(resampled) if len(resampled) else []

    def _samples(self, data: bytes) -> Float32Array:
        kind, scale, _ = _ENCODINGS[self.encoding]
        joined = self._rest + data
        frame = np.dtype(kind).itemsize * self.channels
        whole = len(joined) - len(joined) % frame
        self._rest = joined[whole:]
        raw = np.frombuffer(joined[:whole], kind).reshape(-1, self.channels)
        signal = raw.mean(axis=1, dtype=np.float64) * scale
        if not np.isfinite(signal).all():
            raise NonFiniteAudioError(
                NAME, f"a sample after {self.seconds:.2f} s is no number", "finite samples"
            )
        return signal.astype(np.float32)

    def update(self, windows: list[Window]) -> dict[str, Any]:
        """What is known by now, with the windows that are new."""
        analyser = self._analyser
        score = analyser.score
        stretches = analyser.stretches
        return {
            "type": "update",
            "seconds": self.seconds,
            "score": score,
            "probability_bonafide": self._rule.probability(score),
            "prior": self._rule.prior,
            "verdict": self._rule.verdict(score),
            "windows": [window._asdict() for window in windows],
            "stretches": [stretch._asdict() for stretch in stretches[-SHOWN_STRETCHES:]],
            "n_stretches": len(stretches),
        }

    def finish(self) -> dict[str, Any]:
        """The whole analysis; call once, at the end.

        Raises:
            EmptyAudioError: nothing was heard.
        """
        if not self._n_samples:
            raise EmptyAudioError(NAME, "holds no samples", "at least one sample of audio")
        tail = self._resampler.flush()
        if len(tail):
            self._analyser.push(tail)
        analysis = self._analyser.finish(self._info())
        return {"type": "final", "analysis": analysis.to_json()}

    def _info(self) -> AudioInfo:
        return AudioInfo(
            path=NAME,
            container="pcm",
            codec=f"pcm_{self.encoding}",
            sample_rate=self.sample_rate,
            channels=self.channels,
            duration=self.seconds,
            bit_depth=_ENCODINGS[self.encoding][2],
            n_samples=round(self._analyser.seconds * SAMPLE_RATE),
            decoder="none",
        )
