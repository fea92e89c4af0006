"""The systems of an ensemble study: augmented, fine-tuned, their features classified, utterances scored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from voxfide.augment import Plan
from voxfide.augment.write import augment_manifest
from voxfide.backends.logistic import LogisticBackend
from voxfide.detector import Detector
from voxfide.errors import UsageError
from voxfide.extraction import Extractor
from voxfide.files import file_sha256
from voxfide.frontends import create_frontend
from voxfide.frontends.base import Frontend
from voxfide.frontends.ssl_config import read_json
from voxfide.manifest import Manifest
from voxfide.scores import Scores, read_scores, write_scores
from voxfide.scoring import score_manifest
from voxfide.store import EmbeddingStore
from voxfide.studies.ensemble_data import StudyData, has_labels
from voxfide.studies.ensemble_recipe import EnsembleRecipe, SystemSpec
from voxfide.studies.ensemble_steps import StepResult
from voxfide.studies.reporting import Reporter, eer_with_interval
from voxfide.training.checkpoint import latest_checkpoint
from voxfide.training.finetune import RUN, FinetuneOptions, finetune
from voxfide.training.finetune_settings import FinetuneSettings
from voxfide.training.pooled import TrainingSet, train
from voxfide.types import BONAFIDE


@dataclass(frozen=True)
class EnsembleOptions:
    """How an ensemble study is run.

    Args:
        frontends: registered name to a local folder or hub id that is taken in its place.
        finetuning: overrides of the recipe's settings, by name.
        device: of everything.
        precision: of feature extraction.
        workers: decoding processes; None chooses.
        batch_seconds: audio in a batch of extraction; None chooses.
        n_bootstrap: samples for the intervals; 0 for none.
        perplexity: of the figure, or as high as its points allow.
        seed: of mixes, augmentation, fine-tuning, bootstrap and figure.
    """

    frontends: Mapping[str, str] = field(default_factory=dict)
    finetuning: Mapping[str, Any] = field(default_factory=dict)
    device: str = "cpu"
    precision: str = "fp32"
    workers: int | None = None
    batch_seconds: float | None = None
    n_bootstrap: int = 1000
    perplexity: float = 30.0
    seed: int = 0


def settings_of(recipe: EnsembleRecipe, system: SystemSpec, options: EnsembleOptions) -> FinetuneSettings:
    """How a system is fine-tuned.

    Raises:
        UsageError: settings that do not exist or cannot be.
    """
    values = {
        "batch_size": system.batch_size,
        **recipe.finetuning,
        **options.finetuning,
        "seed": options.seed,
    }
    try:
        return FinetuneSettings(**values)
    except TypeError as error:
        raise UsageError(f"fine-tuning: {error}") from error


@dataclass(frozen=True)
class Systems:
    """Makes and applies the systems; each method is a step, or a part of one.

    Args:
        folder: of the study: ``data/``, ``models/``, ``stores/``, ``detectors/`` and ``scores/`` lie there.
    """

    recipe: EnsembleRecipe
    data: StudyData
    folder: Path
    options: EnsembleOptions
    reporter: Reporter

    def augment(self, mix: str) -> StepResult:
        """Writes the copies that a mix asks for, once, as the paper did."""
        drawn = self.data.mixes[mix]
        if not drawn.n_planned:
            return StepResult({"manifest": None, "applied": {}})
        with self.reporter.bar(f"augment {mix}") as bar:
            made = augment_manifest(
                drawn.manifest,
                Plan.of(drawn.manifest, self.options.seed),
                self.folder / "data" / f"{Path(mix).stem}-augmented",
                suffix=".parquet",
                workers=self.options.workers,
                progress=bar,
                on_start=getattr(bar, "start", None),
            )
        return StepResult(
            {"manifest": str(made.path.relative_to(self.folder)), "applied": made.applied}, made.failures
        )

    def finetune(self, name: str, augmented: Mapping[str, Any]) -> StepResult:
        """Fine-tunes a system on its mix, to ``models/NAME``; an unfinished run is gone on with."""
        system = self.recipe.systems[name]
        out = self.folder / "models" / name
        rows = self.data.mixes[str(system.mix)].manifest
        if augmented["manifest"] is not None:
            rows = Manifest.read(self.folder / augmented["manifest"])
        train_set = TrainingSet.of("train", rows, None)
        settings = settings_of(self.recipe, system, self.options)
        finished = _finished_model(out, train_set, settings)
        if finished is not None:
            return StepResult(finished)
        dev_set = TrainingSet.of("dev", self.data.sets[self.recipe.select_on], None)
        with self.reporter.bar(f"finetune {name}") as bar:
            if bar is not None:
                bar.start(settings.epochs * len(train_set.manifest), 0)
            options = FinetuneOptions(
                workers=self.options.workers,
                batch_seconds=self.options.batch_seconds,
                cpu=self.options.device == "cpu",
                say=self.reporter.say,
                on_step=None if bar is None else lambda step: bar(step.utterances, step.seconds),
            )
            result = finetune(
                (train_set, dev_set),
                self.frontend_name(system.frontend),
                out,
                settings=settings,
                options=options,
                resume=True,
            )
        return StepResult(_model_facts(result.best, settings), result.failures)

    def frontend_name(self, registered: str) -> str:
        """What is taken for a front-end of the recipe."""
        return self.options.frontends.get(registered, registered)

    def frontend(self, name: str) -> Frontend:
        """The front-end of a system: pre-trained, or the one that was fine-tuned."""
        system = self.recipe.systems[name]
        source = str(self.folder / "models" / name) if system.mix else self.frontend_name(system.frontend)
        return create_frontend(source, precision=self.options.precision, device=self.options.device)

    def classify(self, name: str) -> StepResult:
        """Embeds, fits the regression, and saves the detector to ``detectors/NAME``."""
        frontend = self.frontend(name)
        store = self.folder / "stores" / f"{name}-{frontend.fingerprint()[:12]}"
        spec = self.recipe.classifier
        sets = (
            TrainingSet.of("train", self.data.mixes[spec.mix].manifest, None),
            TrainingSet.of("dev", self.data.sets[self.recipe.select_on], None),
        )
        with self.reporter.bar(f"features {name}") as bar:
            result = train(
                sets,
                frontend,
                LogisticBackend(C=spec.C, layer=spec.layer),
                store=store,
                pool="mean",
                make_extractor=lambda: Extractor(
                    frontend, "mean", self.options.workers, self.options.batch_seconds, bar
                ),
                on_start=getattr(bar, "start", None),
            )
        result.detector.save(self.folder / "detectors" / name)
        return StepResult({"store": store.name, "detector": result.detector.fingerprint()}, result.failures)

    def score(self, name: str, of: str, facts: Mapping[str, Any]) -> StepResult:
        """Scores a set, or the classifier's mix, to ``scores/SET/NAME.tsv``, and measures the EER."""
        part, out = self.part(of), self.scores_file(of, name)
        out.parent.mkdir(parents=True, exist_ok=True)
        detector = Detector.load(self.folder / "detectors" / name, self.options.device)
        store = EmbeddingStore(self.folder / "stores" / facts["store"])
        ids = part.strings("utterance_id").tolist()
        failures = [f for f in store.failures() if f.utterance_id in set(ids)]
        held = [i for i in ids if i in store]
        if len(held) + len(failures) == len(ids):
            # Computed when the classifier was fitted: no second pass over the audio.
            write_scores(out, held, detector.score_features(store.matrix(held)))
        else:
            with self.reporter.bar(f"score {of}, {name}") as bar:
                failures = score_manifest(
                    detector,
                    part,
                    out,
                    make_extractor=lambda: detector.extractor(
                        workers=self.options.workers, batch_seconds=self.options.batch_seconds, progress=bar
                    ),
                    on_start=getattr(bar, "start", None),
                ).failures
        return StepResult({"eer": self.eer(read_scores(out), part)}, failures)

    def part(self, of: str) -> Manifest:
        """The utterances of a set, or of the classifier's mix."""
        return self.data.sets[of] if of in self.data.sets else self.data.mixes[of].manifest

    def scores_file(self, of: str, name: str) -> Path:
        return self.folder / "scores" / Path(of).stem / f"{name}.tsv"

    def source(self, of: str, name: str, facts: Mapping[str, Any]) -> dict[str, str]:
        """What a fusion remembers of a system."""
        path = self.scores_file(of, name)
        return {"scores": path.name, "scores_sha256": file_sha256(path), "detector": str(facts["detector"])}

    def eer(self, scores: Scores, part: Manifest) -> list[float | None] | None:
        """EER in percent and the ends of its interval; None where there are no labels."""
        if not has_labels(part):
            return None
        label = dict(zip(part.strings("utterance_id"), part.strings("label"), strict=True))
        known = np.array([label[i] in (BONAFIDE, "spoof") for i in scores.utterance_id], dtype=bool)
        is_bonafide = np.array([label[i] == BONAFIDE for i in scores.utterance_id], dtype=bool)[known]
        values = scores.score[known]
        return [*eer_with_interval(values, is_bonafide, self.options.n_bootstrap, self.options.seed)]


def _model_facts(best: Mapping[str, Any], settings: FinetuneSettings) -> dict[str, Any]:
    kept = {key: best[key] for key in ("epoch", "dev_loss", "eer_percent") if key in best}
    return {"best": kept, "settings": settings.to_json()}


def _finished_model(out: Path, train_set: TrainingSet, settings: FinetuneSettings) -> dict[str, Any] | None:
    """Facts of a model that was finished just before a study was killed; None where there is none."""
    if not (out / "config.json").exists() or latest_checkpoint(out / RUN) is not None:
        return None
    training = read_json(out / "config.json").get("training", {})
    facts, sets = training.get("finetuning", {}), training.get("sets", {})
    if (
        facts.get("settings") != settings.to_json()
        or sets.get("train", {}).get("digest") != train_set.manifest.digest()
    ):
        return None
    return _model_facts({"epoch": facts["epoch"], **training.get("metrics", {}).get("dev", {})}, settings)
