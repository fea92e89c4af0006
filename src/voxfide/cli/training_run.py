"""A run of `voxfide train` that goes batch by batch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from voxfide.cli import console
from voxfide.errors import UsageError

if TYPE_CHECKING:
    from voxfide.backends.neural import NeuralBackend
    from voxfide.frontends.base import Frontend
    from voxfide.training import TrainingSet, TrainResult
    from voxfide.training.settings import TrainSettings
    from voxfide.training.streams import Augment


class Run:
    """A run of training batch by batch, in a folder beside the detector until it has come to its end."""

    def __init__(
        self,
        out: Path,
        store: Path | None,
        resume: bool,
        mixed_precision: str,
        tensorboard: bool,
        disk_budget: float,
        workers: int | None,
        batch_seconds: float | None,
        strict: bool,
    ) -> None:
        if mixed_precision not in ("no", "bf16"):
            raise UsageError(f"--mixed-precision {mixed_precision!r} (expected no or bf16)")
        self.out, self.store, self.tensorboard = out, store, tensorboard
        self.folder = out.with_name(out.name + ".run")
        self.mixed_precision, self.disk_budget = mixed_precision, disk_budget
        self.workers, self.batch_seconds, self.strict = workers, batch_seconds, strict
        if console.is_first_process() and self.folder.exists() and not resume:
            raise UsageError(
                f"{self.folder}: holds a training run that has not come to its end "
                "(expected --resume to go on with it, or delete it)"
            )

    def train(
        self,
        sets: tuple[TrainingSet, TrainingSet | None],
        frontend: Frontend,
        head: NeuralBackend,
        settings: TrainSettings,
        seed: int,
        long: str,
        augment: Augment | None,
    ) -> TrainResult:
        """Trains; the journal ends up in the detector's folder."""
        from voxfide.training.frames import FeatureOptions, train_frames
        from voxfide.training.journal import FILE_NAME, make_accelerator

        accelerator = make_accelerator(
            self.out,
            mixed_precision=self.mixed_precision,
            tensorboard=self.tensorboard,
            cpu=frontend.device.type == "cpu",
        )
        with console.progress("features") as bar:
            options = FeatureOptions(
                disk_budget=self.disk_budget * 1e9,
                augment=augment,
                workers=self.workers,
                batch_seconds=self.batch_seconds,
                strict=self.strict,
                store=self.store,
                progress=bar,
                on_start=bar.start,
            )
            result = train_frames(
                sets, frontend, head, settings, self.folder,
                seed=seed, long=long, accelerator=accelerator, options=options, say=console.say,
            )  # fmt: skip
        accelerator.end_training()
        if not console.is_first_process():
            raise typer.Exit
        self.out.mkdir(parents=True, exist_ok=True)
        (self.folder / FILE_NAME).replace(self.out / FILE_NAME)
        return result
