"""The loop of pre-training: steps, schedule, journal and checkpoints, in one process."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F

from voxfide.errors import UsageError
from voxfide.jobs import Failure
from voxfide.training.checkpoint import (
    Checkpoint,
    check_same_run,
    load_optimizer,
    optimizer_tensors,
    save_checkpoint,
)
from voxfide.training.journal import Journal
from voxfide.training.pretrain_data import Batch, BatchStream
from voxfide.training.pretrain_model import PretrainModel
from voxfide.training.pretrain_settings import PretrainSettings
from voxfide.training.pretrain_tally import Tally
from voxfide.training.randomness import random_tensors, random_values, restore_random
from voxfide.types import SAMPLE_RATE

if TYPE_CHECKING:
    from accelerate import Accelerator

BETAS = (0.9, 0.98)
EPSILON = 1e-6


@dataclass
class Position:
    """Where a run stands.

    Attributes:
        step: steps done.
        number, batch: pass over the training set and batch in it that come next.
        elapsed: seconds of training so far, without what a killed run did after its last checkpoint.
        n_entries: lines of the journal.
        last: figures of the last of them.
    """

    step: int = 0
    number: int = 0
    batch: int = 0
    elapsed: float = 0.0
    n_entries: int = 0
    last: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class PretrainStep:
    """What a step did: its number from 1, its loss, the share of the run that is done, and its audio."""

    number: int
    loss: float
    done: float
    utterances: int
    seconds: float


class PretrainLoop:
    """Takes the steps and keeps the checkpoints.

    Args:
        model: on its way to the accelerator's device.
        stream: batches.
        settings: of the training.
        folder: of the run.
        accelerator: device and precision.
        journal: gets an entry every ``journal_steps`` and at the end.
        job: all that determines the outcome; a checkpoint of another job is refused.
        journal_steps, checkpoint_steps: steps between entries and between checkpoints.
        on_step: told after every step.
    """

    def __init__(
        self,
        model: PretrainModel,
        stream: BatchStream,
        settings: PretrainSettings,
        folder: Path,
        *,
        accelerator: Accelerator,
        journal: Journal,
        job: dict[str, Any],
        journal_steps: int = 50,
        checkpoint_steps: int = 200,
        on_step: Callable[[PretrainStep], None] | None = None,
    ) -> None:
        self.model, self.stream, self.settings, self.folder = model, stream, settings, folder
        self.accelerator, self.journal, self.job, self.on_step = accelerator, journal, job, on_step
        self.journal_steps, self.checkpoint_steps = journal_steps, checkpoint_steps
        self.position, self.tally = Position(), Tally()
        self._wrapped = accelerator.prepare(model)
        self._optimizer = torch.optim.AdamW(
            model.parameter_groups(settings.weight_decay),
            lr=settings.learning_rate,
            betas=BETAS,
            eps=EPSILON,
            fused=accelerator.device.type != "mps",
        )
        self._stepper = accelerator.prepare(self._optimizer)

    @property
    def done(self) -> float:
        """Share of the run."""
        if self.settings.steps is not None:
            return self.position.step / self.settings.steps
        return self.position.elapsed / (60 * float(self.settings.minutes or 0))

    def run(self) -> None:
        """Takes all steps that are left."""
        here = self.position
        self._wrapped.train()
        while self.done < 1:
            at_first, steps_before = here.batch, here.step
            clock = time.monotonic()
            for batch in self.stream.batches(here.number, here.batch):
                here.batch += 1
                if batch.waveforms:
                    self._step(batch)
                    now = time.monotonic()
                    here.elapsed, clock = here.elapsed + now - clock, now
                    self._after_step()
                if self.done >= 1:
                    break
            else:
                if at_first == 0 and here.step == steps_before:
                    raise UsageError("pre-training: not one file of a whole pass could be read any more")
                here.number, here.batch = here.number + 1, 0
        if self.tally.steps:
            self._write()
        self.save()

    def _after_step(self) -> None:
        step = self.position.step
        if step % self.journal_steps == 0:
            self._write()
        if step % self.checkpoint_steps == 0:
            self.save()

    def _step(self, batch: Batch) -> None:
        rate = self.settings.learning_rate * self.settings.rate(self.done)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        loss = self._loss(batch)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise UsageError(
                f"pre-training: the loss is {value} at step {self.position.step + 1}: training has diverged "
                "(expected to settle at a lower learning rate)"
            )
        self.accelerator.backward(loss)
        norm = self.accelerator.clip_grad_norm_(
            self.model.parameters(), self.settings.max_grad_norm or math.inf
        )
        self._stepper.step()
        self._stepper.zero_grad()
        seconds = sum(map(len, batch.waveforms)) / SAMPLE_RATE
        self.position.step += 1
        self.tally.steps += 1
        self.tally.utterances += len(batch.waveforms)
        self.tally.seconds += seconds
        # With fp16, the scale of the loss may be too high for a step, which is then left out.
        self.tally.norm += float(norm) if math.isfinite(float(norm)) else 0.0
        if self.on_step:
            self.on_step(PretrainStep(self.position.step, value, self.done, len(batch.waveforms), seconds))

    def _loss(self, batch: Batch) -> torch.Tensor:
        """Mean over masked frames, with the weighted ones of the other frames and of the features."""
        device = self.accelerator.device
        made = self._wrapped([torch.from_numpy(w).to(device) for w in batch.waveforms])
        labels = torch.cat([torch.from_numpy(part).long() for part in batch.labels]).to(device)
        losses = F.cross_entropy(made.logits, labels, reduction="none")
        with torch.no_grad():
            self.tally.add(made, labels, losses)
        loss = losses[made.mask].mean() + self.settings.feature_penalty * made.penalty
        if self.settings.unmasked_weight and not made.mask.all():
            loss = loss + self.settings.unmasked_weight * losses[~made.mask].mean()
        return loss

    def _write(self) -> None:
        here = self.position
        figures = self.tally.figures()
        before = here.last.get("elapsed", 0.0)
        speed = self.tally.utterances / max(1e-9, here.elapsed - before)
        here.last = {
            **figures,
            "pass": here.number + 1,
            "learning_rate": self._optimizer.param_groups[0]["lr"],
            "elapsed": round(here.elapsed, 3),
            "utterances_per_second": round(speed, 3),
            "seconds_per_second": round(self.tally.seconds / max(1e-9, here.elapsed - before), 2),
        }
        accuracy, majority = (100 * figures[name] for name in ("accuracy_masked", "majority"))
        line = (
            f"step {here.step} ({100 * min(1.0, self.done):.1f} %): "
            f"masked loss {figures['loss_masked']:.4f}, "
            f"accuracy {accuracy:.1f} % (commonest {majority:.1f} %), "
            f"{figures['perplexity_predicted']:.0f} of {figures['perplexity_targets']:.0f} clusters, "
            f"{here.last['seconds_per_second']:.1f} s of audio/s"
        )
        self.journal.write(here.step, here.last, line)
        here.n_entries = len(self.journal)
        self.tally = Tally()

    def save(self) -> None:
        """Writes a checkpoint: parameters, optimizer, random states, position and figures so far."""
        tensors = {f"model.{name}": p for name, p in self.model.state_dict().items()}
        tensors |= optimizer_tensors(self._optimizer, "optimizer.")
        tensors |= {f"random.{name}": state for name, state in random_tensors().items()}
        scaler = self.accelerator.scaler
        state = {
            "job": self.job,
            "position": asdict(self.position),
            "tally": asdict(self.tally),
            "random": random_values(),
            "scaler": scaler.state_dict() if scaler is not None else None,
            "failures": [failure.to_dict() for failure in self.stream.bank.failures.values()],
        }
        save_checkpoint(self.folder, Checkpoint(self.position.step, tensors, state))

    def restore(self, checkpoint: Checkpoint) -> None:
        """Goes on from a checkpoint of the same job.

        Raises:
            CheckpointError: it was made by another one.
        """
        check_same_run(checkpoint, self.job, self.folder)
        parts: dict[str, dict[str, torch.Tensor]] = {"model": {}, "random": {}}
        for name, tensor in checkpoint.tensors.items():
            kind, _, rest = name.partition(".")
            if kind in parts:
                parts[kind][rest] = tensor
        self.model.load_state_dict(parts["model"])
        load_optimizer(self._optimizer, checkpoint.tensors, "optimizer.")
        state = checkpoint.state
        self.position, self.tally = Position(**state["position"]), Tally(**state["tally"])
        if state["scaler"] is not None:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        self.stream.bank.failures |= {f["utterance_id"]: Failure(**f) for f in state["failures"]}
        restore_random(parts["random"], state["random"])
