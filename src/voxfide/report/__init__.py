"""Tables, figures and self-contained HTML pages.

A page (:class:`~voxfide.report.page.Page`) is sections of prose, key-values, tables,
figures and players; :func:`write_evaluation_report` is one use of it, and
:func:`voxfide.report.recording.write_recording_report` another.
"""

from __future__ import annotations

from voxfide.report.evaluation import write_evaluation_report
from voxfide.report.evaluation_figures import write_figures
from voxfide.report.figures import det_figure, histogram_figure
from voxfide.report.figures_calibration import bayes_error_figure, reliability_figure, tippett_figure
from voxfide.report.figures_groups import eer_grid, group_trials, heatmap_figure, ridge_figure
from voxfide.report.page import Figure, Figures, KeyValues, Notice, Page, Prose, Section, Stat, Stats
from voxfide.report.players import Budget, Clip, Players, add_audio
from voxfide.report.style import save_figure
from voxfide.report.tables import Column, Spread, Table

__all__ = [
    "Budget",
    "Clip",
    "Column",
    "Figure",
    "Figures",
    "KeyValues",
    "Notice",
    "Page",
    "Players",
    "Prose",
    "Section",
    "Spread",
    "Stat",
    "Stats",
    "Table",
    "add_audio",
    "bayes_error_figure",
    "det_figure",
    "eer_grid",
    "group_trials",
    "heatmap_figure",
    "histogram_figure",
    "reliability_figure",
    "ridge_figure",
    "save_figure",
    "tippett_figure",
    "write_evaluation_report",
    "write_figures",
]
