"""Detectors at half their size: weights rounded to half precision, and then stored as such."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from voxfide.backends import restore_backend
from voxfide.detector import Detector
from voxfide.errors import UsageError
from voxfide.frontends import restore_frontend


def shrink(detector: Detector) -> Detector:
    """The detector with every matrix rounded to the nearest number of half precision (IEEE 754 binary16).

    Vectors (norms, offsets) stay as they are: they are small, and rounding them costs most. Files
    hold numbers that half precision can hold in 16 bits, so that the folder comes out at half the size or
    less; in memory they are float32 as before. A calibration is left out: it belongs to the scores
    before.

    Raises:
        UsageError: a weight beyond the range of half precision.
    """
    frontend = restore_frontend(detector.frontend.name, detector.frontend.kind, detector.frontend.settings())
    state = {name: _rounded(name, tensor) for name, tensor in detector.frontend.state_dict().items()}
    frontend.load_state_dict(state)
    numbers = {
        name: _rounded(name, torch.from_numpy(np.array(array))).numpy()
        for name, array in detector.backend.tensors().items()
    }
    backend = restore_backend(detector.backend.name, detector.backend.config(), numbers)
    return replace(detector.uncalibrated(), frontend=frontend.to(detector.frontend.device), backend=backend)


def _rounded(name: str, tensor: torch.Tensor) -> torch.Tensor:
    if not tensor.is_floating_point() or tensor.ndim < 2:
        return tensor
    rounded = tensor.detach().half()
    if not rounded.isfinite().all():
        raise UsageError(
            f"tensor {name}: values to {float(tensor.abs().max()):g} (half precision ends at 65,504)"
        )
    return rounded.float()
