"""The application: its commands, and how errors become exit codes."""

from __future__ import annotations

import os
import sys
from typing import Annotated, NoReturn

import typer

from voxfide import __version__
from voxfide.cli import (
    augmenting,
    calibrating,
    commands,
    console,
    converting,
    detecting,
    detectors,
    domains,
    ensembling,
    evaluate,
    exporting,
    finetuning,
    fusing,
    listings,
    mixing,
    packing,
    preparing,
    pretraining,
    projecting,
    selecting,
    serving,
    shrinking,
    studies,
    submitting,
    training,
)
from voxfide.errors import MissingDependencyError, VoxfideError

EXIT_FAILED_FILES = 1
EXIT_UNUSABLE = 2
EXIT_INTERRUPTED = 130

app = typer.Typer(
    name="voxfide",
    help="Tells bona fide speech from spoofed speech. A higher score means more bona fide.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"voxfide {__version__}")
        raise typer.Exit


_called = ["voxfide"]
"""What was called, for messages."""


@app.callback()
def _options(
    context: typer.Context,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Say more of what is going on.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress, warnings only.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    console.configure(verbose=verbose, quiet=quiet)
    _called[1:] = [context.invoked_subcommand] if context.invoked_subcommand else []


for command in (
    commands.demo,
    preparing.prepare,
    selecting.select,
    listings.frontends,
    listings.backends,
    preparing.corpora,
    mixing.mix,
    mixing.mixes,
    augmenting.augment,
    augmenting.augmentations,
    packing.pack,
    commands.embed,
    training.train,
    pretraining.pretrain,
    finetuning.finetune,
    commands.score,
    calibrating.calibrate,
    calibrating.calibrate_scores,
    fusing.fuse,
    fusing.fuse_scores,
    ensembling.ensemble,
    shrinking.shrink,
    exporting.export,
    submitting.submit,
    evaluate.evaluate,
    detecting.detect,
    detectors.detectors,
    domains.domain,
    projecting.tsne,
    serving.serve,
):
    app.command()(command)
app.command("serve-key")(serving.serve_key)
app.add_typer(converting.convert, name="convert")
app.add_typer(studies.study, name="study")


def _needed(error: ModuleNotFoundError) -> MissingDependencyError | None:
    """What an installation without it lacks for the command that was called."""
    return MissingDependencyError.of(error, " ".join(_called))


def main() -> NoReturn:
    """Entry point: runs the command line and exits with its code."""
    try:
        code = app(standalone_mode=False)
    except VoxfideError as error:
        print(f"{console.name()}: error: {error}", file=sys.stderr)
        code = EXIT_UNUSABLE
    except KeyboardInterrupt:
        code = EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader of our output has gone, as with `| head`: nothing more to say.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except Exception as error:
        # Usage errors of the parsing library know how to show themselves; anything else is a bug.
        show = getattr(error, "show", None)
        if show is not None:
            show()
            code = EXIT_UNUSABLE
        elif type(error).__name__ == "Abort":
            code = EXIT_INTERRUPTED
        elif isinstance(error, ModuleNotFoundError) and (needed := _needed(error)):
            print(f"voxfide: error: {needed}", file=sys.stderr)
            code = EXIT_UNUSABLE
        elif isinstance(error, OSError):
            print(f"voxfide: error: {error}", file=sys.stderr)
            code = EXIT_UNUSABLE
        else:
            raise
    if code == EXIT_INTERRUPTED:  # which the parsing library may also return by itself
        print("voxfide: interrupted; what was finished is kept", file=sys.stderr)
    sys.exit(code or 0)
