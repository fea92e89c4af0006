"""A layer-wise grid trained on shared features against one training run per configuration.

    python benchmarks/layerwise.py [--utterances 48] [--epochs 3] [--seeds 1] [--model wavlm-base-plus]

Both ways train the same heads (ffn and aasist in the reference's form, 4 depths) for the same number of
epochs on the same made-up words with the same batches, first weights and dropout, from the same front-end
with random weights. The usual way, that of the study's public code, runs the whole front-end for every
batch of every epoch of every configuration and discards the upper layers; voxfide's runs it once.

Reported: wall time of both, the ratio, where voxfide's time goes, and the development EER of every head
both ways. The data are two classes of noise that a head tells apart with some training, and prove nothing
about detectors.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import soundfile as sf
import torch
from scipy.signal import lfilter

from truncation import random_frontend
from voxfide.backends import create_backend
from voxfide.frontends.base import Frontend
from voxfide.jobs import rows_of
from voxfide.manifest import Manifest
from voxfide.training import TrainingSet, choose_sets
from voxfide.training.frames import FeatureOptions, fit_heads
from voxfide.training.heads import HeadJob, HeadTrainer, TrainedHead
from voxfide.training.journal import make_accelerator
from voxfide.training.settings import TrainSettings
from voxfide.training.streams import LiveStream


def write_corpus(folder: Path, n: int) -> Manifest:
    """Filtered noise of 4.1 s; the filter's pole tells the classes apart, now more, now less."""
    rng = np.random.default_rng(0)
    rows: dict[str, list[str]] = {name: [] for name in ("utterance_id", "path", "label", "split")}
    for i in range(n):
        bonafide = i % 2 == 0
        pole = (0.55 if bonafide else 0.45) + 0.1 * rng.standard_normal()
        signal = lfilter([1.0], [1.0, -pole], rng.standard_normal(65600))
        sf.write(folder / f"{i}.wav", 0.05 * signal, 16000, subtype="PCM_16")
        rows["utterance_id"].append(f"u{i}")
        rows["path"].append(f"{i}.wav")
        rows["label"].append("bonafide" if bonafide else "spoof")
        rows["split"].append("train" if i < 2 * n // 3 else "dev")
    return Manifest.from_columns(rows, folder)


def jobs_of(depths: list[int], seeds: int) -> list[HeadJob]:
    return [
        HeadJob(f"{name}-n{n}-seed{seed}", create_backend(name, variant="reference"), n, seed)
        for name in ("ffn", "aasist")
        for n in depths
        for seed in range(1, seeds + 1)
    ]


def one_by_one(
    jobs: list[HeadJob],
    sets: tuple[TrainingSet, TrainingSet],
    frontend: Frontend,
    settings: TrainSettings,
    folder: Path,
) -> list[TrainedHead]:
    """A training run a configuration, the whole front-end for each of its batches."""
    trained = []
    for job in jobs:
        train, dev = (
            LiveStream(
                frontend,
                rows_of(part.manifest),
                part.manifest.strings("label") == "bonafide",
                settings.crop,
                workers=1,
            )
            for part in sets
        )
        where = folder / job.name
        accelerator = make_accelerator(where, cpu=True)
        trained += HeadTrainer([job], train, dev, settings, where, accelerator=accelerator).fit()
        print(f"  {job.name}", flush=True)
    return trained


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--utterances", type=int, default=48)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--model", default="wavlm-base-plus")
    options = parser.parse_args()
    frontend = random_frontend(options.model)
    depths = [2, 4, 6, 12] if frontend.n_layers == 12 else [4, 8, 12, 24]
    settings = replace(
        TrainSettings(batch_size=8, learning_rate=1e-3),
        epochs=options.epochs,
        patience=options.epochs,
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        manifest = write_corpus(folder, options.utterances)
        train, dev = choose_sets(manifest, "train", "dev")
        assert dev is not None
        sets = (train, dev)
        torch.manual_seed(0)
        jobs = jobs_of(depths, options.seeds)
        started = time.perf_counter()
        extracted = time.perf_counter()

        def features_done(*_: object) -> None:
            nonlocal extracted
            extracted = time.perf_counter()

        ours, _ = fit_heads(
            jobs, sets, frontend, settings, folder / "ours", accelerator=make_accelerator(folder, cpu=True),
            options=FeatureOptions(workers=1, progress=features_done),
        )  # fmt: skip
        shared = time.perf_counter() - started
        print(f"{len(jobs)} heads, {options.utterances} utterances, {options.epochs} epochs, {options.model}")
        print(f"voxfide: {shared:.1f} s, of which front-end and store {extracted - started:.1f} s")
        started = time.perf_counter()
        theirs = one_by_one(jobs_of(depths, options.seeds), sets, frontend, settings, folder / "theirs")
        usual = time.perf_counter() - started
        print(f"one run a configuration: {usual:.1f} s")
        print(f"ratio: {usual / shared:.1f}")
        print("| head | dev EER %, shared | dev EER %, alone | dev loss, shared | dev loss, alone |")
        print("|---|---:|---:|---:|---:|")
        for a, b in zip(ours, theirs, strict=True):
            print(
                f"| {a.job.name} | {a.dev_eer_percent:.1f} | {b.dev_eer_percent:.1f} "
                f"| {a.dev_loss:.4f} | {b.dev_loss:.4f} |"
            )


if __name__ == "__main__":
    main()
