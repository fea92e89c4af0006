"""Graphs opened in onnxruntime or OpenVINO: named arrays in, named arrays out."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from voxfide.cores import usable_cores
from voxfide.errors import CheckpointError, MissingDependencyError

Arrays = Mapping[str, np.ndarray]


class Session(Protocol):
    """An opened graph; may be run from several threads at a time."""

    @property
    def outputs(self) -> frozenset[str]:
        """Names of what it computes."""

    def run(self, inputs: Arrays) -> dict[str, np.ndarray]:
        """All outputs for these inputs, by name."""


def threads_wanted() -> int:
    """As many as ``OMP_NUM_THREADS`` states, as for torch; else one for each core this process may use."""
    stated = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return int(stated) if stated.isdecimal() and int(stated) else usable_cores()


@cache
def _has_vnni() -> bool:
    """Whether the processor is known to have VNNI, by which it multiplies and adds 8-bit numbers exactly."""
    try:
        return "_vnni" in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False


class OnnxSession:
    """A graph in onnxruntime, on the CPU.

    Raises:
        MissingDependencyError: onnxruntime is not installed.
        CheckpointError: the file cannot be opened as a graph.
    """

    def __init__(self, path: Path, threads: int) -> None:
        try:
            import onnxruntime
        except ModuleNotFoundError as error:
            raise MissingDependencyError(
                f"{path.parent}: running this detector needs onnxruntime (pip install 'voxfide[runtime]')"
            ) from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3  # errors only: its warnings are about its own optimisations
        # Threads that wait by spinning would take the cores from the decoders of audio.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if not _has_vnni():
            # Sums of 8-bit products would saturate; this takes a slower way.
            options.add_session_config_entry("session.x64quantprecision", "1")
        try:
            self._session = onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime has a class of its own for every kind of fault
            raise _unusable(path, error) from error
        self.outputs = frozenset(output.name for output in self._session.get_outputs())
        self._names = [output.name for output in self._session.get_outputs()]

    def run(self, inputs: Arrays) -> dict[str, np.ndarray]:
        return dict(zip(self._names, self._session.run(self._names, dict(inputs)), strict=True))


class OpenVinoSession:
    """A graph in OpenVINO, on the CPU, computed in float32.

    Raises:
        MissingDependencyError: openvino is not installed.
        CheckpointError: the files cannot be opened as a graph.
    """

    def __init__(self, path: Path, threads: int) -> None:
        try:
            import openvino
        except ModuleNotFoundError as error:
            raise MissingDependencyError(
                f"{path.parent}: running this detector needs OpenVINO "
                "(pip install 'voxfide[runtime-openvino]')"
            ) from error
        settings = {
            "INFERENCE_PRECISION_HINT": "f32",  # where the processor has bfloat16, OpenVINO would take it
            "INFERENCE_NUM_THREADS": threads,
            "PERFORMANCE_HINT": "LATENCY",
            # Kernels made ready for every shape that was met would fill gigabytes after some hundred lengths.
            "CPU_RUNTIME_CACHE_CAPACITY": 0,
            "ENABLE_CPU_PINNING": False,  # several workers on one machine would share the first cores
        }
        try:
            core = openvino.Core()
            self._compiled: Any = core.compile_model(core.read_model(path), "CPU", settings)
        except Exception as error:  # a RuntimeError as a rule
            raise _unusable(path, error) from error
        self._places = {name: i for i, port in enumerate(self._compiled.outputs) for name in port.names}
        self.outputs = frozenset(self._places)
        self._requests = threading.local()

    def run(self, inputs: Arrays) -> dict[str, np.ndarray]:
        # A request holds the arrays of one run, so that every thread needs its own.
        request = getattr(self._requests, "request", None)
        if request is None:
            request = self._requests.request = self._compiled.create_infer_request()
        request.infer(dict(inputs))
        return {name: request.get_output_tensor(i).data.copy() for name, i in self._places.items()}


def _unusable(path: Path, error: Exception) -> CheckpointError:
    why = str(error).strip().splitlines()
    return CheckpointError(
        f"{path}: cannot be opened as a graph ({why[-1] if why else type(error).__name__})"
    )


@dataclass
class Graph:
    """A graph's file, opened when it is first run; may be pickled, and is then opened anew.

    Attributes:
        path: of the ``.onnx`` or ``.xml`` file.
        threads: that compute a run; None: :func:`threads_wanted`.

    Raises:
        MissingDependencyError, CheckpointError: when first run; see the sessions.
    """

    path: Path
    threads: int | None = None
    _session: Session | None = field(default=None, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @property
    def session(self) -> Session:
        """Opened."""
        with self._lock:
            if self._session is None:
                kind = OpenVinoSession if self.path.suffix == ".xml" else OnnxSession
                self._session = kind(self.path, self.threads or threads_wanted())
            return self._session

    def run(self, inputs: Arrays) -> dict[str, np.ndarray]:
        """All outputs for these inputs, by name."""
        return self.session.run(inputs)

    def __reduce__(self) -> tuple[type[Graph], tuple[Path, int | None]]:
        return type(self), (self.path, self.threads)
