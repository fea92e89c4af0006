"""Weights of a graph in fewer bits: half precision where that loses nothing, 8 bits where it is asked for.

8 bits here means: symmetric, one scale an output channel. Products with weights are taken in whole numbers;
what is multiplied is quantised while the graph runs, every frame by its own largest magnitude, so that the
score of an utterance still does not depend on its batch. What costs little and carries much, such as norms,
attention between frames, and small matrices, stays in single precision.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np

from voxfide.backends.kernel import KernelBackend

LEAST_NUMBERS: Final = 4096
"""Smaller weights stay as they are."""

LANDMARKS: Final = "landmarks"
"""How the name of a kernel back-end's landmarks ends. They are stored in 8 bits and computed with in single
precision: distances are small differences of large products."""

RIDGE: Final = 1e-6

_STEPS: Final = 127
_ZERO: Final = 128


def halve(proto: Any) -> None:
    """Stores weights that half precision holds exactly as such; computing stays in single precision."""
    from onnx import TensorProto, helper, numpy_helper

    for tensor, array in _weights(proto):
        half = array.astype(np.float16)
        if np.array_equal(half.astype(np.float32), array):
            name = tensor.name
            tensor.CopyFrom(numpy_helper.from_array(half, f"{name}_half"))
            proto.graph.node.insert(0, helper.make_node("Cast", [tensor.name], [name], to=TensorProto.FLOAT))


def quantise(proto: Any, untouched: tuple[str, ...] = ()) -> None:
    """Products with constant matrices in 8 bits; the weights of convolutions, and landmarks, are stored so.

    Args:
        proto: an ``onnx.ModelProto``; changed.
        untouched: beginnings of the names of constants that stay as they are, but for landmarks.
    """
    store_landmarks(proto)
    kept = {tensor.name for tensor in proto.graph.initializer if tensor.name.startswith(untouched)}
    convolved = {node.input[1] for node in proto.graph.node if node.op_type == "Conv"} - kept
    _store(proto, lambda name: name in convolved, axis=0)
    _multiply(proto, kept)


def rounded_landmarks(backend: KernelBackend) -> KernelBackend:
    """The back-end on landmarks that 8 bits hold, each with a scale of its own.

    Its score is the function of these landmarks that is nearest to the given one, in the norm of the
    kernel's Hilbert space: coefficients follow the landmarks, which takes most of what rounding did away.
    """
    tensors = backend.tensors()
    old = np.asarray(tensors["landmarks"], np.float64)
    whole, step = rounded(old.astype(np.float32), axis=0)
    tensors["landmarks"] = whole * step
    new = tensors["landmarks"].astype(np.float64)
    gamma = backend.gamma / old.shape[1]
    # Landmarks may stand twice in a set: the small diagonal shares their weight out.
    square = _kernel(new, new, gamma) + RIDGE * np.eye(len(new))
    tensors["coefficients"] = np.linalg.solve(square, _kernel(new, old, gamma) @ tensors["coefficients"])
    made: KernelBackend = KernelBackend.restore(backend.config(), tensors)
    return made


def _kernel(a: np.ndarray, b: np.ndarray, gamma: float) -> np.ndarray:
    squares = np.square(a).sum(1)[:, None] + np.square(b).sum(1) - 2 * (a @ b.T)
    return np.asarray(np.exp(-gamma * np.maximum(squares, 0)))


def store_landmarks(proto: Any) -> None:
    """Landmarks alone, in columns, which are what 8 bits hold: see :func:`rounded_landmarks`."""
    _store(proto, lambda name: name.endswith(LANDMARKS), axis=1)


def products(proto: Any, untouched: tuple[str, ...]) -> list[str]:
    """Names of the nodes that multiply with constants whose names begin so."""
    multiply = (node for node in proto.graph.node if node.op_type in ("MatMul", "Gemm", "Conv"))
    return [node.name for node in multiply if node.input[1].startswith(untouched)]


def rounded(values: np.ndarray, axis: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Whole numbers ``-127 … 127`` int8, and what one is worth: for all, or by index along ``axis``."""
    others = None if axis is None else tuple(i for i in range(values.ndim) if i != axis)
    most = np.abs(values).max(axis=others, keepdims=True)
    step = np.where(most > 0, most, 1.0) / _STEPS
    whole = np.clip(np.rint(values / step), -_STEPS, _STEPS).astype(np.int8)
    return whole, step.astype(np.float32)


