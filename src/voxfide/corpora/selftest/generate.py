"""Writes the corpus: every utterance from its own seed, in any order, in any number of processes."""

from __future__ import annotations

import csv
import io
import json
import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import soundfile as sf
from numpy.typing import NDArray

from voxfide.corpora.selftest.channel import record, transmit
from voxfide.corpora.selftest.speaker import Speaker, generator
from voxfide.corpora.selftest.synthesis import synthesise_utterance
from voxfide.errors import UsageError
from voxfide.files import write_atomic
from voxfide.resynthesis import ROUTES
from voxfide.types import BONAFIDE, SAMPLE_RATE, SPOOF

VERSION = 1
"""Raise with any change that alters a sample: corpora of two versions do not mix."""

ATTACKS = {
    "A01": "griffin_lim_mel",
    "A02": "lpc_pulse",
    "A03": "mdct_codec",
    "A04": "band_expand",
    "A05": "cepstral_vocoder",
    "A06": "phase_randomised",
    "A07": "sinusoidal",
    "A08": "psola",
}

SPLIT_ATTACKS = {
    "train": ("A01", "A02", "A03", "A04"),
    "dev": ("A01", "A02", "A05"),
    "eval": ("A03", "A04", "A06", "A07", "A08"),
}

SPLIT_SPEAKERS = {"train": 24, "dev": 12, "eval": 20}
MULAW_SHARE = 0.15
SHORTEST, LONGEST = 1.5, 3.0

MANIFEST = "manifest.csv"
STAMP = "selftest.json"
COLUMNS = (
    "utterance_id", "path", "label", "split", "attack", "system", "speaker", "language", "codec", "duration",
)  # fmt: skip


@dataclass(frozen=True)
class Utterance:
    """One planned file; a function of the seed and the place in the split, not of the corpus size."""

    utterance_id: str
    split: str
    attack: str
    speaker: str
    codec: str
    samples: int

    @property
    def path(self) -> str:
        """Relative to the corpus root."""
        return f"{self.split}/{self.utterance_id}.flac"

    def row(self) -> dict[str, str]:
        """The manifest row."""
        genuine = self.attack == "-"
        return {
            "utterance_id": self.utterance_id,
            "path": self.path,
            "label": BONAFIDE if genuine else SPOOF,
            "split": self.split,
            "attack": self.attack,
            "system": "-" if genuine else ATTACKS[self.attack],
            "speaker": self.speaker,
            "language": "zxx",
            "codec": self.codec,
            "duration": f"{self.samples / SAMPLE_RATE:.4f}",
        }


def plan(split: str, count: int, seed: int) -> Iterator[Utterance]:
    """The first ``count`` utterances of a split: half bona fide, the attacks in turn."""
    attacks = SPLIT_ATTACKS[split]
    for i in range(count):
        utterance_id = f"selftest_{split}_{i:05d}"
        rng = generator(seed, utterance_id, "plan")
        yield Utterance(
            utterance_id=utterance_id,
            split=split,
            attack=attacks[i // 2 % len(attacks)] if i % 2 else "-",
            speaker=f"{split}_s{rng.integers(SPLIT_SPEAKERS[split]):02d}",
            codec="mulaw" if rng.random() < MULAW_SHARE else "pcm",
            samples=int(rng.uniform(SHORTEST, LONGEST) * SAMPLE_RATE),
        )


@lru_cache(maxsize=64)
def _speaker(name: str, seed: int) -> Speaker:
    return Speaker.draw(name, generator(seed, "speaker", name))


def render(utterance: Utterance, seed: int) -> NDArray[np.int16]:
    """The samples of one utterance ``(samples,)``: speech, recording, attack if any, channel."""
    rng = generator(seed, utterance.utterance_id, "samples")
    dry = synthesise_utterance(_speaker(utterance.speaker, seed), rng, utterance.samples / SAMPLE_RATE)
    signal = record(dry, rng)
    if utterance.attack != "-":
        signal = ROUTES[ATTACKS[utterance.attack]].load()(signal, SAMPLE_RATE, rng)
    return transmit(signal, rng, utterance.codec)


def write_utterance(utterance: Utterance, root: Path, seed: int) -> None:
    """Renders to a FLAC file under ``root``, unless a complete one is there."""
    path = root / utterance.path
    if _is_complete(path, utterance.samples):
        return
    encoded = io.BytesIO()
    sf.write(encoded, render(utterance, seed), SAMPLE_RATE, format="FLAC", subtype="PCM_16")
    write_atomic(path, encoded.getvalue())


def _is_complete(path: Path, samples: int) -> bool:
    if not path.is_file():
        return False
    try:
        return bool(sf.info(path).frames == samples)
    except sf.LibsndfileError:
        return False


def generate_selftest(
    root: str | Path,
    *,
    n_train: int = 240,
    n_dev: int = 120,
    n_eval: int = 200,
    seed: int = 0,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Builds the corpus, or what is missing of it.

    On one machine, files are the same to the bit for the same seed, whatever ``workers`` is and however
    often the work was broken off. A larger corpus keeps the files of a smaller one. Worker processes
    are spawned: a script that calls this needs the usual ``if __name__ == "__main__"``.

    Args:
        root: folder to build in, made if it does not exist.
        n_train, n_dev, n_eval: utterances a split.
        seed: of everything, 0 or more.
        workers: processes; by default one a processor, at most 8; 1 works in this process.
        progress: called with utterances done and in all.

    Returns:
        The path of ``manifest.csv``, written last.

    Raises:
        UsageError: a negative count or seed, no workers, or a ``root`` that holds a corpus of
            another seed or version.
    """
    counts = {"train": n_train, "dev": n_dev, "eval": n_eval}
    if min(counts.values()) < 0 or seed < 0:
        raise UsageError(f"counts and seed must be 0 or more, got {counts}, seed {seed}")
    if workers is not None and workers < 1:
        raise UsageError(f"workers must be 1 or more, got {workers}")
    root = Path(root)
    utterances = [u for split, count in counts.items() for u in plan(split, count, seed)]
    _claim(root, seed)
    job = partial(write_utterance, root=root, seed=seed)
    processes = workers or min(8, os.cpu_count() or 1)
    for done, _ in enumerate(_run(job, utterances, processes), start=1):
        if progress:
            progress(done, len(utterances))
    manifest = root / MANIFEST
    table = io.StringIO(newline="")
    writer = csv.DictWriter(table, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(u.row() for u in utterances)
    write_atomic(manifest, table.getvalue())
    return manifest


def _run(job: Callable[[Utterance], None], utterances: list[Utterance], processes: int) -> Iterator[None]:
    """Does the job for each utterance, here or in spawned processes; yields as each is done."""
    if processes == 1 or len(utterances) < 2:
        yield from map(job, utterances)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context) as pool:
        try:
            for future in as_completed([pool.submit(job, u) for u in utterances]):
                yield future.result()
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _claim(root: Path, seed: int) -> None:
    """Marks the folder, before any audio, as the corpus of this seed and version."""
    stamp = root / STAMP
    own = {"corpus": "voxfide self-test", "version": VERSION, "seed": seed}
    if not stamp.exists():
        write_atomic(stamp, json.dumps(own, indent=2) + "\n")
        return
    try:
        found = json.loads(stamp.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError):
        found = "something unreadable"
    if found != own:
        raise UsageError(
            f"{stamp} says {found}, expected {own}: build into another folder, or empty this one"
        )
