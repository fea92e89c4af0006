"""From an ONNX file to a graph of OpenVINO."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Final

DYNAMIC_GROUP: Final = 128
"""Neighbours in a frame that are quantised together while the graph runs, where weights have 8 bits."""


def convert(onnx_path: Path, path: Path, eight_bits: bool = False, ignored: Sequence[str] = ()) -> list[Path]:
    """Writes the graph of an ONNX file for OpenVINO.

    Args:
        onnx_path: to read.
        path: ``NAME.xml`` to write; weights stand in ``NAME.bin`` beside it.
        eight_bits: weights in 8 bits, asymmetric, one scale and zero an output channel.
        ignored: names of nodes whose weights stay as they are.

    Returns:
        the files written.
    """
    import openvino

    model = openvino.convert_model(onnx_path)
    if eight_bits:
        import nncf  # type: ignore[import-untyped]

        nncf.set_log_level(logging.ERROR)
        with contextlib.redirect_stdout(io.StringIO()):  # tables and bars
            model = nncf.compress_weights(
                model,
                mode=nncf.CompressWeightsMode.INT8_ASYM,
                ignored_scope=nncf.IgnoredScope(names=list(ignored)),
            )
        # The runtime then quantises what is multiplied too; by groups of a frame, never across utterances.
        model.set_rt_info(str(DYNAMIC_GROUP), ["runtime_options", "DYNAMIC_QUANTIZATION_GROUP_SIZE"])
    openvino.save_model(model, path, compress_to_fp16=False)
    return [path, path.with_suffix(".bin")]
