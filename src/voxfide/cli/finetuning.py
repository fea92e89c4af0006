"""``voxfide finetune``: a whole pre-trained model, trained together with its head."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from voxfide.cli import console
from voxfide.cli.commands import (
    BatchOption,
    FrontendOption,
    LayersOption,
    ManifestArgument,
    RevisionOption,
    StrictOption,
    WorkersOption,
    exit_if,
)
from voxfide.errors import UsageError

if TYPE_CHECKING:
    from voxfide.manifest import Manifest
    from voxfide.training.finetune_loop import StepReport


def finetune(
    manifest: ManifestArgument,
    frontend: FrontendOption,
    out: Annotated[Path, typer.Option("-o", "--out", metavar="DETECTOR", help="Folder of the detector.")],
    split: Annotated[str, typer.Option(help="Split to train on.")] = "train",
    dev_split: Annotated[str, typer.Option(help="Split that picks the best epoch.")] = "dev",
    layers: LayersOption = None,
    epochs: Annotated[int, typer.Option(min=1, help="Over the training set.")] = 5,
    batch_size: Annotated[int, typer.Option(min=1, help="Utterances a step, over all processes.")] = 8,
    accumulation: Annotated[
        int, typer.Option(min=1, help="Pieces in which a batch is worked off, to save memory.")
    ] = 1,
    learning_rate: Annotated[float, typer.Option(help="Of Adam, at its peak.")] = 3e-5,
    warmup: Annotated[
        float, typer.Option(help="Share of the steps in which the rate rises; then it falls to 0.")
    ] = 0.1,
    layer_decay: Annotated[
        float, typer.Option(help="Factor of the learning rate from each block to the one below.")
    ] = 1.0,
    weight_decay: Annotated[float, typer.Option(help="Decoupled, of weight matrices.")] = 0.0,
    max_grad_norm: Annotated[float, typer.Option(help="Clip gradients to this norm; 0: do not.")] = 1.0,
    class_weights: Annotated[
        str, typer.Option(metavar="none|balanced|SPOOF,BONAFIDE", help="Of the classes in the loss.")
    ] = "none",
    train_convolutions: Annotated[
        bool, typer.Option("--train-convolutions", help="Train the convolutional feature encoder too.")
    ] = False,
    gradient_checkpointing: Annotated[
        bool, typer.Option("--gradient-checkpointing", help="Compute blocks twice, to save memory.")
    ] = False,
    precision: Annotated[str, typer.Option(help="fp32, bf16 or fp16 (mixed, with fp32 weights).")] = "fp32",
    lora: Annotated[
        int,
        typer.Option(metavar="RANK", min=0, help="Train low-rank updates of attention; 0: the model."),
    ] = 0,
    lora_alpha: Annotated[int, typer.Option(min=1, help="Their scale is alpha / rank.")] = 16,
    dropout: Annotated[bool, typer.Option(help="Dropout at the checkpoint's own rates.")] = True,
    layerdrop: Annotated[bool, typer.Option(help="Leave blocks out at the checkpoint's own rate.")] = True,
    spec_augment: Annotated[bool, typer.Option(help="Mask frames as the checkpoint's settings say.")] = True,
    crop: Annotated[float, typer.Option(metavar="SECONDS", min=0.0, help="Seen in training; 0: all.")] = 4.0,
    crop_at: Annotated[str, typer.Option(help="random or start.")] = "random",
    augment: Annotated[
        str | None,
        typer.Option(metavar="SPEC", help="Such as 'noise:snr=25'; by default as the column `augment` says."),
    ] = None,
    augment_label: Annotated[str | None, typer.Option(help="Augment only bonafide, or only spoof.")] = None,
    augment_fraction: Annotated[float, typer.Option(min=0.0, max=1.0, help="Of these utterances.")] = 1.0,
    select_by: Annotated[str, typer.Option(help="Best epoch by loss or eer on the dev split.")] = "loss",
    checkpoint_steps: Annotated[
        int, typer.Option(min=1, help="Steps between checkpoints; one is made after an epoch.")
    ] = 500,
    fsdp: Annotated[
        bool,
        typer.Option("--fsdp", help="Share weights and optimizer state out over the processes (FSDP2)."),
    ] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run that DETECTOR holds.")] = False,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Write event files too.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Of everything random.")] = 0,
    revision: RevisionOption = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    workers: WorkersOption = None,
    batch_seconds: BatchOption = None,
    strict: StrictOption = False,
) -> None:
    """Fine-tune a whole model.

    Trains a wav2vec 2.0, HuBERT or WavLM model together with a classification head. The folder is
    a detector, a model that transformers loads, and a front-end. Several GPUs: start it with
    `accelerate launch -m voxfide finetune ...`; a model that one GPU cannot hold: with --fsdp.
    """
    from voxfide.crops import Crop
    from voxfide.devices import resolve_device
    from voxfide.manifest import Manifest
    from voxfide.training import choose_sets
    from voxfide.training.finetune import FinetuneOptions
    from voxfide.training.finetune import finetune as run
    from voxfide.training.finetune_settings import FinetuneSettings
    from voxfide.training.journal import launched_with_fsdp
    from voxfide.training.processes import leave

    settings = FinetuneSettings(
        epochs=epochs, batch_size=batch_size, accumulation=accumulation, learning_rate=learning_rate,
        warmup=warmup, layer_decay=layer_decay, weight_decay=weight_decay, max_grad_norm=max_grad_norm,
        class_weights=_class_weights(class_weights), train_convolutions=train_convolutions,
        gradient_checkpointing=gradient_checkpointing, precision=precision, lora_rank=lora,
        lora_alpha=lora_alpha, dropout=dropout, layerdrop=layerdrop, spec_augment=spec_augment,
        crop=Crop(crop or None, crop_at, "keep"), select_by=select_by, checkpoint_steps=checkpoint_steps,
        seed=seed,
    )  # fmt: skip
    cpu = resolve_device(device) == "cpu"
    rows = Manifest.read(manifest).require_valid()
    sets = choose_sets(rows, split, dev_split)
    chooser, facts = _augmentation(sets[0].manifest, augment, augment_label, augment_fraction, seed)
    with console.progress("finetune") as bar:
        bar.start(epochs * len(sets[0].manifest), 0)
        options = FinetuneOptions(
            augment=chooser, augment_facts=facts, workers=workers, batch_seconds=batch_seconds, strict=strict,
            cpu=cpu, tensorboard=tensorboard, fsdp=fsdp or launched_with_fsdp(),
            say=console.say, on_step=_steps_told_to(bar),
        )  # fmt: skip
        result = run(
            sets, frontend, out, n_layers=layers, revision=revision, settings=settings, options=options,
            resume=resume,
        )  # fmt: skip
    leave()
    if console.is_first_process():
        _report(result, out)


def _report(result: Any, out: Path) -> None:
    from voxfide.jobs import write_failures

    failed = out / "failures.csv"
    write_failures(failed, result.failures)
    console.report_failures(result.failures, str(failed))
    best = result.best
    if "dev_loss" in best:
        print(f"dev: loss {best['dev_loss']:.4f}, EER {best['eer_percent']:.2f} %, AUC {best['auc']:.3f}")
    print(f"{out}: detector of epoch {best['epoch']}, threshold {result.detector.threshold:.4f}")
    exit_if(result.failures)


def _steps_told_to(bar: console.Progress) -> Any:
    def told(report: StepReport) -> None:
        bar(report.utterances, report.seconds)

    return told


def _class_weights(text: str) -> str | tuple[float, float]:
    if "," not in text:
        return text
    try:
        spoof, bonafide = (float(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"--class-weights {text!r} (expected none, balanced, or two numbers)") from None
    return spoof, bonafide


def _augmentation(
    rows: Manifest, spec: str | None, label: str | None, fraction: float, seed: int
) -> tuple[Any, dict[str, Any] | None]:
    """What augments the training set: what was asked for, or what the manifest's own column says."""
    from voxfide.augment import Plan, Policy, parse
    from voxfide.augment.policy import PLAN_COLUMN

    chooser: Plan | Policy
    if spec is not None:
        chooser = Policy(parse(spec), label, fraction, None, seed)
    elif label is not None or fraction != 1.0:
        raise UsageError("--augment-label and --augment-fraction need --augment")
    elif PLAN_COLUMN in rows.columns and any(rows.strings(PLAN_COLUMN)):
        chooser = Plan.of(rows, seed)
    else:
        return None, None
    return chooser, chooser.describe()
