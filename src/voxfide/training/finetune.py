"""Fine-tuning: a pre-trained encoder and a classification head, from a manifest to a saved detector."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from voxfide.detector import Detector
from voxfide.errors import UsageError
from voxfide.extraction import Extractor, Progress
from voxfide.files import exclusive
from voxfide.frontends import FRONTENDS
from voxfide.frontends.base import tensors_digest
from voxfide.frontends.ssl_config import read_json
from voxfide.jobs import Failure, read_failures, rows_of
from voxfide.metrics import METRICS
from voxfide.training.checkpoint import latest_checkpoint, remove_checkpoints
from voxfide.training.finetune_data import StepStream
from voxfide.training.finetune_loop import FinetuneLoop, StepReport
from voxfide.training.finetune_measure import cross_entropy, measure
from voxfide.training.finetune_model import FinetuneModel, start_model
from voxfide.training.finetune_settings import PRECISIONS, FinetuneSettings
from voxfide.training.journal import Journal, make_accelerator, read_journal
from voxfide.training.pooled import TrainingSet, dev_figures, set_facts
from voxfide.training.processes import gather_failures, naming_lost_processes, wait_for_the_first
from voxfide.training.streams import Augment
from voxfide.types import BONAFIDE, BoolArray, Float64Array, PathLike

if TYPE_CHECKING:
    from accelerate import Accelerator


RUN = "run"
"""Folder in the detector's, with journal, checkpoints and the detector of the last epoch."""


@dataclass(frozen=True)
class FinetuneOptions:
    """What does not determine the outcome, and augmentation.

    Args:
        augment: what is done to training waveforms.
        augment_facts: describes it, JSON-safe: a run with another is not gone on with.
        workers: decoding processes; None chooses.
        batch_seconds: audio in one batch of the development set; None chooses.
        strict: raise the first file that cannot be read.
        cpu: leave the machine's accelerators alone.
        tensorboard: write event files too.
        fsdp: share weights, gradients and optimizer state out over the processes.
        say: told a line an epoch.
        on_step: told after every step.
        progress: told of every utterance that was measured.
    """

    augment: Augment | None = None
    augment_facts: dict[str, Any] | None = None
    workers: int | None = None
    batch_seconds: float | None = None
    strict: bool = False
    cpu: bool = False
    tensorboard: bool = False
    fsdp: bool = False
    say: Callable[[str], None] | None = None
    on_step: Callable[[StepReport], None] | None = None
    progress: Progress | None = None


@dataclass(frozen=True)
class FinetuneResult:
    """What :func:`finetune` made.

    Attributes:
        detector: of the best epoch.
        best: its figures: ``epoch`` (from 1) and, with a development set, ``dev_loss`` and metrics.
        failures: what could not be read.
    """

    detector: Detector
    best: dict[str, Any]
    failures: list[Failure] = field(default_factory=list)


@naming_lost_processes()
def finetune(
    sets: tuple[TrainingSet, TrainingSet | None],
    name: str,
    out: PathLike,
    *,
    n_layers: int | None = None,
    revision: str | None = None,
    settings: FinetuneSettings | None = None,
    options: FinetuneOptions | None = None,
    resume: bool = False,
) -> FinetuneResult:
    """Trains encoder and head together; writes the detector of the best epoch to ``out``.

    ``out/run`` gets the journal, checkpoints while it runs, and the detector of the last epoch. A
    killed run that is resumed ends up, on the same machine and in as many processes, with the same numbers to
    the last bit.

    Args:
        sets: training set, and development set if there is one; without, the last epoch is the best.
        name: a registered SSL front-end, a hub id, or a model folder.
        out: folder of the detector.
        n_layers: fine-tune the first n layers only, without the others.
        revision: branch, tag or commit of a hub id.
        settings: of the training.
        options: of everything else.
        resume: go on with the run that ``out/run`` holds, if there is one; of a finished one of the same
            settings, data and model, the result.

    Raises:
        UsageError: an unfinished run in ``out`` and no ``resume``, a front-end that cannot be
            fine-tuned, or a loss that is not finite.
        CheckpointError: weights that cannot be found, or a run of another job in ``out``.
        AudioError: with ``strict``, the first file that cannot be read.
        LostProcessError: another process of the run has ended.
    """
    settings, options = settings or FinetuneSettings(), options or FinetuneOptions()
    out = Path(out)
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out}: is a file (expected a folder, or a name for a new one)")
    accelerator = make_accelerator(
        out / RUN,
        mixed_precision=PRECISIONS[settings.precision],
        tensorboard=options.tensorboard,
        cpu=options.cpu,
        unused_parameters=settings.layerdrop,
    )
    devices = [accelerator.device] if accelerator.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        if not accelerator.is_main_process:  # which holds the lock
            return _Run(sets, name, out, n_layers, revision, settings, options, accelerator).run(resume)
        with exclusive(out / RUN / ".lock", f"{out}: another process is training in this folder"):
            return _Run(sets, name, out, n_layers, revision, settings, options, accelerator).run(resume)


