"""How far a recording lies from the audio that a detector was trained on, whatever its front-end.

Every window of speech becomes 39 numbers: means and standard deviations over time of 20 LFCC (see
:mod:`voxfide.frontends.lfcc`), without the mean of the 0th, so that a change of gain changes nothing. Only
frames at most 30 dB below the loudest count, so that pauses do not. The numbers are standardised by median
and median absolute deviation; the distance is Mahalanobis's, with the shrunk covariance of O. Ledoit and
M. Wolf, "A well-conditioned estimator for large-dimensional covariance matrices", 2004, over the root of the
number of dimensions: about 1 for audio like the training audio. It is read by its quantiles on training
recordings that were left out of the fit.

A large distance says that nobody knows how well the detector does on such audio; a small one does not say
that it does well.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from voxfide.conditions import Reason
from voxfide.domain_features import DIM, WINDOW, domain_features, features_of
from voxfide.errors import CheckpointError, UsageError
from voxfide.files import read_json_object
from voxfide.types import Float64Array, FloatArray, PathLike

__all__ = [
    "FAR",
    "FILE_NAME",
    "MIN_RECORDINGS",
    "REDUCED_PERCENT",
    "DomainMeter",
    "DomainModel",
    "domain_features",
    "features_of",
]

FORMAT: Final = 1
FILE_NAME: Final = "domain.json"

REDUCED_PERCENT: Final = 99
"""A recording farther than this share of the training recordings deserves less trust ..."""

FAR: Final = 1.75
"""... and no verdict, where it is this many times as far as that: farther than any damaged speech that
was measured (docs/detect.md), and as far as noise, tones and held chords."""

MIN_RECORDINGS: Final = 50
_FOLDS: Final = 5
_MOST: Final = 20.0  # robust standard deviations at which a number is cut off in the fit


@dataclass(frozen=True, eq=False)
class DomainModel:
    """What the training audio of a detector sounded like.

    Attributes:
        centre, scale: ``(39,)`` median and robust standard deviation.
        precision: ``(39, 39)`` inverse of the shrunk covariance of the standardised numbers.
        quantiles: ``(101,)`` distances of training recordings left out of the fit, 0 to 100 %.
        fitted_to: manifest, split, counts, for people.
    """

    centre: Float64Array
    scale: Float64Array
    precision: Float64Array
    quantiles: Float64Array
    fitted_to: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def fit(
        cls,
        recordings: Sequence[FloatArray],
        groups: Sequence[str] | None = None,
        fitted_to: Mapping[str, Any] | None = None,
    ) -> DomainModel:
        """Fits to recordings.

        Args:
            recordings: ``(windows, 39)`` or ``(39,)`` each; see :func:`features_of`.
            groups: such as speakers; those of one group are left out together when distances are taken.
                Every recording is its own where left out.
            fitted_to: kept.

        Raises:
            UsageError: fewer than 50 recordings, or groups for another number of them.
        """
        if len(recordings) < MIN_RECORDINGS:
            raise UsageError(
                f"{len(recordings)} recordings are too few to know a domain by (expected {MIN_RECORDINGS})"
            )
        names = [str(i) for i in range(len(recordings))] if groups is None else list(groups)
        if len(names) != len(recordings):
            raise UsageError(f"{len(names)} groups for {len(recordings)} recordings")
        fold = _folds(names)
        left_out = np.zeros(len(recordings))
        for number in np.unique(fold):
            model = _estimate([r for r, f in zip(recordings, fold, strict=True) if f != number])
            for index in np.flatnonzero(fold == number).tolist():
                left_out[index] = _distances(model, recordings[index]).mean()
        centre, scale, precision = _estimate(recordings)
        quantiles = np.percentile(left_out, np.arange(101))
        return cls(centre, scale, precision, _rounded(quantiles), dict(fitted_to or {}))

    def distance(self, features: FloatArray) -> float:
        """Mean distance of windows ``(windows, 39)`` or of one ``(39,)``; about 1 for familiar audio."""
        parts = (self.centre, self.scale, self.precision)
        return float(_distances(parts, features).mean())

    def percent(self, distance: float) -> float:
        """Share of the training recordings, in percent, that are nearer than a distance."""
        return float(np.interp(distance, self.quantiles, np.arange(101)))

    @property
    def limits(self) -> tuple[float, float]:
        """Distances above which trust is reduced, and no verdict should be given."""
        reduced = float(self.quantiles[REDUCED_PERCENT])
        return reduced, FAR * reduced

    def reason(self, distance: float) -> Reason | None:
        """Why a recording at this distance deserves less trust, or none; ``None`` if it is familiar."""
        reduced, far = self.limits
        if distance <= reduced:
            return None
        how = f"{distance / reduced:.2g} times the distance that {REDUCED_PERCENT} % of the training"
        text = f"It sounds unlike the audio that the detector was trained on: {how} recordings keep within"
        if distance > far:
            sentence = f"{text} (limit {FAR:.3g} times)."
            return Reason(
                "unfamiliar", "inconclusive", sentence, "domain_distance", distance, far, "distance"
            )
        return Reason("unfamiliar", "reduced", f"{text}.", "domain_distance", distance, reduced, "distance")

    def to_text(self) -> str:
        """The content of ``domain.json``."""
        values = {
            "format": FORMAT,
            "features": "mean and std of 20 LFCC without the mean of the 0th, frames within 30 dB",
            "window_s": WINDOW,
            "distance": "Mahalanobis over the root of the number of dimensions",
            "fitted_to": dict(self.fitted_to),
            "quantiles": self.quantiles.tolist(),
            "centre": self.centre.tolist(),
            "scale": self.scale.tolist(),
            "precision": self.precision.tolist(),
        }
        return json.dumps(values, ensure_ascii=False, allow_nan=False) + "\n"

    @classmethod
    def read(cls, path: PathLike) -> DomainModel:
        """Reads ``domain.json``.

        Raises:
            CheckpointError: unreadable or malformed.
        """
        values = read_json_object(Path(path))
        try:
            if values["format"] != FORMAT:
                raise ValueError(f"format {values['format']!r}, expected {FORMAT}")
            centre, scale, precision, quantiles = (
                np.asarray(values[key], np.float64) for key in ("centre", "scale", "precision", "quantiles")
            )
            shapes = (centre.shape, scale.shape, precision.shape, quantiles.shape)
            if shapes != ((DIM,), (DIM,), (DIM, DIM), (101,)):
                raise ValueError(f"arrays of shapes {shapes}")
            if not all(np.isfinite(a).all() for a in (centre, scale, precision, quantiles)):
                raise ValueError("numbers that are not finite")
            if not (scale > 0).all() or (np.diff(quantiles) < 0).any():
                raise ValueError("scales not above 0, or quantiles out of order")
            return cls(centre, scale, precision, quantiles, dict(values["fitted_to"]))
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"{path}: missing or malformed entry ({type(error).__name__}: {error})"
            ) from error


class DomainMeter:
    """Distance of one recording, window by window in constant memory.

    Args:
        model: of the detector; without one nothing is measured.
    """

    def __init__(self, model: DomainModel | None) -> None:
        self._model = model
        self._sum = self._weight = 0.0

    def add(self, waveform: FloatArray, weight: float) -> None:
        """Takes a window ``(samples,)``, one with more speech counting for more."""
        if self._model is not None and weight > 0:
            self._sum += weight * self._model.distance(features_of(waveform))
            self._weight += weight

    @property
    def distance(self) -> float | None:
        """Weighted mean over the windows; ``None`` without a model or speech."""
        return self._sum / self._weight if self._weight else None

    def reason(self) -> Reason | None:
        """See :meth:`DomainModel.reason`."""
        if self._model is None or self.distance is None:
            return None
        return self._model.reason(self.distance)


_Parts = tuple[Float64Array, Float64Array, Float64Array]


def _estimate(recordings: Sequence[FloatArray]) -> _Parts:
    """Centre, scale and precision; every recording counts alike, however many windows it has."""
    from sklearn.covariance import LedoitWolf

    means = np.stack([np.atleast_2d(r).mean(axis=0) for r in recordings])
    centre = np.median(means, axis=0)
    scale = 1.4826 * np.median(np.abs(means - centre), axis=0)
    scale = _rounded(np.maximum(scale, 1e-6))
    centre = _rounded(centre)
    standard = np.clip((means - centre) / scale, -_MOST, _MOST)
    fitted = LedoitWolf(assume_centered=True).fit(standard)
    return centre, scale, _rounded(fitted.precision_)


def _distances(parts: _Parts, features: FloatArray) -> Float64Array:
    centre, scale, precision = parts
    standard = (np.atleast_2d(np.asarray(features, np.float64)) - centre) / scale
    squared = np.einsum("nd,de,ne->n", standard, precision, standard)
    return np.sqrt(np.maximum(squared, 0) / standard.shape[1])


def _folds(groups: Sequence[str]) -> np.ndarray:
    """A fold for every recording: groups are dealt out in turn, the largest first."""
    names, counts = np.unique(np.asarray(groups, dtype=object).astype(str), return_counts=True)
    order = names[np.argsort(-counts, kind="stable")]
    fold_of = {name: i % _FOLDS for i, name in enumerate(order.tolist())}
    return np.array([fold_of[str(name)] for name in groups])


def _rounded(values: FloatArray) -> Float64Array:
    """To seven digits, so that what is saved is what is used."""
    return np.vectorize(lambda x: float(f"{x:.7g}"), otypes=[np.float64])(values)
