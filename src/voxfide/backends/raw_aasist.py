"""AASIST end to end: from the waveform to two logits, with the official architectures and weights.

J. Jung et al., "AASIST: audio anti-spoofing using integrated spectro-temporal graph attention
networks", ICASSP 2022.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from voxfide.backends.aasist import own_encoder_name
from voxfide.backends.aasist_encoder import Encoder, time_mask
from voxfide.backends.aasist_graph import GraphSettings, SpectroTemporalGraph, own_graph_name
from voxfide.backends.graph_attention import Nodes
from voxfide.backends.layer_weighting import LayerStatistics
from voxfide.backends.masking import MaskedBatchNorm, check_lengths, length_mask, repeat_short
from voxfide.backends.neural import NeuralBackend
from voxfide.backends.sinc import SincFilters
from voxfide.errors import CheckpointError, UsageError

POOL = 3
"""Max-pooling of bands and time behind the filters, and of time in every residual block."""

N_BLOCKS = 6


@dataclass(frozen=True)
class RawArchitecture:
    """Sizes, under the names of the official ``model_config``.

    Attributes:
        first_conv: taps of the sinc filters.
        filts: bands, then input and output channels of the residual blocks; the last pair serves
            for the fourth to sixth.
        gat_dims: nodes' values behind the first attention layers, and within the paths.
        pool_ratios: nodes kept by spectral, temporal and inner pooling; a fourth is not used.
        temperatures: of spectral, temporal and heterogeneous attention; a fourth is not used.
    """

    first_conv: int
    filts: tuple[Any, ...]
    gat_dims: tuple[int, int]
    pool_ratios: tuple[float, ...]
    temperatures: tuple[float, ...]

    @classmethod
    def of(cls, model_config: Mapping[str, Any]) -> RawArchitecture:
        """From the official ``model_config``; what it holds beside the sizes is passed over.

        Raises:
            UsageError: sizes that are missing or cannot be; lists all of them.
        """
        names = [f for f in cls.__dataclass_fields__ if f not in model_config]
        if names:
            raise UsageError(f"aasist-raw: architecture without {', '.join(names)}")
        values = {name: _frozen(model_config[name]) for name in cls.__dataclass_fields__}
        problems = _problems(values)
        if problems:
            raise UsageError("aasist-raw: architecture with " + "; ".join(problems))
        return cls(**values)

    @property
    def channels(self) -> tuple[int, ...]:
        """Input channels of the first residual block and output channels of each."""
        pairs = [*self.filts[1:4], *[self.filts[4]] * (N_BLOCKS - 3)]
        return (1, *(n_out for _, n_out in pairs))

    @property
    def graph(self) -> GraphSettings:
        """Sizes of the graph part."""
        return GraphSettings(
            node_dim=self.channels[-1],
            graph_dim=self.gat_dims[0],
            path_dim=self.gat_dims[1],
            ratios=(self.pool_ratios[0], self.pool_ratios[1], self.pool_ratios[2]),
            temperatures=(self.temperatures[0], self.temperatures[1], self.temperatures[2]),
        )


def _frozen(value: Any) -> Any:
    return tuple(_frozen(v) for v in value) if isinstance(value, list | tuple) else value


def _positive(items: Any, least: int, kind: type = int) -> bool:
    """Whether it is a tuple of ``least`` or more positive numbers; of ``float``, any numbers."""
    kinds = (int, float) if kind is float else (int,)
    if not isinstance(items, tuple) or len(items) < least:
        return False
    return all(isinstance(i, kinds) and not isinstance(i, bool) and i > 0 for i in items)


def _follow_on(filts: Any) -> bool:
    """Whether ``filts`` are bands and four pairs of channels, each beginning where the last ends."""
    if not isinstance(filts, tuple) or len(filts) != 5:
        return False
    pairs = filts[1:]
    if not _positive(filts[:1], 1) or filts[0] < POOL or not all(_positive(p, 2) for p in pairs):
        return False
    ends = [1, *(pair[1] for pair in pairs)]
    return [pair[0] for pair in pairs] == ends[:-1] and pairs[3][0] == pairs[3][1]


def _problems(values: Mapping[str, Any]) -> list[str]:
    """What cannot be of an architecture's sizes, one phrase each."""
    ratios = values["pool_ratios"]
    checks = {
        "first_conv": (_positive((values["first_conv"],), 1), "a number of taps"),
        "filts": (
            _follow_on(values["filts"]),
            "3 bands or more, then four pairs of channels that follow on each other from 1, "
            "the last of two equal",
        ),
        "gat_dims": (_positive(values["gat_dims"], 2), "two sizes"),
        "pool_ratios": (
            _positive(ratios, 3, float) and max(ratios[:3]) <= 1,
            "three shares above 0 and up to 1",
        ),
        "temperatures": (_positive(values["temperatures"], 3, float), "three positive numbers"),
    }
    return [
        f"{name} {values[name]!r} (expected {expected})"
        for name, (fine, expected) in checks.items()
        if not fine
    ]


OFFICIAL = {
    "AASIST": RawArchitecture(
        first_conv=128,
        filts=(70, (1, 32), (32, 32), (32, 64), (64, 64)),
        gat_dims=(64, 32),
        pool_ratios=(0.5, 0.7, 0.5, 0.5),
        temperatures=(2.0, 2.0, 100.0, 100.0),
    ),
    "AASIST-L": RawArchitecture(
        first_conv=128,
        filts=(70, (1, 32), (32, 32), (32, 24), (24, 24)),
        gat_dims=(24, 32),
        pool_ratios=(0.4, 0.5, 0.7, 0.5),
        temperatures=(2.0, 2.0, 100.0, 100.0),
    ),
}
"""As the official repository configures them."""


