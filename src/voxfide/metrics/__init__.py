"""Metrics of spoofing detection in pure NumPy: functions of ``scores`` and ``is_bonafide``."""

from voxfide.metrics.auc import auc
from voxfide.metrics.bootstrap import bootstrap_intervals
from voxfide.metrics.cllr import cllr
from voxfide.metrics.dcf import ASVSPOOF5_COST, DcfCost, act_dcf, min_dcf
from voxfide.metrics.det import DetCurve, det_curve, merged_det_curve
from voxfide.metrics.eer import EerMethod, eer, eer_percent
from voxfide.metrics.spec import METRICS, MetricSpec
from voxfide.metrics.trials import OperatingPoint

__all__ = [
    "ASVSPOOF5_COST",
    "METRICS",
    "DcfCost",
    "DetCurve",
    "EerMethod",
    "MetricSpec",
    "OperatingPoint",
    "act_dcf",
    "auc",
    "bootstrap_intervals",
    "cllr",
    "det_curve",
    "eer",
    "eer_percent",
    "merged_det_curve",
    "min_dcf",
]
