"""Damages audio files by the thousand and loads them; run by ``test_audio_fuzz.py``.

Runs as a process of its own, so that a crash or a hang of a decoder ends this process and
not the tests. Each mutation is named before it is loaded: the last line of the log tells
which one it was. ``python audio_fuzz.py LOG PER_KIND SEED``.
"""

from __future__ import annotations

import collections
import faulthandler
import json
import resource
import sys
from pathlib import Path

import numpy as np

from audio_fixtures import FFMPEG_KINDS, SOUNDFILE_KINDS, speechlike, write, write_ffmpeg
from voxfide.audio import load_audio
from voxfide.errors import AudioError

SECONDS_PER_FILE = 10
MEMORY_LIMIT = 4 << 30
EDGES = (0, 1, 0x7F, 0x80, 0xFF)


def flip_bits(data: bytearray, rng: np.random.Generator) -> bytearray:
    for at in rng.integers(0, len(data), rng.integers(1, 20)):
        data[at] ^= 1 << int(rng.integers(8))
    return data


def flip_header_bits(data: bytearray, rng: np.random.Generator) -> bytearray:
    for at in rng.integers(0, min(len(data), 128), rng.integers(1, 6)):
        data[at] ^= 1 << int(rng.integers(8))
    return data


def set_header_field(data: bytearray, rng: np.random.Generator) -> bytearray:
    """Overwrites 1, 2, 4 or 8 bytes near the start or the end with an edge value."""
    width = int(rng.choice([1, 2, 4, 8]))
    at = int(rng.integers(0, max(1, min(len(data) - width, 512))))
    if rng.random() < 0.3:
        at = max(0, len(data) - width - at)
    value = [int(rng.choice(EDGES))] * width if rng.random() < 0.7 else list(rng.bytes(width))
    data[at : at + width] = bytes(value)
    return data


def truncate(data: bytearray, rng: np.random.Generator) -> bytearray:
    return data[: int(rng.integers(0, len(data)))]


def behead(data: bytearray, rng: np.random.Generator) -> bytearray:
    return data[int(rng.integers(1, len(data))) :]


def cut_out(data: bytearray, rng: np.random.Generator) -> bytearray:
    first, last = sorted(int(at) for at in rng.integers(0, len(data), 2))
    return data[:first] + data[last:]


def repeat(data: bytearray, rng: np.random.Generator) -> bytearray:
    first, last = sorted(int(at) for at in rng.integers(0, len(data), 2))
    return data[:last] + data[first:last] * int(rng.integers(1, 4)) + data[last:]


def insert_noise(data: bytearray, rng: np.random.Generator) -> bytearray:
    at = int(rng.integers(0, len(data)))
    return data[:at] + rng.bytes(int(rng.integers(1, 3000))) + data[at:]


def overwrite(data: bytearray, rng: np.random.Generator) -> bytearray:
    at, n = int(rng.integers(0, len(data))), int(rng.integers(1, 3000))
    data[at : at + n] = rng.bytes(n) if rng.random() < 0.5 else bytes(n)
    return data


def splice(data: bytearray, rng: np.random.Generator, other: bytes) -> bytearray:
    return data[: int(rng.integers(1, len(data)))] + other[int(rng.integers(0, len(other))) :]


MUTATIONS = (
    flip_bits,
    flip_header_bits,
    set_header_field,
    set_header_field,
    truncate,
    behead,
    cut_out,
    repeat,
    insert_noise,
    overwrite,
    splice,
)


def seed_files() -> dict[str, bytes]:
    """One short file of each kind."""
    files = {}
    for kind in (*SOUNDFILE_KINDS, *FFMPEG_KINDS):
        rate = 8000 if kind == "amr" else 16000
        channels = 2 if kind in ("wav-s16", "flac-s16", "vorbis", "m4a") else 1
        files[kind] = write(kind, speechlike(rate, 0.4, channels), rate)
    signal = speechlike(16000, 0.4)
    fragmented = {"movflags": "frag_keyframe+empty_moov"}
    files["mp4-fragmented"] = write_ffmpeg(signal, 16000, "mp4", "aac", options=fragmented)
    files["mp4-fast"] = write_ffmpeg(signal, 16000, "mp4", "aac", options={"movflags": "faststart"})
    files["mp4-video"] = write_ffmpeg(signal, 16000, "mp4", "aac", video=True)
    files["mkv-video"] = write_ffmpeg(signal, 16000, "matroska", "aac", video=True)
    return files


def mutated(files: dict[str, bytes], kind: str, number: int, seed: int) -> tuple[str, bytes]:
    """The name and the bytes of one mutation; the same for the same arguments."""
    rng = np.random.default_rng([seed, sorted(files).index(kind), number])
    names, data = [], bytearray(files[kind])
    for _ in range(int(rng.integers(1, 4))):
        mutate = MUTATIONS[int(rng.integers(len(MUTATIONS)))]
        names.append(mutate.__name__)
        if len(data) < 2:
            break
        if mutate is splice:
            data = splice(data, rng, files[sorted(files)[int(rng.integers(len(files)))]])
        else:
            data = bytearray(mutate(data, rng))
    return f"{kind} #{number} seed {seed}: {', '.join(names)}", bytes(data)


def main(log_path: str, per_kind: int, seed: int) -> None:
    files = seed_files()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT, MEMORY_LIMIT))
    outcomes: collections.Counter[str] = collections.Counter()
    on_disk = Path(f"{log_path}.audio")
    with Path(log_path).open("w") as log:
        for kind in files:
            for number in range(per_kind):
                name, data = mutated(files, kind, number, seed)
                log.write(name + "\n")
                log.flush()
                source = on_disk if number % 4 < 2 else data  # libsndfile reads paths by itself
                on_disk.write_bytes(data)
                faulthandler.dump_traceback_later(SECONDS_PER_FILE, exit=True)
                try:
                    audio = load_audio(source, max_duration=20.0, allow_truncated=number % 2 == 0)
                except AudioError as error:
                    outcomes[type(error).__name__] += 1
                else:
                    assert audio.waveform.dtype == np.float32
                    assert audio.info.n_samples == len(audio.waveform) > 0
                    assert np.isfinite(audio.waveform).all()
                    outcomes["Audio"] += 1
                faulthandler.cancel_dump_traceback_later()
        log.write("done\n")
    print(json.dumps(outcomes))


if __name__ == "__main__":
    faulthandler.enable()
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
