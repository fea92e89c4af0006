"""Embedding with voxfide against ``transformers`` as a user would write it, on the same files.

    python benchmarks/embed.py [--utterances 40] [--model wavlm-base] [--threads N]

Every route runs in a process of its own on the same mixed-length WAV files and the same
random weights, from reading the files to time-averaged layers:

- ``single``: transformers, one file at a time
- ``padded``: transformers, batches of 8 in file order, padded, with attention mask
- ``padded-n``: the same with the model cut to n layers (``num_hidden_layers=n``)
- ``voxfide``: ``voxfide.embeddings.embed`` into a store

Reported: audio seconds per second, CPU seconds per audio second, peak memory, and the share of
the machine's fp32 matrix-multiply rate (measured in the same process) that goes into useful
work, i.e. the operations that the unpadded utterances and the asked-for layers need.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

BATCH = 8


def make_files(folder: Path, n: int) -> None:
    """Noise with log-normal durations (median 3.5 s, 1 to 16 s), much as ASVspoof's sets have them."""
    import soundfile as sf

    rng = np.random.default_rng(0)
    seconds = np.clip(rng.lognormal(np.log(3.5), 0.55, n), 1, 16)
    lines = ["utterance_id,path,label"]
    for i, duration in enumerate(seconds):
        name = f"u{i:04d}.wav"
        sf.write(folder / name, 0.1 * rng.standard_normal(int(duration * 16000)), 16000, subtype="PCM_16")
        lines.append(f"u{i:04d},{name},unknown")
    (folder / "m.csv").write_text("\n".join(lines) + "\n")


def make_checkpoint(folder: Path, model: str) -> None:
    import torch

    from voxfide.frontends import FRONTENDS
    from voxfide.frontends.checkpoint import save_encoder
    from voxfide.frontends.ssl_config import SSLConfig
    from voxfide.frontends.ssl_model import SSLEncoder

    torch.manual_seed(0)
    save_encoder(SSLEncoder(SSLConfig(**FRONTENDS[model].architecture)), folder)


def useful_flop(config: dict, samples: list[int], n_layers: int) -> float:
    """Floating-point operations that these utterances need, two a multiply-add, without any padding."""
    total = 0.0
    dim, inner = config["hidden_size"], config["intermediate_size"]
    for n in samples:
        channels = 1
        for size, kernel, stride in zip(
            config["conv_dim"], config["conv_kernel"], config["conv_stride"], strict=True
        ):
            n = (n - kernel) // stride + 1
            total += 2 * n * size * channels * kernel
            channels = size
        positional = dim * config["num_conv_pos_embeddings"] / config["num_conv_pos_embedding_groups"]
        total += 2 * n * dim * (channels + positional)
        total += n_layers * 2 * n * (4 * dim * dim + 2 * dim * inner + 2 * n * dim)
    return total


def matmul_rate() -> float:
    """Best fp32 rate of a 2048-cube matrix product, in operations per second."""
    import torch

    a = torch.randn(2048, 2048)
    a @ a
    times = []
    for _ in range(8):
        start = time.perf_counter()
        a @ a
        times.append(time.perf_counter() - start)
    return 2 * 2048**3 / min(times)


def run_transformers(checkpoint: Path, files: list[Path], batch: int, keep: int, cut: bool) -> None:
    import soundfile as sf
    import torch
    from transformers import AutoConfig, AutoModel, Wav2Vec2FeatureExtractor

    config = AutoConfig.from_pretrained(checkpoint)
    if cut:
        config.num_hidden_layers = keep
    model = AutoModel.from_pretrained(checkpoint, config=config).eval()
    extractor = Wav2Vec2FeatureExtractor.from_pretrained(checkpoint)
    yield  # ready: the clock starts
    for start in range(0, len(files), batch):
        waves = [sf.read(f, dtype="float32")[0] for f in files[start : start + batch]]
        inputs = extractor(
            waves,
            sampling_rate=16000,
            return_tensors="pt",
            padding=batch > 1,
            return_attention_mask=batch > 1,
        )
        with torch.inference_mode():
            states = model(**inputs, output_hidden_states=True).hidden_states[1 : keep + 1]
            for i, wave in enumerate(waves):
                frames = int(model._get_feat_extract_output_lengths(len(wave)))
                torch.stack([s[i, :frames].mean(0) for s in states])


