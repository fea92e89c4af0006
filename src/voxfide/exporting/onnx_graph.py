"""From a module to an ONNX file."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import torch

from voxfide.errors import MissingDependencyError
from voxfide.exporting.graphs import TracedGraph

PACKAGES: Final = ("onnx", "onnxscript")
"""What is needed to trace a graph."""

OPSET: Final = 20
"""The first with Gelu as one operation; both runtimes know all of it."""

INLINE_BYTES: Final = 2**31 - 2**24
"""A file of protocol buffers ends at 2 GiB: from here on weights stand in a file of their own beside it."""

FOLDED_NUMBERS: Final = 4096
"""Constants that are computed from others stand in the file up to this size; runtimes compute larger ones
once, as they open it."""


def require(packages: Sequence[str], extra: str) -> None:
    """Raises :class:`MissingDependencyError` where a package is not installed, and names the extra."""
    for name in packages:
        try:
            import_module(name)
        except ModuleNotFoundError as error:
            raise MissingDependencyError(
                f"this export needs {name} (pip install 'voxfide[{extra}]')"
            ) from error


def trace(graph: TracedGraph) -> Any:
    """The graph as an ``onnx.ModelProto``; see :data:`PACKAGES`."""
    import onnxscript.optimizer

    shapes = {
        name: dict.fromkeys(graph.free.get(name, {}), torch.export.Dim.DYNAMIC) for name in graph.inputs
    }
    with _quiet(), torch.no_grad():
        program = torch.onnx.export(
            graph.module,
            tuple(graph.inputs.values()),
            input_names=list(graph.inputs),
            output_names=list(graph.outputs),
            dynamic_shapes=tuple(shapes.values()),
            opset_version=OPSET,
            dynamo=True,
            optimize=False,
            verbose=False,
        )
        assert program is not None
        onnxscript.optimizer.optimize_ir(
            program.model, output_size_limit=FOLDED_NUMBERS, should_fold=_is_transpose
        )
    return _without_traces(program.model_proto)


def _is_transpose(node: Any) -> bool | None:
    """Weights stand as they are multiplied, whatever their size; of other nodes the size decides."""
    return True if node.op_type == "Transpose" else None


def _without_traces(proto: Any) -> Any:
    """Without what the exporter notes of the code behind every node: paths of this machine, many bytes."""
    graph = proto.graph
    for part in (
        proto,
        graph,
        *graph.node,
        *graph.value_info,
        *graph.initializer,
        *graph.input,
        *graph.output,
    ):
        del part.metadata_props[:]
        part.doc_string = ""
    return proto


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's talk, which is about itself and, where logs are kept, costs much time."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.__trace")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def write(proto: Any, path: Path, inline_bytes: int = INLINE_BYTES) -> list[Path]:
    """Writes a model and checks it; weights stand in ``NAME.data`` beside it where one file would not do.

    Returns:
        the files written.
    """
    import onnx

    data = path.with_name(f"{path.name}.data")
    # Not the size of the whole, which protocol buffers cannot state of large models.
    large = sum(len(tensor.raw_data) for tensor in proto.graph.initializer) > inline_bytes
    onnx.save_model(
        proto, path, save_as_external_data=large, location=data.name if large else None, size_threshold=1024
    )
    onnx.checker.check_model(path)
    return [path, data] if large else [path]
