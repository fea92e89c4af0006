"""Pre-training without labels: from a manifest to a model folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from voxfide.augment.recordings import list_recordings
from voxfide.errors import UsageError
from voxfide.extraction import Progress
from voxfide.files import exclusive, write_atomic
from voxfide.frontends.base import tensors_digest
from voxfide.jobs import Failure, rows_of
from voxfide.manifest import Manifest
from voxfide.training.checkpoint import digest_of, latest_checkpoint, remove_checkpoints
from voxfide.training.finetune_settings import PRECISIONS
from voxfide.training.journal import Journal, make_accelerator
from voxfide.training.pretrain_card import model_card
from voxfide.training.pretrain_data import AudioBank, BatchStream
from voxfide.training.pretrain_loop import PretrainLoop, PretrainStep
from voxfide.training.pretrain_mixing import Mixer
from voxfide.training.pretrain_model import Start
from voxfide.training.pretrain_settings import PretrainSettings
from voxfide.training.pretrain_targets import FILE_NAME, Targets, compute_targets, target_features
from voxfide.training.processes import naming_lost_processes, wait_for_the_first
from voxfide.types import SAMPLE_RATE, Float32Array, PathLike

if TYPE_CHECKING:
    from accelerate import Accelerator


RUN = "run"
"""Folder in the model's, with targets, journal and checkpoints."""

FACTS = "pretraining.json"
"""Written last: a folder that has it holds a finished model."""


@dataclass(frozen=True)
class PretrainOptions:
    """What does not determine the outcome, and noise.

    Args:
        noise: a recording or a folder of them to mix in; by default noise is made.
        memory_mb: for decoded audio; what does not fit is decoded anew in every pass.
        workers: decoding processes; None chooses.
        strict: raise the first file that cannot be used.
        cpu: leave the machine's accelerators alone.
        tensorboard: write event files too.
        journal_steps, checkpoint_steps: steps between entries of the journal and between checkpoints.
        say: told a line an entry.
        on_step: told after every step.
        progress: told of every utterance that was decoded.

    Raises:
        UsageError: numbers that cannot be.
    """

    noise: Path | None = None
    memory_mb: int = 2048
    workers: int | None = None
    strict: bool = False
    cpu: bool = False
    tensorboard: bool = False
    journal_steps: int = 50
    checkpoint_steps: int = 200
    say: Callable[[str], None] | None = None
    on_step: Callable[[PretrainStep], None] | None = None
    progress: Progress | None = None

    def __post_init__(self) -> None:
        least = {"memory_mb": 0, "journal_steps": 1, "checkpoint_steps": 1}
        problems = [
            f"{name.replace('_', ' ')} {getattr(self, name)} (expected at least {low})"
            for name, low in least.items()
            if getattr(self, name) < low
        ]
        if problems:
            raise UsageError("pre-training: " + "; ".join(problems))


@dataclass(frozen=True)
class PretrainResult:
    """What :func:`pretrain` made: the model's folder, what is known of it, and what could not be read."""

    folder: Path
    facts: dict[str, Any]
    failures: list[Failure] = field(default_factory=list)


@naming_lost_processes()
def pretrain(
    manifest: Manifest,
    start: Start,
    out: PathLike,
    settings: PretrainSettings,
    *,
    options: PretrainOptions | None = None,
    resume: bool = False,
) -> PretrainResult:
    """Trains an encoder to name the clusters of masked frames; writes it to ``out``.

    Labels are not looked at. ``out/run`` gets the clusters, the journal, and checkpoints while it runs.
    A killed run of a number of steps that is resumed ends up, on the same machine, with the same
    numbers to the last bit; one of a number of minutes goes on with the time that was left at its
    last checkpoint.

    Args:
        manifest: utterances to train on.
        start: architecture, or earlier model.
        out: model folder.
        settings: of the training.
        options: of everything else.
        resume: go on with the run that ``out`` holds, if there is one; of a finished one of the same
            settings, the result.

    Raises:
        UsageError: a run in ``out`` and no ``resume``, no utterance that can be used, or a loss that is
            not finite.
        CheckpointError: weights that cannot be found, or a run of another job in ``out``.
        AudioError: with ``strict``, the first file that cannot be used.
        LostProcessError: another process of the run has ended.
    """
    options = options or PretrainOptions()
    out = Path(out)
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out}: is a file (expected a folder, or a name for a new one)")
    if not len(manifest):
        raise UsageError(f"{manifest.source}: no utterances to train on")
    accelerator = make_accelerator(
        out / RUN,
        mixed_precision=PRECISIONS[settings.precision],
        tensorboard=options.tensorboard,
        cpu=options.cpu,
        unused_parameters=settings.layerdrop > 0,
    )
    devices = [accelerator.device] if accelerator.device.type == "cuda" else []
    with ExitStack() as held:
        held.enter_context(torch.random.fork_rng(devices=devices))
        if accelerator.is_main_process:
            message = f"{out}: another process is training in this folder"
            held.enter_context(exclusive(out / RUN / ".lock", message))
        return _Run(manifest, start, out, settings, options, accelerator).run(resume)


