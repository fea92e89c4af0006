"""The late fusion of an ensemble study: learnt, applied, ablated, saved as one detector, submitted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from voxfide.detector import Detector
from voxfide.ensemble import EnsembleDetector
from voxfide.evaluation import Key
from voxfide.evaluation.submission import write_submission
from voxfide.fusion import (
    FusionOptions,
    FusionRecord,
    JointScores,
    JointTrials,
    join_scores,
    label_scores,
    learn_fusion,
)
from voxfide.scores import read_scores, write_scores
from voxfide.studies.ablation import ablate
from voxfide.studies.ensemble_data import has_labels
from voxfide.studies.ensemble_steps import StepResult
from voxfide.studies.ensemble_systems import Systems
from voxfide.types import BONAFIDE

FUSED: Final = "fused"
"""What the fusion's score files are named after; no system has this name."""

RECORD: Final = "fusion.json"
ENSEMBLE: Final = "ensemble"


@dataclass(frozen=True)
class Fusing:
    """The steps from the systems' scores to one detector.

    Args:
        systems: with scores of all sets in the study's folder.
        facts: of the steps that fitted the classifiers, by system.
    """

    systems: Systems
    facts: Mapping[str, Mapping[str, Any]]

    @property
    def folder(self) -> Path:
        return self.systems.folder

    def joint(self, of: str) -> JointScores:
        """Scores of a set by all systems of the fusion, in its order."""
        names = self.systems.recipe.fusion.systems
        return join_scores({name: read_scores(self.systems.scores_file(of, name)) for name in names})

    def trials(self, of: str) -> JointTrials:
        """The same with labels."""
        columns = self.systems.part(of).key()
        return label_scores(self.joint(of), Key(columns["utterance_id"], columns["label"]))

    def options(self) -> FusionOptions:
        """How it is learnt: from what the classifiers state, at the class proportions of their training."""
        recipe = self.systems.recipe
        counts = self.systems.data.mixes[recipe.classifier.mix].manifest.counts()
        prior = counts[BONAFIDE] / (counts[BONAFIDE] + counts["spoof"])
        return FusionOptions(inputs=recipe.fusion.inputs, input_prior=prior)  # type: ignore[arg-type]

    def learn(self) -> StepResult:
        """Learns the fusion and saves it with the systems as ``ensemble/``."""
        recipe, options = self.systems.recipe, self.systems.options
        fit = recipe.fusion.fit
        names = recipe.fusion.systems
        sources = [self.systems.source(fit, name, self.facts[name]) for name in names]
        part = self.systems.part(fit)
        record = learn_fusion(
            self.trials(fit),
            self.options(),
            n_bootstrap=options.n_bootstrap,
            seed=options.seed,
            sources=sources,
            fitted_to={"manifest": Path(fit).stem, "split": None, "digest": part.digest()},
        )
        record.write(self.folder / RECORD)
        members = [Detector.load(self.folder / "detectors" / name) for name in names]
        EnsembleDetector.of(members, record, names).save(self.folder / ENSEMBLE)
        return StepResult({"formula": record.describe(), "warnings": list(record.warnings)})

    def record(self) -> FusionRecord:
        return FusionRecord.read(self.folder / RECORD)

    def apply(self, of: str) -> StepResult:
        """Fuses the scores of a set to ``scores/SET/fused.tsv`` and measures the EER."""
        joint = self.joint(of)
        out = self.systems.scores_file(of, FUSED)
        write_scores(out, joint.utterance_id, self.record().fusion.apply(joint.scores))
        return StepResult({"eer": self.systems.eer(read_scores(out), self.systems.part(of))})

    def ablate(self) -> StepResult:
        """Fuses all subsets, each learnt anew, and measures them on every set that has labels."""
        recipe, options = self.systems.recipe, self.systems.options
        fit = recipe.fusion.fit
        others = [name for name, part in self.systems.data.sets.items() if name != fit and has_labels(part)]
        found = ablate(
            self.trials(fit),
            self.options(),
            {name: self.trials(name) for name in others},
            name=Path(fit).stem,
            n_bootstrap=options.n_bootstrap,
            seed=options.seed,
        )
        found.write(self.folder / "tables")
        rows = [
            {
                "systems": list(subset.systems),
                "eer": {
                    of: [figures["eer_percent"].value, *(figures["eer_percent"].interval or (None, None))]
                    for of, figures in subset.figures.items()
                },
            }
            for subset in found.subsets
        ]
        return StepResult({"subsets": rows, "sets": list(found.sets), "fit": Path(fit).stem})

    def submit(self, file: str, of: str) -> StepResult:
        """Writes a submission of the fused scores, complete or not at all."""
        trials = self.systems.part(of).strings("utterance_id").tolist()
        write_submission(self.folder / file, read_scores(self.systems.scores_file(of, FUSED)), trials)
        return StepResult({"file": file, "trials": len(trials)})