class RawAasistHead(nn.Module):
    """Sinc filters, max-pooling, the residual encoder, the largest magnitude over time and over
    frequency as nodes, the graph part."""

    def __init__(self, architecture: RawArchitecture, pre_activation: bool) -> None:
        super().__init__()
        a = architecture
        self.filters = SincFilters(a.filts[0], a.first_conv)
        self.first_norm = MaskedBatchNorm(1)
        self.encoder = Encoder(a.channels, pre_activation, pool=POOL)
        self.position = nn.Parameter(torch.randn(1, a.filts[0] // POOL, a.channels[-1]))
        self.graph = SpectroTemporalGraph(a.graph)
        self.min_samples = self.filters.n_taps - 1 + POOL ** (N_BLOCKS + 1)

    def forward(self, features: Tensor, lengths: Tensor, statistics: LayerStatistics | None = None) -> Tensor:
        """Logits ``(batch, 2)`` of waveforms ``(batch, 1, samples, 1)``; see :class:`NeuralBackend`.

        ``statistics`` are of no use here.
        """
        logits: Tensor = self.graph(*self.nodes(features, lengths))
        return logits

    def nodes(self, features: Tensor, lengths: Tensor) -> tuple[Nodes, Nodes]:
        """Spectral nodes, one for three bands, and temporal ones, one for 2187 samples (0.14 s)."""
        check_lengths(features, lengths)
        x, lengths = repeat_short(features[:, 0], lengths, self.min_samples)
        x, lengths = self.pooled_bands(x[..., 0], lengths)
        x, lengths = self.encoder(F.selu(self.first_norm(x, time_mask(lengths, x)), inplace=True), lengths)
        x = x.abs()
        mask = time_mask(lengths, x)
        spectral = (x if mask is None else x.masked_fill(~mask, 0)).amax(3)
        return (
            Nodes(spectral.transpose(1, 2) + self.position),
            Nodes.of(x.amax(2).transpose(1, 2), lengths),
        )

    def pooled_bands(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Max-pooled magnitudes ``(batch, 1, bands // 3, time)`` of waveforms ``(batch, samples)``."""
        mask = length_mask(lengths, waveform.shape[1])
        if mask is not None:  # whatever the padding holds
            waveform = waveform.masked_fill(~mask, 0)
        bands = self.filters(waveform).abs_()
        return F.max_pool2d(bands[:, None], POOL), (lengths - self.filters.n_taps + 1) // POOL


@dataclass(eq=False)
class RawAasistBackend(NeuralBackend):
    """AASIST on the samples of front-end ``waveform``.

    Args:
        architecture: ``AASIST`` (297 thousand parameters), ``AASIST-L`` (85 thousand), or the
            official ``model_config`` of another.
    """

    name: ClassVar[str] = "aasist-raw"

    architecture: str | dict[str, Any] = "AASIST"
    _sizes: RawArchitecture = field(init=False, repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.architecture, Mapping):
            self._sizes = RawArchitecture.of(self.architecture)
            self.architecture = asdict(self._sizes)
        elif self.architecture in OFFICIAL:
            self._sizes = OFFICIAL[self.architecture]
        else:
            raise UsageError(
                f"aasist-raw: architecture={self.architecture!r} (expected {' or '.join(OFFICIAL)}, "
                "or a model_config)"
            )

    def make_head(self, n_layers: int, dim: int) -> RawAasistHead:
        if (n_layers, dim) != (1, 1):
            raise UsageError(
                f"back-end aasist-raw: {n_layers} layers of {dim} values "
                "(expected 1 of 1: front-end waveform)"
            )
        return RawAasistHead(self._sizes, pre_activation=self.variant == "paper")

    @classmethod
    def from_official(
        cls, state: Mapping[str, Tensor], model_config: Mapping[str, Any] | None = None, **options: Any
    ) -> Self:
        """The official code's trained model, from its state dict.

        Args:
            state: its names.
            model_config: of the official configuration; where left out, the official
                architecture whose shapes the state has.
            options: as of the constructor; ``variant=reference``, with which the official
                weights were trained, unless given.

        Raises:
            CheckpointError: tensors that are missing or do not fit.
            UsageError: a configuration that cannot be.
        """
        own = {cls.own_name(name): tensor for name, tensor in state.items()}
        candidates = list(OFFICIAL) if model_config is None else [dict(model_config)]
        failed = []
        for candidate in candidates:
            made = cls(**{"variant": "reference", "architecture": candidate, **options})
            with torch.random.fork_rng(devices=[]):
                made.build(1, 1)
            try:
                made.load(own)
            except CheckpointError as error:
                failed.append(error)
                continue
            made._built("restore").eval()
            return made
        if len(failed) == 1:
            raise failed[0]
        raise CheckpointError(
            "weights fit no official architecture (for another, its model_config is needed): "
            + "; ".join(f"{name}: {error}" for name, error in zip(candidates, failed, strict=True))
        )

    @classmethod
    def own_name(cls, name: str) -> str:
        """What a tensor of the official state dict is called here."""
        renamed = own_graph_name(name) or own_encoder_name(name)
        return renamed or name.replace("first_bn.", "first_norm.", 1)
