"""Computes DeLong's variance and covariance of AUCs, in O(B log B).

The AUC is the mean of the positives' placements (the share of negatives that a positive is scored above, ties half),
and of the negatives' placements (the share of positives scored above a negative). DeLong et al. 1988 take the variance
of the AUC from the variances of both; Sun & Xu 2014 get the placements from midranks instead of B^2 comparisons.
Decisions: a binary search in the sorted other class gives the same placements as midranks do, in exact integers; the
difference of two AUCs takes the variance of each row's difference of placements rather than a + b - 2ab, so that it
cannot come out negative and is exactly 0 for identical scores.

Shapes: B rows, P positive rows (label 1), N negative rows (label 0).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from saec.gate.metrics import Floats, Labels, Weights, split, twice_below


@dataclass(frozen=True, slots=True, eq=False)
class Placements:
    """One model's AUC on the gate rows, and the two sets of placements it is the mean of."""

    auc: float
    """As `saec.gate.metrics.auc`, exact; nan for one class or a score that is not finite."""
    positive_P: Floats
    """For each positive row, the share of negatives scored below it."""
    negative_N: Floats
    """For each negative row, the share of positives scored above it."""
    weights_P: Weights = None
    """How many rows each positive row stands for."""
    weights_N: Weights = None
    """The same of the negative rows; None where each stands for itself."""


def placements(labels_B: Labels, scores_B: Floats, weights_B: Weights = None) -> Placements:
    """The placements of every row under one model.

    Args:
        labels_B: uint8 [B], 0 or 1.
        scores_B: float64 [B], higher for likelier clicks.
        weights_B: float64 [B], how many rows each stands for.

    Returns:
        The AUC and the placements; all nan for one class or a score that is not finite.

    Raises:
        TrainingError: labels and scores do not match, or a label is neither 0 nor 1.

    >>> import numpy as np
    >>> placements(np.array([0, 1, 0, 1], np.uint8), np.array([0.1, 0.4, 0.4, 0.9])).positive_P
    array([0.75, 1.  ])
    """
    positives_P, negatives_N = split(labels_B, scores_B)
    count_P, count_N = positives_P.size, negatives_N.size
    if count_P == 0 or count_N == 0 or not np.isfinite(scores_B).all():
        return Placements(float("nan"), np.full(count_P, np.nan), np.full(count_N, np.nan))
    if weights_B is not None:
        return _weighted(positives_P, negatives_N, weights_B[labels_B == 1], weights_B[labels_B != 1])
    wins_P = twice_below(np.sort(negatives_N), positives_P)
    losses_N = twice_below(np.sort(positives_P), negatives_N)
    return Placements(
        int(wins_P.sum()) / (2 * count_P * count_N), wins_P / (2 * count_N), 1.0 - losses_N / (2 * count_P)
    )


def _weighted(positives_P: Floats, negatives_N: Floats, weights_P: Floats, weights_N: Floats) -> Placements:
    """Placements among rows that stand for several."""
    positive_P = _share_below(negatives_N, weights_N, positives_P)
    negative_N = 1.0 - _share_below(positives_P, weights_P, negatives_N)
    return Placements(float(np.average(positive_P, weights=weights_P)), positive_P, negative_N, weights_P, weights_N)


def _share_below(scores_N: Floats, weights_N: Floats, scores_P: Floats) -> Floats:
    """For each of some scores the weight of the others below it, ties half, as a share."""
    order = np.argsort(scores_N, kind="stable")
    sums = np.concatenate([[0.0], np.cumsum(weights_N[order])])
    below, not_above = (np.searchsorted(scores_N[order], scores_P, side) for side in ("left", "right"))
    shares_P: Floats = (sums[below] + sums[not_above]) / (2.0 * sums[-1])
    return shares_P


def covariance(first: Placements, second: Placements) -> float:
    """DeLong's covariance of the AUCs of two models on the same rows; of a model with itself, its variance.

    Returns:
        The covariance, or nan with fewer than two rows of either class.
    """
    positives, negatives = first.positive_P.size, first.negative_N.size
    if min(positives, negatives) < 2:
        return float("nan")
    if first.weights_P is not None and first.weights_N is not None:
        return _of_mean(first.positive_P, second.positive_P, first.weights_P) + _of_mean(
            first.negative_N, second.negative_N, first.weights_N
        )
    return (
        float(np.cov(first.positive_P, second.positive_P)[0, 1]) / positives
        + float(np.cov(first.negative_N, second.negative_N)[0, 1]) / negatives
    )


def variance_of_mean(values: Floats, weights: Floats) -> float:
    """Variance of the mean of rows that stand for several each."""
    return _of_mean(values, values, weights)


def _of_mean(first: Floats, second: Floats, weights: Floats) -> float:
    """Covariance of two weighted means over the same rows."""
    gaps = (first - np.average(first, weights=weights)) * (second - np.average(second, weights=weights))
    return float((weights**2 * gaps).sum() / weights.sum() ** 2 * len(weights) / (len(weights) - 1))


def auc_difference(first: Placements, second: Placements) -> tuple[float, float]:
    """AUC of the first model minus AUC of the second on the same rows, and its standard error.

    Returns:
        Both nan where an AUC is; the standard error also with fewer than two rows of either class.
    """
    gap = Placements(
        first.auc - second.auc,
        first.positive_P - second.positive_P,
        first.negative_N - second.negative_N,
        first.weights_P,
        first.weights_N,
    )
    return gap.auc, float(np.sqrt(covariance(gap, gap)))
