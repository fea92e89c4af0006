"""What a fusion is once it is learnt: a weighted sum of scores that is a log likelihood ratio."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike

from voxfide.calibration.base import check_prior
from voxfide.calibration.decision import probability_bonafide
from voxfide.errors import UsageError
from voxfide.types import Float64Array

Inputs = Literal["scores", "probabilities"]
Method = Literal["logistic", "mean", "best"]

INPUTS: Final = get_args(Inputs)
METHODS: Final = get_args(Method)


@dataclass(frozen=True)
class FusionOptions:
    """How a fusion is learnt.

    Attributes:
        method: ``logistic``: a weight a system, of any sign (Combei et al. 2024, section 4;
            N. Brümmer et al., "Fusion of heterogeneous speaker recognition systems in the STBU
            submission for the NIST speaker recognition evaluation 2006", IEEE TASLP 15(7),
            2007). ``mean``: the mean of the standardised inputs, each system weighing the same.
            ``best``: the system with the lowest EER alone. All three are scaled and shifted to
            likelihood ratios by the same logistic regression.
        inputs: ``scores`` as they are, or ``probabilities`` of bona fide that scores give when
            read as log likelihood ratios at ``input_prior``.
        input_prior: of bona fide, for ``probabilities``.
        prior: of bona fide, around which the fit is best; both classes are averaged by
            themselves and weigh so. None weighs all trials the same, as plain logistic
            regression does: the prior is then the share of bona fide in the data.
        C: inverse strength of the penalty on the squared weights of standardised inputs, beside
            the sum of the loss over trials, as scikit-learn has it.

    Raises:
        UsageError: another word, a prior that is none, or C not above 0.
    """

    method: Method = "logistic"
    inputs: Inputs = "scores"
    input_prior: float = 0.5
    prior: float | None = None
    C: float = 1e3

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise UsageError(f"fusion method {self.method!r} (expected {', '.join(METHODS)})")
        if self.inputs not in INPUTS:
            raise UsageError(f"fusion inputs {self.inputs!r} (expected {' or '.join(INPUTS)})")
        check_prior(self.input_prior, "fusion: prior of the inputs")
        if self.prior is not None:
            check_prior(self.prior, "fusion: prior")
        if not 0 < self.C < np.inf:
            raise UsageError(f"fusion: C={self.C} (expected a positive number)")


@dataclass(frozen=True, eq=False)
class LinearFusion:
    """``llr = intercept + sum of weight * input``.

    Attributes:
        weights: ``(systems,)``, of the inputs as they are, not standardised.
        intercept: natural-log likelihood ratio where all inputs are 0.
        inputs: see :class:`FusionOptions`.
        input_prior: see :class:`FusionOptions`.
    """

    weights: Float64Array
    intercept: float
    inputs: Inputs = "scores"
    input_prior: float = 0.5

    def apply(self, scores: ArrayLike) -> Float64Array:
        """Natural-log likelihood ratios ``(trials,)`` of ``scores (trials, systems)``.

        A trial gets the same number, to the last bit, whatever stands beside it.

        Raises:
            UsageError: another number of systems, or scores that are not finite.
        """
        x = input_values(scores, self.inputs, self.input_prior)
        if x.shape[1] != len(self.weights):
            raise UsageError(f"scores of {x.shape[1]} system(s); the fusion is of {len(self.weights)}")
        llr = np.full(len(x), self.intercept)
        for weight, column in zip(self.weights, x.T, strict=True):
            llr += weight * column
        return llr


def input_values(scores: ArrayLike, inputs: Inputs, prior: float) -> Float64Array:
    """What is weighted, ``(trials, systems)``: the scores, or the probabilities that they give.

    Raises:
        UsageError: another shape, or scores that are not finite.
    """
    values = np.asarray(scores, dtype=np.float64)
    if values.ndim != 2:
        raise UsageError(f"scores of shape {values.shape} (expected (trials, systems))")
    n_bad = int(np.count_nonzero(~np.isfinite(values)))
    if n_bad:
        raise UsageError(f"{n_bad:,} of {values.size:,} scores are NaN or infinite")
    return probability_bonafide(values, prior) if inputs == "probabilities" else values
