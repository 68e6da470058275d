"""Whether probabilities mean what they say: clicks against scores, bin by bin.

Decisions: bins are the deciles of the score, not equally wide stretches of [0, 1], as the scores of a click model crowd
near its click rate and most wide bins would be empty. Equal scores share a bin, so that with few distinct ones there
are fewer bins. The curve is scikit-learn's to the last bit (a test compares), worked out here as it does not say how
many rows a bin has, which the error needs, does not know weights, and to import it took every process that does an hour
a third of the time of its start.

Shapes: B rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from saec.gate.metrics import Floats, Labels, Weights, check_rows


@dataclass(frozen=True)
class Bin:
    """Rows of like scores."""

    rows: int
    """How many."""
    mean_score: float
    """What was promised."""
    click_rate: float
    """What came of it."""


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
