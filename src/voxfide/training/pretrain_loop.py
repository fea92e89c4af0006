"""The loop of pre-training: steps, schedule, journal and checkpoints; on one process or many."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

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
from voxfide.training.pretrain_step import StepWork
from voxfide.training.pretrain_tally import Tally
from voxfide.training.processes import chance_key
from voxfide.training.randomness import random_of_all, restore_random_of
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
    """What a step of all processes did: its number from 1, its loss, the share of the run that is done, and
    its audio."""

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
                if self._step(batch):
                    now = time.monotonic()
                    here.elapsed, clock = self._agreed(here.elapsed + now - clock), now
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

    def _agreed(self, elapsed: float) -> float:
        """The first process's clock, where the end of the run hangs on it."""
        if self.settings.minutes is None or self.accelerator.num_processes == 1:
            return elapsed
        own = torch.tensor(elapsed * self.accelerator.is_main_process, device=self.accelerator.device)
        return float(self.accelerator.reduce(own, "sum"))

    def _step(self, batch: Batch) -> bool:
        """Takes a step; False where no process could read anything of the batch."""
        step = StepWork(batch, self.settings, self.accelerator)
        if not step.utterances:
            return False
        rate = self.settings.learning_rate * self.settings.rate(self.done)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        # The same blocks in all pieces of a batch and in all processes.
        self.model.encoder.encoder.layerdrop_seed = chance_key(self.settings.seed, self.position.step)
        value = step.gradients(self._wrapped, self.tally)
        if not math.isfinite(value):
            raise UsageError(
                f"pre-training: the loss is {value} at step {self.position.step + 1}: training has diverged "
                "(expected to settle at a lower learning rate)"
            )
        norm = self.accelerator.clip_grad_norm_(
            self.model.parameters(), self.settings.max_grad_norm or math.inf
        )
        self._stepper.step()
        self._stepper.zero_grad()
        self.position.step += 1
        self.tally.steps += 1
        self.tally.utterances += len(batch.waveforms)
        self.tally.seconds += sum(map(len, batch.waveforms)) / SAMPLE_RATE
        # With fp16, the scale of the loss may be too high for a step, which is then left out.
        self.tally.norm += float(norm) if math.isfinite(float(norm)) else 0.0
        if self.on_step:
            told = PretrainStep(self.position.step, value, self.done, step.utterances, step.seconds)
            self.on_step(told)
        return True

    def _write(self) -> None:
        here = self.position
        tally = self.tally.of_all(self.accelerator)
        figures = tally.figures()
        before = here.last.get("elapsed", 0.0)
        speed = tally.utterances / max(1e-9, here.elapsed - before)
        here.last = {
            **figures,
            "pass": here.number + 1,
            "learning_rate": self._optimizer.param_groups[0]["lr"],
            "elapsed": round(here.elapsed, 3),
            "utterances_per_second": round(speed, 3),
            "seconds_per_second": round(tally.seconds / max(1e-9, here.elapsed - before), 2),
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
        tensors, values = random_of_all(self.accelerator)
        tally = self.tally.of_all(self.accelerator)
        if not self.accelerator.is_main_process:
            return
        tensors |= {f"model.{name}": p for name, p in self.model.state_dict().items()}
        tensors |= optimizer_tensors(self._optimizer, "optimizer.")
        scaler = self.accelerator.scaler
        state = {
            "job": self.job,
            "position": asdict(self.position),
            "tally": asdict(tally),
            "random": values,
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
        tensors = checkpoint.tensors
        self.model.load_state_dict(
            {name.removeprefix("model."): t for name, t in tensors.items() if name.startswith("model.")}
        )
        load_optimizer(self._optimizer, tensors, "optimizer.")
        state = checkpoint.state
        self.position, self.tally = Position(**state["position"]), Tally(**state["tally"])
        if not self.accelerator.is_main_process:
            self.tally = self.tally.without_parts()
        if state["scaler"] is not None:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        self.stream.bank.failures |= {f["utterance_id"]: Failure(**f) for f in state["failures"]}
        restore_random_of(self.accelerator, tensors, state["random"], self.settings.seed, self.position.step)
