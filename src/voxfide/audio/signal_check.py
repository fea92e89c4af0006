"""Downmix, and the running checks of a decoded signal."""

from __future__ import annotations

from typing import Final

import numpy as np

from voxfide.audio.decode import WHOLE
from voxfide.audio.info import SILENCE_PEAK
from voxfide.errors import (
    AudioTooLongError,
    NonFiniteAudioError,
    SilentAudioError,
    TruncatedAudioError,
    UsageError,
)
from voxfide.types import Float32Array, Seconds

_CANCELLED: Final = 0.01
"""Power of the downmix over the channels' mean power: below -20 dB they oppose each other."""

_LOUD: Final = 4.0
"""12 dB above full scale: floating-point samples that were never scaled to ±1."""


class SignalCheck:
    """Turns blocks into a mono signal and watches it go by, in constant memory.

    Raises:
        UsageError: ``channel`` is not among ``channels``.
    """

    def __init__(
        self,
        label: str,
        sample_rate: int,
        channels: int,
        channel: int | None,
        max_duration: Seconds | None,
        allow_silent: bool,
    ) -> None:
        if channel is not None and not 0 <= channel < channels:
            have = "has one channel (0)" if channels == 1 else f"has channels 0…{channels - 1}"
            raise UsageError(f"{label}: no channel {channel}: the audio {have}")
        self._label = label
        self._rate = sample_rate
        self._channel = channel
        self._max_duration = max_duration
        self._allow_silent = allow_silent
        self._low = np.inf
        self._high = -np.inf
        self._mono_power = 0.0
        self._channel_power = 0.0
        self.n_samples = 0
        self.warnings: list[str] = []

    def push(self, block: Float32Array, sample_rate: int) -> Float32Array:
        """``(frames, channels)`` to ``(frames,)``: the mean over channels, or the one asked for.

        Raises:
            AudioTooLongError: the signal passes its limit.
            NonFiniteAudioError: with the time of the first such sample.
            TruncatedAudioError: the stream loses the channel asked for.
        """
        self._rate = sample_rate
        self.check_length(self.n_samples + len(block))
        mono = self._downmix(block)
        if len(mono):
            low, high = float(mono.min()), float(mono.max())
            if not np.isfinite([low, high]).all():
                self._refuse_non_finite(mono)
            self._low, self._high = min(self._low, low), max(self._high, high)
        self.n_samples += len(mono)
        return mono

    def _downmix(self, block: Float32Array) -> Float32Array:
        if self._channel is not None:
            if self._channel >= block.shape[1]:
                reason = f"channel {self._channel} ends after {self.n_samples / self._rate:.3f} s"
                raise TruncatedAudioError(self._label, reason, WHOLE)
            return np.ascontiguousarray(block[:, self._channel])
        if block.shape[1] == 1:
            return np.ascontiguousarray(block[:, 0])
        with np.errstate(invalid="ignore", over="ignore"):
            mono = block.mean(axis=1, dtype=np.float64).astype(np.float32)
            self._mono_power += float(np.vdot(mono, mono))
            self._channel_power += float(np.vdot(block, block)) / block.shape[1]
        return mono

    def _refuse_non_finite(self, mono: Float32Array) -> None:
        first = int(np.flatnonzero(~np.isfinite(mono))[0])
        kind = "NaN" if np.isnan(mono[first]) else "infinite"
        at = (self.n_samples + first) / self._rate
        raise NonFiniteAudioError(self._label, f"has a sample that is {kind} at {at:.6f} s", "finite samples")

    def check_length(self, n_samples: int) -> None:
        """Raises :class:`AudioTooLongError` if ``n_samples`` are more than the limit."""
        limit = self._max_duration
        if limit is not None and n_samples > limit * self._rate:
            reason = f"is longer than {limit:g} s"
            raise AudioTooLongError(self._label, reason, "a shorter file, a higher max_duration, or a stream")

    def finite(self, resampled: Float32Array) -> Float32Array:
        """Passes on what the resampler made, which can overflow only near float32's limits."""
        if max(-self._low, self._high) > 1e37 and not np.isfinite(resampled).all():
            raise NonFiniteAudioError(self._label, "overflows when resampled", "samples within ±1")
        return resampled

    def finish(self) -> None:
        """Judges the whole signal.

        Raises:
            SilentAudioError: no sample reaches one 16-bit step, or all are the same.
        """
        peak = max(-self._low, self._high)
        cancels = self._channel_power > 0 and self._mono_power < _CANCELLED * self._channel_power
        if cancels:
            self.warnings.append("channels are in opposite phase: the downmix cancels")
        if peak < SILENCE_PEAK or self._low == self._high:
            reason = "is digital silence" if peak < SILENCE_PEAK else f"is constant at {self._high:g}"
            if cancels:
                reason += ": its channels are in opposite phase and cancel"
            if not self._allow_silent:
                raise SilentAudioError(self._label, reason, "a signal (allow_silent=True takes silence)")
            self.warnings.append(reason)
        if peak > _LOUD:
            self.warnings.append(f"samples reach {peak:.4g} times full scale")
