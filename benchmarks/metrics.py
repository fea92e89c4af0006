"""Times the metrics, score files and the full evaluation on synthetic trials.

    python benchmarks/metrics.py [--trials 700000] [--bootstrap 1000]

The comparison is scikit-learn's ``roc_curve``, which is where most EER code starts.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from voxfide.evaluation import Key, align, compare, evaluate
from voxfide.evaluation.protocols import run_protocol
from voxfide.metrics import (
    ThreeClasses,
    auc,
    cllr,
    concurrent_teer,
    delong_test,
    eer,
    min_adcf,
    min_cllr,
    min_dcf,
    min_tdcf,
)
from voxfide.scores import read_scores, write_scores

N_ATTACKS = 16
N_CODECS = 12


def _best(run: Callable[[], Any], repeats: int = 5) -> float:
    """Seconds of the fastest of several runs, the one least disturbed by others."""
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def _synthetic_trials(n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Ids, scores, labels and attacks with the class shares of ASVspoof 5's evaluation set."""
    rng = np.random.default_rng(0)
    is_bonafide = rng.random(n) < 0.2
    attack = rng.integers(N_ATTACKS, size=n)
    scores = 2 * rng.normal(size=n) + np.where(is_bonafide, 3, 0.2 * attack - 4.5)
    ids = np.array([f"E_{i:010d}" for i in range(n)], dtype=object)
    names = np.array([f"A{i + 17}" for i in range(N_ATTACKS)], dtype=object)[attack]
    names[is_bonafide] = "bonafide"
    return ids, scores, is_bonafide, names


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=700_000)
    parser.add_argument("--bootstrap", type=int, default=1000)
    args = parser.parse_args()
    ids, scores, is_bonafide, attack = _synthetic_trials(args.trials)
    print(f"{args.trials:,} trials, {is_bonafide.sum():,} bona fide, {N_ATTACKS} attacks")

    three = _best(lambda: (eer(scores, is_bonafide), min_dcf(scores, is_bonafide), cllr(scores, is_bonafide)))
    print(f"EER + minDCF + Cllr               {three:8.3f} s")
    for name, function in (
        ("EER", eer),
        ("minDCF", min_dcf),
        ("Cllr", cllr),
        ("min Cllr", min_cllr),
        ("AUC", auc),
        ("min t-DCF", min_tdcf),
    ):
        print(f"  {name:<31} {_best(lambda f=function: f(scores, is_bonafide)):8.3f} s")
    _compare_with_scikit_learn(three, scores, is_bonafide)
    noisy = scores + np.random.default_rng(1).normal(size=len(scores))
    delong = _best(lambda: delong_test(scores, noisy, is_bonafide), 2)
    print(f"DeLong's test                     {delong:8.3f} s")
    _tandem(scores, noisy, is_bonafide)

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scores.tsv"
        print(f"write score file                  {_best(lambda: write_scores(path, ids, scores), 2):8.3f} s")
        print(f"read score file                   {_best(lambda: read_scores(path), 2):8.3f} s")
        table = read_scores(path)
    codec = np.array([f"C{i:02d}" for i in range(N_CODECS)], dtype=object)[np.arange(len(ids)) % N_CODECS]
    label = np.where(is_bonafide, "bonafide", "spoof").astype(object)
    key = Key(ids, label, {"attack": attack, "codec": codec})
    print(f"align with the key                {_best(lambda: align(table, key), 2):8.3f} s")
    trials = align(table, key)
    plain = _best(lambda: evaluate(trials, ["attack"], n_bootstrap=0), 2)
    print(f"evaluate by attack, no bootstrap  {plain:8.3f} s")
    full = _best(lambda: evaluate(trials, ["attack"], n_bootstrap=args.bootstrap), 1)
    print(f"evaluate by attack, {args.bootstrap:>5} samples {full:8.3f} s")
    pairs = _best(lambda: evaluate(trials, ["attack,codec"], n_bootstrap=0), 1)
    print(f"evaluate by attack,codec, none    {pairs:8.3f} s")
    official = _best(lambda: run_protocol("asvspoof5", table, key), 1)
    print(f"official tables, attack x codec   {official:8.3f} s")
    systems = {"a": trials, "b": replace(trials, score=trials.score + noisy - scores)}
    both = _best(lambda: compare(systems, n_bootstrap=args.bootstrap), 1)
    print(f"compare two systems, {args.bootstrap:>5} samples {both:7.3f} s")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**30 if sys.platform == "darwin" else 2**20)
    print(f"peak memory                       {peak:8.2f} GiB")


def _tandem(asv: np.ndarray, cm: np.ndarray, is_bonafide: np.ndarray) -> None:
    """Half of the bona fide trials as targets, the others as zero-effort impostors."""
    kind = np.where(is_bonafide, np.where(np.arange(len(asv)) % 2, "target", "nontarget"), "spoof")
    verified = ThreeClasses.of(asv - 6 * (kind == "nontarget") + 4 * (kind == "spoof"), kind)
    countered = ThreeClasses.of(cm, kind)
    print(f"a-DCF                             {_best(lambda: min_adcf(verified), 2):8.3f} s")
    print(
        f"t-EER                             {_best(lambda: concurrent_teer(verified, countered), 1):8.3f} s"
    )


def _compare_with_scikit_learn(three: float, scores: np.ndarray, is_bonafide: np.ndarray) -> None:
    try:
        from sklearn.metrics import roc_curve
    except ImportError:
        print("scikit-learn is not installed: no comparison")
        return
    theirs = _best(lambda: roc_curve(is_bonafide, scores))
    ours = _best(lambda: eer(scores, is_bonafide))
    print(f"scikit-learn roc_curve alone      {theirs:8.3f} s")
    print(f"  voxfide's three metrics / roc_curve   {three / theirs:.2f}x its time")
    print(f"  voxfide's EER / roc_curve             {ours / theirs:.2f}x its time")


if __name__ == "__main__":
    main()
