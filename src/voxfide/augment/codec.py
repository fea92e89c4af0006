"""Lossy coding and back, in memory, without the codec's delay."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import ClassVar

import numpy as np
from scipy.signal import correlate

from voxfide.audio import resample
from voxfide.augment.base import Augmentation, Drawn, Spread, fit
from voxfide.augment.coders import FORMATS, Coder
from voxfide.types import FloatArray

FLUSH = 0.3
"""Seconds of silence behind the signal, which push its end out of the coder."""

HEADROOM = 0.999
PROBE = 2.0
"""Seconds of the signal by which a coder's delay is measured."""


@dataclass(frozen=True)
class Codec(Augmentation):
    """Encodes and decodes.

    The signal is resampled to a rate that the format takes and back. The coder's delay, measured once
    on a known signal, is taken off, so that length and alignment stay. Signals that pass ±1 are
    scaled down for the coder and up again.

    Args:
        format: one of :data:`voxfide.augment.coders.FORMATS`: mp3, aac, opus, vorbis, gsm, amr-nb,
            g722, g726, mu-law, a-law.
        kbps: kilobits a second; left out, the format's own default. For vorbis, which has no fixed
            rate, what its quality setting is nearest to. Drawn values are rounded to what the
            format has.
    """

    name: ClassVar[str] = "codec"
    format: str
    kbps: Spread | None = None

    def check(self) -> None:
        self.require("format", self.format in FORMATS, ", ".join(FORMATS))
        coder = FORMATS[self.format]
        if self.kbps is not None:
            low, high = coder.rates[0], coder.rates[-1]
            good = low <= self.kbps.low <= self.kbps.high <= high
            shown = f"{low:g}" if low == high else f"{low:g} … {high:g}"
            self.require("kbps", good, f"{shown} for {self.format}")

    def draw(self, rng: np.random.Generator) -> Drawn:
        coder = FORMATS[self.format]
        wanted = coder.default if self.kbps is None else self.kbps.draw(rng)
        return {"format": self.format, "kbps": min(coder.rates, key=lambda rate: abs(rate - wanted))}

    def process(self, waveform: FloatArray, sample_rate: int, drawn: Drawn) -> FloatArray:
        coder, kbps = FORMATS[self.format], drawn["kbps"]
        rate = coder.sample_rate(sample_rate)
        peak = max(1.0, float(np.abs(waveform).max()) / HEADROOM)
        signal = resample((waveform / peak).astype(np.float32), sample_rate, rate)
        decoded = _round_trip(coder, signal, rate, kbps)[_delay(self.format, rate, kbps) :]
        back = resample(fit(decoded, len(signal)).astype(np.float32), rate, sample_rate)
        return fit(back.astype(np.float64) * peak, len(waveform))

    def applied(self, drawn: Drawn) -> str:
        return self.format


def _round_trip(coder: Coder, signal: FloatArray, rate: int, kbps: float) -> FloatArray:
    """Coded and decoded, delay and all, at the rate that went in."""
    padded = fit(signal, len(signal) + round(FLUSH * rate)).astype(np.float32)
    decoded, decoded_rate = coder.run(np.clip(padded, -1, 1), rate, kbps)
    return resample(decoded, decoded_rate, rate)


@cache
def _delay(name: str, rate: int, kbps: float) -> int:
    """Samples by which what comes out lags behind; where it correlates best with what went in."""
    probe = _probe(rate)
    decoded = _round_trip(FORMATS[name], probe, rate, kbps)
    likeness = correlate(decoded.astype(np.float64), probe, mode="full", method="fft")
    return max(0, int(np.argmax(likeness)) - (len(probe) - 1))


def _probe(rate: int) -> FloatArray:
    """A pulse train of gliding pitch through two resonances, which speech coders take for a voice."""
    time = np.arange(round(PROBE * rate)) / rate
    phase = np.cumsum(110 + 25 * np.sin(2 * np.pi * 1.3 * time)) / rate
    signal = np.zeros(len(time))
    for harmonic in range(1, 30):
        hertz = 110.0 * harmonic
        height = 1 / (1 + ((hertz - 600) / 250) ** 2) + 0.5 / (1 + ((hertz - 1700) / 300) ** 2) + 0.02
        signal += height * np.sin(2 * np.pi * harmonic * phase + harmonic**2)
    return 0.3 * signal / np.abs(signal).max()
