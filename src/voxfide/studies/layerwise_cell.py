"""A cell of a layer-wise study: a training corpus and a front-end, with all heads on it."""

from __future__ import annotations

import itertools
import json
import logging
from collections.abc import Sequence
from dataclasses import astuple, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from voxfide.detector import Detector
from voxfide.errors import UsageError
from voxfide.files import write_atomic
from voxfide.frontends import create_frontend
from voxfide.frontends.base import Frontend
from voxfide.jobs import Failure, write_failures
from voxfide.manifest import Manifest
from voxfide.scores import read_scores
from voxfide.scoring import score_many
from voxfide.studies.heads_scorer import HeadsScorer
from voxfide.studies.layerwise_grid import FrontendChoice, Grid
from voxfide.studies.layerwise_rows import EerRow, WeightRow
from voxfide.studies.recipe import Task
from voxfide.studies.reporting import Reporter, eer_with_interval
from voxfide.training.checkpoint import digest_of, remove_checkpoints
from voxfide.training.frames import FeatureOptions, fit_heads
from voxfide.training.heads import TrainedHead
from voxfide.training.pooled import TrainingSet
from voxfide.training.settings import TrainSettings
from voxfide.types import BONAFIDE

if TYPE_CHECKING:
    from accelerate import Accelerator

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StudyOptions:
    """How a study is run.

    Args:
        training: overrides of every recipe's settings, by name of the setting.
        features: how heads get their features.
        device, precision: of the front-ends.
        n_bootstrap: samples for the intervals of each EER; 0 for none.
        save_detectors: keep every head with its front-end as a detector.
        measure_speed: time the front-ends at every depth.
    """

    training: dict[str, Any] = field(default_factory=dict)
    features: FeatureOptions = field(default_factory=FeatureOptions)
    device: str = "cpu"
    precision: str = "fp32"
    n_bootstrap: int = 1000
    save_detectors: bool = False
    measure_speed: bool = True


