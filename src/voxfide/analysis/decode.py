"""Decoding for an analysis, in worker processes: nothing here imports torch."""

from __future__ import annotations

from pathlib import Path

from voxfide.audio import Audio, load_audio
from voxfide.errors import AudioError


def decode_leniently(path: Path, max_duration: float | None) -> Audio | AudioError:
    """The recording, also where it is silent or breaks off, or the error that stands for it."""
    try:
        return load_audio(path, max_duration=max_duration, allow_silent=True, allow_truncated=True)
    except AudioError as error:
        return error
