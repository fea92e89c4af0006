"""The official evaluations of the ASVspoof challenges, with their own tables.

The layout follows the packages of the organisers (github.com/asvspoof-challenge, ``2021`` and
``asvspoof5``; ``tDCF_python_v2`` for 2019): the text tables, not the LaTeX ones that the
packages print beside them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from voxfide.errors import ScoreFileError, UsageError
from voxfide.evaluation.alignment import Key, Trials, align
from voxfide.evaluation.asv_scores import AsvTrials
from voxfide.evaluation.grid import POOLED_FIRST, POOLED_LAST, Factor, ProtocolResult, ProtocolTable, grid
from voxfide.metrics.asv import ASVSPOOF5_ASV, AsvRates
from voxfide.metrics.cllr import cllr
from voxfide.metrics.dcf import act_dcf, min_dcf
from voxfide.metrics.eer import eer
from voxfide.metrics.tdcf import MIN_DISTINCT, TdcfEdition, min_tdcf
from voxfide.metrics.trials import OperatingPoint, check_trials
from voxfide.scores import Scores
from voxfide.types import UNKNOWN, BoolArray, Float64Array


@dataclass(frozen=True)
class Protocol:
    """One official evaluation.

    Attributes:
        name: as ``voxfide evaluate --protocol`` takes it.
        summary: one line for people.
        columns: of the key that the tables need.
        has_subsets: whether the key's ``subset`` column chooses trials (``eval`` by default).
        takes_asv: whether ASV scores are used.
        run: trials and ASV trials of the subset to the result.
    """

    name: str
    summary: str
    columns: tuple[str, ...]
    has_subsets: bool
    takes_asv: bool
    run: Callable[[Trials, AsvTrials | None], ProtocolResult]


def run_protocol(
    name: str, scores: Scores, key: Key, subset: str | None = None, asv: AsvTrials | None = None
) -> ProtocolResult:
    """Evaluates scores as a challenge did.

    Args:
        name: one of :data:`PROTOCOLS`.
        scores: of the countermeasure; may hold other subsets too.
        key: labels and the columns that the protocol names.
        subset: of ASVspoof 2021: ``eval`` (by default), ``progress`` or ``hidden_track``.
        asv: the organisers' ASV scores, for min t-DCF.

    Raises:
        UsageError: an unknown protocol or subset, a column that is missing, or ASV scores where
            the protocol has no use for them.
        ScoreFileError: trials of the subset without a score, or as for
            :func:`~voxfide.evaluation.align`.
    """
    if name not in PROTOCOLS:
        raise UsageError(f"unknown protocol {name!r} (known: {', '.join(PROTOCOLS)})")
    protocol = PROTOCOLS[name]
    lacking = [c for c in protocol.columns if c not in key.columns]
    if lacking:
        known = ", ".join(key.columns) or "none"
        raise UsageError(
            f"protocol {name} needs column(s) {', '.join(lacking)} in the key (columns: {known})"
        )
    if asv is not None and not protocol.takes_asv:
        raise UsageError(f"protocol {name} uses no ASV scores")
    chosen = _subset(protocol, key, subset)
    if chosen is None:
        return protocol.run(align(scores, key, strict=True), asv)
    trials = align(scores, key)
    covered = set(trials.utterance_id.tolist())
    labels = np.asarray(key.label, dtype=object)
    missing = [
        i for i in key.utterance_id[_rows(key, chosen) & (labels != UNKNOWN)].tolist() if i not in covered
    ]
    if missing:
        raise ScoreFileError(
            f"{scores.source}: {len(missing):,} trial(s) of subset {chosen} have no score: "
            f"{', '.join(map(str, missing[:5]))}"
        )
    own = trials.select(trials.columns["subset"] == chosen)
    if asv is not None and "subset" in asv.columns:
        asv = asv.select(asv.columns["subset"] == chosen)
    result = protocol.run(replace(own, warnings=()), asv)
    return replace(result, subset=chosen)


def _subset(protocol: Protocol, key: Key, subset: str | None) -> str | None:
    if not protocol.has_subsets:
        if subset is not None:
            raise UsageError(f"protocol {protocol.name} has no subsets; choose rows with a split")
        return None
    if "subset" not in key.columns:
        if subset is not None:
            raise UsageError(f"the key has no column 'subset' (columns: {', '.join(key.columns) or 'none'})")
        return None
    found = set(key.columns["subset"].tolist())
    chosen = subset or "eval"
    if chosen not in found and chosen in _HIDDEN:
        chosen = next((name for name in _HIDDEN if name in found), chosen)
    if chosen not in found:
        raise UsageError(f"no row of the key is of subset {chosen!r} (subsets: {', '.join(sorted(found))})")
    return chosen


def _rows(key: Key, subset: str) -> BoolArray:
    return np.asarray(np.asarray(key.columns["subset"], dtype=object) == subset, dtype=np.bool_)


_HIDDEN: Final = ("hidden_track", "hidden")
"""The subset's name in the challenge's and in the full keys."""


def _asvspoof5(trials: Trials, asv: AsvTrials | None) -> ProtocolResult:
    scores, labels = trials.score, trials.is_bonafide
    figures = _track1(scores, labels)
    lines = (
        "# Track 1 Result: \n\n"
        f"-eval_mindcf: {figures['min_dcf']:.5f}\n-eval_eer (%): {figures['eer_percent']:.3f}\n"
        f"-eval_cllr (bits): {figures['cllr']:.5f}\n-eval_actDCF: {figures['act_dcf']:.5f}\n"
    )
    rates = asv.classes().rates_at_eer() if asv is not None else ASVSPOOF5_ASV
    figures["min_tdcf"] = _tdcf(scores, labels, rates, "asvspoof5")
    whose = "of the given ASV scores" if asv is not None else "of the organisers' ASV"
    notes = [f"min t-DCF {figures['min_tdcf']:.5f} with the error rates {whose} (not printed by the package)"]
    tables: list[ProtocolTable] = []
    if {"attack", "codec"} <= set(trials.columns):
        tables = _track1_tables(trials)
    else:
        notes.append("no tables: the key has no columns attack and codec")
    return ProtocolResult("asvspoof5", trials, figures, lines, tuple(tables), tuple(notes))


def _track1(scores: Float64Array, labels: BoolArray) -> dict[str, float]:
    return {
        "min_dcf": min_dcf(scores, labels).value,
        "eer_percent": 100 * eer(scores, labels).value,
        "cllr": cllr(scores, labels),
        "act_dcf": act_dcf(scores, labels).value,
    }


def _track1_tables(trials: Trials) -> list[ProtocolTable]:
    attacks = Factor.of(trials, "attack", POOLED_FIRST)
    codecs = Factor.of(trials, "codec", POOLED_FIRST)
    values = grid(trials, attacks, codecs, lambda s, b, _: _track1(s, b))
    titles = {
        "min_dcf": "\neval_minDCF\n",
        "eer_percent": "\nEER (%)\n",
        "cllr": "\nCllr bits\n",
        "act_dcf": "\nactDCF\n",
    }
    return [
        ProtocolTable(
            n, title, attacks.tags, codecs.tags, values[n], "1.3f" if n == "eer_percent" else "1.5f"
        )
        for n, title in titles.items()
    ]


def _asvspoof2019la(trials: Trials, asv: AsvTrials | None) -> ProtocolResult:
    scores, labels = trials.score, trials.is_bonafide
    attacks = Factor.of(trials, "attack", POOLED_LAST)
    editions: dict[str, TdcfEdition] = {"min_tdcf": "asvspoof2021", "min_tdcf_legacy": "asvspoof2019_legacy"}

    def measure(s: Float64Array, b: BoolArray, own: AsvTrials | None) -> dict[str, float]:
        found = {"eer_percent": 100 * eer(s, b).value}
        if own is not None:
            found |= {n: _tdcf(s, b, own.classes().rates_at_eer(), e) for n, e in editions.items()}
        return found

    pooled = Factor("", (None,), ("",), spoofs_only=False)
    values = grid(trials, attacks, pooled, measure, asv)
    figures = {name: float(column[-1, 0]) for name, column in values.items()}
    lines, notes = "", []
    if asv is None:
        notes.append("no min t-DCF: it needs the organisers' ASV scores")
        lines = f"CM SYSTEM\n{_EER_LINE.format(figures['eer_percent'])}"
    else:
        classes = asv.classes()
        rates = classes.rates_at_eer()
        both = np.concatenate((classes.target, classes.nontarget))
        asv_eer = eer(both, np.arange(len(both)) < len(classes.target)).value
        lines = _tandem_lines(asv_eer, rates, figures, min_tdcf(scores, labels, rates, "asvspoof2021"))
    table = ProtocolTable(
        "breakdown",
        "\nBREAKDOWN BY ATTACK\n",
        attacks.tags,
        tuple(_NAMES_2019[name] for name in values),
        np.hstack(list(values.values())),
        "1.5f",
    )
    return ProtocolResult("asvspoof2019la", trials, figures, lines, (table,), tuple(notes))


_NAMES_2019: Final = {
    "eer_percent": "EER (%)", "min_tdcf": "min-tDCF", "min_tdcf_legacy": "min-tDCF (legacy)",
}  # fmt: skip
_EER_LINE: Final = "   EER                  = {:8.5f} % (Equal error rate for countermeasure)\n"


def _tandem_lines(asv_eer: float, rates: AsvRates, figures: dict[str, float], point: OperatingPoint) -> str:
    return (
        "ASV SYSTEM\n"
        f"   EER            = {100 * asv_eer:8.5f} % "
        "(Equal error rate (target vs. nontarget discrimination)\n"
        f"   Pfa            = {100 * rates.p_fa:8.5f} % (False acceptance rate of nontargets)\n"
        f"   Pmiss          = {100 * rates.p_miss:8.5f} % (False rejection rate of targets)\n"
        f"   Pfa,spoof  = {100 * rates.p_fa_spoof:8.5f} % (Spoof false acceptance rate)\n"
        f"\nCM SYSTEM\n{_EER_LINE.format(figures['eer_percent'])}"
        f"   Pfa(t_CM_min_tDCF)   = {100 * point.far:8.5f} % (False acceptance rate of spoofs)\n"
        f"   Pmiss(t_CM_min_tDCF) = {100 * point.frr:8.5f} % (Miss (false rejection) rate of bonafide)\n"
        f"\nTANDEM\n   min-tDCF       = {figures['min_tdcf']:8.5f}\n"
        f"   min-tDCF       = {figures['min_tdcf_legacy']:8.5f} (legacy: the 2019 challenge)\n"
    )


def _asvspoof2021la(trials: Trials, asv: AsvTrials | None) -> ProtocolResult:
    attacks = Factor.given("attack", {f"A{i:02d}": f"A{i:02d}" for i in range(7, 20)}, spoofs_only=True)
    codecs = ("none", "alaw", "pstn", "g722", "ulaw", "gsm", "opus")
    names = {codec: f"C{i}" for i, codec in enumerate(codecs, start=1)}
    return _asvspoof2021("asvspoof2021la", trials, attacks, Factor.given("codec", names), asv)


def _asvspoof2021df(trials: Trials, asv: AsvTrials | None) -> ProtocolResult:
    vocoders = {
        "traditional_vocoder": "Traditional",
        "waveform_concatenation": "Wav.Concat.",
        "neural_vocoder_autoregressive": "Neural AR",
        "neural_vocoder_nonautoregressive": "Neural non-AR",
        "unknown": "Unknown",
    }
    codecs = (
        "nocodec", "low_mp3", "high_mp3", "low_m4a", "high_m4a", "low_ogg", "high_ogg", "mp3m4a", "oggm4a",
    )  # fmt: skip
    names = {codec: f"C{i}" for i, codec in enumerate(codecs, start=1)}
    rows = Factor.given("vocoder", vocoders, spoofs_only=True)
    return _asvspoof2021("asvspoof2021df", trials, rows, Factor.given("codec", names), None)


def _asvspoof2021(
    name: str, trials: Trials, rows: Factor, columns: Factor, asv: AsvTrials | None
) -> ProtocolResult:
    def measure(s: Float64Array, b: BoolArray, own: AsvTrials | None) -> dict[str, float]:
        found = {"eer_percent": 100 * eer(s, b).value}
        if own is not None:
            found["min_tdcf"] = _tdcf(s, b, own.classes().rates_at_eer(), "asvspoof2021")
        return found

    values = grid(trials, rows, columns, measure, asv)
    figures = {metric: float(cells[-1, -1]) for metric, cells in values.items()}
    titles = {"min_tdcf": ("Table for min tDCFs", "1.4f"), "eer_percent": ("Table for EERs", "1.2f")}
    tables = [
        ProtocolTable(metric, f"\n{_RULE}\n{title}\n{_RULE}\n", rows.tags, columns.tags, values[metric], spec)
        for metric, (title, spec) in titles.items()
        if metric in values
    ]
    notes = (
        ["no min t-DCF: it needs the organisers' ASV scores"] if name.endswith("la") and asv is None else []
    )
    return ProtocolResult(name, trials, figures, "", tuple(tables), tuple(notes))


_RULE: Final = "==============="


def _tdcf(scores: Float64Array, labels: BoolArray, rates: AsvRates, edition: TdcfEdition) -> float:
    """NaN where there are too few distinct scores for a t-DCF."""
    values, is_bonafide = check_trials(scores, labels)
    if len(np.unique(values)) < MIN_DISTINCT:
        return float("nan")
    return min_tdcf(values, is_bonafide, rates, edition).value


PROTOCOLS: Final[dict[str, Protocol]] = {
    protocol.name: protocol
    for protocol in (
        Protocol("asvspoof5", "ASVspoof 5 track 1", (), False, True, _asvspoof5),
        Protocol("asvspoof2019la", "ASVspoof 2019 LA", ("attack",), False, True, _asvspoof2019la),
        Protocol("asvspoof2021la", "ASVspoof 2021 LA", ("attack", "codec"), True, True, _asvspoof2021la),
        Protocol("asvspoof2021df", "ASVspoof 2021 DF", ("vocoder", "codec"), True, False, _asvspoof2021df),
    )
}
