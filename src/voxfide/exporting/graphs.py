"""A detector as graphs: from padded waveforms to scores, and for long recordings from averages to scores.

What can be exported is listed here: :data:`FRONTENDS` and :data:`BACKENDS`. To export another, write what it
does to a padded batch and give it a line.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn

from voxfide.backends.neural import NeuralBackend
from voxfide.detector import Detector
from voxfide.errors import UsageError
from voxfide.exporting.heads import (
    CalibrationHead,
    ClassifierHead,
    KernelHead,
    LogisticHead,
    NeuralHead,
)
from voxfide.exporting.masks import average, shares
from voxfide.exporting.padded_lfcc import PaddedLfcc, PaddedMoments
from voxfide.exporting.padded_ssl import PaddedSSL
from voxfide.frontends.frozen import UtteranceFrontend


class PaddedWaveform(nn.Module):
    """The samples themselves, for back-ends that start from them."""

    def forward(self, waveform: Tensor, lengths: Tensor) -> tuple[list[Tensor], Tensor]:
        """The one layer, ``(batch, samples, 1)``, and valid samples."""
        return [waveform[..., None]], lengths


FRONTENDS: Final[Mapping[str, Callable[[Any], nn.Module]]] = {
    "ssl": lambda frontend: PaddedSSL(frontend.encoder),
    "lfcc": PaddedLfcc,
    "lfcc-moments": lambda frontend: PaddedMoments(frontend.encoder),
    "waveform": lambda frontend: PaddedWaveform(),
}
"""Kind of front-end to its padded form: ``forward(waveform (batch, samples), lengths (batch,))`` gives layers
``(batch, frames, dim)`` in a list, and ``(batch,)`` valid frames."""

BACKENDS: Final[Mapping[str, Callable[[Any], nn.Module]]] = {
    "logistic": LogisticHead,
    "kernel": KernelHead,
    "classifier": ClassifierHead,
    "ffn": NeuralHead,
    "aasist": NeuralHead,
    "aasist-raw": NeuralHead,
    "frames": NeuralHead,
}
"""Name of a back-end to its graph's module."""


def check_exportable(detector: object) -> Detector:
    """The detector, if it can be exported.

    Raises:
        UsageError: it cannot; says what can.
    """
    if not isinstance(detector, Detector):
        name = type(detector).__name__
        what = "an ensemble" if name == "EnsembleDetector" else f"a {name}"
        raise UsageError(
            f"{what} cannot be exported (expected a detector of one front-end and one back-end; export the "
            "members of an ensemble one by one and fuse their scores with `voxfide fuse-scores`)"
        )
    problems = []
    if detector.frontend.kind not in FRONTENDS:
        problems.append(
            f"front-end {detector.frontend.name} is of kind {detector.frontend.kind} "
            f"(expected {', '.join(FRONTENDS)})"
        )
    if detector.backend.name not in BACKENDS:
        problems.append(f"back-end {detector.backend.name} (expected {', '.join(BACKENDS)})")
    if problems:
        raise UsageError("cannot be exported: " + "; ".join(problems))
    return detector


@dataclass(frozen=True)
class TracedGraph:
    """A module to be traced.

    Attributes:
        inputs: an example of each, by name; batch and time are free.
        free: of every input, names of its axes that may change, by their number.
        outputs: names, in order.
    """

    module: nn.Module
    inputs: Mapping[str, Tensor]
    free: Mapping[str, Mapping[int, str]]
    outputs: tuple[str, ...]


