"""Compares a challenger with one reference on the same rows: paired one-sided non-inferiority on AUC and log loss.

Decisions: both models score the same rows, so differences are paired, which makes them 6 to 24 times more precise. The
bounds here are for one look: normal, from DeLong for the AUC and from the mean of the rows' differences for the log
loss. Bounds for pooled hours, valid at every look, are in `saec.gate.pooled`. The loss is the amount by which the
challenger is worse (AUC lost, log loss added); with one-sided bounds of it at the gate's confidence:

    PASS       the upper bound of the loss is finite and at most the margin: the loss is shown to be inside it
    FAIL       the loss itself is beyond the margin, and its lower bound is above 0: it is shown to be a loss
    UNDECIDED  neither: the rows cannot tell
    UNDEFINED  a figure is not finite (one class, fewer than two rows of a class, a score that is no probability)

PASS and FAIL exclude each other. A challenger that improves on any row never goes from PASS to FAIL, because only a
loss beyond the margin fails. Identical scores have difference 0 and standard error 0, and pass.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from statistics import NormalDist
from typing import Literal

import numpy as np

from saec.gate.delong import Placements, auc_difference, placements, variance_of_mean
from saec.gate.metrics import Floats, Labels, Weights, calibration_ratio, normalised_entropy, row_losses

POWER = 0.95
"""Power: probability that an equal challenger passes; the number of rows needed follows from it."""


class Standing(StrEnum):
    """What the rows say about one metric against one reference; see the module's docstring."""

    PASS = "PASS"  # noqa: S105 - a verdict, not a secret
    FAIL = "FAIL"
    UNDECIDED = "UNDECIDED"
    UNDEFINED = "UNDEFINED"


@dataclass(frozen=True, slots=True)
class Difference:
    """One metric of the challenger minus that of the reference, with its standard error and bounds."""

    metric: Literal["auc", "logloss"]
    """AUC (higher is better) or log loss in nats a row (lower is better)."""
    challenger: float
    """The challenger's figure."""
    reference: float
    """The reference's figure."""
    difference: float
    """Challenger minus reference."""
    standard_error: float
    """Of the paired difference."""
    lower: float
    """One-sided lower bound of the difference at the gate's confidence."""
    upper: float
    """One-sided upper bound of the difference at the gate's confidence."""
    margin: float
    """Largest loss that still counts as no loss."""

    @property
    def loss(self) -> float:
        """By how much the challenger is worse; negative when it is better."""
        return -self.difference if self.metric == "auc" else self.difference

    @property
    def loss_at_most(self) -> float:
        """Upper bound of `loss`."""
        return -self.lower if self.metric == "auc" else self.upper

    @property
    def loss_at_least(self) -> float:
        """Lower bound of `loss`."""
        return -self.upper if self.metric == "auc" else self.lower

    @property
    def standing(self) -> Standing:
        """What the rows say; PASS is the only answer to accept, and needs finite figures."""
        figures = (self.challenger, self.reference, self.difference, self.lower, self.upper)
        if not all(map(math.isfinite, figures)):
            return Standing.UNDEFINED
        if self.loss_at_most <= self.margin:
            return Standing.PASS
        return Standing.FAIL if self.loss > self.margin and self.loss_at_least > 0.0 else Standing.UNDECIDED


@dataclass(frozen=True, slots=True)
class Comparison:
    """The challenger beside one reference on the same gate rows."""

    reference: str
    """Which model it is compared with: `original`, `champion` or `base-rate`."""
    rows: int
    """Gate rows."""
    positives: int
    """Gate rows with label 1."""
    auc: Difference
    """AUC and its difference (DeLong)."""
    logloss: Difference
    """Log loss and its difference (mean of the rows' differences)."""
    calibration_challenger: float
    """Mean prediction over mean label; 1 is calibrated."""
    calibration_reference: float
    """The same of the reference."""
    normalised_entropy_challenger: float
    """Log loss over the base rate's entropy; below 1 is better than the base rate."""
    normalised_entropy_reference: float
    """The same of the reference."""

    @property
    def differences(self) -> tuple[Difference, Difference]:
        """Both metrics, AUC first."""
        return self.auc, self.logloss


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """One model on the gate rows, with everything that comparisons need computed once."""

    name: str
    """`challenger`, or the reference's name."""
    placements: Placements
    """For the AUC."""
    row_losses_B: Floats
    """For the log loss, in nats."""
    calibration: float
    """Mean prediction over mean label."""
    normalised_entropy: float
    """Log loss over the base rate's entropy."""
    weights_B: Weights = None
    """How many rows each stands for."""


