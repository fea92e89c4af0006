"""The ensemble study (Combei et al. 2024): fine-tuned models, their fusion, and the paper's tables 2 and 3.

Mixes are drawn and augmented, models fine-tuned on them; features of pre-trained and fine-tuned models
are classified by logistic regression and scored on development, progress and evaluation sets; four of
the systems are fused. Every step is done once: a study that was killed goes on where it was, and a
step that fails ends only those that need it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from voxfide.errors import CheckpointError, UsageError
from voxfide.files import exclusive, write_atomic
from voxfide.frontends import FRONTENDS
from voxfide.frontends.checkpoint import locate
from voxfide.frontends.ssl_config import SSLConfig
from voxfide.jobs import Failure
from voxfide.manifest import mix as join
from voxfide.studies.ensemble_data import StudyData, has_labels, write_data
from voxfide.studies.ensemble_fusion import Fusing
from voxfide.studies.ensemble_recipe import EnsembleRecipe
from voxfide.studies.ensemble_steps import StepResult, Steps
from voxfide.studies.ensemble_systems import EnsembleOptions, Systems, settings_of
from voxfide.studies.reporting import Reporter
from voxfide.training.processes import naming_lost_processes, processes_of_launch, wait_for_the_first

STAMP: Final = "study.json"


@dataclass(frozen=True)
class EnsembleResult:
    """What a study did.

    Attributes:
        recipe, data, options: that it was run with.
        facts: of the steps that are done, by name.
        broken: steps that are not, and why.
        failures: utterances that some step could not use.
    """

    recipe: EnsembleRecipe
    data: StudyData
    options: EnsembleOptions
    facts: Mapping[str, Mapping[str, Any]]
    broken: Mapping[str, str]
    failures: list[Failure]


def check_models(recipe: EnsembleRecipe, options: EnsembleOptions) -> list[str]:
    """What is wrong with models and settings: everything that would stop a fine-tuning or a front-end."""
    problems = []
    wanted = {system.frontend for system in recipe.systems.values()}
    problems += [
        f"front-end {name}: given, but no system here uses it (they use {', '.join(sorted(wanted))})"
        for name in options.frontends
        if name not in wanted
    ]
    fine_tuned = {system.frontend for system in recipe.fine_tuned().values()}
    for name in sorted(wanted):
        source = options.frontends.get(name, name)
        spec = next((s for s in FRONTENDS if s.name == source), None)
        if spec is not None and spec.place != "voxfide.frontends.ssl:make":
            if name in fine_tuned:
                problems.append(
                    f"front-end {name} cannot be fine-tuned (expected wav2vec 2.0, HuBERT or WavLM)"
                )
            continue
        try:
            SSLConfig.from_folder(locate((spec.hub_id or source) if spec else source).folder)
        except CheckpointError as error:
            problems.append(f"front-end {name}: {error} (--frontend {name}=FOLDER)")
    for name, system in recipe.fine_tuned().items():
        try:
            settings_of(recipe, system, options)
        except UsageError as error:
            problems.append(f"{name}: {error}")
    return list(dict.fromkeys(problems))


@naming_lost_processes()
def run_ensemble(
    recipe: EnsembleRecipe,
    data: StudyData,
    folder: Path,
    options: EnsembleOptions | None = None,
    reporter: Reporter | None = None,
) -> EnsembleResult:
    """Does all steps that are not done yet; of several processes the first, but for fine-tuning.

    Args:
        recipe: what is done.
        data: drawn by :func:`voxfide.studies.ensemble_data.find_data`.
        folder: gets ``data/``, ``models/``, ``stores/``, ``detectors/``, ``scores/``, ``ensemble/``,
            ``fusion.json`` and the submissions; ``steps/`` says what is done.
        options: how.
        reporter: told what goes on.

    Raises:
        UsageError: models or settings that cannot work, all at once; or a folder of another study.
        StoreError: another study is writing there.
    """
    options, reporter = options or EnsembleOptions(), reporter or Reporter()
    if problems := check_models(recipe, options):
        raise UsageError.listing("ensemble study", problems)
    processes = processes_of_launch(options.device == "cpu")
    with ExitStack() as held:
        if processes is None or processes.is_main_process:
            held.enter_context(exclusive(folder / ".lock", f"{folder}: another study is writing there"))
            _claim(folder, recipe, data, options)
            write_data(folder / "data", data)
        wait_for_the_first(processes)
        steps = Steps(folder / "steps", reporter, processes)
        systems = Systems(recipe, data, folder, options, reporter)
        _train_and_score(steps, systems)
        _fuse(steps, systems)
        if recipe.figure:
            steps.do("figure", lambda: _draw(systems, steps), [f"classify {name}" for name in recipe.figure])
    return EnsembleResult(recipe, data, options, steps.facts, steps.broken, list(steps.failures.values()))


def _claim(folder: Path, recipe: EnsembleRecipe, data: StudyData, options: EnsembleOptions) -> None:
    """Writes down what the folder is for, or refuses one that is for something else."""
    job = {
        "recipe": asdict(recipe),
        "data": data.digests(),
        "frontends": dict(options.frontends),
        "finetuning": {
            k: v if isinstance(v, bool | int | float | str) else str(v) for k, v in options.finetuning.items()
        },
        "precision": options.precision,
        "n_bootstrap": options.n_bootstrap,
        "seed": options.seed,
    }
    text = json.dumps(job, indent=2, ensure_ascii=False) + "\n"
    stamp = folder / STAMP
    if not stamp.exists():
        write_atomic(stamp, text)
        return
    held, now = json.loads(stamp.read_text(encoding="utf-8")), json.loads(text)
    differ = [key for key in now if held.get(key) != now[key]]
    if differ:
        raise UsageError(
            f"{folder}: holds another study (it differs in {', '.join(differ)}): choose another folder"
        )


def _train_and_score(steps: Steps, systems: Systems) -> None:
    recipe = systems.recipe
    for mix in dict.fromkeys(s.mix for s in recipe.fine_tuned().values() if s.mix):
        steps.do(f"augment {mix}", partial(systems.augment, mix))
    for name, system in recipe.systems.items():
        trained, classified = f"finetune {name}", f"classify {name}"
        if system.mix:
            before = f"augment {system.mix}"
            work = partial(systems.finetune, name, steps.facts.get(before, {}))
            steps.do(trained, work, [before], together=True)
        steps.do(classified, partial(systems.classify, name), [trained] if system.mix else [])
        facts = steps.facts.get(classified, {})
        for of in _scored(systems, name):
            steps.do(f"score {of}, {name}", partial(systems.score, name, of, facts), [classified])


def _scored(systems: Systems, name: str) -> list[str]:
    """The sets that a system scores; for the fusion also what that is fitted to."""
    recipe = systems.recipe
    is_fused = name in recipe.fusion.systems
    found = [of for of in systems.data.sets if is_fused or not recipe.sets[of].fused_only]
    return [recipe.fusion.fit, *found] if is_fused and recipe.fusion.fit not in found else found


def _fuse(steps: Steps, systems: Systems) -> None:
    recipe = systems.recipe
    names, fit = recipe.fusion.systems, recipe.fusion.fit
    facts = {name: steps.facts[f"classify {name}"] for name in names if steps.is_done(f"classify {name}")}
    fusing = Fusing(systems, facts)
    steps.do("fuse", fusing.learn, [f"score {fit}, {name}" for name in names])
    for of in systems.data.sets:
        scored = [f"score {of}, {name}" for name in names]
        steps.do(f"fuse {of}", partial(fusing.apply, of), ["fuse", *scored])
    labelled = [of for of, part in systems.data.sets.items() if has_labels(part)]
    steps.do("ablation", fusing.ablate, ["fuse", *(f"fuse {of}" for of in labelled)])
    for file, of in recipe.submissions.items():
        if of in systems.data.sets:
            steps.do(f"submit {file}", partial(fusing.submit, file, of), [f"fuse {of}"])


def _draw(systems: Systems, steps: Steps) -> StepResult:
    """t-SNE of the embeddings of the classifier's mix and of the development set, as the paper's figure 2."""
    from voxfide.store import EmbeddingStore
    from voxfide.studies.projection_report import write_projection_report

    recipe, options = systems.recipe, systems.options
    stores = {
        name: EmbeddingStore(systems.folder / "stores" / steps.facts[f"classify {name}"]["store"])
        for name in recipe.figure
    }
    parts = {"train": systems.part(recipe.classifier.mix), "dev": systems.part(recipe.select_on)}
    rows = join({name: part for name, part in parts.items() if len(part)})
    perplexity = min(options.perplexity, (len(rows) - 1) // 3)
    made = write_projection_report(
        systems.folder / "figure2",
        stores,
        rows,
        perplexity=perplexity,
        seed=options.seed,
        on_step=systems.reporter.say,
    )
    files = {
        name: str(path.relative_to(systems.folder))
        for name, path in zip(stores, made.coordinates, strict=True)
    }
    return StepResult({"page": str(made.page.relative_to(systems.folder)), "coordinates": files})
