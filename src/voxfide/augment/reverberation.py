"""Reverberation: convolution with a room impulse response, recorded or simulated."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from scipy.signal import oaconvolve

from voxfide.augment.base import SEEDS, Augmentation, Drawn, Spread
from voxfide.augment.recordings import list_recordings, load_recording
from voxfide.types import FloatArray, Seconds

TAIL_AFTER: Seconds = 0.0025
"""Where the tail of a simulated response begins: up to here counts as direct sound in the DRR."""


@dataclass(frozen=True)
class Reverberation(Augmentation):
    """Convolves with a room impulse response of unit energy, whose direct path stays where it was.

    What comes out has the input's length: the tail after its end is cut off.

    Args:
        rir: an impulse response, or a folder of them, of which one is drawn; without it one is
            simulated (:func:`simulate_rir`).
        rt60: seconds in which a simulated room's sound decays by 60 dB.
        drr: dB; direct-to-reverberant ratio of a simulated response.
    """

    name: ClassVar[str] = "reverb"
    rir: Path | None = None
    rt60: Spread = Spread(0.2, 0.8)
    drr: Spread = Spread(0.0, 12.0)

    def check(self) -> None:
        self.require("rt60", 0.01 <= self.rt60.low <= self.rt60.high <= 20, "0.01 … 20 s")
        self.require("drr", -60 <= self.drr.low <= self.drr.high <= 60, "-60 … 60 dB")
        if self.rir is not None:
            list_recordings(self.rir)

    def draw(self, rng: np.random.Generator) -> Drawn:
        if self.rir is None:
            return {
                "rt60": self.rt60.draw(rng),
                "drr": self.drr.draw(rng),
                "seed": int(rng.integers(SEEDS)),
            }
        names = list_recordings(self.rir)
        return {"file": names[int(rng.integers(len(names)))]}

    def process(self, waveform: FloatArray, sample_rate: int, drawn: Drawn) -> FloatArray:
        if "file" in drawn and self.rir is not None:
            return reverberate(waveform, load_recording(self.rir, drawn["file"], sample_rate))
        simulated = simulate_rir(drawn["rt60"], drawn["drr"], sample_rate, drawn["seed"])
        return reverberate(waveform, simulated, direct=0)


def reverberate(waveform: FloatArray, response: FloatArray, direct: int | None = None) -> FloatArray:
    """``waveform (samples,)`` through an impulse response, aligned on its direct path.

    The response is scaled to unit energy, as in torchaudio's data augmentation tutorial: white noise
    keeps its power.

    Args:
        direct: the response's sample at which the direct path arrives; by default that of the
            largest magnitude.
    """
    if direct is None:
        direct = int(np.argmax(np.abs(response)))
    unit = response.astype(np.float64) / np.linalg.norm(response)
    return oaconvolve(waveform, unit)[direct : direct + len(waveform)]


def simulate_rir(rt60: Seconds, drr_db: float, sample_rate: int, seed: int) -> FloatArray:
    """A diffuse room: a direct path, then Gaussian noise that decays exponentially.

    The statistical model of late reverberation (Polack 1988, thesis; Moorer 1979, Computer Music
    Journal 3(2)): ``h[t] = noise · 10^(-3 t / RT60)``. There are no single early reflections, and all
    frequencies decay alike.

    Args:
        rt60: seconds of a decay by 60 dB, at which the response ends.
        drr_db: energy of the direct path over that of the tail.

    Returns:
        float64 ``(samples,)``; the direct path is sample 0, of height 1.
    """
    count = max(1, round(rt60 * sample_rate))
    time = np.arange(count) / sample_rate
    tail = np.random.default_rng(seed).standard_normal(count) * 10 ** (-3 * time / rt60)
    tail *= 10 ** (-drr_db / 20) / np.linalg.norm(tail)
    gap = max(1, round(TAIL_AFTER * sample_rate))
    return np.concatenate([[1.0], np.zeros(gap - 1), tail])
