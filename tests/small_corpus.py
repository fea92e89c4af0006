"""A few short clips of two classes that any front-end tells apart, and their manifest."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import soundfile as sf

from voxfide.manifest import Manifest

JUNK = b"this is no audio at all\n" * 40


def clip(number: int, seconds: float, is_bonafide: bool) -> np.ndarray:
    """A gliding tone in noise if bona fide, else noise alone; different for every number."""
    random = np.random.default_rng(number)
    n_samples = round(16000 * seconds)
    noise = 0.02 * random.standard_normal(n_samples)
    if not is_bonafide:
        return noise.astype(np.float32)
    time = np.arange(n_samples) / 16000
    phase = 2 * np.pi * (random.uniform(150, 250) * time + random.uniform(20, 60) * time**2)
    return (0.3 * np.sin(phase) * np.sin(0.1 * phase) + noise).astype(np.float32)


def write_corpus(
    folder: Path, n: int = 12, *, seconds: tuple[float, float] = (0.3, 1.0), seed: int = 0
) -> Path:
    """Writes ``n`` clips and ``manifest.csv``: classes in turn, splits train, dev and eval in thirds.

    Ids hold slashes, spaces and letters beyond ASCII, as those of real corpora do.
    """
    random = np.random.default_rng(seed)
    rows: dict[str, list[str]] = {name: [] for name in ("utterance_id", "path", "label", "split")}
    (folder / "audio").mkdir(parents=True)
    for i in range(n):
        path = folder / "audio" / f"clip {i:03d}.wav"
        sf.write(path, clip(1000 * seed + i, random.uniform(*seconds), i % 2 == 0), 16000)
        rows["utterance_id"].append(f"spk {i % 3}/é_{i:03d}")
        rows["path"].append(f"audio/{path.name}")
        rows["label"].append("bonafide" if i % 2 == 0 else "spoof")
        rows["split"].append(("train", "dev", "eval")[3 * i // n])
    return Manifest.from_columns(rows, folder).write(folder / "manifest.csv")


def replace_audio(path: Path, content: np.ndarray | bytes) -> None:
    """Other content under the same name, with another time stamp whatever the clock's resolution."""
    before = path.stat().st_mtime_ns
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        sf.write(path, content, 16000)
    os.utime(path, ns=(before + 10**9, before + 10**9))
