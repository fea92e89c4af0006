"""The network of silero-vad as a graph, so that speech is found without torch."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from voxfide.conditions.silero import SileroNetwork, load_network
from voxfide.exporting.graphs import TracedGraph
from voxfide.exporting.onnx_graph import trace


class _Encoder(nn.Module):
    def __init__(self, network: SileroNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, windows: Tensor) -> Tensor:
        return self.network.encode(windows)


def speech() -> Any:
    """The network as an ``onnx.ModelProto``.

    Inputs are ``windows (n, 64 + 512)``, which follow on each other, and ``state (2, 1, 128)``, the LSTM's
    output and cell before them. Outputs are ``probabilities (n,)`` and ``state_out``.

    Raises:
        MissingDependencyError, CheckpointError: see :func:`voxfide.conditions.silero.load_network`.
    """
    network = load_network()
    module = _Encoder(network).eval()
    proto = trace(
        TracedGraph(module, {"windows": torch.zeros(4, 576)}, {"windows": {0: "windows"}}, ("heard",))
    )
    _append_memory(proto.graph, network)
    return proto


def _append_memory(graph: Any, network: SileroNetwork) -> None:
    """The LSTM and what follows it, by hand: traced, it would take one number of windows only."""
    from onnx import TensorProto, helper, numpy_helper

    weights = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    size = network.lstm.hidden_size
    constants = {
        "lstm_input": _gates(weights["lstm.weight_ih_l0"])[None],
        "lstm_hidden": _gates(weights["lstm.weight_hh_l0"])[None],
        "lstm_bias": np.concatenate([_gates(weights[f"lstm.bias_{part}_l0"]) for part in ("ih", "hh")])[None],
        "out_weight": np.ascontiguousarray(weights["final_conv.weight"][:, :, 0].T),
        "out_bias": weights["final_conv.bias"],
        "second": np.array([1]),
        "second_and_third": np.array([1, 2]),
    }
    graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in constants.items())
    node = helper.make_node
    graph.node.extend([
        node("Unsqueeze", ["heard", "second"], ["steps"]),
        node("Split", ["state"], ["hidden", "cell"], axis=0, num_outputs=2),
        node(
            "LSTM",
            ["steps", "lstm_input", "lstm_hidden", "lstm_bias", "", "hidden", "cell"],
            ["all_steps", "last_hidden", "last_cell"],
            hidden_size=size,
        ),
        node("Squeeze", ["all_steps", "second_and_third"], ["outputs"]),
        node("Relu", ["outputs"], ["active"]),
        node("MatMul", ["active", "out_weight"], ["product"]),
        node("Add", ["product", "out_bias"], ["logits"]),
        node("Sigmoid", ["logits"], ["columns"]),
        node("Squeeze", ["columns", "second"], ["probabilities"]),
        node("Concat", ["last_hidden", "last_cell"], ["state_out"], axis=0),
    ])  # fmt: skip
    value = helper.make_tensor_value_info
    graph.input.append(value("state", TensorProto.FLOAT, [2, 1, size]))
    del graph.output[:]
    graph.output.extend([
        value("probabilities", TensorProto.FLOAT, ["windows"]),
        value("state_out", TensorProto.FLOAT, [2, 1, size]),
    ])  # fmt: skip


def _gates(x: Any) -> Any:
    """From torch's order of gates, input, forget, cell, output, to ONNX's: input, output, forget, cell."""
    entry, forget, cell, out = np.split(x, 4)
    return np.concatenate([entry, out, forget, cell])
