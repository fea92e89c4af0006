"""Registered architectures with random weights, to try a line of work where no weights can be had.

What such a front-end puts out depends on the architecture and on chance. It says nothing about the
model of that name.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import torch
from torch import nn

from voxfide.errors import UsageError
from voxfide.frontends import KINDS
from voxfide.frontends.base import Frontend
from voxfide.frontends.specs import FRONTENDS, FrontendSpec
from voxfide.registry import load_object

FROZEN: Final = {
    f"{KINDS[kind].partition(':')[0]}:make": KINDS[kind] for kind in ("ecapa", "titanet", "yamnet", "ge2e")
}
"""Classes of front-ends around one frozen encoder, by the place of what makes them."""


def has_random_weights(spec: FrontendSpec) -> bool:
    """Whether its architecture can be built with random weights; what needs no weights has none."""
    return spec.place in _BUILDERS


def create_with_random_weights(
    name: str, n_layers: int | None = None, *, seed: int = 0, precision: str = "fp32", device: str = "cpu"
) -> Frontend:
    """Builds a registered front-end at the sizes of its release, in eval mode on ``device``.

    The same seed and version of PyTorch give the same weights.

    Args:
        name: a registered name.
        n_layers: build the first n layers only; all where left out.
        seed: of the weights.
        precision: ``fp32``, ``bf16`` or ``fp16``.
        device: a torch device.

    Raises:
        UnknownNameError: not registered.
        UsageError: a front-end that needs no weights, a precision that it does not have, or more
            layers than it has.
    """
    spec = FRONTENDS[name]
    if spec.place not in _BUILDERS:
        raise UsageError(f"front-end {name} works without weights: there are none to draw")
    spec.check_layers(n_layers)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = _BUILDERS[spec.place](spec, n_layers, precision)
    return made.requires_grad_(False).to(device).eval()


def _ssl(spec: FrontendSpec, n_layers: int | None, precision: str) -> Frontend:
    from voxfide.frontends.ssl import SSLFrontend
    from voxfide.frontends.ssl_config import SSLConfig
    from voxfide.frontends.ssl_model import SSLEncoder

    return SSLFrontend(SSLEncoder(SSLConfig(**spec.architecture), n_layers), spec.name, None, precision)


def _beats(spec: FrontendSpec, n_layers: int | None, precision: str) -> Frontend:
    from voxfide.frontends.beats import Beats, BeatsConfig, BeatsEncoder

    return Beats(BeatsEncoder(BeatsConfig(), n_layers), spec.name, precision)


def _decoar2(spec: FrontendSpec, n_layers: int | None, precision: str) -> Frontend:
    from voxfide.frontends.decoar2 import SIZES, Decoar2, Decoar2Encoder

    return Decoar2(Decoar2Encoder(SIZES, n_layers), spec.name, precision)


def _frozen(spec: FrontendSpec, n_layers: int | None, precision: str) -> Frontend:
    if precision != "fp32":
        raise UsageError(f"front-end {spec.name}: precision {precision!r} (expected fp32)")
    made: Any = load_object(FROZEN[spec.place])
    encoder: nn.Module = made.encoder_type(made.config_type())
    # With the variance of He et al. 2015: through many rectified layers, smaller weights let all fade out.
    for parameter in encoder.parameters():
        if parameter.ndim > 1:
            nn.init.kaiming_normal_(parameter)
    frontend: Frontend = made(encoder, spec.name)
    return frontend


_BUILDERS: Final[dict[str, Callable[[FrontendSpec, int | None, str], Frontend]]] = {
    "voxfide.frontends.ssl:make": _ssl,
    "voxfide.frontends.beats:make": _beats,
    "voxfide.frontends.decoar2:make": _decoar2,
    **dict.fromkeys(FROZEN, _frozen),
}
