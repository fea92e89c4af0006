"""Small training runs, done by one process in the tests and by several under ``torchrun``.

As a script, does the runs that ``FOLDER/jobs.json`` lists in the processes of its launch.
"""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import nn

from voxfide.augment import Policy, parse
from voxfide.backends import create_backend
from voxfide.crops import Crop
from voxfide.errors import UsageError
from voxfide.frontends import create_frontend
from voxfide.jobs import write_failures
from voxfide.manifest import Manifest
from voxfide.studies.ensemble_steps import StepResult, Steps
from voxfide.training import choose_sets, heads
from voxfide.training.finetune import FinetuneOptions, finetune
from voxfide.training.finetune_settings import FinetuneSettings
from voxfide.training.frames import FeatureOptions, fit_heads
from voxfide.training.heads import HeadJob
from voxfide.training.journal import make_accelerator
from voxfide.training.pretrain import PretrainOptions, pretrain
from voxfide.training.pretrain_model import Start
from voxfide.training.pretrain_settings import PretrainSettings, architecture
from voxfide.training.processes import BatchTotals, add_up_gradients, gather_failures, processes_of_launch
from voxfide.training.row_dropout import following_rows
from voxfide.training.settings import TrainSettings


class Stopped(Exception):  # noqa: N818 - nothing is wrong
    """A run that was asked to stop where it was, in all of its processes."""


def stop_after(n: int | None) -> Any:
    def on_step(report: Any) -> None:
        if report.number == n:
            raise Stopped

    return None if n is None else on_step


def train_heads(folder: Path, out: Path, stop: int | None = None) -> None:
    """Heads on random crops of augmented audio, some of which cannot be read; in batches of all sizes."""
    sets = choose_sets(Manifest.read(folder / "heads" / "manifest.csv"), "train", "dev")
    assert sets[1] is not None
    settings = TrainSettings(epochs=2, batch_size=5, accumulation=2, crop=Crop(0.5, "random"))
    jobs = [HeadJob(name, create_backend(name), 1, 3) for name in ("ffn", "frames", "aasist")]
    accelerator = make_accelerator(out, cpu=True)
    real = heads.HeadTrainer._one_epoch

    def one_epoch(trainer: heads.HeadTrainer) -> None:
        if trainer.epoch == stop:
            raise Stopped
        real(trainer)

    options = FeatureOptions(workers=0, augment=Policy(parse("noise:snr=15"), seed=0))
    fitting = mock.patch.multiple(heads.HeadTrainer, _one_epoch=one_epoch)
    saving = mock.patch.object(heads, "CHECKPOINT_EVERY", 0.0)
    with suppress(Stopped), fitting, saving:
        _, streams = fit_heads(
            jobs, (sets[0], sets[1]), create_frontend("lfcc"), settings, out, accelerator=accelerator,
            options=options,
        )  # fmt: skip
    if stop is not None:
        return
    failures = gather_failures(accelerator, {f.utterance_id: f for f in streams.failures})
    if accelerator.is_main_process:
        write_failures(out / "failures.csv", failures)


def tune(folder: Path, out: Path, resume: bool = False, stop: int | None = None, **more: Any) -> None:
    """Fine-tuning with masks and left-out blocks, but without dropout."""
    options = FinetuneOptions(workers=0, cpu=True, fsdp=more.pop("fsdp", False), on_step=stop_after(stop))
    values = {"epochs": 2, "batch_size": 4, "learning_rate": 1e-3, "checkpoint_steps": 1, "dropout": False}
    settings = FinetuneSettings(**{**values, "crop": Crop(0.4, "random", "keep"), **more})
    sets = choose_sets(Manifest.read(folder / "corpus" / "manifest.csv"), "train", "dev")
    with suppress(Stopped):
        finetune(sets, str(folder / "wavlm"), out, settings=settings, options=options, resume=resume)