class ChainModule(nn.Module):
    """Waveforms to scores; see :func:`chain`."""

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.frontend = FRONTENDS[detector.frontend.kind](detector.frontend)
        self.backend = BACKENDS[detector.backend.name](detector.backend)
        record = detector.calibration
        self.calibration = CalibrationHead(None if record is None else record.calibration)
        self.pool = detector.pool
        self.by_samples = isinstance(detector.frontend, UtteranceFrontend)
        # Of a back-end on fewer layers than the front-end has.
        self.n_layers = detector.backend.n_layers if isinstance(detector.backend, NeuralBackend) else None

    def forward(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, ...]:
        layers, frames = self.frontend(waveform, lengths)
        if self.pool == "none":
            raw, of_frames = self.backend(torch.stack(layers[: self.n_layers], dim=1), frames)
            scores = (self.calibration(raw), raw)
            return scores if of_frames is None else (*scores, of_frames)
        mean, deviations = self._averages(layers, frames)
        features = mean
        if deviations is not None:
            features = torch.cat([mean, (deviations / frames[:, None, None].float()).sqrt()], dim=2)
        raw = self.backend(features)
        weights = lengths.clone() if self.by_samples else frames
        outputs = (self.calibration(raw), raw, mean, weights)
        return outputs if deviations is None else (*outputs, deviations)

    def _averages(self, layers: list[Tensor], frames: Tensor) -> tuple[Tensor, Tensor | None]:
        """Means over time ``(batch, layers, dim)``, and where asked for sums of squared deviations."""
        share = shares(frames, layers[0].shape[1])
        means, deviations = [], []
        for layer in layers:
            mean = average(layer, share)
            means.append(mean)
            if self.pool == "mean_std":
                centred = layer - mean
                deviations.append(average(centred * centred, share) * frames[:, None, None].float())
        return torch.cat(means, dim=1), torch.cat(deviations, dim=1) if deviations else None


class HeadModule(nn.Module):
    """Merged averages to scores; see :func:`head`."""

    def __init__(self, chain: ChainModule) -> None:
        super().__init__()
        self.backend, self.calibration = chain.backend, chain.calibration

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        raw = self.backend(features)
        return self.calibration(raw), raw


def chain(detector: Detector) -> TracedGraph:
    """The whole chain.

    Inputs are ``waveform (batch, samples)`` float32, 16 kHz mono, holding anything finite beyond ``lengths
    (batch,)`` int64. Outputs are ``score`` and ``raw_score``, ``(batch,)`` each: calibrated, where the
    detector is, and not. Of back-ends on time averages also ``features (batch, layers, dim)``, averages;
    ``frames (batch,)``, what each counts when windows of a long recording are averaged; and for pool
    ``mean_std`` ``deviations (batch, layers, dim)``, sums of squared deviations from the average. Of back-end
    ``frames`` also ``frame_scores (batch, frames)``, which beyond an utterance's frames mean nothing.
    """
    n_samples = max(8000, 2 * detector.frontend.min_samples)
    inputs = {
        "waveform": torch.randn(2, n_samples, generator=torch.Generator().manual_seed(0)),
        "lengths": torch.tensor([n_samples, max(n_samples // 2, detector.frontend.min_samples)]),
    }
    outputs = ["score", "raw_score"]
    if detector.pool != "none":
        outputs += ["features", "frames"]
    if detector.pool == "mean_std":
        outputs.append("deviations")
    if detector.backend.name == "frames":
        outputs.append("frame_scores")
    free = {"waveform": {0: "batch", 1: "samples"}, "lengths": {0: "batch"}}
    return TracedGraph(ChainModule(detector).eval(), inputs, free, tuple(outputs))


def head(detector: Detector, whole: TracedGraph) -> TracedGraph | None:
    """Averages to ``score`` and ``raw_score``; None of back-ends on full frames, which score by windows.

    The averages are ``features (batch, layers, dim)``, or of pool ``mean_std`` ``(batch, layers, 2 dim)``.
    """
    if detector.pool == "none":
        return None
    assert isinstance(whole.module, ChainModule)
    dim = detector.frontend.pooled_dim(detector.pool)
    features = torch.zeros(2, detector.frontend.n_layers, dim)
    module = HeadModule(whole.module).eval()
    return TracedGraph(module, {"features": features}, {"features": {0: "batch"}}, ("score", "raw_score"))
