"""Exported detectors against torch: size, seconds, and how far their scores are, in one run.

    python benchmarks/export.py [--corpus FOLDER] [--detectors bundled wavlm wav2vec2] [--threads 1]

``bundled`` is the detector of the package; ``wavlm`` is WavLM base with the feed-forward back-end and
``wav2vec2`` wav2vec 2.0 base with AASIST, both of the real size with seeded random weights: their time and
size are those of trained ones, their error rate would mean nothing. Each is exported to ONNX and OpenVINO, in
single precision and in 8 bits, and scored as a user would, by ``score_waveforms``, on synthesised voices of
4 s, one at a time and eight at once.

With ``--corpus``, a folder with ``manifest.csv``, the equal error rate on split eval is taken of every form
of the bundled detector and of ``fitted``: logistic regression, fitted to split train, on a WavLM of 4 layers
of 256 whose weights are random. That is no good detector, but one whose scores say something.

Processor seconds of this process are counted, the best of the repeats, so that other load disturbs less.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PARSER = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
PARSER.add_argument("--corpus", type=Path, help="folder with manifest.csv, for equal error rates")
PARSER.add_argument("--detectors", nargs="+", default=["bundled", "wavlm", "wav2vec2"])
PARSER.add_argument("--threads", type=int, default=1)
PARSER.add_argument("--repeats", type=int, default=3)
ARGUMENTS = PARSER.parse_args()
os.environ["OMP_NUM_THREADS"] = str(ARGUMENTS.threads)  # before anything starts threads

import numpy as np  # noqa: E402
import torch  # noqa: E402

from voxfide.audio import load_audio  # noqa: E402
from voxfide.backends import create_backend  # noqa: E402
from voxfide.corpora.selftest.generate import synthesise_utterance  # noqa: E402
from voxfide.corpora.selftest.speaker import Speaker  # noqa: E402
from voxfide.crops import WHOLE, Crop  # noqa: E402
from voxfide.detector import Detector  # noqa: E402
from voxfide.detectors import load_detector  # noqa: E402
from voxfide.exporting.export import export_detector  # noqa: E402
from voxfide.features import pooled_features  # noqa: E402
from voxfide.frontends.ssl import SSLFrontend  # noqa: E402
from voxfide.frontends.ssl_config import SSLConfig  # noqa: E402
from voxfide.frontends.ssl_model import SSLEncoder  # noqa: E402
from voxfide.manifest import Manifest  # noqa: E402
from voxfide.metrics.eer import eer_percent  # noqa: E402
from voxfide.types import BONAFIDE  # noqa: E402

SECONDS = 4.0
FORMS = (("onnx", False), ("onnx", True), ("openvino", False), ("openvino", True))


def random_ssl(family: str, **sizes: Any) -> SSLFrontend:
    torch.manual_seed(0)
    config = SSLConfig.from_dict({"model_type": family, "do_normalize": family != "wavlm", **sizes})
    return SSLFrontend(SSLEncoder(config).eval().requires_grad_(False), f"{family}, random")


def of_real_size(family: str, backend: str) -> Detector:
    """A base model with random weights and a head on all of its layers."""
    frontend = random_ssl(family)
    head: Any = create_backend(backend)
    head.build(frontend.n_layers, frontend.dim)
    head.head.eval()
    return Detector(frontend, head, "none", crop=WHOLE if backend == "ffn" else Crop())


def fitted(corpus: Path) -> Detector:
    """Logistic regression on a small front-end of random weights, fitted to split train."""
    sizes = {"hidden_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 1024}
    frontend = random_ssl("wavlm", **sizes)
    waveforms, is_bonafide = split(corpus, "train")
    features = pooled_features(frontend, waveforms, "mean")
    return Detector(frontend, create_backend("logistic", C=1.0, layer="all").fit(features, is_bonafide))


def split(corpus: Path, name: str) -> tuple[list[np.ndarray], np.ndarray]:
    """Waveforms and classes."""
    part = Manifest.read(corpus / "manifest.csv").split(name)
    return [load_audio(path).waveform for path in part.audio_paths()], part.strings("label") == BONAFIDE


def make(name: str) -> Detector:
    if name == "fitted":
        return fitted(ARGUMENTS.corpus)
    if name == "wavlm":
        return of_real_size("wavlm", "ffn")
    if name == "wav2vec2":
        return of_real_size("wav2vec2", "aasist")
    found = load_detector(name)
    if not isinstance(found, Detector):
        raise SystemExit(f"{name}: expected a detector of one front-end and one back-end")
    return found


def megabytes(folder: Path) -> float:
    """Of weights and graphs, without the network that finds speech."""
    names = [p for p in folder.iterdir() if p.suffix not in (".json", ".md") and p.stem != "speech"]
    return sum(p.stat().st_size for p in names) / 1e6


def voices(n: int) -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    made = [synthesise_utterance(Speaker.draw(f"s{i}", rng), rng, SECONDS) for i in range(n)]
    return [np.asarray(wave, np.float32) for wave in made]


def seconds(detector: Any, waveforms: list[np.ndarray]) -> float:
    """Processor seconds an utterance."""
    detector.score_waveforms(waveforms)
    taken = []
    for _ in range(ARGUMENTS.repeats):
        started = time.process_time()
        detector.score_waveforms(waveforms)
        taken.append((time.process_time() - started) / len(waveforms))
    return min(taken)


def forms(detector: Detector, folder: Path) -> Iterator[tuple[str, Any, float]]:
    """Names of the forms, what scores, and megabytes."""
    detector.save(folder / "torch")
    yield "torch", detector, megabytes(folder / "torch")
    for runtime, int8 in FORMS:
        name = f"{runtime}{' int8' if int8 else ''}"
        export_detector(detector, folder / name, runtime, int8=int8)
        yield name, load_detector(folder / name), megabytes(folder / name)


def main() -> None:
    torch.set_num_threads(ARGUMENTS.threads)
    print(f"{ARGUMENTS.threads} thread(s), utterances of {SECONDS:g} s, processor seconds an utterance")
    print(
        f"{'detector':10} {'form':14} {'MB':>7} {'smaller':>8} {'alone, s':>9} {'x torch':>8} "
        f"{'of 8, s':>9} {'x torch':>8} {'differs by':>11} {'EER %':>6}"
    )
    clips: list[np.ndarray] = []
    is_bonafide = np.zeros(0, bool)
    names = list(ARGUMENTS.detectors)
    if ARGUMENTS.corpus:
        clips, is_bonafide = split(ARGUMENTS.corpus, "eval")
        names.append("fitted")
    for name in names:
        measured = bool(clips) and name not in ("wavlm", "wav2vec2")
        signals = [*voices(8), *(clips if measured else [])]
        expected: Any = None
        base: tuple[float, float, float] | None = None
        with tempfile.TemporaryDirectory() as folder:
            for form, scorer, size in forms(make(name), Path(folder)):
                one, eight = seconds(scorer, voices(1)), seconds(scorer, voices(8))
                scores = scorer.score_waveforms(signals)
                expected = scores if expected is None else expected
                base = base or (size, one, eight)
                rate = f"{eer_percent(scores[8:], is_bonafide):6.2f}" if measured else ""
                print(
                    f"{Path(name).name:10} {form:14} {size:7.1f} {base[0] / size:7.2f}x {one:9.4f} "
                    f"{base[1] / one:7.2f}x {eight:9.4f} {base[2] / eight:7.2f}x "
                    f"{np.abs(scores - expected).max():11.1e} {rate}",
                    flush=True,
                )


if __name__ == "__main__":
    sys.exit(main())
