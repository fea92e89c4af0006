"""``voxfide demo``: the whole line on a corpus that voxfide synthesises by itself.

It proves that an installation works and shows what each stage reads and writes. The
corpus is made of synthetic signals, so no figure from it says anything about speech.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voxfide.cli.evaluating import Evaluated, breakdown_table, evaluate_files, write_evaluation
from voxfide.cli.provenance import write_score_facts
from voxfide.manifest import Manifest
from voxfide.report.tables import Column, Table
from voxfide.types import BONAFIDE, SPOOF

if TYPE_CHECKING:
    from voxfide.detector import Detector

Say = Callable[[str], None]
MakeProgress = Callable[[str], AbstractContextManager[Any]]

NOTICE = (
    "This is a plumbing corpus: every signal in it was synthesised by voxfide. It shows that the\n"
    "installation works; its figures say nothing about real speech. For a real corpus: voxfide prepare."
)
TINY_SSL = {
    "model_type": "wavlm", "hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4,
    "intermediate_size": 128, "conv_dim": (64,) * 7, "num_conv_pos_embeddings": 32,
    "num_conv_pos_embedding_groups": 4, "num_buckets": 64, "max_bucket_distance": 160,
}  # fmt: skip
"""A WavLM of 0.2 million random weights: it shows the route that real checkpoints take."""


def run_demo(out: Path, seed: int, say: Say, progress: MakeProgress) -> Path:
    """Builds the corpus, trains two detectors, evaluates both, tries one on two files and the bundled on one.

    Args:
        out: folder for everything; a second run reuses what is there.
        seed: of corpus and random weights.
        say: prints a line of progress.
        progress: makes a progress bar for a title.

    Returns:
        The path of the report.
    """
    import voxfide.detector  # noqa: F401  an installation that cannot train is told so before any work

    say("1/6 corpus: synthesising speech-like signals and attacks on them")
    key = _corpus(out / "corpus", seed, progress)
    manifest = Manifest.read(key).require_valid(check_files=True)
    say("2/6 a small SSL checkpoint with random weights, in the form real ones have on disk")
    checkpoint = random_checkpoint(out / "tiny-wavlm-random", seed)

    done: dict[str, Evaluated] = {}
    detectors: dict[str, Detector] = {}
    for step, (name, frontend) in enumerate(
        {"lfcc": "lfcc", "tiny-wavlm-random": str(checkpoint)}.items(), 3
    ):
        say(f"{step}/6 {name}: embed, train, score, evaluate")
        detectors[name], scores = _train_and_score(out, name, frontend, manifest, progress)
        done[name] = evaluate_files(scores, key, ["system", "attack"], "eval", strict=True)
        write_evaluation(out / f"report-{name}", done[name], players=True)

    say("5/6 detect: one file of each class with the lfcc detector\n")
    print(_summary(done))
    print(breakdown_table_short(done["lfcc"]))
    _detect_one_of_each(manifest, detectors["lfcc"])
    say("\n6/6 the bundled detector on one of them, as `voxfide detect` tells it\n")
    page = _detect_with_the_bundled(manifest, out)
    print(f"\n{NOTICE}\n")
    report = out / "report-lfcc" / "report.html"
    print(f"report on the recording: {page}")
    print(f"report: {report}")
    return report


def _corpus(root: Path, seed: int, progress: MakeProgress) -> Path:
    from voxfide.corpora.selftest import generate_selftest

    with progress("synthesise") as bar:
        bar.start(0, 0)
        finished = 0

        def on_progress(n_done: int, n_total: int) -> None:
            nonlocal finished
            bar.total = n_total
            bar(n_done - finished, 0.0)
            finished = n_done

        return generate_selftest(root, seed=seed, progress=on_progress)


def random_checkpoint(folder: Path, seed: int) -> Path:
    """A small WavLM with random weights in the official on-disk form; kept if it is there."""
    import torch

    from voxfide.frontends.checkpoint import save_encoder
    from voxfide.frontends.ssl_config import SSLConfig
    from voxfide.frontends.ssl_model import SSLEncoder

    if not (folder / "config.json").exists():
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            save_encoder(SSLEncoder(SSLConfig.from_dict(TINY_SSL)), folder)
    return folder


def _train_and_score(
    out: Path, name: str, frontend_name: str, manifest: Manifest, progress: MakeProgress
) -> tuple[Detector, Path]:
    from voxfide.backends import create_backend
    from voxfide.detector import Detector
    from voxfide.extraction import Extractor
    from voxfide.frontends import create_frontend
    from voxfide.scoring import score_manifest
    from voxfide.training import choose_sets, train

    frontend = create_frontend(frontend_name)
    frontend.name = name
    with progress("  embed") as bar:
        result = train(
            choose_sets(manifest, "train", "dev"),
            frontend,
            create_backend("logistic", C=0.01, layer="all"),
            store=out / f"store-{name}",
            pool="mean_std",
            make_extractor=lambda: Extractor(frontend, "mean_std", progress=bar),
            on_start=bar.start,
        )
    folder = result.detector.save(out / f"detector-{name}")
    # From here on only what is on disk counts, as for anyone who was given the detector.
    detector = Detector.from_pretrained(folder)
    scores = out / f"scores-{name}.tsv"
    part = manifest.split("eval")
    with progress("  score") as bar:
        scored = score_manifest(
            detector,
            part,
            scores,
            make_extractor=lambda: Extractor(detector.frontend, detector.pool, progress=bar),
            on_start=bar.start,
        )
    write_score_facts(scores, detector, str(folder), part, "eval", scored)
    return detector, scores


def _summary(done: dict[str, Evaluated]) -> str:
    names = {"eer_percent": "EER %", "min_dcf": "min DCF", "cllr": "Cllr", "auc": "AUC"}
    columns = [Column("detector"), *(Column(k, v, spec=".3g", estimate=True) for k, v in names.items())]
    rows = [(name, *(e.evaluation.metrics[k] for k in names)) for name, e in done.items()]
    return Table(columns, rows).to_text()


def breakdown_table_short(done: Evaluated) -> str:
    """EER of each attack, worst first."""
    full = breakdown_table(done.evaluation, "system")
    kept = [i for i, c in enumerate(full.columns) if c.key in ("system", "n_spoof", "eer_percent")]
    return Table([full.columns[i] for i in kept], [[row[i] for i in kept] for row in full.rows]).to_text()


def _detect_one_of_each(manifest: Manifest, detector: Detector) -> None:
    part = manifest.split("eval")
    for label in (BONAFIDE, SPOOF):
        path = part.filter(label=label).audio_paths()[0]
        found = detector.detect(path)
        print(f"{path.name} ({label}): {found.verdict(detector.threshold)}, score {found.score:+.3f}")


def _detect_with_the_bundled(manifest: Manifest, out: Path) -> Path:
    """Prints what the bundled detector says of a spoofed file, and writes the report on it; its path."""
    from dataclasses import replace

    from voxfide.analysis.explain import explain
    from voxfide.analysis.recording import analyse, facts_of
    from voxfide.analysis.settings import AnalysisSettings
    from voxfide.cli.reading import told
    from voxfide.detectors import BUNDLED, load_detector
    from voxfide.report.recording import write_recording_report

    detector = load_detector(BUNDLED)
    path = manifest.split("eval").filter(label=SPOOF).audio_paths()[0]
    # Not every signal of the demo passes for speech: all of it is scored.
    settings = AnalysisSettings(min_speech=0.0)
    found = analyse(path, detector, settings, facts=facts_of(detector, BUNDLED))
    print(told(found))
    return write_recording_report(out / "recording.html", replace(found, why=explain(path, detector, found)))
