"""Late fusion: the scores of several detectors to one natural-log likelihood ratio.

A weighted sum learnt by logistic regression; weights may be negative. Combei et al. 2024,
section 4; N. Brümmer et al., "Fusion of heterogeneous speaker recognition systems in the STBU
submission for the NIST speaker recognition evaluation 2006", IEEE TASLP 15(7), 2007.
"""

from voxfide.fusion.assess import FIGURES, FusionFigures, assess_fusion, cross_validate, figures_of
from voxfide.fusion.fit import FittedFusion, fit_fusion
from voxfide.fusion.intervals import Coefficient, Coefficients, coefficient_intervals, group_numbers
from voxfide.fusion.learn import learn_fusion
from voxfide.fusion.linear import INPUTS, METHODS, FusionOptions, LinearFusion
from voxfide.fusion.record import FusedSystem, FusionRecord
from voxfide.fusion.trials import JointScores, JointTrials, join_scores, label_scores

__all__ = [
    "FIGURES",
    "INPUTS",
    "METHODS",
    "Coefficient",
    "Coefficients",
    "FittedFusion",
    "FusedSystem",
    "FusionFigures",
    "FusionOptions",
    "FusionRecord",
    "JointScores",
    "JointTrials",
    "LinearFusion",
    "assess_fusion",
    "coefficient_intervals",
    "cross_validate",
    "figures_of",
    "fit_fusion",
    "group_numbers",
    "join_scores",
    "label_scores",
    "learn_fusion",
]