def run_voxfide(checkpoint: Path, folder: Path, keep: int):
    from voxfide.embeddings import embed
    from voxfide.frontends import create_frontend
    from voxfide.manifest import Manifest

    frontend = create_frontend(str(checkpoint), keep)
    manifest = Manifest.read(folder / "m.csv")
    frontend.fingerprint()
    yield
    with tempfile.TemporaryDirectory() as out:
        assert len(embed(manifest, frontend, out).store) == len(manifest)


def child(route: str, keep: int, folder: Path, threads: int) -> None:
    import torch

    torch.set_num_threads(threads)
    checkpoint = folder / "model"
    files = sorted(folder.glob("*.wav"))
    rate = matmul_rate()
    work = {
        "single": lambda: run_transformers(checkpoint, files, 1, keep, False),
        "padded": lambda: run_transformers(checkpoint, files, BATCH, keep, False),
        "padded-n": lambda: run_transformers(checkpoint, files, BATCH, keep, True),
        "voxfide": lambda: run_voxfide(checkpoint, folder, keep),
    }[route]()
    next(work)
    before = resource.getrusage(resource.RUSAGE_SELF)
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    next(work, None)
    wall = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_SELF)
    after_children = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = sum(getattr(after, f) - getattr(before, f) for f in ("ru_utime", "ru_stime"))
    cpu += sum(getattr(after_children, f) - getattr(children, f) for f in ("ru_utime", "ru_stime"))
    print(json.dumps({"wall": wall, "cpu": cpu, "peak_mb": peak_mb(), "rate": rate}))


def peak_mb() -> float:
    """Largest resident size of this process; ``ru_maxrss`` would include the parent's before exec."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(x for x in status.read_text().splitlines() if x.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 / 1024  # macOS counts bytes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--utterances", type=int, default=40)
    parser.add_argument("--model", default="wavlm-base")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=2, help="the best of so many, routes interleaved")
    parser.add_argument("--child", nargs=3, metavar=("ROUTE", "LAYERS", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        route, keep, folder = options.child
        child(route, int(keep), Path(folder), options.threads)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_files(folder, options.utterances)
        make_checkpoint(folder / "model", options.model)
        report(folder, options)


def report(folder: Path, options: argparse.Namespace) -> None:
    import soundfile as sf

    config = json.loads((folder / "model" / "config.json").read_text())
    full = config["num_hidden_layers"]
    samples = [sf.info(f).frames for f in sorted(folder.glob("*.wav"))]
    audio = sum(samples) / 16000
    order = [max(samples[i : i + BATCH]) * len(samples[i : i + BATCH]) for i in range(0, len(samples), BATCH)]
    print(
        f"{options.model}, random weights, {options.threads} thread(s): "
        f"{len(samples)} files, {audio:.0f} s of audio"
    )
    print(f"padding adds {100 * (sum(order) / sum(samples) - 1):.0f} % in batches of {BATCH} in file order\n")
    jobs = [(r, n) for n in (full, 4) for r in ("single", "padded", "padded-n", "voxfide")]
    jobs.remove(("padded-n", full))
    best: dict[tuple[str, int], dict] = {}
    for _ in range(options.rounds):
        for job in jobs:
            command = [sys.executable, __file__, "--threads", str(options.threads)]
            command += ["--child", job[0], str(job[1]), str(folder)]
            out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            found = json.loads(out.splitlines()[-1])
            if job not in best or found["wall"] < best[job]["wall"]:
                best[job] = found
    print(
        f"{'route':10} {'layers':>6} {'audio s/s':>10} {'CPU s/audio s':>14} {'peak MB':>8} {'of matmul':>10}"
    )
    for (route, n), found in best.items():
        share = useful_flop(config, samples, n) / found["wall"] / max(f["rate"] for f in best.values())
        print(
            f"{route:10} {n:6} {audio / found['wall']:10.2f} {found['cpu'] / audio:14.4f} "
            f"{found['peak_mb']:8.0f} {share:10.2f}"
        )
    for n in (full, 4):
        ours = best["voxfide", n]["wall"]
        ratios = {r: best[r, n]["wall"] / ours for r, m in best if m == n and r != "voxfide"}
        print(f"\nvoxfide at {n} layers: " + ", ".join(f"{v:.2f} x {k}" for k, v in ratios.items()))


if __name__ == "__main__":
    main()
