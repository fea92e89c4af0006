"""Front-ends: waveform to layer features. The registry, and how one is made by name.

To add one, write a class on :class:`~voxfide.frontends.base.Frontend` and register a
spec in :mod:`~voxfide.frontends.specs`; to store it in detectors, give its kind a
line in :data:`KINDS`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from voxfide.errors import CheckpointError, UnknownNameError
from voxfide.frontends import specs_released as specs_released
from voxfide.frontends import specs_speaker as specs_speaker
from voxfide.frontends import specs_waveform as specs_waveform
from voxfide.frontends.specs import FRONTENDS, FrontendSpec
from voxfide.registry import load_object

if TYPE_CHECKING:
    from voxfide.frontends.base import Frontend

__all__ = ["FRONTENDS", "FrontendSpec", "create_frontend", "restore_frontend"]

KINDS = {
    "lfcc": "voxfide.frontends.lfcc:Lfcc",
    "ssl": "voxfide.frontends.ssl:SSLFrontend",
    "beats": "voxfide.frontends.beats:Beats",
    "decoar2": "voxfide.frontends.decoar2:Decoar2",
    "leaf": "voxfide.frontends.leaf:Leaf",
    "ecapa": "voxfide.frontends.ecapa:EcapaFrontend",
    "titanet": "voxfide.frontends.titanet:TitaNetFrontend",
    "yamnet": "voxfide.frontends.yamnet:YamnetFrontend",
    "ge2e": "voxfide.frontends.ge2e:Ge2eFrontend",
    "waveform": "voxfide.frontends.waveform:Waveform",
    "lfcc-moments": "voxfide.frontends.lfcc_moments:LfccMoments",
}
"""Kind of front-end, as a detector's configuration names it, to the class that restores it."""


def create_frontend(
    name: str,
    n_layers: int | None = None,
    *,
    revision: str | None = None,
    precision: str = "fp32",
    device: str = "cpu",
    **options: Any,
) -> Frontend:
    """Makes a front-end with its weights, in eval mode on ``device``.

    Args:
        name: a registered name, a hub id ``ORGANISATION/NAME``, or a model folder.
        n_layers: build, load and run only the first n layers; all where left out.
        revision: branch, tag or commit of a hub id.
        precision: ``fp32``, ``bf16`` or ``fp16``.
        device: a torch device.
        options: settings of front-ends that have any (``lfcc``: analysis parameters; ``weights``:
            path of the official release's file, for those that are no model folder).

    Raises:
        UnknownNameError: neither registered, nor a hub id, nor a folder.
        UsageError: more layers than there are, or an option that does not apply.
        CheckpointError: weights that cannot be found or do not fit.
    """
    # A release that is no model folder is known by its registered name, also where its hub id is given.
    name = next((s.name for s in FRONTENDS if s.weights_file and s.hub_id == name), name)
    if name in FRONTENDS:
        spec = FRONTENDS[name]
        spec.check_layers(n_layers)
        place = spec.place
    elif "/" in name or Path(name).expanduser().exists():
        place = "voxfide.frontends.ssl:make"
    else:
        raise UnknownNameError(
            f"unknown front-end {name!r} (expected a hub id ORGANISATION/NAME, a model folder, "
            f"or one of: {', '.join(FRONTENDS.names())})"
        )
    made: Frontend = load_object(place)(name, n_layers, revision=revision, precision=precision, **options)
    return made.to(device).eval()


def restore_frontend(name: str, kind: str, settings: dict[str, Any]) -> Frontend:
    """Builds the front-end that ``name``, ``kind`` and ``settings()`` describe, without its weights."""
    if kind not in KINDS:
        raise CheckpointError(f"front-end kind {kind!r} is unknown here (expected one of {', '.join(KINDS)})")
    restored: Frontend = load_object(KINDS[kind]).from_settings(name, settings)
    return restored.eval()
