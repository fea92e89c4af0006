"""Many heads trained side by side on one stream of batches.

A study is a grid of heads over the same frozen front-end. Each batch of layer features is
computed (or read) once and every head takes a step on it: the first n layers of them. A head has
its own first weights, random state, optimizer and early stopping, so it ends up the same
alone as among others.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from voxfide.backends.neural import NeuralBackend
from voxfide.errors import UsageError
from voxfide.metrics import eer
from voxfide.metrics.trials import OperatingPoint
from voxfide.training.checkpoint import (
    Checkpoint,
    check_same_run,
    latest_checkpoint,
    save_checkpoint,
)
from voxfide.training.frame_loss import FrameTally
from voxfide.training.head_run import HeadJob, HeadRun
from voxfide.training.head_steps import HeadSteps
from voxfide.training.journal import Journal
from voxfide.training.settings import TrainSettings
from voxfide.training.streams import Batch, FeatureStream, consecutive
from voxfide.types import Float64Array, Seconds

if TYPE_CHECKING:
    from accelerate import Accelerator

__all__ = ["HeadJob", "HeadTrainer", "TrainedHead"]


CHECKPOINT_EVERY: Seconds = 30.0
"""After an epoch that ends at least so long after the last checkpoint, another is written."""


@dataclass(frozen=True)
class TrainedHead:
    """A head with the parameters of its best epoch, and its scores of the development set."""

    job: HeadJob
    best_epoch: int
    dev_loss: float
    dev_eer_percent: float
    dev_threshold: float

    @property
    def backend(self) -> NeuralBackend:
        return self.job.backend


class HeadTrainer:
    """Trains heads on one stream; goes on where a killed run in the same folder was.

    Args:
        jobs: heads; no two of one name.
        train, dev: labelled sets of the same front-end's features.
        settings: of the training.
        folder: of the run: checkpoints and ``metrics.jsonl``.
        accelerator: of ``accelerate``: device, processes, precision.
        facts: whatever else determines the outcome (front-end, manifests): a checkpoint made
            under other facts is refused.
        say: told a line an epoch.

    Raises:
        UsageError: heads that do not fit the features.
    """

    def __init__(
        self,
        jobs: Sequence[HeadJob],
        train: FeatureStream,
        dev: FeatureStream,
        settings: TrainSettings,
        folder: Path,
        *,
        accelerator: Accelerator,
        facts: dict[str, Any] | None = None,
        say: Callable[[str], None] | None = None,
    ) -> None:
        if len({job.name for job in jobs}) != len(jobs) or not jobs:
            raise UsageError("heads to train: none, or two of one name")
        deep = [job.name for job in jobs if job.n_layers > train.n_layers]
        if deep:
            raise UsageError(
                f"heads {', '.join(deep)} want more layers than the features have: {train.n_layers}"
            )
        if accelerator.mixed_precision == "fp16":
            raise UsageError(
                "heads are trained in fp32 or bf16: fp16 needs a loss scale a head (expected bf16)"
            )
        self.train, self.dev, self.settings, self.folder = train, dev, settings, folder
        self.accelerator = accelerator
        self.device: torch.device = accelerator.device
        self.runs = [HeadRun.start(job, train.dim, settings, self.device) for job in jobs]
        self.steps = HeadSteps(settings, accelerator)
        self.journal = Journal(folder, accelerator, say)
        self.epoch = 0
        self.job = {"settings": settings.to_json(), "heads": [j.to_json() for j in jobs], **(facts or {})}
        self._saved = time.monotonic()

    def fit(self) -> list[TrainedHead]:
        """Trains until every head has stopped; the backends of the jobs then hold their best epochs."""
        self._resume()
        while self.epoch < self.settings.epochs and not all(run.stopped for run in self.runs):
            self._one_epoch()
            last = self.epoch >= self.settings.epochs or all(run.stopped for run in self.runs)
            if last or time.monotonic() - self._saved >= CHECKPOINT_EVERY:
                self._save()
        for run in self.runs:
            run.head.load_state_dict(run.best)
            run.head.eval()
        return [
            TrainedHead(r.job, r.best_epoch, r.best_loss, r.dev_eer_percent, r.dev_threshold)
            for r in self.runs
        ]

    def _one_epoch(self) -> None:
        started = time.monotonic()
        self.epoch += 1
        active = [run for run in self.runs if not run.stopped]
        losses = self.steps.epoch(active, self.train, self.epoch)
        measured = self._measure(active)
        for run, train_loss, (dev_loss, point) in zip(active, losses, measured, strict=True):
            self._account(run, dev_loss, point)
            dev_eer = 100 * point.value
            weights = run.job.backend.layer_weights()
            entry = {
                "head": run.job.name,
                "train_loss": train_loss,
                "dev_loss": dev_loss,
                "dev_eer_percent": dev_eer if np.isfinite(dev_eer) else None,
                "best_epoch": run.best_epoch,
                "layer_weights": None if weights is None else weights.tolist(),
            }
            scope = f"{run.job.name}/" if len(self.runs) > 1 else ""
            self.journal.write(self.epoch, entry, scope=scope, last=run is active[-1])
        self.journal.say(self._line(active, losses, measured, time.monotonic() - started))

    @torch.no_grad()
    def _measure(self, runs: Sequence[HeadRun]) -> list[tuple[float, OperatingPoint]]:
        """Loss over the whole development set, and EER, of every head."""
        from accelerate.utils import gather_object

        rank, world = self.accelerator.process_index, self.accelerator.num_processes
        order = consecutive(len(self.dev.is_bonafide), self.settings.batch_size)
        indices: list[int] = []
        logits: list[list[Tensor]] = [[] for _ in runs]
        tallies = [FrameTally() for _ in runs]
        for run in runs:
            run.head.eval()
        for batch in self.dev.batches(order[rank::world], None):
            indices += batch.indices.tolist()
            for found, run, tally in zip(logits, runs, tallies, strict=True):
                found.append(self._judge(run, batch, tally))
        columns = [torch.cat(found).tolist() if found else [] for found in logits]
        frames = [[tally.sums for tally in tallies]]
        if world > 1:
            gathered = gather_object([(indices, columns, frames[0])])
            indices = [i for part, _, _ in gathered for i in part]
            columns = [[row for _, part, _ in gathered for row in part[h]] for h in range(len(runs))]
            frames = [sums for _, _, sums in gathered]
        if not indices:
            raise UsageError("development set: not one utterance could be read")
        # As the rows stand in the set, whichever process measured which.
        rows = np.argsort(indices)
        labels = torch.from_numpy(self.dev.is_bonafide[np.array(indices)[rows]].astype(np.int64))
        measured = []
        for run, column, parts in zip(runs, columns, zip(*frames, strict=True), strict=True):
            loss, point = self._figures(run, torch.tensor(column)[rows], labels)
            of_frames = run.job.backend.frame_loss_weight * FrameTally.loss(parts)
            measured.append((loss + of_frames, point))
        return measured

    def _judge(self, run: HeadRun, batch: Batch, tally: FrameTally) -> Tensor:
        """Logits ``(batch, 2)``; those of the frames go into ``tally`` where they are trained."""
        features = batch.features[:, : run.job.n_layers]
        if batch.frame_labels is None or not run.job.backend.frame_loss_weight:
            logits: Tensor = run.head(features, batch.lengths)
        else:
            logits, frames = run.head(features, batch.lengths, with_frames=True)
            tally.add(frames, batch.frame_labels)
        return logits.float().cpu()

    def _figures(self, run: HeadRun, logits: Tensor, labels: Tensor) -> tuple[float, OperatingPoint]:
        loss = float(F.cross_entropy(logits, labels, self.steps.weights.cpu()))
        scores: Float64Array = run.job.backend.to_scores(logits).numpy().astype(np.float64)
        is_bonafide = labels.numpy().astype(bool)
        if not np.isfinite(scores).all():
            raise UsageError(
                f"head {run.job.name}: its scores are not finite after epoch {self.epoch}: training has "
                f"diverged (expected a learning rate below {self.settings.learning_rate})"
            )
        both = is_bonafide.any() and not is_bonafide.all()
        nowhere = OperatingPoint(float("nan"), float("nan"), float("nan"), float("nan"))
        return loss, eer(scores, is_bonafide) if both else nowhere

    def _account(self, run: HeadRun, dev_loss: float, point: OperatingPoint) -> None:
        """Early stopping."""
        if dev_loss < run.best_loss:
            run.best_loss, run.best_epoch, run.stale = dev_loss, self.epoch, 0
            run.dev_eer_percent = 100 * point.value
            run.dev_threshold = point.accepts_from
            run.best = {k: t.detach().clone() for k, t in run.head.state_dict().items()}
        else:
            run.stale += 1
            run.stopped = run.stale >= self.settings.patience

    def _line(
        self,
        runs: Sequence[HeadRun],
        losses: Sequence[float],
        measured: Sequence[tuple[float, OperatingPoint]],
        seconds: float,
    ) -> str:
        head = f"epoch {self.epoch} of at most {self.settings.epochs}: "
        dev = [loss for loss, _ in measured]
        if len(self.runs) == 1:
            return (
                f"{head}loss {losses[0]:.4f}, dev loss {dev[0]:.4f}, "
                f"dev EER {100 * measured[0][1].value:.2f} %{'' if runs[0].stale else ' (best so far)'}, "
                f"{seconds:.1f} s"
            )
        going = sum(not run.stopped for run in runs)
        return (
            f"{head}{len(runs)} heads, loss {np.mean(losses):.4f}, dev loss {min(dev):.4f}…{max(dev):.4f}, "
            f"{sum(not run.stale for run in runs)} improved, {going} go on, {seconds:.1f} s"
        )

    def _save(self) -> None:
        self._saved = time.monotonic()
        if not self.accelerator.is_main_process:
            return
        tensors = {k: t for i, run in enumerate(self.runs) for k, t in run.tensors(f"{i}.").items()}
        state = {"job": self.job, "entries": len(self.journal), "heads": [r.state() for r in self.runs]}
        save_checkpoint(self.folder, Checkpoint(self.epoch, tensors, state))

    def _resume(self) -> None:
        found = latest_checkpoint(self.folder)
        if found is None:
            self.journal.resume(0)
            return
        check_same_run(found, self.job, self.folder)
        for i, (run, state) in enumerate(zip(self.runs, found.state["heads"], strict=True)):
            run.restore(found.tensors, f"{i}.", state)
        self.epoch = found.step
        self.journal.resume(found.state["entries"])
        self.journal.say(f"goes on after epoch {self.epoch}, which was finished before")
