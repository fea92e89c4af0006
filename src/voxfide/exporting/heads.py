"""Back-ends and calibrations as modules in single precision, from which graphs are traced."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from voxfide.backends.classifier import LAYER_WEIGHTS, ClassifierBackend
from voxfide.backends.kernel import CLIP, KernelBackend
from voxfide.backends.logistic import LogisticBackend
from voxfide.backends.neural import NeuralBackend
from voxfide.calibration.base import Calibration
from voxfide.exporting.masks import GROUPS
from voxfide.types import BONAFIDE


def _single(values: object) -> Tensor:
    return torch.from_numpy(np.array(values, np.float64)).float()


class LogisticHead(nn.Module):
    """Scores ``(batch,)`` of time averages ``(batch, layers, dim)``."""

    mean: Tensor
    weight: Tensor
    offset: Tensor

    def __init__(self, backend: LogisticBackend) -> None:
        super().__init__()
        numbers = backend.tensors()
        self.layer = backend.layer
        self.register_buffer("mean", _single(numbers["mean"]))
        self.register_buffer("weight", _single(numbers["coefficients"] / numbers["scale"])[:, None])
        self.register_buffer("offset", _single(numbers["intercept"]))

    def forward(self, features: Tensor) -> Tensor:
        if self.layer == "all":
            x = features.flatten(1)
        elif self.layer == "mean":
            x = features.mean(1)
        else:
            x = features[:, -1 if self.layer == "last" else int(self.layer) - 1]
        return ((x - self.mean) @ self.weight)[:, 0] + self.offset


class KernelHead(nn.Module):
    """The same; distances to landmarks by one product, ``|z|² + |l|² - 2 z·l``."""

    mean: Tensor
    scale: Tensor
    landmarks: Tensor
    squares: Tensor
    coefficients: Tensor
    offset: Tensor

    def __init__(self, backend: KernelBackend) -> None:
        super().__init__()
        numbers = backend.tensors()
        landmarks = np.asarray(numbers["landmarks"], np.float64)
        self.gamma = backend.gamma / landmarks.shape[1]
        self.register_buffer("mean", _single(numbers["mean"]))
        self.register_buffer("scale", _single(1 / numbers["scale"]))
        self.register_buffer("landmarks", _single(landmarks.T).contiguous())
        self.register_buffer("squares", _single(np.square(landmarks).sum(1)))
        self.register_buffer("coefficients", _single(numbers["coefficients"]))
        self.register_buffer("offset", _single(numbers["intercept"]))

    def forward(self, features: Tensor) -> Tensor:
        z = ((features.flatten(1) - self.mean) * self.scale).clamp(-CLIP, CLIP)
        distances = z.square().sum(1, keepdim=True) + self.squares - 2 * (z @ self.landmarks)
        terms = (-self.gamma * distances).exp() * self.coefficients
        # Thousands of terms of both signs: group by group, so that rounding does not add up.
        groups = F.pad(terms, (0, -terms.shape[1] % GROUPS)).reshape(terms.shape[0], -1, GROUPS)
        return groups.sum(1).sum(1) + self.offset


class ClassifierHead(nn.Module):
    """The same, of a public classifier: projection and classification in one product."""

    weight: Tensor
    bias: Tensor
    shares: Tensor | None

    def __init__(self, backend: ClassifierBackend) -> None:
        super().__init__()
        first, first_bias, second, second_bias = (
            np.asarray(backend.numbers[f"{part}.{kind}"], np.float64)
            for part in ("projector", "classifier")
            for kind in ("weight", "bias")
        )
        self.register_buffer("weight", _single((second @ first).T).contiguous())
        self.register_buffer("bias", _single(second @ first_bias + second_bias))
        weights = backend.numbers.get(LAYER_WEIGHTS)
        self.register_buffer("shares", None if weights is None else _single(weights).softmax(0))
        order = np.array([name == BONAFIDE for name in backend.classes])
        self.bonafide, self.spoof = np.flatnonzero(order).tolist(), np.flatnonzero(~order).tolist()

    def forward(self, features: Tensor) -> Tensor:
        if self.shares is None:
            x = features[:, -1]
        else:
            x = (features[:, : len(self.shares)] * self.shares[:, None]).sum(1)
        logits = x @ self.weight + self.bias
        return _log_sum_exp(logits[:, self.bonafide]) - _log_sum_exp(logits[:, self.spoof])


def _log_sum_exp(logits: Tensor) -> Tensor:
    return logits[:, 0] if logits.shape[1] == 1 else logits.logsumexp(1)


class NeuralHead(nn.Module):
    """Scores ``(batch,)`` of padded frames, and where asked for those of the frames ``(batch, frames)``."""

    def __init__(self, backend: NeuralBackend) -> None:
        super().__init__()
        assert backend.head is not None
        self.head = backend.head
        self.output = backend.output
        self.with_frames = backend.name == "frames"

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor | None]:
        if not self.with_frames:
            return self._scores(self.head(features, lengths)), None
        logits, frames = self.head(features, lengths, with_frames=True)
        return self._scores(logits), frames[..., 1] - frames[..., 0]

    def _scores(self, logits: Tensor) -> Tensor:
        return logits[:, 1] if self.output == "logit" else logits[:, 1] - logits[:, 0]


class CalibrationHead(nn.Module):
    """Log likelihood ratios of scores ``(batch,)``: any calibration is a piecewise linear function."""

    scores: Tensor
    llrs: Tensor
    rise: Tensor

    def __init__(self, calibration: Calibration | None) -> None:
        super().__init__()
        self.linear: tuple[float, float] | None = None
        if calibration is None or calibration.name != "isotonic":
            offset, end = (0.0, 1.0) if calibration is None else calibration.apply([0.0, 1.0]).tolist()
            self.linear = (end - offset, offset)
            return
        config = calibration.config()
        scores, llrs = np.array(config["scores"]), np.array(config["llrs"])
        rise = np.append(np.diff(llrs) / np.diff(scores), 0.0)  # level behind the last
        self.register_buffer("scores", _single(scores))
        self.register_buffer("llrs", _single(llrs))
        self.register_buffer("rise", _single(rise))

    def forward(self, scores: Tensor) -> Tensor:
        if self.linear is not None:
            slope, offset = self.linear
            # An output of its own in any case: graphs cannot name one value twice.
            return scores.clone() if self.linear == (1.0, 0.0) else scores * slope + offset
        place = ((scores[:, None] >= self.scores).sum(1) - 1).clamp_min(0)
        beyond = (scores - self.scores[place]).clamp_min(0)
        return self.llrs[place] + beyond * self.rise[place]
