"""How well ``detect`` finds a spoofed stretch within genuine speech, on splices that this script makes.

    python benchmarks/splices.py --corpus MANIFEST [--split eval] [--count 60] [--detector bundled] [--fine 1]

A splice is clips of one source (column ``source_repo``, else ``speaker``), five to seven seconds, then clips
of one spoofing system, four to six seconds, then genuine clips again. Segment EER counts segments of 0.25 s
by the mean of the windows that cover them; a spoofed stretch counts as found where a marked one overlaps half
of it or more, and a boundary error is the distance from a true end of a found stretch to the marked one's.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import defaultdict
from pathlib import Path

import numpy as np
import soundfile as sf

from voxfide.analysis.joining import cells
from voxfide.analysis.recording import analyse
from voxfide.analysis.settings import AnalysisSettings
from voxfide.audio import load_audio
from voxfide.detectors import load_detector
from voxfide.manifest import Manifest
from voxfide.metrics.localisation import ScoredUtterance, Span, segment_eer
from voxfide.types import BONAFIDE, SAMPLE_RATE, SPOOF, Float32Array

STEP = 0.25


def clips_by(manifest: Manifest, label: str, column: str) -> dict[str, list[Path]]:
    """Audio files of a class, by the values of a column."""
    groups: dict[str, list[Path]] = defaultdict(list)
    cells_of = zip(manifest.audio_paths(), manifest.strings("label"), manifest.strings(column), strict=True)
    for path, of_class, value in cells_of:
        if of_class == label and not value.startswith("partial"):
            groups[value].append(path)
    return groups


def run_of(paths: list[Path], seconds: float, rng: np.random.Generator) -> Float32Array:
    """Clips in random order, one after another, until they are as long."""
    parts: list[Float32Array] = []
    for number in rng.permutation(len(paths)).tolist() * 10:
        parts.append(load_audio(paths[number]).waveform)
        if sum(map(len, parts)) >= seconds * SAMPLE_RATE:
            break
    return np.concatenate(parts)[: round(seconds * SAMPLE_RATE)]


def splice(manifest: Manifest, rng: np.random.Generator) -> tuple[Float32Array, list[Span]]:
    """A genuine recording with a spoofed stretch in it, and the truth."""
    column = "source_repo" if "source_repo" in manifest.columns else "speaker"
    genuine = {k: v for k, v in clips_by(manifest, BONAFIDE, column).items() if len(v) >= 6}
    spoofs = clips_by(manifest, SPOOF, "system")
    source = genuine[str(rng.choice(sorted(genuine)))]
    system = spoofs[str(rng.choice(sorted(spoofs)))]
    parts = [
        run_of(source, rng.uniform(5, 7), rng),
        run_of(system, rng.uniform(4, 6), rng),
        run_of(source, rng.uniform(5, 7), rng),
    ]
    ends = np.cumsum([len(part) for part in parts]) / SAMPLE_RATE
    spans: list[Span] = [
        (0.0, ends[0], BONAFIDE), (ends[0], ends[1], SPOOF), (ends[1], ends[2], BONAFIDE),
    ]  # fmt: skip
    return np.concatenate(parts), spans


def timeline(found: list[tuple[float, float, float]], seconds: float) -> np.ndarray:
    """Scores of segments of :data:`STEP`; what no window covers gets the mean."""
    centres = np.arange(STEP / 2, seconds, STEP)
    scores = np.full(len(centres), np.nan)
    for start, end, score in found:
        scores[(centres >= start) & (centres < end)] = score
    return np.where(np.isnan(scores), np.nanmean(scores), scores)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--corpus", type=Path, required=True, help="manifest with labels, systems and splits")
    parser.add_argument("--split", default="eval")
    parser.add_argument("--count", type=int, default=60)
    parser.add_argument("--detector", default="bundled")
    parser.add_argument("--window", type=float, default=4.0)
    parser.add_argument("--hop", type=float, default=2.0)
    parser.add_argument("--fine", type=float, default=None)
    arguments = parser.parse_args()
    manifest = Manifest.read(arguments.corpus).split(arguments.split)
    detector = load_detector(arguments.detector)
    settings = AnalysisSettings(arguments.window, arguments.hop, fine_window=arguments.fine)
    rng = np.random.default_rng(0)
    scored, errors, n_found, n_false = [], [], 0, 0
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(arguments.count):
            waveform, spans = splice(manifest, rng)
            path = Path(folder) / "splice.flac"
            sf.write(path, waveform, SAMPLE_RATE)
            analysis = analyse(path, detector, settings)
            seconds = len(waveform) / SAMPLE_RATE
            scores = timeline([tuple(cell) for cell in cells(analysis.windows)], seconds)
            scored.append(ScoredUtterance(scores, STEP, spans))
            start, end, _ = spans[1]
            hits = [
                s for s in analysis.stretches if min(s.end, end) - max(s.start, start) >= (end - start) / 2
            ]
            n_found += bool(hits)
            n_false += sum(s.end <= start or s.start >= end for s in analysis.stretches)
            errors += [abs(hit.start - start) for hit in hits[:1]] + [abs(hit.end - end) for hit in hits[:1]]
    print(f"{arguments.count} splices of split {arguments.split}, windows of {arguments.window:g} s")
    print(f"segment EER at {STEP} s: {100 * segment_eer(scored, STEP).value:.1f} %")
    print(f"spoofed stretches found: {n_found}; stretches marked in genuine speech: {n_false}")
    print(f"median boundary error: {np.median(errors):.2f} s" if errors else "no boundary to measure")


if __name__ == "__main__":
    main()
