"""Metrics of spoofing detection in pure NumPy: functions of ``scores`` and ``is_bonafide``."""

from voxfide.metrics.adcf import ADCF_CLASS_DEFAULT, ASVSPOOF5_ADCF, AdcfCost, min_adcf
from voxfide.metrics.asv import ASVSPOOF5_ASV, AsvRates, ThreeClasses
from voxfide.metrics.auc import auc
from voxfide.metrics.bootstrap import bootstrap_intervals
from voxfide.metrics.cllr import cllr
from voxfide.metrics.dcf import ASVSPOOF5_COST, DcfCost, act_dcf, min_dcf
from voxfide.metrics.delong import DelongTest, delong_test
from voxfide.metrics.det import DetCurve, det_curve, merged_det_curve
from voxfide.metrics.eer import EerMethod, eer, eer_percent
from voxfide.metrics.localisation import ScoredUtterance, range_eer, segment_eer
from voxfide.metrics.min_cllr import calibration_loss, min_cllr
from voxfide.metrics.spec import METRICS, MetricSpec
from voxfide.metrics.tdcf import ASVSPOOF_TDCF, TdcfCost, TdcfEdition, min_tdcf
from voxfide.metrics.teer import concurrent_teer
from voxfide.metrics.trials import OperatingPoint

__all__ = [
    "ADCF_CLASS_DEFAULT",
    "ASVSPOOF5_ADCF",
    "ASVSPOOF5_ASV",
    "ASVSPOOF5_COST",
    "ASVSPOOF_TDCF",
    "METRICS",
    "AdcfCost",
    "AsvRates",
    "DcfCost",
    "DelongTest",
    "DetCurve",
    "EerMethod",
    "MetricSpec",
    "OperatingPoint",
    "ScoredUtterance",
    "TdcfCost",
    "TdcfEdition",
    "ThreeClasses",
    "act_dcf",
    "auc",
    "bootstrap_intervals",
    "calibration_loss",
    "cllr",
    "concurrent_teer",
    "delong_test",
    "det_curve",
    "eer",
    "eer_percent",
    "merged_det_curve",
    "min_adcf",
    "min_cllr",
    "min_dcf",
    "min_tdcf",
    "range_eer",
    "segment_eer",
]