@dataclass
class Cell:
    """A training corpus and a front-end, with all heads on it."""

    choice: FrontendChoice
    task: Task
    grid: Grid
    folder: Path
    options: StudyOptions
    accelerator: Accelerator
    reporter: Reporter

    def __post_init__(self) -> None:
        self.jobs = self.grid.jobs(self.task, self.choice)
        self.settings = settings_of(self.task, self.options)
        self.crop = self.task.recipe.crop.at_start()

    @property
    def key(self) -> str:
        """Digest of all that determines the rows, but for the front-end's weights."""
        augment = self.options.features.augment
        sets = [self.task.train, self.task.dev, *self.task.evaluations.values()]
        return digest_of([
            [self.choice.label, self.choice.name, self.choice.size],
            [job.to_json() for job in self.jobs],
            self.settings.to_json(),
            [part.digest() for part in sets],
            [*self.task.evaluations, self.options.n_bootstrap, augment.describe() if augment else None],
        ])  # fmt: skip

    def finished(self) -> tuple[list[EerRow], list[WeightRow], list[Failure]] | None:
        """The rows of an earlier run; None where it has not come to its end.

        Raises:
            UsageError: the folder holds another cell.
        """
        path = self.folder / "result.json"
        if not path.exists():
            return None
        held = json.loads(path.read_text(encoding="utf-8"))
        if held["key"] != self.key:
            raise UsageError(
                f"{self.folder}: holds another study (other corpora, heads or settings): "
                "choose another folder"
            )
        return (
            [EerRow(*row) for row in held["eers"]],
            [WeightRow(*row) for row in held["weights"]],
            [Failure(**f) for f in held["failures"]],
        )

    def run(self, frontend: Frontend) -> tuple[list[EerRow], list[WeightRow], list[Failure]]:
        """Trains and scores; leaves rows, scores and journal behind."""
        sets = (
            TrainingSet("train", self.task.train, self.task.recipe.train.split),
            TrainingSet("dev", self.task.dev, self.task.recipe.dev.split),
        )
        with self.reporter.bar("features") as bar:
            features = replace(self.options.features, progress=bar, on_start=getattr(bar, "start", None))
            trained, streams = fit_heads(
                self.jobs, sets, frontend, self.settings, self.folder,
                accelerator=self.accelerator, options=features, say=self.reporter.say,
            )  # fmt: skip
        failures = list(streams.failures)
        eers: list[EerRow] = []
        for name, manifest in self.task.evaluations.items():
            rows, failed = self._score(name, manifest, frontend, trained)
            eers += rows
            failures += failed
        weights = [row for head in trained for row in self._weights(head)]
        if self.options.save_detectors:
            self._save_detectors(trained)
        failures = list({(f.utterance_id, f.path): f for f in failures}.values())
        self._finish(eers, weights, failures)
        streams.remove()
        return eers, weights, failures

    def _score(
        self, name: str, manifest: Manifest, frontend: Frontend, trained: Sequence[TrainedHead]
    ) -> tuple[list[EerRow], list[Failure]]:
        """Scores an evaluation set with all heads in one pass."""
        outs = [self.folder / "scores" / name / f"{head.job.name}.tsv" for head in trained]
        scorer = HeadsScorer(frontend, [head.backend for head in trained], self.crop)
        with self.reporter.bar(f"score {name}") as bar:
            made = score_many(
                scorer, manifest, outs, on_start=getattr(bar, "start", None),
                make_extractor=lambda: scorer.extractor(
                    workers=self.options.features.workers,
                    batch_seconds=self.options.features.batch_seconds,
                    progress=bar,
                    strict=self.options.features.strict,
                ),
            )  # fmt: skip
        label = dict(zip(manifest.column("utterance_id"), manifest.strings("label"), strict=True))
        rows = [self._eer(name, head, out, label) for head, out in zip(trained, outs, strict=True)]
        return rows, made.failures

    def _eer(self, name: str, head: TrainedHead, scores: Path, label: dict[str, str]) -> EerRow:
        table = read_scores(scores)
        is_bonafide = np.array([label[i] == BONAFIDE for i in table.utterance_id])
        return EerRow(
            self.task.name, name, self.choice.size, self.choice.label, head.backend.name, head.job.n_layers,
            head.job.seed, *eer_with_interval(table.score, is_bonafide, self.options.n_bootstrap),
        )  # fmt: skip

    def _weights(self, head: TrainedHead) -> list[WeightRow]:
        weights = head.backend.layer_weights()
        facts = (self.task.name, self.choice.size, self.choice.label, head.backend.name)
        return [] if weights is None else [
            WeightRow(*facts, head.job.n_layers, head.job.seed, layer, float(weight))
            for layer, weight in enumerate(weights, 1)
        ]  # fmt: skip

    def _save_detectors(self, trained: Sequence[TrainedHead]) -> None:
        for n, heads in itertools.groupby(
            sorted(trained, key=lambda h: h.job.n_layers), lambda h: h.job.n_layers
        ):
            frontend = create_frontend(self.choice.name, n, precision=self.options.precision)
            for head in heads:
                detector = Detector(frontend, head.backend, "none", head.dev_threshold, crop=self.crop)
                detector.training = {"settings": self.settings.to_json(), "best_epoch": head.best_epoch}
                detector.save(self.folder / "detectors" / head.job.name)

    def _finish(self, eers: list[EerRow], weights: list[WeightRow], failures: list[Failure]) -> None:
        write_failures(self.folder / "failures.csv", failures)
        rows = {
            "key": self.key,
            "eers": [astuple(row) for row in eers],
            "weights": [astuple(row) for row in weights],
            "failures": [failure.to_dict() for failure in failures],
        }
        write_atomic(self.folder / "result.json", json.dumps(rows) + "\n")
        remove_checkpoints(self.folder)


def settings_of(task: Task, options: StudyOptions) -> TrainSettings:
    values = {**task.recipe.training, **options.training}
    if "class_weights" in values:
        values["class_weights"] = tuple(values["class_weights"])
    try:
        return TrainSettings(crop=task.recipe.crop, **values)
    except TypeError as error:
        raise UsageError(f"{task.recipe.name}: {error}") from error
