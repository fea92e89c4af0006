"""A learnt fusion with what it was learnt on: ``FUSION.json``."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from voxfide.calibration.base import check_prior
from voxfide.errors import CheckpointError, UsageError
from voxfide.files import read_json_object, write_atomic
from voxfide.fusion.linear import FusionOptions, LinearFusion
from voxfide.types import PathLike

FORMAT: Final = 1
KIND: Final = "fusion"


@dataclass(frozen=True)
class FusedSystem:
    """One of the systems of a fusion.

    Attributes:
        name: for people.
        weight: of its input as it is.
        weight_interval: of the bootstrap; None without one.
        weight_standard_error: robust.
        weight_wald: interval by the standard error.
        standardised_weight: weight times the spread of its input: how much it moves the result.
        scores: name of the score file that was learnt from.
        scores_sha256: digest of that file.
        detector: fingerprint of the detector that made it; empty where that is not known.
    """

    name: str
    weight: float
    weight_interval: tuple[float, float] | None = None
    weight_standard_error: float | None = None
    weight_wald: tuple[float, float] | None = None
    standardised_weight: float | None = None
    scores: str = ""
    scores_sha256: str = ""
    detector: str = ""


@dataclass(frozen=True)
class FusionRecord:
    """A fusion as it is stored and used.

    Attributes:
        options: how it was learnt.
        systems: in the order in which their scores are to be given.
        intercept: natural-log likelihood ratio where all inputs are 0.
        intercept_interval: of the bootstrap; None without one.
        confidence: of the intervals.
        n_bootstrap: samples behind the intervals.
        fitted_to: manifest, split, counts, digest.
        figures: see :class:`~voxfide.fusion.FusionFigures`.
        warnings: what a user of it has to know.
    """

    options: FusionOptions
    systems: tuple[FusedSystem, ...]
    intercept: float
    intercept_interval: tuple[float, float] | None = None
    confidence: float = 0.95
    n_bootstrap: int = 0
    fitted_to: Mapping[str, Any] = field(default_factory=dict)
    figures: Mapping[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @property
    def fusion(self) -> LinearFusion:
        """What turns scores into likelihood ratios."""
        weights = np.array([system.weight for system in self.systems])
        return LinearFusion(weights, self.intercept, self.options.inputs, self.options.input_prior)

    @property
    def threshold(self) -> float:
        """Where the error rates meet on the trials of the fit; 0, even odds, where that is not known."""
        return float(self.figures.get("eer_threshold", 0.0))

    def describe(self) -> str:
        """The formula, in a line."""
        of = "p" if self.options.inputs == "probabilities" else "s"
        terms = "".join(
            f" {'-' if s.weight < 0 else '+'} {abs(s.weight):.4g} {of}({s.name})" for s in self.systems
        )
        return f"llr = {self.intercept:.4g}{terms}"

    def check_systems(self, detectors: Sequence[str]) -> None:
        """Checks that scores are of the fusion's systems, in its order, as far as that is known.

        Args:
            detectors: fingerprint of what made each of the scores; empty where not known.

        Raises:
            UsageError: another number, other detectors, or another order.
        """
        expected = [system.detector for system in self.systems]
        names = ", ".join(system.name for system in self.systems)
        if len(detectors) != len(expected):
            raise UsageError(f"{len(detectors)} systems; the fusion is of {len(expected)}: {names}")
        wrong = [i for i, (a, b) in enumerate(zip(expected, detectors, strict=True), 1) if a and b and a != b]
        if wrong:
            order = "in another order" if sorted(expected) == sorted(detectors) else "of other detectors"
            numbers = ", ".join(map(str, wrong))
            raise UsageError(
                f"number {numbers}: {order} than the fusion was learnt on (expected, in this order: {names})"
            )

    def to_json(self) -> dict[str, Any]:
        """The content of ``FUSION.json``."""
        return {
            "format": FORMAT,
            "kind": KIND,
            "score": "natural-log likelihood ratio; higher means more bona fide",
            "options": asdict(self.options),
            "systems": [_as_json(asdict(system)) for system in self.systems],
            "intercept": self.intercept,
            "intercept_interval": self.intercept_interval and list(self.intercept_interval),
            "confidence": self.confidence,
            "n_bootstrap": self.n_bootstrap,
            "fitted_to": dict(self.fitted_to),
            "figures": dict(self.figures),
            "warnings": list(self.warnings),
        }

    def write(self, path: PathLike) -> None:
        """Writes ``FUSION.json``, whole or not at all."""
        text = json.dumps(self.to_json(), indent=2, ensure_ascii=False, allow_nan=False)
        write_atomic(Path(path), text + "\n")

    @classmethod
    def from_json(cls, values: Mapping[str, Any], source: str = "FUSION.json") -> FusionRecord:
        """What :meth:`to_json` gave.

        Raises:
            CheckpointError: another format, or entries that are missing or cannot be.
        """
        if values.get("format") != FORMAT or values.get("kind") != KIND:
            raise CheckpointError(f"{source}: not a fusion of format {FORMAT}")
        try:
            record = cls(
                FusionOptions(**values["options"]),
                tuple(_system(system) for system in values["systems"]),
                _finite(values["intercept"]),
                _interval(values["intercept_interval"]),
                check_prior(values["confidence"], "confidence"),
                int(values["n_bootstrap"]),
                dict(values["fitted_to"]),
                dict(values["figures"]),
                tuple(map(str, values["warnings"])),
            )
            if not record.systems:
                raise ValueError("no systems")
        except (KeyError, TypeError, ValueError, UsageError) as error:
            raise CheckpointError(
                f"{source}: missing or malformed entry ({type(error).__name__}: {error})"
            ) from error
        return record

    @classmethod
    def read(cls, path: PathLike) -> FusionRecord:
        """Reads ``FUSION.json``.

        Raises:
            CheckpointError: unreadable or malformed.
        """
        return cls.from_json(read_json_object(Path(path)), str(path))


def _as_json(values: dict[str, Any]) -> dict[str, Any]:
    return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}


def _system(values: Mapping[str, Any]) -> FusedSystem:
    pairs = {key: _interval(values[key]) for key in ("weight_interval", "weight_wald")}
    return FusedSystem(**{**values, "name": str(values["name"]), "weight": _finite(values["weight"])} | pairs)


def _finite(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{value!r} is not a finite number")
    return float(value)


def _interval(values: Any) -> tuple[float, float] | None:
    if values is None:
        return None
    low, high = values
    return _finite(low), _finite(high)
