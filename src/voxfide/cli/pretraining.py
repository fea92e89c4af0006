"""``voxfide pretrain``: a self-supervised speech model, from audio without labels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from voxfide.cli import console
from voxfide.cli.commands import (
    ManifestArgument,
    SplitOption,
    StrictOption,
    WorkersOption,
    exit_if,
)
from voxfide.errors import UsageError

if TYPE_CHECKING:
    from voxfide.training.pretrain import PretrainResult
    from voxfide.training.pretrain_model import Start


def pretrain(
    manifest: ManifestArgument,
    out: Annotated[Path, typer.Option("-o", "--out", metavar="MODEL_DIR", help="Folder of the model.")],
    split: SplitOption = None,
    init: Annotated[
        str | None, typer.Option(metavar="NAME|HUB_ID|DIR", help="Go on from an earlier model's weights.")
    ] = None,
    arch: Annotated[
        Path | None, typer.Option(metavar="YAML", help="Entries of config.json, such as hidden_size: 256.")
    ] = None,
    model_type: Annotated[str | None, typer.Option("--type", help="hubert, wavlm or wav2vec2.")] = None,
    hidden_size: Annotated[int | None, typer.Option(help="Width of the transformer (192).")] = None,
    layers: Annotated[int | None, typer.Option(help="Its blocks (6).")] = None,
    heads: Annotated[int | None, typer.Option(help="Its attention heads (4).")] = None,
    conv_dim: Annotated[
        str | None,
        typer.Option(metavar="N[,N...]", help="Width of the seven convolutions (64,96,128,128,192,256,256)."),
    ] = None,
    targets: Annotated[
        str, typer.Option(metavar="mfcc|MODEL:LAYER", help="What is clustered: MFCC, or a model's block.")
    ] = "mfcc",
    clusters: Annotated[int, typer.Option(help="How many.")] = 100,
    steps: Annotated[int | None, typer.Option(help="Length of the run; or --minutes.")] = None,
    minutes: Annotated[
        float | None, typer.Option(help="Length of the run as a budget of time; or --steps.")
    ] = None,
    batch_seconds: Annotated[float, typer.Option(help="Audio a step.")] = 60.0,
    accumulation: Annotated[
        int, typer.Option(min=1, help="Pieces in which a batch is worked off, to save memory.")
    ] = 1,
    crop_seconds: Annotated[float, typer.Option(help="Longest stretch seen at once.")] = 10.0,
    learning_rate: Annotated[float, typer.Option("--lr", help="Of AdamW, at its peak.")] = 5e-4,
    warmup: Annotated[
        float, typer.Option(help="Share of the run in which the rate rises; then it falls to 0.")
    ] = 0.08,
    weight_decay: Annotated[float, typer.Option(help="Decoupled, of weight matrices.")] = 0.01,
    max_grad_norm: Annotated[float, typer.Option(help="Clip gradients to this norm; 0: do not.")] = 1.0,
    mask_prob: Annotated[
        float, typer.Option(help="Of frames, were masked spans not to overlap; 0.65 masks half.")
    ] = 0.65,
    mask_length: Annotated[int, typer.Option(help="Frames of a span.")] = 10,
    unmasked_weight: Annotated[float, typer.Option(help="Of the loss on frames not masked.")] = 0.0,
    mix_prob: Annotated[float, typer.Option(help="Utterances overlapped by another one or noise.")] = 0.2,
    noise_share: Annotated[float, typer.Option(help="Of these, those that get noise.")] = 0.1,
    noise_folder: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Noise recordings; by default noise is made.")
    ] = None,
    feature_penalty: Annotated[float, typer.Option(help="Weight of the features' mean square.")] = 10.0,
    conv_gradient: Annotated[float, typer.Option(help="Factor of the convolutions' gradient.")] = 0.1,
    dropout: Annotated[float, typer.Option(help="In the transformer.")] = 0.0,
    layerdrop: Annotated[float, typer.Option(help="Probability that a block is left out.")] = 0.0,
    precision: Annotated[str, typer.Option(help="fp32, bf16 or fp16 (mixed, with fp32 weights).")] = "fp32",
    memory_mb: Annotated[
        int, typer.Option("--memory-mb", help="For decoded audio; the rest is decoded anew every pass.")
    ] = 2048,
    journal_steps: Annotated[int, typer.Option(help="Steps between entries of the journal.")] = 50,
    checkpoint_steps: Annotated[int, typer.Option(help="Steps between checkpoints.")] = 200,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in MODEL_DIR.")] = False,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Write event files too.")] = False,
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    workers: WorkersOption = None,
    strict: StrictOption = False,
) -> None:
    """Pre-train a self-supervised speech model.

    Learns without labels to name the clusters of masked frames (HuBERT), with overlapping speech and
    noise (WavLM). The folder is a front-end and a model that transformers loads. Several GPUs:
    start it with `accelerate launch -m voxfide pretrain ...`.
    """
    from voxfide.devices import resolve_device
    from voxfide.manifest import Manifest
    from voxfide.training.pretrain import PretrainOptions
    from voxfide.training.pretrain import pretrain as run
    from voxfide.training.pretrain_settings import PretrainSettings
    from voxfide.training.processes import leave

    settings = PretrainSettings(
        clusters=clusters, targets=targets, steps=steps, minutes=minutes, batch_seconds=batch_seconds,
        accumulation=accumulation, crop_seconds=crop_seconds, learning_rate=learning_rate, warmup=warmup,
        weight_decay=weight_decay, max_grad_norm=max_grad_norm, mask_prob=mask_prob, mask_length=mask_length,
        unmasked_weight=unmasked_weight, mix_prob=mix_prob, noise_share=noise_share,
        feature_penalty=feature_penalty, conv_gradient=conv_gradient, dropout=dropout, layerdrop=layerdrop,
        precision=precision, seed=seed,
    )  # fmt: skip
    sizes: dict[str, Any] = {
        "model_type": model_type,
        "hidden_size": hidden_size,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "conv_dim": None if conv_dim is None else _widths(conv_dim),
    }
    start = _start(init, arch, {name: size for name, size in sizes.items() if size is not None})
    cpu = resolve_device(device) == "cpu"
    rows = Manifest.read(manifest).require_valid().split(split)
    with console.progress("pretrain: reading") as bar:
        bar.start(len(rows), 0)
        options = PretrainOptions(
            noise=noise_folder, memory_mb=memory_mb, workers=workers, strict=strict, cpu=cpu,
            tensorboard=tensorboard, journal_steps=journal_steps, checkpoint_steps=checkpoint_steps,
            say=console.say, progress=bar,
        )  # fmt: skip
        result = run(rows, start, out, settings, options=options, resume=resume)
    leave()
    if console.is_first_process():
        _report(result)


def _start(init: str | None, arch: Path | None, sizes: dict[str, Any]) -> Start:
    from voxfide.training.pretrain_model import Start
    from voxfide.training.pretrain_settings import architecture, read_architecture

    if init is not None:
        if arch is not None or sizes:
            raise UsageError(
                "--init has an architecture of its own (expected no --arch and no sizes beside it)"
            )
        return Start(name=init)
    return Start(architecture({**(read_architecture(arch) if arch is not None else {}), **sizes}))


def _widths(text: str) -> int | list[int]:
    try:
        widths = [int(part) for part in text.split(",")]
    except ValueError:
        raise UsageError(f"--conv-dim {text!r} (expected one whole number, or seven with commas)") from None
    return widths[0] if len(widths) == 1 else widths


def _report(result: PretrainResult) -> None:
    from voxfide.jobs import write_failures

    failed = result.folder / "failures.csv"
    write_failures(failed, result.failures)
    console.report_failures(result.failures, str(failed))
    facts, final = result.facts, result.facts["final"]
    size, hours = f"{facts['parameters'] / 1e6:.2f} million parameters", f"{facts['data']['hours']:.2f} h"
    print(
        f"{result.folder}: {size} after {facts['steps']:,} steps on {hours}; "
        f"{100 * final['accuracy_masked']:.1f} % of masked frames named right "
        f"(commonest cluster: {100 * final['majority']:.1f} %)"
    )
    exit_if(result.failures)