def _weights(proto: Any) -> list[tuple[Any, np.ndarray]]:
    """Large constants of single precision, and their numbers."""
    from onnx import TensorProto, numpy_helper

    return [
        (tensor, numpy_helper.to_array(tensor))
        for tensor in proto.graph.initializer
        if tensor.data_type == TensorProto.FLOAT and np.prod(tensor.dims) >= LEAST_NUMBERS
    ]


def _store(proto: Any, chosen: Callable[[str], bool], axis: int | None) -> None:
    from onnx import helper, numpy_helper

    for tensor, array in _weights(proto):
        name = tensor.name
        if not chosen(name):
            continue
        whole, step = rounded(array, axis)
        step = step.reshape(() if axis is None else -1)
        tensor.CopyFrom(numpy_helper.from_array(whole, f"{name}_whole"))
        # Without a zero that is written out, onnxruntime takes one of a wrong shape.
        beside = {"step": step, "zero": np.zeros(step.shape, np.int8)}
        proto.graph.initializer.extend(
            numpy_helper.from_array(array, f"{name}_{part}") for part, array in beside.items()
        )
        inputs = [f"{name}_{part}" for part in ("whole", "step", "zero")]
        node = helper.make_node("DequantizeLinear", inputs, [name], axis=axis or 0)
        proto.graph.node.insert(0, node)


def _multiply(proto: Any, kept: set[str]) -> None:
    from onnx import helper, numpy_helper

    matrices = [(tensor, array) for tensor, array in _weights(proto) if array.ndim == 2]
    graph = proto.graph
    kept = kept | {
        name for node in graph.node for i, name in enumerate(node.input) if not _multiplies(node, i)
    }
    weights = {tensor.name: (tensor, array) for tensor, array in matrices if tensor.name not in kept}
    nodes, entries, done = [], {}, set()
    for node in graph.node:
        if node.op_type != "MatMul" or node.input[1] not in weights:
            nodes.append(node)
            continue
        x, name = node.input
        if x not in entries:
            entries[x] = f"{x}_whole"
            nodes += _quantised_rows(x)
        product = f"{node.output[0]}_steps"
        factors = [entries[x], f"{name}_whole", "eight_bits_one", f"{name}_step", "eight_bits_zero"]
        nodes.append(helper.make_node("MatMulIntegerToFloat", factors, [product], domain="com.microsoft"))
        nodes.append(helper.make_node("Mul", [product, f"{x}_step"], list(node.output)))
        if name not in done:
            done.add(name)
            tensor, array = weights[name]
            whole, step = rounded(array, axis=1)
            tensor.CopyFrom(numpy_helper.from_array(whole, f"{name}_whole"))
            graph.initializer.append(numpy_helper.from_array(step[0], f"{name}_step"))
    if not done:
        return
    del graph.node[:]
    graph.node.extend(nodes)
    constants = {
        "eight_bits_one": np.float32(1),
        "eight_bits_zero": np.uint8(_ZERO),
        "eight_bits_steps": np.float32(1 / _STEPS),
        "eight_bits_least": np.float32(1e-20),
        "eight_bits_axis": np.array([-1]),
    }
    graph.initializer.extend(numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items())
    proto.opset_import.append(helper.make_opsetid("com.microsoft", 1))


def _multiplies(node: Any, place: int) -> bool:
    """Whether an input is the matrix that something is multiplied with."""
    return bool(node.op_type == "MatMul" and place == 1)


def _quantised_rows(x: str) -> list[Any]:
    """``x (…, numbers)`` as whole numbers of ``uint8`` about 128, and what one is worth, ``(…, 1)``."""
    from onnx import helper

    node = helper.make_node
    return [
        node("ReduceMax", [x, "eight_bits_axis"], [f"{x}_highest"], keepdims=1),
        node("ReduceMin", [x, "eight_bits_axis"], [f"{x}_lowest"], keepdims=1),
        node("Neg", [f"{x}_lowest"], [f"{x}_depth"]),
        node("Max", [f"{x}_highest", f"{x}_depth", "eight_bits_least"], [f"{x}_most"]),
        node("Mul", [f"{x}_most", "eight_bits_steps"], [f"{x}_step"]),
        node("Div", [x, f"{x}_step"], [f"{x}_in_steps"]),
        node("QuantizeLinear", [f"{x}_in_steps", "eight_bits_one", "eight_bits_zero"], [f"{x}_whole"]),
    ]
