"""Narrower bands: by a lower sample rate, or by a band-pass filter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy.signal import butter, sosfiltfilt

from voxfide.audio import resample
from voxfide.augment.base import Augmentation, Drawn, fit
from voxfide.types import FloatArray


@dataclass(frozen=True)
class BandLimit(Augmentation):
    """Down to a lower sample rate and back: nothing above half of it is left.

    Args:
        rate: Hz; a recording at this rate or below stays as it is.
    """

    name: ClassVar[str] = "bandlimit"
    rate: int = 8000

    def check(self) -> None:
        self.require("rate", self.rate >= 1000, "at least 1000 Hz")

    def draw(self, rng: np.random.Generator) -> Drawn:
        return {}

    def process(self, waveform: FloatArray, sample_rate: int, drawn: Drawn) -> FloatArray:
        if sample_rate <= self.rate:
            return waveform
        low = resample(waveform.astype(np.float32), sample_rate, self.rate)
        return fit(resample(low, self.rate, sample_rate).astype(np.float64), len(waveform))


@dataclass(frozen=True)
class BandPass(Augmentation):
    """A Butterworth band-pass, run forward and backward: no delay. By default a telephone's band.

    Args:
        low, high: Hz, at 6 dB down; ``high`` is kept below half the sample rate.
        order: of the filter, which works twice.
    """

    name: ClassVar[str] = "bandpass"
    low: float = 300.0
    high: float = 3400.0
    order: int = 4

    def check(self) -> None:
        self.require("low", self.low > 0, "more than 0 Hz")
        self.require("high", self.high > self.low, f"more than low, {self.low:g} Hz")
        self.require("order", 1 <= self.order <= 20, "1 … 20")

    def draw(self, rng: np.random.Generator) -> Drawn:
        return {}

    def process(self, waveform: FloatArray, sample_rate: int, drawn: Drawn) -> FloatArray:
        high = min(self.high, 0.49 * sample_rate)
        low = min(self.low, 0.9 * high)
        sos = butter(self.order, [low, high], btype="bandpass", fs=sample_rate, output="sos")
        return sosfiltfilt(sos, waveform, padlen=0)
