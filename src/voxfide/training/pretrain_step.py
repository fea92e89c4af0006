"""The gradient of a step of pre-training: of a batch that one process or many work off in pieces."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from voxfide.features import sent
from voxfide.training.pretrain_data import Batch
from voxfide.training.pretrain_model import Predictions, draw_mask
from voxfide.training.pretrain_settings import PretrainSettings
from voxfide.training.pretrain_tally import Tally
from voxfide.training.pretrain_targets import n_frames
from voxfide.training.processes import share_of
from voxfide.types import SAMPLE_RATE

if TYPE_CHECKING:
    from accelerate import Accelerator


class StepWork:
    """A process's share of a step.

    Args:
        batch: this process's share of it; may be empty.
        settings: of the training.
        accelerator: device, processes and precision.

    Attributes:
        utterances, seconds: of the batch of all processes.
    """

    def __init__(self, batch: Batch, settings: PretrainSettings, accelerator: Accelerator) -> None:
        self.settings, self.accelerator = settings, accelerator
        self.device: torch.device = accelerator.device
        places = share_of(np.arange(batch.size), np.array(batch.places), settings.accumulation)
        pieces = [batch.part(chosen.tolist()) for chosen in places]
        masks = [self._masks(piece) for piece in pieces]
        everything = [mask for of_piece in masks for mask in of_piece]
        frames, masked = sum(map(len, everything)), sum(int(mask.sum()) for mask in everything)
        seconds = sum(map(len, batch.waveforms)) / SAMPLE_RATE
        own = [*(len(piece.waveforms) for piece in pieces), frames, masked, seconds]
        *sizes, self.frames, self.masked, self.seconds = accelerator.reduce(
            torch.tensor(own, dtype=torch.float32, device=self.device), "sum"
        ).tolist()
        self.utterances = round(sum(sizes))
        # A piece of which no process has anything is left out; one of others is computed for their sake.
        self._work = [(p, m) for p, m, size in zip(pieces, masks, sizes, strict=True) if size]

    def _masks(self, piece: Batch) -> list[Tensor]:
        return [
            draw_mask(self.settings, n_frames(len(waveform)), torch.Generator().manual_seed(key))
            for waveform, key in zip(piece.waveforms, piece.keys, strict=True)
        ]

    def gradients(self, model: nn.Module, tally: Tally) -> float:
        """Backward passes through all pieces; the loss of the batch of all processes."""
        loss = torch.zeros((), device=self.device)
        for i, (piece, masks) in enumerate(self._work, 1):
            last = i == len(self._work)
            with nullcontext() if last else self.accelerator.no_sync(model):
                part = self._loss(model, piece, masks, tally)
                # Gradients are averaged over processes: what counts is the sum over the whole batch.
                self.accelerator.backward(part * self.accelerator.num_processes)
            loss += part.detach()
        return float(self.accelerator.reduce(loss, "sum"))

    def _loss(self, model: nn.Module, piece: Batch, masks: Sequence[Tensor], tally: Tally) -> Tensor:
        """Of a piece, of which those of all pieces add up to the batch's: the mean over masked frames, with
        the weighted ones of the other frames and of the features."""
        if not piece.waveforms:
            silence = torch.zeros(SAMPLE_RATE, device=self.device)
            made: Predictions = model([silence], [torch.zeros(n_frames(SAMPLE_RATE), dtype=torch.bool)])
            return 0.0 * (made.logits.sum() + made.penalty)
        made = model(sent(piece.waveforms, self.device), masks)
        labels = torch.cat([torch.from_numpy(part).long() for part in piece.labels]).to(self.device)
        losses = F.cross_entropy(made.logits, labels, reduction="none")
        share = len(labels) / self.frames
        with torch.no_grad():
            tally.add(made, labels, losses, share)
        loss = losses[made.mask].sum() / self.masked + self.settings.feature_penalty * share * made.penalty
        others = self.frames - self.masked
        if self.settings.unmasked_weight and others:
            loss = loss + self.settings.unmasked_weight * losses[~made.mask].sum() / others
        return loss
