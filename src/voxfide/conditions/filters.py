"""Small filters in NumPy, so that measuring a recording needs nothing heavier."""

from __future__ import annotations

import numpy as np

from voxfide.types import Float64Array


def hann(n: int) -> Float64Array:
    """Periodic Hann window ``(n,)``."""
    return 0.5 - 0.5 * np.cos(2 * np.pi / n * np.arange(n))


def smoothed(signal: Float64Array, pole: float, last: float) -> Float64Array:
    """``y[t] = pole · y[t - 1] + (1 - pole) · x[t]`` of ``(samples,)``, going on from ``y[-1] = last``.

    By recursive doubling: after k steps every sample holds the sum over the 2^k inputs up to it.
    """
    found = (1 - pole) * signal
    if not len(found):
        return found
    found[0] += pole * last
    step, factor = 1, pole
    while step < len(found) and factor > 0:
        found[step:] += factor * found[:-step]
        step, factor = 2 * step, factor * factor
    return found


def running_mean(rows: Float64Array, width: int) -> Float64Array:
    """Mean over ``width`` neighbours, an odd number, along ``(rows, places)``; mirrored at the ends."""
    around = np.pad(rows, [(0, 0), (width // 2, width // 2)], mode="symmetric")
    return np.lib.stride_tricks.sliding_window_view(around, width, axis=1).mean(axis=2)
