"""voxfide tells bona fide speech from spoofed speech.

The heavy parts are imported on first use, so that ``import voxfide`` and
``voxfide --help`` stay instant.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

__version__ = "0.1.0"

_LAZY = {
    "Detector": "voxfide.detector",
    "Manifest": "voxfide.manifest",
    "load_audio": "voxfide.audio",
    "load_detector": "voxfide.detectors",
    "stream_audio": "voxfide.audio",
    "create_frontend": "voxfide.frontends",
    "create_backend": "voxfide.backends",
}

__all__ = ["__version__", *sorted(_LAZY)]

if TYPE_CHECKING:
    from voxfide.audio import load_audio as load_audio
    from voxfide.audio import stream_audio as stream_audio
    from voxfide.backends import create_backend as create_backend
    from voxfide.detector import Detector as Detector
    from voxfide.detectors import load_detector as load_detector
    from voxfide.frontends import create_frontend as create_frontend
    from voxfide.manifest import Manifest as Manifest


def __getattr__(name: str) -> object:
    if name in _LAZY:
        from importlib import import_module

        try:
            return getattr(import_module(_LAZY[name]), name)
        except ModuleNotFoundError as error:
            from voxfide.errors import MissingDependencyError

            raise MissingDependencyError.of(error, f"voxfide.{name}") or error from None
    raise AttributeError(f"module 'voxfide' has no attribute {name!r}")
