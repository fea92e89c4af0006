"""The layer-wise study's reference outputs: read, and compared with what a back-end here computes."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch

from conftest import GOLDEN

NAMES = ("small_4layers", "small_12layers", "large_12layers")


@dataclass
class Golden:
    """One configuration: the reference's weights, features and outputs, and the largest differences."""

    folder: str
    name: str
    differences: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        folder = GOLDEN / self.folder
        with np.load(folder / f"{self.name}_weights.npz") as file:
            self.state = {k: torch.from_numpy(np.array(file[k])) for k in file.files}
        with np.load(folder / f"{self.name}_outputs.npz") as file:
            self.outputs = {k: file[k] for k in file.files}
        with np.load(GOLDEN / "elkheir2025_ffn" / f"features_{self.name[:5]}.npz") as file:
            self.features = torch.from_numpy(file["features"])[:, : len(self.state["weight_hidd"])]
        self.lengths = torch.full((2,), self.features.shape[2])

    def compare(self, key: str, found: torch.Tensor | np.ndarray) -> None:
        """Notes how far ``found`` is from the reference's output of this name."""
        array = found.detach().numpy() if isinstance(found, torch.Tensor) else found
        assert array.shape == self.outputs[key].shape
        self.differences[key] = float(np.abs(array - self.outputs[key]).max())

    def compare_eval(self, backend) -> None:
        """Logits, alone and together, layer weights and weighted features."""
        with torch.no_grad():
            self.compare("logits", backend.head(self.features, self.lengths))
            self.compare("logits_batch1", backend.head(self.features[:1], self.lengths[:1]))
            weighted = backend.head.layers(self.features, self.lengths)
            self.compare("weighted_feature_first8frames", weighted[:, :8])
        self.compare("layer_weights", backend.layer_weights())

    def compare_training(self, backend) -> None:
        """One training-mode pass with dropout off: logits, loss, gradients, running statistics."""
        head = backend.head.train()
        for module in head.modules():
            if isinstance(module, torch.nn.Dropout):
                module.eval()
        logits = head(self.features, self.lengths)
        weight = torch.tensor([0.1, 0.9])
        loss = torch.nn.functional.cross_entropy(logits, torch.tensor([0, 1]), weight=weight)
        loss.backward()
        self.compare("train_logits", logits)
        self.compare("train_loss", loss)
        self.compare("train_grad_weight_hidd", head.layers.logits.grad)
        parameters = dict(head.named_parameters())
        grads = [parameters[backend.own_name(str(n))].grad for n in self.outputs["train_param_names"]]
        norms = torch.stack([torch.zeros(()) if g is None else g.norm() for g in grads])
        self.compare("train_grad_norm", norms)
        self.compare("train_layer_norm_running_mean", head.layers.norm.running_mean)
        self.compare("train_layer_norm_running_var", head.layers.norm.running_var)

    def report(self) -> str:
        """The measured differences, worst first."""
        ordered = sorted(self.differences.items(), key=lambda item: -item[1])
        return f"{self.folder} {self.name}: " + ", ".join(f"{k} {v:.1e}" for k, v in ordered)
