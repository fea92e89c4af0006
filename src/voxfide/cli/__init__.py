"""The ``voxfide`` command: argument parsing and what is printed; the work is done elsewhere.

Results go to stdout, progress and logs to stderr. Exit codes: 0 done, 1 some files
failed (they are listed), 2 usage or unusable input, 130 interrupted.
"""

from voxfide.cli.main import app, main

__all__ = ["app", "main"]
