"""From scores and a key to figures: alignment, breakdowns and their intervals."""

from voxfide.evaluation.alignment import Key, Trials, align
from voxfide.evaluation.measure import WorstErrors, evaluate, worst_errors
from voxfide.evaluation.result import Evaluation, Group, Metric

__all__ = [
    "Evaluation",
    "Group",
    "Key",
    "Metric",
    "Trials",
    "WorstErrors",
    "align",
    "evaluate",
    "worst_errors",
]
