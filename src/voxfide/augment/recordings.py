"""Noise and impulse responses from files: a file or a folder of them, by name, loaded when needed."""

from __future__ import annotations

from collections import OrderedDict
from functools import cache
from pathlib import Path
from typing import Final

from voxfide.audio import load_audio
from voxfide.errors import UsageError
from voxfide.types import Float32Array

SUFFIXES: Final = (
    ".aac", ".aif", ".aiff", ".au", ".caf", ".flac", ".m4a", ".mp3", ".mp4", ".oga", ".ogg", ".opus", ".rf64",
    ".sph", ".w64", ".wav", ".webm",
)  # fmt: skip
_CACHE_BYTES: Final = 1 << 27


@cache
def list_recordings(source: Path) -> tuple[str, ...]:
    """Names of the recordings of a file or folder, relative to :func:`base_folder`, sorted.

    Raises:
        UsageError: nothing there, or no audio in it.
    """
    if source.is_file():
        return (source.name,)
    if not source.is_dir():
        raise UsageError(f"{source}: no such file or folder (expected audio, or a folder with audio in it)")
    found = (p for p in source.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    names = sorted(p.relative_to(source).as_posix() for p in found)
    if not names:
        raise UsageError(f"{source}: no audio in this folder (looked for {', '.join(SUFFIXES)})")
    return tuple(names)


def base_folder(source: Path) -> Path:
    """What the names of :func:`list_recordings` start from."""
    return source.parent if source.is_file() else source


_cache: OrderedDict[tuple[Path, int], Float32Array] = OrderedDict()


def load_recording(source: Path, name: str, sample_rate: int) -> Float32Array:
    """One recording, mono, ``(samples,)``; not to be changed. The last 128 MiB are kept.

    Raises:
        AudioError: it cannot be read, or is silent.
    """
    key = (base_folder(source) / name, sample_rate)
    if key in _cache:
        _cache.move_to_end(key)
        return _cache[key]
    samples = load_audio(key[0], sample_rate=sample_rate).waveform
    samples.setflags(write=False)
    _cache[key] = samples
    while len(_cache) > 1 and sum(s.nbytes for s in _cache.values()) > _CACHE_BYTES:
        _cache.popitem(last=False)
    return samples
