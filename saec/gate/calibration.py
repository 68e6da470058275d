"""Measures calibration: click rate against mean score, bin by bin.

Decisions: bins are deciles of the score rather than equal intervals of [0, 1], because a click model's scores cluster
near its click rate and most equal intervals would be empty. Equal scores share a bin, so few distinct scores give fewer
bins. The curve equals scikit-learn's to the last bit (a test compares). It is computed here because scikit-learn's
function gives no row counts, which the error needs, supports no weights, and takes a third of the start-up time of a
process to import.

Shapes: B rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from saec.gate.metrics import Floats, Labels, Weights, check_rows


@dataclass(frozen=True)
class Bin:
    """Rows with similar scores."""

    rows: int
    """How many."""
    mean_score: float
    """Mean score of its rows."""
    click_rate: float
    """Click rate of its rows."""


def reliability(labels_B: Labels, scores_B: Floats, bins: int = 10, weights_B: Weights = None) -> list[Bin]:
    """Mean score and click rate of each bin, lowest scores first; fewer bins than asked for where there are few rows.

    Args:
        labels_B: uint8 [B], 0 or 1.
        scores_B: float64 [B], probabilities.
        bins: how many, of about equally many rows.
        weights_B: float64 [B], how many rows of the full traffic each stands for.

    Raises:
        TrainingError: labels and scores do not match, or a label is neither 0 nor 1.

    >>> reliability(np.array([0, 1, 1, 1], np.uint8), np.array([0.25, 0.25, 0.5, 1.0]), bins=2)
    [Bin(rows=2, mean_score=0.25, click_rate=0.5), Bin(rows=2, mean_score=0.75, click_rate=1.0)]
    """
    check_rows(labels_B, scores_B)
    if not labels_B.size:
        return []
    edges = np.percentile(scores_B, np.linspace(0.0, 1.0, bins + 1) * 100)
    bin_B = np.searchsorted(edges[1:-1], scores_B)
    weight_B = np.ones(len(scores_B)) if weights_B is None else weights_B
    sums = [np.bincount(bin_B, of_B) for of_B in (weight_B, weight_B * scores_B, weight_B * labels_B)]
    used = np.unique(bin_B)
    return [
        Bin(round(rows), score / rows, clicks / rows)
        for rows, score, clicks in zip(*(each[used].tolist() for each in sums), strict=True)
    ]


def calibration_error(found: list[Bin]) -> float:
    """Expected calibration error: mean distance of score and click rate over the bins, by their rows; nan without rows.

    Naeini, Cooper, Hauskrecht: Obtaining Well Calibrated Probabilities Using Bayesian Binning, AAAI 2015.

    >>> calibration_error([Bin(rows=2, mean_score=0.25, click_rate=0.5), Bin(rows=2, mean_score=0.75, click_rate=1.0)])
    0.25
    """
    rows = sum(item.rows for item in found)
    return sum(item.rows * abs(item.mean_score - item.click_rate) for item in found) / rows if rows else float("nan")