class _Run:
    """One run of :func:`pretrain`."""

    def __init__(
        self,
        manifest: Manifest,
        start: Start,
        out: Path,
        settings: PretrainSettings,
        options: PretrainOptions,
        accelerator: Accelerator,
    ) -> None:
        self.manifest, self.out, self.folder = manifest, out, out / RUN
        self.settings, self.options, self.accelerator = settings, options, accelerator
        torch.manual_seed(settings.seed)
        self.model = start.model(settings)
        weights = tensors_digest(self.model.encoder.state_dict())
        self.start = {"from": start.name, "weights": weights}
        self.mixer = Mixer(settings.mix_prob, settings.noise_share, options.noise)
        self.features = target_features(settings, str(accelerator.device))
        self.target_job = {
            "manifest": manifest.digest(),
            "features": self.features.describe(),
            "clusters": settings.clusters,
            "seed": settings.seed,
            "least_frames": settings.least_frames,
        }
        self.job = {
            "settings": settings.to_json() | {"targets": None},  # which may lie in another place
            "architecture": self.model.encoder.config.to_dict(),
            "weights": weights,
            "noise": None if options.noise is None else digest_of(list_recordings(options.noise)),
            **self.target_job,
        }
        torch.manual_seed(settings.seed + 1 + accelerator.process_index)
        budget = options.memory_mb * 2**20
        rows = rows_of(manifest)
        self.bank = AudioBank(rows, settings.least_frames, budget, options.workers, options.strict)

    def run(self, resume: bool) -> PretrainResult:
        """Trains, or goes on training, to the end."""
        finished = self._finished(resume)
        if finished is not None:
            return finished
        checkpoint = latest_checkpoint(self.folder)
        if checkpoint is not None and not resume:
            raise UsageError(
                f"{self.out}: holds an unfinished run, at step {checkpoint.step} "
                "(--resume goes on with it; delete the folder or choose another to start anew)"
            )
        try:
            targets = self._shared_targets()
            journal = Journal(self.folder, self.accelerator, self.options.say)
            loop = PretrainLoop(
                self.model,
                BatchStream(
                    self.bank,
                    targets,
                    self.settings,
                    self.mixer,
                    self.accelerator.process_index,
                    self.accelerator.num_processes,
                ),
                self.settings,
                self.folder,
                accelerator=self.accelerator,
                journal=journal,
                job=self.job,
                journal_steps=self.options.journal_steps,
                checkpoint_steps=self.options.checkpoint_steps,
                on_step=self._on_step,
            )
            if checkpoint is not None:
                loop.restore(checkpoint)
            journal.resume(loop.position.n_entries)
            loop.run()
        finally:
            self.bank.close()
            for tracker in self.accelerator.trackers:
                tracker.finish()
        return self._finish(loop, targets)

    def _on_step(self, step: PretrainStep) -> None:
        if self.accelerator.trackers:
            self.accelerator.log({"step_loss": step.loss}, step=step.number)
        if self.options.on_step:
            self.options.on_step(step)

    def _finished(self, resume: bool) -> PretrainResult | None:
        path = self.out / FACTS
        if not path.exists():
            return None
        facts = json.loads(path.read_text(encoding="utf-8"))
        if not resume or facts.get("job") != json.loads(json.dumps(self.job)):
            same = "the same" if facts.get("job") == json.loads(json.dumps(self.job)) else "another"
            raise UsageError(f"{self.out}: holds the finished model of {same} run (expected another folder)")
        return PretrainResult(self.out, facts, [Failure(**f) for f in facts["failures"]])

    def _shared_targets(self) -> Targets:
        """Computed by the first process, and read from its file by the others.

        Raises:
            UsageError: a folder that is not the same for all processes.
        """
        mine = self._targets() if self.accelerator.is_main_process else None
        wait_for_the_first(self.accelerator)
        if mine is None and Targets.load(self.folder / FILE_NAME, self.target_job) is None:
            raise UsageError(
                f"{self.folder / FILE_NAME}: not to be seen in process {self.accelerator.process_index} "
                "(expected a folder that all processes share)"
            )
        return mine or self._targets()

    def _targets(self) -> Targets:
        """Those that the run's folder holds, or new ones; either way the audio is decoded once."""
        path = self.folder / FILE_NAME
        held = Targets.load(path, self.target_job)
        if held is not None:
            self.bank.failures |= {failure.utterance_id: failure for failure in held.failures}
            usable = np.flatnonzero(held.frames).tolist()
            for _ in self._decoded(usable):
                if self.bank.is_full:
                    break
            return held
        everything = self._decoded(list(range(len(self.bank.rows))))
        centroids, labels = compute_targets(everything, self.features, self.settings)
        made = Targets(centroids, labels, list(self.bank.failures.values()))
        made.save(path, self.target_job)
        return made

    def _decoded(self, indices: list[int]) -> Iterator[Float32Array | None]:
        for waveform in self.bank.waveforms(indices):
            if self.options.progress:
                self.options.progress(1, 0.0 if waveform is None else len(waveform) / SAMPLE_RATE)
            yield waveform

    def _finish(self, loop: PretrainLoop, targets: Targets) -> PretrainResult:
        """Writes the model and what is known of it; what is no longer needed goes.

        All of it by the first process; the others wait.
        """
        failures = list(self.bank.failures.values())
        here = loop.position
        facts = {
            "job": self.job,
            "settings": self.settings.to_json(),
            "start": self.start,
            "parameters": sum(p.numel() for p in self.model.encoder.parameters()),
            "data": {
                "manifest": self.manifest.digest(),
                "utterances": int(np.count_nonzero(targets.frames)),
                "hours": round(float(targets.frames.sum()) * 0.02 / 3600, 3),
                "not_used": len(failures),
                "commonest_cluster": float(targets.shares.max()),
            },
            "steps": here.step,
            "passes": here.number + (here.batch > 0),
            "minutes": round(here.elapsed / 60, 2),
            "final": here.last,
            "failures": [failure.to_dict() for failure in failures],
        }
        if self.accelerator.is_main_process:
            self.model.save(self.out)
            write_atomic(self.out / "README.md", model_card(facts, self.model.encoder.config))
            write_atomic(self.out / FACTS, json.dumps(facts, indent=2) + "\n")
            remove_checkpoints(self.folder)
        wait_for_the_first(self.accelerator)
        return PretrainResult(self.out, facts, failures)
