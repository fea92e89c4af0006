"""RawBoost: distortions of the kind that telephony adds, from the signal alone.

H. Tak, M. Kamble, J. Patino, M. Todisco and N. Evans, "RawBoost: A raw data boosting and augmentation
method applied to automatic speaker verification anti-spoofing", ICASSP 2022, arXiv:2111.04433. Defaults
are those of the paper and of its authors' code, at 16 kHz; filters keep the signal in place, where that code
moves it by one sample.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np
from scipy.signal import firwin, freqz, oaconvolve

from voxfide.augment.base import SEEDS, Augmentation, Drawn, Spread, fit
from voxfide.augment.levels import mix_at_snr
from voxfide.types import FloatArray

CONVOLUTIVE, IMPULSIVE, STATIONARY = "convolutive", "impulsive", "stationary"
ALGORITHMS: Final = {
    1: (CONVOLUTIVE,),
    2: (IMPULSIVE,),
    3: (STATIONARY,),
    4: (CONVOLUTIVE, IMPULSIVE, STATIONARY),
    5: (CONVOLUTIVE, IMPULSIVE),
    6: (CONVOLUTIVE, STATIONARY),
    7: (IMPULSIVE, STATIONARY),
    8: (CONVOLUTIVE, IMPULSIVE),
}
"""What each does: one after the other, but 8, whose two work side by side on the input and are added."""

PARALLEL: Final = 8
_GRID: Final = 512
"""Frequencies at which a filter's largest gain is looked for."""


@dataclass(frozen=True)
class RawBoost(Augmentation):
    """RawBoost's algorithms 1 to 8.

    1 linear and non-linear convolutive noise: the signal and its powers, each through notch filters;
    2 impulsive, signal-dependent noise: some samples change in proportion to themselves; 3 stationary,
    signal-independent noise: filtered white noise. 4 is 1, 2, 3 in series; 5 is 1, 2; 6 is 1, 3; 7 is
    2, 3; 8 is 1 and 2 in parallel.

    Args:
        algorithm: 1 … 8.
        bands: notch filters in cascade.
        centre: Hz, of a notch; nothing above half the sample rate is drawn.
        width: Hz, of a notch.
        taps: length of each notch filter, made odd.
        gain: dB, of a cascade at its highest point.
        powers: the signal to the power of 1 … this many.
        bias: dB by which the gain of the powers above one lies lower: its lower and its upper end.
        impulses: percent of samples that change, at most.
        impulse_gain: the largest change, in multiples of the sample.
        snr: dB, of the stationary noise, over the whole signal.
    """

    name: ClassVar[str] = "rawboost"
    algorithm: int = 4
    bands: int = 5
    centre: Spread = Spread(20.0, 8000.0)
    width: Spread = Spread(100.0, 1000.0)
    taps: Spread = Spread(10.0, 100.0)
    gain: Spread = Spread(0.0, 0.0)
    powers: int = 5
    bias: Spread = Spread(5.0, 20.0)
    impulses: float = 10.0
    impulse_gain: float = 2.0
    snr: Spread = Spread(10.0, 40.0)

    def check(self) -> None:
        self.require("algorithm", self.algorithm in ALGORITHMS, "1 … 8")
        self.require("bands", self.bands >= 1, "at least 1")
        self.require("powers", self.powers >= 1, "at least 1")
        self.require("centre", self.centre.low >= 0, "no negative frequency")
        self.require("width", self.width.low > 0, "more than 0 Hz")
        self.require("taps", self.taps.low >= 3, "at least 3")
        self.require("impulses", 0 <= self.impulses <= 100, "0 … 100 %")

    def draw(self, rng: np.random.Generator) -> Drawn:
        drawn: Drawn = {"algorithm": self.algorithm}
        for step in ALGORITHMS[self.algorithm]:
            if step == CONVOLUTIVE:
                drawn["convolutive_seed"] = int(rng.integers(SEEDS))
            elif step == IMPULSIVE:
                drawn["impulses"] = float(rng.uniform(0, self.impulses))
                drawn["impulsive_seed"] = int(rng.integers(SEEDS))
            else:
                drawn["snr"] = self.snr.draw(rng)
                drawn["stationary_seed"] = int(rng.integers(SEEDS))
        return drawn

    def process(self, waveform: FloatArray, sample_rate: int, drawn: Drawn) -> FloatArray:
        steps = ALGORITHMS[self.algorithm]
        if self.algorithm == PARALLEL:
            return limited(np.sum([self._step(s, waveform, sample_rate, drawn) for s in steps], axis=0))
        for step in steps:
            waveform = self._step(step, waveform, sample_rate, drawn)
        return waveform

    def _step(self, step: str, signal: FloatArray, sample_rate: int, drawn: Drawn) -> FloatArray:
        rng = np.random.default_rng(drawn[f"{step}_seed"])
        if step == CONVOLUTIVE:
            return self._convolutive(signal, sample_rate, rng)
        if step == IMPULSIVE:
            return self._impulsive(signal, drawn["impulses"], rng)
        noise = _filtered(rng.standard_normal(len(signal)), self._notches(self.gain, sample_rate, rng))
        return mix_at_snr(signal, noise, drawn["snr"], sample_rate)

    def _convolutive(self, signal: FloatArray, sample_rate: int, rng: np.random.Generator) -> FloatArray:
        biased = Spread(*sorted((self.gain.low - self.bias.low, self.gain.high - self.bias.high)))
        total = np.zeros_like(signal)
        for exponent in range(1, self.powers + 1):
            gain = self.gain if exponent == 1 else biased
            total += _filtered(signal**exponent, self._notches(gain, sample_rate, rng))
        return limited(total - total.mean())

    def _impulsive(self, signal: FloatArray, percent: float, rng: np.random.Generator) -> FloatArray:
        chosen = rng.permutation(len(signal))[: int(len(signal) * percent / 100)]
        change = rng.uniform(-1, 1, len(chosen)) * rng.uniform(-1, 1, len(chosen))
        output = signal.copy()
        output[chosen] *= 1 + self.impulse_gain * change
        return limited(output)

    def _notches(self, gain: Spread, sample_rate: int, rng: np.random.Generator) -> FloatArray:
        """A cascade of notch filters as one linear-phase FIR filter of an odd number of taps."""
        nyquist = sample_rate / 2
        cascade = np.ones(1)
        for _ in range(self.bands):
            centre = rng.uniform(min(self.centre.low, nyquist), min(self.centre.high, nyquist))
            width, taps = self.width.draw(rng), int(self.taps.draw(rng)) | 1
            low, high = max(centre - width / 2, 1e-3), min(centre + width / 2, nyquist - 1e-3)
            cascade = np.convolve(cascade, firwin(taps, [low, high], window="hamming", fs=sample_rate))
        _, response = freqz(cascade, worN=_GRID)
        return cascade * 10 ** (gain.draw(rng) / 20) / np.abs(response).max()


def limited(signal: FloatArray) -> FloatArray:
    """Scaled down to ±1 where it passes that, as RawBoost does after each step."""
    return signal / max(1.0, float(np.abs(signal).max()))


def _filtered(signal: FloatArray, taps: FloatArray) -> FloatArray:
    """Through a linear-phase filter of an odd number of taps, without its delay."""
    delay = len(taps) // 2
    return fit(oaconvolve(signal, taps)[delay:], len(signal))
