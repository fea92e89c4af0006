"""Which utterances are augmented, and how: decided for each by itself, from a seed and its id."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pyarrow as pa

from voxfide.augment.base import Augmentation, Drawn
from voxfide.augment.seeds import utterance_chance, utterance_rng
from voxfide.augment.specification import parse
from voxfide.errors import UsageError
from voxfide.manifest import Manifest
from voxfide.types import LABELS, Float32Array, FloatArray

PLAN_COLUMN = "augment"
"""Manifest column that says what is to be done to a row: a specification, or nothing."""


class Chooser(ABC):
    """Augments a stream of utterances: a :class:`Policy` or a :class:`Plan`. Picklable.

    Attributes:
        seed: of everything random.
    """

    seed: int

    @abstractmethod
    def choose(self, utterance_id: str, label: str | None, corpus: str | None) -> Augmentation | None:
        """What may be done to an utterance; None where it stays as it is.

        Raises:
            UsageError: nothing is known of that by which it is to be chosen.
        """

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """What decides, as JSON."""

    def check_columns(self, manifest: Manifest) -> None:  # noqa: B027  -- a plan needs none
        """Raises :class:`UsageError` where the manifest lacks what :meth:`choose` goes by."""

    def draw(
        self, utterance_id: str, label: str | None = None, *, epoch: int = 0, corpus: str | None = None
    ) -> tuple[Augmentation, Drawn] | None:
        """What is done to an utterance, all random decisions made; None where nothing is."""
        chosen = self.choose(utterance_id, label, corpus)
        if chosen is None:
            return None
        drawn = chosen.draw(utterance_rng(self.seed, utterance_id, epoch))
        return (chosen, drawn) if chosen.applied(drawn) else None

    def __call__(
        self,
        waveform: FloatArray,
        sample_rate: int,
        utterance_id: str,
        label: str | None = None,
        *,
        epoch: int = 0,
        corpus: str | None = None,
    ) -> Float32Array:
        """The waveform ``(samples,)`` of an utterance as it is to be trained on in this epoch.

        The same in any order and in any process; see :meth:`Augmentation.apply` for the errors.
        """
        done = self.draw(utterance_id, label, epoch=epoch, corpus=corpus)
        if done is None:
            return np.asarray(waveform, dtype=np.float32)
        augmentation, drawn = done
        if made := augmentation.spoofed_by(drawn):
            raise UsageError(
                f"{utterance_id}: {made} makes a spoof, whose label would stay {label} in training "
                "(expected written copies: `voxfide augment --keep-original`)"
            )
        return augmentation.apply(waveform, sample_rate, drawn)


@dataclass(frozen=True)
class Policy(Chooser):
    """One augmentation for a fraction of some of the utterances.

    Which utterances they are is the same in every epoch; what is drawn for them differs.

    Args:
        augmentation: or a specification of one.
        label: only utterances of this label; None for all.
        fraction: of these, chosen by the utterance's id, so that their number is the fraction up to
            chance.
        corpora: only utterances of these corpora, as a manifest's ``corpus`` column names them;
            None for all.
        seed: of everything random.

    Raises:
        UsageError: a label, a fraction or a specification that cannot be.
    """

    augmentation: Augmentation
    label: str | None = None
    fraction: float = 1.0
    corpora: tuple[str, ...] | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "augmentation", parse(self.augmentation))
        if self.corpora is not None:
            if isinstance(self.corpora, str):
                raise UsageError(f"corpora {self.corpora!r} (expected a list of names)")
            object.__setattr__(self, "corpora", tuple(self.corpora))
        if self.label is not None and self.label not in LABELS:
            raise UsageError(f"label {self.label!r} (expected one of {', '.join(LABELS)})")
        if not 0 <= self.fraction <= 1:
            raise UsageError(f"fraction {self.fraction} (expected 0 … 1)")

    def choose(self, utterance_id: str, label: str | None, corpus: str | None) -> Augmentation | None:
        if self.label is not None and label != self.label:
            return None
        if self.corpora is not None and corpus is None:
            raise UsageError(f"the policy chooses by corpus ({', '.join(self.corpora)}), but none was given")
        if self.corpora is not None and corpus not in self.corpora:
            return None
        return self.augmentation if utterance_chance(self.seed, utterance_id) < self.fraction else None

    def describe(self) -> dict[str, Any]:
        """As JSON; :meth:`from_json` makes an equal object of it."""
        return {
            "augmentation": self.augmentation.describe(),
            "label": self.label,
            "fraction": self.fraction,
            "corpora": None if self.corpora is None else list(self.corpora),
            "seed": self.seed,
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """From what :meth:`describe` gave, or a recipe that leaves some of it out.

        Raises:
            UsageError: entries that are missing, unknown or wrong.
        """
        known = ("augmentation", "label", "fraction", "corpora", "seed")
        if "augmentation" not in content or any(key not in known for key in content):
            raise UsageError(
                f"augmentation policy with {', '.join(map(str, content)) or 'nothing'} "
                f"(expected augmentation, and perhaps {', '.join(known[1:])})"
            )
        try:
            return cls(**content)
        except TypeError as error:
            raise UsageError(f"augmentation policy {dict(content)!r}: {error}") from None

    def check_columns(self, manifest: Manifest) -> None:
        if self.corpora is not None and "corpus" not in manifest.columns:
            raise UsageError(f"{manifest.source}: no column 'corpus', by which {self.corpora} are chosen")

    def planned(self, manifest: Manifest) -> Manifest:
        """The manifest with a new column ``augment``: the specification, in the rows that are chosen.

        Raises:
            UsageError: no ``corpus`` column where corpora are chosen.
        """
        self.check_columns(manifest)
        text = json.dumps(self.augmentation.describe())
        entries = [text if self.choose(*row) else None for row in chosen_by(manifest)]
        table = manifest.table
        if PLAN_COLUMN in table.column_names:
            table = table.drop_columns([PLAN_COLUMN])
        table = table.append_column(PLAN_COLUMN, pa.array(entries, pa.string()))
        return Manifest(table, manifest.root, manifest.source)


@dataclass(frozen=True)
class Plan(Chooser):
    """What the ``augment`` column of a manifest asks for, row by row.

    Args:
        entries: utterance id to augmentation; utterances that are not in it stay as they are.
        seed: of everything random.
    """

    entries: Mapping[str, Augmentation]
    seed: int = 0

    @classmethod
    def of(cls, manifest: Manifest, seed: int = 0) -> Plan:
        """Reads the column.

        Raises:
            UsageError: there is none, or entries that are no specification.
        """
        if PLAN_COLUMN not in manifest.columns:
            raise UsageError(f"{manifest.source}: no column {PLAN_COLUMN!r} that says what is to be done")
        made: dict[str, Augmentation] = {}
        entries = {}
        for name, text in zip(manifest.strings("utterance_id"), manifest.strings(PLAN_COLUMN), strict=True):
            if text and text not in made:
                made[text] = _parse_entry(text, f"{manifest.source}: {name}")
            if text:
                entries[str(name)] = made[text]
        return cls(entries, seed)

    def choose(
        self, utterance_id: str, label: str | None = None, corpus: str | None = None
    ) -> Augmentation | None:
        return self.entries.get(utterance_id)

    def describe(self) -> dict[str, Any]:
        """The seed, and where the rest stands."""
        return {"column": PLAN_COLUMN, "seed": self.seed}


def chosen_by(manifest: Manifest) -> list[tuple[str, str, str]]:
    """Id, label and corpus of every row; empty where there is none."""
    corpora = manifest.strings("corpus") if "corpus" in manifest.columns else [""] * len(manifest)
    names = manifest.strings("utterance_id").tolist(), manifest.strings("label").tolist(), list(corpora)
    return list(zip(*names, strict=True))


def _parse_entry(text: str, where: str) -> Augmentation:
    try:
        return parse(json.loads(text) if text.startswith(("{", "[")) else text)
    except (json.JSONDecodeError, UsageError) as error:
        raise UsageError(f"{where}: {PLAN_COLUMN}: {error}") from error
