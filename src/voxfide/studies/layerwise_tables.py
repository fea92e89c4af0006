"""The layer-wise study's tables, made of its rows: EER by seed and over seeds, and beside the paper's."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Final, NamedTuple, TypeVar

from voxfide.errors import UsageError
from voxfide.report.tables import Column, Spread, Table
from voxfide.studies.layerwise_rows import EerRow, SpeedRow
from voxfide.studies.published import (
    TRAINED_ON,
    LayerwiseKey,
    layerwise_eers,
    published_eval_set,
    published_family,
    published_train_set,
)
from voxfide.studies.tables import mean_sd

T = TypeVar("T", bound=Hashable)

AVERAGE: Final = "average"
_DECIMALS: Final = ".2f"


class Head(NamedTuple):
    """What was trained, whatever the seed and on what."""

    frontend: str
    backend: str
    n_layers: int


@dataclass(frozen=True)
class EerGroup:
    """Rows that stand in one table: one size, and one training set where that matters.

    Attributes:
        train_set: empty where every evaluation set has one training set of its own, as in the
            paper: then all of them stand side by side.
    """

    size: str
    train_set: str
    rows: Sequence[EerRow]

    @property
    def name(self) -> str:
        """For headings: ``small`` or ``small, trained on LA19``."""
        return f"{self.size}, trained on {self.train_set}" if self.train_set else self.size

    @property
    def stem(self) -> str:
        """For file names: ``small`` or ``small_LA19``."""
        return f"{self.size}_{self.train_set}" if self.train_set else self.size

    @property
    def eval_sets(self) -> list[str]:
        return in_order(row.eval_set for row in self.rows)

    @property
    def heads(self) -> list[Head]:
        """In order of front-end, back-end, then depth."""
        return heads_in_order(Head(r.frontend, r.backend, r.n_layers) for r in self.rows)

    def by_head(self) -> dict[Head, dict[str, dict[int, EerRow]]]:
        """Head → evaluation set → seed → row."""
        found: dict[Head, dict[str, dict[int, EerRow]]] = {head: defaultdict(dict) for head in self.heads}
        for row in self.rows:
            found[Head(row.frontend, row.backend, row.n_layers)][row.eval_set][row.seed] = row
        return found


def in_order(items: Iterable[T]) -> list[T]:
    """Different items in order of appearance."""
    return list(dict.fromkeys(items))


def heads_in_order(heads: Iterable[Head]) -> list[Head]:
    """Different heads: front-ends and back-ends in order of appearance, depths ascending."""
    heads = in_order(heads)
    frontends, backends = in_order(h.frontend for h in heads), in_order(h.backend for h in heads)
    return sorted(heads, key=lambda h: (frontends.index(h.frontend), backends.index(h.backend), h.n_layers))


def eer_groups(rows: Sequence[EerRow]) -> list[EerGroup]:
    """Divides rows into tables.

    Raises:
        UsageError: two rows of one head, seed, training set and evaluation set.
    """
    _refuse_duplicates(rows)
    groups = []
    for size in in_order(row.size for row in rows):
        of_size = [row for row in rows if row.size == size]
        trained_on: defaultdict[str, set[str]] = defaultdict(set)
        for row in of_size:
            trained_on[row.eval_set].add(row.train_set)
        if all(len(sets) == 1 for sets in trained_on.values()):
            groups.append(EerGroup(size, "", of_size))
            continue
        for train_set in in_order(row.train_set for row in of_size):
            groups.append(EerGroup(size, train_set, [r for r in of_size if r.train_set == train_set]))
    return groups


def _refuse_duplicates(rows: Sequence[EerRow]) -> None:
    seen: set[tuple[str | int, ...]] = set()
    for row in rows:
        key = (row.train_set, row.eval_set, row.size, row.frontend, row.backend, row.n_layers, row.seed)
        if key in seen:
            raise UsageError(f"two EERs of {' / '.join(map(str, key))} (expected one)")
        seen.add(key)


def mean_table(group: EerGroup) -> Table:
    """EER in percent, mean ± standard deviation over seeds: rows are heads, columns evaluation sets."""
    sets = group.eval_sets
    rows = []
    for head, found in group.by_head().items():
        by_seed = {name: {seed: row.eer_percent for seed, row in found[name].items()} for name in sets}
        cells = [mean_sd(values.values()) if values else None for values in by_seed.values()]
        if len(sets) > 1:
            averages = _averages(by_seed)
            cells.append(mean_sd(averages) if averages else None)
        rows.append((*head, *cells))
    n_seeds = len({row.seed for row in group.rows})
    over = f"mean ± standard deviation over {n_seeds} seeds" if n_seeds > 1 else "one seed"
    columns = [*_head_columns(), *_set_columns(sets, spread=True)]
    caption = f"EER (%), {group.name}: {over}; the lowest of a column in bold."
    return Table(columns, rows, caption, group_by=2)


def seed_table(group: EerGroup) -> Table:
    """EER in percent of every seed."""
    sets = group.eval_sets
    rows = []
    for head, found in group.by_head().items():
        for seed in sorted({seed for values in found.values() for seed in values}):
            cells = [found[s][seed].eer_percent if seed in found[s] else None for s in sets]
            if len(sets) > 1:
                given = [cell for cell in cells if cell is not None]
                cells.append(fmean(given) if len(given) == len(sets) else None)
            rows.append((*head, seed, *cells))
    columns = [*_head_columns(), Column("seed", "Seed"), *_set_columns(sets, spread=False)]
    caption = f"EER (%) of every seed, {group.name}; the lowest of a column in bold."
    return Table(columns, rows, caption, group_by=3)


def _averages(by_seed: Mapping[str, Mapping[int, float]]) -> list[float]:
    """Means over the evaluation sets, one for each seed that has them all."""
    seeds = set.intersection(*(set(values) for values in by_seed.values()))
    return [fmean(values[seed] for values in by_seed.values()) for seed in sorted(seeds)]


def _head_columns() -> list[Column]:
    return [
        Column("frontend", "Front-end"),
        Column("backend", "Back-end"),
        Column("n_layers", "Layers"),
    ]


def _set_columns(sets: Sequence[str], *, spread: bool) -> list[Column]:
    names = [*sets, AVERAGE] if len(sets) > 1 else sets
    return [Column(name, "", _DECIMALS, spread=spread, best="low", right=True) for name in names]


def speed_table(rows: Sequence[SpeedRow]) -> Table:
    """Parameters and speed of front-ends cut to n layers."""
    columns = [
        Column("frontend", "Front-end"),
        Column("size", "Size"),
        Column("n_layers", "Layers"),
        Column("n_parameters", "Parameters"),
        Column("batch_size", "Batch"),
        Column("seconds_per_utterance", "s per utterance", ".3g"),
        Column("x_realtime", "× real time", ".1f"),
        Column("relative", "times the full speed", ".2f"),
    ]
    cells = [
        (r.frontend, r.size, r.n_layers, r.n_parameters, r.batch_size, r.seconds_per_utterance, r.x_realtime,
         r.relative)
        for r in rows
    ]  # fmt: skip
    caption = (
        "Parameters built and speed measured for front-ends cut to their first layers; the last column is "
        "against the same front-end at its greatest measured depth."
    )
    return Table(columns, cells, caption, group_by=2)


@dataclass(frozen=True)
class Pair:
    """A measured EER beside the paper's, in percent, both over seeds.

    Attributes:
        key: as the paper names it.
        eval_set, train_set: as measured.
    """

    key: LayerwiseKey
    eval_set: str
    train_set: str
    measured: Spread
    published: Spread

    @property
    def difference(self) -> float:
        """Measured less published, in percentage points."""
        return self.measured.value - self.published.value

    @property
    def same_training_set(self) -> bool:
        """Whether it was trained on the paper's training set, by name."""
        return published_train_set(self.train_set) == TRAINED_ON[self.key.eval_set]


