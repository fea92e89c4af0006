"""The grid of a layer-wise study: front-ends and their depths, back-ends, seeds."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from voxfide.backends import BACKENDS, create_backend
from voxfide.backends.neural import NeuralBackend
from voxfide.errors import UsageError, VoxfideError
from voxfide.studies.depth import depth_of
from voxfide.studies.recipe import Task
from voxfide.training.heads import HeadJob

MODELS = {
    "small": {
        "wav2vec2": "wav2vec2-base",
        "hubert": "hubert-base-ls960",
        "wavlm": "wavlm-base-plus",
    },
    "large": {
        "wav2vec2": "wav2vec2-xls-r-300m",
        "hubert": "hubert-large-ll60k",
        "wavlm": "wavlm-large",
    },
}
"""The study's front-ends by size and family."""

DEPTHS = {"small": (2, 4, 6, 12), "large": (4, 6, 8, 10, 12, 24)}
"""The study's numbers of layers."""

OTHER_SIZE = "other"


@dataclass(frozen=True)
class FrontendChoice:
    """A front-end of the grid.

    Attributes:
        label: its name in tables.
        name: registered name, hub id or folder.
        size: ``small``, ``large``, or ``other`` for a model that the study did not use.
        n_layers: the depths at which heads read it, in rising order.
    """

    label: str
    name: str
    size: str
    n_layers: tuple[int, ...]


@dataclass(frozen=True)
class Grid:
    """What is crossed with the training corpora."""

    frontends: tuple[FrontendChoice, ...]
    backends: tuple[str, ...] = ("ffn", "aasist")
    seeds: tuple[int, ...] = ()

    def jobs(self, task: Task, choice: FrontendChoice) -> list[HeadJob]:
        """The heads of a cell, not built yet."""
        return [
            HeadJob(f"{name}-n{n}-seed{seed}", _backend(name, task), n, seed)
            for name, n, seed in itertools.product(
                self.backends, choice.n_layers, self.seeds or task.recipe.seeds
            )
        ]


def choose_frontends(names: Sequence[str], size: str | None, n_layers: Sequence[int]) -> Grid:
    """Front-ends by family (``wavlm`` with a size), registered name, hub id or folder; ``LABEL=`` before it.

    Raises:
        UsageError: unknown names, or more layers than a model has; all at once.
    """
    problems: list[str] = []
    choices: list[FrontendChoice] = []
    if size not in (None, *MODELS):
        problems.append(f"size {size!r} (expected {' or '.join(MODELS)})")
    for item in names:
        try:
            choices.append(_choice(item, size, tuple(sorted(set(n_layers)))))
        except VoxfideError as error:
            problems.append(str(error))
    labels = [(c.label, c.size) for c in choices]
    problems += [
        f"front-end {a} ({b}) is named twice" for a, b in sorted(set(labels)) if labels.count((a, b)) > 1
    ]
    if problems:
        raise UsageError("layer-wise study: " + "; ".join(problems))
    return Grid(tuple(choices))


def _choice(item: str, size: str | None, wanted: tuple[int, ...]) -> FrontendChoice:
    label, equals, name = item.partition("=")
    if not equals:
        label = name = item
        if item in MODELS["small"]:
            name = MODELS[size or "small"].get(item, item)
    known = size or ("small" if label in MODELS["small"] else None)
    depth = depth_of(name)
    beyond = [n for n in wanted if not 1 <= n <= depth]
    if beyond:
        raise UsageError(f"front-end {item} has {depth} layers, asked for {', '.join(map(str, beyond))}")
    chosen = wanted or tuple(n for n in DEPTHS.get(known or "", ()) if n <= depth) or (depth,)
    return FrontendChoice(Path(label).name, name, known or OTHER_SIZE, chosen)


def check_backends(names: Sequence[str]) -> list[str]:
    """What is wrong with the back-ends of a grid."""
    problems = []
    for name in names:
        try:
            if BACKENDS[name].pool != "none" or name == "aasist-raw":
                problems.append(f"back-end {name} does not weight layers (expected ffn or aasist)")
        except VoxfideError as error:
            problems.append(str(error))
    return problems


def _backend(name: str, task: Task) -> NeuralBackend:
    made = create_backend(name, **task.recipe.backend)
    if not isinstance(made, NeuralBackend):
        raise UsageError(f"back-end {name} does not weight layers (expected ffn or aasist)")
    return made
