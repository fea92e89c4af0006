"""One augmented copy after another, made in worker processes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

import numpy as np

from voxfide.audio import load_audio
from voxfide.augment.base import Augmentation, Drawn
from voxfide.decoding import Decode, DecodePool
from voxfide.errors import AudioError
from voxfide.files import replacing
from voxfide.jobs import FileState
from voxfide.types import SAMPLE_RATE, Float32Array, Seconds

FORMS: Final = ("flac", "wav")
_FULL_SCALE: Final = 32767 / 32768


@dataclass(frozen=True)
class Task:
    """A copy that is to be made; all random decisions are taken.

    Attributes:
        source, target: audio files; the target's suffix says in which form.
        augmentation, drawn: what is done to it.
    """

    source: Path
    target: Path
    augmentation: Augmentation
    drawn: Drawn

    def __str__(self) -> str:
        return str(self.source)

    @property
    def applied(self) -> str:
        """In a word."""
        return self.augmentation.applied(self.drawn)

    def digest(self) -> str:
        """Of what is done, to which file."""
        facts = [str(self.source), self.target.name, self.augmentation.describe(), self.drawn]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


@dataclass(frozen=True)
class Copy:
    """A copy that was made.

    Attributes:
        source: the file it was made from.
        n_bytes: size of the copy.
        seconds: its duration.
        stretch: its duration over the original's; 1 unless the speed was changed.
        gain_db: by which it was scaled so as not to clip; 0 or less.
        task_digest: of the task.
    """

    source: FileState
    n_bytes: int
    seconds: Seconds
    stretch: float
    gain_db: float
    task_digest: str


def make_copies(tasks: Sequence[Task], workers: int) -> Iterator[Copy | AudioError]:
    """Makes the copies, in order, in as many processes (0: in this one).

    Raises:
        OSError: a copy cannot be written; nor could the next.
    """
    # The pool hands on whatever it is given to work on, and whatever comes back.
    with DecodePool(workers, None, cast(Decode, make_copy)) as pool:
        for result in pool.decode(cast(Sequence[Path], tasks)):
            if isinstance(result, OSError):
                raise result
            yield cast(Copy | AudioError, result)


def make_copy(task: Task, _: float | None = None) -> Copy | AudioError | OSError:
    """Reads, augments and writes one utterance; errors come back in place of being raised."""
    try:
        state = FileState.of(task.source)
        waveform = load_audio(task.source).waveform
        augmented = task.augmentation.apply(waveform, SAMPLE_RATE, task.drawn)
    except AudioError as error:
        return error
    try:
        gain_db = write_copy(task.target, augmented)
        n_bytes = task.target.stat().st_size
    except OSError as error:
        return error
    seconds = len(augmented) / SAMPLE_RATE
    return Copy(state, n_bytes, seconds, len(augmented) / len(waveform), gain_db, task.digest())


def write_copy(path: Path, waveform: Float32Array) -> float:
    """Writes ``(samples,)`` at 16 kHz, by suffix, whole or not at all; returns the gain in dB.

    FLAC has 16 bits: what would clip is scaled down as a whole, so that its peak just fits. WAV has
    32-bit floating-point samples, as they are.

    Raises:
        OSError: it cannot be written.
    """
    import soundfile

    gain = 1.0
    samples: np.ndarray = waveform
    form, subtype = "WAV", "FLOAT"
    if path.suffix == ".flac":
        peak = float(np.abs(waveform).max())
        gain = min(1.0, _FULL_SCALE / peak) if peak else 1.0
        samples = np.rint(np.float64(waveform) * (gain * 32768)).astype(np.int16)
        form, subtype = "FLAC", "PCM_16"
    with replacing(path) as temporary:
        try:
            soundfile.write(temporary, samples, SAMPLE_RATE, format=form, subtype=subtype)
        except soundfile.LibsndfileError as error:
            raise OSError(f"{path}: cannot be written: {error.error_string}") from error
    return 20 * float(np.log10(gain))
