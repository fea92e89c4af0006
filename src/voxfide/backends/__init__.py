"""Back-ends: layer features to scores. The registry, and how one is made by name.

To add one, write a class on :class:`~voxfide.backends.base.Backend` and register a
spec here; contract tests pick it up.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from voxfide.registry import Registry, load_object

if TYPE_CHECKING:
    from voxfide.backends.base import Backend

__all__ = ["BACKENDS", "BackendSpec", "create_backend", "restore_backend"]


@dataclass(frozen=True)
class BackendSpec:
    """One registry line.

    Attributes:
        place: names the class.
        pool: the features it needs by default.
        trained_by: the command that trains it: ``train``, or ``finetune`` together with a front-end.
    """

    name: str
    summary: str
    place: str
    pool: str
    citation: str = ""
    trained_by: str = "train"


BACKENDS: Registry[BackendSpec] = Registry("back-end")

BACKENDS.register(
    BackendSpec(
        name="logistic",
        summary="standardisation and logistic regression on time-averaged features",
        place="voxfide.backends.logistic:LogisticBackend",
        pool="mean",
        citation="Combei et al. 2024; Pascu et al. 2024",
    )
)

BACKENDS.register(
    BackendSpec(
        name="kernel",
        summary="logistic regression with a Gaussian kernel and Nyström landmarks on time averages",
        place="voxfide.backends.kernel:KernelBackend",
        pool="mean",
        citation="Williams & Seeger 2000; Zhu & Hastie 2005",
    )
)

BACKENDS.register(
    BackendSpec(
        name="ffn",
        summary="weighted layers, attentive statistics pooling and a feed-forward network",
        place="voxfide.backends.ffn:FfnBackend",
        pool="none",
        citation="El Kheir et al. 2025",
    )
)

BACKENDS.register(
    BackendSpec(
        name="aasist",
        summary="weighted layers, residual encoder and spectro-temporal graph attention",
        place="voxfide.backends.aasist:AasistBackend",
        pool="none",
        citation="Jung et al. 2022; Tak et al. 2022; El Kheir et al. 2025",
    )
)

BACKENDS.register(
    BackendSpec(
        name="frames",
        summary="weighted layers and convolutions over time: logits of every frame, pooled to the utterance",
        place="voxfide.backends.frames:FramesBackend",
        pool="none",
        citation="Zhang et al. 2023",
    )
)

BACKENDS.register(
    BackendSpec(
        name="classifier",
        summary="the head of transformers' audio classifiers, trained with its front-end: voxfide finetune",
        place="voxfide.backends.classifier:ClassifierBackend",
        pool="mean",
        citation="Yang et al. 2021; Combei et al. 2024",
        trained_by="finetune",
    )
)

BACKENDS.register(
    BackendSpec(
        name="aasist-raw",
        summary="AASIST end to end, on front-end waveform: sinc filters, encoder and graph attention",
        place="voxfide.backends.raw_aasist:RawAasistBackend",
        pool="none",
        citation="Jung et al. 2022",
    )
)


def create_backend(name: str, **options: Any) -> Backend:
    """Makes an untrained back-end.

    Raises:
        UnknownNameError: not registered.
        UsageError: an option that it does not have, or a value that cannot work.
    """
    made: Backend = load_object(BACKENDS[name].place).from_options(options)
    return made


def restore_backend(name: str, config: dict[str, Any], tensors: dict[str, Any]) -> Backend:
    """A trained back-end from what its :meth:`Backend.config` and :meth:`Backend.tensors` gave."""
    restored: Backend = load_object(BACKENDS[name].place).restore(config, tensors)
    return restored