def paired_with_published(rows: Sequence[EerRow]) -> list[Pair]:
    """Pairs rows with the paper's of the same size, front-end family, back-end, depth and evaluation set."""
    printed: defaultdict[LayerwiseKey, list[float]] = defaultdict(list)
    for eer in layerwise_eers():
        if eer.seed is not None:
            printed[eer.key].append(eer.eer_percent)
    measured: defaultdict[tuple[LayerwiseKey, str, str], list[float]] = defaultdict(list)
    for row in rows:
        family, name = published_family(row.frontend), published_eval_set(row.eval_set)
        if family is None or name is None:
            continue
        key = LayerwiseKey(row.size, family, row.backend.lower(), row.n_layers, name)
        if key in printed:
            measured[key, row.eval_set, row.train_set].append(row.eer_percent)
    return [
        Pair(key, eval_set, train_set, mean_sd(values), mean_sd(printed[key]))
        for (key, eval_set, train_set), values in measured.items()
    ]


def published_table(pairs: Sequence[Pair]) -> Table:
    """Measured and published EER with their difference, one row a pair; for files, being long."""
    columns = [
        Column("size", "Size"),
        *_head_columns(),
        Column("eval_set", "Evaluation set"),
        Column("train_set", "Trained on"),
        Column("published_train_set", "theirs"),
        Column("measured", "Measured", _DECIMALS, spread=True),
        Column("published", "Published", _DECIMALS, spread=True),
        Column("difference", "Difference", "+.2f"),
    ]
    rows = [
        (p.key.size, p.key.frontend, p.key.backend, p.key.n_layers, p.eval_set, p.train_set,
         TRAINED_ON[p.key.eval_set], p.measured, p.published, p.difference)
        for p in pairs
    ]  # fmt: skip
    caption = (
        "EER (%), mean ± standard deviation over seeds, measured here and published by El Kheir et al. 2025; "
        "difference: measured less published, in percentage points."
    )
    return Table(columns, rows, caption)


def difference_table(group: EerGroup) -> Table | None:
    """Measured less published EER in percentage points: rows are heads, columns evaluation sets.

    ``None`` where the paper has none of these heads.
    """
    found = {
        (p.key.frontend, p.key.backend, p.key.n_layers, p.eval_set): p.difference
        for p in paired_with_published(group.rows)
    }
    if not found:
        return None
    heads = heads_in_order(Head(*key[:3]) for key in found)
    sets = [name for name in group.eval_sets if any(key[3] == name for key in found)]
    rows = [(*head, *(found.get((*head, name)) for name in sets)) for head in heads]
    columns = [*_head_columns(), *(Column(name, "", "+.2f", right=True) for name in sets)]
    caption = f"Measured less published EER, means over seeds, in percentage points, {group.name}."
    return Table(columns, rows, caption, group_by=2)
