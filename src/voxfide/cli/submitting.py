"""``voxfide submit``: a score file to what an evaluation page takes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from voxfide.errors import UsageError


def submit(
    scores: Annotated[Path, typer.Argument(metavar="SCORES", help="Scores of every trial.")],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="ZIP", help="File to write.")],
    manifest: Annotated[
        Path | None, typer.Option("--manifest", metavar="MANIFEST", help="The trials; labels may be unknown.")
    ] = None,
    protocol: Annotated[
        Path | None,
        typer.Option("--protocol", metavar="FILE", help="The trials: an official list or protocol."),
    ] = None,
    split: Annotated[str | None, typer.Option("--split", help="With --manifest: of this split.")] = None,
) -> None:
    """Make a submission to the ASVspoof 5 evaluation page.

    Writes score.tsv in a zip, after a check that every trial is scored once. What is missing is
    named, and nothing is written then.
    """
    from voxfide.corpora.asvspoof5 import trial_list
    from voxfide.evaluation.submission import MEMBER, write_submission
    from voxfide.manifest import Manifest
    from voxfide.scores import read_scores

    if protocol is not None and manifest is None and split is None:
        trials = trial_list(protocol)
    elif manifest is not None and protocol is None:
        trials = Manifest.read(manifest).require_valid().split(split).strings("utterance_id").tolist()
    else:
        raise UsageError("expected the trials: either --manifest MANIFEST (and --split) or --protocol FILE")
    found = read_scores(scores)
    write_submission(out, found, trials)
    print(f"{out}: {MEMBER} with {len(found):,} scores, one for every trial")
