"""What the back-ends on weighted layer features share: their options, and the reference's checkpoints."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from torch import Tensor

from voxfide.backends.layer_weighting import LayerWeighting
from voxfide.backends.neural import NeuralBackend
from voxfide.errors import CheckpointError, UsageError

FRONTEND = "ssl."
"""Prefix of the front-end's weights in the reference's checkpoints."""


@dataclass(eq=False)
class LayerwiseBackend(NeuralBackend):
    """A neural back-end that starts with :class:`~voxfide.backends.layer_weighting.LayerWeighting`.

    Args:
        layer_init: layer logits at the start: one number for all, or one a layer
            (a sequence, or text with commas).
        temperature: of the softmax over layers.
        freeze_layers: leave the layer logits as they start.
        hidden: width behind the weighted features.
    """

    reference_names: ClassVar[dict[str, str]]
    """Beginnings of names in the reference's checkpoints to those here."""

    layer_init: float | tuple[float, ...] = 1.0
    temperature: float = 1.0
    freeze_layers: bool = False
    hidden: int = 128

    def __post_init__(self) -> None:
        super().__post_init__()
        self.layer_init = self._numbers(self.layer_init)
        self.temperature = self._number("temperature", self.temperature)
        if not self.temperature > 0:
            raise UsageError(f"{self.name}: temperature={self.temperature} (expected a positive number)")
        if isinstance(self.freeze_layers, str) and self.freeze_layers.lower() in ("true", "false"):
            self.freeze_layers = self.freeze_layers.lower() == "true"
        if not isinstance(self.freeze_layers, bool):
            raise UsageError(f"{self.name}: freeze_layers={self.freeze_layers!r} (expected true or false)")
        hidden = self._number("hidden", self.hidden)
        if hidden != int(hidden) or hidden < 3:
            raise UsageError(f"{self.name}: hidden={self.hidden} (expected a whole number from 3)")
        self.hidden = int(hidden)

    def make_weighting(self, n_layers: int) -> LayerWeighting:
        """An untrained layer weighting as the options say."""
        return LayerWeighting(n_layers, self.layer_init, self.temperature, self.freeze_layers)

    @classmethod
    def from_reference(cls, state: Mapping[str, Tensor], **options: Any) -> Self:
        """The reference's trained back-end, from the state dict that its training saves.

        Args:
            state: its names; the front-end's weights among them are passed over.
            options: as of the constructor; ``variant=reference`` and ``hidden`` follow from the state.

        Raises:
            CheckpointError: tensors that are missing or do not fit together.
        """
        own = {name.removeprefix("module."): tensor for name, tensor in state.items()}
        for name in ("weight_hidd", "LL.weight"):
            if name not in own:
                raise CheckpointError(f"{name} is missing (expected a back-end of El Kheir et al.'s code)")
        hidden, dim = own["LL.weight"].shape
        made = cls(**{"variant": "reference", "hidden": hidden, **options})
        made.build(len(own["weight_hidd"]), dim)
        made.load({cls.own_name(k): t for k, t in own.items() if not k.startswith(FRONTEND)})
        made._built("restore").eval()
        return made

    @classmethod
    def own_name(cls, name: str) -> str:
        """What a tensor of the reference's state dict is called here."""
        renamed = {"weight_hidd": "layers.logits", "layer_norm.": "layers.norm.", **cls.reference_names}
        for theirs, ours in renamed.items():
            if name.startswith(theirs):
                return ours + name.removeprefix(theirs)
        return name

    def _number(self, option: str, value: Any) -> float:
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = math.nan
        if not math.isfinite(number):
            raise UsageError(f"{self.name}: {option}={value!r} (expected a number)")
        return number

    def _numbers(self, value: Any) -> float | tuple[float, ...]:
        if isinstance(value, str) and "," in value:
            value = value.split(",")
        if isinstance(value, list | tuple):
            return tuple(self._number("layer_init", v) for v in value)
        return self._number("layer_init", value)
