"""What a log likelihood ratio says once a prior and costs are stated."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from voxfide.calibration.base import check_prior
from voxfide.metrics.dcf import DcfCost
from voxfide.types import Float64Array


def log_odds(probability: float) -> float:
    """``log(p / (1 - p))``."""
    return math.log(probability) - math.log1p(-probability)


def probability_bonafide(llr: ArrayLike, prior: float = 0.5) -> Float64Array:
    """Posterior probability of bona fide: ``sigmoid(llr + logit(prior))``, by Bayes' rule.

    Args:
        llr: natural-log likelihood ratios, any shape.
        prior: probability of bona fide before the recording was heard.

    Raises:
        UsageError: a prior not strictly between 0 and 1.
    """
    shift = log_odds(check_prior(prior))
    return np.exp(-np.logaddexp(0, -(np.asarray(llr, dtype=np.float64) + shift)))


def bayes_threshold(prior: float = 0.5, c_miss: float = 1.0, c_fa: float = 1.0) -> float:
    """The LLR from which calling a recording bona fide has the lower expected cost.

    ``log(c_fa (1 - prior) / (c_miss prior))``: 0 at prior 0.5 and equal costs.

    Args:
        prior: of bona fide.
        c_miss: cost of rejecting a bona fide recording.
        c_fa: cost of accepting a spoof.

    Raises:
        UsageError: a prior not strictly between 0 and 1, or costs not above 0.
    """
    cost = DcfCost(1 - check_prior(prior), c_miss, c_fa)
    return cost.threshold + 0.0  # never the -0.0 of a logarithm of 1