def score(name: str, labels_B: Labels, probabilities_B: Floats, weights_B: Weights = None) -> Scored:
    """Compute what comparisons need to know of one model.

    Args:
        name: of the model, for people.
        labels_B: uint8 [B], 0 or 1.
        probabilities_B: float64 [B], in [0, 1].
        weights_B: float64 [B], how many rows each stands for.

    Raises:
        TrainingError: labels and probabilities do not match, or a label is neither 0 nor 1.
    """
    return Scored(
        name,
        placements(labels_B, probabilities_B, weights_B),
        row_losses(labels_B, probabilities_B),
        calibration_ratio(labels_B, probabilities_B, weights_B),
        normalised_entropy(labels_B, probabilities_B, weights_B),
        weights_B,
    )


def compare(
    challenger: Scored, reference: Scored, *, auc_margin: float, logloss_margin: float, confidence: float
) -> Comparison:
    """Compare two models scored on the same rows.

    Args:
        challenger: the model that may be published.
        reference: the model it must not be worse than.
        auc_margin: largest loss of AUC that still counts as no loss.
        logloss_margin: largest rise of log loss (nats a row) that still counts as no loss.
        confidence: of each one-sided bound, above 0.5 and below 1.

    Returns:
        Both differences with their bounds; figures are nan where the rows do not define them (one class, fewer than
        two rows of a class, probabilities outside [0, 1]), and such a comparison does not pass.

    >>> import numpy as np
    >>> labels_B = np.array([0, 1, 0, 1], np.uint8)
    >>> model = score("original", labels_B, np.array([0.1, 0.4, 0.4, 0.9]))
    >>> compare(model, model, auc_margin=0.005, logloss_margin=0.005, confidence=0.95).auc.standing.value
    'PASS'
    """
    ours, theirs = challenger.placements, reference.placements
    auc_gap, auc_error = auc_difference(ours, theirs)
    gap_B, weights_B = challenger.row_losses_B - reference.row_losses_B, challenger.weights_B
    return Comparison(
        reference=reference.name,
        rows=gap_B.size,
        positives=ours.positive_P.size,
        auc=_bounded("auc", ours.auc, theirs.auc, auc_gap, auc_error, auc_margin, confidence),
        logloss=_bounded(
            "logloss",
            _mean(challenger.row_losses_B, weights_B),
            _mean(reference.row_losses_B, weights_B),
            _mean(gap_B, weights_B),
            _standard_error(gap_B, weights_B),
            logloss_margin,
            confidence,
        ),
        calibration_challenger=challenger.calibration,
        calibration_reference=reference.calibration,
        normalised_entropy_challenger=challenger.normalised_entropy,
        normalised_entropy_reference=reference.normalised_entropy,
    )


def _bounded(
    metric: Literal["auc", "logloss"],
    challenger: float,
    reference: float,
    gap: float,
    error: float,
    margin: float,
    confidence: float,
) -> Difference:
    """A difference with its one-sided normal bounds."""
    reach = NormalDist().inv_cdf(confidence) * error
    return Difference(metric, challenger, reference, gap, error, gap - reach, gap + reach, margin)


def _mean(values_B: Floats, weights_B: Weights) -> float:
    """Mean of the rows, nan without any."""
    if not values_B.size:
        return float("nan")
    return float(values_B.mean() if weights_B is None else np.average(values_B, weights=weights_B))


def _standard_error(values_B: Floats, weights_B: Weights) -> float:
    """Standard error of the mean of the rows, nan with fewer than two."""
    if weights_B is not None and values_B.size > 1:
        return math.sqrt(variance_of_mean(values_B, weights_B))
    return float(values_B.std(ddof=1)) / math.sqrt(values_B.size) if values_B.size > 1 else float("nan")
