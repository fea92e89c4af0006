"""Models by name: small settings that travel to other processes, which load the model where they are.

What a name gives elsewhere is compared by its fingerprint with what it gave here, so that a folder that is
another one there, or other code, is refused and never mixed in.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from voxfide.errors import CheckpointError

if TYPE_CHECKING:
    from voxfide.detectors import AnyDetector
    from voxfide.extraction import Extractor


@dataclass(frozen=True)
class NamedDetector:
    """Loads a detector where it is called.

    Attributes:
        name, device, labels: as of :func:`voxfide.detectors.load_detector`; ``auto`` is resolved there.
        fingerprint: of the detector that the name means here.
        uncalibrated: whether its calibration is left out.
    """

    name: str
    fingerprint: str
    device: str = "auto"
    labels: Mapping[str, str] = field(default_factory=dict)
    uncalibrated: bool = False

    def __call__(self) -> AnyDetector:
        """The detector.

        Raises:
            CheckpointError: there is none of this name, or another.
        """
        from voxfide.detectors import load_detector

        try:
            loaded = load_detector(self.name, device=self.device, labels=self.labels)
        except CheckpointError as error:
            raise CheckpointError(f"{error}; {_where()}") from error
        model = loaded.uncalibrated() if self.uncalibrated else loaded
        _check(self.name, model.fingerprint(), self.fingerprint)
        return model


@dataclass(frozen=True)
class DetectorExtractor:
    """Makes the extractor of a detector where it is called.

    Attributes:
        options: settings of :class:`~voxfide.extraction.Extractor`.
    """

    detector: NamedDetector
    options: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self) -> Extractor:
        return self.detector().extractor(**self.options)


@dataclass(frozen=True)
class FrontendExtractor:
    """Makes a front-end and its extractor where it is called.

    Attributes:
        name, n_layers, revision, precision, settings: as of :func:`voxfide.frontends.create_frontend`.
        device: ``auto`` is resolved there.
        fingerprint: of the front-end that the name means here.
        pool: of the features.
        options: settings of :class:`~voxfide.extraction.Extractor`.
    """

    name: str
    fingerprint: str
    n_layers: int | None = None
    revision: str | None = None
    precision: str = "fp32"
    device: str = "auto"
    settings: Mapping[str, Any] = field(default_factory=dict)
    pool: str = "mean"
    options: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self) -> Extractor:
        """The extractor.

        Raises:
            CheckpointError: there are no weights of this name, or others.
        """
        from voxfide.devices import resolve_device
        from voxfide.extraction import Extractor
        from voxfide.frontends import create_frontend

        try:
            frontend = create_frontend(
                self.name,
                self.n_layers,
                revision=self.revision,
                precision=self.precision,
                device=resolve_device(self.device),
                **self.settings,
            )
        except CheckpointError as error:
            raise CheckpointError(f"{error}; {_where()}") from error
        _check(self.name, frontend.fingerprint(), self.fingerprint)
        return Extractor(frontend, self.pool, **self.options)


def _check(name: str, found: str, expected: str) -> None:
    if found != expected:
        raise CheckpointError(
            f"{name}: is not what it is where the job was started (fingerprint {found[:12]}, not "
            f"{expected[:12]}: other weights or other code); {_where()}"
        )


def _where() -> str:
    return f"on node {platform.node()}: models have to lie where every node sees them under the same name"
