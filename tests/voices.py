"""Synthesised speech in which silero-vad finds speech, and a small detector of low-passed parts of it."""

from __future__ import annotations

from functools import cache

import numpy as np
from scipy.signal import butter, sosfiltfilt

from voxfide.backends import create_backend
from voxfide.calibration import CalibrationRecord, create_calibration
from voxfide.corpora.selftest.generate import _speaker
from voxfide.corpora.selftest.synthesis import synthesise_utterance
from voxfide.detector import Detector
from voxfide.features import pooled_features
from voxfide.frontends import create_frontend
from voxfide.types import SAMPLE_RATE

RATE = SAMPLE_RATE


@cache
def _voice(seed: int) -> np.ndarray:
    return synthesise_utterance(_speaker(f"s{seed}", 0), np.random.default_rng(seed), 6.0)


def voice(seconds: float, seed: int = 0) -> np.ndarray:
    """Speech of one of three speakers, ``(samples,)``; beyond 6 s it repeats itself."""
    return np.resize(_voice(seed % 3), round(seconds * RATE)).copy()


def dulled(signal: np.ndarray) -> np.ndarray:
    """Nothing above 2 kHz: what the detector below was taught to call spoofed."""
    low = butter(8, 2000, fs=RATE, output="sos")
    return sosfiltfilt(low, signal).astype(np.float32)


@cache
def small_detector() -> Detector:
    """LFCC and logistic regression, fitted to pieces of voices as they are and dulled; uncalibrated."""
    clean = [voice(6.0, seed)[i : i + RATE] for seed in range(3) for i in range(0, 5 * RATE, RATE // 2)]
    frontend = create_frontend("lfcc")
    features = pooled_features(frontend, [*clean, *map(dulled, clean)], "mean_std")
    is_bonafide = np.arange(len(features)) < len(clean)
    return Detector(frontend, create_backend("logistic").fit(features, is_bonafide), "mean_std")


def calibrated(detector: Detector, **options: float) -> Detector:
    """The detector with its scores taken for likelihood ratios."""
    made = create_calibration("identity").fit([-1.0, 1.0], [False, True])
    return detector.calibrated(CalibrationRecord(made, fitted_to={"manifest": "none.csv"}, **options))