class _Run:
    """One run of :func:`finetune`, in one process."""

    def __init__(
        self,
        sets: tuple[TrainingSet, TrainingSet | None],
        name: str,
        out: Path,
        n_layers: int | None,
        revision: str | None,
        settings: FinetuneSettings,
        options: FinetuneOptions,
        accelerator: Accelerator,
    ) -> None:
        self.train_set, self.dev_set = sets
        self.out, self.folder, self.settings, self.options = out, out / RUN, settings, options
        self.accelerator = accelerator
        torch.manual_seed(settings.seed)
        self.model, self.source = start_model(name, n_layers, revision, settings)
        self.name = name if name in FRONTENDS or self.source.hub_id else self.source.folder.resolve().name
        job = self._job()
        torch.manual_seed(settings.seed + 1 + accelerator.process_index)
        is_bonafide = self.train_set.manifest.strings("label") == BONAFIDE
        self.class_weights = settings.weights(int((~is_bonafide).sum()), int(is_bonafide.sum()))
        self.stream = StepStream(
            rows_of(self.train_set.manifest),
            is_bonafide,
            settings,
            self.model.frontend(self.name).check_length,
            options.augment,
            options.workers,
            options.strict,
            accelerator.process_index,
            accelerator.num_processes,
        )
        self.dev_failures: dict[str, Failure] = {}
        self.loop = FinetuneLoop(
            self.model,
            self.stream,
            settings,
            self.class_weights,
            self.folder,
            accelerator=accelerator,
            job=job,
            fsdp=options.fsdp,
            on_step=self._on_step,
        )
        self.journal = Journal(self.folder, accelerator, options.say)

    def _job(self) -> dict[str, Any]:
        return {
            "settings": self.settings.to_json(),
            "weights": tensors_digest(self.model.encoder.state_dict()),
            "n_layers": self.model.encoder.n_layers,
            "train": self.train_set.manifest.digest(),
            "dev": self.dev_set.manifest.digest() if self.dev_set else None,
            "augment": self.options.augment_facts,
        }

    def run(self, resume: bool) -> FinetuneResult:
        """Trains, or goes on training, to the end."""
        checkpoint = latest_checkpoint(self.folder)
        finished = self._finished() if resume and checkpoint is None else None
        if finished is not None:
            return finished
        if checkpoint is not None and not resume:
            raise UsageError(
                f"{self.out}: holds an unfinished run, at step {checkpoint.step} of {self.loop.n_steps} "
                "(--resume goes on with it; delete the folder or choose another to start anew)"
            )
        if checkpoint is not None:
            self.loop.restore(checkpoint)
        self.journal.resume(self.loop.position.n_entries)
        try:
            while self.loop.position.epoch < self.settings.epochs:
                self._epoch()
        finally:
            self.stream.close()
            for tracker in self.accelerator.trackers:
                tracker.finish()
        return self._finish()

    def _finished(self) -> FinetuneResult | None:
        """The result of a run of the same settings, data and model that has come to its end."""
        path = self.out / "config.json"
        if not path.exists():
            return None
        training = read_json(path).get("training", {})
        facts, sets = training.get("finetuning", {}), training.get("sets", {})
        ours = self._facts({"epoch": facts.get("epoch"), **{spec.name: None for spec in METRICS}})
        same = {k: facts.get(k) for k in ours["finetuning"]} == json.loads(json.dumps(ours["finetuning"]))
        digests = {name: part.get("digest") for name, part in sets.items()}
        if not same or digests != {name: part["digest"] for name, part in ours["sets"].items()}:
            return None
        detector = Detector.load(self.out)
        if detector.frontend.n_layers != self.model.encoder.n_states:
            return None
        entry = next((e for e in read_journal(self.folder) if e["epoch"] == facts["epoch"]), {})
        names = ("epoch", "dev_loss", *(spec.name for spec in METRICS))
        table = self.out / "failures.csv"
        return FinetuneResult(
            detector,
            {name: entry[name] for name in names if name in entry},
            read_failures(table) if table.exists() else [],
        )

    def _on_step(self, report: StepReport) -> None:
        if self.accelerator.trackers:
            values = {"step_loss": report.loss, "learning_rate": report.learning_rate}
            self.accelerator.log(values, step=report.number)
        if self.options.on_step:
            self.options.on_step(report)

    def _epoch(self) -> None:
        here = self.loop.position
        number, started = here.epoch + 1, time.monotonic()
        train_loss = self.loop.train_epoch()
        figures: dict[str, Any] = {"epoch": number}
        threshold = 0.0
        model = self.loop.whole_model()
        if self.dev_set is not None:
            scores, is_bonafide = self._measure(model, self.dev_set)
            figures["dev_loss"] = cross_entropy(scores, is_bonafide, self.class_weights)
            measured, threshold = dev_figures(scores, is_bonafide)
            figures |= measured
        is_best = not here.best or self._rank(figures) < self._rank(here.best)
        if self.accelerator.is_main_process:
            self._save(model, figures, threshold, is_best)
        if is_best:
            here.best = figures
        entry = {
            **figures,
            "train_loss": train_loss,
            "best_epoch": here.best["epoch"],
            "seconds": round(time.monotonic() - started, 1),
        }
        self.journal.write(number * self.stream.n_steps, entry, self._line(entry))
        here.n_entries = len(self.journal)
        self.loop.end_epoch()

    def _rank(self, figures: dict[str, Any]) -> tuple[float, ...]:
        """Lower is better."""
        if self.dev_set is None:
            return (-figures["epoch"],)
        key = figures["eer_percent"] if self.settings.select_by == "eer" else figures["dev_loss"]
        return (key, figures["dev_loss"])

    def _line(self, entry: dict[str, Any]) -> str:
        line = f"epoch {entry['epoch']} of {self.settings.epochs}: train loss {entry['train_loss']:.4f}"
        if self.dev_set is not None:
            best = " (best so far)" if entry["best_epoch"] == entry["epoch"] else ""
            line += f", dev loss {entry['dev_loss']:.4f}, dev EER {entry['eer_percent']:.2f} %{best}"
        return f"{line}, {entry['seconds']:.0f} s"

    def _measure(self, model: FinetuneModel, part: TrainingSet) -> tuple[Float64Array, BoolArray]:
        options = self.options
        frontend = model.frontend(self.name, self.settings.precision)
        extractor = Extractor(
            frontend, "mean", options.workers, options.batch_seconds, options.progress, options.strict
        )
        try:
            return measure(extractor, model.backend(), part, self.accelerator, self.dev_failures)
        finally:
            extractor.close()

    def _save(self, model: FinetuneModel, figures: dict[str, Any], threshold: float, is_best: bool) -> None:
        """Writes the detector of this epoch as the last, and as the best if it is."""
        frozen = model.frozen(self.name)
        detector = Detector(frozen, model.backend(), "mean", threshold, self._facts(figures))
        detector.save(self.folder / "last")
        if is_best:
            detector.save(self.folder / "best")

    def _facts(self, figures: dict[str, Any]) -> dict[str, Any]:
        """What the detector remembers of its training."""
        sets = {"train": set_facts(self.train_set, len(self.stream.failures))}
        metrics: dict[str, Any] = {}
        if self.dev_set is not None:
            sets["dev"] = set_facts(self.dev_set, len(self.dev_failures))
            metrics["dev"] = {spec.name: figures[spec.name] for spec in METRICS}
        finetuning = {
            "from": self.source.hub_id or self.name,
            "revision": self.source.revision,
            "epoch": figures["epoch"],
            "settings": self.settings.to_json(),
            "augment": self.options.augment_facts,
        }
        return {"sets": sets, "metrics": metrics, "finetuning": finetuning}

    def _finish(self) -> FinetuneResult:
        """Puts the best epoch's detector into its place; what is no longer needed goes."""
        failures = gather_failures(self.accelerator, self.stream.failures)
        failures += gather_failures(self.accelerator, self.dev_failures)
        best = self.folder / "best"
        if self.accelerator.is_main_process:
            if (best / "config.json").exists():
                Detector.load(best).save(self.out)
                shutil.rmtree(best)
            remove_checkpoints(self.folder)  # last: a run with a checkpoint can be resumed
        wait_for_the_first(self.accelerator)
        return FinetuneResult(Detector.load(self.out), self.loop.position.best, failures)
