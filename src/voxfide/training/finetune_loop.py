"""The loop of fine-tuning: steps, epochs, checkpoints; on one process or many."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from voxfide.errors import UsageError
from voxfide.features import sent
from voxfide.jobs import Failure
from voxfide.training.checkpoint import (
    Checkpoint,
    check_same_run,
    load_optimizer,
    optimizer_tensors,
    save_checkpoint,
)
from voxfide.training.finetune_data import Piece, StepStream
from voxfide.training.finetune_model import FinetuneModel
from voxfide.training.finetune_settings import FinetuneSettings
from voxfide.training.processes import chance_key, gather_failures
from voxfide.training.randomness import random_of_all, restore_random_of
from voxfide.training.sharding import fill, like, shard, skeleton, whole
from voxfide.types import SAMPLE_RATE

if TYPE_CHECKING:
    from accelerate import Accelerator


@dataclass
class Position:
    """Where a run stands.

    Attributes:
        epoch, step: the next ones to be done; steps count from 0 in each epoch.
        loss_sum, weight_sum: of this epoch's training loss so far.
        best: figures of the best epoch so far.
        n_entries: lines of the journal.
    """

    epoch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    weight_sum: float = 0.0
    best: dict[str, Any] = field(default_factory=dict)
    n_entries: int = 0


@dataclass(frozen=True)
class StepReport:
    """What a step did.

    Attributes:
        number: counted from 1 over all epochs.
        loss: of the whole batch.
        learning_rate: at its peak over the groups.
        utterances, seconds: of the whole batch.
    """

    number: int
    loss: float
    learning_rate: float
    utterances: int
    seconds: float


class FinetuneLoop:
    """Takes the steps and keeps the checkpoints.

    Args:
        model: on its way to the accelerator's device.
        stream: of the training set.
        settings: of the training.
        class_weights: of spoof and of bona fide.
        folder: of the run.
        accelerator: device, processes and precision.
        job: all that determines the outcome; a checkpoint of another job is refused.
        fsdp: share the model out over the processes, in place of a copy in each.
        on_step: told after every step.

    Raises:
        UsageError: a model that cannot be shared out.
    """

    def __init__(
        self,
        model: FinetuneModel,
        stream: StepStream,
        settings: FinetuneSettings,
        class_weights: tuple[float, float],
        folder: Path,
        *,
        accelerator: Accelerator,
        job: dict[str, Any],
        fsdp: bool = False,
        on_step: Callable[[StepReport], None] | None = None,
    ) -> None:
        self.model, self.stream, self.settings, self.folder = model, stream, settings, folder
        self.accelerator, self.job, self.on_step = accelerator, job, on_step
        self.position = Position()
        self._skeleton = skeleton(model) if fsdp else None
        if fsdp:
            shard(model, accelerator)
        self._wrapped = model if fsdp else accelerator.prepare(model)
        groups = model.parameter_groups(settings)
        rate = settings.learning_rate
        # Adam where the weight decay is 0, which it is by default. Fused: one pass over memory, not ten.
        self._optimizer = torch.optim.AdamW(groups, lr=rate, fused=accelerator.device.type != "mps")
        self._stepper = accelerator.prepare(self._optimizer)
        self._class_weights = torch.tensor(class_weights, device=accelerator.device)
        self._trained = [p for group in groups for p in group["params"]]

    @property
    def n_steps(self) -> int:
        """Of the whole run."""
        return self.settings.epochs * self.stream.n_steps

    def whole_model(self) -> FinetuneModel:
        """The model as it is now; one that is shared out as a copy, for which all processes must ask."""
        return self.model if self._skeleton is None else fill(self._skeleton, self.model)

    def train_epoch(self) -> float:
        """Takes the rest of the steps of the current epoch; the mean training loss of all of it."""
        here = self.position
        self._wrapped.train()
        for pieces in self.stream.steps(here.epoch, here.step):
            self._step(pieces)
            here.step += 1
            if self._steps_done % self.settings.checkpoint_steps == 0 and here.step < self.stream.n_steps:
                self.save()
        return here.loss_sum / here.weight_sum if here.weight_sum else math.nan

    def end_epoch(self) -> None:
        """Moves on to the next epoch, and saves."""
        if self._skeleton is not None:
            self._skeleton.to("meta")
        here = self.position
        here.epoch, here.step, here.loss_sum, here.weight_sum = here.epoch + 1, 0, 0.0, 0.0
        self.save()

    def _step(self, pieces: Sequence[Piece]) -> None:
        done = self._steps_done
        factor = self.settings.rate(done, self.n_steps)
        for group in self._optimizer.param_groups:
            group["lr"] = group["peak"] * factor
        # The same blocks in all pieces of a batch and in all processes.
        self.model.encoder.encoder.layerdrop_seed = chance_key(self.settings.seed, done)
        loss, weight, utterances, seconds = self._gradients(pieces)
        if not math.isfinite(loss):
            raise UsageError(
                f"fine-tuning: the loss is {loss} at step {done + 1}: training has diverged "
                "(expected to settle at a lower learning rate)"
            )
        if weight:
            if self.settings.max_grad_norm:
                self.accelerator.clip_grad_norm_(self._trained, self.settings.max_grad_norm)
            self._stepper.step()
        self._stepper.zero_grad()
        self.position.loss_sum += loss * weight
        self.position.weight_sum += weight
        if self.on_step:
            rate = self.settings.learning_rate * factor
            self.on_step(StepReport(done + 1, loss, rate, utterances, seconds))

    def _gradients(self, pieces: Sequence[Piece]) -> tuple[float, float, int, float]:
        """Backward passes of a step; over all processes, its loss, and the weight, number and seconds of
        its utterances."""
        several = self.accelerator.num_processes > 1
        targets = [torch.as_tensor(self.stream.is_bonafide[p.rows]).long().to(self._device) for p in pieces]
        weights = [self._class_weights[t] for t in targets]
        lengths = [len(w) for piece in pieces for w in piece.waveforms]
        counts = torch.tensor([len(lengths), sum(lengths) / SAMPLE_RATE], device=self._device)
        sums = self.accelerator.reduce(torch.cat([torch.cat(weights).sum()[None], counts]))
        weight, utterances, seconds = sums[0], round(float(sums[1])), float(sums[2])
        if not utterances:
            return 0.0, 0.0, 0, 0.0
        # Of several processes each computes every piece, be it empty, for they wait for each other.
        kept = [i for i, piece in enumerate(pieces) if piece.rows or several]
        total = torch.zeros((), device=self._device)
        for i in kept:
            # Of a model that is shared out, gradients are added up at once: whole ones would not fit.
            adds_up = i == kept[-1] or self._skeleton is not None
            with nullcontext() if adds_up else self.accelerator.no_sync(self._wrapped):
                loss = self._loss(pieces[i], targets[i], weights[i])
                # Gradients are averaged over processes: what counts is the sum over the whole batch.
                self.accelerator.backward(loss * (self.accelerator.num_processes / weight))
            total += loss.detach()
        total = self.accelerator.reduce(total)
        return float(total / weight), float(weight), utterances, seconds

    def _loss(self, piece: Piece, target: Tensor, weight: Tensor) -> Tensor:
        if not piece.rows:
            silence = torch.zeros(SAMPLE_RATE, device=self._device)
            with self.accelerator.autocast():
                return self._wrapped([silence], [0]).float().sum() * 0.0
        waveforms = sent(piece.waveforms, self._device)
        keys = [chance_key(self.settings.seed, self.position.epoch, row) for row in piece.rows]
        with self.accelerator.autocast():
            logits = self._wrapped(waveforms, keys)
        return (F.cross_entropy(logits.float(), target, reduction="none") * weight).sum()

    @property
    def _steps_done(self) -> int:
        return self.position.epoch * self.stream.n_steps + self.position.step

    @property
    def _device(self) -> torch.device:
        device: torch.device = self.accelerator.device
        return device

    def save(self) -> None:
        """Writes a checkpoint: trained parameters, optimizer, random states of all processes, position."""
        everything, values = random_of_all(self.accelerator)
        failures = gather_failures(self.accelerator, self.stream.failures)
        everything |= {f"model.{k}": whole(p) for k, p in self.model.named_parameters() if p.requires_grad}
        everything |= optimizer_tensors(self._optimizer, "optimizer.")
        if not self.accelerator.is_main_process:
            return
        scaler = self.accelerator.scaler
        state = {
            "job": self.job,
            "position": asdict(self.position),
            "random": values,
            "scaler": scaler.state_dict() if scaler is not None else None,
            "failures": [failure.to_dict() for failure in failures],
        }
        number = self._steps_done
        save_checkpoint(self.folder, Checkpoint(number, everything, state))

    def restore(self, checkpoint: Checkpoint) -> None:
        """Goes on from a checkpoint of the same job.

        Raises:
            CheckpointError: it was made by another one.
        """
        check_same_run(checkpoint, self.job, self.folder)
        own = dict(self.model.named_parameters())
        with torch.no_grad():
            for name, tensor in checkpoint.tensors.items():
                if name.startswith("model."):
                    held = own[name.removeprefix("model.")]
                    held.copy_(like(tensor, held))
        load_optimizer(self._optimizer, checkpoint.tensors, "optimizer.")
        state = checkpoint.state
        self.position = Position(**state["position"])
        if state["scaler"] is not None:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        self.stream.failures |= {f["utterance_id"]: Failure(**f) for f in state["failures"]}
        restore_random_of(
            self.accelerator, checkpoint.tensors, state["random"], self.settings.seed, self._steps_done
        )
