"""Fine-tuning with voxfide against ``transformers.Trainer`` on the same model, files and batches.

    python benchmarks/finetune.py [--steps 6] [--model wavlm-base] [--batch 8] [--seconds 4] [--threads N]
                                  [--precision bf16 --device cuda]

Every route runs in a process of its own, from WAV files of equal length and from the same random weights:

- ``trainer``: ``transformers.Trainer`` at its default settings, on ``AutoModelForAudioClassification``
- ``trainer-frozen``: the same after ``freeze_feature_encoder()``, which trains what voxfide does
- ``voxfide``: ``voxfide.training.finetune`` at its default settings
- ``voxfide-checkpointing``: with gradient checkpointing

All have the same learning rate, schedule, clipping and order of the utterances; the checkpoint's rates of
dropout, of left-out blocks and of masks are 0, so that the loss curves can be compared step by step.

Reported: steps per second and CPU seconds a step after the first step, peak memory (resident, from start to
end; on a GPU what was allocated there), the largest difference of the loss to ``trainer-frozen`` (of
``trainer``, which moves the convolutions too, it grows with the steps), and ratios.
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
from typing import Any

ROUTES = ("trainer", "trainer-frozen", "voxfide", "voxfide-checkpointing")
RATE, WARMUP, SEED = 3e-5, 0.1, 0


def prepare(folder: Path, args: argparse.Namespace) -> None:
    """WAV files, manifest, and the model before its first step."""
    import numpy as np
    import soundfile as sf
    import torch

    from voxfide.detector import Detector
    from voxfide.frontends import FRONTENDS
    from voxfide.frontends.checkpoint import save_encoder
    from voxfide.frontends.ssl_config import SSLConfig
    from voxfide.frontends.ssl_model import SSLEncoder
    from voxfide.training.finetune_model import start_model
    from voxfide.training.finetune_settings import FinetuneSettings

    rng = np.random.default_rng(SEED)
    lines = ["utterance_id,path,label,split"]
    for i in range(args.batch * args.steps):
        noise = 0.1 * rng.standard_normal(round(args.seconds * 16000))
        tone = 0.2 * np.sin(np.arange(len(noise)) * rng.uniform(0.05, 0.1)) if i % 2 else 0.0
        sf.write(folder / f"u{i:04d}.wav", noise + tone, 16000, subtype="PCM_16")
        lines.append(f"u{i:04d},u{i:04d}.wav,{('spoof', 'bonafide')[i % 2]},train")
    (folder / "m.csv").write_text("\n".join(lines) + "\n")
    architecture: dict[str, Any] = dict(FRONTENDS[args.model].architecture)
    if args.blocks:
        architecture["num_hidden_layers"] = args.blocks
    torch.manual_seed(SEED)
    save_encoder(SSLEncoder(SSLConfig(**architecture)), folder / "checkpoint")
    torch.manual_seed(SEED)
    model, _ = start_model(str(folder / "checkpoint"), None, None, FinetuneSettings())
    Detector(model.frozen("start"), model.backend()).save(folder / "start")
    for name in ("checkpoint", "start"):
        path = folder / name / "config.json"
        off: dict[str, Any] = dict.fromkeys(
            ("hidden_dropout", "activation_dropout", "attention_dropout", "feat_proj_dropout", "layerdrop"),
            0.0,
        )
        path.write_text(json.dumps({**json.loads(path.read_text()), **off, "apply_spec_augment": False}))


def run_voxfide(folder: Path, args: argparse.Namespace, checkpointing: bool) -> dict[str, Any]:
    from voxfide.manifest import Manifest
    from voxfide.training import TrainingSet
    from voxfide.training.finetune import FinetuneOptions, finetune
    from voxfide.training.finetune_settings import FinetuneSettings

    losses: list[float] = []
    times: list[tuple[float, float]] = []

    def told(report: Any) -> None:
        losses.append(report.loss)
        times.append((time.perf_counter(), time.process_time()))

    settings = FinetuneSettings(
        epochs=1, batch_size=args.batch, learning_rate=RATE, warmup=WARMUP, seed=SEED,
        precision=args.precision, gradient_checkpointing=checkpointing,
    )  # fmt: skip
    part = TrainingSet.of("train", Manifest.read(folder / "m.csv"), "train")
    options = FinetuneOptions(on_step=told, cpu=args.device == "cpu")
    # The curve ends with the last step: saving the detector is not part of it.
    finetune((part, None), str(folder / "checkpoint"), folder / "out", settings=settings, options=options)
    return {"losses": losses, "times": times}


def run_trainer(folder: Path, args: argparse.Namespace, frozen: bool) -> dict[str, Any]:
    import numpy as np
    import soundfile as sf
    import torch
    from torch.utils.data import SequentialSampler
    from transformers import (
        AutoFeatureExtractor,
        AutoModelForAudioClassification,
        Trainer,
        TrainerCallback,
        TrainingArguments,
    )

    files = sorted(folder.glob("*.wav"))
    order = np.random.default_rng([SEED, 0]).permutation(len(files))
    extractor = AutoFeatureExtractor.from_pretrained(folder / "start")
    model = AutoModelForAudioClassification.from_pretrained(folder / "start")
    if frozen:
        model.freeze_feature_encoder()

    class Files(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return len(files)

        def __getitem__(self, index: int) -> dict[str, Any]:
            i = int(order[index])
            waveform, rate = sf.read(files[i], dtype="float32")
            values = extractor(waveform, sampling_rate=rate).input_values[0]
            return {"input_values": values, "labels": i % 2}

    class InOrder(Trainer):
        def _get_train_sampler(self, *_: Any) -> SequentialSampler:
            return SequentialSampler(self.train_dataset)

    times: list[tuple[float, float]] = []
    losses: list[float] = []

    class Clock(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            times.append((time.perf_counter(), time.process_time()))

        def on_log(self, arguments: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            if "loss" in (logs or {}):
                losses.append(float(logs["loss"]))

    arguments = TrainingArguments(
        output_dir=str(folder / "trainer"), num_train_epochs=1, per_device_train_batch_size=args.batch,
        learning_rate=RATE, warmup_steps=WARMUP, lr_scheduler_type="linear", seed=SEED, logging_steps=1,
        save_strategy="no", report_to=[], disable_tqdm=True, use_cpu=args.device == "cpu",
        bf16=args.precision == "bf16", fp16=args.precision == "fp16",
    )  # fmt: skip
    InOrder(model=model, args=arguments, train_dataset=Files(), callbacks=[Clock()]).train()
    return {"losses": losses, "times": times}


def child(route: str, folder: Path, args: argparse.Namespace) -> None:
    """One route; its figures as the last line of stdout."""
    import torch

    if args.threads:
        torch.set_num_threads(args.threads)
    found = (
        run_voxfide(folder, args, route.endswith("checkpointing"))
        if route.startswith("voxfide")
        else run_trainer(folder, args, route.endswith("frozen"))
    )
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    if args.device != "cpu":
        peak = torch.cuda.max_memory_allocated()
    times = found["times"]
    wall, cpu = ((last - first) / (len(times) - 1) for first, last in zip(times[0], times[-1], strict=True))
    figures = {"losses": found["losses"], "steps_per_second": 1 / wall, "cpu": cpu, "peak": peak}
    print(json.dumps(figures))


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--model", default="wavlm-base", help="a registered SSL front-end: its size")
    parser.add_argument("--blocks", type=int, default=0, help="fewer than the model has, to try things out")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--routes", nargs="+", default=ROUTES, choices=ROUTES)
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        route, folder = args.child
        if route == "prepare":
            prepare(Path(folder), args)
        else:
            child(route, Path(folder), args)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        # In processes of their own, the preparation too: a child's peak memory starts from its parent's.
        subprocess.run([sys.executable, __file__, *sys.argv[1:], "--child", "prepare", folder], check=True)
        found = {}
        for route in args.routes:
            out = subprocess.run(
                [sys.executable, __file__, *sys.argv[1:], "--child", route, folder],
                check=True,
                stdout=subprocess.PIPE,
                text=True,
                env={**os.environ, "HF_HUB_OFFLINE": "1"},
            ).stdout
            found[route] = json.loads(out.splitlines()[-1])
    return report(found, args)


def report(found: dict[str, Any], args: argparse.Namespace) -> int:
    """Prints the table; 1 where the target is missed."""
    print(
        f"{args.model} size, batch {args.batch} of {args.seconds:g} s, {args.steps} steps, {args.precision} "
        f"on {args.device}\ntarget: 1.3 times the speed of trainer, or 0.7 times its memory"
    )
    reference = found.get("trainer-frozen", {}).get("losses")
    base = found.get("trainer")
    print(
        "route                   steps/s   peak MB   speed  memory  loss: first    last   largest difference"
    )
    for route, values in found.items():
        losses = values["losses"]
        ratios = "      -       -"
        if base:
            speed = values["steps_per_second"] / base["steps_per_second"]
            ratios = f"{speed:7.2f} {values['peak'] / base['peak']:7.2f}"
        apart = max(abs(a - b) for a, b in zip(losses, reference, strict=True)) if reference else float("nan")
        print(
            f"{route:<22}{values['steps_per_second']:9.4f}{values['cpu']:12.1f}{values['peak'] / 1e6:10.0f} "
            f"{ratios}{losses[0]:13.5f}{losses[-1]:8.5f}{apart:12.1e}"
        )
    if not base or "voxfide" not in found:
        return 0
    ours = found["voxfide"]
    met = ours["steps_per_second"] >= 1.3 * base["steps_per_second"] or ours["peak"] <= 0.7 * base["peak"]
    print("target met" if met else "target missed")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
