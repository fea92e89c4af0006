"""Means over seeds as cells; tables as Markdown, CSV and LaTeX files, figures as PNG and PDF."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from voxfide.errors import UsageError
from voxfide.files import write_atomic
from voxfide.report.style import save_figure
from voxfide.report.tables import Spread, Table
from voxfide.types import PathLike

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def mean_sd(values: Iterable[float]) -> Spread:
    """Mean and sample standard deviation (divisor n − 1), which a single value has none of.

    Raises:
        UsageError: no values.
    """
    given = np.fromiter(values, dtype=np.float64)
    if not given.size:
        raise UsageError("no values to take the mean of")
    return Spread(float(given.mean()), float(given.std(ddof=1)) if given.size > 1 else None)


def write_figure(folder: PathLike, stem: str, figure: Figure) -> None:
    """Writes ``<stem>.png`` and ``<stem>.pdf``."""
    for suffix in (".png", ".pdf"):
        save_figure(figure, Path(folder) / f"{stem}{suffix}")


def write_table(folder: PathLike, stem: str, table: Table) -> list[Path]:
    """Writes ``<stem>.md``, ``<stem>.csv`` (full precision) and ``<stem>.tex`` (booktabs)."""
    texts = {".md": table.to_markdown(), ".csv": table.to_csv(), ".tex": table.to_latex()}
    paths = [Path(folder) / f"{stem}{suffix}" for suffix in texts]
    for path, text in zip(paths, texts.values(), strict=True):
        write_atomic(path, text)
    return paths
