"""``voxfide evaluate``: parses, and hands over to :mod:`voxfide.cli.evaluating`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from voxfide.cli import console
from voxfide.cli.commands import SplitOption
from voxfide.errors import UsageError


def evaluate(
    scores: Annotated[
        list[Path], typer.Argument(metavar="SCORES...", help="Score files, one a system; see --id-column.")
    ],
    key: Annotated[Path, typer.Option("--key", metavar="MANIFEST", help="Manifest with the labels.")],
    by: Annotated[
        list[str] | None,
        typer.Option("--by", metavar="COLUMN[,COLUMN]", help="Break down by a column or a pair; repeatable."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", metavar="DIR", help="Write report, tables and figures here.")
    ] = None,
    split: SplitOption = None,
    against: Annotated[
        str, typer.Option(help="Compare several systems with the first, with the best, or all pairs.")
    ] = "first",
    bootstrap: Annotated[int, typer.Option(min=0, help="Samples for the intervals; 0 for none.")] = 1000,
    confidence: Annotated[float, typer.Option(help="Of the intervals.")] = 0.95,
    seed: Annotated[int, typer.Option(min=0, help="Of the bootstrap.")] = 0,
    clusters: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="Resample values of this column, e.g. speaker.")
    ] = None,
    protocol: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Print a challenge's own tables: asvspoof5, asvspoof2019la, asvspoof2021la, asvspoof2021df.",
        ),
    ] = None,
    subset: Annotated[
        str | None, typer.Option(help="With --protocol: eval (default), progress or hidden_track.")
    ] = None,
    asv_scores: Annotated[
        Path | None, typer.Option(metavar="FILE", help="With --protocol: the organisers' ASV scores.")
    ] = None,
    asv_key: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Their trial_metadata.txt, where it lies elsewhere.")
    ] = None,
    id_column: Annotated[
        str | None, typer.Option(metavar="NAME", help="Utterance column of the score files' header.")
    ] = None,
    score_column: Annotated[
        str | None, typer.Option(metavar="NAME", help="Score column; higher must mean bona fide.")
    ] = None,
    players: Annotated[bool, typer.Option(help="Put players of the worst errors into the report.")] = True,
    strict: Annotated[bool, typer.Option("--strict", help="Missing scores are an error.")] = False,
) -> None:
    """Measure scores against labels.

    EER, minDCF, actDCF, Cllr, minimum Cllr and AUC with bootstrap confidence intervals, pooled and
    by column; several score files are compared on the same trials; with -o a report that works
    offline, tables and figures.
    """
    from voxfide.cli import evaluating

    columns = {"id_column": id_column, "score_column": score_column}
    if protocol is not None:
        if by or out or clusters:
            raise UsageError("--protocol prints fixed tables: it goes without --by, -o and --clusters")
        results = evaluating.run_protocols(
            protocol, scores, key, split, subset, asv_scores, asv_key, **columns
        )
        if as_json:
            _print_json(evaluating.protocols_json(results))
        else:
            evaluating.print_protocols(results)
        return
    if subset or asv_scores or asv_key:
        raise UsageError("--subset, --asv-scores and --asv-key go with --protocol")
    settings: dict[str, Any] = {
        "n_bootstrap": bootstrap, "confidence": confidence, "seed": seed, "clusters": clusters,
    }  # fmt: skip
    if len(scores) == 1:
        done = evaluating.evaluate_files(
            scores[0], key, by or [], split, strict=strict, **columns, **settings
        )
        report = None if out is None else evaluating.write_evaluation(out, done, players)
        found = done.evaluation.to_json()
    else:
        several = evaluating.evaluate_systems(
            scores, key, by or [], split, against, strict=strict, **columns, **settings
        )
        report = None if out is None else evaluating.write_systems(out, several, players)
        found = several.to_json()
    if report is not None:
        console.say(f"report: {report}")
    if as_json:
        _print_json(found)
    elif len(scores) == 1:
        evaluating.print_evaluation(done.evaluation)
    else:
        evaluating.print_systems(several)


def _print_json(values: dict[str, Any]) -> None:
    print(json.dumps(values, ensure_ascii=False, allow_nan=False))
