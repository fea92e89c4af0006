"""Steps of many heads on one stream of batches, in one process or in several that share each batch out.

Every process computes the features and the gradients of its share. Sums over the batch, of the class
weights and in batch normalisation, are over all processes, and so are gradients; dropout follows the
utterance. So what a head learns is, to rounding, what it would in one process.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from voxfide.errors import UsageError
from voxfide.training.frame_labels import UNLABELLED
from voxfide.training.frame_loss import FrameTargets
from voxfide.training.head_run import HeadRun
from voxfide.training.processes import BatchTotals, add_up_gradients, chance_key, share_of
from voxfide.training.row_dropout import following_rows
from voxfide.training.settings import TrainSettings
from voxfide.training.streams import Batch, FeatureStream, shuffled

if TYPE_CHECKING:
    from accelerate import Accelerator


class HeadSteps:
    """Takes the steps of an epoch.

    Args:
        settings: of the training.
        accelerator: device, processes and precision.
    """

    def __init__(self, settings: TrainSettings, accelerator: Accelerator) -> None:
        self.settings, self.accelerator = settings, accelerator
        self.device: torch.device = accelerator.device
        self.weights = torch.tensor(settings.class_weights, device=self.device)
        self._totals = BatchTotals()
        self._epoch = 0

    def epoch(self, runs: Sequence[HeadRun], stream: FeatureStream, epoch: int) -> list[float]:
        """One pass over a training set; the mean loss of every head.

        Raises:
            UsageError: not one utterance could be read.
        """
        rank, world = self.accelerator.process_index, self.accelerator.num_processes
        self._epoch = epoch
        n = len(stream.is_bonafide)
        order = shuffled(n, self.settings.batch_size, self.settings.seed, epoch)
        shares = [rows[rank::world] for rows in order]
        sums, seen = np.zeros(len(runs)), 0
        for run in runs:
            run.head.train()
            run.begin_epoch(epoch, rank, self.device)
        with self._totals.of(*(run.head for run in runs)) if world > 1 else nullcontext():
            batches = in_step(stream.batches(shares, epoch), shares)
            for rows, batch in zip(order, batches, strict=True):
                losses, size = self._step(runs, stream, rows, batch)
                sums += losses * size
                seen += size
        if not seen:
            raise UsageError("training set: not one utterance could be read")
        totals = self._total(torch.tensor(sums, dtype=torch.float32).to(self.device)).cpu()
        return [float(total) / seen for total in totals]

    def _step(
        self, runs: Sequence[HeadRun], stream: FeatureStream, rows: np.ndarray, batch: Batch | None
    ) -> tuple[np.ndarray, int]:
        """A step of every head; its share of their losses, and the utterances of all processes.

        Args:
            rows: of the set, of all processes.
            batch: this process's share; None where it could not read one of its rows.
        """
        present = batch is not None
        if batch is None:
            batch = self._silence(stream)
        pieces = share_of(rows, batch.indices, self.settings.accumulation)
        sizes = self._total(torch.tensor([len(piece) for piece in pieces], device=self.device)).tolist()
        if not any(sizes):
            return np.zeros(len(runs)), 0
        labels = torch.zeros(len(batch.lengths), dtype=torch.long)
        labels[: len(batch.indices)] = torch.from_numpy(stream.is_bonafide[batch.indices].astype(np.int64))
        labels = labels.to(self.device)

        def total(value: Tensor) -> Tensor:
            return self._total(value * present)

        norm = total(self.weights[labels].sum())
        frames = FrameTargets.of(batch, labels, self.weights, total)
        wanted = [piece for piece, size in zip(pieces, sizes, strict=True) if size]
        losses = []
        for run in runs:
            if frames is not None and run.job.backend.frame_loss_weight:
                loss = self._gradients(run, batch, frames.utterances, frames.norm, wanted, frames)
            else:
                loss = self._gradients(run, batch, labels, norm, wanted)
            losses.append(loss)
        if self.accelerator.num_processes > 1:
            add_up_gradients([p for run in runs for p in run.head.parameters()])
        for run in runs:
            run.optimizer.step()
            run.optimizer.zero_grad(set_to_none=True)
        return np.array(losses), sum(sizes)

    def _gradients(
        self,
        run: HeadRun,
        batch: Batch,
        labels: Tensor,
        norm: Tensor,
        pieces: Sequence[Tensor],
        frames: FrameTargets | None = None,
    ) -> float:
        """Backward passes of a head; the share of the loss. ``norm`` is the sum of the class weights over
        the batch of all processes."""
        total = 0.0
        with run.own_randomness(self.device):
            for piece in pieces:
                # Of a piece that is others' alone, an utterance that counts nowhere: they wait for this
                # process in every batch normalisation.
                self._totals.is_empty = not len(piece)
                rows = piece if len(piece) else torch.zeros(1, dtype=torch.long)
                features, lengths = batch.features[rows, : run.job.n_layers], batch.lengths[rows]
                keys = [chance_key(run.job.seed, self._epoch, i) for i in [*batch.indices.tolist(), 0]]
                chosen = [keys[row] for row in rows.tolist()]
                with self.accelerator.autocast(), following_rows(run.head, chosen, self.device):
                    if frames is None:
                        logits = run.head(features, lengths)
                    else:
                        logits, of_frames = run.head(features, lengths, with_frames=True)
                loss = F.cross_entropy(logits.float(), labels[rows], self.weights, reduction="sum") / norm
                if frames is not None:
                    loss = loss + run.job.backend.frame_loss_weight * frames.loss(of_frames, rows)
                self.accelerator.backward(loss * 0 if self._totals.is_empty else loss)
                total += 0.0 if self._totals.is_empty else float(loss.detach())
        return total

    def _silence(self, stream: FeatureStream) -> Batch:
        """A batch of no row of the set, with something to compute."""
        features = torch.zeros(1, stream.n_layers, 1, stream.dim, device=self.device)
        frames = None
        if getattr(stream, "frame_labels", None) is not None:
            frames = torch.full((1, 1), UNLABELLED, device=self.device)
        lengths = torch.ones(1, dtype=torch.long, device=self.device)
        return Batch(np.zeros(0, np.int64), features, lengths, frames)

    def _total(self, value: Tensor) -> Tensor:
        """The sum over all processes."""
        total: Tensor = self.accelerator.reduce(value, "sum")
        return total


def in_step(batches: Iterator[Batch], shares: Sequence[np.ndarray]) -> Iterator[Batch | None]:
    """The batch of each share of rows, and None where there is none, as not one row could be read.

    Streams leave such batches out; the processes of a run must not, for they wait for each other.
    """
    batch = next(batches, None)
    for rows in shares:
        if batch is None or batch.indices[0] not in rows:
            yield None
            continue
        found, batch = batch, None
        yield found
        del found
        batch = next(batches, None)
