"""PCM to FLAC, where that changes no sample."""

from __future__ import annotations

import io
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import numpy as np

from voxfide.audio.decode import open_decoder
from voxfide.audio.sniff import sniff
from voxfide.audio.source import open_source
from voxfide.audio.structure import missing_part
from voxfide.errors import AudioError
from voxfide.types import Float32Array

MAX_BYTES: Final = 64 << 20
"""Of a file that is re-encoded: it is held in memory, twice. Half an hour of 16 kHz, 16 bit."""

_CONTAINERS: Final = frozenset({"wav", "rf64", "w64", "aiff", "au", "caf", "nist"})
_SUBTYPES: Final = ("PCM_16", "PCM_24")
_MAX_CHANNELS: Final = 8


def as_flac(path: Path, max_duration: float | None = None) -> bytes | AudioError | None:
    """The recording as FLAC, if that is smaller and decodes to the same samples; else ``None``.

    Only the samples are kept: other chunks of the file, such as cue points, are not. A damaged file, or
    one of another codec than 16- or 24-bit PCM, gives ``None``; one that cannot be opened its error.

    Args:
        max_duration: not used; by it this is a function that a pool of decoders takes.
    """
    import soundfile

    try:
        with ExitStack() as closing:
            _, file = open_source(path, closing)
            if file.size > MAX_BYTES:
                return None
            found = sniff(file)
            if found.container not in _CONTAINERS or missing_part(file, found) is not None:
                return None
            data = file.at(0, file.size)
            file.check()
    except AudioError as error:
        return error
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as sound:
            if sound.subtype not in _SUBTYPES or sound.channels > _MAX_CHANNELS:
                return None
            samples = sound.read(dtype="int32", always_2d=True)
            made = io.BytesIO()
            soundfile.write(made, samples, sound.samplerate, format="FLAC", subtype=sound.subtype)
        flac = made.getvalue()
        same = len(flac) < len(data) and _same(data, flac)
    except (soundfile.LibsndfileError, AudioError, ValueError):
        return None
    return flac if same else None


def _same(one: bytes, other: bytes) -> bool:
    """Whether both decode to the same rate, channels and samples, as every command decodes them."""
    (rate, first), (other_rate, second) = _decoded(one), _decoded(other)
    return rate == other_rate and first.shape == second.shape and bool(np.array_equal(first, second))


def _decoded(data: bytes) -> tuple[int, Float32Array]:
    with ExitStack() as closing:
        label, file = open_source(data, closing)
        decoder = open_decoder(file, label, sniff(file), None)
        closing.callback(decoder.close)
        return decoder.sample_rate, np.concatenate([*decoder.blocks()])
