"""One head in training: its numbers, its own chance, its optimizer and its best epoch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from voxfide.backends.neural import NeuralBackend
from voxfide.training.checkpoint import load_optimizer, optimizer_tensors
from voxfide.training.processes import chance_key
from voxfide.training.settings import TrainSettings


@dataclass(frozen=True)
class HeadJob:
    """A head to be trained.

    Attributes:
        name: names it in checkpoints and journal.
        backend: not built yet.
        n_layers: it reads layers 1...n.
        seed: of its first weights and its dropout.
    """

    name: str
    backend: NeuralBackend
    n_layers: int
    seed: int

    def to_json(self) -> dict[str, Any]:
        """What determines the outcome, JSON-safe."""
        options = {k: v for k, v in self.backend.config().items() if k not in ("n_layers", "dim")}
        return {
            "name": self.name,
            "backend": self.backend.name,
            "options": options,
            "n_layers": self.n_layers,
            "seed": self.seed,
        }


@dataclass
class HeadRun:
    """A head in training.

    Attributes:
        best_loss, best_epoch: of the lowest development loss so far; epochs count from 1.
        stale: epochs since.
        best: parameters and buffers at that epoch.
        dev_eer_percent: at that epoch; NaN where the development set has one class only.
        dev_threshold: score from which an utterance counts as bona fide where the error rates meet.
    """

    job: HeadJob
    head: nn.Module
    optimizer: torch.optim.Optimizer
    randomness: Tensor = field(default_factory=lambda: torch.zeros(0))
    device_randomness: Tensor | None = None
    best_loss: float = float("inf")
    best_epoch: int = 0
    stale: int = 0
    stopped: bool = False
    dev_eer_percent: float = float("nan")
    dev_threshold: float = 0.0
    best: dict[str, Tensor] = field(default_factory=dict)

    @classmethod
    def start(cls, job: HeadJob, dim: int, settings: TrainSettings, device: torch.device) -> HeadRun:
        """An untrained head: its numbers follow from its seed alone."""
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(job.seed)
            job.backend.build(job.n_layers, dim)
            head = job.backend.to(device).head
            assert head is not None
        optimizer = torch.optim.Adam(
            (p for p in head.parameters() if p.requires_grad),
            lr=settings.learning_rate,
            weight_decay=settings.weight_decay,
            fused=True,
        )
        return cls(job, head, optimizer)

    def begin_epoch(self, epoch: int, process: int, device: torch.device) -> None:
        """Dropout of an epoch follows from the head's seed, the epoch and the number of the process."""
        key = chance_key(self.job.seed, epoch, process)
        self.randomness = torch.Generator().manual_seed(key).get_state()
        if device.type == "cuda":
            self.device_randomness = torch.Generator(device).manual_seed(key).get_state()

    @contextmanager
    def own_randomness(self, device: torch.device) -> Iterator[None]:
        """Dropout draws from the head's own state, which goes on where it was in this epoch."""
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.set_rng_state(self.randomness)
            if self.device_randomness is not None:
                torch.cuda.set_rng_state(self.device_randomness, device)
            yield
            self.randomness = torch.get_rng_state()
            if self.device_randomness is not None:
                self.device_randomness = torch.cuda.get_rng_state(device)

    def tensors(self, prefix: str) -> dict[str, Tensor]:
        """All tensors of a checkpoint, under flat names."""
        found = {f"{prefix}head.{k}": t for k, t in self.head.state_dict().items()}
        found |= {f"{prefix}best.{k}": t for k, t in self.best.items()}
        found |= optimizer_tensors(self.optimizer, f"{prefix}optimizer.")
        return found

    STATE = ("best_loss", "best_epoch", "stale", "stopped", "dev_eer_percent", "dev_threshold")

    def state(self) -> dict[str, Any]:
        """All other values of a checkpoint."""
        return {name: getattr(self, name) for name in self.STATE}

    def restore(self, tensors: dict[str, Tensor], prefix: str, state: dict[str, Any]) -> None:
        """Puts a checkpoint back."""
        own = {k.removeprefix(prefix): t for k, t in tensors.items() if k.startswith(prefix)}
        self.head.load_state_dict(_subset(own, "head."))
        self.best = _subset(own, "best.")
        load_optimizer(self.optimizer, own, "optimizer.")
        for name in self.STATE:
            setattr(self, name, state[name])


def _subset(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): t.clone() for k, t in tensors.items() if k.startswith(prefix)}
