"""From scores and a key to figures: alignment, breakdowns and their intervals."""

from voxfide.evaluation.alignment import Key, Trials, align, align_systems
from voxfide.evaluation.comparison import Comparison, Difference, compare
from voxfide.evaluation.measure import WorstErrors, evaluate, worst_errors
from voxfide.evaluation.result import Evaluation, Group, Metric

__all__ = [
    "Comparison",
    "Difference",
    "Evaluation",
    "Group",
    "Key",
    "Metric",
    "Trials",
    "WorstErrors",
    "align",
    "align_systems",
    "compare",
    "evaluate",
    "worst_errors",
]