def learn(folder: Path, out: Path, resume: bool = False, stop: int | None = None, **more: Any) -> None:
    """Pre-training with mixing, left-out blocks and losses on all frames, in steps of few utterances."""
    sizes = {"hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4, "conv_dim": 16}
    values: dict[str, Any] = {"steps": 6, "clusters": 5, "batch_seconds": 2.0, "crop_seconds": 0.8}
    values |= {"layerdrop": 0.3, "unmasked_weight": 0.5, "mix_prob": 0.5, "learning_rate": 1e-3}
    options = PretrainOptions(
        workers=0, cpu=True, journal_steps=2, checkpoint_steps=1, on_step=stop_after(stop)
    )
    start = Start(architecture({**sizes, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4}))
    rows = Manifest.read(folder / "corpus" / "manifest.csv")
    with suppress(Stopped):
        pretrain(rows, start, out, PretrainSettings(**{**values, **more}), options=options, resume=resume)


def head_gradients(folder: Path, out: Path, rank: int = 0, world: int = 1) -> None:
    """Gradients of heads in double precision on a batch of unequal lengths, and statistics of their norms."""
    torch.manual_seed(0)
    of_layers = torch.tensor([30, 17, 41, 5]), torch.randn(4, 2, 41, 12, dtype=torch.float64)
    samples = torch.tensor([2500, 2400, 2700, 400]), torch.randn(4, 1, 2700, 1, dtype=torch.float64)
    labels = torch.tensor([0, 1, 1, 0])
    found = {}
    for name in ("ffn", "aasist", "frames", "aasist-raw"):
        backend = create_backend(name)
        lengths, features = samples if name == "aasist-raw" else of_layers
        backend.build(features.shape[1], features.shape[3])
        head = backend.head.double().train()
        totals = BatchTotals()
        # With five processes or more, some have nothing of the batch.
        mine = torch.arange(rank, 4, world)
        totals.is_empty = not len(mine)
        rows = mine if len(mine) else torch.zeros(1, dtype=torch.long)
        with following_rows(head, rows.tolist(), torch.device("cpu")):
            if world == 1:
                logits = head(features, lengths)
            else:
                with totals.of(head):
                    logits = head(features[rows], lengths[rows])
        loss = nn.functional.cross_entropy(logits, labels[rows], reduction="sum")
        (loss * 0 if totals.is_empty else loss).backward()
        if world > 1:
            add_up_gradients(list(head.parameters()))
        found |= {f"{name}.{k}": p.grad for k, p in head.named_parameters() if p.grad is not None}
        found |= {f"{name}.{k}": b for k, b in head.named_buffers() if b.is_floating_point()}
    if rank == 0:
        torch.save(found, out)


def steps_of_a_study(folder: Path, out: Path) -> None:
    """Steps that the first process does, one that all do, one that fails, and one that is done already."""
    processes = processes_of_launch(cpu=True)
    rank = 0 if processes is None else processes.process_index

    def fails() -> StepResult:
        raise UsageError(f"process {rank} cannot")

    told = {}
    for _ in range(2):
        steps = Steps(out / "steps", processes=processes)
        steps.do("first", lambda: StepResult({"by": rank}))
        steps.do("all", lambda: StepResult({"by": rank}), ["first"], together=True)
        steps.do("broken", fails)
        steps.do("after", lambda: StepResult(), ["broken"])
        told = {"facts": steps.facts, "broken": steps.broken}
    (out / f"told-{rank}.json").write_text(json.dumps(told))


def main() -> None:
    folder = Path(sys.argv[1])
    torch.set_num_threads(1)
    state = processes_of_launch(cpu=True)
    assert state is not None
    for name, out, values in json.loads((folder / "jobs.json").read_text()):
        if name == "head_gradients":
            values = {"rank": state.process_index, "world": state.num_processes}
        globals()[name](folder, folder / out, **values)
    if state.is_main_process:
        (folder / "world").write_text(str(state.num_processes))


if __name__ == "__main__":
    main()
