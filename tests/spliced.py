"""Partial fakes with known borders: self-test recordings with stretches that went through copy-synthesis."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import soundfile as sf

from voxfide.corpora.selftest.generate import plan, render
from voxfide.manifest import Manifest
from voxfide.resynthesis import ROUTES
from voxfide.types import BONAFIDE, SAMPLE_RATE, SPOOF

ROUTES_USED = ("mdct_codec", "band_expand", "phase_randomised")
SPLICE = (0.3, 0.8)
"""Length of a spoofed stretch, s."""


def genuine(split: str, n: int) -> list[np.ndarray]:
    """The first bona fide recordings of a split of the self-test corpus; speakers do not cross splits."""
    chosen = islice((u for u in plan(split, 4 * n, 0) if u.attack == "-"), n)
    return [render(u, 0).astype(np.float32) / 2**15 for u in chosen]


def spliced(
    signal: np.ndarray, route: str, rng: np.random.Generator
) -> tuple[np.ndarray, tuple[float, float]]:
    """``signal`` with one stretch from its copy-synthesis, and where that starts and ends, s."""
    other = ROUTES[route].load()(signal, SAMPLE_RATE, rng)
    seconds = rng.uniform(*SPLICE)
    start = rng.uniform(0.1, len(signal) / SAMPLE_RATE - seconds - 0.1)
    first, beyond = round(start * SAMPLE_RATE), round((start + seconds) * SAMPLE_RATE)
    made = signal.copy()
    made[first:beyond] = other[first:beyond]
    return made, (first / SAMPLE_RATE, beyond / SAMPLE_RATE)


def write_spliced_corpus(folder: Path, sizes: Sequence[tuple[str, int]], copies: int = 2) -> Manifest:
    """Genuine recordings, their spliced copies and a manifest with ``segments``, empty of genuine ones."""
    names = ("utterance_id", "path", "label", "split", "segments")
    rows: dict[str, list[str | None]] = {name: [] for name in names}
    rng = np.random.default_rng(0)
    for split, n in sizes:
        for number, signal in enumerate(genuine(split, n)):
            end = len(signal) / SAMPLE_RATE
            made = [(signal, None)]
            made += [spliced(signal, ROUTES_USED[(number + i) % 3], rng) for i in range(copies)]
            for copy, (samples, place) in enumerate(made):
                name = f"{split}_{number}_{copy}"
                sf.write(folder / f"{name}.wav", samples, SAMPLE_RATE, subtype="PCM_16")
                cell = None
                if place is not None:
                    parts = [[0, place[0], BONAFIDE], [*place, SPOOF], [place[1], end, BONAFIDE]]
                    cell = json.dumps(parts)
                values = (name, f"{name}.wav", SPOOF if place else BONAFIDE, split, cell)
                for column, value in zip(names, values, strict=True):
                    rows[column].append(value)
    return Manifest.from_columns(rows, folder)
