"""Neural back-ends: a head on full-frame layer features, built, scored, saved and restored alike.

What they share stands here; how a head is trained stands in :mod:`voxfide.training`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn

from voxfide.backends.base import Backend
from voxfide.errors import CheckpointError, UsageError
from voxfide.types import BoolArray, Float64Array

VARIANTS = ("paper", "reference")
OUTPUTS = ("log_odds", "logit")

BATCH_NUMBERS = 2**24
"""Numbers in one padded batch of :meth:`NeuralBackend.score`: 64 MiB of float32."""


@dataclass(eq=False)
class NeuralBackend(Backend):
    """A head, ``(batch, layers, frames, dim)`` to two logits; index 0 is spoof, 1 is bona fide.

    Args:
        variant: ``paper``, the form that the publication describes, or ``reference``, what its
            public code computes (see ``docs/backends.md``).
        output: what a score is: ``log_odds``, the difference of the logits, hence the log
            posterior odds of bona fide; or ``logit``, that of bona fide alone, as the reference
            scores. Left out: ``log_odds``, and ``logit`` for ``variant=reference``.
    """

    pools: ClassVar[tuple[str, ...]] = ("none",)
    min_frames: ClassVar[int] = 1
    """Shorter utterances are repeated to this length by the head."""

    variant: str = "paper"
    output: str | None = None
    head: nn.Module | None = field(default=None, init=False, repr=False)
    n_layers: int = field(default=0, init=False)
    dim: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self._one_of("variant", VARIANTS)
        if self.output is None:
            self.output = "logit" if self.variant == "reference" else "log_odds"
        self._one_of("output", OUTPUTS)

    @abstractmethod
    def make_head(self, n_layers: int, dim: int) -> nn.Module:
        """An untrained head, drawn from torch's global random state.

        Its ``forward(features (batch, layers, frames, dim) float32, lengths (batch,) int64)``
        returns logits ``(batch, 2)``; what stands beyond a length does not matter.

        Raises:
            UsageError: layers or a dim that the head cannot have.
        """

    def build(self, n_layers: int, dim: int) -> None:
        """Makes :attr:`head`, untrained, from torch's global random state.

        Raises:
            UsageError: layers or a dim that the head cannot have.
        """
        if n_layers < 1 or dim < 1:
            raise UsageError(f"back-end {self.name}: {n_layers} layers of {dim} values (expected at least 1)")
        self.head = self.make_head(n_layers, dim)
        self.n_layers, self.dim = n_layers, dim

    def to(self, device: str | torch.device) -> Self:
        """Moves the head."""
        self._built("move").to(device)
        return self

    @property
    def score_kind(self) -> str:  # type: ignore[override]
        """What an uncalibrated score is, under the conditions of training."""
        return "logit of bona fide" if self.output == "logit" else "log posterior odds of bona fide"

    @property
    def frame_loss_weight(self) -> float:
        """How much labels of frames count in training, beside that of the utterance; 0: not at all.

        A head of a weight above 0 takes ``forward(..., with_frames=True)``, which gives logits
        ``(batch, 2)`` and those of the frames, ``(batch, frames, 2)``.
        """
        return 0.0

    @property
    def device(self) -> torch.device:
        """Where the head is."""
        return next(self._built("find").parameters()).device

    def layer_weights(self) -> Float64Array | None:
        """Softmax weights ``(layers,)`` of a head that weights layers, else None."""
        weighting = getattr(self._built("read weights from"), "layers", None)
        if weighting is None:
            return None
        return np.asarray(weighting.weights().detach().cpu().numpy(), np.float64)

    def fit(self, features: np.ndarray, is_bonafide: BoolArray, weights: Float64Array | None = None) -> Self:
        """Neural heads are trained batch by batch: always raises :class:`UsageError`."""
        raise UsageError(
            f"back-end {self.name} is not fitted at once: train it with voxfide.training or `voxfide train`"
        )

    def to_scores(self, logits: Tensor) -> Tensor:
        """Scores ``(batch,)`` of logits ``(batch, 2)``; higher means more bona fide."""
        return logits[:, 1] if self.output == "logit" else logits[:, 1] - logits[:, 0]

    def score_padded(self, features: Tensor, lengths: Tensor) -> Float64Array:
        """Scores ``(batch,)`` of padded features, in eval and inference mode.

        Args:
            features: ``(batch, layers, frames, dim)``; cast to float32 on the head's device.
            lengths: ``(batch,)`` valid frames, at least one each.
        """
        head, device = self._built("score with"), self.device
        was_training = head.training
        head.eval()
        try:
            with torch.inference_mode():
                logits = head(features.to(device, torch.float32), lengths.to(device))
        finally:
            head.train(was_training)
        return np.asarray(self.to_scores(logits).cpu().numpy(), np.float64)

    def score(self, features: Sequence[np.ndarray]) -> Float64Array:  # type: ignore[override]
        """Scores ``(utterances,)`` of ``(layers, frames, dim)`` arrays of any lengths.

        An utterance gets the same score, to rounding, whatever stands beside it.

        Raises:
            UsageError: not built, not the shape that the head was built for, or not finite.
        """
        self._built("score with")
        for number, array in enumerate(features):
            self._check(number, array)
        scores = np.zeros(len(features))
        for rows in self._batches([array.shape[1] for array in features]):
            lengths = [features[i].shape[1] for i in rows]
            batch = torch.zeros(len(rows), self.n_layers, max(lengths), self.dim)
            for row, i in enumerate(rows):
                batch[row, :, : lengths[row]] = torch.from_numpy(np.ascontiguousarray(features[i]))
            scores[rows] = self.score_padded(batch, torch.tensor(lengths))
        return scores

    def config(self) -> dict[str, Any]:
        """Options, ``n_layers`` and ``dim``."""
        options = {f.name: getattr(self, f.name) for f in fields(self) if f.init}
        return {**options, "n_layers": self.n_layers, "dim": self.dim}

    def tensors(self) -> dict[str, np.ndarray]:
        """The head's parameters and buffers; floats as float32."""
        state = self._built("save").state_dict()
        return {
            name: (t.float() if t.is_floating_point() else t).cpu().numpy().copy()
            for name, t in state.items()
        }

    @classmethod
    def restore(cls, config: dict[str, Any], tensors: dict[str, np.ndarray]) -> Self:
        options = dict(config)
        sizes = [options.pop(key, None) for key in ("n_layers", "dim")]
        if not all(isinstance(size, int) for size in sizes):
            raise CheckpointError(
                f"back-end {cls.name}: n_layers and dim are {sizes[0]!r} and {sizes[1]!r} (expected numbers)"
            )
        n_layers, dim = sizes
        made = cls.from_options(options)
        # What is drawn here is overwritten, so the caller's random state stays as it was.
        with torch.random.fork_rng(devices=[]):
            made.build(n_layers, dim)
        made.load({name: torch.from_numpy(np.array(array)) for name, array in tensors.items()})
        made._built("restore").eval()
        return made

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Puts parameters and buffers into the head.

        Raises:
            CheckpointError: tensors that are missing, of another shape, too many, or not finite.
        """
        head = self._built("load into")
        own = head.state_dict()
        problems = [f"{name} are missing" for name in own if name not in state]
        problems += [f"{name} are not known here" for name in state if name not in own]
        both = [name for name in own if name in state]
        problems += [
            f"{name} of shape {tuple(state[name].shape)} (expected {tuple(own[name].shape)})"
            for name in both
            if state[name].shape != own[name].shape
        ]
        problems += [f"{name} hold NaN or infinity" for name in both if not state[name].isfinite().all()]
        if problems:
            more = f" … and {len(problems) - 5} more" if len(problems) > 5 else ""
            raise CheckpointError(f"back-end {self.name}: tensors " + "; ".join(problems[:5]) + more)
        head.load_state_dict(dict(state))

    def _one_of(self, option: str, choices: tuple[str, ...]) -> None:
        if getattr(self, option) not in choices:
            raise UsageError(
                f"{self.name}: {option}={getattr(self, option)!r} (expected {' or '.join(choices)})"
            )

    def _built(self, purpose: str) -> nn.Module:
        if self.head is None:
            raise UsageError(
                f"back-end {self.name} is not trained yet: there is nothing to {purpose} "
                "(expected build or restore before)"
            )
        return self.head

    def _check(self, number: int, array: np.ndarray) -> None:
        who = f"back-end {self.name}: features of utterance {number}, counted from 0,"
        if array.ndim != 3 or not np.issubdtype(array.dtype, np.floating) or array.shape[1] < 1:
            raise UsageError(
                f"{who} are {array.dtype} of shape {array.shape} "
                "(expected floats of shape (layers, frames, dim))"
            )
        if array.shape[0] != self.n_layers or array.shape[2] != self.dim:
            raise UsageError(
                f"{who} have {array.shape[0]} layers of {array.shape[2]} values, the head was trained on "
                f"{self.n_layers} of {self.dim}"
            )
        if not np.isfinite(array).all():
            raise UsageError(f"{who} are not finite")

    def _batches(self, lengths: Sequence[int]) -> Iterator[list[int]]:
        """Row numbers of batches, sorted by length so that little is padded."""
        rows: list[int] = []
        for i in sorted(range(len(lengths)), key=lengths.__getitem__):
            if rows and (len(rows) + 1) * lengths[i] * self.n_layers * self.dim > BATCH_NUMBERS:
                yield rows
                rows = []
            rows.append(i)
        if rows:
            yield rows
