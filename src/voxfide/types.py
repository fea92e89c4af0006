"""What every other module may rely on: vocabulary, polarity and array conventions.

**Polarity.** Bona fide is the positive class and a higher score means more bona
fide. Scores are natural-log likelihood ratios wherever a calibration exists.

**Arrays.** ``waveform (samples,)`` or ``(batch, samples)`` float32 at 16 kHz;
``hidden_states (batch, layers, frames, dim)``; ``lengths (batch,)``;
``scores (trials,)``. Layer 0 is the transformer's input, 1...L its blocks. Times
are in seconds unless a name says otherwise (``_ms``, ``_samples``, ``_percent``).
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

BONAFIDE: Final = "bonafide"
SPOOF: Final = "spoof"
UNKNOWN: Final = "unknown"
LABELS: Final = (BONAFIDE, SPOOF, UNKNOWN)

SAMPLE_RATE: Final = 16_000
"""Hz; the one rate at which voxfide processes audio."""

FloatArray = NDArray[np.floating]
Float32Array = NDArray[np.float32]
Float64Array = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]

PathLike = str | Path
Seconds = float
