"""Labels of stretches of an utterance: frame labels out of pickles, and written regions."""

from __future__ import annotations

import json
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, Final, cast

import numpy as np

from voxfide.errors import ManifestError
from voxfide.types import BONAFIDE, SPOOF, BoolArray, Seconds

_REGION: Final = re.compile(r"([0-9.]+)-([0-9.]+)-([TF])\Z")
_TEXT_KIND: Final = re.compile(r"[USO]\d*\Z")
_OBJECT_HEADER: Final = re.compile(
    r"\{'descr': '\|?O8?', 'fortran_order': (?:True|False), 'shape': \(\),? *\}\s*\Z"
)
_PICKLE_ERRORS: Final = (
    pickle.UnpicklingError, EOFError, ValueError, TypeError, AttributeError, LookupError, OverflowError,
    MemoryError, RecursionError, SystemError, ImportError,
)  # fmt: skip
_EXPECTED: Final = "expected a NumPy file with a dictionary of utterance to array of '0' and '1'"


def read_frame_labels(path: Path) -> dict[str, BoolArray]:
    """PartialSpoof's ``SET_seglab_RESOLUTION.npy``: for each utterance, which frames are bona fide.

    In the file, ``'0'`` stands for a frame with any spoofed sample and ``'1'`` for one that
    is bona fide throughout. It is a pickle, which could run anything: it is read by an unpickler
    that admits dictionaries, lists and NumPy arrays of text, and nothing else.

    Raises:
        ManifestError: anything else is in it.
    """
    try:
        with path.open("rb") as file:
            content = _load(file)
        if not isinstance(content, dict):
            raise ValueError(f"holds {type(content).__name__}")
        values = {name: v.values() if isinstance(v, _PickledArray) else v for name, v in content.items()}
    except _PICKLE_ERRORS as error:
        raise ManifestError(str(path), [f"{error or type(error).__name__} ({_EXPECTED})"]) from error
    labels, problems = {}, []
    for name, frames in values.items():
        text = frames if isinstance(frames, np.ndarray) else _as_text(frames)
        is_bonafide = text == "1"
        if isinstance(name, str) and bool((is_bonafide | (text == "0")).all()):
            labels[name] = is_bonafide
        else:
            problems.append(f"{name!r}: labels other than '0' and '1'")
    if problems:
        raise ManifestError(str(path), problems)
    return labels


def _as_text(frames: Any) -> np.ndarray:
    """A list of text as an array; anything else as one that holds no label."""
    is_text = isinstance(frames, list) and all(isinstance(frame, str) for frame in frames)
    return np.array(frames if is_text else ["?"], dtype=np.str_)


def regions_of_frames(is_bonafide: BoolArray, resolution: Seconds) -> str:
    """The ``segments`` cell of frame labels: runs of equal frames as ``[start, end, label]``.

    Args:
        is_bonafide: ``(frames,)``.
        resolution: of a frame; the last one may reach beyond the end of the audio.
    """
    turns = np.flatnonzero(np.diff(is_bonafide)) + 1
    starts = [0, *turns.tolist()]
    ends = [*turns.tolist(), len(is_bonafide)]
    return _to_json(
        [round(s * resolution, 6), round(e * resolution, 6), BONAFIDE if is_bonafide[s] else SPOOF]
        for s, e in zip(starts, ends, strict=True)
        if e > s
    )


def regions_of_text(text: str) -> str:
    """The ``segments`` cell of regions as HAD and ADD 2023 write them: ``0.00-1.62-T/1.62-2.48-F``.

    ``T`` is genuine, ``F`` fake. Regions of no length are left out.

    Raises:
        ValueError: says what is wrong with it.
    """
    regions = []
    for item in text.strip("/").split("/"):
        match = _REGION.match(item)
        if not match:
            raise ValueError(f"region {item!r} (expected START-END-T or START-END-F, in seconds)")
        start, end = float(match[1]), float(match[2])
        if start > end:
            raise ValueError(f"region {item!r} ends before it starts")
        if start < end:
            regions.append([start, end, BONAFIDE if match[3] == "T" else SPOOF])
    return _to_json(regions)


def has_spoof(segments: str) -> bool:
    """Whether a ``segments`` cell of this module names a spoofed region."""
    return f'"{SPOOF}"' in segments


def _to_json(regions: Any) -> str:
    return json.dumps(list(regions), separators=(",", ":"))


def _load(file: IO[bytes]) -> Any:
    """What ``numpy.save`` wrote of one Python object."""
    magic = file.read(8)
    if magic[:6] != b"\x93NUMPY" or magic[6:] not in (b"\x01\x00", b"\x02\x00"):
        raise ValueError("no NumPy file")
    length = int.from_bytes(file.read(2 if magic[6] == 1 else 4), "little")
    header = file.read(length).decode("latin-1")
    if not _OBJECT_HEADER.match(header):
        raise ValueError(f"holds no Python object but {header.strip()[:80]}")
    content = _TextUnpickler(file).load()
    if isinstance(content, _PickledArray) and content.shape == () and content.kind.is_object:
        return content.data[0]
    raise ValueError(f"holds {type(content).__name__}")


class _PickledKind:
    """Stands for ``numpy.dtype``: a real one would let a pickle declare bytes to be pointers."""

    __slots__ = ("code", "order")

    def __init__(self, code: str, *flags: object) -> None:
        if not _TEXT_KIND.match(code):
            raise pickle.UnpicklingError(f"an array of {code!r}, not of text")
        self.code = code
        self.order = "="

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, order, *structure = state[:5]
        if order not in "<>=|" or any(part is not None for part in structure):
            raise pickle.UnpicklingError("an array of structures, not of text")
        self.order = order

    @property
    def is_object(self) -> bool:
        return self.code.startswith("O")


class _PickledArray:
    """Stands for ``numpy.ndarray``: keeps what the pickle says of it, for :meth:`values` to check."""

    __slots__ = ("data", "kind", "shape")

    shape: tuple[int, ...]
    kind: _PickledKind
    data: Any

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, self.shape, self.kind, _, self.data = state
        wanted = list if self.kind.is_object else bytes
        if not isinstance(self.shape, tuple) or not isinstance(self.data, wanted):
            raise pickle.UnpicklingError("an array in an unusual form")

    def values(self) -> np.ndarray | list[Any]:
        """Its elements, where it has one dimension."""
        values = self.data
        if not self.kind.is_object:
            values = np.frombuffer(self.data, np.dtype(self.kind.order + self.kind.code)).astype(np.str_)
        if self.shape != (len(values),):
            raise pickle.UnpicklingError(f"an array of shape {self.shape} with {len(values)} values")
        return cast("np.ndarray | list[Any]", values)


def _reconstruct(kind: object, shape: object, code: object) -> _PickledArray:
    """How a pickle begins an array; its state follows."""
    if kind is not _PickledArray:
        raise pickle.UnpicklingError("an array of another kind")
    return _PickledArray()


_ADMITTED: Final[Mapping[tuple[str, str], Any]] = {
    ("numpy", "ndarray"): _PickledArray,
    ("numpy", "dtype"): _PickledKind,
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
}


class _TextUnpickler(pickle.Unpickler):
    """Admits built-in containers and stand-ins for NumPy arrays of text; names nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ADMITTED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(
                f"names {module}.{name}, which no label file needs: refused"
            ) from None

    def persistent_load(self, pid: Any) -> Any:
        raise pickle.UnpicklingError("refers to something outside itself: refused")
