"""The numbers that the two papers printed, as data, and how measured rows are matched with them.

The CSVs beside this module say where each number is from; ``README.md`` says what was checked
and what is odd about them. Names of front-ends, back-ends and training sets are given here as
voxfide writes them.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Final, NamedTuple

FRONTENDS: Final = {"w2v": "wav2vec2", "hub": "hubert", "wavlm": "wavlm"}
"""Front-end families of the layer-wise study: name in its files → name here."""

EVAL_SETS: Final = (
    "LA19", "LA21", "DF21", "ADD23.1", "ADD23.2", "HABLA", "Partial", "HAD", "SceneFake", "CtrSVDD",
)  # fmt: skip
"""Evaluation sets of the layer-wise study, in the order of its tables."""

AVERAGE: Final = "AVG"

TRAIN_SETS: Final = {
    "ASV19": "LA19",
    "ADD22": "ADD22",
    "spanish": "HABLA",
    "Part_ASV19": "PartialSpoof",
    "had": "HAD",
    "sceneFake": "SceneFake",
    "music": "CtrSVDD",
}
"""Training sets of the layer-wise study: name in its files → name here, in the order of its tables."""

TRAINED_ON: Final = {
    "LA19": "LA19", "LA21": "LA19", "DF21": "LA19", "ADD23.1": "ADD22", "ADD23.2": "ADD22", "HABLA": "HABLA",
    "Partial": "PartialSpoof", "HAD": "HAD", "SceneFake": "SceneFake", "CtrSVDD": "CtrSVDD",
}  # fmt: skip
"""Evaluation set → what the heads scored on it were trained on."""

_EVAL_ALIASES: Final = {
    "asvspoof2019la": "LA19",
    "asvspoof2021la": "LA21",
    "asvspoof2021df": "DF21",
    "partialspoof": "Partial",
}
_TRAIN_ALIASES: Final = {"asvspoof2019la": "LA19", "add2022": "ADD22", "partial": "PartialSpoof"}
_FAMILIES: Final = (("wavlm", "wavlm"), ("hubert", "hubert"), ("wav2vec2", "wav2vec2"), ("xlsr", "wav2vec2"))


class LayerwiseKey(NamedTuple):
    """What an EER of the layer-wise study is of."""

    size: str
    frontend: str
    backend: str
    n_layers: int
    eval_set: str


@dataclass(frozen=True)
class PublishedEer:
    """One EER of the layer-wise study (El Kheir et al. 2025), in percent; ``seed`` ``None``: their mean."""

    key: LayerwiseKey
    seed: int | None
    eer_percent: float


@dataclass(frozen=True)
class PublishedWeights:
    """Layer weights of one head of the layer-wise study, min-max scaled by its authors.

    Attributes:
        weights: of layers 1 … L; the least is 0 and the greatest 1, so that only their order
            and relative height mean something.
    """

    train_set: str
    size: str
    frontend: str
    backend: str
    weights: tuple[float, ...]


@dataclass(frozen=True)
class Representation:
    """A row of table 1 of the ensemble study (Combei et al. 2024): a frozen front-end.

    Attributes:
        parameters: as printed, such as ``94M``.
        open_condition: whether ASVspoof 5's open condition allows its training data.
    """

    model: str
    parameters: str
    dim: int
    eer_dev: float
    open_condition: bool


@dataclass(frozen=True)
class FineTuned:
    """A row of table 2 of the ensemble study; ``None`` is a dash there."""

    model: str
    kind: str
    training_set: str
    eer_dev: float
    eer_progress: float | None


@dataclass(frozen=True)
class Fusion:
    """A row of table 3 of the ensemble study: which WavLM models were fused; ``None`` is a dash there."""

    members: tuple[str, ...]
    eer_dev: float
    eer_progress: float | None
    eer_eval: float | None


@cache
def layerwise_eers() -> tuple[PublishedEer, ...]:
    """Every EER of the layer-wise study by seed, and the means over seeds as printed; no ``AVG`` column."""
    return tuple(_layerwise(EVAL_SETS))


@cache
def layerwise_averages() -> tuple[PublishedEer, ...]:
    """The column ``AVG`` as printed: means over the evaluation sets; ``eval_set`` is ``AVG``."""
    return tuple(_layerwise((AVERAGE,)))


@cache
def layerwise_weights() -> tuple[PublishedWeights, ...]:
    """The layer weights behind the layer-wise study's heat maps."""
    return tuple(
        PublishedWeights(
            TRAIN_SETS[row["train_set"]],
            row["size"],
            FRONTENDS[row["frontend"]],
            row["backend"].lower(),
            tuple(float(row[f"w{i}"]) for i in range(1, 25) if row[f"w{i}"]),
        )
        for row in _rows("elkheir2025_layer_weights.csv")
    )


@cache
def representations() -> tuple[Representation, ...]:
    """Table 1 of the ensemble study."""
    return tuple(
        Representation(
            r["model"], r["parameters"], int(r["dim"]), float(r["eer_dev"]), r["open_condition"] == "yes"
        )
        for r in _rows("combei2024_table1.csv")
    )


@cache
def fine_tuned() -> tuple[FineTuned, ...]:
    """Table 2 of the ensemble study."""
    return tuple(
        FineTuned(r["model"], r["kind"], r["training_set"], float(r["eer_dev"]), _optional(r["eer_progress"]))
        for r in _rows("combei2024_table2.csv")
    )


@cache
def fusions() -> tuple[Fusion, ...]:
    """Table 3 of the ensemble study."""
    names = ("pretrained", "medium-27k", "augm-31k", "augm-114k")
    return tuple(
        Fusion(
            tuple(name for name in names if r[name] == "1"),
            float(r["eer_dev"]),
            _optional(r["eer_progress"]),
            _optional(r["eer_eval"]),
        )
        for r in _rows("combei2024_table3.csv")
    )


def published_eval_set(name: str) -> str | None:
    """The layer-wise study's name of an evaluation set, whatever its case and punctuation."""
    plain = _plain(name)
    return next((s for s in EVAL_SETS if _plain(s) == plain), _EVAL_ALIASES.get(plain))


def published_train_set(name: str) -> str | None:
    """The name in :data:`TRAINED_ON` of a training set, whatever its case and punctuation."""
    plain = _plain(name)
    known = set(TRAINED_ON.values())
    return next((s for s in known if _plain(s) == plain), _TRAIN_ALIASES.get(plain))


def published_family(frontend: str) -> str | None:
    """The layer-wise study's front-end family that a name or hub id is of; ``None`` for any other."""
    plain = _plain(frontend)
    if "distil" in plain:
        return None
    return next((family for part, family in _FAMILIES if part in plain), None)


def _layerwise(columns: tuple[str, ...]) -> Iterator[PublishedEer]:
    for row in _rows("elkheir2025_eer.csv"):
        seed = None if row["seed"] == "avg" else int(row["seed"])
        for column in columns:
            key = LayerwiseKey(
                row["size"], FRONTENDS[row["frontend"]], row["backend"].lower(), int(row["n_layers"]), column
            )
            yield PublishedEer(key, seed, float(row[column]))


def _rows(name: str) -> list[dict[str, str]]:
    text = files(__name__).joinpath(name).read_text(encoding="utf-8")
    return list(csv.DictReader(line for line in text.splitlines() if not line.startswith("#")))


def _optional(cell: str) -> float | None:
    return float(cell) if cell else None


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())
