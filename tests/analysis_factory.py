"""Analyses of recordings made by hand, for tests of what is built on them."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import soundfile as sf

from voxfide.analysis.result import (
    Analysis,
    BandContribution,
    DetectorFacts,
    Explanation,
    LayerWeight,
    MemberScore,
    Stretch,
    Window,
)
from voxfide.audio import AudioInfo
from voxfide.conditions import Conditions, Reason, Segment

CALIBRATED = DetectorFacts(
    "bundled",
    "5f" * 32,
    {"front-end": "lfcc, 1 layer(s)", "back-end": "logistic"},
    "natural-log likelihood ratio",
    {"manifest": "m.csv", "split": "dev", "n_bonafide": 80, "n_spoof": 90},
)
UNCALIBRATED = replace(CALIBRATED, score_kind="uncalibrated", calibrated_on=None)

REDUCED = Reason(
    "noise",
    "reduced",
    "The speech stands only 6 dB above the noise (limit 10 dB).",
    "snr_db",
    6.0,
    10.0,
    "dB",
)
FORBIDS = Reason(
    "little-speech",
    "inconclusive",
    "Only 0.4 s of speech were found; at least 1 s are needed for a verdict.",
    "speech_seconds",
    0.4,
    1.0,
    "s",
)

WHY = Explanation(
    bands=tuple(
        BandContribution(low, high, value)
        for low, high, value in [(0, 458, 0.4), (458, 1218, -0.9), (1218, 3000, -1.6), (3000, 8000, 0.0)]
    ),
    layers=tuple(LayerWeight(None, i, w) for i, w in enumerate([0.1, 0.2, 0.45, 0.25], 1)),
    members=(MemberScore("lfcc", -0.8, -0.4, 0.1), MemberScore("ssl", 0.7, 0.5)),
    agreement=0.5,
    baseline=-1.2,
    excerpt=Segment(2.0, 8.0),
)


def write_speechlike(path: Path, seconds: float = 9.0, seed: int = 0) -> Path:
    """A file of voiced syllables with pauses; no speech, but something to look at."""
    random = np.random.default_rng(seed)
    time = np.arange(round(16000 * seconds)) / 16000
    phase = 2 * np.pi * np.cumsum(120 + 25 * np.sin(2 * np.pi * 0.4 * time)) / 16000
    voice = sum(np.sin(k * phase) / k for k in range(1, 30))
    syllables = np.clip(np.sin(2 * np.pi * 1.7 * time), 0, 1) ** 0.6
    breath = 0.003 * random.standard_normal(len(time))
    sf.write(path, (0.15 * voice * syllables + breath).astype(np.float32), 16000)
    return path


def make_analysis(path: Path | str, seconds: float = 9.0, **changes: Any) -> Analysis:
    """Of ``path``, which need not exist; a spoofed stretch from 3 to 6 s of a calibrated detector."""
    file = Path(path)
    try:
        content: bytes | None = file.read_bytes()
    except (OSError, ValueError):
        content = None
    starts = np.arange(0, max(seconds - 3, 0.5), 1.5)
    scores = [1.8 if start < 2 or start > 5 else -2.4 for start in starts]
    analysis = Analysis(
        path=str(path),
        sha256=None if content is None else hashlib.sha256(content).hexdigest(),
        n_bytes=None if content is None else len(content),
        info=AudioInfo(
            str(path), "wav", "pcm_s16le", 16000, 1, seconds, 16, round(16000 * seconds), "soundfile"
        ),
        conditions=Conditions(
            seconds, 0.8 * seconds, 0.8, -24.0, -62.0, 38.0, -3.0, 0.0, 0.0, 0.7, 7500.0, 3200.0, 6100.0,
            0.01, 0.0, container="wav", codec="pcm_s16le", sample_rate=16000, lossy=False,
        ),
        detector=CALIBRATED,
        score=0.35,
        probability=0.587,
        prior=0.5,
        verdict="inconclusive",
        rule={"prior_bonafide": 0.5, "c_miss": 1.0, "c_fa": 1.0},
        reasons=(REDUCED,),
        windows=tuple(
            Window(float(s), float(min(s + 3, seconds)), x, 2.4) for s, x in zip(starts, scores, strict=True)
        ),
        speech=(Segment(0.1, 0.45 * seconds), Segment(0.5 * seconds, seconds - 0.1)),
        stretches=(Stretch(3.0, 6.0, -2.4),) if seconds >= 6 else (),
        why=WHY,
    )  # fmt: skip
    return replace(analysis, **changes)
