"""Additive noise at a signal-to-noise ratio: white, or from recordings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from voxfide.augment.base import SEEDS, Augmentation, Drawn, Spread
from voxfide.augment.levels import OVER, mix_at_snr
from voxfide.augment.recordings import list_recordings, load_recording
from voxfide.types import FloatArray


@dataclass(frozen=True)
class WhiteNoise(Augmentation):
    """Gaussian white noise.

    Args:
        snr: dB, exact for the samples that are drawn; the noise's power is that over all of them.
        over: what the signal's power is taken over: the whole ``signal``, as in
            ``torchaudio.functional.add_noise``, or its ``active`` speech (ITU-T P.56).
    """

    name: ClassVar[str] = "noise"
    snr: Spread = Spread(25.0, 25.0)
    over: str = "signal"

    def check(self) -> None:
        self.require("over", self.over in OVER, " or ".join(OVER))

    def draw(self, rng: np.random.Generator) -> Drawn:
        return {"snr": self.snr.draw(rng), "seed": int(rng.integers(SEEDS))}

    def process(self, waveform: FloatArray, sample_rate: int, drawn: Drawn) -> FloatArray:
        noise = np.random.default_rng(drawn["seed"]).standard_normal(len(waveform))
        return mix_at_snr(waveform, noise, drawn["snr"], sample_rate, self.over)


@dataclass(frozen=True)
class RecordedNoise(Augmentation):
    """A stretch of a noise recording, such as one of MUSAN's.

    A longer recording is cut at a random place, a shorter one is repeated from a random place on.

    Args:
        files: a recording, or a folder of them, of which one is drawn.
        snr, over: as for :class:`WhiteNoise`; where the stretch is silent, nothing is added.
    """

    name: ClassVar[str] = "background"
    files: Path
    snr: Spread = Spread(5.0, 20.0)
    over: str = "signal"

    def check(self) -> None:
        self.require("over", self.over in OVER, " or ".join(OVER))
        list_recordings(self.files)

    def draw(self, rng: np.random.Generator) -> Drawn:
        names = list_recordings(self.files)
        file = names[int(rng.integers(len(names)))]
        return {"snr": self.snr.draw(rng), "file": file, "place": float(rng.random())}

    def process(self, waveform: FloatArray, sample_rate: int, drawn: Drawn) -> FloatArray:
        recording = load_recording(self.files, drawn["file"], sample_rate)
        noise = stretch(recording, len(waveform), drawn["place"])
        return mix_at_snr(waveform, noise.astype(np.float64), drawn["snr"], sample_rate, self.over)


def stretch(recording: FloatArray, n_samples: int, place: float) -> FloatArray:
    """``n_samples`` of a recording, cut out or repeated; ``place`` in ``[0, 1)`` says where from."""
    if len(recording) >= n_samples:
        start = int(place * (len(recording) - n_samples + 1))
        return recording[start : start + n_samples]
    return np.resize(np.roll(recording, -int(place * len(recording))), n_samples)
