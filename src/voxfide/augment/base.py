"""What every augmentation promises, and how its settings are read.

An augmentation works in two steps. :meth:`Augmentation.draw` makes all random decisions and gives
them as plain JSON; :meth:`Augmentation.apply` is a function of the waveform and of these decisions
alone. What was done to an utterance can therefore be written down, and done again.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, Self, get_type_hints

import numpy as np

from voxfide.errors import EmptyAudioError, NonFiniteAudioError, UsageError
from voxfide.types import Float32Array, FloatArray

Drawn = dict[str, Any]
"""The random decisions of one application, as JSON."""

SEEDS = 2**53
"""Seeds of sample-level chance are drawn below this, so that every JSON reader holds them exactly."""


@dataclass(frozen=True)
class Spread:
    """A setting that is fixed, or drawn uniformly from ``[low, high]`` for every utterance."""

    low: float
    high: float

    @classmethod
    def parse(cls, value: Any) -> Spread:
        """From a number, a pair ``[low, high]``, or text such as ``"25"`` or ``"10..20"``.

        Raises:
            ValueError: anything else, or not in order, or not finite.
        """
        if isinstance(value, Spread):
            return value
        if isinstance(value, str):
            first, dots, last = value.partition("..")
            ends: tuple[Any, ...] = (first, last if dots else first)
        else:
            ends = tuple(value) if isinstance(value, list | tuple) else (value, value)
        expected = "expected a number or LOW..HIGH"
        try:
            low, high = (math.nan if isinstance(end, bool) else float(end) for end in ends)
        except (TypeError, ValueError):
            raise ValueError(expected) from None
        if not -math.inf < low <= high < math.inf:
            raise ValueError(expected)
        return cls(low, high)

    def draw(self, rng: np.random.Generator) -> float:
        return self.low if self.low == self.high else float(rng.uniform(self.low, self.high))

    def __str__(self) -> str:
        return f"{self.low:g}" if self.low == self.high else f"{self.low:g}..{self.high:g}"

    def to_json(self) -> float | list[float]:
        return self.low if self.low == self.high else [self.low, self.high]


class Augmentation(ABC):
    """Changes a waveform at random; a frozen dataclass whose fields are its settings.

    Fields may be given in any form that a specification has: ``WhiteNoise(snr="10..20")``.

    Raises:
        UsageError: a setting of the wrong form, or out of range.
    """

    name: ClassVar[str]

    def __post_init__(self) -> None:
        for name, kind in _settings(type(self)).items():
            object.__setattr__(self, name, self._converted(name, kind))
        self.check()

    def _converted(self, name: str, kind: Any) -> Any:
        value = getattr(self, name)
        try:
            return _CONVERTERS[kind](value)
        except (KeyError, TypeError, ValueError) as error:
            reason = str(error) if isinstance(error, ValueError) else f"expected {_plain(kind)}"
            raise UsageError(f"{self.name}: {name} = {value!r} ({reason})") from None

    def check(self) -> None:  # noqa: B027  -- most have nothing to check
        """Raises :class:`UsageError` where settings are out of range."""

    def require(self, name: str, good: bool, expected: str) -> None:
        """Raises :class:`UsageError` about the setting ``name`` unless ``good``."""
        if not good:
            value = getattr(self, name)
            shown = str(value) if isinstance(value, Spread) else repr(value)
            raise UsageError(f"{self.name}: {name} = {shown} (expected {expected})")

    @abstractmethod
    def draw(self, rng: np.random.Generator) -> Drawn:
        """All random decisions of one application."""

    @abstractmethod
    def process(self, waveform: FloatArray, sample_rate: int, drawn: Drawn) -> FloatArray:
        """The work itself, on float64 ``(samples,)``, which it must leave as it is."""

    def apply(self, waveform: FloatArray, sample_rate: int, drawn: Drawn) -> Float32Array:
        """Does what ``drawn`` says: equal arguments give equal samples.

        Args:
            waveform: ``(samples,)``, full scale ±1.
            sample_rate: Hz.
            drawn: from :meth:`draw` of an augmentation with the same settings.

        Returns:
            float32; as many samples, aligned with the input (but see ``speed``). Peaks may pass ±1.

        Raises:
            EmptyAudioError: no samples.
            NonFiniteAudioError: NaN or infinite samples.
            UsageError: not one-dimensional, or no sample rate.
        """
        signal = checked(waveform, sample_rate)
        return np.ascontiguousarray(self.process(signal, sample_rate, drawn), dtype=np.float32)

    def __call__(self, waveform: FloatArray, sample_rate: int, rng: np.random.Generator) -> Float32Array:
        """:meth:`draw` and :meth:`apply` in one; ``rng`` is the only source of chance."""
        return self.apply(waveform, sample_rate, self.draw(rng))

    def applied(self, drawn: Drawn) -> str:
        """What was done in the end, in a word; empty where nothing was."""
        return self.name

    def spoofed_by(self, drawn: Drawn) -> str:
        """The synthesis that made speech anew, so that it is bona fide no longer; empty where none did."""
        return ""

    def describe(self) -> dict[str, Any]:
        """The specification, as JSON, of which :func:`voxfide.augment.parse` makes an equal object."""
        return {"name": self.name} | {name: _to_json(getattr(self, name)) for name in _settings(type(self))}

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> Self:
        """From settings by name.

        Raises:
            UsageError: one that it does not have or that is missing, or a value that cannot be.
        """
        known = _settings(cls)
        if unknown := [name for name in options if name not in known]:
            settings = ", ".join(known) or "none"
            raise UsageError(
                f"{cls.name} has no setting {', '.join(map(repr, unknown))} (settings: {settings})"
            )
        try:
            return cls(**options)
        except TypeError:
            missing = ", ".join(name for name in known if name not in options and not hasattr(cls, name))
            raise UsageError(f"{cls.name}: missing setting {missing}") from None


def checked(waveform: FloatArray, sample_rate: int) -> FloatArray:
    """The waveform as float64, or an error; see :meth:`Augmentation.apply`."""
    if np.ndim(waveform) != 1:
        raise UsageError(f"an augmentation takes one waveform (samples,), got shape {np.shape(waveform)}")
    if sample_rate <= 0:
        raise UsageError(f"an augmentation takes a positive sample rate, got {sample_rate}")
    signal = np.asarray(waveform, dtype=np.float64)
    if not len(signal):
        raise EmptyAudioError("<waveform>", "no samples", "at least one sample")
    if not np.isfinite(signal).all():
        raise NonFiniteAudioError("<waveform>", "NaN or infinite samples", "finite samples")
    return signal


def fit(signal: FloatArray, n_samples: int) -> FloatArray:
    """The first ``n_samples``; zeros follow where there are fewer."""
    return signal[:n_samples] if len(signal) >= n_samples else np.pad(signal, (0, n_samples - len(signal)))


def _settings(cls: type) -> dict[str, Any]:
    hints = get_type_hints(cls)
    return {field.name: hints[field.name] for field in fields(cls)}


def _integer(value: Any) -> int:
    if isinstance(value, bool) or float(value) != int(float(value)):
        raise TypeError
    return int(float(value))


def _number(value: Any) -> float:
    if isinstance(value, bool) or not math.isfinite(float(value)):
        raise TypeError
    return float(value)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _path(value: Any) -> Path | None:
    return None if value is None or value == "" else Path(value)


def _augmentations(value: Any) -> tuple[Augmentation, ...]:
    from voxfide.augment.specification import parse

    if isinstance(value, Augmentation | str | Mapping):
        raise TypeError
    return tuple(parse(item) for item in value)


def _augmentation(value: Any) -> Augmentation:
    from voxfide.augment.specification import parse

    return parse(value)


def _numbers(value: Any) -> tuple[float, ...]:
    return tuple(_number(item) for item in value)


_CONVERTERS: dict[Any, Any] = {
    Spread: Spread.parse,
    int: _integer,
    float: _number,
    str: _text,
    Spread | None: lambda value: None if value is None else Spread.parse(value),
    Path: _path,
    Path | None: _path,
    Augmentation: _augmentation,
    tuple[Augmentation, ...]: _augmentations,
    tuple[float, ...]: _numbers,
}


def _plain(kind: Any) -> str:
    words = {int: "a whole number", float: "a number", str: "a word", Path: "a path"}
    return words.get(kind, "another form")


def _to_json(value: Any) -> Any:
    if isinstance(value, Spread):
        return value.to_json()
    if isinstance(value, Augmentation):
        return value.describe()
    if isinstance(value, tuple):
        return [_to_json(item) for item in value]
    return str(value) if isinstance(value, Path) else value
