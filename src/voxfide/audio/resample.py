"""Sample-rate conversion: soxr, one anti-aliasing path for whole signals and for streams."""

from __future__ import annotations

import numpy as np

from voxfide.audio.info import RESAMPLER_QUALITY
from voxfide.errors import UsageError
from voxfide.types import Float32Array


def resampled_length(n_samples: int, source_rate: int, target_rate: int) -> int:
    """The length rule: ``n · target / source``, rounded half up. No tail is lost."""
    return (2 * n_samples * target_rate + source_rate) // (2 * source_rate)


class Resampler:
    """Resamples a mono signal piece by piece; the result does not depend on the pieces.

    The filter's delay is compensated: output sample ``k`` stands for the time
    ``k / target_rate``. Equal rates pass through untouched.
    """

    def __init__(self, source_rate: int, target_rate: int) -> None:
        self._stream = None
        if source_rate != target_rate:
            import soxr

            self._stream = soxr.ResampleStream(
                source_rate, target_rate, 1, dtype="float32", quality=RESAMPLER_QUALITY
            )

    def push(self, piece: Float32Array) -> Float32Array:
        """The output that became complete by ``piece (samples,)``; may be empty."""
        return piece if self._stream is None else self._stream.resample_chunk(piece)

    def flush(self) -> Float32Array:
        """What the filter still holds; call once, at the end."""
        nothing = np.zeros(0, np.float32)
        return nothing if self._stream is None else self._stream.resample_chunk(nothing, last=True)


def resample(waveform: Float32Array, source_rate: int, target_rate: int) -> Float32Array:
    """Resamples a mono signal exactly as :func:`voxfide.audio.load_audio` does.

    Args:
        waveform: ``(samples,)`` real numbers.
        source_rate: Hz.
        target_rate: Hz.

    Returns:
        ``(resampled_length(samples, source_rate, target_rate),)`` float32; linear phase,
        delay compensated.

    Raises:
        UsageError: ``waveform`` is not one-dimensional or a rate is not positive.
    """
    if np.ndim(waveform) != 1:
        raise UsageError(f"expected a waveform of shape (samples,), got {np.shape(waveform)}")
    if source_rate <= 0 or target_rate <= 0:
        raise UsageError(f"expected positive sample rates, got {source_rate} and {target_rate}")
    signal = np.ascontiguousarray(waveform, dtype=np.float32)
    if source_rate == target_rate:
        return signal.copy()
    resampler = Resampler(source_rate, target_rate)
    return np.concatenate([resampler.push(signal), resampler.flush()])
