"""Whether unfamiliar recordings are told: how far known damage and foreign sounds lie from training audio.

    python benchmarks/domain.py --corpus ../shared/corpus [--every 1]

Fits the domain on the train split, speakers left out together, then takes the clips of the dev split as they
are, damaged in known ways, and sounds that are no speech. Figures are the distance over that which 99 % of
the training recordings keep within, and the shares of clips that get the reason ``unfamiliar``.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np

from sounds import pad, plucked
from voxfide.audio import load_audio
from voxfide.augment import parse
from voxfide.domain import FAR, DomainModel, features_of
from voxfide.types import SAMPLE_RATE, Float32Array

DAMAGE = (
    "gain:db=-12", "gain:db=12", "codec:format=mp3,kbps=64", "codec:format=mp3,kbps=16",
    "codec:format=opus,kbps=24", "codec:format=opus,kbps=6", "codec:format=mu-law", "codec:format=amr-nb",
    "codec:format=gsm", "bandlimit:rate=8000", "noise:snr=20,over=active", "noise:snr=10,over=active",
    "noise:snr=0,over=active", "reverb",
)  # fmt: skip


def load(corpus: Path, split: str, label: str | None, every: int) -> tuple[list[Float32Array], list[str]]:
    with (corpus / "manifest.csv").open(encoding="utf-8") as file:
        rows = [r for r in csv.DictReader(file) if r["split"] == split and label in (None, r["label"])]
    rows = rows[::every]
    return [load_audio(corpus / r["path"]).waveform for r in rows], [r["speaker"] for r in rows]


def foreign() -> dict[str, list[Float32Array]]:
    rng = np.random.default_rng(0)
    n, seeds = 4 * SAMPLE_RATE, range(30)
    return {
        "white noise": [(0.1 * rng.standard_normal(n)).astype(np.float32) for _ in seeds],
        "brown noise": [
            (0.2 * b / np.abs(b).max()).astype(np.float32)
            for b in (np.cumsum(rng.standard_normal(n)) for _ in seeds)
        ],
        "plucked chords": [plucked(4.0, seed) for seed in seeds],
        "pads": [pad(4.0, seed) for seed in seeds],
        "sine tones": [
            (0.3 * np.sin(2 * np.pi * rng.uniform(100, 2000) * np.arange(n) / SAMPLE_RATE)).astype(np.float32)
            for _ in seeds
        ],
    }


def row(name: str, model: DomainModel, signals: list[Float32Array]) -> None:
    limit = model.limits[0]
    ratios = np.array([model.distance(features_of(signal)) / limit for signal in signals])
    low, middle, high = np.percentile(ratios, [5, 50, 95])
    told, refused = 100 * np.mean(ratios > 1), 100 * np.mean(ratios > FAR)
    print(f"| {name} | {middle:.2f} ({low:.2f} … {high:.2f}) | {told:.0f} % | {refused:.0f} % |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--every", type=int, default=1)
    options = parser.parse_args()
    signals, speakers = load(options.corpus, "train", None, 1)
    model = DomainModel.fit([features_of(s) for s in signals], speakers)
    print(
        f"{len(signals)} recordings of the train split; limits {model.limits[0]:.2f}, {model.limits[1]:.2f}\n"
    )
    print("| sound | distance / limit: median (5 … 95 %) | trust reduced | no verdict |\n|---|---|---|---|")
    for label in ("bonafide", "spoof"):
        row(f"dev, {label}, as it is", model, load(options.corpus, "dev", label, options.every)[0])
    clips = load(options.corpus, "dev", None, options.every)[0]
    for name in DAMAGE:
        augmentation = parse(name)
        damaged = [augmentation(s, SAMPLE_RATE, np.random.default_rng(i)) for i, s in enumerate(clips)]
        row(f"`{name}`", model, damaged)
    for name, sounds in foreign().items():
        row(name, model, sounds)


if __name__ == "__main__":
    main()
